"""The one filter language: plain data, and all of it must hold.

    [["data.form", "is", "signup"], ["country", "in", ["NL", "BE"]]]

A condition is a field, an operator and, for most operators, a wanted value. A field
is a contact field, `action`, or a path into the event's data: `data.form`,
`data.order.total`, `data.items.0.name`. Besides these there are `connections` (names
of those that have the contact), `NAME.status` and the like of a connection (see
`names.REMOTE_FACTS`), `suppressions` (codes), and `audience` (keys).

- Text is compared as a whole, capitals and small letters being the same.
- A number equals text that reads as the same number; likewise true, "yes", "on", "1".
- A field with several values (tags, segments) counts as any of them.
- `not …` and `lacks` are true whenever the plain operator is false, so for a blank
  field too. All other operators except `is blank` are false for a blank field.
- A plain date compared with a moment means that whole day, in UTC.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import cast

from onward.clock import utcnow
from onward.errors import ConfigError
from onward.filters.comparison import as_values, show
from onward.filters.names import AUDIENCE, BEYOND, NAMING, REMOTE_FACTS, remote_fact
from onward.filters.operators import OPERATORS

_ALWAYS_KNOWN = ("action", *BEYOND)


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a filter.

    Args:
        field: what is looked at.
        operator: a key of `OPERATORS`.
        wanted: what it is compared with; None for operators that need nothing.
        test: answers for the field's values at a moment; made by `Filter.parse`.
    """

    field: str
    operator: str
    wanted: object
    test: Callable[[list[object], datetime], bool] = dataclasses.field(
        repr=False, compare=False
    )

    def holds(self, facts: Mapping[str, object], now: datetime) -> bool:
        """Tell whether this condition is true of these facts."""
        return self.test(as_values(look_up(facts, self.field)), now)

    def sentence(self, facts: Mapping[str, object]) -> str:
        """Say what the field is, and what was wanted of it."""
        seen = show(look_up(facts, self.field))
        wanted = OPERATORS[self.operator].wanted
        return f"{self.field} is {seen}, wanted {wanted.format(show(self.wanted))}"


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold; without any it always holds."""

    conditions: tuple[Condition, ...] = ()

    @staticmethod
    def parse(
        raw: object, *, source: str, known: Collection[str] | None = None
    ) -> Filter:
        """Read a filter from plain data.

        Args:
            raw: `[[field, operator, wanted], …]`.
            source: named first in errors, as `rule "forms"`; may be "".
            known: names of the contact fields; None = do not check them. What is
                no field of contacts is always known; whether there is such a
                connection or audience is not looked at.

        Raises:
            ConfigError: it cannot be used; one sentence.
        """
        lead = f"{source}: " if source else ""
        if not isinstance(raw, list | tuple):
            raise ConfigError(
                f'{lead}a filter is a list of conditions, as [["country", "is", "NL"]]'
            )
        rows = list(cast("list[object]", raw))
        if rows and isinstance(rows[0], str):
            raise ConfigError(
                f"{lead}each condition of a filter has its own brackets, as"
                ' [["country", "is", "NL"]]'
            )
        conditions: list[Condition] = []
        for number, row in enumerate(rows, 1):
            try:
                conditions.append(_condition(row, known))
            except ValueError as error:
                raise ConfigError(f"{lead}condition {number}: {error}") from None
        return Filter(tuple(conditions))

    def plain(self) -> list[list[object]]:
        """Return the filter as the plain data it was read from."""
        return [
            [c.field, c.operator, *([c.wanted] if OPERATORS[c.operator].takes else [])]
            for c in self.conditions
        ]

    def fields(self) -> frozenset[str]:
        """Return all fields it looks at."""
        return frozenset(c.field for c in self.conditions)

    def holds(self, facts: Mapping[str, object], now: datetime | None = None) -> bool:
        """Tell whether every condition is true of these facts.

        Args:
            facts: contact field → value, `action`, and `data`: the event's own.
            now: for `within`; aware.
        """
        moment = now or utcnow()
        return all(c.holds(facts, moment) for c in self.conditions)

    def explain(
        self, facts: Mapping[str, object], now: datetime | None = None
    ) -> tuple[bool, str]:
        """Tell whether it holds; if not, the first false condition as a sentence."""
        moment = now or utcnow()
        for condition in self.conditions:
            if not condition.holds(facts, moment):
                return False, condition.sentence(facts)
        return True, ""


def _condition(row: object, known: Collection[str] | None) -> Condition:
    if not isinstance(row, list | tuple):
        raise ValueError('must be [field, operator, value], as ["country", "is", "NL"]')  # noqa: TRY004
    parts = list(cast("list[object]", row))
    name, operator, *rest = parts if len(parts) > 1 else [*parts, None, None]
    if not isinstance(name, str) or not name.strip():
        raise ValueError("must begin with the name of a field")
    name = name.strip()
    if problem := _field_problem(name, known):
        raise ValueError(problem)
    word = " ".join(operator.lower().split()) if isinstance(operator, str) else ""
    if word not in OPERATORS:
        near = get_close_matches(word, OPERATORS, n=1)
        advice = f'did you mean "{near[0]}"?' if near else "use " + ", ".join(OPERATORS)
        raise ValueError(f"{show(operator)} is not an operator; {advice}")
    if name == AUDIENCE and word not in NAMING:
        raise ValueError(f'"{name}" takes only {", ".join(NAMING)}')
    found = OPERATORS[word]
    if len(rest) != found.takes:
        wants = "one value after it" if found.takes else "nothing after it"
        raise ValueError(f'"{word}" takes {wants}')
    wanted = rest[0] if rest else None
    return Condition(name, word, wanted, found.test_for(wanted))


def _field_problem(name: str, known: Collection[str] | None) -> str:
    if name == "data":
        return '"data" holds many values; name one, as "data.form"'
    if known is None or name.startswith("data.") or name in (*_ALWAYS_KNOWN, *known):
        return ""
    if remote_fact(name) is not None:
        return ""
    near = get_close_matches(name.lower(), [*_ALWAYS_KNOWN, *known], n=1)
    if near:
        advice = f'did you mean "{near[0]}"?'
    elif "." in name:
        facts = ", ".join(REMOTE_FACTS)
        advice = f"of a connection there are: {facts}"
    else:
        advice = f'a custom field must be declared; of an event, write "data.{name}"'
    return f'there is no field "{name}"; {advice}'


def look_up(facts: Mapping[str, object], name: str) -> object:
    """Return a fact by name, or by its path into `data`; None when absent."""
    if not name.startswith("data."):
        return facts.get(name)
    found: object = facts.get("data")
    path = name.removeprefix("data.")
    while path:
        if isinstance(found, Mapping):
            inner = cast("Mapping[object, object]", found)
            if path in inner:  # a key may hold dots itself, as "utm.source"
                return inner[path]
            head, _, path = path.partition(".")
            found = inner.get(head)
        elif isinstance(found, list | tuple):
            rows = cast("list[object]", found)
            head, _, path = path.partition(".")
            # isdecimal alone would let through digits of other scripts.
            if not (head.isascii() and head.isdecimal() and len(head) < 6):
                return None
            found = rows[int(head)] if int(head) < len(rows) else None
        else:
            return None
    return found
