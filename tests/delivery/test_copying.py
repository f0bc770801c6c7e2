"""A database is copied whole or not at all, and works as the one before did."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import JSON, Boolean, Float, Integer, Table, insert, select
from sqlalchemy.types import BigInteger
from sqlmodel import AutoString

from onward.contacts.suppress import find_suppressions
from onward.copying import copy_database
from onward.copying.copy import copied_tables, count_rows
from onward.database import Database
from onward.delivery.lease import take, this_process
from onward.errors import ConfigError, InputError
from onward.models import UTCDateTime
from onward.testing.app import START
from onward.why import explain

if TYPE_CHECKING:
    from tests.conftest import AtOnce
    from tests.delivery.conftest import Connect, Service, Tools

TEXTS = (
    "",
    "plain",
    "Zoë 漢字 🦊",
    "a 'quote', a \"b\" \\ ;--",
    "línea\n\ttab",
    "'; DROP",
)
DOCUMENTS: tuple[Any, ...] = (
    {},
    {"a": [1, 2.5, None, True, "ß", {"b": 2**53}], "nul": "a\x00b", "": ""},
    ["x", [], {}],
    {"big": 2**63 - 1, "small": -(2**63), "e": 1e300},
)
WHOLE = (0, 1, -1, 2**31 - 1)
LARGE = (0, 2**63 - 1, -(2**63) + 1)
BROKEN = (0.0, 1 / 3, 1772614800.123456, 1e-300)
MOMENTS = (
    START,
    datetime(1, 1, 2, tzinfo=UTC),
    datetime(9999, 12, 30, 23, 59, 59, 999_999, UTC),
)


def value_of(column: Any, number: int) -> Any:
    """A value of a column; another one for each number."""
    kind = column.type
    if column.nullable and number % 3 == 0:
        return None
    if isinstance(kind, UTCDateTime):
        return MOMENTS[number % len(MOMENTS)]
    if isinstance(kind, JSON):
        return DOCUMENTS[number % len(DOCUMENTS)]
    if isinstance(kind, Boolean):
        return bool(number % 2)
    if isinstance(kind, Float):
        return BROKEN[number % len(BROKEN)]
    if isinstance(kind, BigInteger):
        return LARGE[number % len(LARGE)]
    if isinstance(kind, Integer):
        return WHOLE[number % len(WHOLE)]
    assert isinstance(kind, AutoString), column
    return TEXTS[number % len(TEXTS)]


def rich_rows(table: Table) -> Iterator[dict[str, Any]]:
    """Rows with everything a column can hold, and keys of their own."""
    for number in range(1, 14):
        row = {
            column.name: value_of(column, number + place)
            for place, column in enumerate(table.c)
        }
        for key in table.primary_key.columns:
            same = isinstance(key.type, AutoString)
            row[key.name] = f"{TEXTS[2]}{number}" if same else number * 7
        for name in {"name", "key", "address_hash"} & set(row):
            row[name] = f"{name} {number}"
        if table.name == "lease":
            row["until"] = START - timedelta(days=1)
        if table.name == "alert":
            row["subject"] = f"{number}"
        yield row


def rows_of(database: Database) -> dict[str, list[str]]:
    """Every row of every table, as text, in no order of any server."""
    with database.read() as transaction:
        return {
            one.name: sorted(
                repr([_utc(value) for value in row])
                for row in transaction.execute(select(one))
            )
            for one in copied_tables()
        }


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.fixture
def source(database: Database) -> Database:
    """A database with rich rows in every table."""
    with database.write() as transaction:
        for one in copied_tables():
            transaction.execute(insert(one), list(rich_rows(one)))
    return database


@pytest.mark.postgres
def test_there_and_back_every_row_is_the_same(
    sqlite_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """SQLite → PostgreSQL → SQLite: each row of each table is what it was."""
    first, second = Database(sqlite_url), Database(postgres_url)
    third = Database(f"sqlite:///{tmp_path}/back.db")
    with first.write() as transaction:
        for one in copied_tables():
            transaction.execute(insert(one), list(rich_rows(one)))

    there = copy_database(first, second, now=START)
    back = copy_database(second, third, now=START)

    assert set(there.rows.values()) == {13}
    assert back.rows == there.rows
    assert rows_of(second) == rows_of(first)
    assert rows_of(third) == rows_of(first)
    for opened in (first, second, third):
        opened.close()


@pytest.mark.postgres
def test_nul_in_a_text_is_left_out_for_postgresql(
    sqlite_url: str, postgres_url: str
) -> None:
    """What PostgreSQL cannot keep in a text is left out and counted; JSON keeps it."""
    first, second = Database(sqlite_url), Database(postgres_url)
    setting = next(one for one in copied_tables() if one.name == "setting")
    with first.write() as transaction:
        transaction.execute(insert(setting), {"name": "n", "value": "a\x00b"})

    done = copy_database(first, second, now=START)

    assert done.without_nul == 1
    assert rows_of(second)["setting"] == ["['n', 'ab']"]
    first.close()
    second.close()


def other_url(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> str:
    """An empty database of the other kind."""
    if url.startswith("sqlite"):
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/other.db"


@pytest.mark.postgres
def test_the_copy_delivers_what_was_waiting(
    connect: Connect,
    service: Service,
    tools: type[Tools],
    database_url: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """What waits goes, nobody is sent twice, opt-outs hold, numbers go on."""
    once = '[[rules]]\nkey = "once"\nwhen = "seen"\nrepeat = "once"\npush_to = ["acme"]'
    app = connect(more=once, database_url=database_url)
    app.record_action("seen", email="ana@shop.example")
    app.deliver()
    tools.fire(app, "ana", "bea", "cy", "dee")
    app.suppress("cy@shop.example")
    app.suppress("gone@shop.example")
    app.record_action("form.sent", email="eve@shop.example", key="k")
    highest = app.deliveries()[-1]["id"]
    sent = len(service.pushes)
    url = other_url(request, database_url, tmp_path)
    target = Database(url)

    copy_database(app.runtime.database, target, now=app.clock.now)

    target.close()
    copied = connect(more=once, database_url=url, clock=app.clock)
    assert len(copied.queued) == 5
    copied.deliver()
    assert tools.ended(copied) == {
        "ana": ("unchanged", "unchanged"),
        "bea": ("delivered", "delivered"),
        "cy": ("skipped", "suppressed"),
        "dee": ("delivered", "delivered"),
        "eve": ("delivered", "delivered"),
    }
    assert sum(len(batch) for batch in service.pushes[sent:]) == 3
    assert copied.record_action("seen", email="ana@shop.example").pushes == ()
    assert copied.record_action("form.sent", email="eve@shop.example", key="k").repeated
    with copied.runtime.database.read() as transaction:
        known = find_suppressions(transaction, {0: ["gone@shop.example"]})
    assert [stop.scope for stop in known[0]] == ["address"]
    assert "delivered" in "\n".join(explain(copied.runtime, "bea@shop.example").lines())
    tools.fire(copied, "fay")
    assert copied.queued[-1]["id"] > highest


def test_a_target_with_rows_is_refused(source: Database) -> None:
    """Nothing is ever written over, and the same database is no target either."""
    before = rows_of(source)

    with pytest.raises(InputError) as refused:
        copy_database(source, source, now=START)

    assert refused.value.message.startswith("the database to copy to is not empty: ")
    assert rows_of(source) == before


def test_a_source_that_is_worked_with_is_refused(
    source: Database, tmp_path: Path
) -> None:
    """A lease that somebody holds stops it; when it ended, the copy is made."""
    target = Database(f"sqlite:///{tmp_path}/target.db")
    held = take(source, "connection:1", timedelta(seconds=60), lambda: START)
    assert held is not None

    with pytest.raises(InputError) as refused:
        copy_database(source, target, now=START)

    assert refused.value.message.startswith(
        f"the database is being worked with (connection:1 by {this_process()}, "
        "until 09:01:00 UTC): "
    )
    assert not (tmp_path / "target.db").exists()
    held.release()
    assert copy_database(source, target, now=START).total == count_rows(source)
    target.close()


def test_what_is_recorded_meanwhile_undoes_the_copy(
    connect: Connect, tools: type[Tools], database_url: str, tmp_path: Path
) -> None:
    """An action recorded during the copy is told, and the target stays empty."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana")
    source = app.runtime.database
    target = Database(f"sqlite:///{tmp_path}/target.db")
    late: list[int] = []

    def meanwhile(rows: int) -> None:
        if not late:
            late.append(rows)
            tools.fire(app, "bea")

    with pytest.raises(InputError) as refused:
        copy_database(source, target, now=app.clock.now, on_progress=meanwhile)

    assert "changed while it was copied" in refused.value.message
    assert "event" in refused.value.message
    assert set(map(len, rows_of(target).values())) == {0}
    copy_database(source, target, now=app.clock.now)
    assert rows_of(target) == rows_of(source)
    target.close()


