"""Contacts come from a service: who they are, what is taken over, what is not."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from onward import Api, Page, RemoteContact, RemoteSegment
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


@pytest.mark.slow
@pytest.mark.nightly
def test_memory_is_flat(connect: Connect, tools: type[Tools], sqlite_url: str) -> None:
    """A pull of 20,000, new or known, needs no more than one of 2,000."""

    def pull(
        self: object, api: Api, cursor: Any, segments: Sequence[RemoteSegment]
    ) -> Iterator[Page]:
        for start in range(0, total, 500):
            people = [
                RemoteContact(
                    str(number),
                    f"p{number}@shop.example",
                    {"name": f"P{number}", "city": "Durham", "note": "Bakery " * 10},
                    "normal",
                )
                for number in range(start, start + 500)
            ]
            after = start + 500
            yield Page(people, after, "people", total, lists_everybody=True)

    app = connect("pull_limit = 1.0", traits={"pull": pull}, database_url=sqlite_url)
    total = 500
    tools.sync(app)
    peaks: list[int] = []

    for total in (2_000, 20_000, 20_000):  # noqa: B007 - `pull` reads it
        tracemalloc.start()
        synced = tools.sync(app, patient=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert synced.stopped == "done"

    assert len(tools.people(app)) == 20_000
    assert max(peaks) < peaks[0] * 1.5 + 500_000
