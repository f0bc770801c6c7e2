"""Bring the connections of `onward.toml` into the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import select, update

from onward.alerts.book import Kind, close_alerts
from onward.config.model import ConnectionConfig
from onward.connections.remove import never_used
from onward.connections.state import MANUAL, State
from onward.models import Connection, table
from onward.runtime import Runtime
from onward.sql import PerDialect

rows = table(Connection)

_ADD = PerDialect(lambda insert: insert(rows).on_conflict_do_nothing())


def declare_connections(runtime: Runtime) -> None:
    """Add, change and switch off rows until they match the file.

    A row that is new or changed loses its verification, nothing else: ids,
    cursors and snapshots stay until its identity is known to have changed.
    Costs one SELECT when nothing changed.
    """
    declared = runtime.config.connections
    with runtime.database.read() as transaction:
        known = _known(transaction)
    if all(
        name in known and known[name].declared == config.fingerprint
        for name, config in declared.items()
    ) and all(name in declared or not row.declared for name, row in known.items()):
        return

    def work(transaction: Transaction) -> None:
        known = _known(transaction, hold=True)
        for name, config in declared.items():
            row = known.get(name)
            values = _values(config)
            if row is None:
                new: dict[str, Any] = {
                    "name": name,
                    "created_at": runtime.clock(),
                    "version": 1,
                    "settings": {},
                    "secrets": {},
                    "field_map": {},
                    "identity": "",
                    "rate_key": "",
                    "title": "",
                    "segment_id": "",
                    "remote_fields": [],
                    "paused_code": "",
                    "paused_why": "",
                    "rest_step": 0,
                    **values,
                    **never_used(transaction),
                }
                # Another process may be starting with the same file.
                transaction.execute(_ADD(transaction), new)
            elif row.declared != config.fingerprint:
                # Repaired settings deserve another try: unpause what the
                # settings caused, keep what a person paused by hand.
                if row.paused_code != MANUAL:
                    values |= {"paused_code": "", "paused_why": "", "paused_at": None}
                    close_alerts(
                        transaction, runtime.clock(), Kind.PAUSED, connection_id=row.id
                    )
                transaction.execute(
                    update(rows)
                    .where(rows.c.id == row.id)
                    .values(version=rows.c.version + 1, verified_at=None, **values)
                )
        for name, row in known.items():
            if row.declared and name not in declared:
                transaction.execute(
                    update(rows)
                    .where(rows.c.id == row.id)
                    .values(enabled=False, declared="", version=rows.c.version + 1)
                )

    runtime.database.run(work)


def as_declared(state: State, declared: Mapping[str, ConnectionConfig]) -> State:
    """Return a connection as it will be once the file was taken over."""
    config = declared.get(state.name)
    if config is None:
        return replace(state, enabled=False) if state.declared else state
    if config.fingerprint == state.declared:
        return state
    fresh = replace(
        state,
        integration=config.integration,
        declared=config.fingerprint,
        enabled=config.enabled,
        push_contacts=config.push_contacts,
        segment=config.segment,
        opt_in=config.opt_in,
        unsubscribe_means=config.unsubscribe_means,
        field_map_name=config.field_map,
        pull=config.pull,
        verified_at=None,
    )
    if state.paused_code == MANUAL:
        return fresh
    return replace(fresh, paused_code="", paused_why="", paused_at=None)


def _known(transaction: Transaction, *, hold: bool = False) -> dict[str, Any]:
    wanted = select(rows.c.id, rows.c.name, rows.c.declared, rows.c.paused_code)
    if hold:
        wanted = wanted.order_by(rows.c.id).with_for_update()
    found = transaction.execute(wanted)
    return {row.name: row for row in found}


def _values(config: ConnectionConfig) -> dict[str, Any]:
    return {
        "integration": config.integration,
        "declared": config.fingerprint,
        "enabled": config.enabled,
        "push_contacts": config.push_contacts,
        "options": {
            "segment": config.segment,
            "opt_in": config.opt_in,
            "unsubscribe_means": config.unsubscribe_means,
            "field_map": config.field_map,
            "pull": config.pull.document,
            "limits": [
                [limit.calls, limit.per.total_seconds(), limit.path]
                for limit in config.limits
            ],
        },
    }
