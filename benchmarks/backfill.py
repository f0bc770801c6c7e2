"""A point trigger back-filled and delivered: cost per contact, memory, kill -9.

`onward triggers apply` and `onward deliver` are real processes, each on a terminal
of its own, so that they show their progress as to a person.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stderr
from pathlib import Path

import httpx

from benchmarks.dummy import Dummy
from benchmarks.importing import HEADER
from benchmarks.measure import Section, at_most, say, spread
from benchmarks.processes import Used, drop_in, run, start
from benchmarks.services import (
    BATCH,
    IN_FLIGHT,
    OnePost,
    email,
    open_app,
    person,
    write_config,
)
from onward.testing import Server

SIZES = (10_000, 100_000, 1_000_000)
MOST_TIMES, MOST_MB = 1.2, 400
POINTS = 100
KILLED_SIZE, KILLED_AT = 10_000, 0.3
LEASE_S = 5
PATIENCE_S = 120.0

TRIGGER = f"""
[[point_triggers]]
key = "hot"
points = {POINTS}
push_to = ["dummy"]
"""
# What is called, and the words of it.
FILL = ("contacts", "import", "contacts.csv")
APPLY = ("triggers", "apply", "hot")
DELIVER = ("deliver", "--until-empty")
STEPS = {"filling": FILL, "applying": APPLY, "delivering": DELIVER}
# What it shows first of its progress, and first of its result.
MARKS = {
    "filling": ("importing", "taken:"),
    "applying": ("applying", "fired for"),
    "delivering": ("delivering", "delivered delivered"),
}


def prepare(folder: Path, url: str, size: int, lease_s: int = 60) -> None:
    """Write the configuration and the file of contacts, and verify the connection."""
    write_config(folder, integration=OnePost.key, url=url)
    path = folder / "onward.toml"
    lease = f'[onward]\nlease = "{lease_s}s"'
    path.write_text(path.read_text().replace("[onward]", lease, 1) + TRIGGER)
    drop_in(folder)
    with (folder / "contacts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow((*HEADER, "points"))
        writer.writerows((email(n), *person(n).values(), POINTS) for n in range(size))
    app = open_app(folder)
    app.verify("dummy")
    app.close()


def call(folder: Path, step: str) -> Used:
    """Do a step, which must succeed."""
    begins, ends = MARKS[step]
    used = run(folder, *STEPS[step], begins=begins, ends=ends)
    assert used.code == 0, used.said
    return used


def count(folder: Path) -> tuple[int, int, int]:
    """Return how many pushes there are, of how many contacts, and are delivered."""
    with closing(sqlite3.connect(folder / "onward.db", timeout=30)) as place:
        found: tuple[int, int, int] = place.execute(
            "SELECT count(*), count(DISTINCT contact_id),"
            " count(*) FILTER (WHERE state = 'delivered') FROM push"
        ).fetchone()
    return found


def once(url: str, size: int) -> dict[str, Used]:
    """Fill, apply and deliver one size; return step -> what it took."""
    found: dict[str, Used] = {}
    with tempfile.TemporaryDirectory(prefix="onward-bench-") as name:
        folder = Path(name)
        prepare(folder, url, size)
        for step in STEPS:
            used = found[step] = call(folder, step)
            say(f"    {size:,}, {step}: {used.seconds:.1f} s, {used.cpu:.1f} s of CPU")
        assert count(folder) == (size, size, size), count(folder)
    return found


def measure(sizes: Sequence[int], runs: int) -> tuple[Section, Section]:
    """Compare the sizes; the smallest one is measured several times."""
    with Dummy() as dummy:
        url = dummy.url(0)
        found: dict[int, list[dict[str, Used]]] = {}
        for size in sizes:
            say(f"  {size:,} contacts")
            times = runs if size == sizes[0] else 1
            found[size] = [once(url, size) for _ in range(times)]
    return _costs(found, runs), _memory(found)


def _costs(found: dict[int, list[dict[str, Used]]], runs: int) -> Section:
    section = Section(
        "Back-filling a point trigger, SQLite: cost per contact",
        (
            "step",
            "contacts",
            "seconds",
            "µs each",
            "÷ smallest",
            "CPU µs each",
            "÷ smallest",
            "at most",
            "by CPU",
            "by time",
        ),
    )
    for step in STEPS:
        first: tuple[float, float] | None = None
        for size, costs in found.items():
            times = [cost[step].seconds / size * 1e6 for cost in costs]
            cpus = [cost[step].cpu / size * 1e6 for cost in costs]
            each, cpu = statistics.median(times), statistics.median(cpus)
            several = f" (spread {spread(times):.0%})" if len(times) > 1 else ""
            busy = f" (spread {spread(cpus):.0%})" if len(cpus) > 1 else ""
            row = [
                step,
                f"{size:,}",
                f"{each * size / 1e6:,.1f}",
                f"{each:,.0f}{several}",
                "",
                f"{cpu:,.0f}{busy}",
                *[""] * 4,
            ]
            if first is None:
                first = each, cpu
            else:
                # Without `/proc` nobody knows the processor's time.
                by_time, by_cpu = each / first[0], cpu / (first[1] or 1.0)
                row[4], row[6] = f"{by_time:.2f}", f"{by_cpu:.2f}"
                if step != "filling":
                    row[7] = f"{MOST_TIMES}"
                    row[8] = at_most(by_cpu, MOST_TIMES)
                    row[9] = at_most(by_time, MOST_TIMES)
            section.rows.append(row)
    section.notes.append(
        "`onward contacts import`, `onward triggers apply` and `onward deliver "
        "--until-empty` as processes on a terminal, their progress drawn; batches of "
        f"{BATCH}, {IN_FLIGHT} in flight, to a server that answers at once. From the "
        "moment a process first draws its progress to its result, so without its start "
        "and its end. CPU is the processor time of the process; on a busy machine it "
        f"changes less than the time does. The smallest size {runs} times, the others "
        "once. Filling has no promise."
    )
    return section


def _memory(found: dict[int, list[dict[str, Used]]]) -> Section:
    section = Section(
        "Back-filling a point trigger, SQLite: memory of each process",
        ("step", "contacts", "MB at 10 %, 50 %, 100 %", "peak", "at most", ""),
    )
    for step in STEPS:
        for size, costs in found.items():
            used = max((cost[step] for cost in costs), key=lambda one: one.peak)
            section.rows.append(
                (
                    step,
                    f"{size:,}",
                    " · ".join(f"{one:.0f}" for one in used.resident),
                    f"{used.peak:.0f} MB",
                    f"{MOST_MB} MB",
                    at_most(used.peak, MOST_MB),
                )
            )
    section.notes.append("Resident size, at these shares of the process's time.")
    return section


# -- killed


class Counting:
    """A service that keeps how often each address came."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Take a batch."""
        if request.method == "POST":
            came = [one["email"] for one in json.loads(request.content)]
            with self._lock:
                self.seen.update(came)
        return httpx.Response(200, json={"ok": True})


