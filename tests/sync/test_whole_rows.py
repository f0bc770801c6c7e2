"""Rows that show memberships, several rows of one contact, rows with no texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from tests.sync.test_optouts import pushed

from onward import Api, Page, RemoteContact, RemoteSegment
from onward.contacts.erasing import erase_contact
from onward.sync.report import summary

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools

LEFT_NEWS = ("segment", "1", "unsubscribed")
LEFT_OLD = ("segment", "2", "unsubscribed")


def whole(shelf: Shelf) -> dict[str, Any]:
    """Show each person with all memberships, as many services do."""

    def pull(
        self: object, api: Api, cursor: Any, segments: Sequence[RemoteSegment]
    ) -> Iterator[Page]:
        rows = api.get("people", {"after": "0"}).json()["rows"]
        people = [
            RemoteContact(
                str(id_),
                row["email"],
                {"name": row["name"]},
                row["status"],
                {"1": shelf.on["1"].get(id_, "none")},  # type: ignore[dict-item]
            )
            for id_, row in rows
        ]
        yield Page(people, None, lists_everybody=True)

    return {"pull": pull}


def each_membership(shelf: Shelf) -> dict[str, Any]:
    """Show people and a row for each membership, all on one page."""

    def pull(
        self: object, api: Api, cursor: Any, segments: Sequence[RemoteSegment]
    ) -> Iterator[Page]:
        rows = api.get("people", {"after": "0"}).json()["rows"]
        people = [
            RemoteContact(str(id_), row["email"], {"name": row["name"]}, row["status"])
            for id_, row in rows
        ]
        members = [
            RemoteContact(str(id_), segments={of: how})  # type: ignore[dict-item]
            for of, on in shelf.on.items()
            for id_, how in on.items()
        ]
        yield Page([*people, *members], None, lists_everybody=True)

    return {"pull": pull}


def test_who_left_is_seen_in_a_row_that_is_otherwise_the_same(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Only the membership changed; after a consent and a push, it did once more."""
    [ana] = shelf.add("ana")
    shelf.on["1"][ana] = "normal"
    app = connect(traits=whole(shelf))
    for _ in range(2):
        tools.sync(app)
    assert pushed(app, "ana")[0] == "delivered"

    shelf.on["1"][ana] = "unsubscribed"
    tools.sync(app)

    assert tools.stops(app) == {LEFT_NEWS}
    assert pushed(app, "ana")[0] == "skipped"

    app.consent("ana@shop.example", how="phone", who="sam")
    shelf.on["1"][ana] = "normal"
    tools.sync(app)
    assert pushed(app, "ana")[0] == "unchanged"  # she is there
    shelf.on["1"][ana] = "unsubscribed"
    tools.sync(app)
    assert tools.stops(app) == {LEFT_NEWS}


