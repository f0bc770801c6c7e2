"""Audiences saved, changed and removed; and the two that come with a connection."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from onward.audiences.keeping import remove_audience, save_audience
from onward.audiences.listing import list_audiences, open_book
from onward.audiences.members import count_members
from onward.audiences.offered import offer
from onward.connections.remove import remove_connection
from onward.connections.state import named
from onward.errors import OnwardError
from onward.models import Audience as AudienceRow
from onward.models import Connection
from onward.testing.app import START

from .conftest import ACME, SHOP, TOML, People

if TYPE_CHECKING:
    from tests.conftest import MakeApp

IN_FILE = '[[audiences]]\nkey = "filed"\nif = [["audience", "is", "stored"]]\n'


@pytest.fixture
def people(make_app: MakeApp, database_url: str) -> People:
    """An app with an audience in its file that asks for a stored one."""
    first = People(make_app(TOML, database_url=database_url))
    save_audience(first.runtime, "stored", "Stored", [["points", ">", 5]])
    return People(make_app(TOML + IN_FILE, database_url=database_url), again=True)


def problem(people: People, key: str, raw: object, **options: bool) -> str:
    """Return why an audience is not saved."""
    with pytest.raises(OnwardError) as error:
        save_audience(people.runtime, key, "", raw, **options)
    return error.value.message


def test_a_saved_audience_is_there_for_everybody(people: People) -> None:
    """Its key, name, conditions and maker are listed; custom fields are known."""
    save_audience(people.runtime, "gold", "", [["tier", "is", "gold"]])

    found = people.app.audiences()

    assert [(one["key"], one["name"], one["source"]) for one in found] == [
        ("filed", "filed", "onward.toml"),
        ("gold", "gold", "by hand"),
        ("stored", "Stored", "by hand"),
    ]
    assert found[1]["if"] == [["tier", "is", "gold"]]


def test_what_cannot_be_an_audience_is_refused(people: People) -> None:
    """One sentence each, and nothing is saved."""
    said = {
        "key": problem(people, "Gold!", []),
        "field": problem(people, "x", [["teir", "is", "gold"]]),
        "event": problem(people, "x", [["data.form", "is", "gold"]]),
        "connection": problem(people, "x", [["acmee.status", "is", "normal"]]),
        "audience": problem(people, "x", [["audience", "is", "sotred"]]),
        "itself": problem(people, "x", [["audience", "is", "x"]]),
        "filed": problem(people, "filed", [], replace=True),
        "twice": problem(people, "stored", []),
        "circle": problem(
            people, "stored", [["audience", "is", "filed"]], replace=True
        ),
    }

    assert said["key"].startswith('the key "Gold!" may hold a to z')
    assert said["field"].endswith('there is no field "teir"; did you mean "tier"?')
    assert said["event"].startswith('"data.form" is of an event, and an audience has')
    assert said["connection"] == (
        'there is no connection "acmee"; did you mean "acme"?'
    )
    assert said["audience"] == 'there is no audience "sotred"; did you mean "stored"?'
    assert said["itself"].startswith("the audience x, which names x: a circle")
    assert said["filed"] == "filed is written in onward.toml; change it there"
    assert said["twice"] == (
        "there is an audience stored already; --replace changes its conditions"
    )
    assert said["circle"].startswith("the audience stored, which names filed, which")
    assert [one["key"] for one in people.app.audiences()] == ["filed", "stored"]
    save_audience(people.runtime, "stored", "", [["points", ">", 9]], replace=True)
    assert people.app.audiences()[1] == {
        "key": "stored",
        "name": "Stored",
        "source": "by hand",
        "if": [["points", ">", 9]],
    }


def test_what_is_in_use_or_in_the_file_is_not_removed(
    people: People, make_app: MakeApp, database_url: str
) -> None:
    """It says why; a stored one that the file's hides is removed, the file's stays."""
    for key, why in (
        ("stored", r"stored is in use: the audience filed would ask for nothing"),
        ("filed", r"filed is written in onward\.toml, which no command changes"),
        ("nobody", r'there is no audience "nobody"; there are: filed, stored'),
    ):
        with pytest.raises(OnwardError, match=why):
            remove_audience(people.runtime, key)
    row = {"conditions": [], "created_at": START}
    people.write(AudienceRow, key="filed", name="Hidden", **row)

    assert open_book(people.runtime).hidden == {"filed"}
    assert remove_audience(people.runtime, "filed") is True
    assert open_book(people.runtime).hidden == frozenset()
    without = make_app(TOML, database_url=database_url)
    assert remove_audience(without.runtime, "stored") is False
    assert without.audiences() == []


def test_a_listing_counts_and_says_what_is_wrong(people: People) -> None:
    """Members up to a number; of an audience that names nobody's connection, why."""
    for number in range(3):
        people.add(f"p{number}@shop.example", points=10 * number)
    row = {"conditions": [["connections", "has", "gone"]], "created_at": START}
    people.write(AudienceRow, key="wrong", name="Wrong", **row)

    found = {
        one["key"]: (one["members"], one["more"], one["problem"])
        for one in list_audiences(people.runtime, most=1)
    }

    wrong = 'there is no connection "gone"'
    assert found["stored"] == (1, True, "")
    assert found["wrong"] == (None, False, wrong)
    [whole] = list_audiences(people.runtime, keys=frozenset({"stored"}), most=None)
    assert (whole["members"], whole["more"]) == (2, False)


