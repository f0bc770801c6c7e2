"""Every audience there is: those of `onward.toml`, and those that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection as Transaction
from sqlalchemy import select

from onward.audiences.resolve import Question, resolve
from onward.config.model import AudienceConfig
from onward.config.problems import did_you_mean
from onward.errors import ConfigError, InputError
from onward.filters import Filter
from onward.models import Audience as AudienceRow
from onward.models import Connection, table

rows = table(AudienceRow)
connections = table(Connection)

FILE = "onward.toml"
BY_HAND = "by hand"
GONE = "a removed connection"

_ALL = (
    select(rows, connections.c.name.label("offered_by"))
    .outerjoin(connections, connections.c.id == rows.c.connection_id)
    .order_by(rows.c.key)
)


@dataclass(frozen=True, slots=True)
class Audience:
    """A saved filter.

    Args:
        source: `onward.toml`, `by hand`, or the connection that offered it.
        problem: why its conditions cannot be read, "" when they can.
    """

    key: str
    name: str
    conditions: Filter
    source: str
    problem: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The audience as plain data."""
        return {
            "key": self.key,
            "name": self.name,
            "source": self.source,
            "if": self.conditions.plain(),
        }


@dataclass(frozen=True, slots=True)
class Book:
    """Audiences by key; where the file and the database have one, the file's.

    Args:
        hidden: keys of stored ones that the file has too.
    """

    audiences: Mapping[str, Audience]
    hidden: frozenset[str] = field(default_factory=frozenset[str])

    def named(self, key: str) -> Audience:
        """Return one.

        Raises:
            InputError: there is no such audience, or it cannot be read.
        """
        found = self.audiences.get(key)
        if found is None:
            there_are = ", ".join(self.audiences) or "none"
            raise InputError(
                f'there is no audience "{key}"{did_you_mean(key, self.audiences)}; '
                f"there are: {there_are}"
            )
        if found.problem:
            raise InputError(f"audience {key}: {found.problem}")
        return found

    def question(self, key: str) -> Question:
        """Return what one asks, ready to be answered.

        Raises:
            InputError: there is no such audience, or it leads to one that is not there.
        """
        return resolve(self.named(key).conditions, self.filters, key=key)

    @property
    def filters(self) -> dict[str, Filter]:
        """Key → conditions, of those that can be read."""
        return {
            key: one.conditions
            for key, one in self.audiences.items()
            if not one.problem
        }


def read_book(transaction: Transaction, declared: Iterable[AudienceConfig]) -> Book:
    """Return all audiences, in the order of their keys.

    Args:
        declared: those of `onward.toml`.
    """
    stored: dict[str, Audience] = {}
    for row in transaction.execute(_ALL):
        conditions, problem = _read(orjson.dumps(row.conditions))
        source = row.offered_by or (GONE if row.connection_id else BY_HAND)
        stored[row.key] = Audience(row.key, row.name, conditions, source, problem)
    ours = {
        one.key: Audience(one.key, one.name, one.conditions, FILE) for one in declared
    }
    found = {**stored, **ours}
    hidden = frozenset(stored.keys() & ours.keys())
    return Book({key: found[key] for key in sorted(found)}, hidden)


@lru_cache(maxsize=256)
def _read(raw: bytes) -> tuple[Filter, str]:
    """Return conditions as they are stored, or why they cannot be read.

    A later Onward may have written what this one does not know.
    """
    try:
        return Filter.parse(orjson.loads(raw), source=""), ""
    except ConfigError as error:
        return Filter(), error.message
