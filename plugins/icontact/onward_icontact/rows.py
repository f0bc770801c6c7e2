"""Rows as iContact writes them, and what they mean.

Every fact here has its source in the plugin's README, section "What we know".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from onward import Membership, RemoteContact

SMALLEST_PAGE = 20
EASTERN = ZoneInfo("America/New_York")
# Bookkeeping of a row; everything else in it is a field.
NOT_FIELDS = frozenset({"contactId", "createDate", "status", "bounceCount"})
STATUSES = {
    "normal": "normal",
    "pending": "pending",
    "invitable": "pending",
    "donotcontact": "opted_out",
    "bounced": "bounced",
    "deleted": "deleted",
}
DIGITS = re.compile("[0-9]{1,18}")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
MIDNIGHT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]00:00(?::00)?")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Odd:
    """A membership whose status nobody knows; it is no permission to subscribe."""

    word: str


Standing = Membership | Odd


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a collection; `total` is None when the answer has none."""

    rows: list[Row]
    total: int | None


def text_of(value: object) -> str:
    """Return a wire value as text: null and "" are the same, ids are texts.

    An array or an object is how some write a blank, and never somebody's text.
    """
    if type(value) is str:  # nearly always, and there are millions
        return value.strip()
    if value is None or isinstance(value, (list, dict)):
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value).strip()


def moment_of(value: object) -> datetime | None:
    """Return a time of the wire in UTC; None when it is none.

    Without an offset it is wall time of the US East; the hour that comes twice in
    autumn is the first of the two.
    """
    try:
        at = datetime.fromisoformat(text_of(value))
        if at.tzinfo is not None:
            return at.astimezone(UTC)
        # In half the time that a replaced zone and astimezone take.
        return at.replace(tzinfo=UTC) - (EASTERN.utcoffset(at) or timedelta())
    except (ValueError, OverflowError):
        return None


def record(row: Row) -> RemoteContact:
    """Return a contact row as Onward sees remote contacts."""
    word = text_of(row.get("status"))
    # Folders have hundreds of thousands of these: no call for the usual values, and no
    # default that has to be made.
    fields = {
        name: value.strip()
        if type(value) is str
        else ("" if value is None else text_of(value))
        for name, value in row.items()
        if name not in NOT_FIELDS
    }
    return RemoteContact(
        text_of(row.get("contactId")),
        text_of(row.get("email")).lower(),
        fields,
        STATUSES.get(word.lower(), word),
        {},
        moment_of(row.get("createDate")),
    )


def same(sent: str, got: str) -> bool:
    """Tell whether a field came back as it was sent.

    Line ends, an unticked box (`0` or blank), decimals and a time of midnight
    behind a date are no difference.
    """
    return _normal(sent) == _normal(got)


def _normal(text: str) -> str:
    text = text.replace("\r\n", "\n").strip()
    if NUMBER.fullmatch(text):
        number = text.rstrip("0").rstrip(".") if "." in text else text
        return "" if number in ("0", "-0") else number
    midnight = MIDNIGHT.fullmatch(text)
    return midnight[1] if midnight else text


def standing(row: Row) -> Standing:
    """Return the status of a subscription row, in any case."""
    word = text_of(row.get("status"))
    status = word.lower()
    if status in ("normal", "pending", "unsubscribed"):
        return cast("Membership", status)
    return Odd(word)


def membership(row: Row) -> Membership:
    """Return the status of a subscription row; an unknown one is neither."""
    status = standing(row)
    return "none" if isinstance(status, Odd) else status


def may_be_cut(size: int) -> bool:
    """Tell whether a first page is as long as one that a service cuts off.

    How many rows it gives at most is not known for sure. Somebody chose it, so it is
    a multiple of five; to doubt every length would cost a call for each collection.
    """
    return size >= SMALLEST_PAGE and size % 5 == 0


def is_usual_cap(size: int) -> bool:
    """Tell whether services often give that many rows at most."""
    return size == SMALLEST_PAGE or (size > 0 and size % 50 == 0)


def count_of(text: str) -> int | None:
    """Return a count or an id as a number; None when it is none."""
    return int(text) if DIGITS.fullmatch(text) else None
