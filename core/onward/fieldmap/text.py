"""Values as text: what is blank, how numbers, dates and lists are written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TypeGuard

LONGEST = 10_000
"""Characters a template may make, or take from one value."""
MOST = 1_000
"""Entries of a list that is written as text."""

ISO_DATE = "%Y-%m-%d"
NO_DATE = "not a date such as 2026-03-04"
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_NUMBER = re.compile(r"([+-]?)([0-9]{1,30})(?:\.([0-9]{1,30}))?")


class Unfit(ValueError):
    """This value cannot be sent as what the field wants.

    The message is the cause, for a warning. It never quotes the value:
    warnings outlive the contact's erasure.
    """


def is_blank(value: object) -> bool:
    """Say whether there is nothing to send; 0 and False are something."""
    if isinstance(value, str):
        return not value or value.isspace()
    if is_list(value):
        return len(value) <= MOST and all(is_blank(entry) for entry in value)
    return value is None


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Say whether this holds several values."""
    return isinstance(value, list | tuple)


def to_text(value: object, separator: str = ", ") -> str:
    """Write any value a contact or an event can hold.

    Booleans are "1" and "0", numbers have no trailing ".0", moments are their
    date in the zone they carry.

    Raises:
        Unfit: it is a group of values, a list in a list, or no number at all.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, date):
        return date_text(value)
    if is_list(value):
        return _list_text(value, separator)
    raise Unfit("a group of values, not one value")


def bounded(text: str) -> str:
    """Return the text unless it is longer than templates may handle."""
    if len(text) > LONGEST:
        raise Unfit(f"longer than {LONGEST:,} characters")
    return text


def number_text(value: float) -> str:
    """Write a number as digits: no exponent, no trailing zeros."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit("not a number")
        if not value.is_integer():
            return format(Decimal(repr(value)), "f")
        value = int(value)
    if abs(value) >= 10**400:  # more digits than Python writes by default
        raise Unfit("not a number that can be written")
    return str(value)


def tidy_number(text: str) -> str:
    """Return `042.50` as `42.5`.

    Raises:
        Unfit: it is not plain digits; separators of thousands and exponents
            are not guessed at.
    """
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise Unfit("not a number such as 42 or 3.5")
    sign, whole, part = found.groups("")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    number = f"{whole}.{part}" if part else whole
    return f"-{number}" if sign == "-" and number != "0" else number


def read_date(value: object) -> date:
    """Read a date, a moment or ISO 8601 text; other orders are not guessed at.

    Raises:
        Unfit: it is none of these.
    """
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise Unfit(NO_DATE)
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        raise Unfit(NO_DATE) from None


def date_text(value: date, date_format: str = ISO_DATE) -> str:
    """Write a date by `%Y %m %d %H %M %S %y %j` alone, padded everywhere alike.

    strftime is not used: what it makes of a format depends on the platform,
    and a width in it (`%9999999d`) is not bounded.
    """
    at = value if isinstance(value, datetime) else datetime(*value.timetuple()[:3])  # noqa: DTZ001
    parts = {
        "Y": f"{at.year:04}",
        "y": f"{at.year % 100:02}",
        "m": f"{at.month:02}",
        "d": f"{at.day:02}",
        "H": f"{at.hour:02}",
        "M": f"{at.minute:02}",
        "S": f"{at.second:02}",
        "j": f"{at.timetuple().tm_yday:03}",
        "%": "%",
    }
    return _DIRECTIVE.sub(lambda found: parts[found[1]], date_format)


def why_no_date_format(date_format: str) -> str:
    """Return why dates cannot be written so, or ""."""
    if not 0 < len(date_format) <= 40:
        return "must have 1 to 40 characters"
    parts = _DIRECTIVE.findall(date_format)
    if not parts:
        return "has no part such as %Y; a whole date is %Y-%m-%d"
    unknown = [part for part in parts if part not in _KNOWN]
    if unknown:
        return f'does not know "%{unknown[0]}"; it knows %Y %m %d %H %M %S %y %j %%'
    return ""


_KNOWN = frozenset("YymdHMSj%")  # "" (a lone % at the end) is no element of it


def _list_text(values: Sequence[object], separator: str) -> str:
    if len(values) > MOST:
        raise Unfit(f"more than {MOST:,} values")
    if any(is_list(entry) for entry in values):
        raise Unfit("a list in a list, not one value")
    texts = [to_text(entry) for entry in values]
    if sum(map(len, texts)) + len(separator) * len(texts) > 10 * LONGEST:
        raise Unfit(f"longer than {LONGEST:,} characters")
    return separator.join(text for text in texts if not is_blank(text))
