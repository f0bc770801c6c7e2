"""Calls in time: the limits of a rate key, shared by all processes.

Generic cell rate algorithm, one row per window and share, advanced by one
conditional UPDATE with our clock. At most `calls` requests leave in *any* span
as long as the window: a quarter of them at once, the rest evenly. A call is taken
at the moment it is made and never given back: what was taken earlier and used later
would be missing in one span and too many in the next.

The same UPDATE counts the calls of the current day or minute, for people, and makes
each call dearer while the service bears less than its limits say (`onward.speed`).
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Update,
    bindparam,
    case,
    select,
    update,
)

from onward.contract import Limit
from onward.database import Database
from onward.models import Limiter as LimiterRow
from onward.models import table
from onward.speed import speed_at, speed_now
from onward.sql import PerDialect

rows = table(LimiterRow)

BURST_SHARE = 0.25
BACKFILL_SHARE = 0.7
# Moments are kept as seconds since 1970, exact to a quarter of a microsecond:
# what is equal by calculation may differ by the sum of a few of those. So rows may
# run ahead a little more than they should, and windows are taken for longer.
SLACK_S = 1e-4
LONGER_S = 1e-3

_ADD = PerDialect(lambda insert: insert(rows).on_conflict_do_nothing())
_STORED = select(rows.c.tat, rows.c.speed, rows.c.changed).where(
    rows.c.key == bindparam("of")
)
_MOMENT: BindParameter[float] = bindparam("moment")
_SINCE: BindParameter[float] = bindparam("period")
_COST: BindParameter[float] = bindparam("cost")
_CALLS: BindParameter[int] = bindparam("calls")
_BURST: BindParameter[float] = bindparam("burst")
_ONE: BindParameter[float] = bindparam("one")
_BASE = case((rows.c.tat < _MOMENT, _MOMENT), else_=rows.c.tat)
_IS_LATER = rows.c.since < _SINCE


def _taking(
    to: ColumnElement[float], latest: ColumnElement[float], *more: ColumnElement[bool]
) -> Update:
    """Build the statement that takes calls: the row moves on, if not too far ahead."""
    return (
        update(rows)
        .where(rows.c.key == bindparam("of"), to <= latest, *more)
        .values(
            tat=to,
            used=case((_IS_LATER, _CALLS), else_=rows.c.used + _CALLS),
            since=case((_IS_LATER, _SINCE), else_=rows.c.since),
        )
    )


# Two, because the share of a slower limit is long to write: nearly all rows are as
# fast as their limit, and pay nothing for it.
_TAKE = _taking(_BASE + _COST, _MOMENT + _BURST + SLACK_S, rows.c.speed >= 1)
_SPEED = speed_now(_MOMENT)
_TAKE_SLOWLY = _taking(
    _BASE + _COST / _SPEED,
    # A quarter of a slower limit, but always one call.
    _MOMENT + case((_BURST * _SPEED < _ONE, _ONE / _SPEED), else_=_BURST) + SLACK_S,
    rows.c.speed < 1,
).values(speed=case((_SPEED >= 1, 1.0), else_=rows.c.speed))
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Window:
    """One limiter row: its key, seconds between calls, calls at once.

    Args:
        path: only requests whose path matches this glob; "" = all of them.
        calls: that may leave in `per_s` seconds.
        share: `all`, or `backfill` for the part that back-fills may have.
    """

    key: str
    interval_s: float
    burst: int
    path: str
    calls: int
    per_s: float
    share: str

    @property
    def burst_s(self) -> float:
        """How far the row may run ahead of the clock."""
        return self.burst * self.interval_s

    def ahead_s(self, speed: float) -> float:
        """How far it may at a lower speed: always one call."""
        return max(self.burst_s, self.interval_s / speed)


class _Full(Exception):
    """A window has no room: nothing is taken from any."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.wait_s = wait_s


def windows_for(rate_key: str, limits: Sequence[Limit], *, live: bool) -> list[Window]:
    """Return the rows a call must pass: live takes from `all`, back-fill from both."""
    found: list[Window] = []
    for limit in dict.fromkeys(limits):  # one that is given twice counts once
        name = f"{rate_key}|{limit.calls}/{limit.per.total_seconds():g}{limit.path}"
        shares = (
            [("all", 1.0)] if live else [("all", 1.0), ("backfill", BACKFILL_SHARE)]
        )
        for share, part in shares:
            calls = max(1, math.floor(limit.calls * part))
            burst = max(1, math.floor(calls * BURST_SHARE))
            # The first of `calls + 1` calls and the last are this many intervals
            # apart, and that must be a window.
            window = limit.per.total_seconds() + LONGER_S
            interval = window / (calls + 1 - burst)
            found.append(
                Window(
                    f"{name}|{share}",
                    interval,
                    burst,
                    limit.path,
                    calls,
                    limit.per.total_seconds(),
                    share,
                )
            )
    return found


