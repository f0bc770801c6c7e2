"""The rows of one table: read in any order, told by a sum, written as they were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection as Transaction
from sqlalchemy import Table, func, select, text

from onward.sql import Rows

# Rows held in memory at a time; bodies of requests and refused lines are large.
PART, FEW = 1_000, 50
LARGE = frozenset({"exchanges", "problems"})
_MANY = 2**128
_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS

_SEQUENCE = text(
    "SELECT setval(pg_get_serial_sequence(:of, 'id'), greatest(:highest, 1), "
    ":highest > 0) WHERE pg_get_serial_sequence(:of, 'id') IS NOT NULL"
)

Row = Sequence[Any]


class Sum:
    """How many rows there are, and a sum that tells them from any others.

    Each row's digest is added, so the order does not count: texts are sorted
    differently by different servers.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._total = 0

    def add(self, row: Row) -> None:
        """Count a row in."""
        plain = orjson.dumps([_plain(value) for value in row], option=_SORTED)
        digest = hashlib.blake2b(plain, digest_size=16).digest()
        self._total = (self._total + int.from_bytes(digest)) % _MANY
        self.rows += 1

    def __eq__(self, other: object) -> bool:
        """Tell whether both have seen the same rows."""
        return isinstance(other, Sum) and self.said == other.said

    __hash__ = None  # type: ignore[assignment]

    @property
    def said(self) -> tuple[int, str]:
        """Rows, and the sum as text."""
        return self.rows, f"{self._total:032x}"


def _plain(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def part_of(table: Table) -> int:
    """Return how many rows of a table are held in memory."""
    return FEW if LARGE & set(table.c.keys()) else PART


def read_rows(transaction: Transaction, table: Table) -> Iterator[Row]:
    """Yield every row, in little memory."""
    # Of the statement: those of a connection would count for all that follows.
    little = {"yield_per": part_of(table)}
    yield from transaction.execute(select(table), execution_options=little)


def sum_up(transaction: Transaction, table: Table) -> Sum:
    """Read a table once more for its sum."""
    found = Sum()
    for row in read_rows(transaction, table):
        found.add(row)
    return found


def write_rows(
    transaction: Transaction,
    table: Table,
    rows: Iterator[Row],
    on_progress: Callable[[int], None],
) -> Sum:
    """Insert rows as they are; return their sum."""
    put = Rows(lambda insert: insert(table), list(table.c))
    written, size = Sum(), part_of(table)
    part: list[Row] = []
    for row in rows:
        part.append(row)
        written.add(row)
        if len(part) == size:
            put(transaction, part)
            on_progress(len(part))
            part = []
    if part:
        put(transaction, part)
        on_progress(len(part))
    return written


def number_on(transaction: Transaction, table: Table) -> None:
    """Let PostgreSQL give numbers after the highest that was copied."""
    if transaction.dialect.name != "postgresql" or "id" not in table.c:
        return
    if table.c.id.type.python_type is not int:
        return
    highest = transaction.execute(select(func.max(table.c.id))).scalar() or 0
    transaction.execute(_SEQUENCE, {"of": table.name, "highest": highest})


def without_nul(value: Any) -> Any:
    """Return a text without NUL characters, which PostgreSQL cannot keep.

    Nothing that is recorded has one; the older words of a service may. In JSON
    they are written out, and stay.
    """
    return value.replace("\x00", "") if isinstance(value, str) else value
