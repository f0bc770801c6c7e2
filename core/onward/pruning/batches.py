"""Finding old rows in the order of an index, and taking some of them away.

Rows are found by reading alone and removed by their ids in a transaction of their
own, which looks again whether they may go. On PostgreSQL it passes over what
somebody else holds, so pruning waits for nobody while it holds rows itself, and
no deadlock can have it in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Table, bindparam, func, select
from sqlalchemy import Connection as Transaction

from onward.among import ForEach

Counts = Mapping[str, int]
"""What was removed: as `Pruned.counts` calls it → rows."""

Remove = Callable[[Transaction, Sequence[int], datetime], Counts]
"""Removes those of some rows that are older than a moment and that nobody needs."""

BATCH = 500


@dataclass(frozen=True, slots=True)
class Sort:
    """One sort of rows that is removed when it is old.

    Args:
        horizon: the setting that says what was removed.
        find: returns (id, at) after `:after` and `:last`, older than `:before`, at
            most `:size`; may find rows that must stay.
        count: of all that would be removed, as `name`.
        size: rows of a batch.
    """

    name: str
    horizon: str
    find: Select[Any, Any]
    count: Select[Any]
    remove: Remove
    size: int = BATCH


def older(at: Column[Any]) -> ColumnElement[bool]:
    """Return the condition that a moment lies before `:before`."""
    return at < bindparam("before", type_=at.type)


def not_newest(rows: Table) -> ColumnElement[bool]:
    """Return the condition that a row is not the latest of its table.

    SQLite gives the highest number again once its row is gone: what still names
    it would be said of another one. So that one stays.
    """
    other = rows.alias()
    highest = select(func.max(other.c.id)).scalar_subquery()
    return rows.c.id < highest


def old_rows(at: Column[Any]) -> Select[Any, Any]:
    """Return the `find` of a table: oldest first, in the order of the index on `at`."""
    rows = at.table
    after = bindparam("after", type_=at.type)
    return (
        select(rows.c.id, at.label("at"))
        .where(
            older(at),
            at >= after,
            (at > after) | (rows.c.id > bindparam("last")),
        )
        .order_by(at, rows.c.id)
        .limit(bindparam("size"))
    )


def count_rows(rows: Table, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Return the `count` of a table."""
    return select(func.count()).select_from(rows).where(*conditions)


def free_rows(rows: Table, *conditions: ColumnElement[bool]) -> ForEach:
    """Select those of `:ids` that may go and that nobody else holds, and hold them."""
    return ForEach(
        lambda among: (
            select(rows.c.id)
            .where(among(rows.c.id, "ids"), *conditions)
            .order_by(rows.c.id)
            .with_for_update(skip_locked=True, of=rows)
        )
    )
