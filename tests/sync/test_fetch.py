"""Fields that no page shows are read one by one, within the budget, over days."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import httpx

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


def test_one_that_cannot_be_read_keeps_nobody(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """It is said and passed over; the next pull tries it again, the last one too."""
    _, bo, _, dee = shelf.add("ana", "bo", "cy", "dee", city="Ede")
    shelf.rows_show = ("email", "name", "status", "made")
    broken = {bo, dee}

    def maybe(request: httpx.Request) -> httpx.Response | None:
        shelf.script.append(maybe)
        is_broken = request.url.path in {f"/people/{id_}" for id_ in broken}
        return httpx.Response(500) if is_broken else None

    shelf.script.append(maybe)
    app = connect()
    tools.sync(app)
    found = tools.people(app)
    cities = [found[name]["city"] for name in ("ana", "bo", "cy")]
    assert cities == ["Ede", None, "Ede"]
    # Nobody is left to tell whether it is Dee or the service: a few tries do.
    for _ in range(3):
        app.clock.tick(3 * 3600)
        synced = tools.sync(app)
    assert synced.stopped == "done"
    assert synced.run is not None
    assert synced.run.counts["unread"] == 2
    assert [note[1] for note in synced.run.notes] == [str(bo), str(dee)]

    broken.clear()
    tools.sync(app)

    assert {row["city"] for row in tools.people(app).values()} == {"Ede"}


def test_reading_over_days_is_no_change_of_everybody(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """What is read by itself for the first time was there before."""
    shelf.size = 50
    shelf.rows_show = ("email", "name", "status", "made")
    shelf.add(*[f"p{number:03}" for number in range(100)], city="Ede")
    app = connect()

    def enough() -> bool:
        return sum("GET people/" in one for one in shelf.asked) >= 40

    tools.sync(app, stopping=enough)
    app.clock.tick(timedelta(hours=25))

    for _ in range(2):
        assert tools.sync(app).stopped == "done"
    assert {row["city"] for row in tools.people(app).values()} == {"Ede"}