def offered(people: People, name: str) -> None:
    """Offer the audiences of a connection, as its first pull does."""
    with people.runtime.database.write() as transaction:
        state = named(transaction, name)
        offer(transaction, state, START, title="Acme Mail")


def test_a_connection_brings_two_audiences(people: People) -> None:
    """All it has, and who is new there by its own date; a week and two hours."""
    new, late, old = (people.add(f"{n}@shop.example") for n in "abc")
    people.known(new, created_at=START)
    people.known(late, created_at=START - timedelta(days=7, hours=2))
    people.known(old, created_at=START - timedelta(days=7, hours=2, seconds=1))
    people.add("d@shop.example")

    offered(people, ACME)

    book = open_book(people.runtime)
    assert {
        key: (one.name, one.source, count_members(people.runtime, book.question(key)))
        for key, one in book.audiences.items()
        if one.source == ACME
    } == {
        "acme-all-contacts": ("Acme Mail (acme) \u2013 All Contacts", ACME, 3),
        "acme-new-this-week": ("Acme Mail (acme) \u2013 New This Week", ACME, 2),
    }


def test_names_of_audiences_tell_connections_of_one_service_apart(
    make_app: MakeApp, database_url: str
) -> None:
    """The only connection of a service needs no name beside the title."""
    alone = TOML.replace('[connections."shop.eu-1"]\nintegration = "icontact"\n', "")
    app = make_app(alone, database_url=database_url)
    with app.runtime.database.write() as transaction:
        offer(transaction, named(transaction, ACME), START, title="Acme Mail")

    assert [one["name"] for one in app.audiences()] == [
        "Acme Mail \u2013 All Contacts",
        "Acme Mail \u2013 New This Week",
    ]


def test_an_offer_changes_nothing_that_is_there(people: People) -> None:
    """What somebody made of an offered audience stays, and it can be removed."""
    save_audience(
        people.runtime, "shop.eu-1-all-contacts", "Mine", [["points", ">", 1]]
    )
    offered(people, SHOP)
    remove_audience(people.runtime, "shop.eu-1-new-this-week")

    [mine] = [one for one in people.app.audiences() if one["key"].startswith("shop")]
    assert (mine["name"], mine["source"]) == ("Mine", "by hand")


def test_a_connection_that_is_asked_about_is_not_removed(
    make_app: MakeApp, database_url: str
) -> None:
    """A rule would ask about nothing; without it its audiences stay."""
    people = People(make_app(TOML, database_url=database_url))
    old = {"name": "old", "integration": "icontact", "created_at": START}
    people.write(Connection, **old)
    with people.runtime.database.write() as transaction:
        state = named(transaction, "old")
        offer(transaction, state, START, title="Old")
    rule = '[[rules]]\nkey = "r"\nwhen = "x"\npoints = 1\n'
    asking = make_app(
        TOML + rule + 'if = [["old.status", "is", "normal"]]\n',
        database_url=database_url,
    )
    with pytest.raises(OnwardError, match="old is in use: the rule r would ask about"):
        remove_connection(asking.runtime, state)

    remove_connection(people.runtime, state)

    [one, _] = list_audiences(people.runtime)
    assert (one["source"], one["problem"]) == (
        "a removed connection",
        'there is no connection "old"',
    )
