"""Names a condition may use besides the fields of contacts: connections, audiences."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from onward.filters.comparison import text_of

if TYPE_CHECKING:
    from onward.filters.language import Condition, Filter

CONNECTIONS = "connections"
SUPPRESSIONS = "suppressions"
AUDIENCE = "audience"
BEYOND = (CONNECTIONS, SUPPRESSIONS, AUDIENCE)
# What is known of a contact in one service: `NAME.status`, NAME being a connection.
REMOTE_FACTS = ("created_at", "first_seen_at", "status", "segments", "differs")
# Operators that compare with whole names.
NAMING = ("is", "is not", "in", "not in", "has", "lacks")


def is_of_event(field: str) -> bool:
    """Tell whether only an event has this field."""
    return field == "action" or field.startswith("data.")


def remote_fact(field: str) -> tuple[str, str] | None:
    """Return (connection, fact) of `NAME.fact`; None when it is something else.

    A name may hold dots itself: the fact is what follows the last one.
    """
    connection, _, fact = field.rpartition(".")
    if not connection or fact not in REMOTE_FACTS or is_of_event(field):
        return None
    return connection, fact


def names_in(condition: Condition) -> list[str]:
    """Return the names a condition wants or does not want, in small letters."""
    if condition.operator not in NAMING:
        return []
    wanted = condition.wanted
    several = isinstance(wanted, list | tuple)
    values = cast("list[object]", wanted) if several else [wanted]
    return [text_of(value).casefold() for value in values]


def connections_of(conditions: Filter) -> frozenset[str]:
    """Return the names of the connections a filter asks about."""
    found: set[str] = set()
    for one in conditions.conditions:
        fact = remote_fact(one.field)
        if fact is not None:
            found.add(fact[0])
        elif one.field == CONNECTIONS:
            found.update(names_in(one))
    return frozenset(found)


def audiences_of(conditions: Filter) -> frozenset[str]:
    """Return the keys of the audiences a filter asks about itself."""
    return frozenset(
        name
        for one in conditions.conditions
        if one.field == AUDIENCE
        for name in names_in(one)
    )
