"""The two audiences that come with a connection."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, func, select

from onward.connections.state import State
from onward.filters import Filter
from onward.models import Audience, Connection, table
from onward.sql import PerDialect

rows = table(Audience)
connections = table(Connection)

# A service may tell its moments without their offset, of an hour that occurs twice in
# autumn: the week is two hours longer, so that nobody falls between.
WEEK = "170h"

_SAME = (
    select(func.count())
    .select_from(connections)
    .where(connections.c.integration == bindparam("key"))
)
_ADD = PerDialect(lambda insert: insert(rows).on_conflict_do_nothing())


def offer(transaction: Transaction, state: State, now: datetime, *, title: str) -> None:
    """Make the audiences of a connection; one whose key is there already stays.

    Whoever calls it remembers that it did: one that was removed is not made again.

    Args:
        title: of the integration. Where it has several connections, the name of this
            one is added.
    """
    alone = transaction.execute(_SAME, {"key": state.integration}).scalar_one() < 2
    called = title if alone else f"{title} ({state.name})"
    known = ["connections", "has", state.name]
    new = [f"{state.name}.created_at", "within", WEEK]
    offered = (
        ("all-contacts", "All Contacts", [known]),
        ("new-this-week", "New This Week", [known, new]),
    )
    made = [
        {
            "key": f"{state.name}-{key}",
            "name": f"{called} \u2013 {name}",
            "conditions": Filter.parse(raw, source=key).plain(),
            "connection_id": state.id,
            "created_at": now,
        }
        for key, name, raw in offered
    ]
    transaction.execute(_ADD(transaction), made)
