"""What counts as blank, equal, earlier, and how a value is shown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from fnmatch import translate
from typing import cast

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_SHOWN_CHARACTERS = 80


def as_values(fact: object) -> list[object]:
    """Return the values a fact has; none when it is blank."""
    if isinstance(fact, str):
        return [fact] if fact.strip() else []
    if isinstance(fact, int | float):
        return [fact]
    if isinstance(fact, list | tuple | set | frozenset):
        values = cast("list[object]", fact)
        return [value for value in values if not is_blank(value)]
    return [] if is_blank(fact) else [fact]


def show(value: object) -> str:
    """Return a value as people read it in a sentence."""
    if isinstance(value, list | tuple | set | frozenset):
        values = list(cast("list[object]", value))
        if not values:
            return "blank"
        shown = ", ".join(show(one) for one in values[:10])
        return shown + (f" and {len(values) - 10} more" if len(values) > 10 else "")
    if is_blank(value):
        return "blank"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    text = text_of(value)
    if len(text) > _SHOWN_CHARACTERS:
        text = text[: _SHOWN_CHARACTERS - 1] + "…"
    return text if isinstance(value, int | float | date) else f'"{text}"'


def text_of(value: object) -> str:
    """Return a value as text; "" for what has no text, as a table."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to write out integers of more than 4,300 digits.
        return str(value) if value.bit_length() < 1_000 else "a very large number"
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    return str(value) if isinstance(value, float) else ""


def number_of(value: object) -> int | float | None:
    """Return a value as a number; None when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str) and _NUMBER.fullmatch(text := value.strip()):
        return float(text) if "." in text else int(text)
    return None


def moment_of(value: object) -> date | datetime | None:
    """Return a value as a date or as a moment in UTC; None when it is neither."""
    if isinstance(value, str):
        try:
            text = value.strip()
            # Only what begins like 2026-01-31: digits alone are a number.
            if text[4:5] != "-":
                return None
            is_plain = len(text) == 10
            value = (date if is_plain else datetime).fromisoformat(text)
        except ValueError:
            return None
    if isinstance(value, datetime):
        try:
            aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
            return aware.astimezone(UTC)
        except (OverflowError, ValueError):
            return None
    return value if isinstance(value, date) else None


def glob_problem(pattern: str) -> str:
    """Say why a glob cannot be used; "" when it can."""
    if not pattern.strip():
        return "a pattern must not be empty"
    if len(pattern) > 200:
        return "a pattern may be at most 200 characters long"
    unclosed = pattern.replace("[]", "[").replace("[!]", "[")
    if re.search(r"\[[^\]]*$", unclosed):
        return f'the pattern "{pattern}" has a "[" without its "]"'
    try:
        re.compile(translate(pattern))
    except re.error:
        return f'"{pattern}" is not a pattern; * stands for any text, ? for one letter'
    return ""


def is_blank(value: object) -> bool:
    """Tell whether a value says nothing; 0 and false say something."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, Mapping | list | tuple | set | frozenset) and not value


def is_equal(seen: object, wanted: object) -> bool:
    """Compare leniently, as the module `language` says."""
    if isinstance(seen, str) and isinstance(wanted, str):
        return seen.casefold() == wanted.casefold()
    if isinstance(seen, bool) or isinstance(wanted, bool):
        flag = _flag(seen)
        return flag is not None and flag is _flag(wanted)
    if isinstance(seen, int | float) or isinstance(wanted, int | float):
        number = number_of(seen)
        return number is not None and number == number_of(wanted)
    return order_of(seen, wanted) == 0


def _flag(value: object) -> bool | None:
    text = text_of(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


def order_of(seen: object, wanted: object) -> int | None:
    """Return -1, 0 or 1 for two dates or moments; None when one is neither."""
    left, right = moment_of(seen), moment_of(wanted)
    if left is None or right is None:
        return None
    if isinstance(left, datetime) and isinstance(right, datetime):
        return (left > right) - (left < right)
    days = [m.date() if isinstance(m, datetime) else m for m in (left, right)]
    return (days[0] > days[1]) - (days[0] < days[1])
