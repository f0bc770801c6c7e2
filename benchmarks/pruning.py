"""Recording an action while 100,000 old rows are removed by another process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from benchmarks.measure import Section, percentile, say
from benchmarks.postgres import Postgres
from benchmarks.services import email, open_app, write_config
from onward import Onward
from onward.database import Database
from onward.models import Attempt, Cause, Event, OutcomeRow, Push, table
from onward.pruning import prune

ROWS = 100_000
# Of an attempt: a batch of 100 and its answer.
EXCHANGES = [{"method": "POST", "request": "x" * 10_000, "answer": "y" * 10_000}]
EVERY_S = 0.002
OLD = datetime.now(UTC) - timedelta(days=100)
APART = (
    "from onward import Onward; import sys; from onward.pruning import prune;"
    "app = Onward.from_config(sys.argv[1]); done = prune(app.runtime);"
    "print(sum(done.counts.values()))"
)


def measure(rows: int, server: Postgres | None = None) -> Section:
    """Return how long calls take alone, and beside pruning."""
    name = "PostgreSQL" if server else "SQLite"
    section = Section(
        f"Pruning {rows:,} rows beside `record_action`, {name}",
        ("", "calls", "median", "p99", "longest", "pruning took"),
    )
    for where in ("nobody prunes", "another process prunes", "a thread prunes"):
        say(f"  {name}, {where}")
        times, took = _run(rows, where, server)
        section.rows.append(
            (
                where,
                f"{len(times):,}",
                *(f"{percentile(times, share) * 1000:.1f} ms" for share in (0.5, 0.99)),
                f"{max(times) * 1000:.0f} ms",
                f"{took:.1f} s" if took else "",
            )
        )
    section.notes.append(
        f"One call every {EVERY_S * 1000:.0f} ms at most, each an event of a known "
        "contact with a push that joins the open one."
    )
    return section


def _run(rows: int, where: str, server: Postgres | None) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory(prefix="onward-bench-") as made:
        folder = Path(made)
        url = server.create("pruned") if server else f"sqlite:///{folder}/onward.db"
        write_config(folder, database=url)
        app = open_app(folder)
        try:
            for number in range(100):
                app.record_action("form.submitted", email=email(number))
            _fill(app.runtime.database, rows)
            return _measure(app, folder, where)
        finally:
            app.close()
            if server:
                server.drop("pruned")


def _fill(database: Database, rows: int) -> None:
    """Write what is old: two events and a delivery with all its parts, again."""
    for start in range(0, rows // 5, 5_000):
        numbers = range(start + 1_000, min(start + 5_000, rows // 5) + 1_000)
        with database.write() as transaction:
            parts: list[tuple[Any, list[dict[str, Any]]]] = [
                (Event, [_event(n) for n in numbers for _ in range(2)]),
                (Push, [_push(n) for n in numbers]),
                (Cause, [_cause(n) for n in numbers]),
                (OutcomeRow, [_outcome(n) for n in numbers]),
                (Attempt, [_attempt(n // 100) for n in numbers if not n % 100]),
            ]
            for model, values in parts:
                transaction.execute(insert(table(model)), values)
    if not database.is_sqlite:
        with database.engine.connect() as raw:
            raw.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
                "ANALYZE"
            )


def _event(number: int) -> dict[str, Any]:
    data = {"form": "signup", "page": "https://shop.example/contact"}
    moments = {"occurred_at": OLD, "created_at": OLD + timedelta(seconds=number)}
    return {"action": "form.old", "contact_id": number % 100, "data": data, **moments}


def _push(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "connection_id": 1,
        "contact_id": number,
        "state": "delivered",
        "code": "delivered",
        "created_at": OLD,
        "finished_at": OLD + timedelta(seconds=number),
    }


def _cause(number: int) -> dict[str, Any]:
    return {"push_id": number, "kind": "rule", "key": "forms", "at": OLD}


def _outcome(number: int) -> dict[str, Any]:
    of = {"push_id": number, "attempt_id": number // 100}
    return {**of, "kind": "delivered", "code": "delivered", "at": OLD}


def _attempt(number: int) -> dict[str, Any]:
    moment = OLD + timedelta(seconds=number)
    of = {"connection_id": 1, "started_at": moment, "finished_at": moment}
    return {"id": number, **of, "exchanges": EXCHANGES, "size": 100}


def _measure(app: Onward, folder: Path, where: str) -> tuple[list[float], float]:
    """Call until pruning is over, or for five seconds where nobody prunes."""
    from threading import Thread

    started = time.monotonic()
    if where == "another process prunes":
        command = [sys.executable, "-c", APART, str(folder / "onward.toml")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
            times = _call(app, lambda: process.poll() is None)
    elif where == "a thread prunes":
        thread = Thread(target=prune, args=(app.runtime,))
        thread.start()
        times = _call(app, thread.is_alive)
    else:
        return _call(app, lambda: time.monotonic() - started < 5), 0
    return times, time.monotonic() - started


def _call(app: Onward, goes_on: Any) -> list[float]:
    times: list[float] = []
    number = 0
    while goes_on():
        number += 1
        before = time.perf_counter()
        app.record_action("form.submitted", email=email(number % 100))
        times.append(time.perf_counter() - before)
        time.sleep(EVERY_S)
    return times
