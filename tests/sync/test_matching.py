"""Who a row is, which side is right, and what happens to addresses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from onward import Api, Item, Outcome, RemoteSegment

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools


def test_known_by_address_then_by_remote_id(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """Somebody we have is linked, not made again; capitals do not count."""
    [ana] = shelf.add("Ana", name="There")
    app = connect(database_url=database_url)
    app.upsert_contact({"email": "ana@shop.example", "first_name": "Here"})

    tools.sync(app)

    assert sorted(tools.people(app)) == ["ana"]
    assert tools.remote(app)[str(ana)]["contact_id"] == tools.people(app)["ana"]["id"]
    assert tools.people(app)["ana"]["first_name"] == "Here"


def test_address_changed_there_is_changed_here(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """The same person keeps their number; the old address still finds them."""
    [ana] = shelf.add("ana")
    app = connect(database_url=database_url)
    tools.sync(app)
    number = tools.people(app)["ana"]["id"]
    shelf.people[ana]["email"] = "anna@shop.example"

    tools.sync(app)

    assert {name: one["id"] for name, one in tools.people(app).items()} == {
        "anna": number
    }
    fired = app.record_action("seen", email="ana@shop.example")
    assert fired.contact_id == number


def test_address_changed_here_is_pushed_and_not_pulled_back(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Ours is newer: the pull leaves it, the next push brings it there."""
    [ana] = shelf.add("ana")
    app = connect()
    tools.sync(app)
    app.upsert_contact(
        {"email": "ana@shop.example", "identities": {"user": "7"}},
    )
    app.upsert_contact({"email": "anna@shop.example", "identities": {"user": "7"}})

    tools.sync(app, full=True)
    app.push(email="anna@shop.example", to="shelf")
    app.deliver()
    tools.sync(app)

    assert sorted(tools.people(app)) == ["anna"]
    assert shelf.people == {ana: {**shelf.people[ana], "email": "anna@shop.example"}}


