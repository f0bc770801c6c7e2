"""Values of a contact: from typed text or JSON to what is stored, and to text."""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import cast

import orjson

from onward.contacts.fields import ContactField
from onward.errors import InputError

MAX_TEXT = 10_000
MAX_EMAIL = 254
MAX_WHOLE = 2**53  # above it JSON readers and spreadsheets lose digits

YES = frozenset({"yes", "y", "true", "t", "on", "1", "x"})
NO = frozenset({"no", "n", "false", "f", "off", "0"})

# A spreadsheet runs a cell that starts with one of these as a formula, the
# full-width forms included; tab, CR and LF hide one from a naive check.
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - meant as they are

# Turned into one blank: line breaks of every kind, and tabs.
_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
# Dropped: other control characters, lone surrogates, and invisible marks that
# can hide or reorder text. The joiners U+200C and U+200D stay: scripts and
# emoji need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]+"
)

_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]+"
_LABEL = (
    r"[a-z0-9\x80-\U0010ffff](?:[a-z0-9\-\x80-\U0010ffff]*[a-z0-9\x80-\U0010ffff])?"
)
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_TIME = r"(?:[T ][0-9].*)?"
_YEAR_FIRST = re.compile(rf"([0-9]{{4}})[-/.]([0-9]{{1,2}})[-/.]([0-9]{{1,2}}){_TIME}")
_YEAR_LAST = re.compile(rf"([0-9]{{1,2}})([-/.])([0-9]{{1,2}})\2([0-9]{{4}}){_TIME}")
_BARE_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")


def shown(raw: object) -> str:
    """Return a value as errors quote it: one line, at most 60 characters."""
    text = raw if isinstance(raw, str) else print_value(raw)
    clipped = text if len(text) <= 60 else f"{text[:57]}..."
    return "".join(char if char.isprintable() else " " for char in clipped)


def clean_text(text: str) -> str:
    """Return text as it is stored: trimmed, NFC, on one line, without controls.

    Line breaks and tabs become one blank, so that two lines of an address do
    not run into one word.

    Raises:
        InputError: more than 10,000 characters.
    """
    if not (text.isascii() and text.isprintable()):
        text = _INVISIBLE.sub("", _BREAKS.sub(" ", text))
        text = unicodedata.normalize("NFC", text)
    text = text.strip()
    if len(text) > MAX_TEXT:
        raise InputError(
            f'"{shown(text)}" is longer than {MAX_TEXT:,} characters; shorten it'
        )
    return text


def clean_email(text: str) -> str:
    """Return an e-mail address as it is stored: trimmed, NFC, lower case.

    The address is taken as typed: no domain is turned into its xn-- form, no
    part after a + is cut off.

    Raises:
        InputError: it cannot be an address; one sentence says why.
    """
    # Copied addresses often bring an invisible mark or two along.
    address = text.strip().strip("\ufeff\u200b\u200e\u200f").strip()
    if not address.isascii():
        address = unicodedata.normalize(
            "NFC", unicodedata.normalize("NFC", address).lower()
        )
    else:
        address = address.lower()
    if len(address) <= MAX_EMAIL and _EMAIL.fullmatch(address):
        local, _, domain = address.partition("@")
        if (
            len(local) <= 64
            and not domain.rpartition(".")[2].isdigit()
            and (len(domain) <= 63 or max(map(len, domain.split("."))) <= 63)
            and address.isprintable()
        ):
            return address
    raise InputError(f'"{shown(text)}" is no e-mail address: {_why_not(address)}')


def _why_not(address: str) -> str:
    local, _, domain = address.partition("@")
    if not address:
        return "it is empty"
    if any(char.isspace() for char in address):
        return "it contains a blank"
    if not address.isprintable():
        return "it contains an invisible character"
    if address.count("@") != 1:
        return "it has no @" if "@" not in address else "it has more than one @"
    if not local or not domain:
        return f"nothing stands {'after' if local else 'before'} the @"
    if len(address) > MAX_EMAIL or len(local) > 64:
        return f"it is longer than {MAX_EMAIL} characters, or than 64 before the @"
    if "." not in domain:
        return "no dot follows the @"
    for char in address:
        if char.isascii() and not (char.isalnum() or char in "@.!#$%&'*+/=?^_`{|}~-"):
            return f"it contains {char}"
    return "a dot, a hyphen or a part of the domain is not as it must be"


def to_text(raw: object) -> str:
    """Return plain text from a cell or a JSON value; "" when there is none.

    Raises:
        InputError: a list, an object or true/false where text belongs.
    """
    if isinstance(raw, str):
        return clean_text(raw)
    if raw is None:
        return ""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise InputError(f'"{shown(raw)}" is no text')
    return print_value(raw)


def split_list(raw: object) -> list[str]:
    """Return the items of a list or of a cell that holds one, without repeats.

    A cell may be written as `a|b`, `a;b`, `a,b`, Mailchimp's `"a","b"` or a
    JSON list; the first of | ; , that occurs separates.
    """
    if isinstance(raw, str):
        items: Iterable[object] = _split_cell(raw.strip())
    elif isinstance(raw, (list, tuple, set, frozenset)):
        items = cast("Iterable[object]", raw)
    else:
        items = (raw,)
    return list(dict.fromkeys(item for raw in items if (item := to_text(raw))))


def _split_cell(cell: str) -> Sequence[object]:
    if cell[:1] == "[":
        try:
            return cast("list[object]", orjson.loads(cell))
        except orjson.JSONDecodeError:
            pass
    elif cell[:1] == '"':
        try:
            return next(csv.reader([cell], strict=True, skipinitialspace=True))
        except csv.Error:
            pass
    separator = next((char for char in "|;," if char in cell), "|")
    return cell.split(separator)


