"""What a contact is now, for maps, filters and listings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from onward.contacts.facts import load_facts, needs_lists
from onward.models import Contact, table
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

contacts = table(Contact)

CONFIG = """
[contact_fields]
tier = "choice"
"""


@pytest.fixture
def app(make_app: MakeApp) -> TestApp:
    """An app that knows a custom field."""
    return make_app(CONFIG)


def facts(app: TestApp, contact_id: int, **options: Any) -> dict[str, Any]:
    """Return what is known of one contact."""
    with app.runtime.database.read() as transaction:
        return load_facts(transaction, [contact_id], **options)[contact_id]


def test_a_contact_has_its_fields_lists_and_state(app: TestApp) -> None:
    """Standard and custom fields stand side by side, with tags and segments."""
    of = app.upsert_contact(
        {
            "email": "ana@shop.example",
            "first_name": "Ana",
            "tier": "gold",
            "tags": ["b", "a"],
            "segments": ["Shop"],
            "points": 3,
        }
    ).contact_id
    app.suppress("ana@shop.example")

    found = facts(app, of)

    assert {name: value for name, value in found.items() if value is not None} == {
        "id": of,
        "email": "ana@shop.example",
        "first_name": "Ana",
        "tier": "gold",
        "points": 3,
        "tags": ["a", "b"],
        "segments": ["Shop"],
        "do_not_contact": True,
        "suppressions": ["do_not_contact"],
        "created_at": START,
        "updated_at": START,
    }


def test_an_address_suppressed_before_its_contact_came_counts(app: TestApp) -> None:
    """Do-not-contact is true for an opt-out that only the address knows."""
    app.suppress("ana@shop.example")
    of = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    assert facts(app, of)["do_not_contact"] is True

    app.consent("ana@shop.example", how="form", who="Sam")
    assert facts(app, of)["do_not_contact"] is False


def test_a_custom_field_cannot_pose_as_the_contact_s_own(app: TestApp) -> None:
    """A custom field named like a column does not hide it."""
    of = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    with app.runtime.database.write() as transaction:
        transaction.execute(
            update(contacts).values(custom={"erased_at": "2020-01-01", "id": 99})
        )

    found = facts(app, of)

    assert (found["erased_at"], found["id"]) == (None, of)


def test_unknown_contacts_and_lists_nobody_asked_for_are_left_out(
    app: TestApp,
) -> None:
    """Who is not there is not given; without lists they are empty."""
    of = app.upsert_contact({"email": "ana@shop.example", "tags": ["a"]}).contact_id

    with app.runtime.database.read() as transaction:
        found = load_facts(transaction, [of, 99], lists=False)

    assert list(found) == [of]
    assert found[of]["tags"] == []
    assert (needs_lists(["email"]), needs_lists(["tags"])) == (False, True)
