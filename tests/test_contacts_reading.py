"""Files of contacts: what is taken, what is refused, and that nothing breaks it."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.contacts.fields import ContactField
from onward.contacts.reading import (
    BadLine,
    ContactData,
    ContactFile,
    ContactLine,
    open_contacts,
)
from onward.errors import InputError

EXAMPLES = Path(__file__).parents[1] / "examples"

# Each example writes and reads files, which a busy disk may hold up.
few = settings(max_examples=60, deadline=None)


class Reader:
    """Writes a file and reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(
        self, content: str | bytes, name: str = "contacts.csv", **options: Any
    ) -> ContactFile:
        """Write the content and open it."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return open_contacts(path, **options)

    def lines(
        self, content: str | bytes, name: str = "contacts.csv", **options: Any
    ) -> list[ContactLine | BadLine]:
        """Return everything that is in it."""
        return list(self.open(content, name, **options))

    def one(self, content: str | bytes, **options: Any) -> ContactData:
        """Return the only contact in it."""
        [line] = self.lines(content, **options)
        assert isinstance(line, ContactLine), line
        return line.contact

    def bad(self, content: str | bytes, **options: Any) -> str:
        """Return why the only line in it is refused."""
        [line] = self.lines(content, **options)
        assert isinstance(line, BadLine), line
        return line.reason

    def refused(self, content: str | bytes, name: str = "contacts.csv") -> str:
        """Return why the file as a whole is refused."""
        with pytest.raises(InputError) as caught:
            self.open(content, name)
        return caught.value.message


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Return a reader in a folder of its own."""
    return Reader(tmp_path)


