"""Remote segments by name, and the rows that were queued before they were known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, insert, select, update

from onward import signals
from onward.connections.state import UNRESOLVED, State
from onward.contract import RemoteSegment
from onward.delivery.queue import Wish, enqueue
from onward.models import Cause, OutcomeRow, Push, table
from onward.models.delivery import OPEN_STATES
from onward.runtime import Runtime

pushes = table(Push)
causes = table(Cause)
outcomes = table(OutcomeRow)


def resolve_segment(
    name: str, wished: str, segments: Sequence[RemoteSegment]
) -> tuple[str, str]:
    """Return (id, problem) of a remote segment given by id or name."""
    if any(segment.id == wished for segment in segments):
        return wished, ""
    same = [s for s in segments if s.name == wished] or [
        s for s in segments if s.name.casefold() == wished.casefold()
    ]
    if len(same) == 1:
        return same[0].id, ""
    if same:
        ids = ", ".join(segment.id for segment in same)
        return "", (
            f'{name}: {len(same)} remote segments are called "{wished}"; '
            f"name the one you mean by its id: {ids}"
        )
    close = get_close_matches(wished, [s.name for s in segments], n=1)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    return "", (
        f'{name}: the account has no remote segment "{wished}"; {hint}'
        f"`onward segments {name}` lists the {len(segments)} it has"
    )


def rename_waiting(
    transaction: Transaction,
    runtime: Runtime,
    state: State,
    segment_id: str,
    segments: Sequence[RemoteSegment],
) -> list[signals.PushFact]:
    """Give rows that were queued before the segments were known their real one.

    Args:
        segment_id: of the connection's own segment, "" for none.

    Returns:
        What is to be announced: the rows that name a segment nobody has.
    """
    now = runtime.clock()
    failed: list[signals.PushFact] = []
    waiting = (
        pushes.c.connection_id == state.id,
        pushes.c.state == "waiting",
        pushes.c.segment.startswith(UNRESOLVED, autoescape=True),
    )
    named = transaction.execute(select(pushes.c.segment).where(*waiting).distinct())
    for queued in sorted(named.scalars()):
        wished = queued.removeprefix(UNRESOLVED)
        real, problem = (
            resolve_segment(state.name, wished, segments)
            if wished
            else (segment_id, "")
        )
        if problem:
            failed += _fail(transaction, state, queued, problem, now)
        else:
            _rename(transaction, state, queued, real, now)
    return failed


def _fail(
    transaction: Transaction, state: State, queued: str, problem: str, now: datetime
) -> list[signals.PushFact]:
    failed = transaction.execute(
        update(pushes)
        .where(
            pushes.c.connection_id == state.id,
            pushes.c.state == "waiting",
            pushes.c.segment == queued,
        )
        .values(
            state="failed",
            code="no_such_segment",
            reason=problem,
            finished_at=now,
            due_at=None,
        )
        .returning(pushes.c.id, pushes.c.contact_id)
    ).all()
    told = [
        {
            "push_id": row.id,
            "attempt_id": None,
            "kind": "failed",
            "code": "no_such_segment",
            "reason": problem,
            "at": now,
        }
        for row in failed
    ]
    if told:
        transaction.execute(insert(outcomes), told)
    return [
        signals.PushFact(
            row.id, state.name, row.contact_id, "failed", "no_such_segment", problem
        )
        for row in failed
    ]


def _rename(
    transaction: Transaction, state: State, queued: str, real: str, now: datetime
) -> None:
    """Rename all whose contact has no open row there yet; the others join it."""
    other = pushes.alias()
    mine = (
        pushes.c.connection_id == state.id,
        pushes.c.state == "waiting",
        pushes.c.segment == queued,
    )
    taken = (
        select(other.c.id)
        .where(
            other.c.connection_id == state.id,
            other.c.contact_id == pushes.c.contact_id,
            other.c.segment == real,
            other.c.state.in_([open_.value for open_ in OPEN_STATES]),
        )
        .exists()
    )
    transaction.execute(update(pushes).where(*mine, ~taken).values(segment=real))
    left = transaction.execute(
        select(pushes.c.id, pushes.c.contact_id, pushes.c.priority, pushes.c.force)
        .where(*mine)
        .order_by(pushes.c.id)
    ).all()
    for row in left:
        wish = Wish(
            state.id,
            row.contact_id,
            real,
            "joined",
            key=str(row.id),
            priority=row.priority,
            force=row.force,
        )
        joined = enqueue(transaction, [wish], now)[wish]
        transaction.execute(
            update(causes).where(causes.c.push_id == row.id).values(push_id=joined)
        )
        transaction.execute(delete(pushes).where(pushes.c.id == row.id))
