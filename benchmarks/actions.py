"""Recording contact actions, against a loop of the same plain INSERTs."""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, cast

from benchmarks.measure import (
    Pairs,
    Section,
    at_least,
    interleave,
    percentile,
    rate,
    ratio,
    say,
)
from benchmarks.postgres import Postgres
from benchmarks.services import email, open_app, person, write_config
from onward import Onward

ONE_BY_ONE = 1_000
IN_BATCHES = 8_000
BATCH = 100

# What is left of recording an action when everything but the rows is left out.
CONTACT = (
    "INSERT INTO contact (email, first_name, last_name, company, city, postal_code,"
    " phone, points, custom, created_at, updated_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 0, '{}', ?, ?) RETURNING id"
)
IDENTITY = "INSERT INTO identity (kind, value, contact_id) VALUES ('email', ?, ?)"
FIND = "SELECT contact_id FROM identity WHERE kind = 'email' AND value = ?"
EVENT = (
    "INSERT INTO event (source, body_hash, action, contact_id, data, occurred_at,"
    " created_at, result) VALUES ('api', '', 'form.submitted', ?,"
    """ '{"form": "signup"}', ?, ?, '{}') RETURNING id"""
)
PUSH = (
    "INSERT INTO push (connection_id, contact_id, segment, state, priority, due_at,"
    " tries, again, force, fence, code, reason, map_version, remote_id, job,"
    " created_at) VALUES (1, ?, '1', 'waiting', 0, ?, 0, false, false, 0, '', '', '',"
    " '', '', ?) RETURNING id"
)
CAUSE = (
    "INSERT INTO cause (push_id, kind, key, event_id, at)"
    " VALUES (?, 'rule', 'forms', ?, ?)"
)
NOW = "2026-03-04 09:00:00.000000"


class Cursor(Protocol):
    """What sqlite3 and psycopg have in common."""

    def execute(self, sql: str, values: Sequence[object] = ..., /) -> object:
        """Run one statement."""
        ...

    def executemany(self, sql: str, values: Sequence[Sequence[object]], /) -> object:
        """Run one statement for many rows."""
        ...

    def fetchone(self) -> Sequence[object] | None:
        """Return the next row."""
        ...


@dataclass(slots=True)
class Case:
    """One way to record actions, and how it is compared.

    Args:
        known: the contacts exist before the clock starts.
        fields: contact fields come with the action, as with a form.
        size: actions per call.
        count: actions per run.
    """

    title: str
    known: bool
    fields: bool
    size: int
    count: int
    durability: str = "normal"


class Stage:
    """A database with one verified connection, copied for every run."""

    def __init__(self, folder: Path, case: Case, postgres: Postgres | None) -> None:
        self.case = case
        self.postgres = postgres
        self.folder = folder
        self.template = folder / "template"
        self.template.mkdir()
        url = postgres.create("bench_template") if postgres else None
        self._write(self.template, url)
        app = open_app(self.template)
        app.verify("dummy")
        if case.known:
            for number in range(case.count):
                app.upsert_contact({"email": email(number), **self.fields(number)})
        app.close()

    def fields(self, number: int) -> dict[str, str]:
        """Return what comes with an action besides the address."""
        return person(number) if self.case.fields else {}

    def _write(self, folder: Path, url: str | None) -> None:
        if url is None:
            write_config(folder, durability=self.case.durability)
        else:
            write_config(folder, database=url)

    def with_copy(self, work: Callable[[Path], float]) -> float:
        """Run some work on a fresh copy."""
        place = self.folder / "run"
        shutil.copytree(self.template, place)
        try:
            if self.postgres is None:
                return work(place)
            self._write(place, self.postgres.create("bench_run", "bench_template"))
            try:
                return work(place)
            finally:
                self.postgres.drop("bench_run")
        finally:
            shutil.rmtree(place)

    def remove(self) -> None:
        """Forget the template."""
        shutil.rmtree(self.template)
        if self.postgres is not None:
            self.postgres.drop("bench_template")


@dataclass(slots=True)
class Spent:
    """What the calls of all runs took.

    Args:
        calls: seconds of every call.
        cpu: seconds of processor per action, one value per run.
    """

    calls: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])


def record(stage: Stage, spent: Spent) -> float:
    """Record all actions through the public API; return actions a second."""
    case = stage.case
    one = _record_one if case.size == 1 else _record_many

    def work(folder: Path) -> float:
        app = open_app(folder)
        busy, started = time.process_time(), time.perf_counter()
        for number in range(0, case.count, case.size):
            before = time.perf_counter()
            one(app, stage, number)
            spent.calls.append(time.perf_counter() - before)
        took = time.perf_counter() - started
        spent.cpu.append((time.process_time() - busy) / case.count)
        app.close()
        return case.count / took

    return stage.with_copy(work)


def _record_one(app: Onward, stage: Stage, number: int) -> None:
    app.record_action(
        "form.submitted",
        email=email(number),
        data={"form": "signup"},
        contact=stage.fields(number),
    )


def _record_many(app: Onward, stage: Stage, first: int) -> None:
    app.record_actions(
        {
            "action": "form.submitted",
            "email": email(number),
            "data": {"form": "signup"},
            "contact": stage.fields(number),
        }
        for number in range(first, first + stage.case.size)
    )