@pytest.fixture(scope="module")
def shared_reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Return a reader for tests that read hundreds of files."""
    return Reader(tmp_path_factory.mktemp("read"))


def emails(lines: list[ContactLine | BadLine]) -> list[str]:
    """Return the address of each contact, and of each bad line "line N"."""
    return [
        line.contact.email if isinstance(line, ContactLine) else f"line {line.number}"
        for line in lines
    ]


# ------------------------------------------------------------- what is taken


def test_a_line_of_mautics_export_is_taken_whole(reader: Reader) -> None:
    """Every column of a Mautic export fills its field."""
    text = (
        "id,title,firstname,lastname,email,company,position,mobile,phone,address1,"
        "address2,city,state,zipcode,country,website,fax,points,tags,"
        "preferred_locale,last_active,doNotContact,birthday\n"
        '17,Ms,Ana, Lee ,"Ana@Shop.example",Bread,Owner,1,2,3 Main,B,Durham,NC,27701,'
        "US,https://x.example,4,-15,a|b,en,2024-01-01,Unsubscribed,2001-02-03\n"
    )

    got = reader.one(text, mapping={"birthday": "birthday:date"})

    assert got == ContactData(
        email="ana@shop.example",
        fields={
            "prefix": "Ms",
            "first_name": "Ana",
            "last_name": "Lee",
            "company": "Bread",
            "position": "Owner",
            "mobile": "1",
            "phone": "2",
            "street": "3 Main",
            "street2": "B",
            "city": "Durham",
            "state": "NC",
            "postal_code": "27701",
            "country": "US",
            "website": "https://x.example",
            "fax": "4",
        },
        custom={"birthday": "2001-02-03"},
        tags=["a", "b"],
        points=-15,
        identities={"mautic": "17"},
        do_not_contact="unsubscribed",
    )


def test_a_line_of_mailchimps_export_is_taken(reader: Reader) -> None:
    """Mailchimp's columns are known; the time of leaving is an opt-out."""
    text = (
        '"Email Address","First Name","Last Name",Address,"Phone Number",Birthday,'
        "MEMBER_RATING,OPTIN_TIME,CONFIRM_TIME,UNSUB_TIME,LEID,EUID,NOTES,TAGS\n"
        "ana@x.example,Ana,Lee,12 Quay,555,03/04,2,2020-01-01 10:00:00,"
        '2020-01-01 10:01:00,2021-05-06 07:08:09,1,e1,,"""VIP"",""Trade, fair"""\n'
    )
    file = reader.open(text)

    [line] = file

    assert line == ContactLine(
        2,
        ContactData(
            email="ana@x.example",
            fields={
                "first_name": "Ana",
                "last_name": "Lee",
                "street": "12 Quay",
                "phone": "555",
            },
            tags=["VIP", "Trade, fair"],
            do_not_contact="unsubscribed",
        ),
    )
    assert set(file.ignored) == {
        "Birthday",
        "MEMBER_RATING",
        "OPTIN_TIME",
        "CONFIRM_TIME",
        "LEID",
        "EUID",
        "NOTES",
    }


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"]
)
def test_spellings_of_csv(
    reader: Reader, delimiter: str, end: str, encoding: str
) -> None:
    """Delimiter, line end and encoding are found out."""
    rows = [["E-Mail", "Name, first", "city"], ["zoe@x.example", "Zoë", "Köln"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    file = reader.open(
        text.getvalue().encode(encoding), mapping={"Name, first": "first_name"}
    )

    assert [*file] == [
        ContactLine(
            2, ContactData("zoe@x.example", {"first_name": "Zoë", "city": "Köln"})
        )
    ]
    assert file.encoding == encoding.removesuffix("-sig")


def test_excels_separator_line_is_obeyed(reader: Reader) -> None:
    """Excel's `sep=;` is no line of column names."""
    assert reader.lines("sep=;\nemail;city\na@x.example;Ulm\n") == [
        ContactLine(3, ContactData("a@x.example", {"city": "Ulm"}))
    ]


def test_one_column_is_enough(reader: Reader) -> None:
    """A mere list of addresses under a header is a file of contacts."""
    assert emails(reader.lines("email\na@x.example\nb@x.example")) == [
        "a@x.example",
        "b@x.example",
    ]


def test_blank_lines_are_passed_over(reader: Reader) -> None:
    """Blank lines and rows of blank cells are nothing; line numbers stay right."""
    text = "\n\nemail,city\n\na@x.example,\n , \n,\n\nb@x.example,Ulm\n\n"

    assert reader.lines(text) == [
        ContactLine(5, ContactData("a@x.example")),
        ContactLine(9, ContactData("b@x.example", {"city": "Ulm"})),
    ]


def test_a_record_may_span_lines(reader: Reader) -> None:
    """Quotes doubled and line breaks inside quotes are parts of a value."""
    text = 'email,street\na@x.example,"1 ""Old"" St\r\nBack"\nb@x.example,\n'

    assert reader.lines(text) == [
        ContactLine(2, ContactData("a@x.example", {"street": '1 "Old" St Back'})),
        ContactLine(4, ContactData("b@x.example")),
    ]


def test_the_first_column_that_is_not_blank_wins(reader: Reader) -> None:
    """Of two columns for one field the first is taken unless it is blank."""
    file = reader.open(
        "email,E-Mail 1,phone,Telephone,tags,tag\n"
        "a@x.example,no address,1,2,a,b|a\n"
        ",b@x.example,,2,,\n"
    )

    assert [*file] == [
        ContactLine(2, ContactData("a@x.example", {"phone": "1"}, tags=["a", "b"])),
        ContactLine(3, ContactData("b@x.example", {"phone": "2"})),
    ]
    assert len(file.notes) == 2


def test_without_an_address_another_identity_makes_a_visitor(reader: Reader) -> None:
    """Who has no e-mail address is a visitor if anything else tells who it is."""
    lines = reader.lines("email,visitor,user id,city\n,v1,,\n,,,Ulm\n,, u7 ,\n")

    assert lines == [
        ContactLine(2, ContactData(identities={"visitor": "v1"})),
        BadLine(3, "it has neither an e-mail address nor another identity", ",,,Ulm"),
        ContactLine(4, ContactData(identities={"user": "u7"})),
    ]


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("doNotContact", "", ""),
        ("doNotContact", "0", ""),
        ("doNotContact", "no", ""),
        ("doNotContact", "1", "manual"),
        ("doNotContact", "TRUE", "manual"),
        ("doNotContact", "2", "bounced"),
        ("doNotContact", "Unsubscribed", "unsubscribed"),
        ("do_not_contact", "complaint", "complaint"),
        ("do_not_contact", "2024-01-02 03:04:05", "manual"),
        ("dnc", "Bounced", "bounced"),
        ("Unsubscribed", "yes", "unsubscribed"),
        ("Unsubscribed", "2024-01-02", "unsubscribed"),
        ("Unsubscribed", "No", ""),
        ("Subscribed", "no", "unsubscribed"),
        ("Subscribed", "yes", ""),
        ("Subscribed", "", ""),
        ("Status", "Cleaned", "bounced"),
        ("Status", "Opted-out", "unsubscribed"),
        ("Status", "do not contact", "manual"),
        ("Status", "active", ""),
        ("Status", "1", ""),
        ("Status", "golden customer", ""),
        ("UNSUB_TIME", "2021-05-06 07:08:09", "unsubscribed"),
        ("UNSUB_TIME", "0000-00-00 00:00:00", ""),
        ("CLEAN_TIME", "2021-05-06 07:08:09", "bounced"),
    ],
)
def test_opt_outs_are_understood(
    reader: Reader, header: str, value: str, reason: str
) -> None:
    """An opt-out is understood in the words of other tools."""
    got = reader.one(f"email,{header}\na@x.example,{value}\n")

    assert got.do_not_contact == reason


