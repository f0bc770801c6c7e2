"""Values: what is accepted, how it is stored, and that it can be read back."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.contacts.fields import ContactField
from onward.contacts.values import (
    clean_email,
    clean_text,
    parse_value,
    print_value,
    protect,
    split_list,
    unprotect,
)
from onward.contract import FieldType
from onward.errors import InputError


def a_field(type_: FieldType, *choices: str) -> ContactField:
    """Return a field called `field`."""
    return ContactField("field", "Field", type_, choices)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("ana@shop.example", "ana@shop.example"),
        ("  Ana@Shop.Example\n", "ana@shop.example"),
        ("o'neil+news/2024_x-y@sub-1.mail.example", None),
        ("a.b.c@x.example", None),
        ("#!$%&*=?^`{|}~@x.example", None),
        ("zoë@café.example", None),
        ("ZOË@CAFÉ.example", "zoë@café.example"),
        ("zoe\u0308@x.example", "zoë@x.example"),
        ("用户@例子.example", None),
        ("x@1.2.example", None),
        ("\ufeffana@shop.example\u200b", "ana@shop.example"),
    ],
)
def test_addresses_are_trimmed_and_lower_case(typed: str, stored: str | None) -> None:
    """An address is kept as typed, but for blanks around it and its case."""
    assert clean_email(typed) == (stored or typed)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "it is empty"),
        ("foo@", "nothing stands after the @"),
        ("@x.example", "nothing stands before the @"),
        ("foo", "it has no @"),
        ("a@b@c.example", "more than one @"),
        ("a b@c.example", "a blank"),
        ("a\u00a0b@c.example", "a blank"),
        ("a\x00b@c.example", "an invisible character"),
        ("a\u200bb@c.example", "an invisible character"),
        ("admin@localhost", "no dot follows the @"),
        ('"ana"@x.example', 'it contains "'),
        ("ana,bo@x.example", "it contains ,"),
        ("<ana@x.example>", "it contains <"),
        ("ana@x.example;", "it contains ;"),
        ("ana@127.0.0.1", "not as it must be"),
        (".ana@x.example", "not as it must be"),
        ("ana.@x.example", "not as it must be"),
        ("a..b@x.example", "not as it must be"),
        ("ana@-x.example", "not as it must be"),
        ("ana@x..example", "not as it must be"),
        ("ana@x_y.example", "not as it must be"),
        (f"ana@{'x' * 64}.example", "not as it must be"),
        (f"{'a' * 65}@x.example", "longer than"),
        (f"ana@{'x.' * 130}example", "longer than"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(typed: str, why: str) -> None:
    """What cannot be an address is refused in a sentence that says why."""
    with pytest.raises(InputError) as caught:
        clean_email(typed)

    assert why in caught.value.message


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Any text at all is refused, or an address that stays as it is."""
    try:
        email = clean_email(text)
    except InputError:
        return

    assert clean_email(email) == email
    assert email.count("@") == 1
    assert len(email) <= 254


def test_text_becomes_one_clean_line() -> None:
    """Text is trimmed, composed, on one line, and without control characters."""
    assert clean_text(" \t12 Quay\r\nBack\tdoor\x00\x07 ") == "12 Quay Back door"
    assert clean_text("Rene\u0301e") == "Renée"
    assert clean_text("safe\u202eexe.fdp") == "safeexe.fdp"
    assert clean_text("👩‍👩‍👧 نامه‌ای") == "👩‍👩‍👧 نامه‌ای"


def test_text_has_a_bound() -> None:
    """Text of 10,000 characters is taken, longer text refused."""
    assert clean_text("x" * 10_000) == "x" * 10_000

    with pytest.raises(InputError, match="longer than 10,000"):
        clean_text("x" * 10_001)


@given(st.text())
def test_clean_text_stays_as_it_is(text: str) -> None:
    """Cleaning twice is cleaning once."""
    once = clean_text(text)

    assert clean_text(once) == once
    once.encode()


@pytest.mark.parametrize(
    ("type_", "raw", "stored"),
    [
        ("text", " Ana ", "Ana"),
        ("text", 27701, "27701"),
        ("text", 1.5, "1.5"),
        ("text", "", None),
        ("text", " \t", None),
        ("boolean", "Yes", True),
        ("boolean", "0", False),
        ("boolean", 1, True),
        ("boolean", False, False),
        ("number", "12", 12),
        ("number", " -3.50 ", -3.5),
        ("number", "+5", 5),
        ("number", "12.0", 12),
        ("number", "1e3", 1000),
        ("number", 7, 7),
        ("number", 2.5, 2.5),
        ("number", "", None),
        ("date", "2024-02-29", "2024-02-29"),
        ("date", "2024-2-9", "2024-02-09"),
        ("date", "2024/02/09", "2024-02-09"),
        ("date", "20240209", "2024-02-09"),
        ("date", "2024-05-06 23:59:59", "2024-05-06"),
        ("date", "2024-05-06T23:59:59Z", "2024-05-06"),
        ("date", "29.02.2024", "2024-02-29"),
        ("date", "02/29/2024", "2024-02-29"),
        ("date", "29/02/2024", "2024-02-29"),
        ("date", "04/04/2024", "2024-04-04"),
        ("date", date(2024, 5, 6), "2024-05-06"),
        ("date", datetime(2024, 5, 6, 23, tzinfo=UTC), "2024-05-06"),
        ("date", "0000-00-00", None),
        ("date", None, None),
        ("multi", "a|b|a", ["a", "b"]),
        ("multi", ["a", " b ", ""], ["a", "b"]),
        ("multi", [], None),
    ],
)
def test_values_are_stored_typed(type_: FieldType, raw: object, stored: object) -> None:
    """Each type has one stored form, whatever it was typed as; blank is None."""
    got = parse_value(a_field(type_), raw)

    assert got == stored
    assert type(got) is type(stored)


