"""Rows out: claim what is due, under the connection's lease.

Every claimed row carries the lease's fence. If the process dies between the
remote call and the settle, the row stays `sending` with `sent_at` set: the next
holder marks it unknown and reads back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    and_,
    any_,
    bindparam,
    false,
    func,
    literal_column,
    select,
    update,
)

from onward import remote
from onward.among import ForEach
from onward.contacts.suppress import find_survivors
from onward.delivery.queue import BACKFILL, LIVE
from onward.errors import Fenced
from onward.models import Push, RemoteSegmentRow, table

pushes = table(Push)
remote_segments = table(RemoteSegmentRow)

# Literal texts: with parameters neither database can tell that the partial
# indexes fit, and every claim would sort all that waits.
WAITING = pushes.c.state == literal_column("'waiting'")
SENDING = pushes.c.state == literal_column("'sending'")
# Rows for a remote segment that is paused are held.
FLOWING = (
    ~select(remote_segments.c.id)
    .where(
        remote_segments.c.connection_id == pushes.c.connection_id,
        remote_segments.c.id == pushes.c.segment,
        remote_segments.c.paused_why != "",
    )
    .exists()
)
OURS = and_(SENDING, pushes.c.fence == bindparam("mine"))

_OF_THE_DEAD = and_(
    pushes.c.connection_id == bindparam("of"),
    SENDING,
    pushes.c.fence < bindparam("mine"),
)
_LEFT = (
    select(pushes.c.contact_id, pushes.c.segment, pushes.c.sent_at)
    .where(_OF_THE_DEAD)
    .order_by(pushes.c.id)
    .with_for_update()
)
_IS_LEFT = select(pushes.c.id).where(_OF_THE_DEAD).limit(1)
_HOLD = ForEach(
    lambda among: (
        select(pushes.c.id)
        .where(among(pushes.c.id, "rows"))
        .order_by(pushes.c.id)
        .with_for_update()
    )
)
_ADOPT = update(pushes).where(_OF_THE_DEAD).values(state="waiting")
_NEXT_SEGMENT = (
    select(pushes.c.segment, pushes.c.priority)
    .where(
        pushes.c.connection_id == bindparam("of"),
        WAITING,
        pushes.c.due_at <= bindparam("moment"),
        FLOWING,
    )
    .order_by(pushes.c.priority, pushes.c.due_at, pushes.c.id)
    .limit(1)
)
_FIRST = (
    select(pushes.c.id)
    .where(
        pushes.c.connection_id == bindparam("of"),
        pushes.c.segment == bindparam("to"),
        WAITING,
        pushes.c.due_at <= bindparam("moment"),
        pushes.c.priority <= bindparam("most"),
    )
    .order_by(pushes.c.priority, pushes.c.due_at, pushes.c.id)
    .limit(bindparam("size"))
)


def _claim_those(found: ColumnElement[bool]) -> Executable:
    return (
        update(pushes)
        .where(
            WAITING,
            # Another process may have given it another one since it was found.
            pushes.c.segment == bindparam("to"),
            found,
        )
        .values(state="sending", fence=bindparam("mine"), again=false())
        .returning(
            pushes.c.id,
            pushes.c.contact_id,
            pushes.c.sent_at,
            pushes.c.tries,
            pushes.c.force,
            pushes.c.priority,
            pushes.c.map_version,
        )
    )


# PostgreSQL plans `IN (SELECT …)` as a join with all that waits, without statistics
# even once for each row of it; a list that is made first is looked up.
_CLAIM = {
    "sqlite": _claim_those(pushes.c.id.in_(_FIRST)),
    "postgresql": _claim_those(
        pushes.c.id == any_(func.array(_FIRST.scalar_subquery()))
    ),
}
_MARK_SENT = ForEach(
    lambda among: (
        update(pushes)
        .where(among(pushes.c.id, "rows"), OURS)
        .values(sent_at=bindparam("moment"), map_version=bindparam("version"))
    )
)
_USE_TRY = ForEach(
    lambda among: (
        update(pushes)
        .where(among(pushes.c.id, "rows"), OURS)
        .values(tries=pushes.c.tries + 1)
    )
)
# One look into the index for each priority: together they would be sorted.
_NEXT_DUE = {
    priority: select(pushes.c.due_at)
    .where(
        pushes.c.connection_id == bindparam("of"),
        pushes.c.priority == literal_column(str(priority)),
        WAITING,
        pushes.c.due_at.is_not(None),
        FLOWING,
    )
    .order_by(pushes.c.due_at)
    .limit(1)
    for priority in (LIVE, BACKFILL)
}


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row this worker is to send.

    Args:
        sent_at: set when an earlier send may have arrived: read back first.
        tries: failed tries so far.
        map_version: of the map it left with the last time; "" = it never left.
    """

    id: int
    contact_id: int
    sent_at: datetime | None
    tries: int
    force: bool
    priority: int
    map_version: str = ""


