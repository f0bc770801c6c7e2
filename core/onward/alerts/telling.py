"""Decide what is told of alerts, and tell it: to the log and to the webhook."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, bindparam, case, func, select, text, update

from onward.alerts import outbox
from onward.alerts.outbox import Message
from onward.alerts.webhook import post
from onward.alerts.words import Document, body, document, told_of
from onward.failpoints import failpoint
from onward.models import Alert, table
from onward.models.delivery import UNTOLD_SQL
from onward.runtime import Runtime

log = logging.getLogger("onward.alerts")

alerts = table(Alert)

# At most so many messages in one go: a slow receiver takes ten seconds for each.
MOST = 20

_UNTOLD = select(alerts).where(text(UNTOLD_SQL)).order_by(alerts.c.id).with_for_update()
_RECENT = select(func.max(alerts.c.told_at), func.max(alerts.c.told_closed_at)).where(
    alerts.c.connection_id == bindparam("of"),
    alerts.c.kind == bindparam("what"),
    alerts.c.subject == bindparam("about"),
)
_TELL = (
    update(alerts)
    .where(alerts.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        told_at=func.coalesce(
            alerts.c.told_at, bindparam("moment", type_=alerts.c.told_at.type)
        ),
        told_closed_at=case(
            (
                alerts.c.closed_at.is_not(None),
                bindparam("moment", type_=alerts.c.told_closed_at.type),
            )
        ),
    )
)

Key = tuple[int, str, str]


def tell(runtime: Runtime) -> None:
    """Tell what is due: each beginning and each end once, flapping in digests.

    Safe to call from anywhere at any time. What two processes decide at the same
    moment is decided once; whoever dies in between is followed by the next, so a
    message may come twice, under the same id.
    """
    runtime.database.run(lambda transaction: gather(runtime, transaction))
    for _ in range(MOST):
        if runtime.ending.is_set():
            return
        message = runtime.database.run(
            lambda transaction: outbox.take(transaction, runtime.clock())
        )
        if message is None or not _tell(runtime, message):
            return


def gather(runtime: Runtime, transaction: Transaction) -> None:
    """Make messages of what nobody was told of, where its time has come."""
    now = runtime.clock()
    untold: dict[Key, list[RowMapping]] = {}
    for row in transaction.execute(_UNTOLD).mappings():
        key = row["connection_id"], row["kind"], row["subject"]
        untold.setdefault(key, []).append(row)
    since = now - runtime.config.alerts.digest
    ready = {
        key: rows
        for key, rows in untold.items()
        if _may_tell(rows, *_recently(transaction, key), since)
    }
    if not ready:
        return
    entries = [_entry(rows) for rows in ready.values()]
    outbox.add(transaction, body(entries, now), now)
    ids = [row["id"] for rows in ready.values() for row in rows]
    transaction.execute(_TELL, {"ids": ids, "moment": now})
    outbox.fold_refused(transaction, now)


def _recently(
    transaction: Transaction, key: Key
) -> tuple[datetime | None, datetime | None]:
    of, what, about = key
    row = transaction.execute(_RECENT, {"of": of, "what": what, "about": about}).one()
    return row[0], row[1]


def _may_tell(
    rows: Sequence[RowMapping],
    began: datetime | None,
    ended: datetime | None,
    since: datetime,
) -> bool:
    """Tell whether changes of one thing are told now, or in the next digest.

    Args:
        began, ended: when a beginning and an end of it were last told.
        since: what was told before that disturbs nobody any more.
    """
    told = [moment for moment in (began, ended) if moment is not None]
    if all(moment <= since for moment in told):
        return True
    # The end of what was told, and the first for a while: good news wait for nothing.
    is_end = len(rows) == 1 and rows[0]["told_at"] is not None
    return is_end and (ended is None or ended <= since)


def _entry(rows: Sequence[RowMapping]) -> Document:
    """Return how something is now, with how often it began when that was hidden."""
    entry = document(dict(rows[-1]))
    began = sum(row["told_at"] is None for row in rows)
    is_plain = len(rows) == 1 and not (began and entry["closed_at"])
    return entry if is_plain else {**entry, "times": began}


def _tell(runtime: Runtime, message: Message) -> bool:
    """Tell one message; say whether the next may be told as well."""
    failpoint("alert_taken")
    if not message.logged:
        _log(message.body)
        runtime.database.run(lambda one: outbox.mark_logged(one, message))
    config = runtime.config.alerts
    problem = post(runtime, message.key, message.body) if config.webhook else ""
    failpoint("alert_sent")
    now = runtime.clock()
    place = config.place if config.webhook else ""
    if not problem:
        last = runtime.database.run(lambda one: outbox.drop(one, message))
        if message.tries and last:
            log.info("the alert webhook %s takes messages again", place)
        return True
    if now - message.created_at > outbox.GIVE_UP:
        runtime.database.run(lambda one: outbox.drop(one, message))
        log.warning(
            "the alert webhook %s took no message for 3 days: %s", place, problem
        )
        return False
    first = runtime.database.run(lambda one: outbox.postpone(one, message, now))
    if first:
        why = "the alert webhook %s took no message: %s; it is tried again"
        log.warning(why, place, problem)
    return False


def _log(said: dict[str, Any]) -> None:
    over = all(alert["closed_at"] for alert in told_of(said))
    words = "; ".join(str(said["text"]).splitlines())
    log.log(logging.INFO if over else logging.WARNING, "%s", words)
