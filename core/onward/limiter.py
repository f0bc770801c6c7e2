"""Calls in time: the limits of a rate key, shared by all processes.

Generic cell rate algorithm, one row per window and share, advanced by one
conditional UPDATE with our clock. At most `calls` requests leave in *any* span
as long as the window: a quarter of them at once, the rest evenly.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BindParameter, Connection, bindparam, case, select, update

from onward.contract import Limit
from onward.database import Database
from onward.models import Limiter as LimiterRow
from onward.models import table
from onward.sql import PerDialect

rows = table(LimiterRow)

BURST_SHARE = 0.25
BACKFILL_SHARE = 0.7

_ADD = PerDialect(lambda insert: insert(rows).on_conflict_do_nothing())
_TAT = select(rows.c.tat).where(rows.c.key == bindparam("of"))
_MOMENT: BindParameter[float] = bindparam("moment")
_BASE = case((rows.c.tat < _MOMENT, _MOMENT), else_=rows.c.tat)
_TAKE = (
    update(rows)
    .where(
        rows.c.key == bindparam("of"),
        _BASE + bindparam("cost") <= bindparam("moment") + bindparam("burst"),
    )
    .values(tat=_BASE + bindparam("cost"))
)
_GIVE_BACK = (
    update(rows)
    .where(rows.c.key == bindparam("of"))
    .values(tat=rows.c.tat - bindparam("cost"))
)


@dataclass(frozen=True, slots=True)
class Window:
    """One limiter row: its key, seconds between calls, calls at once."""

    key: str
    interval_s: float
    burst: int
    path: str = ""


def windows_for(rate_key: str, limits: Sequence[Limit], *, live: bool) -> list[Window]:
    """Return the rows a call must pass: live takes from `all`, back-fill from both."""
    found: list[Window] = []
    for limit in limits:
        name = f"{rate_key}|{limit.calls}/{limit.per.total_seconds():g}{limit.path}"
        shares = (
            [("all", 1.0)] if live else [("all", 1.0), ("backfill", BACKFILL_SHARE)]
        )
        for share, part in shares:
            calls = max(1, math.floor(limit.calls * part))
            burst = max(1, math.floor(calls * BURST_SHARE))
            # Most calls in one window = burst + window / interval - 1.
            interval = limit.per.total_seconds() / (calls - burst + 1)
            found.append(Window(f"{name}|{share}", interval, burst, limit.path))
    return found


class Limiter:
    """Asks for calls before they are made."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()

    def take(
        self, windows: Sequence[Window], calls: int, now: datetime
    ) -> timedelta | None:
        """Take `calls` from every window, or none; return how long to wait.

        Returns:
            None when taken, else the time until it is worth asking again.
        """
        if not windows:
            return None
        moment = now.timestamp()
        with self._database.write() as connection:
            self._make_rows(connection, windows)
            taken: list[tuple[Window, float]] = []
            for window in windows:
                cost = min(calls, window.burst) * window.interval_s
                done = connection.execute(
                    _TAKE,
                    {
                        "of": window.key,
                        "moment": moment,
                        "cost": cost,
                        "burst": window.burst * window.interval_s,
                    },
                ).rowcount
                if done:
                    taken.append((window, cost))
                    continue
                tat = float(
                    connection.execute(_TAT, {"of": window.key}).scalar() or moment
                )
                for other, paid in taken:
                    connection.execute(_GIVE_BACK, {"of": other.key, "cost": paid})
                wait = tat + cost - moment - window.burst * window.interval_s
                return timedelta(seconds=max(wait, 0.001))
        return None

    def give_back(self, windows: Sequence[Window], calls: int) -> None:
        """Return calls that were taken and not made."""
        if not windows or calls <= 0:
            return
        with self._database.write() as connection:
            for window in windows:
                cost = min(calls, window.burst) * window.interval_s
                connection.execute(_GIVE_BACK, {"of": window.key, "cost": cost})

    def _make_rows(self, connection: Connection, windows: Sequence[Window]) -> None:
        missing = [w for w in windows if w.key not in self._known]
        if missing:
            connection.execute(
                _ADD(connection), [{"key": w.key, "tat": 0.0} for w in missing]
            )
            self._known.update(w.key for w in missing)


def applies(window: Window, path: str) -> bool:
    """Tell whether a window counts this path."""
    return not window.path or fnmatch.fnmatchcase(path, window.path)