def period_start(per_s: float, now: datetime, zone: ZoneInfo) -> float:
    """Return when the period began that calls are counted for, as Unix seconds.

    Minutes and hours as on the clock; days from midnight in a time zone.
    """
    if per_s % _DAY_S:
        return math.floor(now.timestamp() / per_s) * per_s
    days = int(per_s // _DAY_S)
    local = now.astimezone(zone)
    first = local.toordinal() // days * days
    return datetime.fromordinal(first).replace(tzinfo=zone).timestamp()


class Limiter:
    """Asks for calls before they are made.

    Args:
        timezone: in which a day begins at midnight, for counting.
    """

    def __init__(self, database: Database, timezone: str = "UTC") -> None:
        self._database = database
        self.zone = ZoneInfo(timezone)
        self._known: set[str] = set()

    def take(
        self, windows: Sequence[Window], calls: int, now: datetime
    ) -> timedelta | None:
        """Take `calls` from every window, or none.

        Args:
            calls: made now, all of them; more than a burst are never granted.

        Returns:
            None when taken, else the time until it is worth asking again.
        """
        if not windows:
            return None
        # In key order, whatever the order of a connection's limits: no deadlock.
        windows = sorted(windows, key=lambda window: window.key)

        def work(connection: Connection) -> None:
            self._make_rows(connection, windows)
            for place in range(len(windows)):
                self._take(connection, windows[place:], calls, now)

        try:
            # A crash of the server may forget calls of its last moment.
            self._database.run(work, lasting=False)
        except _Full as full:
            # Made again next time, in case somebody removed them.
            self._known.difference_update(window.key for window in windows)
            return timedelta(seconds=max(full.wait_s, 0.001))
        self._known.update(window.key for window in windows)
        return None

    def look(
        self,
        connection: Connection,
        windows: Sequence[Window],
        calls: int,
        now: datetime,
    ) -> timedelta | None:
        """Tell whether so many calls would be granted now, without taking them.

        Args:
            calls: more than a burst are asked for as a burst.
        """
        moment = now.timestamp()
        longest = _longest_s(connection, windows, calls, moment)
        return timedelta(seconds=max(longest, 0.001)) if longest > 0 else None

    def _make_rows(self, connection: Connection, windows: Sequence[Window]) -> None:
        missing = [w for w in windows if w.key not in self._known]
        if missing:
            connection.execute(
                _ADD(connection), [{"key": w.key, "tat": 0.0} for w in missing]
            )

    def _take(
        self,
        connection: Connection,
        windows: Sequence[Window],
        calls: int,
        now: datetime,
    ) -> None:
        """Take from the first of some windows; the others come after it."""
        window, moment = windows[0], now.timestamp()
        given = {
            "of": window.key,
            "moment": moment,
            "cost": calls * window.interval_s,
            "one": window.interval_s,
            "burst": window.burst_s,
            "calls": calls,
            "period": period_start(window.per_s, now, self.zone),
        }
        if not any(
            connection.execute(take, given).rowcount for take in (_TAKE, _TAKE_SLOWLY)
        ):
            # The transaction is rolled back: a call needs room in every window.
            raise _Full(_longest_s(connection, windows, calls, moment))


def _longest_s(
    connection: Connection, windows: Sequence[Window], calls: int, moment: float
) -> float:
    return max(
        (_missing_s(connection, window, calls, moment) for window in windows),
        default=0.0,
    )


def _missing_s(
    connection: Connection, window: Window, calls: int, moment: float
) -> float:
    found = connection.execute(_STORED, {"of": window.key}).first()
    return missing_s(window, calls, moment, *(found or (0.0, 1.0, 0.0)))


def missing_s(
    window: Window, calls: int, moment: float, tat: float, speed: float, changed: float
) -> float:
    """Return for how long there is no room for so many calls; below 0 = there is.

    Args:
        tat, speed, changed: of the window's row.
    """
    share = speed_at(speed, changed, moment)
    # More than ever go at once are asked for as so many.
    most = max(1, math.floor(window.burst * share))
    cost = min(calls, most) * window.interval_s / share
    return max(tat - moment, 0.0) + cost - window.ahead_s(share) - SLACK_S


def applies(window: Window, path: str) -> bool:
    """Tell whether a window counts this path."""
    return not window.path or fnmatch.fnmatchcase(path, window.path)
