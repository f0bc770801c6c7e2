"""`onward worker` processes on PostgreSQL: one against the bare loop, three to one.

A connection is paused before the workers start, and resumed when all of them run
and listen: the clock begins just before that and ends when no row is open, so no
start of a process is on it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from sqlalchemy import update

from benchmarks.delivery import RUNS_LOST, Recorder, Store, deliver, replay
from benchmarks.dummy import Dummy
from benchmarks.measure import Section, at_least, interleave, rate, ratio, say
from benchmarks.postgres import Postgres
from benchmarks.processes import PATIENCE_S, cpu_of, drop_in, run, worker
from benchmarks.services import (
    BATCH,
    IN_FLIGHT,
    OneAtATime,
    OnePost,
    ThreeCalls,
    open_app,
    write_config,
)
from onward.connections.state import MANUAL, resume
from onward.models import Connection, table
from onward.waking import wake

connections = table(Connection)

FLOORS = {"embedded": 0.5, "cluster": 0.35}
LATENCY_MS = 50
MANY, SLOW_MS, WORKERS, TIMES = 30, 500, 3, 2.5
# Batches for each of the many: one turn of ten, and a short one.
BATCHES = 12
POLL_S = 0.02
LONGEST_S = 600.0

_LISTENING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query = 'LISTEN onward'"
)
_GOES_ON = (
    "SELECT EXISTS (SELECT 1 FROM push"
    " WHERE state IN ('waiting', 'sending', 'submitted')),"
    " EXISTS (SELECT 1 FROM connection WHERE rest_until IS NOT NULL)"
)
_DELIVERED = (
    "SELECT count(*) FILTER (WHERE state = 'delivered'), count(*),"
    " (SELECT count(*) FROM attempt) FROM push"
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workers that deliver what a store has queued.

    Args:
        rows: that are queued, over all connections.
    """

    store: Store
    rows: int
    server: Postgres
    engine: str = "embedded"
    workers: int = 1

    def deliver(self, cpu: list[float]) -> float:
        """Deliver a copy of what is queued; return rows a second.

        Args:
            cpu: the seconds of processor a batch took, of all workers, are added.
        """
        for _ in range(RUNS_LOST):
            with self.store.copy() as folder:
                found = self._deliver(folder)
            if found is not None:
                cpu.append(found[1])
                return self.rows / found[0]
            say("    a request was lost, once more")
        raise AssertionError("the dummy server loses requests")

    def _deliver(self, folder: Path) -> tuple[float, float] | None:
        """Return seconds, and those of processor a batch; None = something rests."""
        drop_in(folder)
        if self.engine != "embedded":
            path = folder / "onward.toml"
            line = f'[onward]\nengine = "{self.engine}"'
            path.write_text(path.read_text().replace("[onward]", line, 1))
            made = run(folder, "db", "upgrade")
            assert made.code == 0, made.said
        app = open_app(folder)
        runtime = app.runtime
        # `pause` itself would log each of them.
        hold = (
            update(connections).values(paused_code=MANUAL).returning(connections.c.id)
        )
        ids: list[int] = sorted(
            runtime.database.run(lambda t: list(t.execute(hold).scalars()))
        )
        with ExitStack() as stack:
            stack.callback(app.close)
            place = stack.enter_context(self.server.connect("bench_run"))
            place.autocommit = True
            processes = [
                stack.enter_context(worker(folder, f"worker{number}"))
                for number in range(self.workers)
            ]
            _wait_until_listening(place, self.workers)
            busy = sum(cpu_of(process.pid) for process in processes)
            started = time.perf_counter()
            for one in ids:
                resume(runtime, one)
            wake(runtime, ids)
            if not _wait_until_sent(place):
                return None
            took = time.perf_counter() - started
            busy = sum(cpu_of(process.pid) for process in processes) - busy
            delivered, rows, batches = _row(place, _DELIVERED)
            assert delivered == rows == self.rows, (delivered, rows, self.rows)
        return took, busy / batches


def _row(place: psycopg.Connection, statement: str) -> tuple[int, ...]:
    found = place.execute(statement.encode()).fetchone()
    assert found is not None
    return found


