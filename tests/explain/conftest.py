"""Hearing every statement that reaches a driver, and asking how it would be run."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect

# What is said in a transaction about rows; the rest needs no plan.
_PLANNED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
_LISTED = re.compile(r"\((?:\s*(?:\?|%s|%\(\w+\)s(?:::\w+)?),?)+\s*\)")
# Partial indexes of what is rare: merged contacts, replays.
OF_FEW = frozenset({"contact_merged", "cause_replay"})
_ALIAS = re.compile(r"\b(\w+) AS (\w+)\b")


class Statements:
    """Every statement that was heard, each with the parameters of its first time."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, Any]] = {}
        self.listening = False

    def hear(self, text: object, parameters: Any) -> None:
        """Take note of one; those that differ in the length of a list are the same."""
        said = text if isinstance(text, str) else str(text)
        if self.listening and _PLANNED.match(said):
            self.found.setdefault(_LISTED.sub("(…)", said), (said, parameters))


@pytest.fixture
def statements() -> Iterator[Statements]:
    """What the drivers of both databases are told, below SQLAlchemy.

    Hot paths speak to the driver themselves, so its own events do not tell.
    """
    heard = Statements()

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, parameters: Any = (), /) -> Any:
            heard.hear(sql, parameters)
            return super().execute(sql, parameters)

        def executemany(self, sql: str, parameters: Any, /) -> Any:
            rows = list(parameters)
            heard.hear(sql, rows[0])
            return super().executemany(sql, rows)

    class File(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

    class Server(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            heard.hear(query, params)
            return super().execute(query, params, **options)

        def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
            rows = list(params_seq)
            heard.hear(query, rows[0])
            super().executemany(query, rows, **options)

    class Stream(psycopg.ServerCursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            heard.hear(query, params)
            return super().execute(query, params, **options)

    def connect(dialect: Dialect, record: Any, args: Any, options: Any) -> Any:
        if dialect.name == "sqlite":
            return sqlite3.connect(*args, factory=File, **options)
        made = psycopg.connect(*args, cursor_factory=Server, **options)
        made.server_cursor_factory = Stream
        return made

    event.listen(Engine, "do_connect", connect)
    yield heard
    event.remove(Engine, "do_connect", connect)


def aliases(statement: str) -> dict[str, str]:
    """Return alias → table of a statement, as far as words tell."""
    return {alias: name for name, alias in _ALIAS.findall(statement)}


def walks_on_sqlite(
    raw: Any, statement: str, parameters: Any, big: Sequence[str]
) -> list[str]:
    """Return the lines of SQLite's plan that go through all of a big table."""
    called = aliases(statement)
    plan = raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters or ()).fetchall()
    walks: list[str] = []
    for *_, line in plan:
        found = re.match(r"SCAN (\w+)", line)
        if not found and " LIMIT " not in statement:
            # All rows of a connection, in a state, of a kind can be all there are.
            all_of = r"SEARCH (\w+) .*\((?:connection_id|state|kind)=\?\)$"
            found = re.match(all_of, line)
        if found and called.get(found[1], found[1]) in big:
            walks.append(line)
    return walks


def walks_on_postgres(
    raw: Any, statement: str, parameters: Any, big: Sequence[str]
) -> list[str]:
    """Return the nodes of PostgreSQL's plans that go through all of a big table.

    Asked twice: with these parameters, and as the driver's prepared statement is
    planned later, for any parameters.
    """
    plans = [
        raw.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters),
        raw.execute(f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {numbered(statement)}"),
    ]
    return [
        f"{node['Node Type']} {node.get('Relation Name', '')} "
        f"{node.get('Index Name', '')} {node.get('Filter', '')}".strip()
        for plan in plans
        for node in walks(plan.fetchone()[0][0]["Plan"])
        if node.get("Relation Name", "") in big
    ]


def walks(plan: Mapping[str, Any], above: str = "") -> Iterator[Mapping[str, Any]]:
    """Yield the nodes that look at every row, or every entry of an index.

    The first entry of an index is no walk, and an index of few rows is walked to
    find one of them.
    """
    index = plan.get("Index Name")
    is_first = above == "Limit" and "Filter" not in plan
    everything = index and "Index Cond" not in plan and index not in OF_FEW
    if plan["Node Type"] == "Seq Scan" or (everything and not is_first):
        yield plan
    for inner in plan.get("Plans", ()):
        yield from walks(inner, plan["Node Type"])


def numbered(statement: str) -> str:
    """Return a statement with its parameters as PostgreSQL itself writes them."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        name = found[1] or f"#{len(names)}"
        return f"${names.setdefault(name, len(names) + 1)}"

    return re.sub(r"%%|%s|%\((\w+)\)s", number, statement)
