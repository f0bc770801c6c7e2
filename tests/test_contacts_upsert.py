"""Writing what is known of contacts: only what is given, and what changed is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from onward.contacts.given import ContactData
from onward.contacts.upsert import add_tags, add_to_segments, write_fields
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

CONFIG = """
[contact_fields]
tier = "choice"
shoes = "number"
"""


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> TestApp:
    """An app on each kind of database."""
    return make_app(CONFIG, database_url=database_url)


def shown(app: TestApp) -> dict[str, object]:
    """Return the only contact, without what is blank."""
    [row] = app.contacts()
    return {
        name: value
        for name, value in row.items()
        if value not in (None, "", [], {}) and not name.endswith("_at")
    }


def test_only_what_is_given_is_written_and_told(app: TestApp) -> None:
    """A change names its fields; what is not given stays; "" and None empty."""
    first = app.upsert_contact(
        {
            "email": "ana@shop.example",
            "first_name": "Ana",
            "city": "Köln",
            "tier": "gold",
            "shoes": 38,
        }
    )
    same = app.upsert_contact({"email": "ana@shop.example", "city": "Köln"})
    other = app.upsert_contact(
        {
            "email": "ana@shop.example",
            "first_name": "Anna",
            "city": "",
            "custom": {"tier": None},
        }
    )

    assert (first.created, first.changed) == (True, ())
    assert (same.created, same.changed) == (False, ())
    assert sorted(other.changed) == ["city", "first_name", "tier"]
    assert shown(app) == {
        "id": first.contact_id,
        "email": "ana@shop.example",
        "first_name": "Anna",
        "custom": {"shoes": 38},
        "points": 0,
    }


def test_of_several_entries_for_one_contact_the_later_wins(app: TestApp) -> None:
    """Entries of one transaction are written in order, field by field."""
    of = app.upsert_contact({"email": "ana@shop.example", "city": "Ulm"}).contact_id
    entries = [
        ContactData(fields={"first_name": "A", "last_name": "B"}),
        ContactData(fields={"first_name": "Ana", "city": "Ulm"}),
    ]

    with app.runtime.database.write() as transaction:
        changed = write_fields(transaction, [(of, one) for one in entries], START)

    assert changed == {of: ("first_name", "last_name")}
    assert shown(app)["first_name"] == "Ana"


def test_tags_and_segments_say_who_had_them_not_yet(app: TestApp) -> None:
    """A tag or segment is added once, and only then its contact is named."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    ben = app.upsert_contact({"email": "ben@shop.example"}).contact_id

    with app.runtime.database.write() as transaction:
        assert add_tags(transaction, [(ana, "x"), (ana, "x")]) == {ana}
        assert add_tags(transaction, [(ana, "x"), (ben, "x")]) == {ben}
        assert add_to_segments(transaction, [(ana, "Shop")]) == {ana}
        assert add_to_segments(transaction, [(ana, "Shop"), (ben, "Shop")]) == {ben}
        assert add_to_segments(transaction, []) == add_tags(transaction, []) == set()

    assert [(row["tags"], row["segments"]) for row in app.contacts()] == [
        (["x"], ["Shop"]),
        (["x"], ["Shop"]),
    ]
