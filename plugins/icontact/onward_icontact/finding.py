"""Who exists already: the cheapest way that is seen not to lie.

Getting this wrong blanks real people's data: a POST of somebody who exists
empties every field that is not sent. So several addresses are asked for in one
call only together with some whose answer is known, and whoever is said to exist
was shown by iContact in this very call, never by an older reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NotRequired, TypedDict
from urllib.parse import quote

from onward import CredentialsRefused, RemoteContact, ServiceError, Temporary
from onward_icontact.calls import CONTRADICTION, IGNORED_FILTER, NOBODY, PAGE
from onward_icontact.client import Client
from onward_icontact.rows import (
    SMALLEST_PAGE,
    Page,
    count_of,
    is_usual_cap,
    may_be_cut,
    record,
)

URL_BYTES = 4_000
URL_REST = 300  # for the path and the other terms
STUMBLES = frozenset({400, 403, 404, 414, 500, 501})
# How long ids above the highest we saw are those of new contacts.
NEWEST_FOR = timedelta(minutes=1)
PROVEN_FOR = timedelta(days=1)
# How long "nobody has this address" may follow from a reading of the folder.
INDEXED_FOR = timedelta(minutes=10)
# Characters that are more than themselves in a search, or may be.
ODD = frozenset("*,'\"")
NEWEST_FIRST = {"orderby": "contactId:desc"}
EVERYBODY = 10**18  # a highest id above all others: nobody counts as new

Found = dict[str, RemoteContact]


class Untrusted(Exception):
    """The answer is not, or not all of, what was asked for."""


class Folder(TypedDict):
    """What one look at the newest contacts tells about the folder.

    `guards` are two addresses that exist; none when asking for several
    addresses at once is not honoured. `page` is how many rows a page has,
    `pages` how many of those there are: 0 = look again. `doubted` tells that asking
    for several addresses has not worked since the look before.
    """

    guards: list[str]
    page: int
    pages: int
    doubted: NotRequired[bool]


def find_all(client: Client, emails: Sequence[str]) -> Found:
    """Return lower-cased address → contact, for those the folder has.

    Raises:
        Temporary: no way of asking gave an answer that can be trusted.
    """
    plain = [email for email in emails if not ODD & set(email)]
    if len(plain) < 2:
        return _singly(client, emails)
    odd = [email for email in emails if ODD & set(email)]
    return _together(client, plain) | _singly(client, odd)


def newest_id(client: Client) -> int:
    """Return the highest contact id of the folder: who is created now gets a higher.

    In a small folder the highest of all may well be a deleted one, so there nobody
    counts as new.
    """
    with client.api.memory.lock:
        number = client.api.memory.get("newest")
        if number is None:
            page = _newest_page(client)
            if page is None:
                return EVERYBODY
            _look(client, page)
            number = client.api.memory.get("newest")
    return int(number)


def saw_created(client: Client, contacts: Sequence[RemoteContact]) -> None:
    """Use people just made to prove the next search, where nothing else is known."""
    plain = _plain(contacts)
    with client.api.memory.lock:
        if client.api.memory.get("folder") is None and len(plain) > 1:
            folder: Folder = {"guards": plain[-2:], "page": PAGE, "pages": 1}
            client.api.memory.put("folder", folder, PROVEN_FOR)
    saw_newest(client, map(id_of, contacts))


def saw_newest(client: Client, ids: Iterable[int]) -> None:
    """Raise the highest contact id, by which revived contacts are told from new."""
    memory = client.api.memory
    with memory.lock:
        highest, before = max(ids, default=0), memory.get("newest")
        if before is not None and highest > int(before):
            memory.put("newest", highest, NEWEST_FOR)


def id_of(contact: RemoteContact) -> int:
    """Return a contact's id as a number; iContact counts upwards."""
    return count_of(contact.remote_id) or 0


# -- all at once


def _together(client: Client, emails: Sequence[str]) -> Found:
    memory = client.api.memory
    while True:
        with memory.lock:  # batches in flight at the same time look once
            folder: Folder | None = memory.get("folder")
            if folder is None or folder["pages"] == 0:
                doubted = folder is not None
                page = _newest_page(client)
                if page is None:
                    break
                folder = _look(client, page)
                if _is_all(page):
                    return _among(page, emails)
                folder["doubted"] = doubted
                memory.put("folder", folder, PROVEN_FOR)
        if not folder["guards"]:
            return _by_index(client, emails, folder)
        try:
            found = _by_commas(client, emails, folder)
        except Untrusted:
            _conclude(client, folder, works=False)
        else:
            _conclude(client, folder, works=True)
            return found
    return _singly(client, emails)