def test_another_schema_is_refused(tmp_path: Path, sqlite_url: str) -> None:
    """A file without tables cannot be copied; it is said what to do."""
    empty, target = Database(f"sqlite:///{tmp_path}/empty.db"), Database(sqlite_url)

    with pytest.raises(ConfigError) as refused:
        copy_database(empty, target, now=START)

    assert refused.value.message.startswith("the database to copy from has no tables, ")
    empty.close()
    target.close()


@pytest.mark.postgres
def test_killed_it_leaves_an_empty_target(
    sqlite_url: str, postgres_url: str, tmp_path: Path, at_once: AtOnce
) -> None:
    """Killed just before its end, the target has no row, and a second copy all."""
    (tmp_path / "onward.toml").write_text(f'[onward]\ndatabase_url = "{sqlite_url}"\n')
    copy = f"""
import os
from onward.clock import utcnow
from onward.copying import copy_database
from onward.database import Database
target = Database({postgres_url!r})
"""
    kill = "os.environ['ONWARD_FAILPOINT'] = 'before_copy_ends'\n"
    run = "result = copy_database(app.runtime.database, target, now=utcnow()).total"
    at_once(["app.record_action('seen', email='ana@shop.example')"])

    [killed] = at_once([copy + kill + run])
    target = Database(postgres_url)
    left = count_rows(target)
    [again] = at_once([copy + run])

    assert (killed, left) == ({"ended": -9}, 0)
    assert again == count_rows(target)
    source = Database(sqlite_url)
    assert rows_of(target) == rows_of(source)
    for opened in (source, target):
        opened.close()
