"""Tests of `onward.fieldmap.convert`."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.contract import FieldType, RemoteField
from onward.fieldmap.convert import as_declared, converter
from onward.fieldmap.text import Unfit

MOMENT = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)
TYPES: list[FieldType] = ["text", "number", "boolean", "date", "choice", "multi"]


def convert(value: object, to: FieldType, *choices: str, **options: str) -> str:
    """Convert one value for a remote field of type `to`."""
    return converter(RemoteField("x", type=to, choices=choices), **options)(value)


@pytest.mark.parametrize(
    ("value", "to", "expected"),
    [
        ("Ann", "text", "Ann"),
        (3.0, "text", "3"),
        (True, "text", "1"),
        (MOMENT, "text", "2026-03-04"),
        (["a", "b"], "text", "a, b"),
        (12.0, "number", "12"),
        ("012.50", "number", "12.5"),
        (False, "number", "0"),
        (True, "boolean", "1"),
        ("No", "boolean", "0"),
        (" yes ", "boolean", "1"),
        (1, "boolean", "1"),
        (date(2026, 3, 4), "date", "2026-03-04"),
        (MOMENT, "date", "2026-03-04"),
        ("2026-03-04T10:00:00Z", "date", "2026-03-04"),
        (["a", "b", "a", ""], "multi", "a|b"),
        ("a| b", "multi", "a|b"),
        ("gold", "choice", "gold"),
    ],
)
def test_values_become_what_the_service_reads(
    value: object, to: FieldType, expected: str
) -> None:
    """Booleans are 1 and 0, dates ISO 8601, several values joined by |."""
    assert convert(value, to) == expected


@pytest.mark.parametrize(
    ("value", "to", "cause"),
    [
        ("soon", "date", "not a date such as 2026-03-04"),
        (5, "date", "not a date such as 2026-03-04"),
        ("many", "number", "not a number such as 42 or 3.5"),
        (["1", "2"], "number", "not a number such as 42 or 3.5"),
        ("perhaps", "boolean", "neither yes nor no"),
        (2, "boolean", "neither yes nor no"),
        (["a|b"], "multi", 'one of several values contains the separator "|"'),
        ({"a": 1}, "text", "a group of values, not one value"),
    ],
)
def test_what_does_not_fit_is_told_and_not_guessed(
    value: object, to: FieldType, cause: str
) -> None:
    """The cause is a part of a sentence and never quotes the value."""
    with pytest.raises(Unfit) as unfit:
        convert(value, to)

    assert str(unfit.value) == cause


def test_choices_are_sent_in_the_spelling_of_the_service() -> None:
    """Case and blanks around do not matter; anything else does."""
    assert convert(" GOLD", "choice", "Gold", "Silver") == "Gold"
    assert convert(["silver", "gold"], "multi", "Gold", "Silver") == "Silver|Gold"
    for to in ("choice", "multi"):
        with pytest.raises(Unfit, match=r"^not one of Gold, Silver$"):
            convert("bronze", to, "Gold", "Silver")


def test_separator_and_date_format_are_the_maps_choice() -> None:
    """They replace the usual `|`, `, ` and `2026-03-04`."""
    assert convert(["a", "b"], "multi", separator=";") == "a;b"
    assert convert(["a", "b"], "text", separator=" / ") == "a / b"
    assert convert(MOMENT, "date", date_format="%d-%m-%Y") == "04-03-2026"
    assert convert("2026-03-04", "text", date_format="%d.%m.") == "04.03."


def test_templates_compare_values_as_they_are_declared() -> None:
    """A number kept as text compares as number, "no" is False, blank is ""."""
    assert as_declared("12", "number") == 12
    assert as_declared("1.5", "number") == 1.5
    assert as_declared("many", "number") == "many"
    assert as_declared("No", "boolean") is False
    assert as_declared("perhaps", "boolean") == "perhaps"
    assert as_declared(None, "number") == ""
    assert as_declared([], "multi") == ""
    assert as_declared(" x", "text") == " x"
    assert as_declared(0, "number") == 0


anything = st.recursive(
    st.one_of(
        st.none(),
        st.text(),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.dates(),
        st.datetimes(),
        st.binary(),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(anything, st.sampled_from(TYPES))
def test_a_converter_returns_text_or_says_why_not(value: object, to: FieldType) -> None:
    """No value at all makes it fail in another way."""
    with contextlib.suppress(Unfit):
        assert isinstance(convert(value, to), str)