def test_the_stricter_opt_out_is_kept(reader: Reader) -> None:
    """Where several columns speak of an opt-out, the stricter one counts."""
    got = reader.one(
        "email,dnc,status,UNSUB_TIME,bounced\na@x.example,manual,active,2024-01-01,no\n"
    )

    assert got.do_not_contact == "unsubscribed"


@pytest.mark.parametrize(
    ("header", "value", "why"),
    [
        ("city", "x" * 10_001, "is longer than 10,000 characters"),
        ("points", "many", '"many" is no number'),
        ("points", "1.5", '"1.5" is no whole number of points'),
        ("points", "99999999999", "no whole number of points"),
        ("dnc", "perhaps", '"perhaps" does not say whether to contact or not'),
        ("user", "x" * 256, "too long to recognise anybody by"),
        ("birthday", "03/04/2020", '"03/04/2020" may mean two days'),
    ],
)
def test_one_bad_value_refuses_the_line(
    reader: Reader, header: str, value: str, why: str
) -> None:
    """A line with one bad value is not taken; column and value are named."""
    birthday = ContactField("birthday", "Birthday", "date")

    [bad, good] = reader.lines(
        f"email,{header}\na@x.example,{value}\nb@x.example,\n",
        custom_fields={"birthday": birthday},
    )

    assert isinstance(bad, BadLine)
    assert bad.reason.startswith(f'column "{header}": "')
    assert why in bad.reason
    assert bad.text == f"a@x.example,{value}"[:80]
    assert good == ContactLine(3, ContactData("b@x.example"))


@pytest.mark.parametrize("email", ["a b@c.example", "foo@", "a@@b.example", "n/a"])
def test_a_bad_address_refuses_the_line(reader: Reader, email: str) -> None:
    """A line whose address cannot be one is not taken as a visitor instead."""
    why = reader.bad(f"email,visitor\n{email},v1\n")

    assert why.startswith(f'column "email": "{email}" is no e-mail address: ')


def test_our_own_apostrophes_come_off(reader: Reader) -> None:
    """The apostrophe that the export puts before a formula is taken away."""
    got = reader.one("email,company,city\n'+a@x.example,'=1+1,'s-Hertogenbosch\n")

    assert got == ContactData(
        "+a@x.example", {"company": "=1+1", "city": "'s-Hertogenbosch"}
    )


# ----------------------------------------------------------------- broken CSV


def test_a_row_of_the_wrong_width_is_refused(reader: Reader) -> None:
    """Too few or too many cells refuse a line, blank ones at its end do not."""
    lines = reader.lines("email,city\na@x.example\nb@x.example,,x\nc@x.example,,,\n")

    assert lines == [
        BadLine(2, "it has 1 cells, the first line 2", "a@x.example"),
        BadLine(3, "it has 3 cells, the first line 2", "b@x.example,,x"),
        ContactLine(4, ContactData("c@x.example")),
    ]


