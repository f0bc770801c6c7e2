"""Statements that are built once and fit both databases."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, repeat
from operator import is_
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Dialect,
    Integer,
    Table,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement, ColumnElement

# The two dialects' Insert classes share `on_conflict_*` but no base class.
Insert = Any

# Below what both databases take as parameters of one statement.
PARAMETERS = 30_000

# The name is looked up once and not for each row; AS MATERIALIZED sees to that.
_DRAW = text(
    "WITH it AS MATERIALIZED"
    " (SELECT pg_get_serial_sequence(:of, 'id')::regclass AS sequence)"
    " SELECT nextval(it.sequence) FROM it, generate_series(1, :n)"
)


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column as an expression, so that none of its indexes is taken.

    SQLite, without statistics, would rather walk through all rows in a state than
    look at the few of a contact, and through all of a connection than through
    those that wait.
    """
    return column + 0 if isinstance(column.type, Integer) else column.concat("")


def to_json(value: object) -> str:
    """Return JSON as it is stored; most of it is empty."""
    if value == {}:
        return "{}"
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def to_array(values: Iterable[object]) -> str:
    """Return numbers or texts as PostgreSQL writes an array.

    Its driver looks for the type of each value: a tenth of what a statement takes.
    """
    values = list(values)
    if values and isinstance(values[0], str):
        # Nearly always nothing in them is to be escaped: one look at all of them.
        text = '","'.join(map(str, values))
        if "\\" not in text and text.count('"') == 2 * (len(values) - 1):
            return f'{{"{text}"}}'
    return "{" + ",".join(_element(value) for value in values) + "}"


def _element(value: object) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


class PerDialect:
    """One upsert, built for SQLite and for PostgreSQL from the same words.

    Example: `PUT = PerDialect(lambda insert: insert(t).on_conflict_do_nothing())`,
    then `connection.execute(PUT(connection), rows)`.
    """

    def __init__(self, build: Callable[[Callable[..., Insert]], Insert]) -> None:
        self._built = {
            "sqlite": build(sqlite.insert),
            "postgresql": build(postgresql.insert),
        }

    def __call__(self, connection: Connection) -> Any:
        """Return the statement for this connection's database."""
        return self._built[connection.dialect.name]


@dataclass(frozen=True, slots=True)
class _Text:
    """A compiled statement, cut open where what repeats goes."""

    head: str
    repeat: str
    tail: str

    def of(self, count: int) -> str:
        return self.head + ", ".join([self.repeat] * count) + self.tail


@dataclass(frozen=True, slots=True)
class _Insert:
    """A compiled insert.

    Args:
        text: "" repeated for each row, or whole, with one parameter for all rows.
        convert: (place in the row, what turns the value into the driver's).
        names: of the values in that parameter; none where each is one of its own.
    """

    text: _Text
    convert: tuple[tuple[int, Callable[[Any], Any]], ...]
    names: tuple[str, ...] = ()

    def ready(self, rows: Sequence[Sequence[object]]) -> Sequence[Sequence[object]]:
        if not self.convert:
            return rows
        # By columns: a call for each, not a loop for each row.
        columns: list[Iterable[object]] = list(zip(*rows, strict=True))
        for place, convert in self.convert:
            column: Any = columns[place]
            # A moment or a constant that all share is converted once.
            if all(map(is_, column, repeat(column[0]))):
                columns[place] = repeat(convert(column[0]), len(column))
            else:
                columns[place] = map(convert, column)
        return list(zip(*columns, strict=True))


class Rows:
    """An insert of many rows, for the hot paths.

    SQLAlchemy spends 15 µs or more on each row, and 50 to 100 on each statement.
    Here it compiles the statement once. SQLite gets all rows in one
    `VALUES (…), (…)`: 4 and 15 µs, what the database does itself included. PostgreSQL
    gets them as one JSON text: its driver would read the long statement anew each
    time, which took a quarter of a delivery, and the server would plan it.

    Args:
        build: makes the insert, as for `PerDialect`. Constants in it must be
            literal text, because the only parameters are the rows.
        columns: of the values, in the order the table has them.

    Example: `ADD = Rows(lambda insert: insert(t), [t.c.key, t.c.at])`, then
    `ADD(connection, [("a", now), ("b", now)])`.
    """

    def __init__(
        self,
        build: Callable[[Callable[..., Insert]], Insert],
        columns: Sequence[Column[Any]],
    ) -> None:
        self._statement = PerDialect(build)
        self._columns = columns
        self._compiled: dict[str, _Insert] = {}

    def __call__(
        self, connection: Connection, rows: Sequence[Sequence[object]]
    ) -> list[tuple[Any, ...]]:
        """Insert them; return what the statement returns, in no order."""
        returned: list[tuple[Any, ...]] = []
        for statement, values in self._parts(connection, rows):
            returned += _run(connection, statement, values)
        return returned

    def count(self, connection: Connection, rows: Sequence[Sequence[object]]) -> int:
        """Insert them; return how many there were to insert.

        To fetch a row for each takes SQLite a third of the insert.
        """
        return sum(
            _count(connection, statement, values)
            for statement, values in self._parts(connection, rows)
        )

    def _parts(
        self, connection: Connection, rows: Sequence[Sequence[object]]
    ) -> Iterator[tuple[str, Sequence[object]]]:
        name = connection.dialect.name
        found = self._compiled.get(name)
        if found is None:
            found = self._compiled[name] = self._compile(connection)
        most = PARAMETERS // len(self._columns)
        for start in range(0, len(rows), most):
            part = found.ready(rows[start : start + most])
            if found.names:
                listed = [dict(zip(found.names, row, strict=True)) for row in part]
                written = orjson.dumps(listed, default=_moment).decode()
                yield found.text.of(1), [written]
            else:
                yield found.text.of(len(part)), list(chain.from_iterable(part))

    def _compile(self, connection: Connection) -> _Insert:
        real = _ours(connection)
        keys = [column.key for column in self._columns]
        written, order = _compiled(self._statement(connection), real, keys)
        if order != keys:
            raise AssertionError(f"give the columns in this order: {order}")
        head, _, rest = written.partition(" VALUES (")
        row, _, tail = rest.partition(")")
        convert = [
            (place, process)
            for place, column in enumerate(self._columns)
            if (process := _converter(column, real))
        ]
        if real.name == "sqlite":
            text = _Text(f"{head} VALUES ", f"({row})", tail)
            return _Insert(text, tuple(convert))
        names = tuple(f"c{place}" for place in range(len(keys)))
        for name in names:
            row = row.replace("%s", f"r.{name}", 1)
        typed = ", ".join(
            f"{name} {_type_in_json(column, real)}"
            for name, column in zip(names, self._columns, strict=True)
        )
        listed = f"json_to_recordset(%s::JSON) AS r({typed})"
        # Of our own statements and types; values are its one parameter.
        start = f"{head} SELECT {row} FROM "  # noqa: S608
        text = _Text(start, listed, tail)
        return _Insert(text, tuple(convert), names)


