"""Counts and times what this process does."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter as Tally
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from onward import __version__
from onward.instrument import Batch, Call, Drain, Sweep, Work
from onward.metrics import names

# Seconds. Services answer within these, and give up at 30.
BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SHORT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)
LONG_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# Integrations choose codes; one that made them up as it goes would fill a server.
MOST_CODES = 100
OTHER = "other"
_CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,47}|")


class Meter:
    """An instrument of Prometheus metrics.

    Args:
        database: which kind, for `onward_build_info`.
    """

    def __init__(self, registry: CollectorRegistry, *, database: str) -> None:
        def counter(of: names.Metric) -> Counter:
            return Counter(of.name, of.meaning, of.labels, registry=registry)

        def histogram(of: names.Metric, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                of.name, of.meaning, of.labels, registry=registry, buckets=buckets
            )

        self._deliveries = counter(names.DELIVERIES)
        self._attempts = counter(names.ATTEMPTS)
        self._waited = counter(names.WAITED)
        self._drains = counter(names.DRAINS)
        self._failed = counter(names.FAILED)
        self._batch = histogram(names.BATCH, LONG_BUCKETS)
        self._call = histogram(names.CALL, BUCKETS)
        self._sweep = histogram(names.SWEEP, SHORT_BUCKETS)
        build = names.BUILD
        info = Gauge(build.name, build.meaning, build.labels, registry=registry)
        info.labels(__version__, database).set(1)
        self._lock = threading.Lock()
        self._codes: dict[str, set[str]] = {}
        self._running: list[Drain] = []
        # Connection → since when it waits for the limit.
        self._limited: dict[int, float] = {}
        registry.register(self)

    # -- what the registry asks

    def describe(self) -> list[Metric]:
        """Return what `collect` makes, without its samples."""
        return [GaugeMetricFamily(names.RUNNING.name, names.RUNNING.meaning)]

    def collect(self) -> list[Metric]:
        """Return what is worked on now; a drain learns its name after it began."""
        of = names.RUNNING
        family = GaugeMetricFamily(of.name, of.meaning, labels=of.labels)
        with self._lock:
            for name in sorted({work.connection for work in self._running} - {""}):
                family.add_metric([name], 1)
        return [family]

    # -- what the core says

    @contextmanager
    def watch(self, work: Work) -> Generator[None]:
        """Time it."""
        started = time.perf_counter()
        if isinstance(work, Drain):
            self._begun(work, started)
        failed = True
        try:
            yield
            failed = False
        finally:
            self._ended(work, time.perf_counter() - started, failed=failed)

    def _begun(self, work: Drain, now: float) -> None:
        with self._lock:
            self._running.append(work)

    def _ended(self, work: Work, seconds: float, *, failed: bool) -> None:
        match work:
            case Call():
                status = f"{work.status // 100}xx" if work.status else "none"
                self._call.labels(work.connection, work.method, status).observe(seconds)
            case Batch():
                self._batch.labels(work.connection, work.kind).observe(seconds)
                if work.attempt_id is not None:
                    self._attempts.labels(work.connection, work.kind).inc()
            case Drain():
                self._drained(work, seconds)
            case Sweep():
                self._sweep.observe(seconds)
                if failed:
                    self._failed.inc()

    def _drained(self, work: Drain, seconds: float) -> None:
        now = time.perf_counter()
        with self._lock:
            self._running.remove(work)
            since = self._limited.pop(work.connection_id, None)
            if work.stopped == "limit":
                self._limited[work.connection_id] = now
        if since is not None:
            self.waited(work.connection, max(now - seconds - since, 0))
        self._drains.labels(work.connection, work.stopped or "failed").inc()

    def settled(self, connection: str, ends: Iterable[tuple[str, str]]) -> None:
        """Count by state and code."""
        for (state, code), number in Tally(ends).items():
            known = self._known(connection, code)
            self._deliveries.labels(connection, state, known).inc(number)

    def _known(self, connection: str, code: str) -> str:
        with self._lock:
            known = self._codes.setdefault(connection, set())
            if code not in known:
                if len(known) >= MOST_CODES or not _CODE.fullmatch(code):
                    return OTHER
                known.add(code)
        return code

    def waited(self, connection: str, seconds: float) -> None:
        """Add it up."""
        self._waited.labels(connection).inc(seconds)
