"""Remote segments by name, and the rows that were queued before they were known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, delete, func, select, text, update
from sqlalchemy.exc import IntegrityError

from onward.among import ForEach
from onward.connections.state import (
    DELETED,
    UNRESOLVED,
    State,
    hold_segment,
    read_segments,
)
from onward.contract import RemoteSegment
from onward.delivery.queue import Wish, enqueue
from onward.errors import Repeat
from onward.models import Cause, OutcomeRow, Push, RemoteSegmentRow, table
from onward.models.delivery import OPEN_SQL, WAITING_SQL
from onward.runtime import Runtime
from onward.sql import unindexed

pushes = table(Push)
remote_segments = table(RemoteSegmentRow)

# Whoever joins one of them now waits, and finds it under its new segment.
_MINE = (
    select(pushes.c.id, pushes.c.contact_id, pushes.c.priority, pushes.c.force)
    .where(
        unindexed(pushes.c.connection_id) == bindparam("of"),
        text(WAITING_SQL),
        pushes.c.segment == bindparam("to"),
    )
    .order_by(pushes.c.id)
    .with_for_update()
)
# Asked apart, not as a condition of the update: a server that has not counted its
# rows yet compares each with each, 5,000 of them for ten seconds.
_TAKEN = ForEach(
    lambda among: select(pushes.c.contact_id).where(
        pushes.c.connection_id == bindparam("of"),
        pushes.c.segment == bindparam("to"),
        among(pushes.c.contact_id, "people"),
        text(OPEN_SQL),
    )
)
_SEND = ForEach(
    lambda among: (
        update(pushes).where(among(pushes.c.id, "rows")).values(segment=bindparam("to"))
    )
)
# What a row was asked for by and what it met go with it where it joins another.
_MOVE = [
    update(of).where(of.c.push_id == bindparam("gone")).values(push_id=bindparam("now"))
    for of in (table(Cause), table(OutcomeRow))
]
_DELETE = ForEach(lambda among: delete(pushes).where(among(pushes.c.id, "rows")))


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
) -> list[str]:
    """Give rows that were queued before the segments were known their real one.

    Those that name a segment the account does not have are held until it has one,
    or `redirect` sends them elsewhere.

    Args:
        segment_id: of the connection's own segment, "" for none.

    Returns:
        Why rows are held that were not before.
    """
    now = runtime.clock()
    held: list[str] = []
    waiting = (
        unindexed(pushes.c.connection_id) == state.id,
        text(WAITING_SQL),
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
        if not problem:
            redirect(transaction, state, queued, real, now)
        elif _hold(transaction, state, queued, problem, now):
            held.append(problem)
    return held


def release_deleted(
    transaction: Transaction,
    runtime: Runtime,
    state: State,
    segment_id: str | None,
    segments: Sequence[RemoteSegment],
) -> None:
    """Send what waits for a deleted segment to what stands in its place now.

    That is the one now chosen for the connection, if it was the connection's own,
    or one that was made anew under the same name.

    Args:
        segment_id: of the connection's own segment, "" for none; None = nobody can
            tell, so what waits for it waits until somebody can.
    """
    there = {segment.id for segment in segments}
    for id_, name, why in read_segments(transaction, state.id):
        if not why or id_ in there:
            continue
        if not _waiting(transaction, state, id_):
            _forget(transaction, state, id_)
            continue
        if id_.startswith(UNRESOLVED):
            continue
        bare = name.removeprefix(DELETED)
        same = [segment.id for segment in segments if segment.name == bare]
        if id_ == state.segment_id:
            to = UNRESOLVED if segment_id is None else segment_id
        elif len(same) == 1:
            to = same[0]
        else:
            continue
        redirect(transaction, state, id_, to, runtime.clock())


def _hold(
    transaction: Transaction, state: State, queued: str, problem: str, now: datetime
) -> bool:
    """Hold rows for a segment nobody has; tell whether they were not held before."""
    transaction.execute(
        update(pushes)
        .where(
            unindexed(pushes.c.connection_id) == state.id,
            text(WAITING_SQL),
            pushes.c.segment == queued,
        )
        .values(code="no_such_segment", reason=problem)
    )
    return hold_segment(
        transaction, state.id, queued, queued.removeprefix(UNRESOLVED), problem, now
    )


def redirect(
    transaction: Transaction, state: State, queued: str, real: str, now: datetime
) -> int:
    """Let rows that wait for one remote segment wait for another.

    Returns:
        How many there were.
    """
    waiting = _waiting(transaction, state, queued)
    _rename(transaction, state, queued, real, now)
    _forget(transaction, state, queued)
    return waiting


def _waiting(transaction: Transaction, state: State, segment: str) -> int:
    count = select(func.count()).where(
        unindexed(pushes.c.connection_id) == state.id,
        text(WAITING_SQL),
        pushes.c.segment == segment,
    )
    return transaction.execute(count).scalar_one()


def _forget(transaction: Transaction, state: State, segment: str) -> None:
    """Forget that rows for a segment are held."""
    transaction.execute(
        delete(remote_segments).where(
            remote_segments.c.connection_id == state.id,
            remote_segments.c.id == segment,
            remote_segments.c.paused_why != "",
        )
    )


def _rename(
    transaction: Transaction, state: State, queued: str, real: str, now: datetime
) -> None:
    """Rename all whose contact has no open row there yet; the others join it."""
    here = {"of": state.id, "to": queued}
    left = transaction.execute(_MINE, here).all()
    there = {"of": state.id, "to": real, "people": [row.contact_id for row in left]}
    taken = set(transaction.execute(_TAKEN(transaction), there).scalars())
    free = [row.id for row in left if row.contact_id not in taken]
    try:
        transaction.execute(_SEND(transaction), {"rows": free, "to": real})
    except IntegrityError:
        raise Repeat from None  # somebody queued one of the contacts there just now
    wishes = [
        Wish(
            state.id,
            row.contact_id,
            real,
            "joined",
            key=str(row.id),
            priority=row.priority,
            force=row.force,
        )
        for row in left
        if row.contact_id in taken
    ]
    if not wishes:
        return
    joined = enqueue(transaction, wishes, now)
    moved = [{"gone": int(wish.key), "now": into} for wish, into in joined.items()]
    for move in _MOVE:
        transaction.execute(move, moved)
    transaction.execute(_DELETE(transaction), {"rows": [one["gone"] for one in moved]})
