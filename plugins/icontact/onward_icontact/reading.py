"""What iContact has of some people now: rows, members, memberships."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from onward import (
    Item,
    Membership,
    Rejected,
    RemoteContact,
    RemoteSegment,
    SegmentGone,
    Temporary,
)
from onward_icontact.calls import CONTRADICTION
from onward_icontact.client import Client
from onward_icontact.finding import find_all
from onward_icontact.rows import Row, Standing, membership, text_of

# How long a search that shows nobody may be believed after one that showed somebody.
# A pull a day renews it.
SHOWN_FOR = timedelta(days=2)
SHOWN = "showed_opt_outs"


def saw_opt_outs(client: Client) -> None:
    """Keep that a search for a list's opt-outs shows them."""
    with client.api.memory.lock:
        if not client.api.memory.get(SHOWN):
            client.api.memory.put(SHOWN, True, SHOWN_FOR)


def shows_opt_outs(client: Client) -> bool:
    """Tell whether a search for opt-outs was seen to show any, on whatever list."""
    return bool(client.api.memory.get(SHOWN))


def require_list(client: Client, segment: RemoteSegment) -> None:
    """Raise SegmentGone when the list is not there any more.

    Raises:
        CredentialsRefused: the whole folder is not.
    """
    if not client.list_exists(segment.id):
        next(client.lists(), None)
        raise SegmentGone(
            f'the list "{segment.name}" ({segment.id}) was deleted in iContact; '
            "choose another, or restore it there and resume"
        )


@contextmanager
def blaming_list(
    client: Client, segment: RemoteSegment | None
) -> Generator[None, None, None]:
    """Turn any refusal that follows from a deleted list into SegmentGone.

    A deleted list answers 500 where other missing things answer 404, and what
    other calls answer that name it is not known.
    """
    try:
        yield
    except (Rejected, Temporary) as error:
        if segment is not None and error.status in (400, 404, 500):
            require_list(client, segment)
        raise


def read_contacts(
    client: Client, batch: Sequence[Item], segment: RemoteSegment | None
) -> Iterator[RemoteContact]:
    """Yield the contacts of a batch as they are there, if they are there.

    Raises:
        SegmentGone: the list was deleted.
    """
    with blaming_list(client, segment):
        yield from _read(client, batch, segment)


def _read(
    client: Client, batch: Sequence[Item], segment: RemoteSegment | None
) -> Iterator[RemoteContact]:
    """Read rows, then singly who is not told whole: search rows lack much.

    `business` and custom fields are in members only.
    """
    rows = find_all(client, [item.email for item in batch])
    members = set[str]()
    if segment is not None:
        ids = [row.remote_id for row in rows.values()]
        members = _members(client, segment.id, ids)

    def read(item: Item) -> RemoteContact | None:
        row = rows.get(item.email)
        if row is None:
            # Absence in a search is not believed about somebody we know.
            row = client.contact(item.remote_id) if item.remote_id else None
        elif not all(name in row.fields for name in item.fields):
            row = client.contact(row.remote_id)
        if row is None or segment is None:
            return row
        on: Membership = "normal"
        if row.remote_id not in members:
            on = client.membership(segment.id, row.remote_id)
        return replace(row, segments={segment.id: on})

    # Each as soon as it is known: calls may run out before the last.
    yield from (one for one in client.api.each(read, batch) if one is not None)


def read_memberships(
    client: Client, list_id: str, contact_ids: Sequence[str], *, once: bool = False
) -> dict[str, Standing]:
    """Return contact id → membership of the list, in as few calls as possible.

    Args:
        once: one answer that there is none is enough, as something else says so too.
    """
    members = _members(client, list_id, contact_ids)
    found: dict[str, Standing] = dict.fromkeys(members, "normal")

    def ask(contact_id: str) -> tuple[str, Standing]:
        return contact_id, client.standing(list_id, contact_id, once=once)

    left = [id_ for id_ in contact_ids if id_ not in members]
    return found | dict(client.api.each(ask, left))


def _members(client: Client, list_id: str, contact_ids: Sequence[str]) -> set[str]:
    """Return who is found among the members, where that may cost less than asking.

    Reading the list's members costs a call per page, asking singly one per
    contact. Whoever is not among the members is asked about singly.
    """
    if len(contact_ids) <= 2:
        return set()
    return find_members(client, list_id, contact_ids, len(contact_ids))[0]


def find_members(
    client: Client, list_id: str, contact_ids: Sequence[str], most: int
) -> tuple[set[str], bool]:
    """Return who of some contacts is a member of a list, and whether all were seen.

    Of a list that counts members and shows none, nobody was seen to be one.

    Args:
        most: pages it may cost; of a longer list only the first is read.
    """
    wanted = set(contact_ids)
    found: set[str] = set()
    try:
        for page in client.subscriptions(list_id, "normal"):
            ids = {text_of(r.get("contactId")) for r in page.rows if is_member(r)}
            found |= wanted & ids
            if found == wanted:
                break
            if page.rows and (page.total or 0) > most * len(page.rows):
                return found, False
    except Temporary as error:
        if error.code != CONTRADICTION:
            raise
    return found, True


def is_member(row: Row) -> bool:
    """Tell whether a subscription row is a confirmed membership."""
    return membership(row) == "normal"
