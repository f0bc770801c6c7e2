"""The operators of the filter language."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fnmatch import translate
from typing import cast

from onward.filters.comparison import (
    glob_problem,
    is_blank,
    is_equal,
    moment_of,
    number_of,
    order_of,
    show,
    text_of,
)

Test = Callable[[list[object], datetime], bool]
Make = Callable[[object], Test]
Order = Callable[[int], bool]

_SPAN = re.compile(r"([0-9]{1,5}) ?(h|hours?|d|days?|w|weeks?)")
# Longer text is matched up to here, which bounds the time a glob can take.
_MATCHED_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Operator:
    """One word of the language.

    Args:
        make: builds the test for a wanted value; raises ValueError with a sentence
            when that value cannot be used.
        wanted: completes "wanted …"; `{}` becomes the wanted value.
        negated: the answer is turned round.
        takes: number of wanted values, 0 or 1.
    """

    make: Make
    wanted: str
    negated: bool = False
    takes: int = 1

    def test_for(self, wanted: object) -> Test:
        """Return the test for a wanted value.

        Raises:
            ValueError: that value cannot be used; the text says why.
        """
        test = self.make(wanted)
        if not self.negated:
            return test
        return lambda seen, now: not test(seen, now)


def _single(wanted: object) -> object:
    if is_blank(wanted):
        raise ValueError('needs a value; for blank use "is blank" or "is not blank"')
    if not isinstance(wanted, str | int | float | date):
        raise ValueError("needs one value: text, a number, a date, true or false")  # noqa: TRY004
    return wanted


def _text(wanted: object) -> str:
    text = text_of(_single(wanted))
    return text.casefold()


def _is(wanted: object) -> Test:
    value = _single(wanted)
    return lambda seen, _: any(is_equal(one, value) for one in seen)


def _in(wanted: object) -> Test:
    if not isinstance(wanted, list | tuple) or not wanted:
        raise ValueError('needs a list of values, as ["NL", "BE"]')
    values = [_single(one) for one in cast("list[object]", wanted)]
    texts = {one.casefold() for one in values if isinstance(one, str)}
    others = [one for one in values if not isinstance(one, str)]

    def test(seen: list[object], _: datetime) -> bool:
        return any(
            one.casefold() in texts or any(is_equal(one, o) for o in others)
            if isinstance(one, str)
            else any(is_equal(one, value) for value in values)
            for one in seen
        )

    return test


def _with_text(holds: Callable[[str, str], bool]) -> Make:
    def make(wanted: object) -> Test:
        text = _text(wanted)
        return lambda seen, _: any(holds(text_of(one).casefold(), text) for one in seen)

    return make


def _matches(wanted: object) -> Test:
    pattern = _text(wanted)
    if problem := glob_problem(pattern):
        raise ValueError(problem)
    fits = re.compile(translate(pattern)).match
    return lambda seen, _: any(
        fits(text_of(one)[:_MATCHED_CHARACTERS].casefold()) for one in seen
    )


def _compares(holds: Order, *, dates_only: bool = False) -> Make:
    def make(wanted: object) -> Test:
        if not dates_only and (number := number_of(wanted)) is not None:

            def by_number(seen: list[object], _: datetime) -> bool:
                numbers = [n for one in seen if (n := number_of(one)) is not None]
                return any(holds((n > number) - (n < number)) for n in numbers)

            return by_number
        if moment_of(wanted) is None:
            kinds = "a date" if dates_only else "a number or a date"
            raise ValueError(f"needs {kinds}, as 2026-01-31; got {show(wanted)}")

        def by_date(seen: list[object], _: datetime) -> bool:
            orders = [o for one in seen if (o := order_of(one, wanted)) is not None]
            return any(holds(order) for order in orders)

        return by_date

    return make


def span_of(wanted: object) -> timedelta:
    """Return a length of time.

    Raises:
        ValueError: it is none.
    """
    found = _SPAN.fullmatch(text_of(wanted).strip().lower())
    if found is None:
        raise ValueError('needs a length of time, as "7 days", "24h" or "2w"')
    hours = {"h": 1, "d": 24, "w": 168}[found[2][0]]
    return timedelta(hours=hours * int(found[1]))


def _within(wanted: object) -> Test:
    span = span_of(wanted)

    def test(seen: list[object], now: datetime) -> bool:
        since = now - span if now - datetime.min.replace(tzinfo=UTC) > span else None
        return any(
            (order_of(one, now) or 0) <= 0
            and (since is None or (order_of(one, since) or 0) >= 0)
            for one in seen
            if moment_of(one) is not None
        )

    return test


def _any(_: object) -> Test:
    return lambda seen, now: bool(seen)


OPERATORS: dict[str, Operator] = {
    "is": Operator(_is, "{}"),
    "is not": Operator(_is, "anything but {}", negated=True),
    "in": Operator(_in, "one of {}"),
    "not in": Operator(_in, "none of {}", negated=True),
    "has": Operator(_is, "{} among them"),
    "lacks": Operator(_is, "{} not among them", negated=True),
    "contains": Operator(_with_text(lambda s, w: w in s), "text with {} in it"),
    "does not contain": Operator(
        _with_text(lambda s, w: w in s), "text without {} in it", negated=True
    ),
    "starts with": Operator(_with_text(str.startswith), "text that starts with {}"),
    "ends with": Operator(_with_text(str.endswith), "text that ends with {}"),
    "matches": Operator(_matches, "text like {}"),
    "is blank": Operator(_any, "it blank", negated=True, takes=0),
    "is not blank": Operator(_any, "any value", takes=0),
    ">": Operator(_compares(lambda order: order > 0), "more than {}"),
    ">=": Operator(_compares(lambda order: order >= 0), "at least {}"),
    "<": Operator(_compares(lambda order: order < 0), "less than {}"),
    "<=": Operator(_compares(lambda order: order <= 0), "at most {}"),
    "before": Operator(
        _compares(lambda order: order < 0, dates_only=True), "a date before {}"
    ),
    "after": Operator(
        _compares(lambda order: order > 0, dates_only=True), "a date after {}"
    ),
    "within": Operator(_within, "a date in the last {}"),
    "not within": Operator(_within, "no date in the last {}", negated=True),
}
