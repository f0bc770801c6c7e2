"""Contacts as callers describe them: checked, or refused in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from onward.contacts.fields import ContactField
from onward.contacts.given import ContactData
from onward.contacts.input import contact_data, find_contacts, who
from onward.errors import InputError

if TYPE_CHECKING:
    from tests.conftest import MakeApp

FIELDS = {
    "tier": ContactField("tier", "Tier", "choice", ("gold", "silver")),
    "birthday": ContactField("birthday", "Birthday", "date"),
}


def test_everything_that_can_be_given_is_taken() -> None:
    """Fields, custom fields in both ways, lists, points and identities are taken."""
    data = contact_data(
        {
            "email": " Ana@Shop.Example ",
            "first_name": "  Ana ",
            "city": None,
            "postal_code": 1012,
            "tags": "vip",
            "segments": ["A", "", "B"],
            "points": 10,
            "tier": "Gold",
            "custom": {"birthday": "1990-02-01"},
            "identities": {"Visitor": " v1 ", "user": 7, "empty": ""},
        },
        FIELDS,
    )

    assert data == ContactData(
        email="ana@shop.example",
        fields={"first_name": "Ana", "city": "", "postal_code": "1012"},
        custom={"tier": "gold", "birthday": "1990-02-01"},
        tags=["vip"],
        segments=["A", "B"],
        points=10,
        identities={"visitor": "v1", "user": "7"},
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"first_name": "Ana"}, "nobody is named"),
        ({"identities": {"visitor": None}}, "nobody is named"),
        ({"email": "ana"}, '"ana" is no e-mail address: it has no @'),
        (
            {"email": "a@b.example", "firstname": "A"},
            'there is no contact field "firstname"; did you mean first_name?',
        ),
        (
            {"email": "a@b.example", "custom": {"birthdy": "x"}},
            'there is no custom field "birthdy"; did you mean birthday?',
        ),
        ({"email": "a@b.example", "custom": ["x"]}, "custom must be a mapping"),
        ({"email": "a@b.example", "tier": "lead"}, "none of the choices: gold, silver"),
        ({"email": "a@b.example", "points": "10"}, "points are a whole number"),
        ({"email": "a@b.example", "points": True}, "points are a whole number"),
        ({"email": "a@b.example", "points": 10**10}, "points are at most"),
        ({"email": "a@b.example", "tags": 5}, "tags must be a list of words"),
        ({"email": "a@b.example", "tags": [["x"]]}, 'tags: "x" is no text'),
        ({"email": "a@b.example", "tags": ["x" * 256]}, "longer than 255"),
        ({"email": "a@b.example", "first_name": ["A"]}, 'first_name: "A" is no text'),
        ({"email": "a@b.example", "city": True}, "city: "),
        ({"identities": ["v1"]}, "identities must be a mapping"),
        ({"identities": {"two words": "x"}}, "is no kind of identity"),
        ({"identities": {"user": "x" * 256}}, "longer than 255"),
        ({"identities": {"user": {"id": 1}}}, "identity user: "),
    ],
)
def test_what_cannot_be_used_is_refused(given: dict[str, Any], words: str) -> None:
    """Each mistake gets a sentence that names it."""
    with pytest.raises(InputError) as refused:
        contact_data(given, FIELDS)

    assert words in refused.value.message


def test_two_addresses_for_one_action_are_refused() -> None:
    """An address given twice must be the same one."""
    same = who("Ana@shop.example", {"email": "ana@shop.example", "visitor": "v"})
    assert same == ContactData(email="ana@shop.example", identities={"visitor": "v"})

    with pytest.raises(InputError, match="two addresses are given"):
        who("ana@shop.example", {"email": "ben@shop.example"})


def test_contacts_are_found_by_their_addresses(make_app: MakeApp) -> None:
    """Known addresses give ids; one that nobody has is refused, unless allowed."""
    app = make_app()
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    with app.runtime.database.read() as transaction:
        wanted = ["ana@shop.example", "ben@shop.example"]
        found = find_contacts(transaction, wanted, missing_ok=True)
        with pytest.raises(InputError, match=r"no contact with the address ben@shop"):
            find_contacts(transaction, wanted)

    assert found == {"ana@shop.example": ana}
