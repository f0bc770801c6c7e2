"""Pull everybody, every opt-out, and the members of some lists.

Three sorts of stages, one after the other: the contacts; of each list who left it;
of the lists that matter who is on it, or asked to confirm. The cursor of a page says
which stage it belongs to and where in it another process goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from onward import Membership, Page, Rejected, RemoteContact, RemoteSegment, Temporary
from onward_icontact.calls import IGNORED_FILTER
from onward_icontact.client import Client
from onward_icontact.paging import Place, walk
from onward_icontact.reading import saw_opt_outs
from onward_icontact.rows import Odd, count_of, membership, record, standing, text_of
from onward_icontact.rows import Page as Rows

CONTACTS, OPT_OUTS, MEMBERS = range(3)
# In the order in which they are read.
MEMBER_STATUSES: tuple[Membership, ...] = ("normal", "pending")

Key = tuple[int, int, str, int]


@dataclass(frozen=True, slots=True)
class Stage:
    """One collection to be read.

    Args:
        list_id: "" for the contacts.
        status: of the memberships.
    """

    sort: int
    list_id: str = ""
    name: str = ""
    status: Membership = "none"

    @property
    def title(self) -> str:
        """What people call it."""
        if self.sort == CONTACTS:
            return "contacts"
        what = "opt-outs" if self.sort == OPT_OUTS else "members"
        return f"{what} of {self.name or self.list_id}"

    @property
    def key(self) -> Key:
        """Its place among the others, also among those of another day."""
        second = self.status == MEMBER_STATUSES[1]
        return (self.sort, count_of(self.list_id) or 0, self.list_id, int(second))


@dataclass(slots=True)
class Mark:
    """What a cursor says.

    Args:
        ended: the stage was read to its end.
    """

    key: Key
    ended: bool
    place: Place = field(default_factory=Place)

    @property
    def document(self) -> dict[str, Any]:
        """Plain JSON."""
        if self.ended:
            return {"key": list(self.key)}
        return {"key": list(self.key), "place": asdict(self.place)}

    @classmethod
    def of(cls, cursor: object) -> Mark | None:
        """Read a cursor; None = from the start, as after one of another release."""
        try:
            document = cast("dict[str, Any]", cursor)
            sort, number, list_id, second = document["key"]
            key = (int(sort), int(number), str(list_id), int(second))
            if "place" not in document:
                return cls(key, ended=True)
            return cls(key, ended=False, place=Place(**document["place"]))
        except (TypeError, ValueError, KeyError):
            return None


def pull(
    client: Client, cursor: object, segments: Sequence[RemoteSegment]
) -> Iterator[Page]:
    """Yield everything, from a cursor on, one page in memory at a time.

    Asks for the lists once, then for a page per call.

    Raises:
        Temporary: an answer is not what was asked for; nothing of it is believed.
    """
    mark = Mark.of(cursor)
    left = [one for one in _stages(client, segments) if _is_left(one, mark)]
    for number, stage in enumerate(left, 1):
        at_last = number == len(left)
        is_begun = mark is not None and mark.key == stage.key
        place = mark.place if mark is not None and is_begun else Place()
        place.by_id = place.by_id or (stage.sort == CONTACTS and not is_begun)
        for rows, is_last in _read(client, stage, place):
            after = Mark(stage.key, is_last, place).document
            yield _page(stage, rows, place, None if is_last and at_last else after)


def _is_left(stage: Stage, mark: Mark | None) -> bool:
    if mark is None or stage.key > mark.key:
        return True
    return stage.key == mark.key and not mark.ended


def _stages(client: Client, segments: Sequence[RemoteSegment]) -> list[Stage]:
    """Return what is to be read, of the lists that are there now.

    Raises:
        Temporary: one that matters is there and was not listed: its opt-outs would
            not be read, and nobody would know.
    """
    wished = {segment.id for segment in segments}
    stages = {Stage(CONTACTS)}
    listed = {""}
    for row in client.lists():
        id_, name = text_of(row.get("listId")), text_of(row.get("name"))
        if not id_:
            continue
        listed.add(id_)
        stages.add(Stage(OPT_OUTS, id_, name, "unsubscribed"))
        if id_ in wished:
            stages |= {Stage(MEMBERS, id_, name, one) for one in MEMBER_STATUSES}
    for id_ in sorted(wished - listed):
        if client.list_exists(id_):
            raise Temporary(f"iContact did not list the list {id_}, which is there")
    return sorted(stages, key=lambda stage: stage.key)


def _read(client: Client, stage: Stage, place: Place) -> Iterator[tuple[Rows, bool]]:
    """Yield the pages of a stage; of a list that is gone, a last one with nobody."""
    if stage.sort == CONTACTS:
        yield from walk(client.contacts_page, place)
        return

    def get(limit: int, offset: int) -> Rows:
        rows = client.subscriptions_page(stage.list_id, stage.status, limit, offset)
        _verify(stage, rows)
        if stage.sort == OPT_OUTS and any(membership(r) != "none" for r in rows.rows):
            saw_opt_outs(client)
        return rows

    try:
        for rows, is_last in walk(get, place):
            is_empty = stage.status == MEMBER_STATUSES[0] and not rows.rows
            if is_empty and not _is_there(client, stage):
                break
            yield rows, is_last
            if is_last:
                return
    except (Rejected, Temporary) as error:
        if error.status not in (400, 404, 500) or _is_there(client, stage):
            raise
    place.whole = False
    yield Rows([], None), True


def _is_there(client: Client, stage: Stage) -> bool:
    """Ask for a list by itself: what other calls say of one that is gone is unknown."""
    return client.list_exists(stage.list_id)


def _verify(stage: Stage, rows: Rows) -> None:
    """Refuse rows that were not asked for: a filter that is ignored shows everybody.

    One of a status nobody knows says nothing: it is neither refused nor believed.

    Raises:
        Temporary: there is one.
    """
    for row in rows.rows:
        status = standing(row)
        if (
            text_of(row.get("listId")) != stage.list_id
            or not (isinstance(status, Odd) or status == stage.status)
            or not text_of(row.get("contactId"))
        ):
            raise Temporary(
                f"iContact answered with memberships that are not {stage.status} ones "
                f"of list {stage.list_id}",
                code=IGNORED_FILTER,
            )


def _page(stage: Stage, rows: Rows, place: Place, cursor: object) -> Page:
    if stage.sort == CONTACTS:
        contacts = [one for one in map(record, rows.rows) if one.remote_id]
        everybody = place.by_id and place.whole
        return Page(contacts, cursor, stage.title, rows.total, everybody)
    segments: dict[str, Membership] = {stage.list_id: stage.status}
    contacts = [
        RemoteContact(text_of(row.get("contactId")), "", {}, "", segments)
        for row in rows.rows
        if membership(row) == stage.status
    ]
    is_listed = stage.sort == MEMBERS and place.whole
    of = stage.list_id if is_listed else ""
    return Page(contacts, cursor, stage.title, rows.total, members_of=of)
