"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what was found.

    Args:
        name: what it was.
        level: `warning` = it works and should be looked at.
        advice: what to do; "" when all is well.
    """

    name: str
    level: Literal["ok", "warning", "problem"]
    message: str
    advice: str = ""

    @property
    def document(self) -> dict[str, object]:
        """The check as plain data."""
        return {
            "name": self.name,
            "level": self.level,
            "message": self.message,
            "advice": self.advice,
        }


def ok(name: str, message: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, "ok", message)


def warning(name: str, message: str, advice: str) -> Check:
    """Return a check that found something to look at."""
    return Check(name, "warning", message, advice)


def problem(name: str, message: str, advice: str) -> Check:
    """Return a check that found what must be repaired."""
    return Check(name, "problem", message, advice)
