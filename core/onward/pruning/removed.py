"""Rows that wait for a connection that is gone.

Whoever removes a connection ends what waits for it. An event whose transaction was
open at that moment may commit a row afterwards, which nobody would ever look at.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select, text, update

from onward.among import ForEach
from onward.connections.remove import removed_names
from onward.delivery.claiming import hold_rows
from onward.models import Connection, Push, table
from onward.models.delivery import OPEN_SQL
from onward.pruning.batches import BATCH

pushes = table(Push)
connections = table(Connection)

_THERE = select(connections.c.id)
_LEFT = (
    select(pushes.c.id)
    .where(pushes.c.connection_id == bindparam("gone"), text(OPEN_SQL))
    .limit(BATCH)
)
_END = ForEach(
    lambda among: (
        update(pushes)
        .where(among(pushes.c.id, "rows"), text(OPEN_SQL))
        .values(
            state="cancelled",
            code="connection_removed",
            reason=bindparam("why"),
            due_at=None,
            finished_at=bindparam("moment"),
        )
    )
)


def removed_connections(transaction: Transaction) -> dict[int, str]:
    """Return id → name of the connections that were removed."""
    there = set(transaction.execute(_THERE).scalars())
    gone = removed_names(transaction)
    return {of: name for of, name in gone.items() if of not in there}


def end_left_over(transaction: Transaction, gone: int, name: str, now: datetime) -> int:
    """End up to a batch of the rows of one removed connection; return how many."""
    rows = list(transaction.execute(_LEFT, {"gone": gone}).scalars())
    if not rows:
        return 0
    hold_rows(transaction, rows)
    why = f'the connection "{name}" was removed'
    given = {"rows": rows, "why": why, "moment": now}
    return transaction.execute(_END(transaction), given).rowcount
