"""Old deliveries that ended, with their causes and outcomes; then their attempts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, and_, delete, not_, select, text
from sqlalchemy import Connection as Transaction

from onward.among import ForEach
from onward.models import OPEN_STATES, Attempt, Cause, OutcomeRow, Push, table
from onward.models.delivery import OPEN_SQL
from onward.pruning.batches import (
    Counts,
    Sort,
    count_rows,
    free_rows,
    not_newest,
    old_rows,
    older,
)
from onward.pruning.horizon import DELIVERIES

pushes = table(Push)
causes = table(Cause)
outcomes = table(OutcomeRow)
attempts = table(Attempt)

# Requests and answers are large: fewer at a time.
FEW = 50

_replay = pushes.alias("replay")
# What an open push does once more is looked up as long as that is open.
_REPLAYED = (
    select(causes.c.id)
    .join(_replay, _replay.c.id == causes.c.push_id)
    .where(causes.c.replay_of == pushes.c.id, text(f"replay.{OPEN_SQL}"))
    .exists()
)
_OVER = and_(
    older(pushes.c.finished_at),
    pushes.c.state.not_in([state.value for state in OPEN_STATES]),
    not_newest(pushes),
    ~_REPLAYED,
)
_FREE = free_rows(pushes, _OVER)
_OUTCOMES = ForEach(
    lambda among: select(outcomes.c.id, outcomes.c.push_id).where(
        among(outcomes.c.push_id, "of")
    )
)
_FREE_OUTCOMES = ForEach(
    lambda among: (
        select(outcomes.c.id)
        .where(among(outcomes.c.push_id, "of"))
        .order_by(outcomes.c.id)
        .with_for_update(skip_locked=True)
    )
)


def _delete_of(push: Column[Any]) -> ForEach:
    return ForEach(lambda among: delete(push.table).where(among(push, "of")))


_DELETE = {
    "outcomes": _delete_of(outcomes.c.push_id),
    "causes": _delete_of(causes.c.push_id),
    "deliveries": _delete_of(pushes.c.id),
}

# An attempt is of many pushes: it goes after the last of them.
_NAMED = select(outcomes.c.id).where(outcomes.c.attempt_id == attempts.c.id)
_UNNAMED = (older(attempts.c.started_at), not_newest(attempts), ~_NAMED.exists())
_FREE_ATTEMPTS = free_rows(attempts, *_UNNAMED)
_DELETE_ATTEMPTS = ForEach(
    lambda among: delete(attempts).where(among(attempts.c.id, "ids"))
)
_NAMED_BY_KEPT = (
    select(outcomes.c.id)
    .join(pushes, pushes.c.id == outcomes.c.push_id)
    .where(outcomes.c.attempt_id == attempts.c.id, not_(_OVER))
    .exists()
)


def _remove(transaction: Transaction, ids: Sequence[int], before: datetime) -> Counts:
    given = {"ids": list(ids), "before": before}
    free = list(transaction.execute(_FREE(transaction), given).scalars())
    if transaction.dialect.name == "postgresql":
        busy = _with_held_outcomes(transaction, free)
        free = [push for push in free if push not in busy]
    return {
        name: transaction.execute(statement(transaction), {"of": free}).rowcount
        for name, statement in _DELETE.items()
    }


def _with_held_outcomes(transaction: Transaction, ids: Sequence[int]) -> set[int]:
    """Return the pushes of which somebody (an erasure) holds an outcome now."""
    given = {"of": list(ids)}
    free = set(transaction.execute(_FREE_OUTCOMES(transaction), given).scalars())
    found = transaction.execute(_OUTCOMES(transaction), given)
    return {row.push_id for row in found if row.id not in free}


def _remove_attempts(
    transaction: Transaction, ids: Sequence[int], before: datetime
) -> Counts:
    given = {"ids": list(ids), "before": before}
    free = transaction.execute(_FREE_ATTEMPTS(transaction), given).scalars().all()
    transaction.execute(_DELETE_ATTEMPTS(transaction), {"ids": free})
    return {"attempts": len(free)}


OLD_DELIVERIES = Sort(
    "deliveries",
    DELIVERIES,
    old_rows(pushes.c.finished_at),
    count_rows(pushes, _OVER),
    _remove,
)
OLD_ATTEMPTS = Sort(
    "attempts",
    DELIVERIES,
    old_rows(attempts.c.started_at),
    count_rows(
        attempts,
        older(attempts.c.started_at),
        not_newest(attempts),
        ~_NAMED_BY_KEPT,
    ),
    _remove_attempts,
    size=FEW,
)
