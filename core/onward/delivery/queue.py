"""Rows in: one open row per contact, connection and remote segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, case, or_, select, text

from onward.models import Cause, Push, table
from onward.models.delivery import OPEN_SQL
from onward.sql import Rows

pushes = table(Push)
causes = table(Cause)

_THERE = select(pushes.c.id).where(pushes.c.id.in_(bindparam("ids", expanding=True)))
_JOINED = select(causes.c.key, causes.c.push_id).where(
    causes.c.kind == "joined", causes.c.key.in_(bindparam("ids", expanding=True))
)

LIVE = 0
BACKFILL = 10

_COLUMNS = [
    pushes.c.connection_id,
    pushes.c.contact_id,
    pushes.c.segment,
    pushes.c.state,
    pushes.c.priority,
    pushes.c.due_at,
    pushes.c.tries,
    pushes.c.again,
    pushes.c.force,
    pushes.c.fence,
    pushes.c.code,
    pushes.c.reason,
    pushes.c.map_version,
    pushes.c.remote_id,
    pushes.c.job,
    pushes.c.created_at,
]


def _enqueue(insert: Any) -> Any:
    statement = insert(pushes)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["connection_id", "contact_id", "segment"],
        index_where=text(OPEN_SQL),
        set_={
            "again": or_(pushes.c.again, text("push.state <> 'waiting'")),
            "priority": case(
                (new.priority < pushes.c.priority, new.priority),
                else_=pushes.c.priority,
            ),
            "force": or_(pushes.c.force, new.force),
        },
    ).returning(
        pushes.c.id, pushes.c.connection_id, pushes.c.contact_id, pushes.c.segment
    )


_ENQUEUE = Rows(_enqueue, _COLUMNS)
_ADD_CAUSES = Rows(
    lambda insert: insert(causes), [c for c in causes.c if c.key != "id"]
)


@dataclass(frozen=True, slots=True)
class Wish:
    """A push somebody asks for, and why.

    Args:
        kind: of the cause: `rule`, `trigger`, `manual`, `apply`, `audience`, `merge`,
            `replay`.
        key: of the rule, trigger or audience.
        segment: remote segment id, "" for none.
    """

    connection_id: int
    contact_id: int
    segment: str
    kind: str
    key: str = ""
    event_id: int | None = None
    replay_of: int | None = None
    priority: int = LIVE
    force: bool = False


def enqueue(
    connection: Connection, wishes: Sequence[Wish], now: datetime
) -> dict[Wish, int]:
    """Write one open row per (connection, contact, segment) and all causes.

    A row that is being sent is marked to be sent once more; a row that waits
    for a retry keeps waiting.
    """
    if not wishes:
        return {}
    wanted: dict[tuple[int, int, str], tuple[int, bool]] = {}
    for wish in wishes:
        place = (wish.connection_id, wish.contact_id, wish.segment)
        priority, force = wanted.get(place, (wish.priority, False))
        wanted[place] = min(priority, wish.priority), force or wish.force
    none = ("", "", "", "", "")
    # In key order: two transactions that touch the same rows do not deadlock;
    # distinct: PostgreSQL refuses the same key twice in one statement.
    rows = [
        (*place, "waiting", priority, now, 0, False, force, 0, *none, now)
        for place, (priority, force) in sorted(wanted.items())
    ]
    ids = {
        (of, contact, to): id_ for id_, of, contact, to in _ENQUEUE(connection, rows)
    }
    found = {
        wish: ids[wish.connection_id, wish.contact_id, wish.segment] for wish in wishes
    }
    _ADD_CAUSES(
        connection,
        [
            (push_id, wish.kind, wish.key, wish.event_id, wish.replay_of, now)
            for wish, push_id in found.items()
        ],
    )
    return found


def joined_rows(connection: Connection, rows: Sequence[int]) -> list[int]:
    """Return which rows there are for these now: one may have joined another.

    That happens where it was queued before its remote segment was known.
    """
    there = {of: of for of in rows}
    known = set(connection.execute(_THERE, {"ids": list(rows)}).scalars())
    while gone := {str(now): of for of, now in there.items() if now not in known}:
        found = connection.execute(_JOINED, {"ids": list(gone)}).all()
        for one in found:
            there[gone[one.key]] = one.push_id
        if not found:
            break
        ids = [one.push_id for one in found]
        known |= set(connection.execute(_THERE, {"ids": ids}).scalars())
    return list(dict.fromkeys(there.values()))