def insert(stage: Stage) -> float:
    """Write the same rows with the bare driver; return actions a second."""
    case = stage.case
    one = _insert_one if case.size == 1 else _insert_many

    def work(folder: Path) -> float:
        if stage.postgres is None:
            connection = sqlite3.connect(folder / "onward.db", isolation_level=None)
            cursor = cast("Cursor", connection.cursor())
            cursor.execute("PRAGMA journal_mode=WAL")
            full = case.durability == "power"
            cursor.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
            begin, mark = "BEGIN IMMEDIATE", "?"
        else:
            opened = stage.postgres.connect("bench_run")
            opened.autocommit = True
            cursor = cast("Cursor", opened.cursor())
            begin, mark = "BEGIN", "%s"
        started = time.perf_counter()
        for number in range(0, case.count, case.size):
            cursor.execute(begin)
            one(cursor, stage, number, mark)
            cursor.execute("COMMIT")
        took = time.perf_counter() - started
        (connection if stage.postgres is None else opened).close()
        return case.count / took

    return stage.with_copy(work)


def _values(stage: Stage, number: int) -> list[object]:
    fields = stage.fields(number)
    names = ("first_name", "last_name", "company", "city", "postal_code", "phone")
    return [email(number), *(fields.get(name) for name in names), NOW, NOW]


def _one(cursor: Cursor, sql: str, values: Sequence[object]) -> object:
    cursor.execute(sql, values)
    row = cursor.fetchone()
    return row[0] if row else None


def _insert_one(cursor: Cursor, stage: Stage, number: int, mark: str) -> None:
    def words(sql: str) -> str:
        return sql if mark == "?" else sql.replace("?", mark)

    if stage.case.known:
        contact = _one(cursor, words(FIND), [email(number)])
    else:
        contact = _one(cursor, words(CONTACT), _values(stage, number))
        cursor.execute(words(IDENTITY), [email(number), contact])
    event = _one(cursor, words(EVENT), [contact, NOW, NOW])
    push = _one(cursor, words(PUSH), [contact, NOW, NOW])
    cursor.execute(words(CAUSE), [push, event, NOW])


def _insert_many(cursor: Cursor, stage: Stage, first: int, mark: str) -> None:
    """Write a batch with ids counted here, so that nothing has to come back."""

    def words(sql: str, table: str) -> str:
        sql = sql.replace(" RETURNING id", "")
        sql = sql.replace(f"INTO {table} (", f"INTO {table} (id, ", 1)
        sql = sql.replace("VALUES (", "VALUES (?, ", 1)
        return sql if mark == "?" else sql.replace("?", mark)

    ids = range(first + 1, first + 1 + stage.case.size)
    cursor.executemany(
        words(CONTACT, "contact"), [[i, *_values(stage, i - 1)] for i in ids]
    )
    plain = IDENTITY if mark == "?" else IDENTITY.replace("?", mark)
    cursor.executemany(plain, [[email(i - 1), i] for i in ids])
    cursor.executemany(words(EVENT, "event"), [[i, i, NOW, NOW] for i in ids])
    cursor.executemany(words(PUSH, "push"), [[i, i, NOW, NOW] for i in ids])
    cursor.executemany(words(CAUSE, "cause"), [[i, i, i, NOW] for i in ids])


def cases(count: int, *, postgres: bool) -> list[Case]:
    """Return what is measured.

    Args:
        count: actions per run, one by one; batches take four times as many.
    """
    batches = count * 4 // BATCH * BATCH
    if postgres:
        return [
            Case("new contacts, with fields", False, True, 1, count // 2),
            Case("known contacts", True, False, 1, count // 2),
            Case("new contacts, batches of 100", False, True, BATCH, batches),
        ]
    return [
        Case("new contacts, address only", False, False, 1, count),
        Case("new contacts, with fields", False, True, 1, count),
        Case("known contacts", True, False, 1, count),
        Case("known contacts, FULL", True, False, 1, count // 4, "power"),
        Case("new contacts, address only, FULL", False, False, 1, count // 4, "power"),
        Case(
            "new contacts, address only, batches of 100", False, False, BATCH, batches
        ),
        Case("new contacts, with fields, batches of 100", False, True, BATCH, batches),
    ]


def measure(count: int, runs: int, postgres: Postgres | None = None) -> Section:
    """Compare both in every case."""
    name = "PostgreSQL" if postgres else "SQLite"
    section = Section(
        f"Recording contact actions with one matching push rule, {name}",
        (
            "actions",
            "Onward",
            "p50",
            "p99",
            "CPU each",
            "bare INSERTs",
            "ratio",
            "at least",
            "",
        ),
    )
    with tempfile.TemporaryDirectory(prefix="onward-bench-") as folder:
        for case in cases(count, postgres=postgres is not None):
            say(f"  {name}, {case.title}")
            spent = Spent()
            stage = Stage(Path(folder), case, postgres)
            record(stage, Spent())
            pairs = interleave(
                partial(record, stage, spent),
                partial(insert, stage),
                runs,
            )
            stage.remove()
            section.rows.append(_row(case, pairs, spent, postgres is not None))
    section.notes.append(
        "Actions a second; p50 and p99 are milliseconds per call over all runs, CPU "
        "milliseconds of processor per action. The "
        "reference writes contact, identity, event, push and cause (of a known "
        "contact: finds it, then event, push and cause) into the same tables with the "
        "driver alone, one commit per call. It checks nothing, merges nobody and "
        "follows no rule; Onward also writes the event `contact.created`."
    )
    return section


def _row(case: Case, pairs: Pairs, spent: Spent, postgres: bool) -> Sequence[str]:
    floor = ONE_BY_ONE if case.size == 1 else IN_BATCHES
    bound = not postgres and case.durability == "normal"
    reached = sorted(pairs.ours)[len(pairs.ours) // 2]
    return (
        case.title,
        rate(pairs.ours),
        f"{percentile(spent.calls, 0.5) * 1000:.2f}",
        f"{percentile(spent.calls, 0.99) * 1000:.2f}",
        f"{statistics.median(spent.cpu) * 1000:.2f}",
        rate(pairs.other),
        ratio(pairs.ratios),
        f"{floor:,}/s" if bound else "",
        at_least(reached, floor) if bound else "",
    )