@pytest.mark.parametrize(
    ("type_", "raw", "why"),
    [
        ("text", True, "is no text"),
        ("text", ["a"], "is no text"),
        ("text", {"a": 1}, "is no text"),
        ("boolean", "perhaps", "neither yes nor no"),
        ("boolean", 2, "neither yes nor no"),
        ("number", "many", "no number"),
        ("number", "1,234", "no number"),
        ("number", "٣", "no number"),
        ("number", "nan", "no number"),
        ("number", "1e999", "too large"),
        ("number", float("inf"), "too large"),
        ("number", 2**60, "too large"),
        ("number", True, "no number"),
        ("number", [], "no number"),
        ("date", "2023-02-29", "no such day"),
        ("date", "31.04.2024", "no such day"),
        ("date", "03/04/2024", "write 2024-04-03 or 2024-03-04"),
        ("date", "03/04", "is no date"),
        ("date", "03/04/24", "is no date"),
        ("date", "tomorrow", "is no date"),
        ("multi", [["a"]], "is no text"),
    ],
)
def test_what_is_no_value_is_refused(type_: FieldType, raw: object, why: str) -> None:
    """A value of the wrong kind is refused, naming field and value."""
    with pytest.raises(InputError) as caught:
        parse_value(a_field(type_), raw)

    assert caught.value.message.startswith("field: ")
    assert why in caught.value.message


def test_choices_are_stored_as_declared() -> None:
    """A choice is found in any case; another one is refused with the list."""
    assert parse_value(a_field("choice", "Gold", "Silver"), " GOLD") == "Gold"
    assert parse_value(a_field("choice"), "anything") == "anything"
    assert parse_value(a_field("multi", "A", "B"), "b|B|a") == ["B", "A"]

    with pytest.raises(InputError, match='"Tin" is none of the choices: Gold, Silver'):
        parse_value(a_field("choice", "Gold", "Silver"), "Tin")


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        ("a", ["a"]),
        ("a|b", ["a", "b"]),
        ("a, b,", ["a", "b"]),
        ("a;b", ["a", "b"]),
        ("a, b|c", ["a, b", "c"]),
        ('"Customer","VIP, gold"', ["Customer", "VIP, gold"]),
        ('["a|b", "c"]', ["a|b", "c"]),
        ("[draft", ["[draft"]),
        ('"open', ['"open']),
        ("", []),
    ],
)
def test_a_cell_may_hold_a_list(cell: str, items: list[str]) -> None:
    """Lists in a cell are understood in the spellings of other tools."""
    assert split_list(cell) == items


@given(st.lists(st.text(max_size=30), max_size=5))
def test_a_printed_list_is_read_back(items: list[str]) -> None:
    """A list of any items survives being printed into one cell."""
    clean = split_list(items)

    assert split_list(print_value(clean)) == clean


@given(
    st.one_of(
        st.booleans().map(lambda value: ("boolean", value)),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda v: ("number", v)),
        st.integers(-(2**53), 2**53).map(lambda value: ("number", value)),
        st.dates().map(lambda value: ("date", value)),
        st.text().map(lambda value: ("text", value)),
    )
)
def test_a_printed_value_is_read_back(typed: tuple[FieldType, object]) -> None:
    """What is stored survives being printed and parsed."""
    field = a_field(typed[0])
    stored = parse_value(field, typed[1])

    assert parse_value(field, print_value(stored)) == stored


@pytest.mark.parametrize(
    ("plain", "safe"),
    [
        ("Ana", "Ana"),
        ("=1+1", "'=1+1"),
        ("+31 20", "'+31 20"),
        ("-", "'-"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("＝1", "'＝1"),  # noqa: RUF001 - a full-width sign
        (" =1", "' =1"),
        ("'=1", "''=1"),
        ("'s-Gravenhage", "'s-Gravenhage"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_formulas_are_made_text(plain: str, safe: str) -> None:
    """What a spreadsheet would run gets one apostrophe, which comes off again."""
    assert protect(plain) == safe
    assert unprotect(safe) == plain


@given(st.text("'=+-@\t\r a"))
def test_any_text_survives_protection(text: str) -> None:
    """Protecting loses nothing, and never leaves a formula."""
    assert unprotect(protect(text)) == text
    assert protect(text)[:1] not in tuple("=+-@\t\r")
