"""Erasing somebody in the services they are known in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import and_, delete, select

from onward.errands.queue import ERASE, Order, queue_errands, supersede
from onward.integrations import can
from onward.models import Connection, Hint, RemoteContactRow, table
from onward.remote import ANYWHERE, DELETED
from onward.runtime import Runtime
from onward.sql import unindexed

connections = table(Connection)
remote_contacts = table(RemoteContactRow)
hints = table(Hint)


@dataclass(frozen=True, slots=True)
class There:
    """What is done about a person in one service.

    Args:
        connection: its name.
        queued: remote contacts that a worker erases, or at least unsubscribes.
        method: `erase`, `unsubscribe`, or "" for neither.
        by_hand: ids of remote contacts that somebody has to look after there.
        words: what remains to be done, "" when nothing does.
    """

    connection: str
    queued: int
    method: str
    by_hand: tuple[str, ...] = ()
    words: str = ""


def erase_there(
    runtime: Runtime,
    transaction: Transaction,
    ids: Sequence[int],
    addresses: Sequence[str],
    now: datetime,
    *,
    asked_by: str,
    keep: bool,
) -> tuple[list[There], list[str]]:
    """Queue erasing a person wherever they are known, and forget where that is.

    Args:
        ids: their contacts; what a service has of nobody's under one of the
            addresses is theirs as well.
        keep: leave the services as they are.

    Returns:
        What is done in each, and all remote ids.
    """
    found = list(_known(transaction, ids, addresses))
    by_connection: dict[int, list[tuple[str, int]]] = {}
    for row in found:
        if row.status != DELETED:
            known = by_connection.setdefault(row.connection_id, [])
            known.append((row.remote_id, row.contact_id))
        here = (row.connection_id, row.remote_id)
        for rows in (remote_contacts, hints):
            same = (rows.c.connection_id == here[0], rows.c.remote_id == here[1])
            transaction.execute(delete(rows).where(*same))
    names = {
        row.id: row
        for row in transaction.execute(
            select(
                connections.c.id, connections.c.name, connections.c.integration
            ).where(connections.c.id.in_(by_connection))
        )
    }
    done: list[There] = []
    orders: list[Order] = []
    for of, known in by_connection.items():
        remote_ids = tuple(id_ for id_, _ in known)
        there = _what(runtime, names[of].name, names[of].integration, remote_ids, keep)
        done.append(there)
        if there.queued:
            orders += [Order(of, contact, id_, ERASE) for id_, contact in known]
    queue_errands(transaction, orders, asked_by, now)
    able = {one.connection for one in done if one.method == "erase"}
    named = {of: row.name for of, row in names.items()}
    supersede(
        transaction, [one for one in orders if named[one.connection_id] in able], now
    )
    return sorted(done, key=lambda one: one.connection), [
        row.remote_id for row in found
    ]


def _known(
    transaction: Transaction, ids: Sequence[int], addresses: Sequence[str]
) -> Iterator[Any]:
    rows = remote_contacts.c
    # Two statements, each with an index of its own.
    for condition in (
        rows.contact_id.in_(ids),
        and_(rows.email.in_(addresses), unindexed(rows.contact_id) == 0),
    ):
        yield from transaction.execute(
            select(rows.connection_id, rows.remote_id, rows.contact_id, rows.status)
            .where(ANYWHERE, condition)
            .order_by(rows.connection_id, unindexed(rows.remote_id))
            .with_for_update()
        ).all()


def _what(
    runtime: Runtime,
    name: str,
    integration: str,
    remote_ids: tuple[str, ...],
    keep: bool,
) -> There:
    count = len(remote_ids)
    kind = runtime.plugins.integrations.get(integration)
    if keep:
        return There(name, 0, "", words="left as it is there, as you asked")
    if kind is None or can(kind, "erase"):
        # A plugin that is not loaded here may be where the worker runs.
        return There(name, count, "erase")
    listed = ", ".join(remote_ids)
    if can(kind, "unsubscribe"):
        why = f"{kind.title} can only unsubscribe: delete {listed} there by hand"
        return There(name, count, "unsubscribe", remote_ids, why)
    why = f"nothing can be asked of {kind.title}: delete {listed} there by hand"
    return There(name, 0, "", remote_ids, why)
