"""Importing and queueing many contacts: time, and whether memory stays flat.

As a program (`python -m benchmarks.importing FOLDER`) it is the process that is
measured: it imports `contacts.csv`, queues a push for everybody, and prints what
it saw as JSON.
"""

from __future__ import annotations

import csv
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Section, at_most, say
from benchmarks.processes import memory_of
from benchmarks.services import email, open_app, person, write_config
from onward.contacts.importing import ImportSummary, import_contacts
from onward.delivery.queue import BACKFILL

MOST_MB = 300
BATCH = 500
STEPS = (10, 50, 100)
HEADER = ("email", "firstname", "lastname", "company", "city", "zipcode", "phone")


def write_csv(path: Path, rows: int) -> None:
    """Write made-up people under Mautic's headers."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        writer.writerows((email(n), *person(n).values()) for n in range(rows))


def resident_mb() -> tuple[float, float]:
    """Return what this process holds now, and the most it ever held."""
    found = memory_of("self")
    if found is None:  # only the peak is known, on macOS in bytes
        unit = 1e6 if sys.platform == "darwin" else 1e3
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        return most, most
    return found


@dataclass(slots=True)
class Watch:
    """Notes the memory in use when 10, 50 and 100 % are done."""

    started: float = field(default_factory=time.perf_counter)
    seen: dict[int, float] = field(default_factory=dict[int, float])

    def at(self, done: float) -> None:
        """Note it if another mark was passed; `done` is a share."""
        for step in STEPS:
            if step not in self.seen and done * 100 >= step:
                self.seen[step] = resident_mb()[0]

    def result(self) -> dict[str, Any]:
        """Return what was seen, as JSON."""
        return {
            "seconds": time.perf_counter() - self.started,
            "resident": [self.seen[step] for step in STEPS],
            "peak": resident_mb()[1],
        }


def work(folder: Path) -> dict[str, dict[str, Any]]:
    """Import and queue in this process."""
    app = open_app(folder)
    watch = Watch()

    def on_progress(done: int, size: int, summary: ImportSummary) -> None:
        watch.at(done / size)

    summary = import_contacts(
        app.runtime, folder / "contacts.csv", on_progress=on_progress
    )
    assert not summary.refused, summary.problems[:3]
    imported = watch.result()
    watch = Watch()
    queued = 0
    for emails in _batches(folder / "contacts.csv"):
        app.push(to="dummy", emails=emails, priority=BACKFILL)
        queued += len(emails)
        watch.at(queued / summary.created)
    app.close()
    return {"importing": imported, "queueing": watch.result()}


def _batches(path: Path) -> Iterator[list[str]]:
    part: list[str] = []
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            part.append(row["email"])
            if len(part) == BATCH:
                yield part
                part = []
    if part:
        yield part


def bare(folder: Path) -> float:
    """Read the same file with `csv` and insert with `executemany`; lines a second."""
    moment = "2026-03-04 09:00:00.000000"
    connection = sqlite3.connect(folder / "onward.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    lines = 0
    started = time.perf_counter()
    with (folder / "contacts.csv").open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        next(reader)
        while part := [row for _, row in zip(range(BATCH), reader, strict=False)]:
            ids = range(lines + 1, lines + 1 + len(part))
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO contact (id, email, first_name, last_name, company, city,"
                " postal_code, phone, points, custom, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '{}', ?, ?)",
                [[i, *row, moment, moment] for i, row in zip(ids, part, strict=True)],
            )
            connection.executemany(
                "INSERT INTO identity (kind, value, contact_id) VALUES ('email', ?, ?)",
                [(row[0], i) for i, row in zip(ids, part, strict=True)],
            )
            connection.execute("COMMIT")
            lines += len(part)
    took = time.perf_counter() - started
    connection.close()
    return lines / took


def measure(rows: int) -> Section:
    """Import in a process of its own, then read the same file bare."""
    say(f"  importing and queueing {rows:,} contacts")
    section = Section(
        f"Importing and queueing {rows:,} contacts, SQLite",
        (
            "what",
            "time",
            "a second",
            "memory at 10 %, 50 %, 100 %",
            "peak",
            "at most",
            "",
        ),
    )
    with tempfile.TemporaryDirectory(prefix="onward-bench-") as name:
        folder, other = Path(name) / "onward", Path(name) / "bare"
        folder.mkdir()
        write_config(folder)
        app = open_app(folder)
        app.verify("dummy")
        app.close()
        write_csv(folder / "contacts.csv", rows)
        shutil.copytree(folder, other)
        command = [sys.executable, "-m", "benchmarks.importing", str(folder)]
        said = subprocess.run(  # noqa: S603  # this program
            command, check=True, stdout=subprocess.PIPE, text=True
        )
        found: dict[str, dict[str, Any]] = json.loads(said.stdout)
        reference = bare(other)
    for what, seen in found.items():
        resident = " · ".join(f"{mb:.0f}" for mb in seen["resident"])
        section.rows.append(
            (
                what,
                f"{seen['seconds']:.1f} s",
                f"{rows / seen['seconds']:,.0f}",
                f"{resident} MB",
                f"{seen['peak']:.0f} MB",
                f"{MOST_MB} MB",
                at_most(seen["peak"], MOST_MB),
            )
        )
    share = rows / found["importing"]["seconds"] / reference
    section.rows.append(
        ("`csv` and `executemany` alone", "", f"{reference:,.0f}", "", "", "", "")
    )
    section.notes.append(
        f"Importing reaches {share:.2f} of the bare loop, which reads the same file "
        "and inserts contacts and identities into the same tables, 500 lines a "
        "transaction, and checks, merges and reports nothing. One run of each."
    )
    return section


if __name__ == "__main__":
    print(json.dumps(work(Path(sys.argv[1]))))
