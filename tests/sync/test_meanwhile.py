"""What others do while a pull runs, or waits for an answer, is not undone by it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from onward.connections.verify import verify_connection
from onward.sync.due import pull_due
from onward.sync.plan import HINTED, ask_for_pull
from onward.sync.runs import last_runs

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools

    from onward.testing.app import TestApp

NAMES = [f"p{number:02}" for number in range(100)]


def test_another_account_in_the_middle_of_a_pull(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """Nothing of the old account is stored any more; the new one is pulled whole."""
    shelf.add(*NAMES[:12])
    app = connect(database_url=database_url)
    app.verify("shelf")
    moved: list[bool] = []

    def move(progress: Any) -> None:
        if not moved:
            moved.append(True)
            shelf.account = "shelf/2"
            shelf.people = {70: {**shelf.people[1], "email": "zoe@shop.example"}}
            verify_connection(app.runtime, tools.state(app), accept=True)

    first = tools.sync(app, on_progress=move)

    assert first.stopped == "busy"
    assert tools.remote(app) == {}
    assert tools.plan(app).why == "first"
    assert [one.stopped for one in pull_due(app.runtime)] == ["done"]
    assert sorted(tools.remote(app)) == ["70"]


def test_the_limit_holds_over_days(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A pull that asks does not let everybody through, some each day."""
    shelf.size = 6
    shelf.add(*NAMES)
    app = connect()
    app.verify("shelf")
    pull_due(app.runtime)
    for row in shelf.people.values():
        row["status"] = "opted_out"

    def stopped() -> int:
        rows = tools.remote(app).values()
        return sum(row["status"] == "opted_out" for row in rows)

    counts: list[int] = []
    for _ in range(7):
        app.clock.tick(timedelta(days=1))
        assert [one.stopped for one in pull_due(app.runtime)] == ["asks"]
        counts.append(stopped())

    assert counts == [18] * 7
    assert tools.sync(app, accept=True).stopped == "done"
    assert stopped() == 100


def test_who_is_missing_is_not_read_behind_the_limit(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Those a page lacked are read by that pull alone, while it may go on."""
    shelf.size = 6
    shelf.add(*NAMES)
    app = connect()
    app.verify("shelf")
    pull_due(app.runtime)
    for id_ in range(1, 19):
        shelf.people[id_]["status"] = "opted_out"
    for id_ in range(50, 70):
        del shelf.people[id_]
    app.clock.tick(timedelta(days=1))

    asked = pull_due(app.runtime)
    before = tools.stops(app)
    rows = tools.remote(app)
    for _ in range(5):
        app.clock.tick(timedelta(minutes=10))
        pull_due(app.runtime)

    assert [one.stopped for one in asked] == ["asks"]
    assert tools.stops(app) == before
    assert tools.remote(app) == rows


def test_pull_asked_for_meanwhile_is_not_forgotten(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """A report of the service in the middle of a pull is followed by another pull."""
    shelf.add(*NAMES[:5])
    app = connect(database_url=database_url)
    app.verify("shelf")
    pull_due(app.runtime)
    app.clock.tick(timedelta(days=1, hours=1))
    asked: list[bool] = []

    def ask(progress: Any) -> None:
        if not asked:
            asked.append(True)
            of, now = tools.state(app).id, app.clock()
            app.runtime.database.run(
                lambda transaction: ask_for_pull(transaction, of, now, HINTED)
            )

    tools.sync(app, on_progress=ask)

    assert tools.plan(app).due_at == app.clock()
    assert [one.stopped for one in pull_due(app.runtime)] == ["done"]
    assert tools.plan(app).why == "schedule"


def test_nobody_who_was_erased_is_in_a_report(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Erased here and still there: the next pull leaves them out, of its sample too."""
    shelf.add("ana", "bo", name="Secret")
    app = connect()
    tools.sync(app)
    from onward.contacts.erasing import erase_contact

    erase_contact(app.runtime, "ana@shop.example")

    synced = tools.sync(app)

    assert synced.run is not None
    assert synced.run.counts["erased"] == 1
    assert sorted(tools.people(app)) == ["bo"]
    of = tools.state(app).id
    with app.runtime.database.read() as transaction:
        [run] = last_runs(transaction, of, 1)
    assert [row["local"]["email"] for row in run.sample] == ["bo@shop.example"]
    assert "ana" not in str(run)


def test_a_pull_that_breaks_does_not_stop_the_others(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """A defect in one connection is logged; it waits longer each time."""
    other = '[connections.other]\nintegration = "shelf"\nsegment = "News"\n'
    app = connect(more=other, database_url=database_url)
    app.verify("shelf")
    shelf.account = "shelf/9"
    app.verify("other")
    shelf.account = "shelf/1"
    shelf.add("ana")
    _break(app, tools)

    done = pull_due(app.runtime)

    assert [one.name for one in done] == ["other"]
    assert tools.plan(app).tries == 1
    assert tools.plan(app).due_at == app.clock() + timedelta(minutes=1)


def _break(app: TestApp, tools: type[Tools]) -> None:
    """Leave a row of a pull that cannot be read."""
    from sqlalchemy import insert

    from onward.models import SyncRun, table

    now = app.clock()
    row = {"connection_id": tools.state(app).id, "state": "running", "cursor": []}
    more = {"started_at": now, "updated_at": now, "counts": 5}
    rest: dict[str, Any] = {"stage": "pull", "sample": [], "notes": []}
    with app.runtime.database.write() as transaction:
        transaction.execute(insert(table(SyncRun)), {**row, **more, **rest})


def test_members_are_read_where_a_consent_answered_an_opt_out(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """A list nobody pushes to is looked at: the next opt-out there is a new one."""
    [ana] = shelf.add("ana")
    shelf.on["2"][ana] = "unsubscribed"
    app = connect()
    tools.sync(app)
    app.consent("ana@shop.example", how="on the phone", who="sam")
    seen: list[set[tuple[str, str]]] = []
    shelf.on["2"][ana] = "normal"
    tools.sync(app)
    seen.append(set(tools.remote(app)[str(ana)]["segments"].items()))
    shelf.on["2"][ana] = "unsubscribed"
    tools.sync(app)

    assert seen == [{("2", "normal")}]
    assert tools.stops(app) == {("segment", "2", "unsubscribed")}
