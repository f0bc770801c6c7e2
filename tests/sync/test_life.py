"""When a connection is pulled: at once, daily, once when missed, never twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from freezegun import freeze_time

import onward.testing
from onward.connections.verify import verify_connection
from onward.sync.due import pull_due
from onward.testing.app import Clock

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Tools

    from onward.testing.app import TestApp


def pulls(app: TestApp) -> list[str]:
    """Pull what is due; return how each ended."""
    return [synced.stopped for synced in pull_due(app.runtime)]


def test_daily_from_the_moment_of_connecting(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """The first pull is at once, the next a day later, at the same time of day."""
    shelf.add("ana")
    app = connect(database_url=database_url)
    assert pulls(app) == []  # not connected yet
    app.verify("shelf")

    assert pulls(app) == ["done"]
    assert pulls(app) == []
    connected = app.clock()
    assert tools.plan(app).due_at == connected + timedelta(days=1)
    app.clock.tick(timedelta(hours=23, minutes=59))
    assert pulls(app) == []
    app.clock.tick(timedelta(minutes=1))
    assert pulls(app) == ["done"]
    assert pulls(app) == []


def test_missed_runs_are_caught_up_once(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """After ten days without a worker there is one pull, and the schedule goes on."""
    app = connect('pull_at = "03:30"\ntimezone = "Europe/Amsterdam"')
    app.verify("shelf")
    pulls(app)
    app.clock.now = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)

    assert pulls(app) == ["done"]
    assert pulls(app) == []
    assert tools.plan(app).due_at == datetime(2026, 3, 15, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "due"),
    [
        # 02:30 does not exist on 29 March in Amsterdam: 03:00, which is 01:00 UTC
        (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        # and occurs twice on 25 October: the first time, 00:30 UTC
        (
            datetime(2026, 10, 24, 12, tzinfo=UTC),
            datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        ),
    ],
)
def test_daylight_saving(
    shelf: Shelf, tools: type[Tools], start: datetime, due: datetime
) -> None:
    """With the real clock moved: each day has one pull, whatever the clocks do."""
    from tests.sync.conftest import TOML, Shelves

    options = 'pull_at = "02:30"\ntimezone = "Europe/Amsterdam"'
    with freeze_time(start) as frozen:
        app = onward.testing.app(
            TOML.format(options=options, more=""), fake=shelf, integrations=[Shelves]
        )
        app.runtime.clock = lambda: datetime.now(UTC)
        app.verify("shelf")
        pull_due(app.runtime)
        assert tools.plan(app).due_at == due
        done = 0
        for _ in range(48):
            frozen.tick(timedelta(minutes=30))
            done += len(pull_due(app.runtime))
        app.close()
    assert done == 1


def test_other_intervals_and_never(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Every six hours, or only by hand."""
    app = connect('pull = "6h"')
    app.verify("shelf")
    pulls(app)
    assert tools.plan(app).due_at == app.clock() + timedelta(hours=6)
    app.close()
    app = connect("pull = false")
    app.verify("shelf")

    assert pulls(app) == []
    assert tools.sync(app).stopped == "done"
    assert tools.plan(app).due_at is None


def test_changed_schedule_counts_at_once(
    connect: Connect, shelf: Shelf, tools: type[Tools], tmp_path: object
) -> None:
    """Another `pull` in the file moves the next pull, and causes none."""
    url = f"sqlite:///{tmp_path}/onward.db"
    app = connect(database_url=url)
    app.verify("shelf")
    pulls(app)
    now = app.clock()
    app.close()

    clock = Clock(now + timedelta(minutes=1))
    app = connect('pull = "weekly"', database_url=url, clock=clock)
    assert pulls(app) == []

    assert tools.plan(app).due_at == now + timedelta(days=7)


def test_new_credentials_pull_at_once(
    connect: Connect, shelf: Shelf, tools: type[Tools], tmp_path: object
) -> None:
    """The same account with other settings: fields read, and a pull at once."""
    url = f"sqlite:///{tmp_path}/onward.db"
    app = connect(database_url=url)
    app.verify("shelf")
    pulls(app)
    app.close()
    shelf.add("ana")

    app = connect('opt_in = "pending"', database_url=url)
    app.verify("shelf")

    assert tools.plan(app).why == "settings"
    assert pulls(app) == ["done"]
    assert sorted(tools.people(app)) == ["ana"]


def test_another_account_resets_and_pulls_afresh(
    connect: Connect, shelf: Shelf, tools: type[Tools], database_url: str
) -> None:
    """Until it is accepted nothing happens; then the old ids are forgotten."""
    shelf.add("ana", "bo")
    app = connect(database_url=database_url)
    app.verify("shelf")
    pulls(app)
    shelf.account = "shelf/2"
    shelf.people = {70: {**shelf.people[1], "email": "zoe@shop.example"}}
    app.clock.tick(timedelta(days=1))

    assert pulls(app) == ["paused"]
    assert tools.state(app).paused_code == "identity_changed"
    assert pulls(app) == []
    assert sorted(tools.remote(app)) == ["1", "2"]

    state = verify_connection(app.runtime, tools.state(app), accept=True)
    from onward.connections.state import resume

    resume(app.runtime, state.id)

    assert pulls(app) == ["done"]
    assert sorted(tools.remote(app)) == ["70"]
    assert sorted(tools.people(app)) == ["ana", "bo", "zoe"]
    assert tools.stops(app) == set()


def test_failing_pull_is_told_once(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Three tries that fail open an alert; one that works closes it."""
    import httpx

    from onward.alerts.listing import list_alerts

    app = connect()
    app.verify("shelf")
    shelf.script = [lambda _: httpx.Response(500, json={})] * 3

    def opened() -> list[str]:
        with app.runtime.database.read() as transaction:
            found = list_alerts(transaction)
            return [one["kind"] for one in found if one["closed_at"] is None]

    for _ in range(3):
        assert pulls(app) == ["failed"]
        assert pulls(app) == []
        app.clock.tick(timedelta(hours=1))
    assert opened() == ["sync"]
    assert pulls(app) == ["done"]
    assert opened() == []


def test_worker_pulls_by_itself(
    connect: Connect, shelf: Shelf, tools: type[Tools], tmp_path: object
) -> None:
    """`with app:` is enough; a signal says when it ended."""
    from threading import Event

    from onward import signals

    shelf.add("ana")
    app = connect(database_url=f"sqlite:///{tmp_path}/onward.db")
    ended = Event()
    facts: list[object] = []

    def hear(sender: object, event: object) -> None:
        facts.append(event)
        ended.set()

    signals.sync_finished.connect(hear, sender=app)
    app.verify("shelf")
    with app:
        assert ended.wait(20)

    assert [fact.counts["created"] for fact in facts] == [1]  # type: ignore[attr-defined]
