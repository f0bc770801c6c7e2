"""When a connection is pulled next, as a pure function of its settings and moments.

Whole days are days of the calendar: `pull = "2d"` is every other day at one time of
day, however many hours a day has. With a length that divides a day and `pull_at`, the
times are those of the clock on the wall, counted from `pull_at`: every 6 hours at
03:30 is 03:30, 09:30, 15:30 and 21:30. On such a wall a time that does not exist is
the next minute that does, and one that occurs twice is the first of both, so that in
the repeated hour of autumn nothing more runs. Every other length is time elapsed since
the connection was made, or since `pull_at` on that day.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from onward.config.model import PullConfig

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
# A minute that exists comes within a day and a bit: zones have left out whole days.
_LONGEST_GAP = 2 * DAY
_UNITS = ((timedelta(hours=1), "hour"), (MINUTE, "minute"))


def next_run(
    pull: PullConfig, anchor: datetime, after: datetime, timezone: str
) -> datetime | None:
    """Return the first moment of the schedule strictly after another.

    What was missed is made up for once: whoever asks again does so with the time it is
    now. A day that a zone left out (Samoa's 30 December 2011) has no run.

    Args:
        anchor: when the connection was made; the time of day and the day that counting
            starts from follow from it.
        timezone: where `pull` names none.

    Returns:
        In UTC; None = never.
    """
    if pull.every is None:
        return None
    zone = ZoneInfo(pull.timezone or timezone)
    if not _is_on_the_wall(pull, pull.every):
        base = _base(pull, anchor, zone)
        return base + ((after - base) // pull.every + 1) * pull.every
    coming = _on_the_wall(pull, pull.every, anchor, after, zone)
    return next(moment for moment in coming if moment > after)


def sentence(pull: PullConfig, anchor: datetime, timezone: str) -> str:
    """Return the schedule in words, as "daily at 03:30 Europe/Amsterdam"."""
    if pull.every is None:
        return "never"
    name = pull.timezone or timezone
    local = anchor.astimezone(ZoneInfo(name))
    at = f"{_time_of_day(pull, local):%H:%M} {name}"
    if pull.every % DAY:
        often = _often(pull.every)
        return f"{often}, counted from {at}" if pull.at else often
    days = pull.every // DAY
    if days == 1:
        return f"daily at {at}"
    if days % 7:
        return f"every {days} days at {at}"
    weeks = "weekly" if days == 7 else f"every {days // 7} weeks"
    return f"{weeks} on {local:%A} at {at}"


def _often(every: timedelta) -> str:
    for unit, word in _UNITS:
        if not every % unit:
            count = every // unit
            return f"every {word}" if count == 1 else f"every {count} {word}s"
    return f"every {every // timedelta(seconds=1)} seconds"


def _is_on_the_wall(pull: PullConfig, every: timedelta) -> bool:
    return not every % DAY or bool(pull.at and not DAY % every)


def _time_of_day(pull: PullConfig, local: datetime) -> time:
    if pull.at:
        return time.fromisoformat(pull.at)
    return time(local.hour, local.minute)


def _base(pull: PullConfig, anchor: datetime, zone: ZoneInfo) -> datetime:
    if not pull.at:
        return anchor.astimezone(UTC)
    local = anchor.astimezone(zone)
    return _first(datetime.combine(local, _time_of_day(pull, local)), zone)


def _on_the_wall(
    pull: PullConfig,
    every: timedelta,
    anchor: datetime,
    after: datetime,
    zone: ZoneInfo,
) -> Iterator[datetime]:
    """Yield the moments of the schedule from the day of `after` on, or from before."""
    local = anchor.astimezone(zone)
    at, step = _time_of_day(pull, local), max(every // DAY, 1)
    times = _times(at, every)
    day = local.date()
    elapsed = after.astimezone(zone).date() - day
    day += elapsed // (step * DAY) * step * DAY
    while True:
        if _exists(day, zone):
            midnight = datetime.combine(day, time.min)
            for since in times:
                yield _first(midnight + since, zone)
        day += step * DAY


def _times(at: time, every: timedelta) -> list[timedelta]:
    """Return the times of a day, since midnight, that are whole steps from one."""
    start = timedelta(hours=at.hour, minutes=at.minute)
    count = max(DAY // every, 1)
    return sorted((start + number * every) % DAY for number in range(count))


def _exists(day: date, zone: ZoneInfo) -> bool:
    midnight = datetime.combine(day, time.min)
    return _first(midnight, zone).astimezone(zone).date() == day


def _first(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment at which a clock on the wall shows a time, or a later.

    Args:
        wall: naive; where it does not exist the minutes after it are tried.
    """
    last = wall + _LONGEST_GAP
    while wall < last:
        moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == wall:
            return moment
        wall += MINUTE
    raise ValueError(f"{zone} has no such time near {wall}")
