"""Tests of `onward.fieldmap.bound`: one contact in, texts to send out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS, ContactField
from onward.contract import RemoteField
from onward.fieldmap import BoundMap, FieldMap, Mapped

CONTACT = {
    **STANDARD_FIELDS,
    **DERIVED_FIELDS,
    "score": ContactField("score", "Score", "number"),
    "member": ContactField("member", "Member", "boolean"),
    "odd name": ContactField("odd name", "Odd name"),
}
REMOTE = [
    RemoteField("email"),
    RemoteField("note"),
    RemoteField("short", max_length=5),
    RemoteField("day", type="date"),
    RemoteField("ticked", type="boolean"),
    RemoteField("amount", type="number"),
    RemoteField("topics", type="multi", max_length=5),
    RemoteField("level", type="choice", choices=("Gold", "Silver")),
]
MOMENT = datetime(2026, 3, 4, 10, tzinfo=UTC)
EVENT = {
    "action": "form.submitted",
    "data": {"form": "signup", "utm": {"source": "mail"}, "level": "gold"},
    "occurred_at": MOMENT,
}


def bind(**fields: object) -> BoundMap:
    """Bind a map with these lines."""
    return FieldMap.parse({"fields": fields}, source="x").bind(REMOTE, CONTACT)


def test_each_type_is_written_as_the_service_reads_it() -> None:
    """Numbers, booleans, dates, lists, events and templates, in the map's order."""
    bound = bind(
        email="email",
        day="created_at",
        ticked="do_not_contact",
        amount="points",
        topics="tags",
        level="event.data.level",
        note="{{ event.action }} {{ event.data.utm.source }}",
    )

    mapped = bound.render(
        {
            "email": "ann@shop.example",
            "created_at": MOMENT,
            "do_not_contact": False,
            "points": 0,
            "tags": ["a", "b"],
            "event": EVENT,
        }
    )

    assert mapped == Mapped(
        {
            "email": "ann@shop.example",
            "day": "2026-03-04",
            "ticked": "0",
            "amount": "0",
            "topics": "a|b",
            "level": "Gold",
            "note": "form.submitted mail",
        }
    )


@pytest.mark.parametrize("blank", [None, "", "  ", []])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Mapped({"email": "a@b.example"})),
        ({"when_blank": "keep"}, Mapped({"email": "a@b.example"})),
        ({"when_blank": "clear"}, Mapped({"email": "a@b.example", "note": ""})),
        ({"default": "-"}, Mapped({"email": "a@b.example", "note": "-"})),
        (
            {"when_blank": "skip_contact"},
            Mapped(skip="the field map skips contacts without note"),
        ),
    ],
)
def test_a_blank_does_what_the_line_says(
    options: dict[str, object], expected: Mapped, blank: object
) -> None:
    """For a bare name and for a template; nothing is ever invented."""
    values = {"email": "a@b.example", "city": blank}

    bare = bind(email="email", note={"value": "city", **options})
    template = bind(email="email", note={"value": "{{ city }}", **options})

    assert bare.render(values) == expected
    assert template.render(values) == expected


def test_missing_values_and_a_missing_event_are_blank() -> None:
    """A contact that was never told anything is pushed all the same."""
    bound = bind(
        email="email",
        note="{{ city }}{{ event.data.form }}",
        short="event.data.utm.source",
        level="event.data.level",
    )

    assert bound.render({"email": "a@b.example"}).fields == {"email": "a@b.example"}
    assert bound.render({"email": "a@b.example", "event": None}).warnings == ()


def test_a_default_is_sent_in_the_spelling_of_the_service() -> None:
    """It goes through the same converter as a value."""
    assert bind(level={"value": "city", "default": "gold"}).render({}).fields == {
        "level": "Gold"
    }


def test_what_does_not_fit_is_left_out_and_the_contact_goes() -> None:
    """Each warning names the field and the cause, none the value."""
    bound = bind(
        email="email",
        short="state",
        day="city",
        level="{{ city }}",
        topics="tags",
        amount={"value": "position", "default": "1"},
        ticked={"value": "prefix", "when_blank": "skip_contact"},
        note="{{ points > city }}",
    )

    mapped = bound.render(
        {
            "email": "a@b.example",
            "state": "Limburg",
            "city": "soon",
            "tags": ["abc", "def"],
            "position": "many",
            "prefix": "Dr",
            "points": 3,
        }
    )

    assert mapped == Mapped(
        {"email": "a@b.example"},
        (
            "short left out: 7 characters, the service takes 5",
            "day left out: not a date such as 2026-03-04",
            "level left out: not one of Gold, Silver",
            "topics left out: 7 characters, the service takes 5",
            "amount left out: not a number such as 42 or 3.5",
            "ticked left out: neither yes nor no",
            "note left out: its template combines values of different kinds (a blank"
            " field is empty text)",
        ),
    )
    assert bound.render({"email": "a@b.example", "prefix": "yes"}) == Mapped(
        {"email": "a@b.example", "amount": "1", "ticked": "1", "note": "0"}
    )


def test_custom_fields_enter_templates_as_they_are_declared() -> None:
    """A number kept as text compares as number, "no" is not true."""
    bound = bind(
        note="{% if score > 9 %}high{% endif %}",
        short="{{ 'in' if member else 'out' }}",
    )

    assert bound.render({"score": "10", "member": "no"}).fields == {
        "note": "high",
        "short": "out",
    }


def test_a_custom_field_may_have_any_name() -> None:
    """A bare name is looked up as it is written."""
    assert bind(note="odd name").render({"odd name": "x"}).fields == {"note": "x"}


def test_a_field_that_is_only_pulled_is_not_sent() -> None:
    """Its direction says so."""
    bound = bind(email="email", note={"value": "city", "direction": "pull"})

    assert bound.render({"email": "a@b.example", "city": "Eindhoven"}) == Mapped(
        {"email": "a@b.example"}
    )


@given(st.dictionaries(st.sampled_from(sorted(STANDARD_FIELDS)), st.text()))
def test_a_bare_name_carries_text_unchanged(values: dict[str, str]) -> None:
    """What is not blank arrives as it is, character by character."""
    names = sorted(STANDARD_FIELDS)
    field_map = FieldMap.parse({"fields": {name: name for name in names}}, source="x")
    bound = field_map.bind([RemoteField(name) for name in names], STANDARD_FIELDS)

    mapped = bound.render(values)

    assert mapped.fields == {
        name: text for name, text in values.items() if text.strip()
    }


json_like = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.dates(),
        st.datetimes(),
        st.just(10**999),
        st.just("x" * 20_000),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
EVERYTHING = bind(
    email="email",
    note="{{ points + 1 }}{{ city|upper }}{{ tags|join('-') }}{{ event.data.form }}",
    short="{% if score > points or member %}{{ created_at | date('%Y') }}{% endif %}",
    day="created_at",
    ticked="member",
    amount="points",
    topics="tags",
    level="event.data.form",
)


@settings(deadline=None, max_examples=2 * settings().max_examples)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "email",
                "city",
                "points",
                "tags",
                "score",
                "member",
                "created_at",
                "event",
            ]
        ),
        json_like | st.fixed_dictionaries({"data": json_like}),
    )
)
def test_rendering_never_raises(values: dict[str, object]) -> None:
    """Whatever a contact or an event holds, texts and warnings come out."""
    mapped = EVERYTHING.render(values)

    assert all(type(text) is str for text in mapped.fields.values())
    assert all(" left out: " in warning for warning in mapped.warnings)
    assert mapped.skip == ""
