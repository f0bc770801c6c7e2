"""Contacts into CSV and JSON, so that `onward.contacts.reading` takes them back."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO, cast

import orjson

from onward.contacts.given import ContactData
from onward.contacts.headers import IDENTITY
from onward.contacts.values import print_value, protect


def contact_row(contact: ContactData) -> dict[str, object]:
    """Return a contact as one flat row, only what it has.

    Identities stand under `identity:KIND`, custom fields under their names.
    """
    row: dict[str, object] = {
        "email": contact.email,
        **contact.fields,
        "points": contact.points,
        "tags": contact.tags,
        "segments": contact.segments,
        "do_not_contact": contact.do_not_contact,
        "consent": contact.consent,
        **{f"{IDENTITY}{kind}": value for kind, value in contact.identities.items()},
        **contact.custom,
    }
    return {name: value for name, value in row.items() if value not in (None, "", [])}


def write_csv(
    stream: TextIO,
    rows: Iterable[Mapping[str, object]],
    columns: Sequence[str],
    *,
    bom: bool = False,
) -> int:
    """Write rows as CSV and return how many.

    Text that a spreadsheet would run as a formula, because it starts with
    = + - @ or a tab (also behind blanks or apostrophes), gets an apostrophe in
    front; reading takes it away again. Numbers, not text that looks like one,
    go as they are: -10 points stay -10, a phone number +31 20 becomes '+31 20.
    Lists are joined by |, or written as a JSON list when an item needs it.

    Args:
        stream: opened with newline="".
        rows: column → stored value; what is absent or None is an empty cell.
        columns: also the first line.
        bom: begin with a byte order mark, so that Excel takes it for UTF-8.
    """
    if bom:
        stream.write("\ufeff")
    # \r\n also makes the csv module quote a lone \r in a cell.
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(map(protect, columns))
    count = 0
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
        count += 1
    return count


def _cell(value: object) -> str:
    text = print_value(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return text if number else protect(text)


def write_json(stream: TextIO, rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows as one JSON array, a row a line, and return how many.

    It is one document, and as it has a row a line, an array of any size can be
    read back without being held in memory.
    """
    count = 0
    stream.write("[")
    for count, row in enumerate(rows, 1):
        stream.write(",\n" if count > 1 else "\n")
        stream.write(orjson.dumps(dict(row), default=_plain).decode())
    stream.write("\n]\n")
    return count


def _plain(value: object) -> object:
    if isinstance(value, (set, frozenset)):
        return sorted(map(print_value, cast("Iterable[object]", value)))
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    return print_value(value)
