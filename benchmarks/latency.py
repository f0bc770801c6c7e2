"""Fire -> stored remotely, one at a time and idle; and taking over after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.measure import Section, say
from benchmarks.postgres import Postgres
from benchmarks.services import OnePost, email, open_app, person, write_config
from onward.app import Onward
from onward.testing import Server

MOST_SAME_S, MOST_OTHER_S = 0.030, 0.5
LEASE_S = 5.0
TAKEN_OVER_S = LEASE_S + 5
PATIENCE_S = 120.0

# A worker in a process of its own, with this benchmark's integrations.
WORKER = """
from pathlib import Path
from benchmarks.services import open_app
from onward.cli.stopping import stop_signals
wait = stop_signals()
with open_app(Path(".")):
    print("runs", flush=True)
    wait()
"""


class Service:
    """Takes a batch at once, and knows when it did."""

    def __init__(self) -> None:
        self.at = 0.0
        self.came = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Take it; the moment it has it counts."""
        if request.method == "POST":
            self.at = time.perf_counter()
            self.came.set()
            self.may_answer.wait(PATIENCE_S)
        return httpx.Response(200, json={"ok": True})


def measure(runs: int, server: Postgres | None = None) -> Section:
    """Measure on SQLite, or on PostgreSQL."""
    name = "PostgreSQL" if server else "SQLite"
    section = Section(
        f"Latency, idle, {name}: {runs} events, one after the other",
        ("what", "median ms", "slowest ms", "at most", ""),
        notes=[
            "From the call of `record_action` to the moment the service has the "
            "request; it answers at once. The next event is fired when the one before "
            "was delivered.",
        ],
    )
    folder = Path(tempfile.mkdtemp(prefix="onward-latency-"))
    service = Service()
    try:
        with Server(service.handle) as http:
            url = f"{http.url}/0"
            with _stage(folder / "same", url, server) as app, app:
                same = [_fire(app, service, number) for number in range(runs)]
            _row(section, "the worker of the same process", same, MOST_SAME_S)
            with (
                _stage(folder / "other", url, server) as app,
                _worker(folder / "other"),
            ):
                other = [_fire(app, service, number) for number in range(runs)]
            _row(section, "a worker of another process", other, MOST_OTHER_S)
            with _stage(folder / "dead", url, server) as app:
                taken = _take_over(app, folder / "dead", service)
            what = f"taken over after kill -9, lease {LEASE_S:.0f} s"
            _row(section, what, [taken], TAKEN_OVER_S)
    finally:
        shutil.rmtree(folder)
    return section


def _row(section: Section, what: str, seconds: list[float], most: float) -> None:
    middle = statistics.median(seconds)
    shown = (middle * 1000, max(seconds) * 1000, most * 1000)
    ok = "" if middle <= most else "MISSED"
    section.rows.append((what, *(f"{one:,.1f}" for one in shown), ok))
    say(f"{section.title}: {what}: {shown[0]:.1f} ms")


@contextmanager
def _stage(folder: Path, url: str, server: Postgres | None) -> Iterator[Onward]:
    folder.mkdir()
    name = f"bench_{folder.name}"
    database = server.create(name) if server else "sqlite:///onward.db"
    write_config(folder, integration=OnePost.key, url=url, database=database)
    path = folder / "onward.toml"
    text = path.read_text().replace("[onward]", f'[onward]\nlease = "{LEASE_S:.0f}s"')
    path.write_text(text)
    app = open_app(folder)
    try:
        app.verify("dummy")
        yield app
    finally:
        app.close()
        if server:
            server.drop(name)


@contextmanager
def _worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    here = str(Path(__file__).parents[1])
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-c", WORKER],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "runs\n"
            yield process
        finally:
            process.terminate()
            process.wait(60)


def _fire(app: Onward, service: Service, number: int) -> float:
    service.came.clear()
    begun = time.perf_counter()
    app.record_action("form.submitted", email=email(number), contact=person(number))
    if not service.came.wait(PATIENCE_S):
        raise RuntimeError("nothing was sent")
    taken = service.at - begun
    _wait_until_delivered(app)
    return taken


def _wait_until_delivered(app: Onward) -> None:
    pause, begun = threading.Event(), time.perf_counter()
    while any(row["state"] in ("waiting", "sending") for row in app.deliveries()):
        if time.perf_counter() - begun > PATIENCE_S:
            raise RuntimeError("it was never delivered")
        pause.wait(0.01)
    # Idle again: the drain has let its lease go.
    pause.wait(0.05)


def _take_over(app: Onward, folder: Path, service: Service) -> float:
    """Kill a worker whose request is not answered; wait for the next one's."""
    with _worker(folder), _worker(folder):
        service.may_answer.clear()
        service.came.clear()
        app.record_action("form.submitted", email=email(1), contact=person(1))
        if not service.came.wait(PATIENCE_S):
            raise RuntimeError("nothing was sent")
        # Whoever has it dies now; the other one is there already.
        holder = _holder(app)
        service.came.clear()
        begun = time.perf_counter()
        os.kill(holder, signal.SIGKILL)
        service.may_answer.set()
        _wait_until_delivered(app)
        return time.perf_counter() - begun


def _holder(app: Onward) -> int:
    from sqlalchemy import select

    from onward.models import Lease, table

    leases = table(Lease)
    wanted = select(leases.c.holder).where(leases.c.name.like("connection:%"))
    with app.runtime.database.read() as transaction:
        return int(transaction.execute(wanted).scalar_one().split(":")[-2])