def test_a_stray_quote_costs_one_line(reader: Reader) -> None:
    """What an unclosed quotation mark swallowed is read again."""
    rows = [f"p{number}@x.example,Ulm" for number in range(5000)]
    rows[2000] = 'stray@x.example,"Ulm'
    text = "\n".join(["email,city", *rows])

    lines = reader.lines(text)

    assert emails(lines) == [
        "line 2002" if number == 2000 else f"p{number}@x.example"
        for number in range(5000)
    ]
    assert lines[2000] == BadLine(
        2002,
        "it does not end; a quotation mark is probably not closed",
        'stray@x.example,"Ulm',
    )
    assert [line.number for line in lines] == list(range(2, 5002))


def test_a_stray_quote_before_other_quotes_costs_one_line(reader: Reader) -> None:
    """Also where the next quotation mark would close it."""
    text = (
        "email,city\n"
        'a@x.example,"Ulm\n'
        'b@x.example,"Bonn, Rhein"\n'
        'c@x.example,"Kiel"\n'
        'd@x.example,"Trier" an der Mosel\n'
        'e@x.example,"Ulm'
    )

    lines = reader.lines(text)

    assert emails(lines) == [
        "line 2",
        "b@x.example",
        "c@x.example",
        "line 5",
        "line 6",
    ]
    reasons = [line.reason for line in lines if isinstance(line, BadLine)]
    follows = "text follows a closing quotation mark; one inside a value is written "
    assert reasons == [
        f'{follows}twice ("")',
        f'{follows}twice ("")',
        "a quotation mark is opened and never closed",
    ]


def test_a_swallowed_line_that_shifts_the_cells_is_read_again(reader: Reader) -> None:
    """A record over several lines with a wrong number of cells gives them back."""
    text = 'email,city\n"a@x.example,Ulm\nb@x.example,Bonn\n",Kiel,Trier\n'

    assert emails(reader.lines(text)) == ["line 2", "b@x.example", "line 4"]


def test_huge_cells_and_lines_are_refused(reader: Reader) -> None:
    """A cell or line without end is passed over in bounded memory."""
    text = (
        "email,city\n"
        f"a@x.example,{'x' * 140_000}\n"
        "b@x.example,\n"
        f"c@x.example,{'x,' * 1_500_000}\n"
        f'd@x.example,"{"x" * 140_000}\n'
        f'e@x.example,"{"x" * 2_500_000}\n'
        "f@x.example,\n"
    )

    assert emails(reader.lines(text)) == [
        "line 2",
        "b@x.example",
        "line 4",
        "line 5",
        "line 6",
        "f@x.example",
    ]


def test_damaged_bytes_refuse_their_line_only(reader: Reader) -> None:
    """One broken byte in a UTF-8 file neither stops it nor changes its encoding."""
    text = "email,city\na@x.example,Köln\nb@x.example,Münster\nc@x.example,Ulm\0\n"
    file = reader.open(text.encode() + b"d@x.example,K\xf6ln\ne@x.example,\n")

    lines = list(file)

    assert emails(lines) == [
        "a@x.example",
        "b@x.example",
        "line 4",
        "line 5",
        "e@x.example",
    ]
    reasons = [line.reason for line in lines if isinstance(line, BadLine)]
    assert reasons == [
        "it contains NUL bytes",
        "it contains bytes that are not utf-8",
    ]
    assert file.encoding == "utf-8"


@pytest.mark.parametrize("latin", [1, 3])
def test_a_file_of_two_encodings_is_read_line_by_line(
    reader: Reader, latin: int
) -> None:
    """What is UTF-8 stays as it is where the rest is Latin-1, which is said."""
    old = b"c@x.example,Zo\xeb \x80 \x81\n" + b"d@x.example,K\xf6ln\n" * latin
    file = reader.open("email,city\na@x.example,Zoë\nb@x.example,Ulm\n".encode() + old)

    first, _, broken, *others = list(file)

    assert isinstance(first, ContactLine)
    assert first.contact.fields == {"city": "Zoë"}
    assert isinstance(broken, BadLine)
    assert [
        line.contact.fields for line in others if isinstance(line, ContactLine)
    ] == [{"city": "Köln"}] * latin
    assert file.notes == [
        f"1 lines are UTF-8 and {latin + 1} are not; those were read as Latin-1 "
        "(Windows-1252)"
    ]


