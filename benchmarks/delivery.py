"""Queued -> delivered rows a second, against a loop that replays the same requests."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.dummy import Dummy
from benchmarks.measure import Section, at_least, interleave, rate, ratio, say
from benchmarks.postgres import Postgres
from benchmarks.services import (
    BATCH,
    IN_FLIGHT,
    OnePost,
    ThreeCalls,
    email,
    open_app,
    person,
    write_config,
)

FLOORS = {50: 0.7, 0: 0.15}
# So many seconds of requests at least, or the loop's own noise is measured.
LOOP_REQUESTS = 1_000
# A run in which a request got no answer rests by design: it is measured anew.
RUNS_LOST = 3


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it left, to be sent again."""

    method: str
    url: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Recorder(httpx.BaseTransport):
    """Sends what it is given, and keeps it."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport(limits=_limits())
        self.requests: list[Recorded] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Keep the request and send it."""
        body = request.read()
        kept = Recorded(request.method, str(request.url), request.headers.raw, body)
        self.requests.append(kept)
        return self._inner.handle_request(request)

    def close(self) -> None:
        """Close its connections."""
        self._inner.close()


def _limits() -> httpx.Limits:
    # As many connections as Onward allows itself.
    most = IN_FLIGHT + 2
    return httpx.Limits(max_connections=most, max_keepalive_connections=most)


class Store:
    """A database of queued rows, made once and copied for every run."""

    def __init__(
        self,
        folder: Path,
        rows: int,
        postgres: Postgres | None,
        write: Callable[..., None] = write_config,
    ) -> None:
        self._write_config = write
        self._folder = folder
        self._rows = rows
        self._postgres = postgres
        self._template = folder / "template"

    def fill(self, integration: str, url: str) -> None:
        """Verify each connection, queue a push to it for every made-up person."""
        self._template.mkdir()
        self._options = {"integration": integration, "url": url}
        database = self._postgres.create("bench_template") if self._postgres else None
        self._write(self._template, database)
        app = open_app(self._template)
        for name in app.runtime.config.connections:
            app.verify(name)
        for start in range(0, self._rows, 500):
            app.record_actions(
                {
                    "action": "form.submitted",
                    "email": email(number),
                    "data": {"form": "signup"},
                    "contact": person(number),
                }
                for number in range(start, min(start + 500, self._rows))
            )
        app.close()

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """Give a fresh copy for one run, and remove it afterwards."""
        place = self._folder / "run"
        shutil.copytree(self._template, place)
        try:
            if self._postgres is None:
                yield place
            else:
                database = self._postgres.create("bench_run", "bench_template")
                self._write(place, database)
                yield place
                self._postgres.drop("bench_run")
        finally:
            shutil.rmtree(place)

    def _write(self, folder: Path, database: str | None) -> None:
        if database is None:
            self._write_config(folder, **self._options)
        else:
            self._write_config(folder, database=database, **self._options)

    def remove(self) -> None:
        """Forget the template."""
        shutil.rmtree(self._template)
        if self._postgres is not None:
            self._postgres.drop("bench_template")


def deliver(
    store: Store, rows: int, cpu: list[float], recorder: Recorder | None = None
) -> float:
    """Deliver every queued row; return rows a second.

    The clock starts with the database open and everything queued; opening the
    connection, its client and its map is on it.

    Args:
        cpu: the seconds of processor that a batch took are added.
    """
    for _ in range(RUNS_LOST):
        with store.copy() as folder:
            app = open_app(folder, transport=recorder)
            busy, started = time.process_time(), time.perf_counter()
            done = app.deliver()
            took = time.perf_counter() - started
            busy = time.process_time() - busy
            app.close()
        if done.counts[("delivered", "delivered")] == rows:
            cpu.append(busy / done.batches)
            return rows / took
        say(f"    a request was lost, once more: {done}")
    raise AssertionError("the dummy server loses requests")


def _send(client: httpx.Client, request: httpx.Request) -> httpx.Response:
    try:
        return client.send(request)
    except httpx.TransportError:
        # httpcore 1.0.9 may close a connection that another thread has just got
        # (encode/httpcore issue 1110); seen at 0 ms on a busy machine.
        return client.send(request)


def replay(requests: Sequence[Recorded], rows: int) -> float:
    """Send the recorded requests from memory; return rows a second.

    Nothing is looked at but the status. A short list is sent several times.
    """
    times = max(1, -(-LOOP_REQUESTS // len(requests)))
    started = time.perf_counter()
    with (
        httpx.Client(timeout=30, trust_env=False, limits=_limits()) as client,
        ThreadPoolExecutor(IN_FLIGHT) as pool,
    ):
        ready = [
            httpx.Request(
                one.method, one.url, headers=list(one.headers), content=one.body
            )
            for one in requests
        ]
        for _ in range(times):
            for answer in pool.map(partial(_send, client), ready):
                assert answer.status_code == 200
    took = time.perf_counter() - started
    return rows * times / took


def measure(rows: int, runs: int, postgres: Postgres | None = None) -> Section:
    """Compare both, for both integrations, with a slow and a fast service."""
    name = "PostgreSQL" if postgres else "SQLite"
    section = Section(
        f"Delivering {rows:,} queued contacts, {name}",
        (
            "service",
            "requests",
            "Onward",
            "CPU a batch",
            "bare loop",
            "ratio",
            "at least",
            "",
        ),
    )
    latencies = (50,) if postgres else (50, 0)
    with (
        tempfile.TemporaryDirectory(prefix="onward-bench-") as folder,
        Dummy() as dummy,
    ):
        for integration in (OnePost, ThreeCalls):
            for latency in latencies:
                say(f"  {name}, {integration.title}, {latency} ms")
                store = Store(Path(folder), rows, postgres)
                store.fill(integration.key, dummy.url(latency))
                recorder = Recorder()
                deliver(store, rows, [], recorder)
                cpu: list[float] = []
                pairs = interleave(
                    partial(deliver, store, rows, cpu),
                    partial(replay, recorder.requests, rows),
                    runs,
                )
                store.remove()
                floor = FLOORS[latency]
                section.rows.append(
                    (
                        f"{integration.title}, {latency} ms",
                        f"{len(recorder.requests):,}",
                        rate(pairs.ours),
                        f"{statistics.median(cpu) * 1000:.0f} ms",
                        rate(pairs.other),
                        ratio(pairs.ratios),
                        "" if postgres else f"{floor:.2f}{'' if latency else ' (aim)'}",
                        "" if postgres else at_least(pairs.ratio, floor),
                    )
                )
    section.notes.append(
        f"Rows a second, batches of {BATCH}, {IN_FLIGHT} requests in flight. The bare "
        "loop sends the requests that a first run of Onward really sent, from memory, "
        "with one `httpx.Client` and as many threads, to the same server; it stores "
        "nothing. CPU is the processor time Onward takes for one batch; on a busy "
        "machine it changes less than the rates do."
    )
    return section
