"""Which connections have work, and working until there is none."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    String,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy import Connection as Transaction

from onward.connections.open import LOCAL_PROBLEMS
from onward.delivery.claiming import FLOWING, WAITING
from onward.delivery.drain import Report, drain, lease_name
from onward.delivery.queue import BACKFILL, LIVE
from onward.delivery.repaired import try_paused
from onward.errors import ConfigError
from onward.models import Connection, Lease, Push, table
from onward.runtime import Runtime

log = logging.getLogger("onward.delivery")

pushes = table(Push)
connections = table(Connection)
leases = table(Lease)

# Waited out within one `deliver`; what takes longer is left for later.
SHORT = timedelta(seconds=90)
NAP = timedelta(seconds=1)
# A connection that is alone with its work goes on for so long.
ALONE = timedelta(seconds=5)
NEVER = datetime.min.replace(tzinfo=UTC)

_MINE = (pushes.c.connection_id == connections.c.id, WAITING)
_DUE_NOW = pushes.c.due_at <= bindparam("moment", type_=pushes.c.due_at.type)


def _first_due(
    priority: int, *more: ColumnElement[bool]
) -> ScalarSelect[datetime | None]:
    """Return when the first row of a connection is due, by one look into an index.

    The priority as literal text and by itself: in one query for both, what is due
    later, or never, stands between the database and what is due now. In order,
    because EXISTS lets PostgreSQL walk through all that was ever sent.
    """
    of = pushes.c.priority == literal_column(str(priority))
    return (
        select(pushes.c.due_at)
        .where(*_MINE, of, pushes.c.due_at.is_not(None), FLOWING, *more)
        .order_by(pushes.c.due_at)
        .limit(1)
        .scalar_subquery()
    )


_SERVED = literal(lease_name(""), String).concat(cast(connections.c.id, String))
_DUE = (
    select(
        connections.c.id,
        connections.c.paused_code,
        connections.c.rest_until,
        connections.c.rest_step,
        case(
            (_first_due(LIVE, _DUE_NOW).is_not(None), LIVE),
            (_first_due(BACKFILL, _DUE_NOW).is_not(None), BACKFILL),
        ).label("priority"),
        # Whoever holds the lease releases it into the past: when it was last served.
        leases.c.until.label("served_at"),
    )
    .select_from(connections)
    .outerjoin(leases, leases.c.name == _SERVED)
)
# Rows a dead worker left behind: only taking the lease brings them back. As a range and
# not DISTINCT, or after ANALYZE SQLite, to which one state is most of all rows, walks
# through all of them.
_LEFT = select(pushes.c.connection_id).where(
    pushes.c.state.between(literal_column("'sending'"), literal_column("'sending'"))
)
_NEXT = select(
    connections.c.id,
    connections.c.rest_until,
    _first_due(LIVE),
    _first_due(BACKFILL),
).where(connections.c.paused_code == "")
# Those that wait for an address have no due time; few connections, two ranges each.
_EITHER = pushes.c.priority.in_([literal_column(str(one)) for one in (LIVE, BACKFILL)])
_NO_ADDRESS = select(
    connections.c.id,
    select(func.count())
    .where(*_MINE, _EITHER, pushes.c.due_at.is_(None))
    .scalar_subquery()
    .label("visitors"),
)
_TO_SEND = select(
    connections.c.id,
    select(func.count()).where(*_MINE, _EITHER, _DUE_NOW).scalar_subquery(),
).where(connections.c.paused_code == "")


@dataclass(slots=True)
class Delivery:
    """What `deliver` did.

    Args:
        counts: (state, code) → rows.
        next_at: when there is work again; None when only something new brings it.
        held: connection → why its rows wait for a person.
        resting: connection → (until, why).
        errands: (kind, state, code) → what became of errands.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    batches: int = 0
    next_at: datetime | None = None
    held: dict[str, str] = field(default_factory=dict[str, str])
    resting: dict[str, tuple[datetime | None, str]] = field(
        default_factory=dict[str, tuple[datetime | None, str]]
    )
    errands: Counter[tuple[str, str, str]] = field(
        default_factory=Counter[tuple[str, str, str]]
    )


def connections_with_work(
    transaction: Transaction, now: datetime, *, able: bool = False
) -> dict[int, bool]:
    """Return the connections that have due rows: id → whether live ones are among them.

    Live ones first, then whoever was served longest ago. Those whose last batch
    failed come last: they may cost a time-out each.

    Args:
        able: leave out those that are paused or rest.
    """
    found: list[tuple[bool, int, datetime, int]] = []
    for row in transaction.execute(_DUE, {"moment": now}):
        if row.priority is None:
            continue
        paused = row.paused_code and row.paused_code not in LOCAL_PROBLEMS
        rests = row.rest_until is not None and row.rest_until > now
        if not able or not (paused or rests):
            failed, served_at = row.rest_step > 0, row.served_at or NEVER
            found.append((failed, row.priority, served_at, row.id))
    work = {of: priority == LIVE for _, priority, _, of in sorted(found)}
    for of in sorted(set(transaction.execute(_LEFT).scalars())):
        work.setdefault(of, False)
    return work


def next_at(transaction: Transaction) -> datetime | None:
    """Return when something can be sent next; what is held does not count."""
    moments = [
        max(due, until) if until is not None else due
        for _, until, *dues in transaction.execute(_NEXT)
        for due in dues
        if due is not None
    ]
    return min(moments, default=None)