def test_rows_of_one_contact_are_taken_together(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Who left two lists left both; who opted out altogether is seen beside a list."""
    ana, bo = shelf.add("ana", "bo")
    shelf.people[bo]["status"] = "opted_out"
    shelf.on["1"] = {ana: "unsubscribed", bo: "normal"}
    shelf.on["2"] = {ana: "unsubscribed"}
    app = connect(traits=each_membership(shelf))

    tools.sync(app)

    assert set(tools.people(app)) == {"ana", "bo"}
    everywhere = ("address", "", "do_not_contact")
    assert tools.stops(app) == {LEFT_NEWS, LEFT_OLD, everywhere}


def test_null_is_blank(connect: Connect, shelf: Shelf, tools: type[Tools]) -> None:
    """JSON says null of a blank field, and plugins hand it on."""
    shelf.add("ana", city=None)  # type: ignore[arg-type]
    shelf.add("bo", city="Ulm")
    app = connect()

    assert tools.sync(app).stopped == "done"

    found = tools.people(app)
    assert [found[name]["city"] for name in ("ana", "bo")] == [None, "Ulm"]


def test_what_is_no_text_is_named(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """The author is told the field, and the pull goes on when that is mended."""
    [ana] = shelf.add("ana", city=5)  # type: ignore[arg-type]
    app = connect()

    why = tools.sync(app).why

    assert why == "pull() must yield fields as texts: city of 1 is int"
    shelf.people[ana]["city"] = "5"
    app.clock.tick(120)
    assert tools.sync(app).stopped == "done"
    assert tools.people(app)["ana"]["city"] == "5"


@pytest.mark.parametrize("first", ["deleted", "alive"])
def test_made_again_under_a_new_number_is_not_deleted(
    connect: Connect, shelf: Shelf, tools: type[Tools], first: str
) -> None:
    """The old number is gone, the new one is there: at once, or one after the other."""
    [old] = shelf.add("ana")
    app = connect()
    tools.sync(app)
    if first == "deleted":
        del shelf.people[old]
    shelf.people[7] = {
        "email": "ana@shop.example",
        "status": "normal",
        "made": "",
        "city": "Ede",
    }
    tools.sync(app)
    shelf.people.pop(old, None)
    for _ in range(2):
        tools.sync(app)

    assert tools.stops(app) == set()
    rows = tools.remote(app)
    assert [rows[id_]["alias"] for id_ in (str(old), "7")] == [True, False]
    assert tools.people(app)["ana"]["city"] == "Ede"
    assert pushed(app, "ana")[0] == "delivered"


def test_a_clash_is_looked_at_until_it_is_over(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Two who turn out to be one clash no longer, though nothing changed there."""
    [ana] = shelf.add("ana")
    app = connect()
    app.upsert_contact({"email": "bo@shop.example"})
    tools.sync(app)
    shelf.people[ana]["email"] = "bo@shop.example"
    tools.sync(app)
    assert tools.remote(app)["1"]["differs"]

    for name in ("bo", "ana"):
        identities = {"user": "9"}
        email = f"{name}@shop.example"
        app.upsert_contact({"email": email, "identities": identities})
    tools.sync(app)

    assert not tools.remote(app)["1"]["differs"]


def test_new_numbers_of_known_people_are_a_change(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Another account behind the same name: the limit stops it before it is stored."""
    shelf.size = 50
    shelf.add(*[f"p{number}" for number in range(40)], city="Ede")
    app = connect()
    tools.sync(app)
    shelf.people = {
        100 + id_: {**row, "status": "opted_out", "city": "Ulm"}
        for id_, row in shelf.people.items()
    }

    synced = tools.sync(app)

    assert synced.stopped == "asks"
    assert tools.stops(app) == set()
    assert {row["city"] for row in tools.people(app).values()} == {"Ede"}


def test_erased_there_is_unknown_under_any_address(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Nor under the one that the service alone has of somebody."""
    [ana] = shelf.add("ana", name="Ana", city="Ede")
    app = connect()
    known = {"user": "7"}
    app.upsert_contact({"email": "ana@shop.example", "identities": known})
    tools.sync(app)
    app.upsert_contact({"email": "ana.new@shop.example", "identities": known})
    shelf.people[ana]["email"] = "ana.there@shop.example"
    tools.sync(app)
    erase_contact(app.runtime, "ana.new@shop.example", keep_remote=True)

    assert tools.sync(app).stopped == "done"
    assert tools.people(app) == {}

    app.record_action("form.sent", email="ana.there@shop.example")
    tools.sync(app)
    assert set(tools.people(app)) == {"ana.there"}


def test_opt_out_of_somebody_erased_is_known_when_they_come_back(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """As it would be had they never been here; a deletion by us is none."""
    [ana] = shelf.add("ana")
    app = connect()
    tools.sync(app)
    erase_contact(app.runtime, "ana@shop.example", keep_remote=True)
    shelf.people[ana]["status"] = "opted_out"
    for _ in range(2):
        tools.sync(app)
    assert tools.people(app) == {}

    app.record_action("form.sent", email="ana@shop.example")
    assert pushed(app, "ana")[0] == "skipped"

    app.consent("ana@shop.example", how="phone", who="sam")
    shelf.people[ana]["status"] = "normal"
    assert pushed(app, "ana")[0] == "delivered"


def test_who_is_on_no_page_in_no_order_is_said(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A service that sorts otherwise at each call: what it told of and did not show."""

    def pull(
        self: object, api: Api, cursor: Any, segments: Sequence[RemoteSegment]
    ) -> Iterator[Page]:
        rows = api.get("people", {"after": "0"}).json()["rows"]
        people = [RemoteContact(str(id_), row["email"]) for id_, row in rows]
        yield Page(people, None, "people", total=shelf.size + 2)

    shelf.add("ana", "bo", "cy")
    app = connect(traits={"pull": pull})

    synced = tools.sync(app)

    assert synced.run is not None
    said = "2 that no page showed, although they are said to be there"
    assert summary(synced.run).endswith(said)
