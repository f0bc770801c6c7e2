"""Moments as people type them."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from onward.errors import InputError


def parse_moment(
    text: str, now: datetime, timezone: str, *, end: bool = False
) -> datetime | None:
    """Return the moment a text means, None for an empty one.

    Args:
        text: `2026-03-04`, `2026-03-04T09:00`, with or without a zone, or how long
            ago, as `24h` or `7d`.
        timezone: of a moment that names none.
        end: of a day, when only a day is given.

    Raises:
        InputError: it is none of these.
    """
    from onward.config.values import as_duration

    text = text.strip()
    if not text:
        return None
    try:
        return now - as_duration(text)
    except ValueError:
        pass
    zone = ZoneInfo(timezone)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        begin = datetime(day.year, day.month, day.day, tzinfo=zone)
        return begin + timedelta(days=1, microseconds=-1) if end else begin
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f'"{text}" is no moment; write it as 2026-03-04, 2026-03-04T09:00, '
            "or as how long ago: 24h, 7d"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
