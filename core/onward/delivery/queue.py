"""The rows: enqueue, claim, settle. Every statement, no policy.

Claims and settles go under the connection's lease; each carries its fence. If
the process dies between the remote call and the settle, the row stays
`sending` with `sent_at` set: the next holder marks it unknown and reads back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    bindparam,
    case,
    false,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)

from onward.delivery.retry import Decision
from onward.models import Cause, OutcomeRow, Push, RemoteSegmentRow, table
from onward.models.delivery import OPEN_SQL
from onward.sql import Rows

pushes = table(Push)
causes = table(Cause)
outcomes = table(OutcomeRow)
remote_segments = table(RemoteSegmentRow)

LIVE = 0
BACKFILL = 10

_KEY = ["connection_id", "contact_id", "segment"]


def _enqueue(insert: Any) -> Any:
    statement = insert(pushes)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=_KEY,
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


_ENQUEUE = Rows(
    _enqueue,
    [
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
    ],
)
_ADD_CAUSES = Rows(lambda _: insert(causes), [c for c in causes.c if c.key != "id"])
_ADD_OUTCOMES = insert(outcomes)

_ADOPT = (
    update(pushes)
    .where(
        pushes.c.connection_id == bindparam("of"),
        pushes.c.state == "sending",
        pushes.c.fence < bindparam("mine"),
    )
    .values(state="waiting", due_at=bindparam("moment"))
    .returning(pushes.c.id, pushes.c.sent_at)
)
_FLOWING = and_(
    pushes.c.connection_id == bindparam("of"),
    pushes.c.state == "waiting",
    pushes.c.due_at <= bindparam("moment"),
    ~select(remote_segments.c.id)
    .where(
        remote_segments.c.connection_id == pushes.c.connection_id,
        remote_segments.c.id == pushes.c.segment,
        remote_segments.c.paused_why != "",
    )
    .exists(),
)
_NEXT_SEGMENT = (
    select(pushes.c.segment, pushes.c.priority)
    .where(_FLOWING)
    .order_by(pushes.c.priority, pushes.c.due_at, pushes.c.id)
    .limit(1)
)
_CLAIM = (
    update(pushes)
    .where(
        pushes.c.state == "waiting",
        pushes.c.id.in_(
            select(pushes.c.id)
            .where(
                pushes.c.connection_id == bindparam("of"),
                pushes.c.segment == bindparam("to"),
                pushes.c.state == "waiting",
                pushes.c.due_at <= bindparam("moment"),
                pushes.c.priority <= bindparam("most"),
            )
            .order_by(pushes.c.priority, pushes.c.due_at, pushes.c.id)
            .limit(bindparam("size"))
        ),
    )
    .values(state="sending", fence=bindparam("mine"), again=false())
    .returning(
        pushes.c.id,
        pushes.c.contact_id,
        pushes.c.sent_at,
        pushes.c.tries,
        pushes.c.force,
        pushes.c.priority,
    )
)
_MARK_SENT = (
    update(pushes)
    .where(
        pushes.c.id == bindparam("row"),
        pushes.c.state == "sending",
        pushes.c.fence == bindparam("mine"),
    )
    .values(sent_at=bindparam("moment"), map_version=bindparam("version"))
)
_NEXT: BindParameter[str] = bindparam("next")
_TRIES: BindParameter[int] = bindparam("failed")
_REMOTE: BindParameter[str] = bindparam("remote")
_WAITS_AGAIN = and_(pushes.c.again, literal("waiting") != _NEXT)
_SETTLE = (
    update(pushes)
    .where(
        pushes.c.id == bindparam("row"),
        pushes.c.state == "sending",
        pushes.c.fence == bindparam("mine"),
    )
    .values(
        state=case((pushes.c.again, "waiting"), else_=_NEXT),
        due_at=case(
            (_WAITS_AGAIN, bindparam("moment", type_=pushes.c.due_at.type)),
            else_=bindparam("due", type_=pushes.c.due_at.type),
        ),
        finished_at=case(
            (pushes.c.again, None),
            else_=bindparam("ended", type_=pushes.c.due_at.type),
        ),
        tries=case((_WAITS_AGAIN, 0), else_=_TRIES),
        sent_at=bindparam("sent", type_=pushes.c.due_at.type),
        force=and_(pushes.c.force, literal("waiting") == _NEXT),
        code=bindparam("word"),
        reason=bindparam("why"),
        remote_id=case(
            (literal("") == _REMOTE, pushes.c.remote_id),
            else_=_REMOTE,
        ),
        job=bindparam("handed"),
        again=false(),
    )
)
_UNCLAIM = (
    update(pushes)
    .where(
        pushes.c.id == bindparam("row"),
        pushes.c.state == "sending",
        pushes.c.fence == bindparam("mine"),
    )
    .values(
        state="waiting",
        due_at=bindparam("due", type_=pushes.c.due_at.type),
        again=false(),
        code=bindparam("word"),
        reason=bindparam("why"),
    )
)
_NEXT_DUE = (
    select(pushes.c.due_at)
    .where(
        pushes.c.connection_id == bindparam("of"),
        pushes.c.state == "waiting",
        pushes.c.due_at.is_not(None),
    )
    .order_by(pushes.c.due_at)
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Wish:
    """A push somebody asks for, and why.

    Args:
        kind: of the cause: `rule`, `trigger`, `manual`, `apply`, `merge`, `replay`.
        key: of the rule or trigger.
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


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row this worker is to send."""

    id: int
    contact_id: int
    sent_at: datetime | None
    tries: int
    force: bool
    priority: int


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


def adopt(
    connection: Connection, connection_id: int, fence: int, now: datetime
) -> list[int]:
    """Return a dead holder's rows to waiting; those that left stay marked."""
    rows = connection.execute(
        _ADOPT, {"of": connection_id, "mine": fence, "moment": now}
    )
    return [row.id for row in rows]


