"""The query language of collection GETs: terms, operators, order, pages.

Source:
    icontact-api.md 5.1 to 5.5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from . import texts
from .exchange import RefusalError
from .wire import EASTERN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .exchange import Record
    from .switches import Switches

Kind: TypeAlias = Literal["text", "number", "moment"]
Value: TypeAlias = str | int | datetime
_T = TypeVar("_T")

_DEFAULT_LIMIT = 20
_OPERATORS = frozenset({"eq", "gt", "gte", "lt", "lte", "bet"})
_SUFFIX = "SearchType"


@dataclass(frozen=True, slots=True)
class Term:
    """One condition; without values it matches nothing."""

    name: str
    values: tuple[str, ...]
    operator: str = "eq"

    @property
    def exact_values(self) -> tuple[str, ...] | None:
        """The values when an index can answer: equality without wildcard."""
        if self.operator != "eq" or any("*" in value for value in self.values):
            return None
        return self.values


@dataclass(slots=True)
class Search:
    """A parsed query.

    Attributes:
        order: (field, descending) pairs, most significant first.
        unknown: what was not recognised, and so ignored.
        is_mixed: rows come in an order of the service's own.
        total: what is said about it; a value of the switch of that name.
        twice: so many rows of the page come twice.
    """

    limit: int
    offset: int
    terms: dict[str, Term] = field(default_factory=dict[str, Term])
    order: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])
    unknown: list[str] = field(default_factory=list[str])
    is_mixed: bool = False
    total: str = "right"
    twice: int = 0


def parse(query: str, kinds: Mapping[str, Kind], switches: Switches) -> Search:
    """Read a query string against the terms a resource knows.

    Raises:
        RefusalError: 400 for a `limit` or `offset` that is not a number; the real
            answer is not known, and a client never means it.
    """
    # A parameter given twice: the last one counts, as in PHP.
    given = dict(parse_qsl(query, keep_blank_values=True))
    limit = _number(given, "limit", 1, _DEFAULT_LIMIT)
    if limit > switches.max_limit and switches.limit_above_max == "error400":
        raise RefusalError(400, texts.bad_number("limit"))
    search = Search(
        limit=min(limit, switches.max_limit),
        offset=_number(given, "offset", 0, 0),
        total=switches.total,
        twice=switches.duplicate_rows,
    )
    for name, text in given.items():
        if name in ("limit", "offset"):
            continue
        if name == "orderby":
            _read_order(text, kinds, search, switches)
        elif name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in kinds:
            if text not in _OPERATORS:
                search.unknown.append(name)
        elif name in kinds:
            _read_term(name, text, given, kinds[name], search, switches)
        else:
            search.unknown.append(name)
    if search.unknown and switches.unknown_terms == "no_rows":
        search.unknown.clear()
        nothing = next(iter(kinds), "")
        search.terms[nothing] = Term(nothing, ())
    return search


def _number(given: Mapping[str, str], name: str, lowest: int, default: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < lowest:
        raise RefusalError(400, texts.bad_number(name))
    return int(text)


def _read_order(
    text: str, kinds: Mapping[str, Kind], search: Search, switches: Switches
) -> None:
    if switches.orderby != "honoured":
        search.is_mixed = True
        if switches.orderby == "warning":
            search.unknown.append("orderby")
        return
    for part in text.split(","):
        name, _, direction = part.partition(":")
        if name not in kinds or direction not in ("", "asc", "desc"):
            search.unknown.append(f"orderby {part}")
        else:
            search.order.append((name, direction == "desc"))


def _read_term(
    name: str,
    text: str,
    given: Mapping[str, str],
    kind: Kind,
    search: Search,
    switches: Switches,
) -> None:
    operator = given.get(name + _SUFFIX, "eq")
    if operator not in _OPERATORS:
        operator = "eq"
    if text == "":
        values: tuple[str, ...] = ()
    elif operator == "bet":
        # The range needs its comma whatever becomes of lists of values.
        values = tuple(text.split(","))
    elif "," not in text or switches.commas == "literal":
        values = (text,)
    elif switches.commas == "ignored":
        search.unknown.append(name)
        return
    else:
        values = tuple(text.split(","))
        if switches.commas == "first":
            values = values[:1]
    if kind == "moment" and any(moment(one, switches) is None for one in values):
        search.unknown.append(name)
        return
    search.terms[name] = Term(name, values, operator)


def moment(text: str, switches: Switches) -> tuple[datetime, bool] | None:
    """Return the time a query means, and whether it names a whole day."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        zone = UTC if switches.time_zone_of_queries == "utc" else EASTERN
        at = at.replace(tzinfo=zone)
    return at, len(text) == len("2026-01-01")