def test_latin_1_is_said(reader: Reader) -> None:
    """Who gets odd letters learns what the file was taken for; UTF-8 says nothing."""
    text = "email,city\na@x.example,Köln\n"

    [note] = reader.open(text.encode("cp1252")).notes

    assert note.startswith("it is not UTF-8 and was read as Latin-1 (Windows-1252); ")
    assert reader.open(text).notes == []


def test_a_line_says_all_that_is_wrong_with_it(reader: Reader) -> None:
    """Every wrong cell is named at once, so one correction is enough."""
    why = reader.bad("email,points,do_not_contact\nana,many,perhaps\n")

    parts = why.split('column "')
    assert [part.partition('"')[0] for part in parts] == [
        "",
        "email",
        "points",
        "do_not_contact",
    ]
    assert reader.one("email,points,do_not_contact\nana@x.example,1,no\n").points == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_damage_of_long_ago_is_kept(reader: Reader, encoding: str) -> None:
    """A replacement character that the file really holds is a character."""
    text = "email,city\na@x.example,K\ufffdln\n"

    assert reader.one(text.encode(encoding)).fields == {"city": "K\ufffdln"}


def test_a_letter_in_the_last_line_decides_the_encoding(reader: Reader) -> None:
    """The encoding is found out from the whole file, not from its beginning."""
    text = "email,city\n" + "a@x.example,Ulm\n" * 20_000 + "b@x.example,Köln\n"

    [*_, last] = reader.lines(text.encode("cp1252"))

    assert last == ContactLine(20_002, ContactData("b@x.example", {"city": "Köln"}))


# ----------------------------------------------------------------------- JSON


def test_json_lines_are_taken(reader: Reader) -> None:
    """An object a line, with lists and numbers as they are; null is nothing."""
    text = (
        '{"email": "A@x.example", "first_name": "Ana", "points": 5, "city": null}\n'
        "\n"
        '{"email": "", "identities": {"visitor": "v1"}, "zipcode": 27701}\n'
        '{"email": "c@x.example", "tags": ["a,b", "c"], "dnc": true, "shoe": [1]}\n'
        '{"email": "d@x.example", "custom": {"tier": "gold", "size": 9}}\n'
    )
    file = reader.open(text, "contacts.jsonl", mapping={"tier": "tier:choice"})

    assert [*file] == [
        ContactLine(1, ContactData("a@x.example", {"first_name": "Ana"}, points=5)),
        ContactLine(
            3, ContactData("", {"postal_code": "27701"}, identities={"visitor": "v1"})
        ),
        ContactLine(
            4, ContactData("c@x.example", tags=["a,b", "c"], do_not_contact="manual")
        ),
        ContactLine(5, ContactData("d@x.example", custom={"tier": "gold"})),
    ]
    assert file.ignored == {
        "shoe": "map it to shoe:text or another type",
        "custom.size": "not declared here; map it to size:text or another type",
    }


def test_broken_json_costs_one_line(reader: Reader) -> None:
    """A line that is no object, or has a value of the wrong kind, is refused."""
    text = (
        '{"email": "a@x.example"}\n'
        '{"email": "b@x.example"\n'
        "[1]\n"
        '{"email": ["c@x.example"]}\n'
        '{"email": "d@x.example", "city": true}\n'
        '{"email": "e@x.example", "points": "x"}\n'
        '{"email": "f\\u0000@x.example"}\n'
        '{"name": "nobody"}\n'
        f'{{"email": "g@x.example", "city": "{"x" * 1_000_001}"}}\n'
        '{"email": "h@x.example"}\n'
    )

    lines = reader.lines(text)

    assert emails(lines) == [
        "a@x.example",
        *(f"line {number}" for number in range(2, 10)),
        "h@x.example",
    ]
    reasons = [line.reason for line in lines if isinstance(line, BadLine)]
    assert reasons[0].startswith("it is not JSON (")
    assert reasons[1:] == [
        "it is no JSON object",
        'column "email": "c@x.example" is no text',
        'column "city": "yes" is no text',
        'column "points": "x" is no number; one is written as 1234.5',
        'column "email": "f @x.example" is no e-mail address: it contains an '
        "invisible character",
        "it has neither an e-mail address nor another identity",
        "it is longer than 1,000,000 characters",
    ]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_taken(reader: Reader, indent: int | None) -> None:
    """Small arrays are taken however they are laid out."""
    items = [{"email": "a@x.example"}, 5, {"email": "b@x.example"}]

    lines = reader.lines(json.dumps(items, indent=indent))

    assert emails(lines) == ["a@x.example", "line 2", "b@x.example"]


