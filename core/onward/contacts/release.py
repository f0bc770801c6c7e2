"""Hold contacts for a transaction; let rows go that waited for an address."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select, update

from onward.models import Contact, Push, table
from onward.sql import unindexed

contacts = table(Contact)
pushes = table(Push)

CHUNK = 500  # stays below every database's limit of parameters

_LOCK = (
    select(contacts.c.id)
    .where(contacts.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(contacts.c.id)
    .with_for_update()
)
# For a push: its contact has an address, or is no longer itself.
HAS_ADDRESS = (
    select(contacts.c.id)
    .where(
        contacts.c.id == pushes.c.contact_id,
        or_(
            contacts.c.email.is_not(None),
            contacts.c.merged_into.is_not(None),
            contacts.c.erased_at.is_not(None),
        ),
    )
    .exists()
)
# Rows that wait for an address and nothing else (no due time) can go now. Those
# of a contact that is no longer itself go too: to be cancelled, not to be sent.
_RELEASE = (
    update(pushes)
    .where(
        pushes.c.contact_id.in_(bindparam("ids", expanding=True)),
        unindexed(pushes.c.state) == "waiting",
        pushes.c.due_at.is_(None),
        HAS_ADDRESS,
    )
    .values(due_at=bindparam("moment"))
)


def lock_contacts(connection: Connection, ids: Collection[int]) -> None:
    """Hold these contacts until the transaction ends, in id order: no deadlock.

    SQLite has one writer, which holds everything anyway.
    """
    if connection.dialect.name == "postgresql":
        ordered = sorted(ids)
        for start in range(0, len(ordered), CHUNK):
            connection.execute(_LOCK, {"ids": ordered[start : start + CHUNK]})


def release(connection: Connection, ids: Collection[int], now: datetime) -> None:
    """Let rows go that waited for an address which their contact has by now.

    Whoever puts a visitor's row back calls this in the same transaction: the
    visitor may have been identified after it was looked at, and then nobody
    else would wake the row.
    """
    lock_contacts(connection, ids)
    ordered = sorted(ids)
    for start in range(0, len(ordered), CHUNK):
        part = ordered[start : start + CHUNK]
        connection.execute(_RELEASE, {"ids": part, "moment": now})
