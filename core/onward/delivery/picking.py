"""The rows somebody names, by number or by filter, one batch after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import Integer, bindparam, func, literal_column, select

from onward.among import ForEach
from onward.connections.state import named
from onward.delivery.listing import HELD, STATES, Wanted, conditions
from onward.errors import InputError
from onward.models import Push, table

pushes = table(Push)

What = Wanted | Sequence[int]
"""Which rows: a filter, or numbers."""

# Also what one transaction writes at most.
BATCH = 500

_COLUMNS = (
    pushes.c.id,
    pushes.c.connection_id,
    pushes.c.contact_id,
    pushes.c.segment,
    pushes.c.state,
    pushes.c.code,
    pushes.c.reason,
    pushes.c.created_at,
    pushes.c.finished_at,
)
_BY_NUMBER = ForEach(
    lambda among: (
        select(*_COLUMNS).where(among(pushes.c.id, "rows")).order_by(pushes.c.id)
    )
)
_NEWEST = select(func.coalesce(func.max(pushes.c.id), 0))
_RANGE = (pushes.c.id > bindparam("after"), pushes.c.id <= bindparam("newest"))


@dataclass(frozen=True, slots=True)
class Picked:
    """A row as it was when it was picked."""

    id: int
    connection_id: int
    contact_id: int
    segment: str
    state: str
    code: str
    reason: str
    created_at: datetime
    finished_at: datetime | None


class Picker:
    """Finds named rows in the order of their numbers, in little memory.

    Args:
        states: that are looked at where a filter names none.

    Raises:
        InputError: there is no such row, state, cause or connection.
    """

    def __init__(
        self, transaction: Transaction, what: What, states: Sequence[str]
    ) -> None:
        self._ids: list[int] | None = None
        if not isinstance(what, Wanted):
            self._ids = sorted(set(what))
            self._check(transaction)
            return
        rest = replace(what, connection="")
        if what.state in STATES and what.state != HELD:
            rest = replace(rest, state="")
        found = conditions(transaction, rest)
        if what.connection:
            # Written so that no index fits: SQLite, which counts nothing, would go
            # through all that was ever delivered there. By state there are fewer.
            of = named(transaction, what.connection).id
            found.append(pushes.c.connection_id + 0 == of)
        if what.state:
            states = ["waiting" if what.state == HELD else what.state]
        # Of one person there are few rows, whatever their state.
        by = func.coalesce(pushes.c.state, "") if what.email else pushes.c.state
        # One statement per state, each along its index; as one, databases sort all.
        # Literal texts: as parameters they could not be told from frequent states.
        parts = [(by == literal_column(f"'{state}'"), *found) for state in states]
        self.pages = [
            select(*_COLUMNS)
            .where(*part, *_RANGE)
            .order_by(pushes.c.id)
            .limit(bindparam("size", type_=Integer()))
            for part in parts
        ]
        self._counts = [
            select(func.count()).select_from(pushes).where(*part, *_RANGE)
            for part in parts
        ]

    def _check(self, transaction: Transaction) -> None:
        ids = self._ids or []
        for start in range(0, len(ids), BATCH):
            # Beyond what a database numbers rows with there is none.
            part = [one for one in ids[start : start + BATCH] if one < 2**63]
            found = transaction.execute(_BY_NUMBER(transaction), {"rows": part})
            there = {row.id for row in found}
            for one in ids[start : start + BATCH]:
                if one not in there:
                    raise InputError(
                        f"there is no delivery {one}; `onward deliveries` lists them"
                    )

    def _chunk(self, after: int, size: int) -> list[int]:
        ids = self._ids or []
        first = bisect_right(ids, after)
        return ids[first : first + size]

    def newest(self, transaction: Transaction) -> int:
        """Return the number of the newest row: what comes later is not meant."""
        return int(transaction.execute(_NEWEST).scalar_one())

    def count(self, transaction: Transaction, after: int, newest: int) -> int:
        """Return how many rows there are."""
        if self._ids is not None:
            return len(self._ids) - bisect_right(self._ids, after)
        given = {"after": after, "newest": newest}
        return sum(transaction.execute(one, given).scalar_one() for one in self._counts)

    def next(
        self, transaction: Transaction, after: int, newest: int, size: int = BATCH
    ) -> list[Picked]:
        """Return the first rows after a number, none when there are no more.

        Args:
            newest: the last number that counts; of named ones all do.
        """
        if self._ids is not None:
            given = {"rows": self._chunk(after, size)}
            found = transaction.execute(_BY_NUMBER(transaction), given)
            return [Picked(*row) for row in found]
        page = {"after": after, "newest": newest, "size": size}
        rows = [
            Picked(*row)
            for statement in self.pages
            for row in transaction.execute(statement, page)
        ]
        return sorted(rows, key=lambda row: row.id)[:size]


def check_named(what: What, verb: str) -> None:
    """Make sure that somebody said which rows are meant.

    Raises:
        InputError: neither a number nor a filter was given.
    """
    if what == Wanted() or not what:
        raise InputError(
            f"say which pushes to {verb}: give their numbers, or a filter as --state, "
            "--code, --connection, --rule or --since; without one nothing is done"
        )