def test_an_array_with_an_object_a_line_may_be_large(reader: Reader) -> None:
    """An array is read line by line when it has an object a line."""
    row = '{"email": "a@x.example", "city": "' + "x" * 9000 + '"}'
    text = "[\n" + ",\n".join([row] * 2000) + "\n]\n"

    assert len(reader.lines(text)) == 2000
    why = reader.refused(text.replace("\n", ""))
    assert "one JSON array of 18" in why
    assert "write one object per line" in why


def test_an_empty_array_holds_nobody(reader: Reader) -> None:
    """An export of no contacts can be read back."""
    assert reader.lines("[]") == []
    assert reader.lines("[\n]\n") == []


def test_keys_of_later_objects_are_known_too(reader: Reader) -> None:
    """A key that first occurs far down fills its field and is reported."""
    rows = ['{"email": "a@x.example"}'] * 150
    rows.append('{"email": "b@x.example", "City": "Ulm", "shoe": 9}')
    file = reader.open("\n".join(rows), mapping={"City": "city", "Tier": "tier:text"})

    assert "City" not in file.columns
    [*_, last] = file

    assert last == ContactLine(151, ContactData("b@x.example", {"city": "Ulm"}))
    assert file.columns == {"email": "email", "City": "city", "shoe": None}
    assert len(file.notes) == 1


# -------------------------------------------------------- files of a wrong kind


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"PK\x03\x04rest", "is an Excel workbook or a ZIP archive"),
        (b"\xd0\xcf\x11\xe0rest", "is an old Excel workbook"),
        (b"\x1f\x8brest", "is a gzip archive"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"<!DOCTYPE html><html>", "is a web page or XML"),
        (b"\n  <?xml version='1.0'?>", "is a web page or XML"),
        (b"BEGIN:VCARD\n", "is a vCard file"),
        (bytes(range(256)) * 4, "is no text file"),
        (b"first_name,city\nAna,Ulm\n", "has no column with e-mail addresses"),
        (b"ana@x.example,Ana\n", "holds a contact, not column names"),
        (b'email,"city\n', "cannot be read as column names"),
        (b'{\n  "email": "a@x.example"\n}\n', "is not JSON lines: it is not JSON"),
        (b'{"first_name": "Ana"}\n', "has no key with e-mail addresses"),
        (b'[{"email": "a@x.example"}', "is not JSON ("),
        (b'[{"email": 1}, {"a"', "is not JSON ("),
    ],
)
def test_a_file_of_the_wrong_kind_is_refused(
    reader: Reader, content: bytes, why: str
) -> None:
    """A file that holds no contacts is refused in one sentence."""
    message = reader.refused(content)

    assert "contacts.csv" in message
    assert why in message
    assert "\n" not in message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, or a folder, is a user's mistake."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            open_contacts(path)


def test_the_format_can_be_told(reader: Reader) -> None:
    """A told format is not questioned, only read."""
    assert emails(reader.lines('{"email": "a@x.example"}', format="jsonl")) == [
        "a@x.example"
    ]
    with pytest.raises(InputError, match="no column"):
        reader.open('{"email": "a@x.example"}', format="csv")
    with pytest.raises(InputError, match="is not JSON lines"):
        reader.open("email\na@x.example\n", format="jsonl")


def test_a_csv_header_in_brackets_is_no_json(reader: Reader) -> None:
    """The `[email]` headers that iContact wants are CSV."""
    assert reader.one("[email],[fname]\na@x.example,Ana\n") == ContactData(
        "a@x.example", {"first_name": "Ana"}
    )


# ------------------------------------------------------------- how it is read


