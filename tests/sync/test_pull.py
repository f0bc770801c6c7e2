"""Contacts come from a service: who they are, what is taken over, what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onward.audiences.keeping import remove_audience
from onward.audiences.listing import list_audiences

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools


def test_first_pull_brings_everybody(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """Each is created once, with all mapped fields, linked; then nothing changes."""
    shelf.add("ana", name="Ana", city="Durham", note="Bakery")
    shelf.add("bo", "cy", "dee")
    app = connect(database_url=database_url)

    first = tools.sync(app)

    assert (first.stopped, first.run and first.run.counts["created"]) == ("done", 4)
    people = tools.people(app)
    assert sorted(people) == ["ana", "bo", "cy", "dee"]
    ana = people["ana"]
    assert (ana["first_name"], ana["city"]) == ("Ana", "Durham")
    before = tools.remote(app)
    assert {row["contact_id"] for row in before.values()} == {
        row["id"] for row in people.values()
    }

    second = tools.sync(app)

    assert second.run is not None
    assert second.run.counts["unchanged"] == 4
    assert second.run.counts["changed"] == 0
    assert tools.remote(app) == before


def test_two_audiences_come_with_the_first_pull(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """All contacts, and those new there this week; removed, they are not made again."""
    shelf.add("ana", made="2026-03-03T00:00:00+00:00")
    shelf.add("bo", made="2026-01-01T00:00:00+00:00")
    app = connect()
    tools.sync(app)

    members = {one["name"]: one["members"] for one in list_audiences(app.runtime)}

    assert members == {
        "Shelf \u2013 All Contacts": 2,
        "Shelf \u2013 New This Week": 1,
    }
    remove_audience(app.runtime, "shelf-new-this-week")
    tools.sync(app)
    assert [one["key"] for one in app.audiences()] == ["shelf-all-contacts"]
