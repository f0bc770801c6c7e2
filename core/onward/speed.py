"""Slower than the limits allow, where the service answers that we are too fast.

A service that says so although we hold to its limits allows less than we were told.
Half of what was too much is surely little enough. Then it goes up again as TCP does
(CUBIC, RFC 9438): fast to just below what was too much, slowly past it, and after a
quiet hour all of the limit is tried. The share follows from the row and the clock, so
going up costs no statement, and every worker of the rate key knows it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    bindparam,
    case,
    func,
    literal_column,
    select,
    update,
)

from onward.models import Limiter, table

rows = table(Limiter)

LEAST = 1 / 16
DOWN = 0.5
# Fast up to this share of what was too much, within so many seconds.
NEARLY = 0.95
NEARLY_S = 60.0
# Without another "too fast" all of the limit is tried again after so many seconds.
QUIET_S = 3600.0
# What a service bears of a day or a month shows when that is over; a rest is the
# answer then. Windows longer than this are not slowed, unless all are.
LONGEST_S = 3600.0

_PER = re.compile(r"\d+/(?P<per>[\d.e+]+).*\|(?:all|backfill)", re.DOTALL)
_OF = (
    select(rows.c.key, rows.c.speed, rows.c.changed)
    .where(func.substr(rows.c.key, 1, bindparam("length")) == bindparam("prefix"))
    .order_by(rows.c.key)
)
_HOLD = _OF.with_for_update()
_CHANGE = (
    update(rows)
    .where(rows.c.key == bindparam("of"))
    .values(speed=bindparam("share"), changed=bindparam("moment"))
)


@dataclass(frozen=True, slots=True)
class Slowed:
    """A rate key that is used less than its limits allow.

    Args:
        share: of the limits, below 1.
        since: the service last said that we are too fast, and the rest after it.
    """

    share: float
    since: datetime

    def sentence(self, timezone: str) -> str:
        """Say it in the operator's time zone."""
        local = self.since.astimezone(ZoneInfo(timezone))
        zone = " UTC" if timezone == "UTC" else ""
        return (
            f"sends at {self.share:.0%} of its limits since {local:%Y-%m-%d %H:%M}"
            f"{zone}, because the service answered that this is too fast"
        )


def speed_at(speed: float, changed: float, moment: float) -> float:
    """Return the share of a limit that is used at a moment.

    Args:
        speed: the share right after the service said "too fast".
        changed: Unix seconds from when on it goes up again.
    """
    age = moment - changed
    if speed >= 1 or age >= QUIET_S:
        return 1.0
    if age <= 0:
        return speed
    nearly = speed / DOWN * NEARLY
    if age < NEARLY_S:
        return speed + (nearly - speed) * age / NEARLY_S
    way = (age - NEARLY_S) / (QUIET_S - NEARLY_S)
    return nearly + (1 - nearly) * way**3


def settled(speed: float, changed: float, moment: float) -> float:
    """Return the share that is likely to be used for long: what the service bears."""
    if speed >= 1 or moment - changed >= QUIET_S:
        return 1.0
    return max(speed / DOWN * NEARLY, speed_at(speed, changed, moment))


def speed_now(moment: ColumnElement[float]) -> ColumnElement[float]:
    """Return `speed_at` of a limiter row, in SQL."""
    age = moment - rows.c.changed
    nearly = rows.c.speed * _text(NEARLY / DOWN)
    up = (NEARLY / DOWN - 1) / NEARLY_S
    way = (age - _text(NEARLY_S)) / _text(QUIET_S - NEARLY_S)
    return case(
        (rows.c.speed >= _text(1.0), _text(1.0)),
        (age >= _text(QUIET_S), _text(1.0)),
        (age <= _text(0.0), rows.c.speed),
        (age < _text(NEARLY_S), rows.c.speed * (_text(1.0) + _text(up) * age)),
        else_=nearly + (_text(1.0) - nearly) * way * way * way,
    )


def _text(number: float) -> ColumnElement[float]:
    """Return a constant as part of the statement: a parameter less each time."""
    return literal_column(repr(number), Float)


def slow_down(
    connection: Connection, rate_key: str, now: datetime, until: datetime
) -> bool:
    """Take half the speed of a rate key, once per rest; tell whether that was done.

    Args:
        until: when the rest ends that the service asked for. What is refused
            meanwhile left before, at the old speed, and says nothing new.
    """
    moment = now.timestamp()
    found = connection.execute(_HOLD, _prefix(rate_key)).all()
    changed = [
        {
            "of": row.key,
            "share": max(LEAST, speed_at(row.speed, row.changed, moment) * DOWN),
            "moment": until.timestamp(),
        }
        for row in _short(found, rate_key)
        if row.changed <= moment
    ]
    for given in changed:
        connection.execute(_CHANGE, given)
    return bool(changed)


def read_slowed(connection: Connection, rate_key: str, now: datetime) -> Slowed | None:
    """Return how much slower a rate key is than its limits; None = it is not."""
    moment = now.timestamp()
    slowest: Slowed | None = None
    for row in _short(connection.execute(_OF, _prefix(rate_key)).all(), rate_key):
        share = speed_at(row.speed, row.changed, moment)
        if share < (slowest.share if slowest else 1):
            slowest = Slowed(share, datetime.fromtimestamp(row.changed, UTC))
    return slowest


def _prefix(rate_key: str) -> dict[str, object]:
    prefix = f"{rate_key}|"
    return {"prefix": prefix, "length": len(prefix)}


def _short(found: Sequence[Any], rate_key: str) -> list[Any]:
    """Return the rows whose windows are short enough to be slowed."""
    start = len(rate_key) + 1
    lengths = [
        (float(fits["per"]), row)
        for row in found
        # Another rate key may begin with this one.
        if (fits := _PER.fullmatch(row.key, start)) is not None
    ]
    longest = max(LONGEST_S, min((per for per, _ in lengths), default=0.0))
    return [row for per, row in lengths if per <= longest]
