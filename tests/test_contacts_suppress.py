"""Who must not be pushed: for the contact and the address, until a consent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from onward.contacts.suppress import (
    OptOut,
    Stop,
    add_suppression,
    add_suppressions,
    find_suppressions,
    record_consent,
)
from onward.database import Database
from onward.models import Consent, Suppression, table
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

suppressions = table(Suppression)
consents = table(Consent)


def stop(database: Database, contact_id: int, email: str, **options: Any) -> None:
    """Remember an opt-out from everything, or what the options say."""
    given: dict[str, Any] = {
        "scope": "address",
        "code": "unsubscribed",
        "reason": "unsubscribed from News",
        "source": "test",
        "now": START,
        **options,
    }
    with database.write() as transaction:
        add_suppression(transaction, contact_id=contact_id, email=email, **given)


def consent(database: Database, contact_id: int, email: str) -> int:
    """Record a consent; return how many it lifted."""
    with database.write() as transaction:
        return record_consent(
            transaction,
            contact_id=contact_id,
            email=email,
            how="form",
            who="Sam",
            now=START + timedelta(days=1),
        )


def codes(database: Database, contact_id: int, *addresses: str) -> list[str]:
    """Return the codes in force for a contact and addresses it is sent to."""
    with database.read() as transaction:
        found = find_suppressions(transaction, {contact_id: addresses})
    return sorted(
        one.code for one in found.get(contact_id, []) if one.lifted_at is None
    )


def test_an_opt_out_holds_for_the_contact_and_for_the_address(
    database: Database,
) -> None:
    """The contact under another address, and another contact with it, are stopped."""
    stop(database, 5, "ana@shop.example")

    assert codes(database, 5) == ["unsubscribed"]
    assert codes(database, 5, "ana@new.example") == ["unsubscribed"]
    assert codes(database, 6, "ana@shop.example") == ["unsubscribed"]
    assert codes(database, 6, "ben@shop.example") == []


def test_an_address_suppressed_before_anybody_had_it_stays_so_when_they_move(
    make_app: MakeApp, database_url: str
) -> None:
    """Somebody who opted out under an address they gave up is still opted out."""
    app = make_app(database_url=database_url)
    app.suppress("ana@old.example", reason="wrote a letter")
    ana = app.upsert_contact(
        {"email": "ana@old.example", "identities": {"user": "7"}}
    ).contact_id

    app.upsert_contact({"email": "ana@new.example", "identities": {"user": "7"}})

    assert codes(app.runtime.database, ana, "ana@new.example") == ["do_not_contact"]


def test_nobody_is_everybody_whose_contact_is_gone(database: Database) -> None:
    """A consent of an unknown address lifts its own opt-outs and no others."""
    stop(database, 0, "ana@shop.example")
    stop(database, 0, "ben@shop.example", code="bounced")

    assert consent(database, 0, "ana@shop.example") == 1

    assert codes(database, 0, "ana@shop.example") == []
    assert codes(database, 0, "ben@shop.example") == ["bounced"]


def test_only_a_consent_lifts_and_a_new_opt_out_counts_again(
    database: Database,
) -> None:
    """Consent lifts all that holds, names itself, and does not outlast a new no."""
    stop(database, 5, "ana@shop.example")
    stop(database, 5, "ana@shop.example", code="complaint")

    assert consent(database, 5, "ana@shop.example") == 2
    assert codes(database, 5, "ana@shop.example") == []
    with database.read() as transaction:
        rows = transaction.execute(select(suppressions)).all()
        [given] = transaction.execute(select(consents)).all()
    assert {row.lifted_by for row in rows} == {given.id}
    assert (given.how, given.who, given.contact_id) == ("form", "Sam", 5)

    stop(database, 5, "ana@shop.example", now=START + timedelta(days=2))
    assert codes(database, 5, "ana@shop.example") == ["unsubscribed"]


def test_what_is_seen_again_is_known_since_its_first_day(database: Database) -> None:
    """A repeat keeps the first day, until a consent made it a new one."""

    def seen() -> Any:
        with database.read() as transaction:
            row = transaction.execute(select(suppressions)).one()
        return row.seen_at, row.reason

    later = START + timedelta(days=3)
    stop(database, 5, "ana@shop.example", reason="first")
    stop(database, 5, "ana@shop.example", reason="second", now=later)
    assert seen() == (START, "second")

    consent(database, 5, "ana@shop.example")
    stop(database, 5, "ana@shop.example", reason="third", now=later)
    assert seen() == (later, "third")


def test_the_same_opt_out_twice_in_one_list_is_one(database: Database) -> None:
    """A list that says the same twice is taken, the later words win."""
    words = ("first", "second")
    with database.write() as transaction:
        add_suppressions(
            transaction,
            [
                OptOut(5, "ana@shop.example", "address", "bounced", word, "test")
                for word in words
            ],
            START,
        )

    with database.read() as transaction:
        assert transaction.execute(select(suppressions.c.reason)).scalars().all() == [
            "second"
        ]


@pytest.mark.parametrize(
    ("scope", "identity", "segment", "everywhere", "blocked"),
    [
        ("address", "", "", False, True),
        ("segment", "acme/1", "37", False, True),
        ("segment", "acme/1", "38", False, False),
        ("segment", "acme/2", "37", False, False),
        ("segment", "acme/1", "38", True, True),
        ("connection", "acme/1", "", False, True),
        ("connection", "acme/2", "", False, False),
    ],
)
def test_each_scope_reaches_as_far_as_it_says(
    scope: str, identity: str, segment: str, *, everywhere: bool, blocked: bool
) -> None:
    """A push to segment 37 of account acme/1 is stopped by what concerns it."""
    one = Stop(1, scope, identity, segment, "unsubscribed", "", START, None)

    assert one.blocks("acme/1", "37", everywhere=everywhere) is blocked


def test_the_scope_decides_what_is_kept(database: Database) -> None:
    """An address scope keeps no account, a connection scope no segment."""
    where = {"identity": "acme/1", "segment": "37"}
    for scope in ("address", "connection", "segment"):
        stop(database, 5, "", scope=scope, **where)

    with database.read() as transaction:
        rows = transaction.execute(select(suppressions)).all()
    assert sorted((row.scope, row.identity, row.segment) for row in rows) == [
        ("address", "", ""),
        ("connection", "acme/1", ""),
        ("segment", "acme/1", "37"),
    ]


def test_no_address_is_kept_in_the_clear(database: Database) -> None:
    """What outlives a contact does not say who it was."""
    stop(database, 0, "ana@shop.example")
    consent(database, 0, "ana@shop.example")

    with database.read() as transaction:
        everything = [
            str(value)
            for rows in (suppressions, consents)
            for row in transaction.execute(select(rows))
            for value in row
        ]
    assert not [text for text in everything if "ana" in text]


@pytest.mark.slow
def test_many_people_are_looked_up_in_parts(sqlite_url: str) -> None:
    """More people than a statement takes parameters are checked at once."""
    database = Database(sqlite_url)
    stop(database, 39_999, "ana@shop.example")
    people = {number: [f"p{number}@shop.example"] for number in range(1, 40_001)}

    with database.read() as transaction:
        found = find_suppressions(transaction, people)

    assert list(found) == [39_999]
    database.close()


def test_suppressing_by_hand_and_consent_by_name(app: TestApp) -> None:
    """What is suppressed by hand holds for the address, known or not."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    app.suppress("Ana@Shop.example", reason="wrote a letter", actor="Sam")
    app.suppress("ben@shop.example")
    ben = app.upsert_contact({"email": "ben@shop.example"}).contact_id
    database = app.runtime.database

    assert codes(database, ana, "ana@shop.example") == ["do_not_contact"]
    assert codes(database, ben, "ben@shop.example") == ["do_not_contact"]
    assert app.consent("ben@shop.example", how="on the phone", who="Sam") == 1
    assert codes(database, ben, "ben@shop.example") == []
    assert codes(database, ana, "ana@shop.example") == ["do_not_contact"]


@pytest.fixture
def app(make_app: MakeApp) -> TestApp:
    """An app in memory."""
    return make_app()
