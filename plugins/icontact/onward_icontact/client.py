"""iContact's REST API 2.2, one method per call.

Every fact here has its source in the plugin's README, section "What we know".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast
from urllib.parse import quote

from onward import (
    Answer,
    Api,
    CredentialsRefused,
    Lost,
    Membership,
    Rejected,
    RemoteContact,
    Temporary,
)
from onward_icontact.rows import (
    SMALLEST_PAGE,
    Page,
    Row,
    Standing,
    count_of,
    may_be_cut,
    membership,
    record,
    standing,
    text_of,
)

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


def _number(id_: str) -> int | str:
    """Return an id as the recorded subscriptions were sent: as a number."""
    number = count_of(id_)
    return id_ if number is None else number


def _body(answer: Answer) -> Row:
    body = answer.json()
    if isinstance(body, dict):
        return cast("Row", body)
    if body == []:
        return {}
    sort = Temporary if answer.method == "GET" else Lost
    raise sort(
        "iContact answered something that is no answer to this call",
        status=answer.status,
        code="not_understood",
    )


def _words(body: Row) -> str:
    """Return what stands beside the data (warnings and the like) as one line."""
    said: list[str] = []
    for name in ("errors", "warnings", "notices"):
        entries: object = body.get(name) or []
        several = (
            cast("list[object]", entries) if isinstance(entries, list) else [entries]
        )
        said += map(str, several)
    return " ".join("; ".join(said).split())[:300]


def _entries(found: object) -> list[object]:
    """Return what a collection holds; an array with gaps comes as an object."""
    if isinstance(found, dict):
        return list(cast("dict[str, object]", found).values())
    return cast("list[object]", found) if isinstance(found, list) else []


def _rows(body: Row, key: str) -> list[Row]:
    """Return the records of a collection; `null` and bare addresses are none."""
    rows = _entries(body.get(key))
    return [cast("Row", row) for row in rows if isinstance(row, dict) and row]


def _is_collection(found: object) -> bool:
    """Tell whether all there is are records; `null` and blank ones are none."""
    if not (found is None or isinstance(found, (list, dict))):
        return False
    entries = _entries(cast("object", found))
    return all(not one or isinstance(one, dict) for one in entries)


def _not_shown(key: str) -> Temporary:
    return Temporary(
        f"iContact answered without the {key} that was asked for",
        code="not_understood",
    )


def _is_of(row: Row, list_id: str, contact_id: str) -> bool:
    """Tell whether a subscription row is the one of a contact on a list."""
    ids = {"listId": list_id, "contactId": contact_id}
    return all(text_of(row.get(name)) == id_ for name, id_ in ids.items())


def _refused(why: str, status: int) -> CredentialsRefused:
    refused = CredentialsRefused(why)
    refused.status = status
    return refused


class Client:
    """Calls of one account and folder.

    Args:
        account_id, folder_id: may be "" for the calls that find them out.
    """

    def __init__(self, api: Api, account_id: str, folder_id: str) -> None:
        self.api = api
        self._account = f"a/{quote(account_id, safe='')}"
        self._folder = f"{self._account}/c/{quote(folder_id, safe='')}"

    def _call(self, method: str, path: str, json: object = None) -> Row:
        """Send one request and return the JSON object it is answered with.

        Raises:
            Gone: 404, or the 500 `No result for (…)` that a deleted list answers.
            CredentialsRefused: 403, or the account or folder is missing.
            Temporary, Lost: also for a web page in place of an answer.
        """
        answer = self.api.request(method, path, json=json, ok={403, 404, 500})
        # A page of HTML is some proxy's: whatever its status, it says nothing.
        body = _body(answer)
        if 200 <= answer.status < 300:
            return body
        words = _words(body)
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
        body = self._call("GET", f"{path}?{written}")
        if words := _words(body):
            raise Temporary(
                f"iContact did not answer what was asked: {words}", code=IGNORED_FILTER
            )
        if key not in body or not _is_collection(body[key]):
            # Nobody there would be a list of nobody.
            raise Temporary(
                f"iContact answered without the {key} that were asked for",
                code="not_understood",
            )
        return Page(_rows(body, key), count_of(text_of(body.get("total"))))

    def _sure_page(
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
        elif path.startswith(f"{self._folder}/"):
            terms = {"status": "total", "email": quote(NOBODY, safe="")}
            nobody = self._page(f"{self._folder}/contacts", "contacts", terms, limit, 0)
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
            Temporary: as `_sure_page`, or the pages shifted too far to have seen every
                row. Not one of the rows that are read twice coming is as much,
                whatever the total: an empty page in the middle is no end.
        """
        offset = end = longest = 0
        before: list[Row] = []
        while True:
            try:
                page = self._sure_page(path, key, query, limit, offset)
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

    def _all(self, path: str, key: str) -> Iterator[Row]:
        for number, page in enumerate(self.pages(path, key, {})):
            if number == MOST_PAGES:
                raise Temporary(f"iContact goes on listing {key} without an end")
            yield from page.rows

    def accounts(self) -> Iterator[Row]:
        """GET every account these credentials can see."""
        return self._all("a/", "accounts")

    def folders(self) -> Iterator[Row]:
        """GET every client folder of the account."""
        return self._all(f"{self._account}/c/", "clientfolders")

    def lists(self) -> Iterator[Row]:
        """GET every list."""
        return self._all(f"{self._folder}/lists", "lists")

    def custom_fields(self) -> Iterator[Row]:
        """GET every custom field."""
        return self._all(f"{self._folder}/customfields", "customfields")

    def contacts(self, query: Mapping[str, str], limit: int = PAGE) -> Iterator[Page]:
        """GET contacts of the whole folder, on lists or not."""
        terms = {"status": "total", **query}
        return self.pages(f"{self._folder}/contacts", "contacts", terms, limit)

    def contacts_page(self, limit: int, offset: int) -> Page:
        """GET one page of everybody in the folder, by rising id."""
        terms = {"status": "total", "orderby": "contactId"}
        path = f"{self._folder}/contacts"
        return self._sure_page(path, "contacts", terms, limit, offset)

    def subscriptions(self, list_id: str, status: str) -> Iterator[Page]:
        """GET the memberships of a list that have this status.

        Rows of other lists, as a filter that is ignored shows them, are left out.
        """
        for page in self._subscriptions({"listId": list_id, "status": status}):
            rows = [r for r in page.rows if text_of(r.get("listId")) == list_id]
            yield Page(rows, page.total)

    def subscriptions_of(self, contact_id: str, status: str) -> Iterator[Page]:
        """GET the memberships of a contact that have this status."""
        return self._subscriptions({"contactId": contact_id, "status": status})

    def _subscriptions(self, terms: Mapping[str, str]) -> Iterator[Page]:
        written = {name: quote(text, safe="") for name, text in terms.items()}
        return self.pages(f"{self._folder}/subscriptions", "subscriptions", written)

    def subscriptions_page(
        self, list_id: str, status: str, limit: int, offset: int
    ) -> Page:
        """GET one page of the memberships of a list that have this status.

        Raises:
            Gone: perhaps the list was deleted.
        """
        terms = {"listId": quote(list_id, safe=""), "status": status}
        path = f"{self._folder}/subscriptions"
        return self._sure_page(path, "subscriptions", terms, limit, offset)

    def actions(self, contact_id: str) -> Iterator[Page]:
        """GET what happened to a contact, newest first as far as is known.

        Raises:
            Gone: there is no such contact.
        """
        path = f"{self._folder}/contacts/{quote(contact_id, safe='')}/actions"
        return self.pages(path, "actions", {})

    def webhooks(self) -> Iterator[Row]:
        """GET every registration for events."""
        return self._all(f"{self._folder}/webhooks", "webhooks")

    # -- one thing

    def _get(self, collection: str, id_: str, key: str) -> Row | None:
        path = f"{self._folder}/{collection}/{quote(id_, safe='')}"
        try:
            row = self._call("GET", path).get(key)
        except Gone:
            return None
        if not isinstance(row, dict):
            raise _not_shown(key)
        return cast("Row", row)

    def list_exists(self, list_id: str) -> bool:
        """Tell whether a list is still there."""
        return self._get("lists", list_id, "list") is not None

    def contact(self, contact_id: str) -> RemoteContact | None:
        """GET one contact with all its fields; None when it does not exist.

        Raises:
            Temporary: it answered with a contact without an id.
        """
        row = self._get("contacts", contact_id, "contact")
        if row is not None and not text_of(row.get("contactId")):
            raise _not_shown("contact")
        return None if row is None else record(row)

    def membership(self, list_id: str, contact_id: str) -> Membership:
        """GET the membership of one contact on one list."""
        row = self.subscription(list_id, contact_id)
        return "none" if row is None else membership(row)

    def standing(
        self, list_id: str, contact_id: str, *, once: bool = False
    ) -> Standing:
        """GET the membership of one contact on one list, whatever its status.

        Args:
            once: one answer that there is none is enough.
        """
        row = self.subscription(list_id, contact_id, once=once)
        return "none" if row is None else standing(row)

    def subscription(
        self, list_id: str, contact_id: str, *, once: bool = False
    ) -> Row | None:
        """GET the row of one contact on one list; None when there is none.

        Asked twice: one stray 404 takes nobody off a list, and puts nobody back on
        it; nor does one row without a status.

        Raises:
            Temporary: it answered with another row, or with none.
        """
        row = self._subscription(list_id, contact_id)
        if not (row and text_of(row.get("status"))) and not (once and row is None):
            row = self._subscription(list_id, contact_id)
        if row is not None and not _is_of(row, list_id, contact_id):
            raise _not_shown("subscription")
        return row

    def _subscription(self, list_id: str, contact_id: str) -> Row | None:
        return self._get("subscriptions", f"{list_id}_{contact_id}", "subscription")

    # -- writing

    def create(
        self, contacts: Sequence[Mapping[str, str]]
    ) -> tuple[list[RemoteContact], str]:
        """POST new contacts; return those that came back, and the warnings.

        Only for addresses the folder does not have: fields left out of an
        existing contact would be blanked.
        """
        body = self._call("POST", f"{self._folder}/contacts", list(contacts))
        return [record(row) for row in _rows(body, "contacts")], _words(body)

    def update(
        self, contact_id: str, fields: Mapping[str, str]
    ) -> tuple[RemoteContact, str]:
        """POST changed fields of one contact; the others stay as they are.

        Raises:
            Gone: there is no such contact.
            Rejected: it answered without the contact, and says why.
            Lost: it answered without the contact and a word.
        """
        path = f"{self._folder}/contacts/{quote(contact_id, safe='')}"
        body = self._call("POST", path, dict(fields))
        row, words = body.get("contact"), _words(body)
        if not isinstance(row, dict) or not row:
            if words:
                raise Rejected(words)
            why = "iContact did not show the contact it changed"
            raise Lost(why, code="not_shown")
        return record(cast("Row", row)), words

    def subscribe(
        self, list_id: str, contact_ids: Iterable[str], status: str
    ) -> tuple[dict[str, Standing], str]:
        """POST memberships; return contact id → what came back, and the words.

        An empty answer is no success: it may be a duplicate or a refusal.
        """
        wished = [
            {"contactId": _number(id_), "listId": _number(list_id), "status": status}
            for id_ in contact_ids
        ]
        body = self._call("POST", f"{self._folder}/subscriptions", wished)
        found: dict[str, Standing] = {
            text_of(row.get("contactId")): standing(row)
            for row in _rows(body, "subscriptions")
            if text_of(row.get("listId")) == list_id
        }
        return found, _words(body)

    def leave(self, list_id: str, contact_id: str) -> None:
        """POST that a contact left a list; what came of it must be read.

        Raises:
            Gone: it never was on that list.
        """
        id_ = quote(f"{list_id}_{contact_id}", safe="")
        path = f"{self._folder}/subscriptions/{id_}"
        self._call("POST", path, {"status": "unsubscribed"})

    def delete(self, contact_id: str) -> None:
        """DELETE one contact; what came of it must be read.

        Raises:
            Gone: there is no such contact.
        """
        self._call("DELETE", f"{self._folder}/contacts/{quote(contact_id, safe='')}")

    def add_webhook(self, event: str, url: str) -> str:
        """POST a registration for one event; return what iContact says besides."""
        hook = {"eventId": event, "url": url}
        return _words(self._call("POST", f"{self._folder}/webhooks", [hook]))

    def remove_webhook(self, webhook_id: str) -> None:
        """DELETE a registration.

        Raises:
            Gone: it is not there any more.
        """
        self._call("DELETE", f"{self._folder}/webhooks/{quote(webhook_id, safe='')}")
