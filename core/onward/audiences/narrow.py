"""What every member of an audience must fulfil, in SQL.

It only leaves out who cannot be one; who is one the filter itself decides. What has
no exact word in SQL (capitals of other alphabets, lenient comparisons) narrows less
or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    and_,
    false,
    func,
    or_,
    select,
)
from sqlalchemy import Connection as Transaction
from sqlalchemy import cast as as_type

from onward.audiences.resolve import Question
from onward.contacts.facts import contacts, memberships, segments, tags
from onward.filters import Condition, Filter
from onward.filters.comparison import number_of
from onward.filters.names import AUDIENCE, CONNECTIONS, names_in, remote_fact
from onward.filters.operators import span_of
from onward.models import Connection, RemoteContactRow, table
from onward.remote import DELETED

rows = table(RemoteContactRow)
connections = table(Connection)

Test = ColumnElement[bool]

_NAMES = select(connections.c.id, connections.c.name)
_SEGMENTS = select(segments.c.id, segments.c.name)

# True of somebody who has one of several names.
_POSITIVE = frozenset({"is", "has", "in"})
# Beyond it a number is no longer the same on both sides.
_MOST = 2**53
_ORDER: Mapping[str, Callable[[Any, Any], Test]] = {
    ">": lambda column, number: column > number,
    ">=": lambda column, number: column >= number,
    "<": lambda column, number: column < number,
    "<=": lambda column, number: column <= number,
    "is": lambda column, number: column == number,
}


def narrow(transaction: Transaction, question: Question, now: datetime) -> list[Test]:
    """Return conditions of `contact` that all members fulfil, and perhaps others."""
    return _Narrowing(transaction, question.behind, now).all_of(question.conditions)


class _Narrowing:
    def __init__(
        self, transaction: Transaction, audiences: Mapping[str, Filter], now: datetime
    ) -> None:
        self.transaction = transaction
        self.audiences = audiences
        self.now = now
        self.connections = {row.name: row.id for row in transaction.execute(_NAMES)}

    def all_of(self, conditions: Filter) -> list[Test]:
        found = (self._test(condition) for condition in conditions.conditions)
        return [test for test in found if test is not None]

    def _test(self, one: Condition) -> Test | None:
        fact = remote_fact(one.field)
        if fact is not None:
            return self._in_service(one, *fact)
        if one.field == "points":
            return _points(one)
        if one.field == "created_at" and one.operator == "within":
            return and_(*_within(contacts.c.created_at, one, self.now))
        if one.field == "email" and one.operator == "is not blank":
            return contacts.c.email.is_not(None)
        wanted = _texts(one)
        if wanted is None:
            return None
        if one.field == CONNECTIONS:
            ids = [
                of for name, of in self.connections.items() if name.casefold() in wanted
            ]
            return _there(ids, rows.c.status != DELETED)
        if one.field == AUDIENCE:
            return or_(*(self._member_of(key) for key in wanted))
        if one.field == "tags":
            return self._tagged(wanted)
        if one.field == "segments":
            return self._joined(wanted)
        return None

    def _member_of(self, key: str) -> Test:
        # One without anything to narrow by takes everybody.
        return and_(contacts.c.id > 0, *self.all_of(self.audiences[key]))

    def _in_service(self, one: Condition, name: str, fact: str) -> Test | None:
        """Return that the service knows them, unless blank would do as well."""
        if one.test([], self.now):
            return None
        more: list[Test] = []
        if fact == "differs" and not one.test([False], self.now):
            more.append(rows.c.differs != 0)
        if one.operator == "within" and fact.endswith("_at"):
            more += _within(rows.c[fact], one, self.now)
        of = self.connections.get(name)
        return _there([] if of is None else [of], *more)

    def _tagged(self, wanted: Sequence[str]) -> Test:
        mine = tags.c.contact_id == contacts.c.id
        is_sqlite = self.transaction.dialect.name == "sqlite"
        # In the letters of C: elsewhere I is not always the large i.
        tag = tags.c.tag if is_sqlite else tags.c.tag.collate("C")
        octets = func.length(as_type(tags.c.tag, LargeBinary))
        if not is_sqlite:
            octets = func.octet_length(tags.c.tag)
        # Letters beyond ASCII may be other spellings: the long s is an s.
        beyond = octets != func.length(tags.c.tag)
        same = or_(func.lower(tag).in_(list(wanted)), beyond)
        return select(tags.c.tag).where(mine, same).exists()

    def _joined(self, wanted: Sequence[str]) -> Test:
        ids = [
            row.id
            for row in self.transaction.execute(_SEGMENTS)
            if row.name.casefold() in wanted
        ]
        if not ids:
            return false()
        joined = select(memberships.c.contact_id).where(
            memberships.c.contact_id == contacts.c.id,
            memberships.c.segment_id.in_(ids),
        )
        return joined.exists()


def _texts(one: Condition) -> list[str] | None:
    """Return the texts of which one must be equal; None when it is no such test.

    A number among them would equal text that reads as the same number.
    """
    if one.operator not in _POSITIVE:
        return None
    several = isinstance(one.wanted, list | tuple)
    wanted = cast("list[object]", one.wanted) if several else [one.wanted]
    return names_in(one) if all(isinstance(w, str) for w in wanted) else None


def _points(one: Condition) -> Test | None:
    number = number_of(one.wanted)
    order = _ORDER.get(one.operator)
    if order is None or number is None or not -_MOST < number < _MOST:
        return None
    return order(contacts.c.points, number)


def _within(column: Any, one: Condition, now: datetime) -> list[Test]:
    found: list[Test] = [column <= now]
    span = span_of(one.wanted)
    if now - datetime.min.replace(tzinfo=UTC) > span + timedelta(days=1):
        found.append(column >= now - span)
    return found


def _there(ids: Sequence[int], *more: Test) -> Test:
    """Return that these connections have them, not as the alias of another."""
    if not ids:
        return false()
    theirs = select(rows.c.contact_id).where(
        rows.c.connection_id.in_(list(ids)),
        rows.c.contact_id == contacts.c.id,
        ~rows.c.alias,
        *more,
    )
    return theirs.exists()