def _converter(column: Column[Any], real: Dialect) -> Callable[[Any], Any] | None:
    """Return what turns a value into the driver's, None when it is that already."""
    if isinstance(column.type, JSON):
        return to_json
    if isinstance(column.type, Boolean):
        return None  # both drivers know True and False
    return column.type.dialect_impl(real).bind_processor(real)


def _moment(value: object) -> str:
    """Write a moment of a library's own kind of `datetime`."""
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _type_in_json(column: Column[Any], real: Dialect) -> str:
    """Return as what PostgreSQL is to take a value out of JSON; the row casts it."""
    if isinstance(column.type, JSON):
        return "TEXT"  # it was made one before
    return column.type.compile(dialect=real)


class Among:
    """A statement about `column IN (…)`, for the hot paths; see `Rows`.

    Args:
        statement: a select, update or delete. Its last parameter expands and is
            called `among`; the others are given in the order they are written
            in. Only texts and whole numbers may be asked for; JSON comes back as
            the driver gives it.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._texts: dict[str, tuple[str, str]] = {}

    def __call__(
        self, connection: Connection, values: Sequence[object], *first: object
    ) -> list[tuple[Any, ...]]:
        """Run it for all of `values`; `first` are the other parameters."""
        name = connection.dialect.name
        found = self._texts.get(name)
        if found is None:
            written, _ = _compiled(self._statement, _ours(connection))
            head, _, rest = written.partition(" IN (__[POSTCOMPILE_among")
            found = self._texts[name] = head, rest.partition("])")[2]
        head, tail = found
        if name != "sqlite":
            # As one array: the statement is the same for any number of them.
            kind = "BIGINT" if values and isinstance(values[0], int) else "TEXT"
            text = f"{head} = ANY(%s::{kind}[]){tail}"
            return _run(connection, text, [*first, to_array(values)]) if values else []
        most = PARAMETERS - len(first)
        returned: list[tuple[Any, ...]] = []
        for start in range(0, len(values), most):
            part = values[start : start + most]
            text = f"{head} IN ({', '.join('?' * len(part))}){tail}"
            returned += _run(connection, text, [*first, *part])
        return returned


def _ours(connection: Connection) -> Dialect:
    """Return a dialect of the same kind, that no setting of an engine changed.

    What is compiled with it fits every database of its name.
    """
    # By position, whatever the driver prefers: values come as a flat list.
    style = "qmark" if connection.dialect.name == "sqlite" else "format"
    kind: Any = type(connection.dialect)
    made: Dialect = kind(paramstyle=style)
    return made


def _compiled(
    statement: ClauseElement, real: Dialect, keys: Sequence[str] | None = None
) -> tuple[str, list[str]]:
    """Return the text with its parameters by position, and their names."""
    compiled: Any = statement.compile(dialect=real, column_keys=keys)
    return str(compiled), list(compiled.positiontup)


def _run(
    connection: Connection, statement: str, values: Sequence[object]
) -> list[tuple[Any, ...]]:
    """Run a statement on the driver, inside SQLAlchemy's transaction."""
    with _executed(connection, statement, values) as cursor:
        return list(cursor.fetchall()) if cursor.description else []


def _count(connection: Connection, statement: str, values: Sequence[object]) -> int:
    """Run a statement; return how many rows it wrote."""
    with _executed(connection, statement, values) as cursor:
        return int(cursor.rowcount)


@contextmanager
def _executed(
    connection: Connection, statement: str, values: Sequence[object]
) -> Generator[Any]:
    driver: Any = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement, tuple(values))
        yield cursor
    except driver.Error as error:
        # As SQLAlchemy would raise it, without the values: they name people.
        raise DBAPIError.instance(
            statement,
            None,
            error,
            driver.Error,
            hide_parameters=True,
            dialect=connection.dialect,
        ) from error
    finally:
        cursor.close()


def draw_ids(connection: Connection, table: Table, count: int) -> Sequence[int]:
    """Return the ids of `count` rows that are about to be inserted, rising.

    To be told them afterwards would take longer, and PostgreSQL promises no order
    among those it gives to the rows of one statement. SQLite's one writer takes the
    next ones, as SQLite itself would.
    """
    if connection.dialect.name == "sqlite":
        highest = connection.execute(select(func.max(table.c.id))).scalar() or 0
        return range(highest + 1, highest + 1 + count)
    drawn = connection.execute(_DRAW, {"of": table.name, "n": count})
    return sorted(drawn.scalars())
