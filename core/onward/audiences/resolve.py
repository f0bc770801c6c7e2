"""Follow a filter through the audiences it names, so that it can be answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from onward.config.problems import did_you_mean
from onward.errors import InputError
from onward.filters import Filter
from onward.filters.names import AUDIENCE, audiences_of


@dataclass(frozen=True, slots=True)
class Question:
    """A filter with everything that is needed to answer it.

    Args:
        conditions: of the filter itself.
        behind: audiences it leads to, each after those it names itself.
        asks: names of all facts that any of them looks at.
    """

    conditions: Filter
    behind: Mapping[str, Filter]
    asks: frozenset[str]

    def explain(self, facts: Mapping[str, object], now: datetime) -> tuple[bool, str]:
        """Tell whether it holds; if not, the first false condition as a sentence.

        Args:
            facts: of one contact, as `ask_facts` returns them for `asks`.
        """
        return self.conditions.explain(self._with_audiences(facts, now), now)

    def holds(self, facts: Mapping[str, object], now: datetime) -> bool:
        """Tell whether it holds."""
        return self.conditions.holds(self._with_audiences(facts, now), now)

    def _with_audiences(
        self, facts: Mapping[str, object], now: datetime
    ) -> Mapping[str, object]:
        if not self.behind:
            return facts
        within: list[str] = []
        about = {**facts, AUDIENCE: within}
        for key, conditions in self.behind.items():
            if conditions.holds(about, now):
                within.append(key)
        return about


def resolve(
    conditions: Filter, known: Mapping[str, Filter], *, key: str = ""
) -> Question:
    """Return a filter ready to be answered.

    Args:
        known: every audience that can be read.
        key: of the audience whose conditions they are; "" = of none.

    Raises:
        InputError: it names an audience that is not there, or, through others, itself.
    """
    behind: dict[str, Filter] = {}

    def follow(one: Filter, path: tuple[str, ...]) -> None:
        for name in sorted(audiences_of(one)):
            if name in path:
                circle = ", which names ".join((*path[path.index(name) :], name))
                raise InputError(
                    f"the audience {circle}: a circle has no answer; take one of them "
                    "out of the conditions"
                )
            if name in behind:
                continue
            if name not in known:
                raise InputError(
                    f'there is no audience "{name}"{did_you_mean(name, known)}'
                )
            follow(known[name], (*path, name))
            behind[name] = known[name]

    follow(conditions, (key,) if key else ())
    asks = conditions.fields().union(*(one.fields() for one in behind.values()))
    return Question(conditions, behind, asks)
