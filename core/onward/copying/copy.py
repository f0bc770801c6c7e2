"""Copy a whole database into an empty one, all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import Table, func, select
from sqlalchemy.exc import DBAPIError

from onward.copying.rows import (
    Row,
    Sum,
    number_on,
    read_rows,
    sum_up,
    without_nul,
    write_rows,
)
from onward.database import Database
from onward.errors import ConfigError, InputError
from onward.failpoints import failpoint
from onward.migrate import HEAD, revision_or_error, upgrade
from onward.models import Contact, Lease, SchemaStep, table

leases = table(Lease)

# What says which schema it is, the target has of its own.
OWN = frozenset({table(SchemaStep).name})


@dataclass(slots=True)
class Copied:
    """What was copied.

    Args:
        rows: table → rows, the same on both sides, by number and by sum.
        without_nul: values that lost NUL characters, which PostgreSQL cannot keep.
    """

    rows: dict[str, int] = field(default_factory=dict[str, int])
    without_nul: int = 0

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.rows.values())


def copied_tables() -> list[Table]:
    """Return the tables that are copied."""
    return [one for one in Contact.metadata.sorted_tables if one.name not in OWN]


def count_rows(source: Database) -> int:
    """Return how many rows there are to copy, for the progress.

    Raises:
        ConfigError: it cannot be opened, or has another schema.
    """
    _refuse_schema(source)
    with source.read() as transaction:
        return sum(_count(transaction, one) for one in copied_tables())


def copy_database(
    source: Database,
    target: Database,
    *,
    now: datetime,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Copied:
    """Copy every row of one database into another that has none.

    The source is read as it is at one moment. The target is written in one
    transaction, which is committed when both sides were compared: killed anywhere,
    it has no row, and the copy can be made again.

    Args:
        source: with the schema of this release.
        target: empty, or with a schema and no row; it gets the schema.
        now: a lease that ends later is held by somebody who works.

    Raises:
        InputError: the target has rows, the source is being worked with, or
            something was recorded in it meanwhile.
        ConfigError: one of them cannot be opened, or has another schema.
    """
    _refuse_schema(source)
    _refuse_workers(source, now)
    _make_schema(target)
    try:
        return _copy_all(source, target, on_progress)
    except DBAPIError as error:
        # The drivers explain in several lines; the first says it.
        why = (str(error.orig).splitlines() or [""])[0]
        raise ConfigError(f"the copy broke off and nothing was kept: {why}") from error


def _copy_all(
    source: Database, target: Database, on_progress: Callable[[int], None]
) -> Copied:
    with _as_it_is(source) as old:
        before = _marks(old)
        with target.write() as new:
            _refuse_rows(new)
            copied = _copy(old, new, on_progress)
            failpoint("before_copy_ends")
            # In a transaction of its own: this one sees nothing new.
            with source.read() as later:
                _refuse_changes(before, _marks(later))
    return copied


def _copy(
    old: Transaction, new: Transaction, on_progress: Callable[[int], None]
) -> Copied:
    copied = Copied()
    for one in copied_tables():
        rows = read_rows(old, one)
        if new.dialect.name == "postgresql":
            rows = _without_nul(rows, copied)
        written = write_rows(new, one, rows, on_progress)
        number_on(new, one)
        found = sum_up(new, one)
        if found != written:
            raise ConfigError(
                f"the copy of the table {one.name} is not what was read: "
                f"{_said(found)} instead of {_said(written)}; nothing was kept"
            )
        copied.rows[str(one.name)] = written.rows
    return copied


def _said(found: Sum) -> str:
    rows, total = found.said
    return f"{rows} rows with the sum {total}"


def _without_nul(rows: Iterator[Row], copied: Copied) -> Iterator[Row]:
    for row in rows:
        clean = [without_nul(value) for value in row]
        copied.without_nul += sum(a != b for a, b in zip(row, clean, strict=True))
        yield clean


@contextmanager
def _as_it_is(source: Database) -> Generator[Transaction]:
    """Open a transaction that sees one moment, however long it reads."""
    if source.is_sqlite:
        with source.read() as transaction:
            yield transaction
        return
    level = "REPEATABLE READ"
    with source.engine.connect() as connection:
        alone = connection.execution_options(
            isolation_level=level, postgresql_readonly=True
        )
        with alone.begin():
            yield alone


def _refuse_schema(source: Database) -> None:
    step = revision_or_error(source)
    if step != HEAD:
        at = f"is at step {step}" if step else "has no tables"
        raise ConfigError(
            f"the database to copy from {at}, this Onward copies from step {HEAD}: "
            "run `onward db upgrade` first, or copy with the release that made it"
        )


def _make_schema(target: Database) -> None:
    upgrade(target)
    step = revision_or_error(target)
    if step != HEAD:
        raise ConfigError(
            f"the database to copy to is at step {step}, this Onward needs {HEAD}: "
            "name an empty one"
        )


def _refuse_workers(source: Database, now: datetime) -> None:
    held = select(leases.c.name, leases.c.holder, leases.c.until)
    with source.read() as transaction:
        found = transaction.execute(
            held.where(leases.c.until > now).order_by(leases.c.name)
        ).first()
    if found is not None:
        by = f" by {found.holder}" if found.holder else ""
        raise InputError(
            f"the database is being worked with ({found.name}{by}, until "
            f"{found.until:%H:%M:%S} UTC): what happens meanwhile would be lost; stop "
            "the workers and whatever records actions, then copy"
        )


def _refuse_rows(target: Transaction) -> None:
    for one in copied_tables():
        if target.execute(select(one).limit(1)).first() is not None:
            raise InputError(
                f"the database to copy to is not empty: there are rows in {one.name}; "
                "name an empty one"
            )


def _marks(transaction: Transaction) -> dict[str, object]:
    """Return what changes when something is recorded or worked on."""
    marks: dict[str, object] = {
        f"the lease {row.name}": row.fence
        for row in transaction.execute(select(leases))
    }
    for one in copied_tables():
        if "id" in one.c:
            marks[one.name] = transaction.execute(select(func.max(one.c.id))).scalar()
    contacts = table(Contact)
    changed = select(func.max(contacts.c.updated_at))
    marks["contact fields"] = transaction.execute(changed).scalar()
    return marks


def _refuse_changes(before: Mapping[str, object], after: Mapping[str, object]) -> None:
    changed = [name for name, mark in after.items() if before.get(name) != mark]
    if changed:
        raise InputError(
            f"the database changed while it was copied ({', '.join(changed)}), and the "
            "copy would lack that: nothing was kept; stop the workers and whatever "
            "records actions, then copy again"
        )


def _count(transaction: Transaction, one: Table) -> int:
    return int(transaction.execute(select(func.count()).select_from(one)).scalar_one())
