"""Since when everything is still there: what pruning removed, it says.

Kept with the rest of the settings, so that `why` can tell "nothing happened" from
"what happened was removed".
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, case, select

from onward.models import Setting, table
from onward.sql import Insert, PerDialect

settings = table(Setting)

EVENTS = "removed_before:events"
DELIVERIES = "removed_before:deliveries"
REPORTS = "removed_before:reports"
LOOKED = "pruned_at"


def _note(insert: Insert) -> Insert:
    statement = insert(settings)
    new = statement.excluded.value
    return statement.on_conflict_do_update(
        index_elements=["name"],
        # Who keeps things for longer from now on does not get the removed ones back.
        set_={"value": case((settings.c.value < new, new), else_=settings.c.value)},
    )


_NOTE = PerDialect(_note)
_READ = select(settings.c.value).where(settings.c.name == bindparam("called"))


def note_moment(transaction: Transaction, name: str, moment: datetime) -> None:
    """Keep a moment under a name; an earlier one than is kept changes nothing."""
    # Always as long, so that texts and moments have the same order.
    row = {"name": name, "value": moment.isoformat(timespec="microseconds")}
    transaction.execute(_NOTE(transaction), row)


def read_moment(transaction: Transaction, name: str) -> datetime | None:
    """Return the moment kept under a name, None when there is none."""
    found = transaction.execute(_READ, {"called": name}).scalar()
    return None if found is None else datetime.fromisoformat(str(found))
