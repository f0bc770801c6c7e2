"""An empty, small or strange answer never deletes or suppresses anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from onward.alerts.listing import list_alerts
from onward.models import Push, table

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools

NAMES = [f"p{number:02}" for number in range(40)]


@pytest.mark.parametrize("left", [0, 3])
def test_shrunken_account_stops_and_asks(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str, left: int
) -> None:
    """Nobody is asked for, suppressed or deleted; accepted, the pull goes on."""
    shelf.add(*NAMES)
    app = connect(database_url=database_url)
    tools.sync(app)
    people = dict(shelf.people)
    shelf.people = {id_: row for id_, row in people.items() if id_ <= left}
    shelf.asked.clear()

    synced = tools.sync(app)

    assert synced.stopped == "asks"
    assert f"{40 - left} of the 40 contacts known before are missing" in synced.why
    assert not [one for one in shelf.asked if one.startswith("GET people/")]
    assert tools.stops(app) == set()
    assert len(tools.people(app)) == 40

    accepted = tools.sync(app, accept=True)

    assert accepted.stopped == "done"
    assert tools.stops(app) == {("connection", "", "deleted")}


def test_service_that_recovers_needs_no_answer(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A pull that asked is over when the next one finds everybody; the alert too."""
    shelf.add(*NAMES)
    app = connect()
    tools.sync(app)
    people, shelf.people = shelf.people, {}
    assert tools.sync(app).stopped == "asks"
    with app.runtime.database.read() as transaction:
        opened = [one["kind"] for one in list_alerts(transaction)]
    shelf.people = people

    synced = tools.sync(app)

    assert opened == ["sync"]
    assert synced.stopped == "done"
    with app.runtime.database.read() as transaction:
        assert [one for one in list_alerts(transaction) if not one["closed_at"]] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "opted_out"}, "opted out, bounced or were deleted"),
        ({"city": "Nowhere"}, "were changed"),
    ],
)
def test_too_many_changes_stop_and_ask(
    connect: Connect,
    shelf: Shelf,
    tools: type[Tools],
    change: dict[str, str],
    words: str,
) -> None:
    """More than the share that is allowed is not stored; the rest goes on later."""
    shelf.add(*NAMES, city="Durham")
    app = connect()
    tools.sync(app)
    for row in shelf.people.values():
        row |= change

    synced = tools.sync(app)

    assert (synced.stopped, words in synced.why) == ("asks", True)
    assert "more than 20% of the 40 contacts" in synced.why
    changed = [one for one in tools.people(app).values() if one["city"] == "Nowhere"]
    assert len(changed) <= 12
    accepted = tools.sync(app, accept=True)
    assert accepted.stopped == "done"


def test_few_changes_need_no_question(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """In a small account everybody may change without a question."""
    shelf.add("ana", "bo", city="Durham")
    app = connect()
    tools.sync(app)
    for row in shelf.people.values():
        row["city"] = "Leeds"

    assert tools.sync(app).stopped == "done"
    assert {one["city"] for one in tools.people(app).values()} == {"Leeds"}


def test_first_pull_asks_nothing(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """New people, opted out or not, are no change of known ones."""
    shelf.add(*NAMES, status="opted_out")
    app = connect()

    assert tools.sync(app).stopped == "done"


def test_pull_pushes_nothing(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """No rule, trigger or push follows from a pull, unless told."""
    shelf.add("ana", "bo")
    rule = '[[rules]]\nkey = "all"\nwhen = "contact.*"\npush_to = ["shelf"]\n'
    app = connect(more=rule)

    tools.sync(app)

    with app.runtime.database.read() as transaction:
        assert transaction.execute(select(table(Push))).all() == []


def test_fired_on_pull_does_not_come_back(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """With `fire_on_pull` rules run, and push nothing where it came from."""
    shelf.add("ana")
    rule = (
        '[[rules]]\nkey = "all"\nwhen = "contact.created"\npush_to = ["shelf"]\n'
        "points = 5\n"
    )
    app = connect("fire_on_pull = true", more=rule)

    tools.sync(app)

    assert tools.people(app)["ana"]["points"] == 5
    assert app.deliveries() == []