def _newest_page(client: Client) -> Page | None:
    """Return the newest contacts; None when the folder shows none and counts some.

    Each address is asked for by itself then. Where all were deleted and the total
    still counts them, nobody could ever be added otherwise.
    """
    try:
        page = next(client.contacts(NEWEST_FIRST))
        # Asked twice: one stray answer makes nobody new who is there.
        return page if page.rows else next(client.contacts(NEWEST_FIRST))
    except Temporary as error:
        if error.code != CONTRADICTION:
            raise
        return None


def _conclude(client: Client, folder: Folder, *, works: bool) -> None:
    """Keep what asking for several addresses told about a folder.

    When it does not work, perhaps the guards were deleted: once more, with others.
    Of batches in flight at the same time the first draws the conclusion.
    """
    memory = client.api.memory
    doubted = folder.get("doubted", False)
    if works and not doubted:
        return
    after: Folder = {**folder, "doubted": not works}
    if not works:
        after["guards"] = []
        after["pages"] = folder["pages"] if doubted else 0
    with memory.lock:
        if memory.get("folder") == folder:
            memory.put("folder", after, PROVEN_FOR)


def _is_all(page: Page) -> bool:
    """Tell whether a first page is the whole folder, whatever total and cap are.

    A page as long as a cap may be says nothing, whatever the total claims.
    """
    size = len(page.rows)
    if page.total is None:
        return size < SMALLEST_PAGE
    return page.total <= size and not may_be_cut(size)


def _look(client: Client, page: Page) -> Folder:
    contacts = _records(page)
    ids = [id_of(contact) for contact in contacts]
    # Of few the highest may be a deleted one, and those are not shown.
    is_small = (page.total or 0) <= len(page.rows) < PAGE
    is_telling = ids == sorted(ids, reverse=True) and not is_small
    if is_telling and ids:
        client.api.memory.put("newest", ids[0], NEWEST_FOR)
    else:
        client.api.memory.put("newest", EVERYBODY, PROVEN_FOR)
    plain = _plain(contacts)
    size = max(len(page.rows), 1)
    return {
        "guards": plain[-2:] if len(plain) > 1 else [],
        "page": size if is_usual_cap(len(page.rows)) else PAGE,
        "pages": 1 + (page.total or size) // size,
    }


def _plain(contacts: Sequence[RemoteContact]) -> list[str]:
    return [
        contact.email
        for contact in contacts
        if contact.status != "deleted" and not ODD & set(contact.email)
    ]


def _by_commas(client: Client, emails: Sequence[str], folder: Folder) -> Found:
    guards = folder["guards"]
    room = URL_BYTES - URL_REST - _bytes([*guards, NOBODY])
    found: Found = {}
    part: list[str] = []
    for email in emails:
        if part and (
            _bytes([*part, email]) > room
            or len(part) + len([*guards, NOBODY]) >= folder["page"]
        ):
            found |= _ask(client, part, guards)
            part = []
        part.append(email)
    return found | _ask(client, part, guards)


def _bytes(emails: Sequence[str]) -> int:
    return sum(len(quote(email, safe="")) + len(",") for email in emails)


def _ask(client: Client, emails: Sequence[str], guards: Sequence[str]) -> Found:
    """Search several addresses in one call that proves itself.

    The first and the last address asked for are known to exist and one in
    between is nobody's: exactly the two must come back besides.

    Raises:
        Untrusted: they did not, a row came that nobody asked for, or came twice, or a
            warning.
    """
    first, last = guards
    asked = [first, *(one for one in emails if one not in guards), NOBODY, last]
    value = ",".join(quote(email, safe="") for email in asked)
    try:
        pages = list(client.contacts({"email": value}, limit=len(asked)))
    except (CredentialsRefused, ServiceError) as error:
        # A service, or a proxy, that stumbles over a comma or a long address. If it
        # is more than that, the next call without commas says so.
        code = getattr(error, "code", "")
        if (
            code in (IGNORED_FILTER, CONTRADICTION, "not_json")
            or error.status in STUMBLES
        ):
            raise Untrusted from error
        raise
    rows = [contact for page in pages for contact in _records(page)]
    found = _by_email(rows)
    # One that comes twice takes the place of another. Rows on a second page mean a
    # cap that was not there before: they can shift.
    if (
        not {first, last} <= found.keys() <= set(asked) - {NOBODY}
        or len({one.remote_id for one in rows}) < len(rows)
        or len(found) < len(rows) >= len(asked)
        or sum(1 for page in pages if page.rows) > 1
        or (pages[0].total or 0) > len(asked)
    ):
        raise Untrusted
    return {email: found[email] for email in emails if email in found}


