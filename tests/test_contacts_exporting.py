"""Exports: every contact once, a page at a time, and back again unchanged."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onward.testing
from onward import InputError
from onward.contacts.exporting import (
    NAMES,
    csv_columns,
    export_csv,
    export_rows,
)
from onward.contacts.importing import import_contacts
from onward.contacts.suppress import add_suppression
from onward.contacts.writing import write_json
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

CONFIG = """
[contact_fields]
tier = "text"
shoes = "number"
birthday = "date"
vip = "boolean"
likes = "multi"
"""


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> TestApp:
    """An app on each kind of database, with custom fields."""
    return make_app(CONFIG, database_url=database_url)


def test_a_contact_has_all_of_its_parts(app: TestApp) -> None:
    """An exported contact carries fields, lists, suppressions, identities, custom."""
    app.upsert_contact(
        {
            "email": "ana@shop.example",
            "first_name": "Ana",
            "tags": ["b", "a"],
            "segments": ["Shop"],
            "points": 3,
            "shoes": 38,
            "identities": {"visitor": "v2", "user": "7"},
        }
    )
    app.record_action("seen", email="ana@shop.example", identities={"visitor": "v1"})
    app.suppress("ana@shop.example", reason="wrote a letter", actor="Sam")

    [row] = export_rows(app.runtime)

    assert tuple(row) == NAMES
    assert {name: value for name, value in row.items() if value is not None} == {
        "id": 1,
        "email": "ana@shop.example",
        "first_name": "Ana",
        "points": 3,
        "tags": ["a", "b"],
        "segments": ["Shop"],
        "do_not_contact": "manual",
        "suppressions": [
            {
                "scope": "address",
                "code": "do_not_contact",
                "reason": "wrote a letter, seen 2026-03-04",
                "source": "Sam",
                "identity": "",
                "segment": "",
                "seen_at": START.isoformat(),
                "lifted_at": None,
            }
        ],
        "identities": {"user": "7", "visitor": "v1"},
        "custom": {"shoes": 38},
        "created_at": START.isoformat(),
        "updated_at": START.isoformat(),
    }


def test_merged_and_erased_contacts_are_left_out(app: TestApp) -> None:
    """Whoever is somebody else now, or nobody, is not exported."""
    app.upsert_contact({"email": "ana@shop.example"})
    app.record_action("seen", identities={"visitor": "v1"})
    app.record_action("seen", email="ana@shop.example", identities={"visitor": "v1"})

    assert [row["email"] for row in app.contacts()] == ["ana@shop.example"]


def test_every_page_is_read_once(app: TestApp) -> None:
    """More contacts than a page are given once each, in the order of their ids."""
    app.record_actions(
        {"action": "seen", "email": f"p{n}@shop.example"} for n in range(1_203)
    )

    found = [row["id"] for row in export_rows(app.runtime, fields=["id"])]

    assert found == sorted(set(found))
    assert len(found) == 1_203


def test_fields_can_be_chosen_and_unknown_ones_are_refused(app: TestApp) -> None:
    """Only the named fields are given; a wrong name is refused at once."""
    app.upsert_contact({"email": "ana@shop.example"})

    assert list(export_rows(app.runtime, fields=["email", "points"])) == [
        {"email": "ana@shop.example", "points": 0}
    ]
    with pytest.raises(InputError, match='no "emial" to export; there are: id, email'):
        export_rows(app.runtime, fields=["emial"])
    with pytest.raises(InputError, match='no column "emial" to export'):
        export_csv(app.runtime, io.StringIO(), columns=["emial"])


def test_an_opt_out_of_one_list_is_not_exported_as_one_of_all(app: TestApp) -> None:
    """Only what holds everywhere becomes the word that an import takes."""
    of = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    with app.runtime.database.write() as transaction:
        add_suppression(
            transaction,
            contact_id=of,
            email="ana@shop.example",
            scope="segment",
            code="unsubscribed",
            reason="unsubscribed from List 37",
            source="Acme",
            now=START,
            identity="acme/1",
            segment="37",
        )

    [row] = export_rows(app.runtime)

    assert row["do_not_contact"] == ""
    assert [one["segment"] for one in row["suppressions"]] == ["37"]


def test_csv_is_safe_in_a_spreadsheet(app: TestApp) -> None:
    """Text that would run as a formula is neutralised; numbers stay numbers."""
    app.upsert_contact(
        {
            "email": "ana@shop.example",
            "first_name": "=1+1",
            "phone": "+31 20",
            "points": -10,
            "identities": {"user": "@7"},
        }
    )
    stream = io.StringIO(newline="")

    count = export_csv(
        app.runtime,
        stream,
        columns=["email", "first_name", "phone", "points", "identity:user"],
    )

    assert count == 1
    assert stream.getvalue().splitlines() == [
        "email,first_name,phone,points,identity:user",
        "ana@shop.example,'=1+1,'+31 20,-10,'@7",
    ]
    assert csv_columns(app.runtime)[-6:] == [
        "identity:user",
        "birthday",
        "likes",
        "shoes",
        "tier",
        "vip",
    ]


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"]),
    max_size=12,
)
WORD = (
    st.text("abcÄ=+-@ '\"|;,[\\1", min_size=1, max_size=8).map(str.strip).filter(bool)
)
CONTACT = st.fixed_dictionaries(
    {},
    optional={
        "first_name": TEXT,
        "city": WORD,
        "points": st.integers(-50, 50),
        "tags": st.lists(WORD, max_size=3),
        "segments": st.lists(WORD, max_size=2),
        "tier": TEXT,
        "shoes": st.integers(-5, 50) | st.floats(-5, 5),
        "birthday": st.dates().map(str),
        "vip": st.booleans(),
        "likes": st.lists(WORD, max_size=3),
        "user": WORD,
        "stop": st.sampled_from(["unsubscribed", "bounced", "complaint", "manual"]),
    },
)
LEFT_OUT = ("id", "created_at", "updated_at", "suppressions")


def stored(app: TestApp) -> list[dict[str, Any]]:
    """Return all contacts by what must survive, suppressions by code and scope."""
    return [
        {
            **{name: row[name] for name in NAMES if name not in LEFT_OUT},
            "stopped": [(one["scope"], one["code"]) for one in row["suppressions"]],
        }
        for row in app.contacts()
    ]


def fill(app: TestApp, contacts: list[dict[str, Any]]) -> None:
    """Make contacts, the second without an address when it has another name."""
    for number, one in enumerate(contacts):
        given = dict(one)
        code = given.pop("stop", "")
        user = given.pop("user", "")
        email = "" if number == 1 and user else f"p{number}@shop.example"
        identities = {"user": f"{user}{number}"} if user else {}
        made = app.upsert_contact({**given, "email": email, "identities": identities})
        if code:
            with app.runtime.database.write() as transaction:
                add_suppression(
                    transaction,
                    contact_id=made.contact_id,
                    email=email,
                    scope="address",
                    code=code,
                    reason="said so",
                    source="test",
                    now=START,
                )


@pytest.mark.parametrize("kind", ["csv", "json"])
@settings(max_examples=20, deadline=None)
@given(contacts=st.lists(CONTACT, max_size=5))
def test_what_is_exported_is_imported_as_it_was(
    kind: str, contacts: list[dict[str, Any]]
) -> None:
    """An empty database that takes an export holds the same contacts."""
    one, other = onward.testing.app(CONFIG), onward.testing.app(CONFIG)
    fill(one, contacts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"contacts.{kind}"
        with path.open("w", encoding="utf-8", newline="") as stream:
            if kind == "csv":
                export_csv(one.runtime, stream)
            else:
                write_json(stream, export_rows(one.runtime))

        summary = import_contacts(other.runtime, path) if contacts else None

    if summary is not None:
        assert summary.problems == []
    assert stored(other) == stored(one)
    one.close()
    other.close()


def test_the_json_of_an_export_is_one_document(app: TestApp) -> None:
    """Every row of an export can be written as JSON."""
    app.upsert_contact({"email": "ana@shop.example", "likes": ["a"], "vip": True})
    stream = io.StringIO()

    write_json(stream, export_rows(app.runtime))

    [row] = json.loads(stream.getvalue())
    assert (row["email"], row["custom"]) == (
        "ana@shop.example",
        {"likes": ["a"], "vip": True},
    )
