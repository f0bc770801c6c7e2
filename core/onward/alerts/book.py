"""Open and close alerts, in the transaction of what they are about."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection as Transaction
from sqlalchemy import String, bindparam, func, select, text, update

from onward.logs.addresses import without_addresses
from onward.models import Alert, Connection, table
from onward.plain import one_line
from onward.sql import PerDialect

alerts = table(Alert)
connections = table(Connection)

# A sentence, not a page.
LONGEST = 500


class Kind(StrEnum):
    """What an alert is about."""

    PAUSED = "paused"
    """A connection is paused, and not by a person."""
    SEGMENT_PAUSED = "segment_paused"
    """A remote segment is paused; subject: its id."""
    RESTING = "resting"
    """A connection rests again and again."""
    LATE = "late"
    """A push is due and nobody sends it."""
    FAILING = "failing"
    """Too many pushes of a connection fail."""
    PLUGIN_ERROR = "plugin_error"
    """A plugin fails while it pushes."""
    PLUGIN = "plugin"
    """A plugin is not loaded; subject: its name."""
    OUTDATED = "outdated"
    """A process works with an older `onward.toml` that leads elsewhere."""
    SYNC = "sync"
    """A pull fails again and again, or stopped and asks."""
    ERRAND = "errand"
    """Somebody could not be erased or unsubscribed in a service."""
    CLOCK = "clock"
    """A machine's clock is off; subject: its name."""


_NAME = (
    select(connections.c.name)
    .where(connections.c.id == bindparam("of"))
    .scalar_subquery()
)
_OPEN = PerDialect(
    lambda insert: (
        insert(alerts)
        .values(
            connection_id=bindparam("of"),
            connection=func.coalesce(_NAME, ""),
            kind=bindparam("what", type_=String()),
            subject=bindparam("about", type_=String()),
            code=bindparam("word", type_=String()),
            reason=bindparam("why", type_=String()),
            count=1,
            opened_at=bindparam("moment", type_=alerts.c.opened_at.type),
            last_at=bindparam("moment", type_=alerts.c.last_at.type),
        )
        .on_conflict_do_update(
            index_elements=["connection_id", "kind", "subject"],
            index_where=text("closed_at IS NULL"),
            set_={
                "count": alerts.c.count + bindparam("more"),
                "last_at": insert(alerts).excluded.last_at,
                "code": insert(alerts).excluded.code,
                "reason": insert(alerts).excluded.reason,
            },
        )
    )
)
_MINE = (
    alerts.c.connection_id == bindparam("of"),
    alerts.c.kind == bindparam("what"),
    # Literal, so that the partial index fits.
    text("closed_at IS NULL"),
)
_CLOSE_ONE = (
    update(alerts)
    .where(
        alerts.c.connection_id == 0,
        alerts.c.kind == bindparam("what"),
        alerts.c.subject == bindparam("about"),
        alerts.c.closed_at.is_(None),
    )
    .values(closed_at=bindparam("moment"))
)
_CLOSE = (
    update(alerts)
    .where(*_MINE, alerts.c.subject.not_in(bindparam("kept", expanding=True)))
    .values(closed_at=bindparam("moment", type_=alerts.c.closed_at.type))
)
_IS_OPEN = select(alerts.c.id).where(*_MINE).limit(1)


def open_alert(
    transaction: Transaction,
    now: datetime,
    kind: str,
    *,
    connection_id: int = 0,
    subject: str = "",
    code: str = "",
    reason: str = "",
    again: bool = True,
) -> None:
    """Note that somebody should know; one that is open already is counted.

    Who tells it, and when, is decided later, by `alerts.telling`.

    Args:
        connection_id: 0 = it is about none.
        subject: what else it is about, such as a remote segment's id.
        reason: a sentence. E-mail addresses are taken out; secrets must be.
        again: it happened once more; False = it still is so.
    """
    row = {
        "of": connection_id,
        "what": kind,
        "about": subject,
        "word": code,
        "why": plain_reason(reason),
        "moment": now,
        "more": int(again),
    }
    transaction.execute(_OPEN(transaction), row)


def close_alerts(
    transaction: Transaction,
    now: datetime,
    kind: str,
    *,
    connection_id: int = 0,
    keep: Collection[str] = (),
) -> int:
    """Note that it is over; return how many were open.

    Args:
        keep: subjects for which it is not.
    """
    given = {"of": connection_id, "what": kind, "kept": list(keep), "moment": now}
    return transaction.execute(_CLOSE, given).rowcount


def close_alert(
    transaction: Transaction, now: datetime, kind: str, subject: str
) -> None:
    """Note that it is over for one subject, of no connection, if it was open."""
    given = {"what": kind, "about": subject, "moment": now}
    transaction.execute(_CLOSE_ONE, given)


def is_open(transaction: Transaction, kind: str, *, connection_id: int = 0) -> bool:
    """Tell whether there is an open alert of a kind."""
    given = {"of": connection_id, "what": kind}
    return transaction.execute(_IS_OPEN, given).first() is not None


def plain_reason(reason: str) -> str:
    """Return a sentence as an alert may say it: one line, without addresses."""
    said = one_line(without_addresses(reason))
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
