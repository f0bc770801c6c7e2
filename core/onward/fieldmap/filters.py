"""The filters and tests a template may use, each with bounded work and output."""

from __future__ import annotations

import operator
from collections.abc import Callable, Container

from jinja2 import Undefined
from jinja2.filters import do_title

from onward.fieldmap.text import (
    ISO_DATE,
    LONGEST,
    Unfit,
    bounded,
    date_text,
    is_blank,
    is_list,
    read_date,
    tidy_number,
    to_text,
    why_no_date_format,
)

MISSING = object()


def string(value: object, separator: str = ", ") -> str:
    """Write a value as text; what is missing is empty text, never "None"."""
    if isinstance(value, Undefined):
        return ""
    return bounded(to_text(value, separator))


def blank(value: object) -> bool:
    """Say whether a value is missing or empty; 0 and False are not."""
    return isinstance(value, Undefined) or is_blank(value)


def default(value: object, default: object = "", boolean: object = False) -> object:
    """Return `default` for a blank value; `boolean` is Jinja2's, and of no effect."""
    return default if blank(value) else value


def replace(value: object, old: object, new: object) -> str:
    """Replace every `old`; refused before it is made when it would be too long."""
    text, before, after = string(value), string(old), string(new)
    if not before:
        raise Unfit("replace needs a text to look for")
    grown = len(text) + text.count(before) * (len(after) - len(before))
    if grown > LONGEST:
        raise Unfit(f"longer than {LONGEST:,} characters")
    return text.replace(before, after)


def truncate(
    value: object, length: int = 255, killwords: object = False, end: object = "..."
) -> str:
    """Cut to at most `length` characters, `end` included, between words.

    Jinja2's own allows five characters more.
    """
    text, tail = string(value), string(end)
    if len(text) <= length:
        return text
    cut = text[: max(length - len(tail), 0)]
    if not killwords:
        cut = cut.rsplit(" ", 1)[0]
    return (cut.rstrip() + tail)[: max(length, 0)]


def join(value: object, separator: object = ", ") -> str:
    """Write a list with `separator` between; a text stays as it is."""
    return string(value, string(separator))


def first(value: object) -> object:
    """Return the first entry of a list, or character of a text."""
    entries = value if is_list(value) else string(value)
    return entries[0] if entries else ""


def last(value: object) -> object:
    """Return the last entry of a list, or character of a text."""
    entries = value if is_list(value) else string(value)
    return entries[-1] if entries else ""


def length(value: object) -> int:
    """Count the entries of a list, or the characters of a text."""
    return len(value) if is_list(value) else len(string(value))


def number(value: object, default: object = MISSING) -> object:
    """Read a number; without `default` a blank stays blank, nothing is invented."""
    if isinstance(value, int | float):
        return value
    if default is not MISSING and blank(value):
        return default
    text = string(value)
    if is_blank(text):
        return ""
    try:
        tidy = tidy_number(text)
    except Unfit:
        if default is not MISSING:
            return default
        raise
    return float(tidy) if "." in tidy else int(tidy)


def whole(value: object, default: object = MISSING) -> object:
    """Read a whole number, cutting off what follows the point."""
    found = number(value, default)
    return int(found) if isinstance(found, int | float) else found


def decimal(value: object, default: object = MISSING) -> object:
    """Read a number as Jinja2's `float` does."""
    found = number(value, default)
    return float(found) if isinstance(found, int | float) else found


def rounded(value: object, precision: int = 0) -> object:
    """Round to `precision` places, 0 to 9."""
    if not 0 <= precision <= 9:
        raise Unfit("round takes 0 to 9 places")
    found = number(value)
    return round(found, precision) if isinstance(found, int | float) else found


def date(value: object, date_format: str = ISO_DATE) -> str:
    """Write a date or moment, by default as 2026-03-04; a blank stays blank."""
    if blank(value):
        return ""
    problem = why_no_date_format(date_format)
    if problem:
        raise Unfit(f"the date format {problem}")
    return date_text(read_date(value), date_format)


def upper(value: object) -> str:
    """Write in capitals."""
    return string(value).upper()


def lower(value: object) -> str:
    """Write in small letters."""
    return string(value).lower()


def title(value: object) -> str:
    """Begin every word with a capital."""
    return do_title(string(value))


def capitalize(value: object) -> str:
    """Begin with a capital, the rest in small letters."""
    return string(value).capitalize()


def trim(value: object) -> str:
    """Remove blanks at both ends."""
    return string(value).strip()


def filled(value: object) -> bool:
    """Say whether there is a value; a blank field is not `defined`."""
    return not blank(value)


def contains(value: object, among: Container[object]) -> bool:
    """Say whether a list holds a value, or a text another."""
    return value in among


FILTERS: dict[str, Callable[..., object]] = {
    "capitalize": capitalize,
    "count": length,
    "d": default,
    "date": date,
    "default": default,
    "first": first,
    "float": decimal,
    "int": whole,
    "join": join,
    "last": last,
    "length": length,
    "lower": lower,
    "replace": replace,
    "round": rounded,
    "string": string,
    "title": title,
    "trim": trim,
    "truncate": truncate,
    "upper": upper,
}

TESTS: dict[str, Callable[..., bool]] = {
    "blank": blank,
    "defined": filled,
    "eq": operator.eq,
    "equalto": operator.eq,
    "ge": operator.ge,
    "gt": operator.gt,
    "in": contains,
    "le": operator.le,
    "lt": operator.lt,
    "ne": operator.ne,
    "none": blank,
    "undefined": blank,
}
