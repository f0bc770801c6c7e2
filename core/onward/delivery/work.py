"""Which connections have work, and working until there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, func, select

from onward.delivery.drain import drain
from onward.models import Connection, Push, table
from onward.runtime import Runtime

pushes = table(Push)
connections = table(Connection)

# Waited out within one `deliver`; what takes longer is left for later.
SHORT = timedelta(seconds=90)

_DUE = (
    select(pushes.c.connection_id, func.min(pushes.c.priority))
    .where(pushes.c.state == "waiting", pushes.c.due_at <= bindparam("moment"))
    .group_by(pushes.c.connection_id)
    .order_by(func.min(pushes.c.priority), pushes.c.connection_id)
)
# Rows a dead worker left behind: only taking the lease brings them back.
_LEFT = select(pushes.c.connection_id).where(pushes.c.state == "sending").distinct()
_NEXT = select(func.min(pushes.c.due_at)).where(pushes.c.state == "waiting")


@dataclass(slots=True)
class Delivery:
    """What `deliver` did.

    Args:
        counts: (state, code) → rows.
        next_at: when there is work again; None when only something new brings it.
        held: connection → why its rows wait for a person.
        resting: connection → (until, why).
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    batches: int = 0
    next_at: datetime | None = None
    held: dict[str, str] = field(default_factory=dict[str, str])
    resting: dict[str, tuple[datetime | None, str]] = field(
        default_factory=dict[str, tuple[datetime | None, str]]
    )


def _always() -> bool:
    return True


def _never() -> bool:
    return False


def connections_with_work(transaction: Transaction, now: datetime) -> list[int]:
    """Return the ids of connections that have due rows, live ones first."""
    found = [row[0] for row in transaction.execute(_DUE, {"moment": now})]
    left = transaction.execute(_LEFT).scalars()
    return found + [of for of in left if of not in found]


def deliver(
    runtime: Runtime,
    *,
    only: Sequence[int] | None = None,
    until_empty: bool = True,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Delivery:
    """Work on every connection that has something due.

    Args:
        only: ids of connections; None = all.
        until_empty: go on until nothing is due; waits out a limit of calls of up
            to a minute and a half, returns where it would take longer.
    """
    done = Delivery()
    stuck: dict[int, datetime | None] = {}
    while True:
        now = runtime.clock()
        with runtime.database.read() as transaction:
            todo = [
                of
                for of in connections_with_work(transaction, now)
                if of not in stuck and (only is None or of in only)
            ]
            names = {
                row.id: row.name
                for row in transaction.execute(
                    select(connections.c.id, connections.c.name)
                )
            }
        wait: timedelta | None = None
        for place, of in enumerate(todo):
            others_wait = _always if place + 1 < len(todo) else _never
            report = drain(
                runtime,
                of,
                others_wait=others_wait,
                on_progress=on_progress,
            )
            done.counts.update(report.counts)
            done.batches += report.batches
            name = names.get(of, str(of))
            if report.stopped == "limit" and report.again_at is not None:
                pause = report.again_at - runtime.clock()
                if pause <= SHORT and until_empty:
                    wait = pause if wait is None else min(wait, pause)
                else:
                    stuck[of] = report.again_at
                    done.resting[name] = (report.again_at, report.why)
            elif report.stopped == "turn":
                continue
            else:
                stuck[of] = report.again_at
                if report.stopped == "paused":
                    done.held[name] = report.why
                elif report.stopped in ("rest", "busy"):
                    done.resting[name] = (report.again_at, report.why)
                elif until_empty and (report.counts or report.batches):
                    # Rows of a paused segment are due and stay: no second look.
                    del stuck[of]
        if not todo or not until_empty:
            break
        if wait is not None:
            runtime.sleep(max(wait.total_seconds(), 0.01))
    with runtime.database.read() as transaction:
        done.next_at = transaction.execute(_NEXT).scalar()
    for until, _ in done.resting.values():
        if until is not None and (done.next_at is None or done.next_at < until):
            done.next_at = until
    return done