def _wait_until_listening(place: psycopg.Connection, workers: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while _row(place, _LISTENING)[0] < workers:
        assert time.monotonic() < until, "a worker does not listen"
        time.sleep(POLL_S)


def _wait_until_sent(place: psycopg.Connection) -> bool:
    """Tell whether all was sent; False = a connection rests, a request was lost."""
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        goes_on, rests = _row(place, _GOES_ON)
        if rests:
            return False
        if not goes_on:
            return True
        time.sleep(POLL_S)
    raise AssertionError("the workers do not come to an end")


def write_many(folder: Path, *, integration: str, url: str, database: str) -> None:
    """Configure many connections, each of an account of its own, and one rule."""
    write_config(folder, integration=integration, url=url, database=database)
    path = folder / "onward.toml"
    head = path.read_text().partition("[connections.dummy]")[0]
    names = [f"c{number:02d}" for number in range(MANY)]
    tables = [
        f'[connections.{name}]\nintegration = "{integration}"\n'
        f'segment = "Newsletter"\nsettings = {{ url = "{url}/{name}" }}\n'
        for name in names
    ]
    rule = f'[[rules]]\nkey = "forms"\nwhen = "form.submitted"\npush_to = {names}\n'
    path.write_text(head + "\n".join([*tables, rule]), encoding="utf-8")


@contextmanager
def _stage() -> Iterator[tuple[Path, Dummy]]:
    with tempfile.TemporaryDirectory(prefix="onward-bench-") as name, Dummy() as dummy:
        yield Path(name), dummy


def measure(rows: int, runs: int, server: Postgres) -> Section:
    """Compare one worker with the bare loop, with both engines and services."""
    section = Section(
        f"One `onward worker` delivering {rows:,} queued contacts, PostgreSQL",
        (
            "engine and service",
            "requests",
            "Onward",
            "CPU a batch",
            "bare loop",
            "ratio",
            "at least",
            "",
        ),
    )
    with _stage() as (folder, dummy):
        for integration in (OnePost, ThreeCalls):
            store = Store(folder, rows, server)
            store.fill(integration.key, dummy.url(LATENCY_MS))
            recorder = Recorder()
            deliver(store, rows, [], recorder)
            for engine, floor in FLOORS.items():
                say(f"  {engine}, {integration.title}, {LATENCY_MS} ms")
                fleet = Fleet(store, rows, server, engine)
                cpu: list[float] = []
                pairs = interleave(
                    partial(fleet.deliver, cpu),
                    partial(replay, recorder.requests, rows),
                    runs,
                )
                section.rows.append(
                    (
                        f"{engine}, {integration.title}, {LATENCY_MS} ms",
                        f"{len(recorder.requests):,}",
                        rate(pairs.ours),
                        _milliseconds(cpu),
                        rate(pairs.other),
                        ratio(pairs.ratios),
                        f"{floor:.2f}",
                        at_least(pairs.ratio, floor),
                    )
                )
            store.remove()
    section.notes.append(
        f"Rows a second, batches of {BATCH}, {IN_FLIGHT} requests in flight, one "
        "process of the command line. Its connection is paused until it runs and "
        "listens; the clock begins when it is resumed and ends when no row is open, "
        f"which is asked every {POLL_S * 1000:.0f} ms. CPU is the worker's, without "
        "PostgreSQL's. The bare loop is that of `delivery`."
    )
    return section


def measure_many(batches: int, runs: int, server: Postgres) -> Section:
    """Compare three workers with one, over many connections."""
    each = batches * OneAtATime.batch_size
    rows = each * MANY
    section = Section(
        f"{WORKERS} workers and one, {MANY} connections of {each:,} queued contacts "
        "each, PostgreSQL",
        (
            "service",
            f"{WORKERS} workers",
            "CPU a batch",
            "1 worker",
            "CPU a batch",
            "ratio",
            "at least",
            "",
        ),
    )
    with _stage() as (folder, dummy):
        say(f"  {WORKERS} workers and one, {MANY} connections, {SLOW_MS} ms")
        store = Store(folder, each, server, write_many)
        store.fill(OneAtATime.key, dummy.url(SLOW_MS))
        alone = Fleet(store, rows, server)
        several = Fleet(store, rows, server, workers=WORKERS)
        cpu: Sequence[list[float]] = ([], [])
        pairs = interleave(
            partial(several.deliver, cpu[0]), partial(alone.deliver, cpu[1]), runs
        )
        store.remove()
    section.rows.append(
        (
            f"{OneAtATime.title}, {SLOW_MS} ms",
            rate(pairs.ours),
            _milliseconds(cpu[0]),
            rate(pairs.other),
            _milliseconds(cpu[1]),
            ratio(pairs.ratios),
            f"{TIMES}",
            at_least(pairs.ratio, TIMES),
        )
    )
    section.notes.append(
        f"Rows a second, batches of {OneAtATime.batch_size}, one request of a "
        "connection at a time; the engine is the embedded one, as wide as it is by "
        "default (4 connections at once in each worker). All connections are paused "
        "until all workers run and listen, then resumed one after the other. The "
        "batches are small so that the service's time decides: with 100 a batch three "
        "workers, PostgreSQL and the server want more than two cores."
    )
    return section


def _milliseconds(cpu: Sequence[float]) -> str:
    return f"{statistics.median(cpu) * 1000:.0f} ms"
