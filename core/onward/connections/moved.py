"""When a connection began to lead to another account than before."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.connections.remove import REMEMBER
from onward.models import Setting, table

settings = table(Setting)

_MOVED = "moved_connection:"
_WHEN = select(settings.c.value).where(settings.c.name == bindparam("called"))


def note_move(transaction: Transaction, connection_id: int, now: datetime) -> None:
    """Remember that what was queued before was meant for another account."""
    row = {"name": f"{_MOVED}{connection_id}", "value": now.isoformat()}
    transaction.execute(REMEMBER(transaction), row)


def moved_at(transaction: Transaction, connection_id: int) -> datetime | None:
    """Return when it last did, None = never."""
    called = {"called": f"{_MOVED}{connection_id}"}
    value = transaction.execute(_WHEN, called).scalar()
    return None if value is None else datetime.fromisoformat(value)
