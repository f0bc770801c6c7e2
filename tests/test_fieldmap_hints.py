"""Tests of `onward.fieldmap.hints`."""

from __future__ import annotations

from onward.fieldmap.hints import listed, meant


def test_a_near_name_is_offered_whatever_its_spelling() -> None:
    """Case, underscores and a wrong letter do not hide what was meant."""
    known = ["first_name", "last_name", "postal_code"]

    got = [meant(name, known) for name in ("firstName", "frist_name", "Postal-Code")]

    assert got == [
        ' (did you mean "first_name"?)',
        ' (did you mean "first_name"?)',
        ' (did you mean "postal_code"?)',
    ]


def test_nothing_is_offered_when_nothing_is_near() -> None:
    """A wild guess would mislead."""
    assert meant("loyalty", ["email", "city"]) == ""


def test_names_are_listed_in_order_and_a_long_list_is_cut() -> None:
    """A message stays readable with hundreds of custom fields."""
    many = [f"field_{number:03}" for number in range(100)]

    assert listed(["b", "a"]) == "a, b"
    assert listed([]) == "none"
    assert listed(many).endswith("field_059 and 40 more")
