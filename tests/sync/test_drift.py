"""What differs there from what we last wrote: which field, who is gone, who did it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from onward import RemoteChange
from onward.sync.drift import Difference, push_drift, read_drift, read_history

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools

    from onward.testing.app import TestApp


def pushed(connect: Connect, *names: str, **given: Any) -> TestApp:
    """Return an Onward that pushed some people, and pulled once since."""
    app = connect(**given)
    for name in names:
        app.upsert_contact(
            {"email": f"{name}@shop.example", "first_name": name, "company": "Bakery"}
        )
    app.push(emails=[f"{name}@shop.example" for name in names], to="shelf")
    app.deliver()
    return app


def drift(app: TestApp, tools: type[Tools], name: str = "") -> list[Difference]:
    """Return all differences."""
    return list(read_drift(app.runtime, tools.state(app), name))


def test_only_what_differs_from_what_we_wrote(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """A field we wrote that is otherwise by now; not one we never wrote."""
    shelf.rows_show = ("email", "name", "city", "note", "status", "made")
    app = pushed(connect, "ana", "bo", database_url=database_url)
    tools.sync(app)
    assert drift(app, tools) == []
    shelf.people[1] |= {"note": "Butcher", "city": "Leeds"}

    tools.sync(app)

    [one] = drift(app, tools)
    assert (one.email, one.kinds) == ("ana@shop.example", ("fields",))
    assert one.fields == {"note": ("Bakery", "Butcher")}
    assert drift(app, tools, "name") == []


def test_what_ours_took_over_is_no_difference(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A field of both directions that changed there alone is ours from now on."""
    app = pushed(connect, "ana")
    tools.sync(app)
    shelf.people[1]["name"] = "Anna"

    tools.sync(app)

    assert tools.people(app)["ana"]["first_name"] == "Anna"
    assert drift(app, tools) == []


def test_differing_ones_are_pushed_again(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """By field; afterwards ours is there again and nothing differs."""
    shelf.rows_show = ("email", "name", "city", "note", "status", "made")
    app = pushed(connect, "ana", "bo", "cy")
    tools.sync(app)
    shelf.people[1]["note"] = "Butcher"
    shelf.people[2]["note"] = ""
    tools.sync(app)
    runtime, state = app.runtime, tools.state(app)

    assert push_drift(runtime, state, "note", dry_run=True) == 2
    assert push_drift(runtime, state, "name") == 0
    assert push_drift(runtime, state, "note") == 2
    assert push_drift(runtime, state) == 2  # joined, not queued twice
    assert len(app.queued) == 2
    app.deliver()

    assert [row["note"] for row in shelf.people.values()] == ["Bakery"] * 3
    assert drift(app, tools) == []
    tools.sync(app)
    assert drift(app, tools) == []


def test_who_is_gone_is_said_and_not_pushed(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Somebody deleted there is listed as gone; pushing again leaves them out."""
    app = pushed(connect, "ana", "bo")
    tools.sync(app)
    del shelf.people[1]

    tools.sync(app)

    [one] = drift(app, tools)
    assert (one.email, one.kinds) == ("ana@shop.example", ("gone",))
    assert push_drift(app.runtime, tools.state(app)) == 0


def test_subscribed_there_of_whom_we_must_not_push(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A do-not-contact of ours that the service does not know is listed."""
    app = pushed(connect, "ana", "bo")
    app.suppress("ana@shop.example")

    tools.sync(app)

    assert [(one.email, one.kinds) for one in drift(app, tools)] == [
        ("ana@shop.example", ("subscribed",))
    ]


def test_who_changed_it(connect: Connect, shelf: Shelf, tools: type[Tools]) -> None:
    """The newest change of that field counts, where the service remembers."""
    at = datetime(2026, 3, 3, tzinfo=UTC)

    def history(self: object, api: object, key: object) -> list[RemoteChange]:
        return [
            RemoteChange(at, "admin", ("city",)),
            RemoteChange(at, "contact", ("Note", "name")),
        ]

    shelf.rows_show = ("email", "name", "city", "note", "status", "made")
    app = pushed(connect, "ana", traits={"history": history})
    tools.sync(app)
    shelf.people[1]["note"] = "Butcher"
    tools.sync(app)
    [one] = drift(app, tools)

    changes = read_history(app.runtime, tools.state(app), one.remote_id)

    known = replace(one, changes=tuple(changes))
    assert known.who_changed("note") == (at, "contact")
    assert known.who_changed("phone") is None
