"""When what waits is done: calls needed, calls left, the moment of the last one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, func, select

from onward.connections.open import limits_of, make_integration, read_settings
from onward.connections.state import State
from onward.delivery.claiming import FLOWING, WAITING
from onward.delivery.queue import LIVE
from onward.errors import OnwardError
from onward.limiter import SLACK_S, Window, period_start, windows_for
from onward.models import Attempt, Limiter, Push, table
from onward.runtime import Runtime
from onward.speed import settled

pushes = table(Push)
attempts = table(Attempt)
limiters = table(Limiter)

# So many batches say what a batch costs.
MEASURED = 10

_WAITS = (
    select(pushes.c.priority, func.count())
    .where(
        pushes.c.connection_id == bindparam("of"),
        WAITING,
        pushes.c.due_at <= bindparam("moment"),
        FLOWING,
    )
    .group_by(pushes.c.priority)
)
_SENT = (
    select(attempts.c.size, attempts.c.exchanges)
    .where(
        attempts.c.connection_id == bindparam("of"),
        attempts.c.kind == "push",
        attempts.c.error == "",
        attempts.c.finished_at.is_not(None),
        # What it takes for a few people says little about a full batch.
        attempts.c.size * 2 >= bindparam("full"),
    )
    .order_by(attempts.c.id.desc())
    .limit(MEASURED)
)
_STORED = select(limiters).where(limiters.c.key.in_(bindparam("keys", expanding=True)))


@dataclass(frozen=True, slots=True)
class Level:
    """How full one window is.

    Args:
        tat: of its row, Unix seconds.
        used: calls of the current day, hour or minute.
        speed: the share of the limit that is used.
    """

    window: Window
    tat: float = 0.0
    used: int = 0
    speed: float = 1.0

    def passed_s(self, calls: int, start_s: float) -> float:
        """Return when the last of so many calls may leave, Unix seconds."""
        one = self.window.interval_s / self.speed
        tat = max(self.tat, start_s) + calls * one
        return max(start_s, tat - self.window.ahead_s(self.speed) - SLACK_S)


@dataclass(frozen=True, slots=True)
class Cost:
    """What batches of a connection take.

    Args:
        size: rows of a full batch.
        calls: of one batch.
        seconds: one batch keeps the connection busy; 0 = not known.
    """

    size: int
    calls: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What some rows cost and when they are done.

    Args:
        rows: that wait, or would.
        calls: they need.
        used: calls of the longest window's current period, `limit` of that window
            and `per_s` its length; 0 = there is no limit.
        done_at: None = no limit and no batch says how long it takes.
    """

    rows: int
    calls: int
    used: int
    limit: int
    per_s: float
    done_at: datetime | None

    @property
    def document(self) -> dict[str, object]:
        """The forecast as plain data."""
        return {
            "rows": self.rows,
            "calls": self.calls,
            "calls_used": self.used,
            "calls_limit": self.limit,
            "limit_seconds": self.per_s,
            "done_at": self.done_at,
        }


def forecast(
    live: int, backfill: int, cost: Cost, levels: Sequence[Level], start: datetime
) -> Forecast:
    """Return when so many live rows and rows of a back-fill are done.

    Live events go first and may use all of a limit, a back-fill its share. It holds
    while nothing else is called, and the service bears what it bears now.

    Args:
        levels: of every window that counts all paths, both shares.
        start: from when on the connection may be called.
    """
    first, second = (math.ceil(rows / cost.size) for rows in (live, backfill))
    before, behind = (math.ceil(batches * cost.calls) for batches in (first, second))
    calls = before + behind
    begin_s = start.timestamp()
    ends = [begin_s + (first + second) * cost.seconds]
    of_all = [level for level in levels if level.window.share == "all"]
    if calls:
        ends += [level.passed_s(calls, begin_s) for level in of_all]
    if behind:
        # Its share is whole until the first of it follows the last live event.
        firsts = [level.passed_s(before + 1, begin_s) for level in of_all]
        shares = [level for level in levels if level.window.share == "backfill"]
        ends += [
            level.passed_s(behind, max(firsts, default=begin_s)) for level in shares
        ]
    longest = max(
        of_all,
        key=lambda level: (level.window.per_s, -level.window.calls),
        default=None,
    )
    known = bool(levels or cost.seconds or not calls)
    return Forecast(
        live + backfill,
        calls,
        longest.used if longest else 0,
        longest.window.calls if longest else 0,
        longest.window.per_s if longest else 0.0,
        start + timedelta(seconds=max(ends) - begin_s) if known else None,
    )


