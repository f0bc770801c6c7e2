"""Interleaved runs, medians and spreads, and the tables they end in."""

from __future__ import annotations

import gc
import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

# A ratio that differs more than this from run to run is marked.
STEADY = 0.20

Run = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pairs:
    """What both sides reached, run by run; `ours[i]` ran just before `other[i]`."""

    ours: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours as a share of the reference, run by run."""
        return tuple(a / b for a, b in zip(self.ours, self.other, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


@dataclass(slots=True)
class Section:
    """One table of `results.md`.

    Args:
        head: titles of the columns.
        notes: sentences below the table.
    """

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list[Sequence[str]])
    notes: list[str] = field(default_factory=list[str])

    def text(self) -> str:
        """Return it as Markdown."""
        lines = [
            f"## {self.title}",
            "",
            _line(self.head),
            _line(["---"] * len(self.head)),
        ]
        lines += [_line(row) for row in self.rows]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def interleave(ours: Run, other: Run, runs: int) -> Pairs:
    """Run both in turn, so that what disturbs the machine disturbs both.

    Args:
        ours: does its work once and returns a rate, as the other does.
    """
    found: list[tuple[float, float]] = []
    for number in range(runs):
        gc.collect()
        mine = ours()
        gc.collect()
        theirs = other()
        found.append((mine, theirs))
        say(f"    run {number + 1}: {mine:,.0f} against {theirs:,.0f}")
    return Pairs(tuple(mine for mine, _ in found), tuple(its for _, its in found))


def spread(values: Sequence[float]) -> float:
    """Return how far the values lie apart, as a share of their median."""
    return (max(values) - min(values)) / statistics.median(values)


def rate(values: Sequence[float], unit: str = "/s") -> str:
    """Return a median with its spread, as `1,204/s ± 3 %`."""
    return f"{statistics.median(values):,.0f}{unit} (spread {spread(values):.0%})"


def ratio(values: Sequence[float]) -> str:
    """Return a median ratio with its spread, marked when it is unsteady."""
    apart = spread(values)
    mark = " **unsteady**" if apart > STEADY else ""
    return f"{statistics.median(values):.2f} (spread {apart:.0%}){mark}"


def at_least(value: float, floor: float) -> str:
    """Say whether a floor was reached."""
    return "reached" if value >= floor else f"**missed** ({value / floor:.0%} of it)"


def at_most(value: float, ceiling: float) -> str:
    """Say whether a value stayed below its bound."""
    return "kept" if value <= ceiling else f"**exceeded** ({value / ceiling:.0%} of it)"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def say(text: str) -> None:
    """Show how far it is; the tables come at the end."""
    print(text, file=sys.stderr, flush=True)


def surroundings() -> list[str]:
    """Describe the machine and what runs on it, without names or paths."""
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("httpx", "sqlalchemy", "sqlmodel")
    )
    return [
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- {platform.python_implementation()} {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {packages}",
        f"- {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        f"{_processor()}, load at the start {os.getloadavg()[0]:.1f}",
    ]


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        return ""
    for line in listing.read_text().splitlines():
        if line.startswith("model name"):
            return f" ({line.partition(':')[2].strip()})"
    return ""