def tester(term: Term, kind: Kind, switches: Switches) -> Callable[[Value], bool]:
    """Return the function that says whether a value satisfies a term.

    Text is compared without case, numbers as numbers. A day means its midnight,
    except in `eq`, where it means all of it.
    """
    if term.operator == "eq":
        return _equality(term, kind, switches)
    bounds = [_read(value, kind, switches) for value in term.values]
    if len(bounds) != (2 if term.operator == "bet" else 1) or None in bounds:
        return lambda _: False
    low, high = bounds[0], bounds[-1]
    operator = term.operator

    def holds(value: Value) -> bool:
        if value == "":
            return False
        side, other = _compare(value, low), _compare(value, high)
        return {
            "gt": side > 0,
            "gte": side >= 0,
            "lt": side < 0,
            "lte": side <= 0,
            "bet": side >= 0 and other <= 0,
        }[operator]

    return holds


def _equality(term: Term, kind: Kind, switches: Switches) -> Callable[[Value], bool]:
    if kind == "moment":
        spans = [span for one in term.values if (span := moment(one, switches))]
        return lambda value: any(_in_span(value, at, day) for at, day in spans)
    exact = {one.casefold() for one in term.values if "*" not in one}
    patterns = [
        re.compile(".*".join(map(re.escape, one.casefold().split("*"))), re.DOTALL)
        for one in term.values
        if "*" in one
    ]

    if not patterns:
        return lambda value: str(value).casefold() in exact

    def holds(value: Value) -> bool:
        text = str(value).casefold()
        return text in exact or any(one.fullmatch(text) for one in patterns)

    return holds


def _in_span(value: Value, at: datetime, is_day: bool) -> bool:
    if not isinstance(value, datetime):
        return False
    end = at + (timedelta(days=1) if is_day else timedelta(seconds=1))
    return at <= value < end


def _read(text: str, kind: Kind, switches: Switches) -> Value | None:
    if kind == "number":
        return int(text) if text.isascii() and text.isdigit() else None
    if kind == "moment":
        read = moment(text, switches)
        return None if read is None else read[0]
    return text.casefold()


def _compare(value: Value, bound: Value | None) -> int:
    if isinstance(value, datetime) and isinstance(bound, datetime):
        return (value > bound) - (value < bound)
    if isinstance(value, int) and isinstance(bound, int):
        return (value > bound) - (value < bound)
    left, right = str(value).casefold(), str(bound)
    return (left > right) - (left < right)


def narrow(
    rows: Iterable[_T],
    search: Search,
    kinds: Mapping[str, Kind],
    value_of: Callable[[_T, str], Value],
    switches: Switches,
) -> list[_T]:
    """Return the rows that satisfy every term, in the order asked for."""
    tests = [
        (name, tester(term, kinds[name], switches))
        for name, term in search.terms.items()
    ]
    found = list(rows)
    for name, test in tests:
        found = [row for row in found if test(value_of(row, name))]
    for name, descending in reversed(search.order):
        found.sort(key=_sorter(name, kinds[name], value_of), reverse=descending)
    if search.is_mixed and "contactId" in kinds:
        found.sort(key=lambda row: str(value_of(row, "contactId"))[::-1])
    return found


def paged(
    search: Search,
    plural: str,
    rows: Sequence[_T],
    render: Callable[[_T], Record],
    counters: Sequence[str] = ("limit", "offset", "total"),
) -> Record:
    """Return one page of a collection as it is answered."""
    page = [
        row
        for place, row in enumerate(rows[search.offset : search.offset + search.limit])
        for _ in range(2 if place < search.twice else 1)
    ]
    answer: Record = {plural: [render(row) for row in page]}
    totals = {
        "right": len(rows),
        "page": len(page),
        "low": len(rows) // 2,
        "high": 2 * len(rows) + 1,
    }
    values = {
        "limit": search.limit,
        "offset": search.offset,
        "total": totals.get(search.total),
    }
    answer.update({n: values[n] for n in counters if values[n] is not None})
    if search.unknown:
        answer["warnings"] = [texts.unknown_terms(search.unknown)]
    return answer


def _sorter(
    name: str, kind: Kind, value_of: Callable[[_T, str], Value]
) -> Callable[[_T], tuple[bool, float, str]]:
    """Return a sort key: blanks first, numbers and times by size, text by letters."""

    def key(row: _T) -> tuple[bool, float, str]:
        value = value_of(row, name)
        if isinstance(value, datetime):
            return (True, value.timestamp(), "")
        if isinstance(value, int) or kind == "number":
            return (value != "", float(value or 0), "")
        return (value != "", 0.0, value.casefold())

    return key