def read_forecast(
    runtime: Runtime,
    transaction: Transaction,
    state: State,
    *,
    live: int = 0,
    backfill: int = 0,
) -> Forecast | None:
    """Return when all that waits for a connection now is done; None = nobody knows.

    Args:
        live, backfill: rows that would wait as well.
    """
    if state.status != "active" or not state.push_contacts:
        return None
    try:
        raw = read_settings(runtime, state)
        made = make_integration(runtime, state.integration, raw, name=state.name)
    except OnwardError:
        return None
    now = runtime.clock()
    given = {"of": state.id, "moment": now}
    for priority, count in transaction.execute(_WAITS, given):
        live += count if priority <= LIVE else 0
        backfill += count if priority > LIVE else 0
    size = max(made.batch_size, 1)
    cost = _cost(transaction, state.id, size, made.calls_per_batch, made.in_flight)
    windows = windows_for(state.counted_as, limits_of(runtime, state, made), live=False)
    levels = _levels(runtime, transaction, windows, now)
    start = max(now, state.rest_until or now)
    return forecast(live, backfill, cost, levels, start)


def _cost(
    transaction: Transaction, of: int, size: int, declared: int, in_flight: int
) -> Cost:
    sent = transaction.execute(_SENT, {"of": of, "full": size}).all()
    asked = [row.exchanges for row in sent if row.exchanges]
    if not asked:
        return Cost(size, declared)
    calls = sum(map(len, asked)) / len(asked)
    took_ms = sum(one.get("ms", 0) for exchanges in asked for one in exchanges)
    return Cost(size, calls, took_ms / 1000 / len(asked) / max(in_flight, 1))


def _levels(
    runtime: Runtime,
    transaction: Transaction,
    windows: Sequence[Window],
    now: datetime,
) -> list[Level]:
    counted = [window for window in windows if not window.path]
    keys = [window.key for window in counted]
    stored = {row.key: row for row in transaction.execute(_STORED, {"keys": keys})}
    levels: list[Level] = []
    for window in counted:
        row = stored.get(window.key)
        if row is None:
            levels.append(Level(window))
            continue
        period = period_start(window.per_s, now, runtime.limiter.zone)
        used = row.used if row.since >= period else 0
        speed = settled(row.speed, row.changed, now.timestamp())
        levels.append(Level(window, row.tat, used, speed))
    return levels


_PERIODS = {86_400.0: "today", 3_600.0: "this hour"}


def calls_said(found: Forecast) -> str:
    """Return how many calls were made of how many, "" where that says nothing."""
    if found.per_s < 3_600:
        return ""
    period = _PERIODS.get(found.per_s) or f"in {found.per_s / 86_400:g} days"
    return f"{found.used:,} of {found.limit:,} calls {period}"


def moment_said(moment: datetime, now: datetime, timezone: str) -> str:
    """Return a moment as people say it: at 14:20, tomorrow, or on which day."""
    if moment - now < timedelta(minutes=1):
        return "within a minute"
    zone = ZoneInfo(timezone)
    # A minute later rather than earlier.
    local = (moment + timedelta(seconds=59)).astimezone(zone)
    days = (local.date() - now.astimezone(zone).date()).days
    time = f"{local:%H:%M}{' UTC' if timezone == 'UTC' else ''}"
    if days < 2:
        return f"at {time}{' tomorrow' if days else ''}"
    return f"on {local:%Y-%m-%d} at {time}"


def forecast_said(found: Forecast, now: datetime, timezone: str) -> str:
    """Return the calls of the period and when all is done, as half a sentence."""
    done = "nobody knows how long it takes"
    if found.done_at is not None:
        done = f"done {moment_said(found.done_at, now, timezone)}"
    return ", ".join(filter(None, (calls_said(found), done)))
