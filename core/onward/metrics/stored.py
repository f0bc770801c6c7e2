"""What the database knows of the queue, read when somebody asks for metrics."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, case, func, literal_column, select
from sqlalchemy.exc import SQLAlchemyError

from onward.delivery.claiming import SENDING, WAITING, next_due
from onward.delivery.drain import lease_name
from onward.metrics import names
from onward.models import (
    Connection,
    Errand,
    Job,
    Lease,
    Push,
    RemoteSegmentRow,
    table,
)
from onward.runtime import Runtime

log = logging.getLogger("onward.metrics")

pushes = table(Push)
connections = table(Connection)
segments = table(RemoteSegmentRow)
leases = table(Lease)
jobs = table(Job)
errands = table(Errand)

LEAST_S = 5.0
# Reading takes at most this part of the time.
SHARE = 20

_DUE = func.coalesce(
    func.sum(case((pushes.c.due_at <= bindparam("moment"), 1), else_=0)), 0
)
# One walk over the partial index of what waits, which holds all of it.
QUEUE = (
    select(
        pushes.c.connection_id.label("of"),
        func.count().label("waiting"),
        func.count(pushes.c.due_at).label("timed"),
        _DUE.label("due"),
        func.min(pushes.c.due_at).label("oldest"),
    )
    .where(WAITING)
    .group_by(pushes.c.connection_id)
)
ON_ITS_WAY = (
    select(pushes.c.connection_id, func.count())
    .where(SENDING)
    .group_by(pushes.c.connection_id)
)
HELD = (
    select(
        pushes.c.connection_id.label("of"),
        func.count().label("waiting"),
        func.count(pushes.c.due_at).label("timed"),
        _DUE.label("due"),
    )
    .select_from(segments)
    .join(
        pushes,
        (pushes.c.connection_id == segments.c.connection_id)
        & (pushes.c.segment == segments.c.id),
    )
    .where(WAITING, segments.c.paused_why != "")
    .group_by(pushes.c.connection_id)
)
_ANY_HELD = select(segments.c.id).where(segments.c.paused_why != "").limit(1)
_CONNECTIONS = select(
    connections.c.id,
    connections.c.name,
    connections.c.paused_code,
    connections.c.rest_until,
).order_by(connections.c.name)
_LEASES = select(leases.c.name, leases.c.until, leases.c.holder).where(
    leases.c.until > bindparam("moment", type_=leases.c.until.type)
)
_JOBS = select(jobs.c.kind, jobs.c.key, jobs.c.done, jobs.c.total).where(
    jobs.c.state == literal_column("'running'")
)

_ERRANDS = (
    select(connections.c.name, errands.c.kind, errands.c.state, func.count())
    .join(connections, connections.c.id == errands.c.connection_id)
    .where(errands.c.state.in_(["waiting", "failed"]))
    .group_by(connections.c.name, errands.c.kind, errands.c.state)
)

Sample = tuple[tuple[str, ...], float]


@dataclass(slots=True)
class Found:
    """Samples by metric, and when and how fast they were read."""

    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    read_at: float = 0.0
    took_s: float = 0.0

    def add(self, of: names.Metric, value: float, *labels: str) -> None:
        """Add one sample."""
        self.samples.setdefault(of.name, []).append((labels, value))


class Stored:
    """A collector of what stands in the database; kept for a short time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._found: Found | None = None

    def describe(self) -> list[Metric]:
        """Return what `collect` makes, without its samples."""
        return _families({})

    def collect(self) -> list[Metric]:
        """Return all samples; without the database only that it is away."""
        with self._lock:
            found = self._found
            now = time.monotonic()
            if found is None or now - found.read_at >= max(
                LEAST_S, found.took_s * SHARE
            ):
                self._found = found = self._read(now)
        return _families(found.samples)

    def _read(self, started: float) -> Found:
        found = Found()
        try:
            with self._runtime.database.read() as transaction:
                read(transaction, self._runtime.clock(), found)
        except SQLAlchemyError as error:
            log.warning("the queue cannot be read: %s", type(error).__name__)
            found.samples.clear()
            found.add(names.DATABASE, 0)
        else:
            found.add(names.DATABASE, 1)
        found.read_at = time.monotonic()
        found.took_s = found.read_at - started
        found.add(names.READING, found.took_s)
        return found


def _families(samples: Mapping[str, Sequence[Sample]]) -> list[Metric]:
    families: list[Metric] = []
    for of in names.METRICS:
        if of.stored:
            family = GaugeMetricFamily(of.name, of.meaning, labels=of.labels)
            for labels, value in samples.get(of.name, ()):
                family.add_metric(labels, value)
            families.append(family)
    return families


def read(transaction: Transaction, now: datetime, found: Found) -> None:
    """Read everything in one transaction."""
    moment = {"moment": now}
    queued = {row.of: row for row in transaction.execute(QUEUE, moment)}
    way: dict[int, int] = {row[0]: row[1] for row in transaction.execute(ON_ITS_WAY)}
    held: dict[int, Any] = {}
    if transaction.execute(_ANY_HELD).first() is not None:
        held = {row.of: row for row in transaction.execute(HELD, moment)}
    held_by = {row.name: row for row in transaction.execute(_LEASES, moment)}
    for of, name, paused, rest_until in transaction.execute(_CONNECTIONS).all():
        row, some = queued.get(of), held.get(of)
        waiting, timed, due = _counts(row)
        oldest = None if row is None else row.oldest
        kept = _counts(some)
        if paused:
            kept, oldest = (waiting, timed, due), None
        elif some is not None:
            oldest = next_due(transaction, of)
        states = {
            "due": due - kept[2],
            "scheduled": timed - due - (kept[1] - kept[2]),
            "held": kept[0],
            "no_email": waiting - timed - (kept[0] - kept[1]),
            "sending": way.get(of, 0),
        }
        for state, number in states.items():
            found.add(names.QUEUE, number, name, state)
        found.add(names.OLDEST, _seconds(now, oldest), name)
        found.add(names.PAUSED, float(bool(paused)), name, paused)
        found.add(names.REST, _seconds(rest_until, now), name)
        lease = held_by.get(lease_name(of))
        if lease is not None:
            found.add(names.LEASE, _seconds(lease.until, now), name, lease.holder)
    for name, kind, state, number in transaction.execute(_ERRANDS):
        found.add(names.ERRANDS, number, name, kind, state)
    for kind, key, done, total in transaction.execute(_JOBS):
        found.add(names.BACKFILL, done, kind, key, "done")
        found.add(names.BACKFILL, total, kind, key, "all")


def _counts(row: Any) -> tuple[int, int, int]:
    """Return how many wait, have a due time, and are due; `row` may be None."""
    return (0, 0, 0) if row is None else (row.waiting, row.timed, int(row.due))


def _seconds(later: datetime | None, earlier: datetime | None) -> float:
    if later is None or earlier is None:
        return 0.0
    return max((later - earlier).total_seconds(), 0.0)
