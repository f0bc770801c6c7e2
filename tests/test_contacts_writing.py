"""Exports: safe in a spreadsheet, and read back as they were."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.contacts.fields import TEXT_FIELDS, ContactField
from onward.contacts.reading import ContactData, ContactLine, open_contacts
from onward.contacts.values import clean_text, parse_value
from onward.contacts.writing import contact_row, write_csv, write_json
from onward.errors import InputError

# Each example writes and reads a file, which a busy disk may hold up.
few = settings(max_examples=50, deadline=None)

CUSTOM = {
    field.name: field
    for field in (
        ContactField("nickname", "Nickname", "text"),
        ContactField("birthday", "Birthday", "date"),
        ContactField("loyal", "Loyal", "boolean"),
        ContactField("size", "Size", "number"),
        ContactField("tier", "Tier", "choice", ("gold", "silver")),
        ContactField("colours", "Colours", "multi"),
    )
}


def test_csv_has_the_columns_asked_for() -> None:
    """Columns come in the order asked for; absent values are blank cells."""
    stream = io.StringIO()

    count = write_csv(
        stream,
        [
            {"email": "a@x.example", "points": -10, "tags": ["a", "b"], "more": 1},
            {"email": "b@x.example", "points": None, "loyal": True},
        ],
        ["email", "points", "tags", "loyal"],
    )

    assert count == 2
    assert stream.getvalue() == (
        "email,points,tags,loyal\r\na@x.example,-10,a|b,\r\nb@x.example,,,yes\r\n"
    )


def test_csv_is_safe_in_a_spreadsheet() -> None:
    """Text never starts a formula; numbers stay numbers."""
    stream = io.StringIO()
    row = {"a": "=1+1", "b": "+31 20", "c": "-10", "d": "@x", "e": -10, "f": "\t=1"}

    write_csv(stream, [row], list(row))

    assert stream.getvalue().splitlines()[1] == "'=1+1,'+31 20,'-10,'@x,-10,'\t=1"


def test_csv_for_excel_begins_with_a_mark() -> None:
    """A byte order mark makes Excel take the file for UTF-8."""
    stream = io.StringIO()

    write_csv(stream, [], ["email"], bom=True)

    assert stream.getvalue() == "\ufeffemail\r\n"


def test_json_is_one_array_with_a_row_a_line() -> None:
    """The export is one JSON document of all rows, also of none."""
    stream, empty = io.StringIO(), io.StringIO()
    rows: list[dict[str, object]] = [
        {"email": "a@x.example", "tags": {"b", "a"}, "custom": {"size": 1.5}},
        {"email": "zoë@x.example", "created_at": datetime(2024, 1, 2, tzinfo=UTC)},
    ]

    assert write_json(stream, rows) == 2
    assert write_json(empty, []) == 0

    assert stream.getvalue().count("\n") == 4
    assert json.loads(stream.getvalue()) == [
        {"email": "a@x.example", "tags": ["a", "b"], "custom": {"size": 1.5}},
        {"email": "zoë@x.example", "created_at": "2024-01-02T00:00:00+00:00"},
    ]
    assert json.loads(empty.getvalue()) == []


def test_rows_are_written_as_they_come() -> None:
    """Nothing is gathered: a row is on the stream before the next is asked for."""
    streams = {write_csv: io.StringIO(), write_json: io.StringIO()}

    def rows(stream: io.StringIO) -> Iterator[dict[str, object]]:
        yield {"email": "a@x.example"}
        assert "a@x.example" in stream.getvalue()
        yield {"email": "b@x.example"}

    write_csv(streams[write_csv], rows(streams[write_csv]), ["email"])
    write_json(streams[write_json], rows(streams[write_json]))


texts = st.one_of(
    st.text(max_size=20),
    st.text("'=+-@|;,[\"\t\r\n aé", max_size=8),
).map(clean_text)
filled = texts.filter(bool)


def values(field: ContactField) -> st.SearchStrategy[object]:
    """Return stored values of a field."""
    raw: dict[str, st.SearchStrategy[object]] = {
        "text": filled,
        "date": st.dates(),
        "boolean": st.booleans(),
        "number": st.integers(-(2**53), 2**53) | st.floats(-1e20, 1e20),
        "choice": st.sampled_from(field.choices or ("",)),
        "multi": st.lists(filled, min_size=1, max_size=3),
    }
    return raw[field.type].map(lambda value: parse_value(field, value))


lists = st.lists(filled, max_size=3, unique=True)
contacts = st.builds(
    ContactData,
    email=st.sampled_from(["ana@x.example", "+a@x.example", "'+a@x.example", "é@x.yé"]),
    fields=st.fixed_dictionaries(
        {}, optional={field.name: filled for field in TEXT_FIELDS}
    ),
    custom=st.fixed_dictionaries(
        {}, optional={name: values(field) for name, field in CUSTOM.items()}
    ),
    tags=lists,
    segments=lists,
    points=st.none() | st.integers(-1_000_000, 1_000_000),
    identities=st.dictionaries(
        st.sampled_from(["visitor", "user", "mautic", "crm"]), filled, max_size=3
    ),
    do_not_contact=st.sampled_from(["", "unsubscribed", "bounced", "manual"]),
    consent=texts,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for all examples of a property."""
    return tmp_path_factory.mktemp("write")


@few
@given(st.lists(contacts, min_size=1, max_size=5), st.booleans())
def test_csv_is_read_back_as_it_was(
    folder: Path, exported: list[ContactData], bom: bool
) -> None:
    """What is exported as CSV is read back the same, formulas and quotes included."""
    rows = [contact_row(contact) for contact in exported]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    path = folder / "contacts.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        write_csv(stream, rows, columns, bom=bom)

    lines = list(open_contacts(path, custom_fields=CUSTOM))

    assert [one.contact for one in lines if isinstance(one, ContactLine)] == exported


@few
@given(st.lists(contacts, min_size=1, max_size=5))
def test_json_is_read_back_as_it_was(folder: Path, exported: list[ContactData]) -> None:
    """What is exported as JSON is read back the same."""
    path = folder / "contacts.json"
    with path.open("w", encoding="utf-8", newline="") as stream:
        write_json(stream, map(contact_row, exported))

    lines = list(open_contacts(path, custom_fields=CUSTOM))

    assert [one.contact for one in lines if isinstance(one, ContactLine)] == exported


@given(st.text("=+-@'\t\r\n \"ab", max_size=12))
def test_no_cell_starts_a_formula(text: str) -> None:
    """Whatever text is exported, no cell of it starts a formula."""
    stream = io.StringIO()

    write_csv(stream, [{"a": text}], ["a"])

    [_, *cells] = csv.reader(stream.getvalue().splitlines(keepends=True))
    assert cells in ([], [[""]]) or cells[0][0][:1] not in tuple("=+-@\t\r")


def test_an_export_of_nobody_has_columns_only(folder: Path) -> None:
    """An empty export is a file of no contacts; without columns it is refused."""
    path = folder / "empty.csv"
    path.write_text("email,city\r\n", encoding="utf-8")

    assert list(open_contacts(path)) == []

    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is empty"):
        open_contacts(path)
