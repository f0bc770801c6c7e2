"""Turning single values of the file into what they mean.

Each function raises ValueError with the rest of the sentence "KEY: …".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Literal, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from onward.config.problems import did_you_mean
from onward.contract import Limit
from onward.filters import glob_problem
from onward.filters.comparison import number_of

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_DURATION = re.compile(r"(\d{1,9})? ?([a-z]+)")
_LIMIT = re.compile(r"(\d{1,9}) ?(?:/|per) ?(\d{0,9} ?[a-z]+)(?: +(/\S*))?")
_VARIABLE = re.compile(r"\$\$(?=\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), timedelta(seconds=1)),
    **dict.fromkeys(("m", "min", "minute", "minutes"), timedelta(minutes=1)),
    **dict.fromkeys(("h", "hour", "hours"), timedelta(hours=1)),
    **dict.fromkeys(("d", "day", "days"), timedelta(days=1)),
    **dict.fromkeys(("w", "week", "weeks"), timedelta(weeks=1)),
}
_INTERVALS: Mapping[object, timedelta] = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
}
_LONGEST = timedelta(days=36_500)
_DURATION_HELP = 'write it as "60s", "15m", "24h" or "7d"'


def as_text(value: object) -> str:
    """Return text that is not blank."""
    if not isinstance(value, str):
        raise ValueError("must be text, in quotes")  # noqa: TRY004
    if not value.strip():
        raise ValueError("must not be empty")
    return value.strip()


def as_flag(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")  # noqa: TRY004
    return value


def as_number(least: int, most: int = 1_000_000_000) -> Callable[[object], int]:
    """Make a parser of whole numbers from `least` to `most`."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a whole number, without quotes")  # noqa: TRY004
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}")
        return value

    return parse


def as_key(value: object) -> str:
    """Return a stable key or name."""
    text = as_text(value)
    if not _KEY.fullmatch(text):
        raise ValueError(
            "may hold a to z, 0 to 9, dot, dash and underscore, must begin with a"
            " letter or digit and be at most 100 characters long"
        )
    return text


def as_texts(value: object) -> tuple[str, ...]:
    """Return a list of texts; a single one may stand without brackets."""
    if isinstance(value, list):
        try:
            texts = [as_text(one) for one in cast("list[object]", value)]
        except ValueError as error:
            raise ValueError(f"each entry {error}") from None
        return tuple(dict.fromkeys(texts))
    return (as_text(value),)


def as_action_glob(value: object) -> str:
    """Return the name of an action, or a glob over names."""
    text = as_text(value)
    if problem := glob_problem(text):
        raise ValueError(problem)
    return text


def as_segment(value: object) -> str | Literal[False]:
    """Return a remote segment's name or id; False = none."""
    if value is False:
        return False
    if value is True:
        raise ValueError("must be a name, an id, or false for none")
    return str(value) if isinstance(value, int) else as_text(value)


def as_duration(value: object) -> timedelta:
    """Return a length of time longer than nothing."""
    if not isinstance(value, str):
        raise ValueError(f"must be a length of time; {_DURATION_HELP}")  # noqa: TRY004
    found = _DURATION.fullmatch(value.strip().lower())
    unit = _UNITS.get(found[2]) if found and found[1] else None
    if found is None or unit is None:
        raise ValueError(f"{value!r} is not a length of time; {_DURATION_HELP}")
    amount = int(found[1])
    if not 0 < amount <= _LONGEST // unit:
        raise ValueError("must be longer than nothing and shorter than 100 years")
    return unit * amount


def as_interval(value: object) -> timedelta | None:
    """Return how often something is done; None = never."""
    if value is False or value == "never":
        return None
    if value is True:
        return timedelta(days=1)
    try:
        every = _INTERVALS[value] if value in _INTERVALS else as_duration(value)
    except (ValueError, TypeError):
        raise ValueError(
            'must be "daily", "weekly", "hourly", a length of time like "6h", or false'
        ) from None
    if every < timedelta(minutes=5):
        raise ValueError("must be five minutes or longer")
    return every


