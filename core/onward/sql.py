"""Statements that are built once and fit both databases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import JSON, Boolean, Column, Connection, Dialect, Integer, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement, ColumnElement

# The two dialects' Insert classes share `on_conflict_*` but no base class.
Insert = Any

# Below what both databases take as parameters of one statement.
PARAMETERS = 30_000

_DRAW = text(
    "SELECT nextval(pg_get_serial_sequence(:of, 'id')) FROM generate_series(1, :n)"
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
    # Place in the row → what turns the value into the driver's.
    convert: tuple[tuple[int, Callable[[Any], Any]], ...] = ()

    def of(self, count: int) -> str:
        return self.head + ", ".join([self.repeat] * count) + self.tail


class Rows:
    """An insert of many rows, for the hot paths.

    SQLAlchemy spends 15 µs or more on each row, and 50 to 100 on each statement.
    Here it compiles the statement once, and the driver gets all rows in one
    `VALUES (…), (…)`: 4 and 15 µs, what the database does itself included.

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
        self._texts: WeakKeyDictionary[Dialect, _Text] = WeakKeyDictionary()

    def __call__(
        self, connection: Connection, rows: Sequence[Sequence[object]]
    ) -> list[tuple[Any, ...]]:
        """Insert them; return what the statement returns, in no order."""
        found = self._texts.get(connection.dialect)
        if found is None:
            found = self._texts[connection.dialect] = self._compile(connection)
        most = PARAMETERS // len(self._columns)
        returned: list[tuple[Any, ...]] = []
        for start in range(0, len(rows), most):
            values: list[object] = []
            part = rows[start : start + most]
            for row in part:
                ready = list(row)
                for place, convert in found.convert:
                    ready[place] = convert(ready[place])
                values += ready
            returned += _run(connection, found.of(len(part)), values)
        return returned

    def _compile(self, connection: Connection) -> _Text:
        real = connection.dialect
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
        return _Text(f"{head} VALUES ", f"({row})", tail, tuple(convert))


def _converter(column: Column[Any], real: Dialect) -> Callable[[Any], Any] | None:
    """Return what turns a value into the driver's, None when it is that already."""
    if isinstance(column.type, JSON):
        return to_json
    if isinstance(column.type, Boolean):
        return None  # both drivers know True and False
    return column.type.dialect_impl(real).bind_processor(real)


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
        self._texts: WeakKeyDictionary[Dialect, _Text] = WeakKeyDictionary()

    def __call__(
        self, connection: Connection, values: Sequence[object], *first: object
    ) -> list[tuple[Any, ...]]:
        """Run it for all of `values`; `first` are the other parameters."""
        found = self._texts.get(connection.dialect)
        if found is None:
            written, _ = _compiled(self._statement, connection.dialect)
            head, _, rest = written.partition("(__[POSTCOMPILE_among")
            tail = rest.partition("])")[2]
            mark = "?" if connection.dialect.name == "sqlite" else "%s"
            found = self._texts[connection.dialect] = _Text(
                f"{head}(", mark, f"){tail}"
            )
        most = PARAMETERS - len(first)
        returned: list[tuple[Any, ...]] = []
        for start in range(0, len(values), most):
            part = values[start : start + most]
            returned += _run(connection, found.of(len(part)), [*first, *part])
        return returned


def _compiled(
    statement: ClauseElement, real: Dialect, keys: Sequence[str] | None = None
) -> tuple[str, list[str]]:
    """Return the text with its parameters by position, and their names."""
    # By position, whatever the driver prefers: values come as a flat list.
    style = "qmark" if real.name == "sqlite" else "format"
    written: Any = type(real)
    compiled: Any = statement.compile(
        dialect=written(paramstyle=style), column_keys=keys
    )
    return str(compiled), list(compiled.positiontup)


def _run(
    connection: Connection, statement: str, values: Sequence[object]
) -> list[tuple[Any, ...]]:
    """Run a statement on the driver, inside SQLAlchemy's transaction."""
    driver: Any = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement, tuple(values))
        return list(cursor.fetchall()) if cursor.description else []
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


def draw_ids(connection: Connection, table: Table, count: int) -> Sequence[int | None]:
    """Return the ids of `count` rows that are about to be inserted, rising.

    PostgreSQL promises no order among the ids it gives to the rows of one
    statement. SQLite, with its one writer, numbers them as they come: there the
    ids are None, and those returned, sorted, are in the order of the rows.
    """
    if connection.dialect.name != "postgresql":
        return [None] * count
    drawn = connection.execute(_DRAW, {"of": table.name, "n": count})
    return sorted(drawn.scalars())
