"""Who may be put on the list, and putting them there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from onward import (
    Item,
    Membership,
    Outcome,
    Rejected,
    RemoteContact,
    RemoteSegment,
    Temporary,
)
from onward_icontact.calls import CONTRADICTION
from onward_icontact.client import Client
from onward_icontact.finding import EVERYBODY, newest_id
from onward_icontact.reading import (
    find_members,
    read_memberships,
    require_list,
    saw_opt_outs,
    shows_opt_outs,
)
from onward_icontact.rows import Odd, Row, Standing, standing, text_of

OPT_OUTS_FOR = timedelta(minutes=10)
# Older than this they are read again before somebody is subscribed, unless there
# are so many that this would cost too much.
FRESH = timedelta(seconds=10)
MANY_OPT_OUTS = 1_000
FEW_PEOPLE = 2
# So many who are about to be subscribed are asked about singly, whatever lists say.
FEW_FREE = 5
ADDRESS_WORDS = {
    "opted_out": ("do_not_contact", "do not contact in iContact"),
    "bounced": ("bounced", "bounced in iContact"),
}


@dataclass(slots=True)
class Known:
    """An item whose contact exists in iContact.

    Args:
        member: what it is on the wished list; None as long as it was not read.
        altered: what came back otherwise than it was sent, in words.
    """

    item: Item
    contact: RemoteContact
    member: Standing | None = None
    altered: str = ""

    @property
    def has_left(self) -> bool:
        """It unsubscribed from the list, and nobody recorded a new permission."""
        return self.member == "unsubscribed" and not self.item.consent


def stopped(item: Item, contact: RemoteContact) -> Outcome | None:
    """Return why a contact that exists must be left alone, None when it need not."""
    if contact.status in ("normal", "pending"):
        return None
    if contact.status == "deleted":
        why = "deleted in iContact"
        return item.opted_out("connection", "deleted", why, contact.remote_id)
    if contact.status in ADDRESS_WORDS:
        return item.opted_out(
            "address", *ADDRESS_WORDS[contact.status], contact.remote_id
        )
    why = f'iContact says its status is "{contact.status}", which Onward does not know'
    return item.rejected("unknown_status", why)


def unsubscribed(known: Known, segment: RemoteSegment) -> Outcome:
    """Skip somebody who left the list, and remember it."""
    why = f"unsubscribed from {segment.name} in iContact"
    return known.item.opted_out("segment", "unsubscribed", why, known.contact.remote_id)


def uncertain(known: Known, segment: RemoteSegment) -> Outcome | None:
    """Leave alone whose status on the list is an unknown one; None for all others."""
    if not isinstance(known.member, Odd):
        return None
    why = (
        f'iContact says its status on {segment.name} is "{known.member.word}", which '
        "Onward does not know"
    )
    return known.item.rejected("unknown_status", why, known.contact.remote_id)


def delivered(known: Known, code: str = "", reason: str = "") -> Outcome:
    """Say it arrived, unless something came back otherwise than it was sent."""
    remote_id = known.contact.remote_id
    on_segment = known.member is not None and not code
    if known.altered:
        return known.item.rejected(
            "altered", known.altered, remote_id, on_segment=on_segment
        )
    return known.item.delivered(remote_id, code, reason, on_segment=on_segment)


# -- what they are on the list now


def check_members(
    client: Client, segment: RemoteSegment, people: Sequence[Known]
) -> None:
    """Note what contacts that exist are on the list now.

    Few are asked about singly. Of many, those believed to be on the list are
    looked for among its members, if that costs little; the list's opt-outs are
    read for all others, whatever we believe to know.

    Who is in none of these and would be subscribed is asked about as well, as long as
    no reading of opt-outs was seen to show any, and always if they are few: their
    status may be one that no search shows.
    """
    ids = [known.contact.remote_id for known in people]
    believed = {
        known.contact.remote_id
        for known in people
        if known.item.on_segment and not known.item.unsure and not known.item.force
    }
    read: dict[str, Standing] = {}
    unclear = set(ids)
    if len(people) > FEW_PEOPLE:
        members, is_all = set[str](), False
        if believed:
            most = 2 + len(believed) // 15
            members, is_all = find_members(client, segment.id, [*believed], most)
        read = dict.fromkeys(members, "normal")
        others = set(ids) - members
        left = _opt_outs(client, segment.id, others, fresh=bool(others - believed))
        if left is not None:
            read |= {id_: left[id_] for id_ in others & left.keys()}
            # Of a list too long to be read, our last knowledge is believed.
            read |= dict.fromkeys(set() if is_all else believed - read.keys(), "normal")
            unclear = {
                known.contact.remote_id
                for known in people
                if known.item.unsure or known.item.force or known.item.on_segment
            } - read.keys()
            free = set(ids) - read.keys() - unclear
            if len(free) <= FEW_FREE or not shows_opt_outs(client):
                # The list said the same: once is enough.
                read |= read_memberships(client, segment.id, sorted(free), once=True)
        else:
            unclear -= members
    read |= read_memberships(client, segment.id, sorted(unclear))
    for known in people:
        known.member = read.get(known.contact.remote_id, "none")


def check_created(
    client: Client, segment: RemoteSegment, people: Sequence[Known]
) -> None:
    """Note who of those just created left the list before: iContact revived them."""
    ids = [known.contact.remote_id for known in people]
    left: Mapping[str, Standing] | None = None
    if len(people) > FEW_PEOPLE:
        # Read after they were revived: before, theirs may not have been shown.
        _forget_opt_outs(client, segment.id)
        left = _opt_outs(client, segment.id, ids, ("unsubscribed",), fresh=True)
        # Where newest ids tell nothing these are simply new, and may be a hundred.
        if not shows_opt_outs(client) and (
            len(people) <= FEW_FREE or newest_id(client) < EVERYBODY
        ):
            left = None
    if left is None:
        left = read_memberships(client, segment.id, ids)
    for known in people:
        known.member = left.get(known.contact.remote_id, "none")


def _forget_opt_outs(client: Client, list_id: str) -> None:
    client.api.memory.put(f"with_unsubscribed:{list_id}", None)


def _opt_outs(
    client: Client,
    list_id: str,
    people: Collection[str],
    statuses: Sequence[Membership] = ("unsubscribed", "pending"),
    *,
    fresh: bool,
) -> Mapping[str, Standing] | None:
    """Return contact id → status, of a list's rows with these statuses.

    Returns:
        Also those among them whose status is an unknown one.
        None when asking about each of the people costs less, or is surer.
    """
    found: dict[str, Standing] = {}
    if people:
        with client.api.memory.lock:
            for status in statuses:
                kept = _rows_with(client, list_id, status, len(people), fresh=fresh)
                if kept is None:
                    return None
                found |= dict.fromkeys(kept["ids"], status)
                found |= {id_: Odd(word) for id_, word in kept["odd"].items()}
    return found


class Kept(TypedDict):
    """Rows of a list with one status, as they were read.

    `at` is when, in ISO format, `ids` whose they are; `odd` are contact id → status
    of rows among them whose status is an unknown one.
    """

    at: str
    ids: list[str]
    odd: dict[str, str]


def _rows_with(
    client: Client, list_id: str, status: Membership, people: int, *, fresh: bool
) -> Kept | None:
    memory, now = client.api.memory, client.api.now()
    name, singly = f"with_{status}:{list_id}", f"asked_singly:{status}:{list_id}"
    kept: Kept | None = memory.get(name)
    if kept is not None and (
        not fresh
        or len(kept["ids"]) > MANY_OPT_OUTS
        or now - datetime.fromisoformat(kept["at"]) <= FRESH
    ):
        return kept
    # Asking singly costs a call each: until that would have paid for the pages.
    spent = int(memory.get(singly) or 0) + people
    try:
        rows = _read_rows(client, list_id, status, spent)
        if rows == [] and status == "unsubscribed" and shows_opt_outs(client):
            # Asked twice: one stray answer subscribes nobody again.
            rows = _read_rows(client, list_id, status, spent)
    except Temporary as error:
        if error.code != CONTRADICTION:
            raise
        return None
    if rows is None:
        memory.put(singly, spent, OPT_OUTS_FOR)
        return None
    ids: dict[str, None] = {}
    odd: dict[str, str] = {}
    for row in rows:
        id_, is_now = text_of(row.get("contactId")), standing(row)
        if isinstance(is_now, Odd):
            odd[id_] = is_now.word
        elif is_now == status:
            ids[id_] = None
    if ids and status == "unsubscribed":
        saw_opt_outs(client)
    kept = {"at": now.isoformat(), "ids": list(ids), "odd": odd}
    memory.put(name, kept, OPT_OUTS_FOR)
    return kept


def _read_rows(
    client: Client, list_id: str, status: Membership, most: int
) -> list[Row] | None:
    """Read a list's rows with one status; None when that takes too many pages."""
    rows: list[Row] = []
    for page in client.subscriptions(list_id, status):
        if page.rows and (page.total or 0) > most * len(page.rows):
            return None
        rows += page.rows
    return rows


