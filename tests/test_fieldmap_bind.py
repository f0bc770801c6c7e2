"""Tests of `onward.fieldmap.bind`: a map held against an account."""

from __future__ import annotations

import pytest

from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS, ContactField
from onward.contract import RemoteField
from onward.errors import FieldMapError
from onward.fieldmap import BoundMap, FieldMap

CONTACT = {
    **STANDARD_FIELDS,
    **DERIVED_FIELDS,
    "tier": ContactField("tier", "Tier", "choice", ("gold", "silver")),
}
REMOTE = [
    RemoteField("email", required=True),
    RemoteField("firstName"),
    RemoteField("state", max_length=10),
    RemoteField("birthday", type="date"),
    RemoteField("vip", type="boolean"),
    RemoteField("topics", type="multi"),
    RemoteField("level", type="choice", choices=("Gold", "Silver")),
]


def bind(**fields: object) -> BoundMap:
    """Bind a map with these lines and the e-mail."""
    document = {"fields": {"email": "email", **fields}}
    return FieldMap.parse(document, source="acme.toml").bind(REMOTE, CONTACT)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"firstname": "first_name"},
            'acme.toml: the map names "firstname", which the account does not have'
            ' (did you mean "firstName"?); known fields: birthday, email, firstName,'
            " level, state, topics, vip",
        ),
        (
            {"birthday": "points"},
            "acme.toml: birthday is of type date and points of type number, and"
            " nothing converts between them; map another field, or push a template"
            " that makes one of the other",
        ),
        (
            {"vip": "tags"},
            "acme.toml: vip is of type boolean and tags of type multi, and nothing"
            " converts between them; map another field, or push a template that makes"
            " one of the other",
        ),
        (
            {"firstName": {"value": "first_name", "date_format": "%Y"}},
            "acme.toml: firstName has a date_format but no date; remove it",
        ),
        (
            {"firstName": {"value": "first_name", "separator": ";"}},
            "acme.toml: firstName has a separator but one value; remove it",
        ),
        (
            {"email": {"value": "email", "when_blank": "clear"}},
            "acme.toml: email is required by the account and cannot be cleared; write"
            ' when_blank = "skip_contact"',
        ),
        (
            {"birthday": {"value": "created_at", "default": "soon"}},
            "acme.toml: birthday has a default that is not a date such as 2026-03-04;"
            " write another",
        ),
        (
            {"level": {"value": "tier", "default": "bronze"}},
            "acme.toml: level has a default that is not one of Gold, Silver; write"
            " another",
        ),
        (
            {"state": {"value": "state", "default": "somewhere else"}},
            "acme.toml: state has a default of 14 characters and the service takes 10;"
            " write a shorter one",
        ),
        (
            {"topics": {"value": "tags", "direction": "both"}},
            'acme.toml: topics cannot be pulled: "tags" is kept by Onward itself;'
            " remove its direction",
        ),
        (
            {
                "firstName": {"value": "city", "direction": "pull"},
                "state": {"value": "city", "direction": "both"},
            },
            'acme.toml: state and firstName are both pulled into "city"; leave'
            " direction to one of them",
        ),
    ],
)
def test_a_map_that_does_not_fit_is_refused(
    fields: dict[str, object], message: str
) -> None:
    """The sentence says where, what, and what to do."""
    with pytest.raises(FieldMapError) as refused:
        bind(**fields)

    assert refused.value.message == message


@pytest.mark.parametrize("value", ["frist_name", "{{ frist_name }}"])
def test_an_unknown_name_is_found_before_anything_is_sent(value: str) -> None:
    """In a bare name and in a template alike; a fixed text is explained."""
    with pytest.raises(FieldMapError) as refused:
        bind(firstName=value)

    message = refused.value.message
    assert message.startswith(
        'acme.toml: firstName names "frist_name", which is no contact field'
        ' (did you mean "first_name"?); known fields: city, company, '
    )
    assert message.endswith("a fixed text is written \"{{ 'text' }}\"")


def test_an_unknown_name_in_a_branch_that_never_runs_is_found() -> None:
    """Names are looked for in the text, not by rendering."""
    with pytest.raises(FieldMapError, match='"nowhere", which is no contact field'):
        bind(firstName="{% if false %}{{ nowhere }}{% endif %}")


@pytest.mark.parametrize(
    "fields",
    [
        {"firstName": "first_name"},
        {"email": {"value": "email", "direction": "pull"}},
    ],
)
def test_a_required_field_must_be_pushed(fields: dict[str, object]) -> None:
    """Missing it, or only pulling it, is refused."""
    field_map = FieldMap.parse({"fields": fields}, source="acme.toml")

    with pytest.raises(FieldMapError) as refused:
        field_map.bind(REMOTE, CONTACT)

    assert refused.value.message.startswith(
        'acme.toml: the account requires "email" and the map does not send it; add'
        ' email = "…" with one of these contact fields: city, company'
    )


def test_a_repaired_map_binds_and_keeps_its_version() -> None:
    """The bound map carries the version deliveries are compared by."""
    document = {"fields": {"email": "email", "firstName": "first_name"}}
    field_map = FieldMap.parse(document, source="acme.toml")

    assert field_map.bind(REMOTE, CONTACT).version == field_map.version