def kill(folder: Path, words: Sequence[str], when: Callable[[], bool]) -> None:
    """Start a command and kill -9 it as soon as `when` says so."""
    with (folder / "killed.log").open("wb") as stream:
        process = start(folder, *words, terminal=stream.fileno())
    while not when():
        assert process.poll() is None, (folder / "killed.log").read_text()
        time.sleep(0.002)
    process.kill()
    assert process.wait() < 0, "it ended before it was killed"


def finish(folder: Path, words: Sequence[str]) -> float:
    """Call a command until it succeeds, over the lease of a dead one; seconds."""
    started = time.monotonic()
    while (used := run(folder, *words)).code:
        assert time.monotonic() - started < PATIENCE_S, used.said
        time.sleep(0.2)
    return time.monotonic() - started


def measure_killed(size: int = KILLED_SIZE) -> Section:
    """Kill each of the two processes once in the middle, and start it again."""
    say(f"  {size:,} contacts, killed")
    service, least = Counting(), int(size * KILLED_AT)
    with (
        tempfile.TemporaryDirectory(prefix="onward-bench-") as name,
        Server(service.handle) as http,
        # Where the server says at length that a client was killed.
        redirect_stderr(io.StringIO()),
    ):
        folder = Path(name)
        prepare(folder, f"{http.url}/0", size, LEASE_S)
        call(folder, "filling")
        kill(folder, APPLY, lambda: count(folder)[0] >= least)
        applied = count(folder)
        applying = finish(folder, APPLY)
        rows = count(folder)
        kill(folder, DELIVER, lambda: len(service.seen) >= least)
        came, stored = len(service.seen), count(folder)[2]
        delivering = finish(folder, DELIVER)
        found = count(folder)
    extra = sum(service.seen.values()) - len(service.seen)
    on_its_way = BATCH * IN_FLIGHT
    section = Section(
        f"Back-filling killed with kill -9 and started again, {size:,} contacts, "
        "SQLite",
        ("what", "found", "wanted", ""),
    )

    def add(what: str, seen: int, wanted: int, most: int | None = None) -> None:
        good = seen == wanted if most is None else wanted <= seen <= most
        bound = f"{wanted:,}" if most is None else f"{wanted:,} to {most:,}"
        verdict = "kept" if good else "**missed**"
        section.rows.append((what, f"{seen:,}", bound, verdict))

    add("pushes when `triggers apply` was killed", applied[0], least, size - 1)
    add("pushes after it was called again", rows[0], size)
    add("contacts that have one", rows[1], size)
    add("contacts at the service when `deliver` was killed", came, least, size - 1)
    add("of them noted as delivered", stored, 0, came)
    add("pushes delivered after it was called again", found[2], size)
    add("contacts at the service", len(service.seen), size)
    add("contacts it got twice", extra, 0, on_its_way)
    section.notes.append(
        f"A lease of {LEASE_S} s; called again at once and until it succeeds, "
        f"`triggers apply` took {applying:.1f} s and `deliver` {delivering:.1f} s. "
        f"What was on its way at the kill, at most {IN_FLIGHT} batches of {BATCH}, is "
        "sent again by an integration that declares that safe, as this one does; one "
        "that cannot is read back first."
    )
    return section