def as_time_of_day(value: object) -> str:
    """Return a time of day as HH:MM."""
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", as_text(value))
    if found is None:
        raise ValueError('must be a time of day, as "03:30"')
    return f"{int(found[1]):02}:{found[2]}"


def as_share(value: object) -> float:
    """Return a share as a part of 1; written as "20%" or 0.2."""
    share = number_of(value)
    if isinstance(value, str) and value.strip().endswith("%"):
        per_cent = number_of(value.strip().removesuffix("%"))
        share = None if per_cent is None else per_cent / 100
    if share is None:
        raise ValueError('must be a share, as "20%" or 0.2')
    if not 0 < share <= 1:
        raise ValueError("must be more than 0% and at most 100%")
    return float(share)


def as_public_url(value: object) -> str:
    """Return an address services can reach, without a slash at its end."""
    text = as_text(value).rstrip("/")
    url = urlsplit(text)
    more = url.query or url.fragment
    if url.scheme not in ("https", "http") or not url.hostname or more:
        raise ValueError('must be an address, as "https://onward.bakery.example"')
    if url.username or url.password:
        raise ValueError("must not hold a password")
    return text


def as_listen(value: object) -> str:
    """Return HOST:PORT; a port alone is one of this machine only."""
    text = str(value) if isinstance(value, int) else as_text(value)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isdecimal() or int(port) > 65_535 or re.search(r"[\s/@]", host):
        raise ValueError(
            'must be an address and a port, as "127.0.0.1:9464", or a port alone'
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def as_durations(value: object) -> tuple[timedelta, ...]:
    """Return one or more lengths of time."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"must be a list of lengths of time; {_DURATION_HELP}")
    return tuple(as_duration(one) for one in cast("list[object]", value))


def as_retention(value: object) -> timedelta | None:
    """Return how long something is kept, a day or longer; None = for ever."""
    if value == "forever" or (value == 0 and not isinstance(value, bool)):
        return None
    try:
        kept = as_duration(value)
    except ValueError:
        raise ValueError(
            'must be a length of time like "90d" or "52w", or "forever"'
        ) from None
    if kept < timedelta(days=1):
        raise ValueError("must be a day or longer")
    return kept


def as_repeat(value: object) -> Literal["every", "once"] | timedelta:
    """Return how often a rule may run for one contact."""
    if value == "every":
        return "every"
    if value == "once":
        return "once"
    try:
        return as_duration(value)
    except ValueError:
        raise ValueError(
            'must be "every", "once" or a cool-down like "24h" or "7d"'
        ) from None


def as_limits(value: object) -> tuple[Limit, ...]:
    """Return call limits, as `600/minute` or `5/second /import*`."""
    return tuple(_limit(text) for text in as_texts(value))


def _limit(text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise ValueError(
            f'{text!r} is not a limit; write it as "600/minute",'
            ' or "5/second /import*" for some paths only'
        )
    window = found[2].strip().lower()
    per = as_duration(window if window[0].isdigit() else f"1 {window}")
    if (calls := int(found[1])) < 1:
        raise ValueError(
            "a limit of 0 calls would stop everything; use enabled = false"
        )
    path = found[3] or ""
    if path and (problem := glob_problem(path)):
        raise ValueError(problem)
    return Limit(calls, per, path)


def as_timezone(value: object) -> str:
    """Return the name of a time zone."""
    text = as_text(value)
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        advice = did_you_mean(text, available_timezones())
        near = advice or ', as "UTC" or "Europe/Amsterdam"'
        raise ValueError(f"{text!r} is not a time zone{near}") from None
    return text


def fill_in(
    value: object, env: Mapping[str, str], used: list[str], missing: list[str]
) -> object:
    """Replace every `${VAR}` in texts, also inside lists and tables.

    `$${` stands for `${` itself. What is found goes to `used`, and to `missing` as
    well when the environment does not have it.
    """
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        return {key: fill_in(v, env, used, missing) for key, v in table.items()}
    if isinstance(value, list):
        rows = cast("list[object]", value)
        return [fill_in(v, env, used, missing) for v in rows]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "$"
        used.append(name)
        if name not in env:
            missing.append(name)
        return env.get(name, "")

    return _VARIABLE.sub(replace, value)