def is_left(connection: Connection, connection_id: int, fence: int) -> bool:
    """Tell whether a dead holder left rows it had claimed."""
    given = {"of": connection_id, "mine": fence}
    return connection.execute(_IS_LEFT, given).first() is not None


def adopt(connection: Connection, connection_id: int, fence: int, now: datetime) -> int:
    """Return a dead holder's rows to waiting; those that left stay marked.

    What is known of their contacts is in doubt, for their other rows as well.
    """
    given = {"of": connection_id, "mine": fence}
    found = connection.execute(_LEFT, given)
    left: list[tuple[int, str]] = [
        (row.contact_id, row.segment) for row in found if row.sent_at is not None
    ]
    survivors = find_survivors(connection, {contact for contact, _ in left})
    doubtful = ((survivors.get(one, one), segment) for one, segment in left)
    remote.doubt(connection, connection_id, doubtful, now)
    return connection.execute(_ADOPT, given).rowcount


def hold_rows(connection: Connection, rows: Iterable[int]) -> None:
    """Let nobody else change these until the transaction ends, in id order.

    SQLite has one writer, which holds everything anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_HOLD(connection), {"rows": list(rows)})


def next_segment(
    connection: Connection, connection_id: int, now: datetime
) -> tuple[str, int] | None:
    """Return (remote segment, priority) of the row that is to go next."""
    given = {"of": connection_id, "moment": now}
    row = connection.execute(_NEXT_SEGMENT, given).first()
    return None if row is None else (row.segment, row.priority)


def claim(
    connection: Connection,
    connection_id: int,
    segment: str,
    fence: int,
    now: datetime,
    size: int,
    most: int,
) -> list[Claimed]:
    """Claim up to `size` due rows: live first, oldest first.

    Args:
        most: the lowest priority to take; rows of a back-fill stay where they
            are while only live events may be sent.
    """
    given = {
        "of": connection_id,
        "to": segment,
        "mine": fence,
        "moment": now,
        "size": size,
        "most": most,
    }
    rows = connection.execute(_CLAIM[connection.dialect.name], given).all()
    return sorted((Claimed(*row) for row in rows), key=lambda row: row.id)


def mark_sent(
    connection: Connection,
    rows: Iterable[int],
    fence: int,
    now: datetime,
    version: str,
) -> None:
    """Note that these are about to leave.

    Raises:
        Fenced: they are not ours any more.
    """
    ids = list(rows)
    given = {"rows": ids, "mine": fence, "moment": now, "version": version}
    if connection.execute(_MARK_SENT(connection), given).rowcount != len(ids):
        raise Fenced


def use_try(connection: Connection, rows: Iterable[int], fence: int) -> None:
    """Count a send that never was answered, before it is repeated.

    Stored before, so that a contact that kills its worker is not sent for ever.

    Raises:
        Fenced: they are not ours any more.
    """
    ids = list(rows)
    given = {"rows": ids, "mine": fence}
    if connection.execute(_USE_TRY(connection), given).rowcount != len(ids):
        raise Fenced


def next_due(connection: Connection, connection_id: int) -> datetime | None:
    """Return when the next row of a connection is due, held ones left out."""
    given = {"of": connection_id}
    found = [connection.execute(one, given).scalar() for one in _NEXT_DUE.values()]
    return min((due for due in found if due is not None), default=None)
