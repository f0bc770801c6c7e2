"""Take a connection out of the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, func, select, text, update

from onward.connections.state import State
from onward.errands.queue import cancel_for_connection
from onward.errors import InputError
from onward.filters.names import connections_of
from onward.models import (
    Connection,
    Hint,
    Memory,
    Push,
    RemoteContactRow,
    RemoteSegmentRow,
    Setting,
    SyncPlan,
    Webhook,
    table,
)
from onward.models.delivery import OPEN_SQL
from onward.runtime import Runtime
from onward.sql import PerDialect
from onward.sync.runs import cancel_runs

pushes = table(Push)
settings = table(Setting)
rows = table(Connection)

# What was delivered still says where it went.
_REMOVED = "removed_connection:"


def _remember(insert: Any) -> Any:
    statement = insert(settings)
    return statement.on_conflict_do_update(
        index_elements=["name"], set_={"value": statement.excluded.value}
    )


REMEMBER = PerDialect(_remember)


def removed_names(transaction: Transaction) -> dict[int, str]:
    """Return what connections that were removed had been called: id → name."""
    found = transaction.execute(
        select(settings.c.name, settings.c.value).where(
            settings.c.name.startswith(_REMOVED, autoescape=True)
        )
    )
    return {int(row.name.removeprefix(_REMOVED)): row.value for row in found}


def never_used(transaction: Transaction) -> dict[str, int]:
    """Return the id of a new connection as a value to insert.

    SQLite gives the highest number again once its row is gone, and what was
    delivered by the removed one would be the new one's.
    """
    if transaction.dialect.name != "sqlite":
        return {}
    highest = transaction.execute(select(func.max(rows.c.id))).scalar() or 0
    return {"id": max([highest, *removed_names(transaction)]) + 1}


def remove_connection(runtime: Runtime, state: State) -> int:
    """Forget a connection; return how many pushes were cancelled.

    What was delivered stays in the listing, opt-outs learned from it stay too.

    Raises:
        InputError: `onward.toml` declares it, a rule or trigger pushes to it, or a
            condition there names it.
    """
    if state.declared:
        raise InputError(
            f"{state.name} is declared in onward.toml; remove [connections."
            f"{state.name}] there"
        )
    config = runtime.config
    users = [
        f"the {what} {one.key}"
        for what, ones in (
            ("rule", config.rules),
            ("point trigger", config.point_triggers),
        )
        for one in ones
        if any(to.connection == state.name for to in one.push_to)
    ]
    if users:
        raise InputError(
            f"{state.name} is in use: {', '.join(users)} would push to nothing; "
            "change onward.toml first"
        )
    asking = [
        f"the {what} {one.key}"
        for what, ones in (("rule", config.rules), ("audience", config.audiences))
        for one in ones
        if state.name in connections_of(one.conditions)
    ]
    if asking:
        raise InputError(
            f"{state.name} is in use: {', '.join(asking)} would ask about nothing; "
            "change onward.toml first"
        )

    def work(transaction: Transaction) -> int:
        cancelled = transaction.execute(
            update(pushes)
            .where(
                pushes.c.connection_id == state.id,
                text(OPEN_SQL),
            )
            .values(
                state="cancelled",
                code="connection_removed",
                reason=f'the connection "{state.name}" was removed',
                finished_at=runtime.clock(),
                due_at=None,
            )
        ).rowcount
        cancel_for_connection(
            transaction,
            state.id,
            "connection_removed",
            f'the connection "{state.name}" was removed',
            runtime.clock(),
        )
        why = "the connection was removed"
        cancel_runs(transaction, state.id, runtime.clock(), why)
        for kept in (
            RemoteContactRow,
            RemoteSegmentRow,
            Memory,
            Hint,
            SyncPlan,
            Webhook,
        ):
            known = table(kept)
            transaction.execute(delete(known).where(known.c.connection_id == state.id))
        transaction.execute(delete(rows).where(rows.c.id == state.id))
        called = {"name": f"{_REMOVED}{state.id}", "value": state.name}
        transaction.execute(REMEMBER(transaction), called)
        return cancelled

    return runtime.database.run(work)
