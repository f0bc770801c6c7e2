"""Pulling iContact's contacts, against a loop that reads the same pages and inserts.

Both ask for one page while they store the one before.
"""

from __future__ import annotations

import gc
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson

from benchmarks.delivery import Recorded, Recorder, Store
from benchmarks.dummy import Dummy
from benchmarks.folder import ACCOUNT, FOLDER, LIST
from benchmarks.measure import Section, at_least, rate, ratio, say
from benchmarks.postgres import Postgres
from benchmarks.processes import Used, run
from benchmarks.services import open_app

CONTACTS = 100_000
LATENCY_MS = 20
FLOORS = {"first": 0.4, "second": 0.7}
MOST_GROWTH_MB = 20.0
MOMENT = "2026-03-04 09:00:00.000000"
WRITTEN = ("contact", "identity", "remote_contact")

TOML = """\
[onward]
database_url = "{database}"

[connections.icontact]
integration = "icontact"
segment = "{segment}"
limits = ["100000000/minute"]
[connections.icontact.settings]
app_id = "bench"
username = "bench@shop.example"
password = "bench"
account_id = "{account}"
client_folder_id = "{folder}"
api_url = "{url}/icp"
"""

# Name there -> column here, as the shipped map has it.
COLUMNS = {
    "email": "email",
    "prefix": "prefix",
    "firstName": "first_name",
    "lastName": "last_name",
    "suffix": "suffix",
    "street": "street",
    "street2": "street2",
    "city": "city",
    "state": "state",
    "postalCode": "postal_code",
    "phone": "phone",
    "fax": "fax",
    "business": "company",
}
_INTO = (
    f"contact ({', '.join(COLUMNS.values())}, points, custom, created_at, updated_at)"
)
_MARKS = ", ".join(["?"] * len(COLUMNS))
# Of names above alone.
INSERT = f"INSERT INTO {_INTO} VALUES ({_MARKS}, 0, '{{}}', ?, ?)"  # noqa: S608
COPY = f"COPY {_INTO} FROM STDIN"
TRIGGER = """
CREATE TRIGGER wrote_{how}_{name} AFTER {how} ON {name}
BEGIN UPDATE wrote SET times = times + 1 WHERE name = '{name}'; END
"""


def write_toml(
    folder: Path, *, url: str, database: str = "sqlite:///onward.db"
) -> None:
    """Write an `onward.toml` with one connection, to the plain folder."""
    text = TOML.format(
        database=database, segment=LIST, account=ACCOUNT, folder=FOLDER, url=url
    )
    (folder / "onward.toml").write_text(text, encoding="utf-8")


class Empty(Store):
    """A verified connection and nobody there yet, copied for every run."""

    def prepare(self, url: str) -> None:
        """Verify it."""
        self._template.mkdir()
        self._options = {"url": url}
        database = self._postgres.create("bench_template") if self._postgres else None
        self._write(self._template, database)
        app = open_app(self._template)
        app.verify("icontact")
        app.close()

    def insert(self, folder: Path) -> Callable[[Sequence[Sequence[str | None]]], None]:
        """Return what stores rows in the copy, each call in one transaction."""
        if self._postgres is not None:
            return _copy_rows(self._postgres.connect("bench_run"))
        return _insert_rows(folder)


