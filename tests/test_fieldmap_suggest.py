"""Tests of `onward.fieldmap.suggest`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS
from onward.contract import RemoteField
from onward.fieldmap import FieldMap, suggest

CONTACT = {**STANDARD_FIELDS, **DERIVED_FIELDS}


def test_names_match_whatever_their_spelling() -> None:
    """Case, underscores, synonyms and titles are seen through."""
    remote_fields = [
        RemoteField("EMAIL"),
        RemoteField("firstName"),
        RemoteField("Last-Name"),
        RemoteField("zip"),
        RemoteField("business"),
        RemoteField("address1"),
        RemoteField("cf_7", title="Mobile phone"),
        RemoteField("score", type="number"),
        RemoteField("shoe_size"),
    ]

    assert suggest(remote_fields, CONTACT) == {
        "EMAIL": "email",
        "firstName": "first_name",
        "Last-Name": "last_name",
        "zip": "postal_code",
        "business": "company",
        "address1": "street",
        "cf_7": "mobile",
        "score": "points",
    }


def test_required_fields_come_first_and_choose_first() -> None:
    """A contact field is suggested once; an exact name beats a synonym."""
    remote_fields = [
        RemoteField("company_name"),
        RemoteField("street1"),
        RemoteField("street"),
        RemoteField("organization", required=True),
    ]

    got = suggest(remote_fields, CONTACT)

    assert list(got.items()) == [("organization", "company"), ("street", "street")]


def test_what_cannot_be_converted_or_is_not_ours_is_not_suggested() -> None:
    """A service's id is not Onward's, and points are no date."""
    remote_fields = [RemoteField("id"), RemoteField("points", type="date")]

    assert suggest(remote_fields, CONTACT) == {}


remote_fields = st.lists(
    st.builds(
        RemoteField,
        st.sampled_from([*CONTACT, "zip", "fname", "tel", "url", "x", "BUSINESS"]),
        type=st.sampled_from(["text", "date", "boolean", "number", "choice", "multi"]),
    ),
    unique_by=lambda remote: remote.name,
)


@given(remote_fields)
def test_a_suggestion_is_a_map_that_binds(remote_fields: list[RemoteField]) -> None:
    """It can be saved as it is, and uses no contact field twice."""
    fields = suggest(remote_fields, CONTACT)

    assert len(set(fields.values())) == len(fields)
    if fields:
        FieldMap.parse({"fields": fields}, source="x").bind(remote_fields, CONTACT)
