"""Column types and small helpers all tables share."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Index,
    Integer,
    Table,
    TypeDecorator,
    text,
)
from sqlmodel import Field, SQLModel

LENGTH = len("2026-11-27 17:18:11.000000")


class UTCDateTime(TypeDecorator[datetime]):
    """An aware moment; kept as UTC because SQLite drops time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Refuse naive moments, store UTC."""
        return None if value is None else _in_utc(value)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Return aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value

    # SQLAlchemy's own type of this is private.
    def bind_processor(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, dialect: Dialect
    ) -> Callable[[Any], Any] | None:
        """Convert each moment once: the rows of one transaction share theirs."""
        convert = super().bind_processor(dialect)
        if dialect.name == "sqlite":
            convert = _as_text
        if convert is None:
            return None
        last: tuple[datetime | None, Any] = (None, None)

        def remember(value: datetime | None) -> Any:
            nonlocal last
            seen, ready = last
            if value is not seen:
                ready = convert(value)
                last = (value, ready)
            return ready

        return remember


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a moment without a time zone cannot be stored")
    return value.astimezone(UTC)


def _as_text(value: datetime | None) -> str | None:
    """Write a moment as SQLAlchemy does for SQLite, in a quarter of its time."""
    if value is None:
        return None
    return _in_utc(value).isoformat(" ", "microseconds")[:LENGTH]


# SQLite numbers rows by itself only for INTEGER keys.
BigId = BigInteger().with_variant(Integer(), "sqlite")


def row_id() -> Any:
    """Declare a primary key numbered by the database."""
    return Field(default=None, primary_key=True, sa_type=BigId)


def moment(*, index: bool = False) -> Any:
    """Declare a required aware moment."""
    return Field(sa_type=UTCDateTime, nullable=False, index=index)


def moment_or_none(*, index: bool = False) -> Any:
    """Declare an aware moment that may be missing."""
    return Field(default=None, sa_type=UTCDateTime, nullable=True, index=index)


def later(default: str | int | float, **options: Any) -> Any:
    """Declare a column that a later step added.

    The database fills it in for processes that do not know it.
    """
    said = f"'{default}'" if isinstance(default, str) else str(default)
    server = {"server_default": text(said)}
    return Field(default=default, sa_column_kwargs=server, **options)


def json_or_none() -> Any:
    """Declare a JSON value that a later step added; None until it is written."""
    return Field(default=None, sa_type=JSON(none_as_null=True), nullable=True)


def present(name: str, column: str) -> Index:
    """Declare an index over the rows where a column is not null."""
    where = text(f"{column} IS NOT NULL")
    return Index(name, column, sqlite_where=where, postgresql_where=where)


def table_name(class_name: str) -> str:
    """Return the table's name: RemoteContactRow → remote_contact."""
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()
    return words.removesuffix("_row")


def table(model: type[SQLModel]) -> Table:
    """Return the SQLAlchemy table of a model, for prebuilt Core statements."""
    return SQLModel.metadata.tables[table_name(model.__name__)]
