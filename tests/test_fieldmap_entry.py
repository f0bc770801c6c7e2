"""Tests of `onward.fieldmap.entry`: the forms a line may have."""

from __future__ import annotations

import pytest

from onward.errors import FieldMapError
from onward.fieldmap.entry import Entry, parse_entry


def test_a_bare_name_is_not_compiled() -> None:
    """Blanks around it do not count."""
    assert parse_entry("firstName", " first_name ", "x") == Entry(
        "firstName", "first_name"
    )


def test_a_part_of_the_event_may_be_a_bare_name() -> None:
    """Its path is prepared."""
    entry = parse_entry("source", "event.data.utm.source", "x")

    assert entry.path == ("data", "utm", "source")
    assert entry.names == {"event"}


def test_a_template_brings_its_names() -> None:
    """What it reads is known before anything is rendered."""
    entry = parse_entry("name", "{{ first_name ~ last_name }}", "x")

    assert entry.names == {"first_name", "last_name"}


def test_a_table_says_more() -> None:
    """Every option is kept."""
    given = {
        "value": "city",
        "when_blank": "clear",
        "direction": "both",
        "winner": "theirs",
    }

    entry = parse_entry("city", given, "x")

    assert entry == Entry(
        "city", "city", when_blank="clear", direction="both", winner="theirs"
    )
    assert entry.document == given


@pytest.mark.parametrize(
    "given",
    [
        {"value": "city", "default": "-"},
        {"value": "city", "when_blank": "default", "default": "-"},
        {"value": "city", "when_blank": {"default": "-"}},
    ],
)
def test_three_ways_to_write_a_default_are_one(given: dict[str, object]) -> None:
    """They mean the same and have one shortest form."""
    entry = parse_entry("city", given, "x")

    assert entry == Entry("city", "city", when_blank="default", default="-")
    assert entry.document == {"value": "city", "default": "-"}


def test_options_that_say_what_holds_anyway_are_dropped() -> None:
    """The shortest form of a table with defaults is the bare name."""
    given = {"value": "city", "when_blank": "keep", "direction": "push"}

    assert parse_entry("city", given, "x").document == "city"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            5,
            'x: f is neither a text nor a table; write a contact field ("city"), a'
            " template (\"{{ 'always the same' }}\") or a table"
            ' { value = "city", when_blank = "clear" }',
        ),
        (" ", "x: f is empty; name a contact field, or remove the line"),
        (
            {"when_blank": "keep"},
            'x: f has no value; add one, as in { value = "city" }',
        ),
        (
            {"value": "city", "defualt": "-"},
            'x: f has an unknown option "defualt" (did you mean "default"?); known'
            " options: date_format, default, direction, separator, value, when_blank,"
            " winner",
        ),
        (
            {"value": "city", "when_blank": "Rome"},
            'x: f has when_blank = "Rome"; to send that where the field is blank write'
            ' default = "Rome", else when_blank is one of keep, clear, skip_contact',
        ),
        (
            {"value": "city", "when_blank": "kep"},
            'x: f has when_blank = "kep" (did you mean "keep"?); write one of keep,'
            " clear, skip_contact, default",
        ),
        (
            {"value": "city", "default": 5},
            "x: f has a default that is no text; put it between quotes",
        ),
        (
            {"value": "city", "when_blank": {"other": "-"}},
            "x: f has a when_blank that cannot be understood; write"
            ' default = "text" instead',
        ),
        (
            {"value": "city", "when_blank": "default"},
            'x: f cannot be used: its default needs when_blank = "default" (or leave'
            " when_blank out)",
        ),
        (
            {"value": "city", "when_blank": "keep", "default": "-"},
            'x: f cannot be used: its default needs when_blank = "default" (or leave'
            " when_blank out)",
        ),
        (
            {"value": "city", "default": " "},
            'x: f cannot be used: its default is blank; write when_blank = "clear"',
        ),
        (
            {"value": "{{ city }}", "direction": "pull"},
            "x: f cannot be used: only a contact field can be pulled into; remove its"
            " direction",
        ),
        (
            {"value": "city", "winner": "ours"},
            'x: f cannot be used: its winner needs direction = "both"',
        ),
        (
            {"value": "created_at", "date_format": "%B"},
            'x: f cannot be used: its date_format does not know "%B"; it knows'
            " %Y %m %d %H %M %S %y %j %%",
        ),
        (
            "event.form",
            'x: f names "event.form", which is no part of an event; write'
            " event.action, event.occurred_at or event.data.NAME",
        ),
        (
            "{{ ''.__class__ }}",
            'x: f: the template asks for "__class__", and names starting with _ are'
            " closed",
        ),
    ],
)
def test_a_line_that_cannot_be_used_says_what_to_write(
    given: object, message: str
) -> None:
    """One sentence: where, what, why, what to do."""
    with pytest.raises(FieldMapError) as refused:
        parse_entry("f", given, "x")

    assert refused.value.message == message
