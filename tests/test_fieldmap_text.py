"""Tests of `onward.fieldmap.text`."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.fieldmap.text import (
    Unfit,
    bounded,
    date_text,
    is_blank,
    number_text,
    read_date,
    tidy_number,
    to_text,
    why_no_date_format,
)


def test_zero_and_false_are_something() -> None:
    """Only a missing, empty or white value is blank."""
    blank = [None, "", " \n", [], ["", None]]
    filled = [0, 0.0, False, "0", [0], date(2026, 3, 4)]

    assert [is_blank(value) for value in blank] == [True] * 5
    assert [is_blank(value) for value in filled] == [False] * 6


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ann", "Ann"),
        (None, ""),
        (True, "1"),
        (False, "0"),
        (3, "3"),
        (3.0, "3"),
        (3.25, "3.25"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (date(2026, 3, 4), "2026-03-04"),
        (datetime(2026, 3, 4, 23, 59, tzinfo=UTC), "2026-03-04"),
        (["vip", "", "new"], "vip, new"),
    ],
)
def test_every_value_has_one_way_to_be_written(value: object, expected: str) -> None:
    """No "None", no "True", no trailing ".0"."""
    assert to_text(value) == expected


@pytest.mark.parametrize(
    "value",
    [{"a": 1}, [["a"]], object(), float("nan"), float("inf"), 10**5000, ["x"] * 1001],
    ids=["group", "nested", "object", "nan", "infinite", "huge", "many"],
)
def test_what_is_not_one_value_is_unfit(value: object) -> None:
    """Groups, endless numbers and endless lists are not written at all."""
    with pytest.raises(Unfit):
        to_text(value)


def test_a_cause_never_quotes_the_value() -> None:
    """Warnings outlive the contact's erasure, so they name no personal data."""
    with pytest.raises(Unfit) as number:
        tidy_number("secret")
    with pytest.raises(Unfit) as day:
        read_date("secret")

    assert str(number.value) == "not a number such as 42 or 3.5"
    assert str(day.value) == "not a date such as 2026-03-04"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("042.50", "42.5"), (" 7 ", "7"), ("-0.0", "0"), ("+3", "3"), ("-1.0", "-1")],
)
def test_a_number_in_text_is_tidied(given: str, expected: str) -> None:
    """Zeros that say nothing are dropped."""
    assert tidy_number(given) == expected


@pytest.mark.parametrize("given", ["1,000", "1e9", "", "٣", "9" * 31, "1.", "0x10"])
def test_what_could_be_read_two_ways_is_no_number(given: str) -> None:
    """Separators and exponents are not guessed at."""
    with pytest.raises(Unfit):
        tidy_number(given)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_reads_back_as_the_same_number(value: float) -> None:
    """Writing a number loses nothing and uses no exponent."""
    written = number_text(value)

    assert float(written) == value
    assert "e" not in written


def test_dates_are_read_in_one_order_only() -> None:
    """ISO 8601 is read; 03/04/2026 could be March or April."""
    moment = datetime(2026, 3, 4, 10, tzinfo=UTC)

    assert read_date("2026-03-04T10:00:00Z") == moment
    assert read_date(date(2026, 3, 4)) == date(2026, 3, 4)
    for value in ("03/04/2026", "soon", 20260304):
        with pytest.raises(Unfit):
            read_date(value)


@given(st.dates())
def test_a_date_reads_back_as_the_same_date(value: date) -> None:
    """Years before 1000 are padded too."""
    assert date.fromisoformat(date_text(value)) == value


def test_dates_are_written_by_a_few_directives() -> None:
    """The directives are ours, so that platforms agree."""
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

    assert date_text(moment, "%d.%m.%y %H:%M:%S %j%%") == "04.03.26 05:06:07 063%"


@pytest.mark.parametrize(
    "date_format", ["", "YYYY-MM-DD", "%9999999d", "%", "%B", "x" * 41, "%\n"]
)
def test_other_date_formats_are_refused(date_format: str) -> None:
    """A width would not be bounded, a month's name would depend on the machine."""
    assert why_no_date_format(date_format)


def test_a_text_of_templates_is_bounded() -> None:
    """10,000 characters pass, one more does not."""
    assert bounded("x" * 10_000)
    with pytest.raises(Unfit, match="longer than 10,000 characters"):
        bounded("x" * 10_001)