def next_segment(
    connection: Connection, connection_id: int, now: datetime
) -> tuple[str, int] | None:
    """Return (remote segment, priority) of the row that is to go next."""
    row = connection.execute(
        _NEXT_SEGMENT, {"of": connection_id, "moment": now}
    ).first()
    return None if row is None else (row.segment, row.priority)


def claim(
    connection: Connection,
    connection_id: int,
    segment: str,
    fence: int,
    now: datetime,
    size: int,
    most: int = BACKFILL,
) -> list[Claimed]:
    """Claim up to `size` due rows: live first, oldest first.

    Args:
        most: the lowest priority to take; rows of a back-fill stay where they
            are while only live events may be sent.
    """
    rows = connection.execute(
        _CLAIM,
        {
            "of": connection_id,
            "to": segment,
            "mine": fence,
            "moment": now,
            "size": size,
            "most": most,
        },
    ).all()
    return sorted((Claimed(*row) for row in rows), key=lambda row: row.id)


def mark_sent(
    connection: Connection,
    rows: Iterable[int],
    fence: int,
    now: datetime,
    version: str,
) -> int:
    """Note that these are about to leave; return how many are still ours."""
    parameters = [
        {"row": row, "mine": fence, "moment": now, "version": version} for row in rows
    ]
    return connection.execute(_MARK_SENT, parameters).rowcount


def settle(
    connection: Connection,
    decisions: Mapping[int, Decision],
    fence: int,
    now: datetime,
    *,
    remote_ids: Mapping[int, str] | None = None,
    jobs: Mapping[int, str] | None = None,
) -> int:
    """Store the next state of claimed rows; return how many were still ours.

    A row that got a further cause while it was sent waits once more.
    """
    parameters = [
        {
            "row": row,
            "mine": fence,
            "moment": now,
            "next": decision.state.value,
            "due": decision.due_at,
            "ended": now if decision.due_at is None else None,
            "failed": decision.tries,
            "sent": now if decision.unknown else None,
            "word": decision.code,
            "why": decision.reason,
            "remote": (remote_ids or {}).get(row, ""),
            "handed": (jobs or {}).get(row, ""),
        }
        for row, decision in decisions.items()
    ]
    return connection.execute(_SETTLE, parameters).rowcount


def unclaim(
    connection: Connection,
    rows: Mapping[int, tuple[datetime | None, str, str]],
    fence: int,
) -> None:
    """Put rows back that were claimed but not sent: row → (due, code, reason)."""
    connection.execute(
        _UNCLAIM,
        [
            {"row": row, "mine": fence, "due": due, "word": code, "why": why}
            for row, (due, code, why) in rows.items()
        ],
    )


def add_outcomes(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write down what each try led to."""
    if rows:
        connection.execute(_ADD_OUTCOMES, rows)


def next_due(connection: Connection, connection_id: int) -> datetime | None:
    """Return when the next waiting row of a connection is due."""
    due: datetime | None = connection.execute(_NEXT_DUE, {"of": connection_id}).scalar()
    return due