# -- one by one


def _singly(client: Client, emails: Sequence[str]) -> Found:
    found: Found = {}
    for answer in client.api.each(lambda email: _find_one(client, email), emails):
        found |= answer
    return found


def _find_one(client: Client, email: str) -> Found:
    """Ask for one address; a `*` in it matches more, so compare.

    Raises:
        Temporary: the folder cannot be searched by address.
    """
    found: Found = {}
    for page in client.contacts({"email": quote(email, safe="")}):
        for contact in _records(page):
            if contact.email == email:
                found[email] = contact
                if contact.status != "deleted":
                    return found
            elif "*" not in email:
                raise Temporary(
                    "iContact answered a search for one address with another",
                    code=IGNORED_FILTER,
                )
    return found


# -- by reading the folder


def _by_index(client: Client, emails: Sequence[str], folder: Folder) -> Found:
    """Find them without commas, for as few calls as that allows.

    Asking singly costs a call each, reading the folder a call per page: pay
    singly until that would have paid for the folder.
    """
    memory, pages = client.api.memory, folder["pages"]
    with memory.lock:
        if not memory.get("indexed"):
            spent = int(memory.get("asked_singly") or 0) + len(emails)
            if spent > pages:
                return _read_folder(client, emails)
            memory.put("asked_singly", spent, PROVEN_FOR)
            seen, left = {}, list(emails)
        elif len(client.api.known_emails(emails)) > pages:
            return _read_folder(client, emails)
        else:
            mark = int(memory.get("indexed_to") or 0)
            try:
                newest = _read_newest(client, emails, mark)
            except Temporary as error:
                if error.code != CONTRADICTION:
                    raise
                newest = None
            if newest is None:
                return _read_folder(client, emails)
            seen = newest
            # Who is in the index may be deleted or changed by now.
            known = client.api.known_emails([e for e in emails if e not in seen])
            left = list(known)
            if len(left) > pages:
                return _read_folder(client, emails)
    return seen | _singly(client, left)


def _read_folder(client: Client, emails: Sequence[str]) -> Found:
    found: Found = {}
    highest = 0
    try:
        for page in client.contacts({"orderby": "contactId"}):
            contacts = _records(page)
            client.api.learn(contacts)
            found = _by_email([*found.values(), *_among(page, emails).values()])
            highest = max([highest, *map(id_of, contacts)])
    except Temporary as error:
        if error.code != CONTRADICTION:
            raise
        highest = 0
    if not highest:  # of a folder that had somebody before
        return _singly(client, emails)
    saw_newest(client, [highest])
    client.api.memory.put("indexed", True, INDEXED_FOR)
    client.api.memory.put("indexed_to", highest)
    client.api.memory.put("asked_singly", 0, PROVEN_FOR)
    return found


def _read_newest(client: Client, emails: Sequence[str], mark: int) -> Found | None:
    """Read what was made since the folder was read; None = it cannot be sorted."""
    found: Found = {}
    ids: list[int] = []
    for page in client.contacts(NEWEST_FIRST):
        contacts = _records(page)
        ids = list(dict.fromkeys([*ids, *map(id_of, contacts)]))  # pages overlap
        if ids != sorted(ids, reverse=True):
            return None
        client.api.learn(contacts)
        found = _by_email([*found.values(), *_among(page, emails).values()])
        if ids and ids[-1] <= mark:
            break
    saw_newest(client, ids)
    client.api.memory.put("indexed_to", max(ids, default=0))
    return found


def _records(page: Page) -> list[RemoteContact]:
    return [record(row) for row in page.rows]


def _among(page: Page, emails: Sequence[str]) -> Found:
    wanted = set(emails)
    return _by_email(one for one in _records(page) if one.email in wanted)


def _by_email(contacts: Iterable[RemoteContact]) -> Found:
    """Return address → contact; of a deleted and a living one the living."""
    found: Found = {}
    for contact in contacts:
        if contact.status != "deleted" or contact.email not in found:
            found[contact.email] = contact
    return found
