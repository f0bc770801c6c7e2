"""Orders of events in which an opt-out could be taken for an old one, and forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from onward import Api, Item, Outcome, RemoteContact, RemoteSegment

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools

    from onward.testing.app import TestApp

ANA = "ana@shop.example"
LEFT = {("segment", "1", "unsubscribed")}


def consents(app: TestApp) -> None:
    """Record that Ana wants it again."""
    app.clock.tick(60)
    app.consent(ANA, how="on the phone", who="sam")


def is_made_again(shelf: Shelf, app: TestApp, tools: type[Tools]) -> dict[str, str]:
    """Let Ana leave, come back by consent, be purged, and leave as somebody new.

    Her new remote contact is shown by its membership alone; returns its hidden row.
    """
    [ana] = shelf.add("ana")
    shelf.on["1"][ana] = "unsubscribed"
    tools.sync(app)
    assert tools.stops(app) == LEFT
    consents(app)
    row = shelf.people.pop(ana)
    del shelf.on["1"][ana]
    tools.sync(app)
    consents(app)
    assert tools.stops(app) == set()
    shelf.on["1"][ana + 1] = "unsubscribed"
    tools.sync(app)
    return row


def test_whoever_is_linked_brings_opt_outs_along(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A consent that answered another remote contact's opt-out answers no other's."""
    app = connect()
    shelf.people[2] = is_made_again(shelf, app, tools)

    tools.sync(app)

    assert tools.remote(app)["2"]["contact_id"] == tools.people(app)["ana"]["id"]
    assert tools.stops(app) == LEFT


def test_whoever_a_push_links_brings_opt_outs_along(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """The same when a push to another list finds the new remote contact."""
    asked: list[Item] = []

    def push(
        self: object, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Find everybody under number 2."""
        asked.extend(batch)
        for item in batch:
            yield item.delivered("2")

    app = connect(traits={"push": push}, database_url=database_url)
    is_made_again(shelf, app, tools)

    app.push(to="shelf", email=ANA, segment="Old")
    app.deliver()

    assert tools.remote(app)["2"]["contact_id"] == tools.people(app)["ana"]["id"]
    assert tools.stops(app) == LEFT
    app.push(to="shelf", email=ANA, segment="News")
    app.deliver()
    assert len(asked) == 1
    consents(app)
    app.push(to="shelf", email=ANA, segment="News")
    app.deliver()
    assert asked[1].consent


def test_deleted_once_more_after_a_consent(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Who came back and is deleted again is not made anew by the old permission."""
    [ana] = shelf.add("ana")
    app = connect()
    tools.sync(app)
    row = shelf.people.pop(ana)
    tools.sync(app)
    consents(app)
    shelf.people[ana] = row
    tools.sync(app)
    assert tools.stops(app) == set()
    del shelf.people[ana]

    tools.sync(app)

    assert tools.stops(app) == {("connection", "", "deleted")}


def test_consent_answers_what_was_left_before_a_deletion(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """An opt-out that the service still lists of a deleted contact is no new one."""
    [ana] = shelf.add("ana")
    shelf.on["1"][ana] = "unsubscribed"
    app = connect()
    tools.sync(app)
    del shelf.people[ana]
    tools.sync(app)
    assert tools.stops(app) == {*LEFT, ("connection", "", "deleted")}

    again = tools.sync(app)

    assert again.run is not None
    assert again.run.counts["stopped"] == 0
    consents(app)
    tools.sync(app)
    assert tools.stops(app) == set()


def test_status_that_a_push_only_read(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """An opt-out seen while somebody else was pushed is news to the next pull."""

    def push(
        self: object, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Read Ana as well."""
        api.learn([RemoteContact(str(ana), ANA, {}, "opted_out")])
        for item in batch:
            yield item.delivered(str(bo))

    ana, bo = shelf.add("ana", "bo")
    app = connect(traits={"push": push})
    for status in ("opted_out", "normal"):
        shelf.people[ana]["status"] = status
        tools.sync(app)
    consents(app)
    shelf.people[ana]["status"] = "opted_out"
    app.push(to="shelf", email="bo@shop.example")
    app.deliver()

    tools.sync(app)

    assert tools.stops(app) == {("address", "", "do_not_contact")}


def test_address_of_the_deleted_is_remembered(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """What a single answer without an address says is noted for the address too."""
    from onward.contacts.suppress import find_suppressions

    [ana] = shelf.add("ana")
    app = connect()
    tools.sync(app)
    del shelf.people[ana]
    tools.sync(app)

    with app.runtime.database.read() as transaction:
        found: dict[int, Any] = find_suppressions(transaction, {0: [ANA]})

    assert [stop.code for stop in found[0]] == ["deleted"]
