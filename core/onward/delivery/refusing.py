"""Why rows were left alone: counted by code, with the first sentence of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that is left as it is.

    Args:
        code: a stable word.
        reason: a sentence for people.
    """

    id: int
    code: str
    reason: str


@dataclass(slots=True)
class Refused:
    """Refusals counted; `reasons` has the first sentence of each code."""

    counts: dict[str, int] = field(default_factory=dict[str, int])
    reasons: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, refusals: Iterable[Refusal]) -> None:
        """Count some more."""
        for one in refusals:
            self.counts[one.code] = self.counts.get(one.code, 0) + 1
            self.reasons.setdefault(one.code, one.reason)

    @property
    def total(self) -> int:
        """How many rows it were."""
        return sum(self.counts.values())

    @property
    def document(self) -> list[Mapping[str, Any]]:
        """The counts as plain data, the most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))
        return [
            {"code": code, "count": count, "reason": self.reasons[code]}
            for code, count in ordered
        ]
