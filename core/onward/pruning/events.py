"""Old events, but for those that a push still has to be mapped with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, select, text

from onward.among import ForEach
from onward.models import Cause, Event, Push, table
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
from onward.pruning.horizon import EVENTS

events = table(Event)
pushes = table(Push)
causes = table(Cause)

# A map may read the event that caused a push. What an open push names stays.
_NEEDED = (
    select(causes.c.id)
    .join(pushes, pushes.c.id == causes.c.push_id)
    .where(causes.c.event_id == events.c.id, text(f"push.{OPEN_SQL}"))
    .exists()
)
# Rows of the ledger go on naming their event: a number that is given to no other.
_MAY_GO = (older(events.c.created_at), not_newest(events), ~_NEEDED)
_FREE = free_rows(events, *_MAY_GO)
_DELETE = ForEach(lambda among: delete(events).where(among(events.c.id, "ids")))


def _remove(transaction: Transaction, ids: Sequence[int], before: datetime) -> Counts:
    given = {"ids": list(ids), "before": before}
    free = transaction.execute(_FREE(transaction), given).scalars().all()
    transaction.execute(_DELETE(transaction), {"ids": free})
    return {"events": len(free)}


OLD_EVENTS = Sort(
    "events",
    EVENTS,
    old_rows(events.c.created_at),
    count_rows(events, *_MAY_GO),
    _remove,
)