def _insert_rows(folder: Path) -> Callable[[Sequence[Sequence[str | None]]], None]:
    connection = sqlite3.connect(folder / "onward.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")

    def insert(rows: Sequence[Sequence[str | None]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, [[*row, MOMENT, MOMENT] for row in rows])
        connection.execute("COMMIT")

    return insert


def _copy_rows(connection: Any) -> Callable[[Sequence[Sequence[str | None]]], None]:
    def insert(rows: Sequence[Sequence[str | None]]) -> None:
        with connection.cursor() as cursor, cursor.copy(COPY) as copy:
            for row in rows:
                copy.write_row((*row, 0, "{}", MOMENT, MOMENT))
        connection.commit()

    return insert


@dataclass(slots=True)
class Figures:
    """What the runs of one database reached, contacts a second, and processor."""

    first: list[float] = field(default_factory=list[float])
    second: list[float] = field(default_factory=list[float])
    bare: list[float] = field(default_factory=list[float])
    cpu: dict[str, list[float]] = field(
        default_factory=lambda: {"first": [], "second": []}
    )


def pull(
    folder: Path, contacts: int, wanted: dict[str, int], recorder: Recorder | None
) -> tuple[float, float]:
    """Pull everybody; return contacts a second and milliseconds of CPU a page.

    The clock starts with the database open; opening the connection, its client and
    its map is on it.

    Args:
        wanted: counts that must come out.
    """
    app = open_app(folder, transport=recorder)
    busy, started = time.process_time(), time.perf_counter()
    synced = app.sync("icontact")
    took = time.perf_counter() - started
    busy = time.process_time() - busy
    app.close()
    assert synced.stopped == "done", synced
    assert synced.run is not None
    found = {name: synced.run.counts[name] for name in wanted}
    assert found == wanted, found
    return contacts / took, busy / synced.run.pages * 1000


def bare(
    requests: Sequence[Recorded],
    insert: Callable[[Sequence[Sequence[str | None]]], None],
    contacts: int,
) -> float:
    """Ask for the same pages, parse them, insert the contacts; contacts a second."""
    ready = [
        httpx.Request(one.method, one.url, headers=list(one.headers), content=one.body)
        for one in requests
    ]
    before: set[str] = set()
    count = 0
    started = time.perf_counter()
    with (
        httpx.Client(timeout=30, trust_env=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        coming = pool.submit(client.send, ready[0])
        for place in range(len(ready)):
            answer = coming.result()
            if place + 1 < len(ready):
                coming = pool.submit(client.send, ready[place + 1])
            assert answer.status_code == 200
            page: list[dict[str, str]] = orjson.loads(answer.content).get("contacts")
            if not page:
                continue
            # Some rows come twice, at the seam of two pages.
            rows = [
                [row[name] or None for name in COLUMNS]
                for row in page
                if row["contactId"] not in before
            ]
            before = {row["contactId"] for row in page}
            insert(rows)
            count += len(rows)
    took = time.perf_counter() - started
    assert count == contacts, count
    return contacts / took


def measure(contacts: int, runs: int, postgres: Postgres | None = None) -> Section:
    """Compare both pulls of an account with the loop."""
    name = "PostgreSQL" if postgres else "SQLite"
    say(f"  {name}, {contacts:,} contacts at {LATENCY_MS} ms a page")
    first, second = {"created": contacts}, {"created": 0, "changed": 0}
    figures, recorder = Figures(), Recorder()
    with (
        tempfile.TemporaryDirectory(prefix="onward-bench-") as place,
        Dummy("benchmarks.folder", str(contacts)) as dummy,
    ):
        store = Empty(Path(place), contacts, postgres, write_toml)
        store.prepare(dummy.url(LATENCY_MS))
        with store.copy() as folder:
            pull(folder, contacts, first, recorder)
            pages = len(recorder.requests)
            wrote = _written_by(
                folder, partial(pull, folder, contacts, second, recorder), postgres
            )
            calls = len(recorder.requests) - pages
            del recorder.requests[pages:]
        for number in range(runs):
            with store.copy() as folder:
                gc.collect()
                speed, cpu = pull(folder, contacts, first, None)
                figures.first.append(speed)
                figures.cpu["first"].append(cpu)
                gc.collect()
                speed, cpu = pull(folder, contacts, second, None)
                figures.second.append(speed)
                figures.cpu["second"].append(cpu)
            with store.copy() as folder:
                gc.collect()
                figures.bare.append(
                    bare(recorder.requests, store.insert(folder), contacts)
                )
            say(
                f"    run {number + 1}: {figures.first[-1]:,.0f} and "
                f"{figures.second[-1]:,.0f} against {figures.bare[-1]:,.0f}"
            )
        store.remove()
    return _section(name, contacts, figures, (pages, calls), wrote)


def _written_by(
    folder: Path, work: Callable[[], object], postgres: Postgres | None
) -> dict[str, int]:
    """Return table -> rows that some work wrote, unchanged ones included."""
    if postgres is not None:
        before = _counted(postgres)
        work()
        after = _counted(postgres)
        return {name: after[name] - before[name] for name in WRITTEN}
    with closing(sqlite3.connect(folder / "onward.db")) as place:
        place.execute("CREATE TABLE wrote (name TEXT PRIMARY KEY, times INTEGER)")
        for name in WRITTEN:
            place.execute("INSERT INTO wrote VALUES (?, 0)", (name,))
            for how in ("INSERT", "UPDATE", "DELETE"):
                place.execute(TRIGGER.format(how=how, name=name))
        place.commit()
    work()
    with closing(sqlite3.connect(folder / "onward.db")) as place:
        return dict(place.execute("SELECT name, times FROM wrote"))


def _counted(postgres: Postgres) -> dict[str, int]:
    time.sleep(2)  # whoever wrote tells within a second
    with postgres.connect("bench_run") as place:
        return dict(
            place.execute(
                "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del"
                " FROM pg_stat_user_tables WHERE relname = ANY(%s)",
                [list(WRITTEN)],
            ).fetchall()
        )


def _section(
    name: str,
    contacts: int,
    figures: Figures,
    asked: tuple[int, int],
    wrote: dict[str, int],
) -> Section:
    section = Section(
        f"Pulling {contacts:,} contacts at {LATENCY_MS} ms a page, {name}",
        (
            "pull",
            "calls",
            "Onward",
            "CPU a page",
            "bare loop",
            "ratio",
            "at least",
            "",
        ),
    )
    for which, speeds, calls in (
        ("first", figures.first, asked[0]),
        ("second", figures.second, asked[1]),
    ):
        ratios = [a / b for a, b in zip(speeds, figures.bare, strict=True)]
        section.rows.append(
            (
                "first" if which == "first" else "second, nothing changed",
                f"{calls:,}",
                rate(speeds),
                f"{statistics.median(figures.cpu[which]):.0f} ms",
                rate(figures.bare),
                ratio(ratios),
                f"{FLOORS[which]:.2f}",
                at_least(statistics.median(ratios), FLOORS[which]),
            )
        )
    stored = "`COPY` by psycopg" if name == "PostgreSQL" else "`executemany`"
    said = ", ".join(f"{count:,} in `{name}`" for name, count in wrote.items())
    section.notes.append(
        "Contacts a second; pages of 500 by the iContact plugin, 10 of them read twice "
        "at each seam, only fields of the rows mapped. The bare loop sends the "
        "requests of a first pull, one at a time, the next while a page is stored, to "
        f"the same server; it parses the pages and writes the contacts by {stored}, a "
        "transaction a page, into the same table. It writes no identities, nothing of "
        "the remote contacts, and looks for nobody. The calls are "
        f"{_pages(contacts):,} pages of contacts, one of lists, one of opt-outs and "
        f"two of members. Rows the second pull wrote: {said}."
    )
    return section


def _pages(contacts: int) -> int:
    """Return how many pages of 500 there are, when 10 rows come again."""
    return 1 + max(0, -(-(contacts - 500) // 490))


# -- memory


def measure_memory(sizes: Sequence[int]) -> Section:
    """Watch `onward sync`, a process of its own, at both pulls of each size."""
    section = Section(
        "Pulling, SQLite: memory of `onward sync`",
        ("pull", "contacts", "seconds", "MB at 10 %, 50 %, 100 %", "peak", ""),
    )
    for size in sizes:
        for which, used in _watched(size):
            at = used.resident
            growth = at[-1] - at[1] if at else 0.0
            flat = "flat" if growth <= MOST_GROWTH_MB else f"**grew {growth:.0f} MB**"
            resident = " · ".join(f"{one:.0f}" for one in at)
            section.rows.append(
                (
                    which,
                    f"{size:,}",
                    f"{used.seconds:.1f}",
                    resident,
                    f"{used.peak:.0f} MB",
                    flat,
                )
            )
    section.notes.append(
        "Resident size at these shares of the time from the first progress drawn to "
        f"the result; flat is at most {MOST_GROWTH_MB:.0f} MB more at the end than "
        "half-way."
    )
    return section


def _watched(size: int) -> Iterator[tuple[str, Used]]:
    say(f"  memory, {size:,} contacts")
    with (
        tempfile.TemporaryDirectory(prefix="onward-bench-") as place,
        Dummy("benchmarks.folder", str(size)) as dummy,
    ):
        store = Empty(Path(place), size, None, write_toml)
        store.prepare(dummy.url(LATENCY_MS))
        with store.copy() as folder:
            for which in ("first", "second, nothing changed"):
                used = run(
                    folder, "sync", "icontact", begins="pulling", ends="the next pull"
                )
                assert used.code == 0, used.said
                yield which, used
