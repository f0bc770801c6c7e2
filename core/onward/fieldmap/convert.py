"""From a contact field's type to a remote field's, as the text that is sent."""

from __future__ import annotations

from collections.abc import Callable

from onward.contract import FieldType, RemoteField
from onward.fieldmap.hints import listed
from onward.fieldmap.text import (
    ISO_DATE,
    Unfit,
    date_text,
    is_blank,
    is_list,
    read_date,
    tidy_number,
    to_text,
)

Convert = Callable[[object], str]

MULTI_SEPARATOR = "|"
"""Between the values of a remote `multi` field; integrations split there."""

_EVERYTHING: frozenset[FieldType] = frozenset(
    ("text", "number", "boolean", "date", "choice", "multi")
)
# Text and choices are read value by value; the others only go where each of
# their values can.
CONVERTERS: dict[FieldType, frozenset[FieldType]] = {
    "text": _EVERYTHING,
    "choice": _EVERYTHING,
    "number": frozenset(("text", "number", "choice")),
    "boolean": frozenset(("text", "number", "boolean", "choice")),
    "date": frozenset(("text", "date", "choice")),
    "multi": frozenset(("text", "multi")),
}

_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "y", "on", "x"), "1"),
    **dict.fromkeys(("0", "false", "no", "n", "off"), "0"),
}


def converter(
    remote: RemoteField, separator: str = "", date_format: str = ""
) -> Convert:
    """Return the function that makes a value that is not blank fit.

    It raises `Unfit` with the cause. Lengths are not its business. Text for a
    `multi` field is split at the separator, so a template writes
    `{{ tags | join("|") }}`.

    Args:
        remote: the field the text is for.
        separator: between several values; "" = `|` for a `multi` field, else `, `.
        date_format: for dates; "" = `2026-03-04`.
    """
    choices = _by_spelling(remote)
    between = separator or MULTI_SEPARATOR

    def text(value: object) -> str:
        if date_format:
            return date_text(read_date(value), date_format)
        return to_text(value, separator or ", ")

    def number(value: object) -> str:
        plain = to_text(value)
        return plain if isinstance(value, int | float) else tidy_number(plain)

    def boolean(value: object) -> str:
        try:
            return _WORDS[to_text(value).strip().casefold()]
        except KeyError:
            raise Unfit("neither yes nor no") from None

    def date(value: object) -> str:
        return date_text(read_date(value), date_format or ISO_DATE)

    def choice(value: object) -> str:
        plain = text(value).strip()
        if not choices:
            return plain
        try:
            return choices[plain.casefold()]
        except KeyError:
            raise Unfit(f"not one of {listed(remote.choices)}") from None

    def multi(value: object) -> str:
        entries = value if is_list(value) else to_text(value).split(between)
        chosen = [choice(entry) for entry in entries if not is_blank(entry)]
        if any(between in entry for entry in chosen):
            raise Unfit(f'one of several values contains the separator "{between}"')
        return between.join(dict.fromkeys(chosen))

    return {
        "text": text,
        "number": number,
        "boolean": boolean,
        "date": date,
        "choice": choice,
        "multi": multi,
    }[remote.type]


def as_declared(value: object, declared: FieldType) -> object:
    """Return a value as templates compare it: a number as number, "no" as False.

    Blank is empty text. What does not read as declared stays as it is.
    """
    if is_blank(value):
        return ""
    if not isinstance(value, str):
        return value
    if declared == "boolean":
        word = _WORDS.get(value.strip().casefold())
        return value if word is None else word == "1"
    if declared == "number":
        try:
            tidy = tidy_number(value)
        except Unfit:
            return value
        return float(tidy) if "." in tidy else int(tidy)
    return value


def _by_spelling(remote: RemoteField) -> dict[str, str]:
    """Return lower case → the service's own spelling."""
    return {choice.strip().casefold(): choice for choice in remote.choices}