def test_clash_is_reported_and_never_taken(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """An address that is another contact's is left there, noted, and flagged."""
    ana, _ = shelf.add("ana", "bo")
    app = connect(database_url=database_url)
    tools.sync(app)
    before = {name: one["id"] for name, one in tools.people(app).items()}
    # The service lets two have one address for a moment.
    shelf.people[ana]["email"] = "bo@shop.example"

    synced = tools.sync(app)

    assert synced.run is not None
    assert {name: one["id"] for name, one in tools.people(app).items()} == before
    assert [(kind, id_) for kind, id_, _ in synced.run.notes] == [("clashes", str(ana))]
    assert tools.remote(app)[str(ana)]["differs"] & 8


def test_two_there_are_one_here(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """The second of two with one address is kept as an alias, its opt-out obeyed."""
    first, second = shelf.add("ana", "bo")
    shelf.people[second] |= {"email": "ANA@shop.example", "status": "opted_out"}
    app = connect()

    tools.sync(app)

    assert sorted(tools.people(app)) == ["ana"]
    rows = tools.remote(app)
    assert [rows[str(id_)]["alias"] for id_ in (first, second)] == [False, True]
    assert tools.stops(app) == {("address", "", "do_not_contact")}


def test_visitor_turns_out_to_be_somebody_there(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A visitor who gives an address the service knows is that contact."""
    shelf.add("ana", name="Ana")
    app = connect()
    app.record_action("seen", identities={"visitor": "v1"})
    tools.sync(app)

    app.record_action(
        "form.sent", email="ana@shop.example", identities={"visitor": "v1"}
    )
    tools.sync(app, full=True)

    assert sorted(tools.people(app)) == ["ana"]
    assert tools.people(app)["ana"]["first_name"] == "Ana"


def test_made_again_there_after_a_deletion(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Somebody deleted and made anew there is linked, and stays stopped here."""
    [ana, *_] = shelf.add("ana", "bo", "cy")
    app = connect()
    tools.sync(app)
    old = shelf.people.pop(ana)
    tools.sync(app)
    shelf.people[9] = old

    tools.sync(app)

    assert len(tools.people(app)) == 3
    rows = tools.remote(app)
    assert [rows[id_]["alias"] for id_ in (str(ana), "9")] == [True, False]
    assert tools.stops(app) == {("connection", "", "deleted")}
    assert rows["9"]["differs"] & 4


@pytest.mark.parametrize(
    ("line", "ours", "theirs", "after"),
    [
        # direction, what we change, what they change, what is here afterwards
        ('"first_name"', "", "There", "Base"),
        ('{ value = "first_name", direction = "pull" }', "", "There", "There"),
        ('{ value = "first_name", direction = "pull" }', "Here", "There", "There"),
        ('{ value = "first_name", direction = "pull" }', "Here", "", "Here"),
        ('{ value = "first_name", direction = "both" }', "", "There", "There"),
        ('{ value = "first_name", direction = "both" }', "Here", "Base", "Here"),
        ('{ value = "first_name", direction = "both" }', "Here", "There", "Here"),
        (
            '{ value = "first_name", direction = "both", winner = "theirs" }',
            "Here",
            "There",
            "There",
        ),
        (
            '{ value = "first_name", direction = "both", winner = "theirs" }',
            "Here",
            "Base",
            "Here",
        ),
        (
            '{ value = "first_name", direction = "both", winner = "theirs" }',
            "",
            "",
            "Base",
        ),
    ],
)
def test_which_side_is_right(
    connect: Connect,
    shelf: Shelf,
    tools: type[Tools],
    tmp_path: object,
    line: str,
    ours: str,
    theirs: str,
    after: str,
) -> None:
    """Direction and winner decide; a blank never erases."""
    path = f"{tmp_path}/map.toml"
    with open(path, "w") as file:  # noqa: PTH123 - a text of the test
        file.write(f'[fields]\nemail = "email"\nname = {line}\n')
    [ana] = shelf.add("ana", name="Base")
    app = connect(f'field_map = "{path}"')
    tools.sync(app)
    assert tools.people(app)["ana"]["first_name"] == "Base"
    if ours:
        app.upsert_contact({"email": "ana@shop.example", "first_name": ours})
    shelf.people[ana]["name"] = theirs

    tools.sync(app)

    assert tools.people(app)["ana"]["first_name"] == after


def test_what_was_pulled_is_not_pushed_back(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A push of somebody who is there as wished sends nothing they changed."""
    [ana] = shelf.add("ana", name="Ana", city="Durham")
    shelf.on["1"][ana] = "normal"
    app = connect()
    app.upsert_contact({"email": "ana@shop.example"})
    app.push(email="ana@shop.example", to="shelf")
    app.deliver()
    shelf.people[ana] |= {"name": "Anna", "city": "Leeds"}
    tools.sync(app)
    shelf.asked.clear()

    app.push(email="ana@shop.example", to="shelf")
    app.deliver()

    assert app.deliveries()[-1]["state"] == "unchanged"
    assert shelf.asked == []


def test_second_contact_there_may_go(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Somebody tidies up a duplicate in the service: the person stays pushable."""
    _, second = shelf.add("ana", "bo")
    shelf.people[second]["email"] = "ANA@shop.example"
    app = connect()
    tools.sync(app)
    del shelf.people[second]

    tools.sync(app)

    assert tools.remote(app)[str(second)]["status"] == "deleted"
    assert tools.stops(app) == set()
    app.push(email="ana@shop.example", to="shelf")
    app.deliver()
    assert app.deliveries()[-1]["state"] == "delivered"


def test_one_that_comes_back_on_the_page_of_another(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Of two addresses of one contact the remote contact it has already stays it."""
    [ana] = shelf.add("ana")
    app = connect()
    for name in ("ana", "moved"):
        known = {"user": "7", "email": f"{name}@shop.example"}
        app.record_action("met", identities=known)
    tools.sync(app)
    gone = shelf.people.pop(ana)
    tools.sync(app)
    shelf.people = {ana: gone, 2: {**gone, "email": "moved@shop.example"}}

    synced = tools.sync(app)

    rows = tools.remote(app)
    assert [rows[id_]["alias"] for id_ in ("1", "2")] == [False, True]
    assert synced.run is not None
    assert synced.run.counts["clashes"] == 1


def test_one_that_was_let_go_is_looked_at_again(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A remote contact that a push took another one for is nobody's for a day."""

    def push(
        self: object, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Find everybody under number 2."""
        for item in batch:
            yield item.delivered("2")

    [ana] = shelf.add("ana")
    app = connect(traits={"push": push})
    tools.sync(app)
    app.push(to="shelf", email="ana@shop.example")
    app.deliver()
    assert tools.remote(app)[str(ana)]["contact_id"] == 0

    tools.sync(app)

    # Number 2 turned out to be nobody, so the one that is there is hers again.
    rows = tools.remote(app)
    assert [rows[id_]["alias"] for id_ in (str(ana), "2")] == [False, True]
    assert tools.stops(app) == set()
