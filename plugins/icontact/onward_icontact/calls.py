"""Calls to iContact's REST API 2.2: one, a page, all pages of a collection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from onward import Api, CredentialsRefused, Rejected, Temporary
from onward_icontact.answers import body_of, is_collection, rows_of, words_of
from onward_icontact.rows import SMALLEST_PAGE, Page, Row, count_of, may_be_cut, text_of

PAGE = 500
# Of accounts, folders, lists, fields; 20 rows is the smallest page that is known.
MOST_PAGES = 500
# Rows read twice at the seam of two pages: some may vanish in between.
OVERLAP = 10
# Always there while the account and the folder are. Subscriptions are asked for by
# list, and that may be what is missing.
COLLECTIONS = ("a/", "c/", "/contacts", "/lists", "/customfields")
IGNORED_FILTER = "ignored_filter"
# The code of an answer that shows nobody and counts somebody.
CONTRADICTION = "contradiction"
NOBODY = "nobody@onward.invalid"


class Gone(Rejected):
    """What the request is about does not exist."""


def _refused(why: str, status: int) -> CredentialsRefused:
    refused = CredentialsRefused(why)
    refused.status = status
    return refused


class Calls:
    """Calls of one account and folder.

    Args:
        account_id, folder_id: may be "" for the calls that find them out.
    """

    def __init__(self, api: Api, account_id: str, folder_id: str) -> None:
        self.api = api
        self.account = f"a/{quote(account_id, safe='')}"
        self.folder = f"{self.account}/c/{quote(folder_id, safe='')}"

    def call(self, method: str, path: str, json: object = None) -> Row:
        """Send one request and return the JSON object it is answered with.

        Raises:
            Gone: 404, or the 500 `No result for (…)` that a deleted list answers.
            CredentialsRefused: 403, or the account or folder is missing.
            Temporary, Lost: also for a web page in place of an answer.
        """
        answer = self.api.request(method, path, json=json, ok={403, 404, 500})
        # A page of HTML is some proxy's: whatever its status, it says nothing.
        body = body_of(answer)
        if 200 <= answer.status < 300:
            return body
        words = words_of(body)
        why = f"({answer.status}): {words or 'no reason given'}"
        if answer.status == 403:
            raise _refused(f"iContact does not allow this {why}", 403)
        if answer.status == 500 and "no result for" not in words.lower():
            raise Temporary(f"iContact failed {why}", status=500)
        # Without the account or folder, nothing is said about a contact or list.
        whole = path.partition("?")[0].endswith(COLLECTIONS)
        if whole or "recognise" in words.lower():
            raise _refused(f"iContact does not have this account or folder {why}", 404)
        raise Gone(f"iContact does not have this {why}", status=404)

    # -- collections

    def _page(
        self, path: str, key: str, query: Mapping[str, str], limit: int, offset: int
    ) -> Page:
        """GET one page.

        Raises:
            Temporary: it came without the collection, with something else in its
                place or with a warning, so it is not what was asked for.
        """
        terms = {**query, "limit": str(limit), "offset": str(offset)}
        written = "&".join(f"{name}={value}" for name, value in terms.items())
        body = self.call("GET", f"{path}?{written}")
        if words := words_of(body):
            raise Temporary(
                f"iContact did not answer what was asked: {words}", code=IGNORED_FILTER
            )
        if key not in body or not is_collection(body[key]):
            # Nobody there would be a list of nobody.
            raise Temporary(
                f"iContact answered without the {key} that were asked for",
                code="not_understood",
            )
        return Page(rows_of(body, key), count_of(text_of(body.get("total"))))

    def sure_page(
        self, path: str, key: str, query: Mapping[str, str], limit: int, offset: int
    ) -> Page:
        """GET one page; a first one that shows nobody and counts somebody, twice.

        A search for one address is believed then if it counts few: of a deleted
        contact nothing is shown, and the total may count it. Anything else only where
        totals count a few of nobody too.

        Raises:
            Temporary: as `_page`, or it contradicts itself.
        """
        page = self._page(path, key, query, limit, offset)
        if offset or page.rows or not page.total:
            return page
        page = self._page(path, key, query, limit, offset)
        if page.rows or not page.total:
            return page
        if "email" in query:
            if page.total < SMALLEST_PAGE:
                return page
        elif path.startswith(f"{self.folder}/"):
            terms = {"status": "total", "email": quote(NOBODY, safe="")}
            nobody = self._page(f"{self.folder}/contacts", "contacts", terms, limit, 0)
            if not nobody.rows and 0 < (nobody.total or 0) < SMALLEST_PAGE:
                return page
        raise Temporary(
            f"iContact counts {page.total} {key} and shows none of them",
            code=CONTRADICTION,
        )

    def pages(
        self, path: str, key: str, query: Mapping[str, str], limit: int = PAGE
    ) -> Iterator[Page]:
        """GET all pages; a page that fails is asked for again, smaller.

        Args:
            query: values are written as given, so escaped already: a comma
                separates values and stays itself, one inside a value does not.

        Raises:
            Temporary: as `sure_page`, or the pages shifted too far to have seen every
                row. Not one of the rows that are read twice coming is as much,
                whatever the total: an empty page in the middle is no end.
        """
        offset = end = longest = 0
        before: list[Row] = []
        while True:
            try:
                page = self.sure_page(path, key, query, limit, offset)
            except (Rejected, Temporary) as error:
                if error.status not in (400, 500) or limit <= SMALLEST_PAGE:
                    raise
                limit = max(limit // 5, SMALLEST_PAGE)
                continue
            seam = before[offset - end :] if offset < end else []
            if seam and not any(row in page.rows for row in seam):
                raise Temporary("iContact's pages shifted while they were read")
            yield page
            # Where one comes twice on a page, the next page begins that much earlier.
            rows = list({repr(row): row for row in page.rows}.values())
            reached = offset + len(rows)
            if reached <= end or rows == before:
                return
            # A total that is too low would make people who exist look new.
            is_last = len(rows) < longest or not (longest or may_be_cut(len(rows)))
            if is_last and reached >= (page.total or 1e9):
                return
            end, before = reached, rows
            longest = max(longest, len(rows))
            # At least one row comes again; all but one at most, or it would not move.
            overlap = min(OVERLAP, max(len(before) // 10, 1), max(len(before) - 1, 0))
            offset = reached - overlap

    def rows(self, path: str, key: str) -> Iterator[Row]:
        """GET all rows of a collection that is never long.

        Raises:
            Temporary: as `pages`, or it does not end.
        """
        for number, page in enumerate(self.pages(path, key, {})):
            if number == MOST_PAGES:
                raise Temporary(f"iContact goes on listing {key} without an end")
            yield from page.rows