# -- putting them on the list


def subscribe(
    client: Client, segment: RemoteSegment, people: Sequence[Known]
) -> Iterator[Outcome]:
    """Put on the list who may be and is not; say of each what it is there now."""
    free: list[Known] = []
    for known in people:
        outcome = settled(known, segment)
        if outcome is None:
            free.append(known)
        else:
            yield outcome
    yield from _put_on_list(client, segment, free)


def settled(known: Known, segment: RemoteSegment) -> Outcome | None:
    """Return the outcome that a membership means, None when there is none yet."""
    if known.has_left:
        return unsubscribed(known, segment)
    if (outcome := uncertain(known, segment)) is not None:
        return outcome
    if known.contact.status != "pending" and known.member in (
        "normal",
        known.item.opt_in,
    ):
        return delivered(known)
    if "pending" in (known.member, known.contact.status):
        why = "its fields are up to date; on the list once the person confirms"
        return delivered(known, "awaiting_confirmation", why)
    return None


def _put_on_list(
    client: Client, segment: RemoteSegment, people: Sequence[Known]
) -> Iterator[Outcome]:
    if not people:
        return
    by_id = {known.contact.remote_id: known for known in people}
    opt_in = people[0].item.opt_in  # an option of the connection: all have the same
    refused = False
    try:
        returned, words = client.subscribe(segment.id, list(by_id), opt_in)
    except Rejected as error:
        if error.status not in (400, 413, 422):
            raise
        returned, words, refused = {}, error.message, True
    silent = [id_ for id_ in by_id if returned.get(id_) not in ("normal", opt_in)]
    if len(silent) == len(by_id):
        require_list(client, segment)
    # An empty answer may be a duplicate or a refusal, and one bad contact can
    # refuse them all: look.
    returned |= read_memberships(client, segment.id, silent)
    left: list[Known] = []
    for id_, known in by_id.items():
        known.member = returned[id_]
        if known.member == "unsubscribed":
            yield unsubscribed(known, segment)
        elif (outcome := settled(known, segment)) is not None:
            yield outcome
        else:
            left.append(known)
    if refused and len(people) > 1:
        middle = len(left) // 2 if len(left) == len(people) else len(left)
        yield from _put_on_list(client, segment, left[:middle])
        yield from _put_on_list(client, segment, left[middle:])
        return
    for known in left:
        yield _not_on_list(client, known, segment, words)


def _not_on_list(
    client: Client, known: Known, segment: RemoteSegment, words: str
) -> Outcome:
    """Say why iContact answered, and did not put a contact on the list."""
    contact = client.contact(known.contact.remote_id)
    reason = stopped(known.item, contact) if contact is not None else None
    if reason is not None:
        return reason
    if words:
        return known.item.rejected("not_subscribed", f"iContact: {words}")
    why = f"iContact answered 200 and did not put it on {segment.name}"
    return known.item.retry("not_subscribed", why)
