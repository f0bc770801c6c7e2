"""Fields that no page shows are read one by one, within the budget, over days."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools


def test_only_where_the_map_needs_it(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A pulled field that rows lack costs a call each; others cost none."""
    shelf.add("ana", "bo", name="There", city="Durham", note="Bakery")
    shelf.rows_show = ("email", "name", "status", "made")
    app = connect()
    remarks: list[str] = []

    synced = tools.sync(app, on_remark=remarks.append)

    assert synced.run is not None
    assert synced.run.counts["fetched"] == 2
    assert {one["city"] for one in tools.people(app).values()} == {"Durham"}
    assert remarks == ["shelf: fields that no page shows are read one by one: 2 calls"]
    again = tools.sync(app)
    assert again.run is not None
    assert again.run.counts["changed"] == 0
    shelf.rows_show = ("email", "name", "city", "status", "made")
    assert (tools.sync(app).run or synced.run).counts["fetched"] == 0


def test_days_are_said_and_kept_to(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """With 30 calls a day 100 people take days; each goes on where the last was."""
    shelf.add(*(f"p{number:03}" for number in range(100)), city="Durham")
    shelf.rows_show = ("email", "status", "made")
    shelf.size = 50
    app = connect('limits = ["30/day"]')
    app.verify("shelf")
    remarks: list[str] = []
    from onward.sync.due import pull_due

    first = tools.sync(app, on_remark=remarks.append)
    assert first.stopped == "limit"
    assert "100 calls, about 5 days within the limits" in remarks[0]
    for _ in range(24 * 12):
        app.clock.tick(timedelta(hours=1))
        pull_due(app.runtime)
    people = tools.people(app).values()

    assert len(people) == 100
    assert {one["city"] for one in people} == {"Durham"}
