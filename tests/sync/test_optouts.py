"""What people decided in the service is obeyed, in its scope, and never undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from onward.why import explain

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools

    from onward.testing.app import TestApp


def pushed(app: TestApp, name: str, segment: str | None = None) -> tuple[str, str, str]:
    """Push somebody by hand; return state, code and reason."""
    [row] = app.push(email=f"{name}@shop.example", to="shelf", segment=segment)
    app.deliver()
    found = next(one for one in app.deliveries() if one["id"] == row)
    return found["state"], found["code"], found["reason"]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("opted_out", "do_not_contact", "do not contact in Shelf, seen 2026-03-04"),
        ("bounced", "bounced", "bounced in Shelf, seen 2026-03-04"),
    ],
)
def test_opted_out_everywhere(
    connect: Connect,
    shelf: Shelf,
    tools: type[Tools],
    status: str,
    code: str,
    words: str,
) -> None:
    """A contact status that forbids mail stops every push, with source and day."""
    shelf.add("ana", status=status)
    app = connect()

    synced = tools.sync(app)

    assert synced.run is not None
    assert synced.run.counts[code] == 1
    assert tools.stops(app) == {("address", "", code)}
    assert pushed(app, "ana") == ("skipped", "suppressed", words)


def test_unsubscribed_from_one_list(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """It stops that list alone; `why` names list, service and day."""
    [ana] = shelf.add("ana")
    shelf.on["1"][ana] = "unsubscribed"
    app = connect(database_url=database_url)

    tools.sync(app)

    assert tools.stops(app) == {("segment", "1", "unsubscribed")}
    words = "unsubscribed from News in Shelf, seen 2026-03-04"
    assert pushed(app, "ana") == ("skipped", "suppressed", words)
    assert words in "\n".join(explain(app.runtime, "ana@shop.example").lines())
    assert pushed(app, "ana", segment="Old")[0] == "delivered"


def test_awaiting_confirmation_is_no_opt_out(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A pending contact is not suppressed; it is known to be pending."""
    [ana] = shelf.add("ana", status="pending")
    app = connect()

    tools.sync(app)

    assert tools.stops(app) == set()
    assert tools.remote(app)[str(ana)]["status"] == "pending"


def test_service_that_says_subscribed_lifts_nothing(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """What was an opt-out stays one; the difference is noted for the drift report."""
    [ana] = shelf.add("ana", status="opted_out")
    app = connect()
    tools.sync(app)
    shelf.people[ana]["status"] = "normal"

    tools.sync(app)

    assert tools.stops(app) == {("address", "", "do_not_contact")}
    assert pushed(app, "ana")[:2] == ("skipped", "suppressed")
    assert tools.remote(app)[str(ana)]["differs"] == 4


@pytest.mark.parametrize("list_", ["1", "2"])
def test_consent_is_not_undone_by_an_opt_out_it_answered(
    connect: Connect, shelf: Shelf, tools: type[Tools], list_: str
) -> None:
    """The same row seen again is no new opt-out; one after a new subscription is."""
    [ana] = shelf.add("ana")
    shelf.on[list_][ana] = "unsubscribed"
    app = connect()
    tools.sync(app)
    app.consent("ana@shop.example", how="on the phone", who="sam")

    tools.sync(app)
    tools.sync(app, full=True)

    assert tools.stops(app) == set()
    shelf.on[list_][ana] = "normal"
    tools.sync(app)
    shelf.on[list_][ana] = "unsubscribed"
    tools.sync(app)
    assert tools.stops(app) == {("segment", list_, "unsubscribed")}


def test_consent_outlives_the_same_status(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A consent after do-not-contact stays until the service says it anew."""
    [ana] = shelf.add("ana", status="opted_out")
    app = connect()
    tools.sync(app)
    app.consent("ana@shop.example", how="on the phone", who="sam")
    shelf.people[ana]["city"] = "Durham"

    tools.sync(app)

    assert tools.stops(app) == set()
    for status in ("normal", "opted_out"):
        shelf.people[ana]["status"] = status
        tools.sync(app)
    assert tools.stops(app) == {("address", "", "do_not_contact")}


def test_opt_out_read_before_anybody_knew_whose_it_is(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """An opt-out of a contact that no page showed counts once it is shown."""
    [ana] = shelf.add("ana")
    shelf.on["1"][ana] = "unsubscribed"
    hidden = shelf.people.pop(ana)
    app = connect()
    tools.sync(app)
    assert tools.stops(app) == set()
    shelf.people[ana] = hidden

    tools.sync(app)

    assert tools.stops(app) == {("segment", "1", "unsubscribed")}


def test_deleted_there_is_not_made_again(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """Somebody we had who is gone is asked for by itself, then left alone."""
    ana, *_ = shelf.add("ana", "bo", "cy", "dee")
    app = connect(database_url=database_url)
    tools.sync(app)
    del shelf.people[ana]

    synced = tools.sync(app)

    assert synced.run is not None
    assert (synced.run.counts["missing"], synced.run.counts["deleted"]) == (1, 1)
    assert f"GET people/{ana}?" in shelf.asked
    assert tools.stops(app) == {("connection", "", "deleted")}
    assert pushed(app, "ana") == (
        "skipped",
        "suppressed",
        "deleted in Shelf, seen 2026-03-04",
    )
    again = tools.sync(app)
    assert again.run is not None
    assert again.run.counts["missing"] == 0


def test_missing_in_the_pages_is_no_deletion(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Whoever a page lost and a single GET shows is not suppressed."""
    shelf.add("ana", "bo", "cy", "dee")
    app = connect()
    tools.sync(app)
    real = shelf.handle

    def without_bo(request: object) -> object:
        row = shelf.people.pop(2)
        try:
            return real(request)  # type: ignore[arg-type]
        finally:
            shelf.people[2] = row

    shelf.script = [without_bo, lambda _: None, lambda _: None]  # type: ignore[list-item]
    synced = tools.sync(app)

    assert synced.run is not None
    assert (synced.run.counts["missing"], synced.run.counts["deleted"]) == (1, 0)
    assert tools.stops(app) == set()