def count_visitors(transaction: Transaction) -> int:
    """Count the rows that have no due time until somebody says who they are."""
    return sum(visitors for _, visitors in transaction.execute(_NO_ADDRESS))


def count_due(transaction: Transaction, now: datetime) -> int:
    """Count the rows that are due on connections that are not paused."""
    found = transaction.execute(_TO_SEND, {"moment": now})
    return sum(count for _, count in found)


def deliver(
    runtime: Runtime,
    *,
    only: Collection[int] | None = None,
    until_empty: bool = True,
    on_progress: Callable[[int], None] = lambda rows: None,
    keep_time: Callable[[], None] = lambda: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Delivery:
    """Work on every connection that has something due.

    A connection whose drain fails does not keep the others from theirs; its error
    is raised at the end.

    Args:
        only: ids of connections; None = all.
        until_empty: go on until nothing is due; waits up to a minute and a half for
            calls, or for a worker that died holding a connection, and returns where
            it would take longer.
        keep_time: called between connections, to go by the right clock.
        stopping: when it says so, what is being sent ends and nothing more begins.

    Raises:
        ConfigError: this process may not send now.
    """
    if runtime.unfit:
        raise ConfigError(runtime.unfit)
    if only is None:
        try_paused(runtime)
    work = _Deliver(runtime, only, until_empty, on_progress, keep_time, stopping)
    while work.round() and (until_empty or work.unfinished):
        work.wait()
    with runtime.database.read() as transaction:
        work.done.next_at = next_at(transaction)
    if work.failure is not None:
        raise work.failure
    return work.done


class _Deliver:
    def __init__(
        self,
        runtime: Runtime,
        only: Collection[int] | None,
        until_empty: bool,
        on_progress: Callable[[int], None],
        keep_time: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.runtime = runtime
        self.only = only
        self.until_empty = until_empty
        self.on_progress = on_progress
        self.keep_time = keep_time
        self.stopping = stopping
        self.done = Delivery()
        self.failure: Exception | None = None
        # Not worth another look in this call.
        self.over: set[int] = set()
        # Taken by another worker until then, when first met.
        self.taken: dict[int, datetime] = {}
        self.pause: timedelta | None = None
        # Somebody stopped in this round because others waited.
        self.unfinished = False

    def round(self) -> bool:
        """Drain every connection once; tell whether there may be more to do."""
        self.pause, self.unfinished = None, False
        todo, names = self._todo()
        for of in todo:
            self.keep_time()
            if self.runtime.unfit:
                raise ConfigError(self.runtime.unfit)
            if self.stopping():
                return False
            try:
                report = drain(
                    self.runtime,
                    of,
                    others_wait=self._others(todo),
                    stopping=self.stopping,
                    on_progress=self.on_progress,
                )
            except Exception as error:
                name = names.get(of, str(of))
                log.exception("%s: the drain failed", name)
                self.failure = self.failure or error
                self.over.add(of)
            else:
                self._take_in(of, names.get(of, str(of)), report)
        return bool(todo) and not self.stopping()

    def _others(self, todo: Sequence[int]) -> Callable[[], bool]:
        """Return what tells a drain whether others wait.

        When it is alone, somebody else may have got work since: it looks up.
        """
        alone, clock = len(todo) == 1, self.runtime.clock
        until = clock() + ALONE
        return lambda: not alone or clock() >= until

    def wait(self) -> None:
        """Sleep until the first of those that can be waited for is worth a look."""
        left = self.pause or timedelta()
        while left > timedelta() and not self.stopping():
            nap = min(left, NAP)
            self.runtime.sleep(max(nap.total_seconds(), 0.01))
            left -= nap

    def _todo(self) -> tuple[Sequence[int], dict[int, str]]:
        with self.runtime.database.read() as transaction:
            found = connections_with_work(transaction, self.runtime.clock())
            rows = transaction.execute(select(connections.c.id, connections.c.name))
            names = {row.id: row.name for row in rows}
        todo = [
            of
            for of in found
            if of not in self.over and (self.only is None or of in self.only)
        ]
        return todo, names

    def _take_in(self, of: int, name: str, report: Report) -> None:
        done = self.done
        done.counts.update(report.counts)
        done.batches += report.batches
        for segment, why in report.held.items():
            done.held[f"{name}, {segment}"] = why
        pause = None
        if report.again_at is not None:
            pause = report.again_at - self.runtime.clock()
        match report.stopped:
            case "turn":
                self.unfinished = True
                return
            case "limit" if pause is not None and pause <= SHORT and self.until_empty:
                self._wait_for(pause)
                return
            case "busy" if self._may_be_dead(of, report):
                self._wait_for(min(pause or NAP, NAP))
                return
            case "empty" if report.batches or report.counts:
                return
            case "paused":
                done.held[name] = report.why
            case "rest" | "busy" | "limit":
                done.resting[name] = (report.again_at, report.why)
            case _:
                pass
        self.over.add(of)

    def _may_be_dead(self, of: int, report: Report) -> bool:
        """Tell whether it is worth waiting for another worker's lease to end.

        One that is renewed meanwhile belongs to somebody alive.
        """
        until = report.again_at
        if until is None or not self.until_empty:
            return False
        first = self.taken.setdefault(of, until)
        now = self.runtime.clock()
        return until == first and until + NAP > now and until - now <= SHORT

    def _wait_for(self, pause: timedelta) -> None:
        pause = max(pause, timedelta(milliseconds=10))
        self.pause = pause if self.pause is None else min(self.pause, pause)
