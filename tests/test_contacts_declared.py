"""Custom fields: of the file, and those that imports declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from onward.contacts.declared import custom_fields, declare_fields, read_fields
from onward.contacts.fields import ContactField
from onward.testing.app import TestApp

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


def test_a_field_that_an_import_declared_is_known_from_then_on(app: TestApp) -> None:
    """Stored custom fields are found beside those of the file, which wins."""
    known = custom_fields(app.runtime)
    with app.runtime.database.write() as transaction:
        declare_fields(
            transaction,
            [
                ContactField("size", "Size", "number"),
                ContactField("tier", "Other", "text"),
            ],
        )
        declare_fields(transaction, [ContactField("size", "Changed", "text")])
        assert sorted(read_fields(transaction)) == ["size", "tier"]

    assert sorted(known) == ["shoes", "size", "tier"]
    assert len(known) == 3
    assert known["size"] == ContactField("size", "Size", "number")
    assert known["tier"].type == "choice"
    assert known.get("nothing") is None
    app.upsert_contact({"email": "ana@shop.example", "size": "12"})
    [row] = app.contacts()
    assert row["custom"] == {"size": 12}
