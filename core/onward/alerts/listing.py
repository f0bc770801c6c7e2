"""Alerts for people, the newest last."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection as Transaction
from sqlalchemy import select

from onward.alerts.words import Document, document
from onward.models import Alert, table

alerts = table(Alert)


def list_alerts(
    transaction: Transaction, *, only_open: bool = False
) -> Iterator[Document]:
    """Yield alerts as plain data; see `document`."""
    wanted = select(alerts).order_by(alerts.c.id)
    if only_open:
        wanted = wanted.where(alerts.c.closed_at.is_(None))
    for row in transaction.execute(wanted).mappings():
        yield document(dict(row))