def test_a_file_can_be_read_twice_and_knows_where_it_is(reader: Reader) -> None:
    """Each iteration starts again; the position ends at the size."""
    file = reader.open("email\n" + "a@x.example\n" * 5000)

    assert file.position == 0
    first = []
    for line in file:
        first.append(line)
        assert 0 < file.position <= file.size
    assert file.position == file.size == 60_006
    assert list(file) == first


@pytest.mark.slow
def test_memory_stays_flat(reader: Reader) -> None:
    """Reading takes the same memory for a long file as for a short one."""
    file = reader.open("email,city\n" + "ana@shop.example,Durham\n" * 30_000)

    tracemalloc.start()
    count = sum(1 for _ in file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 30_000
    assert peak < 400_000


@few
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(shared_reader: Reader, content: bytes) -> None:
    """No content of a file raises anything but InputError."""
    for name in ("x.csv", "x.jsonl"):
        for format_ in ("auto", "csv", "jsonl"):
            with suppress(InputError):
                lines = shared_reader.lines(content, name, format=format_)
                assert all(isinstance(one, (ContactLine, BadLine)) for one in lines)


PIECES = st.lists(
    st.sampled_from(
        (
            *("email", "city", "a@x.example", '"email"', '"a@x.example"', "é", "1"),
            *(",", ";", '"', "\n", "\r", "\0", " ", "'", "=", "\ufeff", "{}[]", ":"),
            *("{", "}", "[", "]"),
        )
    ),
    max_size=60,
).map("".join)


@few
@given(PIECES, st.sampled_from(["email,city\n", '{"email":"a@x.example"}\n', "[\n"]))
def test_any_text_is_refused_or_read(
    shared_reader: Reader, text: str, start: str
) -> None:
    """No text behind a good beginning raises anything but InputError."""
    for encoding in ("utf-8", "utf-16", "cp1252"):
        with suppress(InputError):
            shared_reader.lines((start + text).encode(encoding, errors="replace"))


@few
@given(st.data())
def test_every_line_is_told_once(shared_reader: Reader, data: st.DataObject) -> None:
    """Whatever quotes are strewn in, each line with an address is told of once."""
    cells = st.text("ab\", '", max_size=6)
    rows = data.draw(st.lists(cells, max_size=12))
    text = "email,city\n" + "".join(
        f"p{number}@x.example,{cell}\n" for number, cell in enumerate(rows)
    )

    lines = shared_reader.lines(text)

    told = [line.number for line in lines]
    assert told == sorted(set(told))
    inside = sum(text.splitlines()[number - 1].count("@") for number in told)
    taken = [line.contact for line in lines if isinstance(line, ContactLine)]
    swallowed = sum(one.fields.get("city", "").count("@") for one in taken)
    assert inside + swallowed == len(rows)


# --------------------------------------------------------------- the example


@pytest.fixture(scope="module")
def make_contacts() -> Iterator[ModuleType]:
    """Return the example's program as a module."""
    spec = importlib.util.spec_from_file_location(
        "make_contacts", EXAMPLES / "make_contacts.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_example_file_is_as_its_program_says(make_contacts: ModuleType) -> None:
    """The file of the repository is the one its program writes."""
    text = make_contacts.to_csv(make_contacts.make_rows(seed=7, rows=2400))

    assert (EXAMPLES / "contacts.csv").read_bytes() == text.encode()
    assert len(text.encode()) < 500_000
    for email in make_contacts.EXISTING:
        assert email in text


def test_the_example_file_is_read_as_expected(make_contacts: ModuleType) -> None:
    """Every ugly row of the example is taken or refused as it says."""
    expected = make_contacts.expect(make_contacts.make_rows(seed=7, rows=2400))
    file = open_contacts(EXAMPLES / "contacts.csv", mapping=make_contacts.MAPPING)

    lines = list(file)

    taken = [line.contact for line in lines if isinstance(line, ContactLine)]
    assert len(taken) == expected.taken
    assert len(lines) - len(taken) == expected.refused
    assert {one.email for one in taken if one.email} == expected.people
    assert sum(not one.email for one in taken) == expected.visitors
    assert {one.email for one in taken if one.do_not_contact} == expected.opted_out