def parse_number(raw: object) -> int | float:
    """Return a number; a whole one as int.

    Raises:
        InputError: text that is no number, or one that JSON cannot carry.
    """
    number: int | float
    if isinstance(raw, str):
        text = raw.strip()
        if len(text) > 40 or not _NUMBER.fullmatch(text):
            raise InputError(f'"{shown(raw)}" is no number; one is written as 1234.5')
        digits = text.lstrip("+-").isdigit()
        number = int(text) if digits else float(text)
    elif isinstance(raw, (int, float)) and not isinstance(raw, bool):
        number = raw
    else:
        raise InputError(f'"{shown(raw)}" is no number')
    if isinstance(number, float):
        if not math.isfinite(number):
            raise InputError(f'"{shown(raw)}" is too large a number')
        if number.is_integer() and abs(number) <= MAX_WHOLE:
            number = int(number)
    elif abs(number) > MAX_WHOLE:
        raise InputError(f'"{shown(raw)}" is too large a number')
    return number


def _parse_boolean(_field: ContactField, raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    word = to_text(raw).lower()
    if word in YES:
        return True
    if word in NO:
        return False
    raise InputError(f'"{shown(raw)}" is neither yes nor no')


def _parse_date(_field: ContactField, raw: object) -> str | None:
    if isinstance(raw, datetime):
        return raw.date().isoformat()
    if isinstance(raw, date):
        return raw.isoformat()
    text = to_text(raw)
    if text.startswith("0000-00-00"):  # MySQL's way of saying "none"
        return None
    if found := _YEAR_FIRST.fullmatch(text) or _BARE_DATE.fullmatch(text):
        year, month, day = map(int, found.groups())
    elif found := _YEAR_LAST.fullmatch(text):
        first, separator, second, last = found.groups()
        day, month, year = int(first), int(second), int(last)
        if separator != "." and day != month and max(day, month) <= 12:
            raise InputError(
                f'"{shown(text)}" may mean two days; write {year:04}-{month:02}-'
                f"{day:02} or {year:04}-{day:02}-{month:02}"
            )
        if separator != "." and day <= 12 < month:
            day, month = month, day
    else:
        raise InputError(f'"{shown(raw)}" is no date; write it as 2024-12-31')
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        raise InputError(f'"{shown(raw)}" is no date; there is no such day') from None


def _choose(field: ContactField, text: str) -> str:
    if not field.choices or text in field.choices:
        return text
    for choice in field.choices:
        if choice.casefold() == text.casefold():
            return choice
    raise InputError(
        f'"{shown(text)}" is none of the choices: {", ".join(field.choices)}'
    )


def _parse_multi(field: ContactField, raw: object) -> list[str] | None:
    chosen = [_choose(field, item) for item in split_list(raw)]
    return list(dict.fromkeys(chosen)) or None


_PARSERS: dict[str, Callable[[ContactField, object], object]] = {
    "text": lambda _field, raw: to_text(raw) or None,
    "date": _parse_date,
    "boolean": _parse_boolean,
    "number": lambda _field, raw: parse_number(raw),
    "choice": lambda field, raw: _choose(field, to_text(raw)),
    "multi": _parse_multi,
}


def parse_value(field: ContactField, raw: object) -> object:
    """Return a value of this field as it is stored; None when it is blank.

    Stored are text and `choice` as str, `date` as "YYYY-MM-DD", `boolean` as
    bool, `number` as int or float, `multi` as a list of str without repeats.
    A date whose day and month could be swapped is refused, not guessed.

    Args:
        field: standard or custom; its type and choices decide.
        raw: text from a cell or a form, or a JSON value, or a date.

    Raises:
        InputError: it is no value of this type, or none of the choices.
    """
    try:
        return as_type(field, raw)
    except InputError as error:
        raise InputError(f"{field.name}: {error.message}") from None


def as_type(field: ContactField, raw: object) -> object:
    """Do as `parse_value`, for callers who name the field themselves."""
    if raw is None or (isinstance(raw, str) and not clean_text(raw)):
        return None
    return _PARSERS[field.type](field, raw)


def print_value(value: object) -> str:
    """Return a stored value as text that `parse_value` reads back."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) <= MAX_WHOLE
        return str(int(value)) if whole else repr(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        value = sorted(map(print_value, cast("Iterable[object]", value)))
    if isinstance(value, (list, tuple)):
        items = [
            _json(cast("object", item))
            if isinstance(item, (list, tuple))
            else print_value(item)
            for item in cast("Iterable[object]", value)
        ]
        if any(mark in item for item in items for mark in '|;,["'):
            return orjson.dumps(items).decode()
        return "|".join(items)
    if isinstance(value, int):
        return str(value)
    return _json(value)


def _json(value: object) -> str:
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError:
        return "…"  # nested deeper than anything that is meant


def protect(cell: str) -> str:
    """Return text that no spreadsheet takes for a formula.

    Text that starts with = + - @ or a tab (also behind blanks or apostrophes)
    gets one apostrophe in front; `unprotect` takes exactly that one away.
    """
    return f"'{cell}" if cell.lstrip(" '")[:1] in _FORMULA else cell


def unprotect(cell: str) -> str:
    """Return what `protect` was given."""
    if cell[:1] == "'" and cell.lstrip(" '")[:1] in _FORMULA:
        return cell[1:]
    return cell
