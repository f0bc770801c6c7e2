"""`column IN (many values)` as one parameter, on both databases.

SQLAlchemy writes such a list out, a parameter for each value, every time: for a
batch of 100 that takes longer than the query itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
    Text,
    TypeDecorator,
    any_,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

from onward.sql import to_array

# A test of a column, and the name of the parameter that holds the values.
Among = Callable[[Any, str], ColumnElement[bool]]


class _Values(TypeDecorator[Any]):
    """A list: an array on PostgreSQL, JSON on SQLite; both written as a text."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[BigInteger | Text]) -> None:
        super().__init__()
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(ARRAY(self.kind))
        return dialect.type_descriptor(Text())

    def bind_processor(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, dialect: Dialect
    ) -> Callable[[Any], str]:
        return to_array if dialect.name == "postgresql" else _to_list


def _to_list(values: Iterable[Any]) -> str:
    return orjson.dumps(list(values)).decode()


def _values(column: Any, name: str) -> Any:
    is_number = column.type.python_type is int
    return bindparam(name, type_=_Values(BigInteger if is_number else Text))


def _in_array(column: Any, name: str) -> ColumnElement[bool]:
    found: ColumnElement[bool] = column == any_(_values(column, name))
    return found


def _in_json(column: Any, name: str) -> ColumnElement[bool]:
    listed = func.json_each(_values(column, name)).table_valued("value")
    found: ColumnElement[bool] = column.in_(select(listed.c.value))
    return found


class ForEach:
    """A statement about many rows, built for both databases.

    Example: `ForEach(lambda among: select(t).where(among(t.c.id, "ids")))`, then
    `connection.execute(GET(connection), {"ids": [1, 2]})`.
    """

    def __init__(self, build: Callable[[Among], Any]) -> None:
        self._built = {"sqlite": build(_in_json), "postgresql": build(_in_array)}

    def __call__(self, connection: Connection) -> Any:
        """Return the statement for this connection's database."""
        return self._built[connection.dialect.name]
