"""What opens an alert, and what closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, insert, select, update

from onward import (
    AccountBlocked,
    Api,
    Item,
    Outcome,
    RemoteSegment,
)
from onward.alerts.book import Kind, close_alerts, open_alert
from onward.alerts.check import check
from onward.connections.state import MANUAL, pause, resume
from onward.connections.verify import verify_connection
from onward.delivery.drain import drain
from onward.models import Alert, Connection, Push, table
from onward.pruning import prune
from onward.testing import TestApp

Connect = Callable[..., TestApp]

alerts = table(Alert)
connections = table(Connection)
pushes = table(Push)

HOUR = timedelta(hours=1)


def opened(app: TestApp) -> dict[str, str]:
    """Return kind → code of the open alerts."""
    with app.runtime.database.read() as transaction:
        found = transaction.execute(
            select(alerts).where(alerts.c.closed_at.is_(None)).order_by(alerts.c.id)
        )
        return {row.kind: row.code for row in found}


def all_of(app: TestApp, kind: str) -> list[Any]:
    """Return every alert of a kind."""
    with app.runtime.database.read() as transaction:
        found = transaction.execute(
            select(alerts).where(alerts.c.kind == kind).order_by(alerts.c.id)
        )
        return list(found)


@pytest.fixture
def app(connect: Connect, database_url: str, tools: Any) -> TestApp:
    """An Onward that delivered once."""
    made = connect(database_url=database_url)
    tools.fire(made, "first")
    made.deliver()
    assert opened(made) == {}
    return made


# -- pauses


def test_refused_credentials_open_and_a_repair_closes(
    app: TestApp, service: Any, tools: Any
) -> None:
    """In the same moment as the pause, and as its end."""
    service.login = 401
    tools.fire(app, "ana")
    app.deliver()

    [alert] = all_of(app, "paused")
    assert (alert.connection, alert.code, alert.closed_at) == (
        "acme",
        "credentials",
        None,
    )
    assert alert.reason == tools.state(app).paused_why
    service.login = 200
    resume(app.runtime, tools.state(app).id)
    assert opened(app) == {}
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


@pytest.mark.parametrize("status", [402, 507])
def test_a_blocked_account_opens(
    app: TestApp, service: Any, tools: Any, status: int
) -> None:
    """Unpaid or full: the code says which kind of pause it is."""
    service.script = [tools.answers(status)]
    tools.fire(app, "ana")
    app.deliver()

    assert opened(app) == {"paused": "account_blocked"}
    resume(app.runtime, tools.state(app).id)
    app.deliver()
    assert opened(app) == {}


def test_a_person_s_pause_is_no_news(app: TestApp, tools: Any) -> None:
    """Whoever pauses it knows; and one that was told of is over for them."""
    of = tools.state(app).id
    pause(app.runtime, of, "settings", "acme: the map is wrong")
    assert [one.reason for one in all_of(app, "paused")] == ["the map is wrong"]

    pause(app.runtime, of, MANUAL, "holiday")
    check(app.runtime)
    assert opened(app) == {}
    pause(app.runtime, of, "settings", "acme: the map is wrong")
    check(app.runtime)
    assert opened(app) == {}


def test_a_pause_that_nobody_noted_is_found(app: TestApp, tools: Any) -> None:
    """One that a process of the release before made, and one that it ended."""

    def set_paused(code: str) -> None:
        with app.runtime.database.write() as transaction:
            transaction.execute(update(connections).values(paused_code=code))

    set_paused("credentials")
    check(app.runtime)
    assert opened(app) == {"paused": "credentials"}
    check(app.runtime)
    [alert] = all_of(app, "paused")
    assert alert.count == 1

    set_paused("")
    check(app.runtime)
    assert opened(app) == {}


def test_a_removed_connection_is_no_alert(app: TestApp, tools: Any) -> None:
    """Nor is one that was switched off."""
    of = tools.state(app).id
    with app.runtime.database.write() as transaction:
        transaction.execute(update(connections).values(declared=""))
    for _ in range(2):
        pause(app.runtime, of, "settings", "no")
        with app.runtime.database.write() as transaction:
            transaction.execute(update(connections).values(enabled=False))
        check(app.runtime)
        assert opened(app) == {}
        with app.runtime.database.write() as transaction:
            values = {"enabled": True, "paused_code": ""}
            transaction.execute(update(connections).values(values))
    pause(app.runtime, of, "settings", "no")
    with app.runtime.database.write() as transaction:
        transaction.execute(delete(connections))
    check(app.runtime)
    assert opened(app) == {}


def test_a_deleted_list_opens_and_a_new_one_closes(
    app: TestApp, service: Any, tools: Any
) -> None:
    """The subject is the list; once it is there again, it is over."""
    del service.lists["1"]
    tools.fire(app, "ana")
    app.deliver()

    [alert] = all_of(app, "segment_paused")
    assert (alert.subject, alert.code) == ("1", "segment_gone")
    assert alert.reason == "the list 1 was deleted in Acme"
    service.lists["1"] = "News"
    verify_connection(app.runtime, tools.state(app))
    assert opened(app) == {}
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


# -- rests


def test_a_long_rest_opens_and_the_first_success_closes(
    app: TestApp, service: Any, tools: Any
) -> None:
    """A few rests are nothing; a quarter of an hour of them is, at that moment."""
    service.script = [tools.answers(429)] * 100
    tools.fire(app, "ana")
    start, of = app.clock(), tools.state(app).id
    report = drain(app.runtime, of)
    while not opened(app):
        app.clock.now = report.again_at or app.clock()
        report = drain(app.runtime, of)
        assert app.clock() - start < HOUR

    assert timedelta(minutes=15) <= app.clock() - start < timedelta(minutes=30)
    [alert] = all_of(app, "resting")
    assert (alert.code, alert.count) == ("throttled", 1)
    assert alert.reason == "Acme asks to slow down (429): no"
    service.script = []
    app.clock.tick(HOUR)
    drain(app.runtime, of)
    assert opened(app) == {}
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


def test_a_long_rest_is_seen_without_another_batch(
    app: TestApp, service: Any, tools: Any
) -> None:
    """One Retry-After of an hour is as long a rest as many short ones."""
    service.script = [tools.answers(503, retry_after="3600")]
    tools.fire(app, "ana")
    app.deliver()
    app.clock.tick(HOUR / 3)
    check(app.runtime)

    assert opened(app) == {"resting": "http_503"}
    app.clock.tick(HOUR)
    app.deliver()
    assert opened(app) == {}


# -- late


def test_what_nobody_sends_is_late(app: TestApp, tools: Any) -> None:
    """With no worker at all; as soon as one came, it is over."""
    tools.fire(app, "ana")
    app.clock.tick(HOUR - timedelta(minutes=1))
    check(app.runtime)
    assert opened(app) == {}
    app.clock.tick(timedelta(minutes=2))
    check(app.runtime)

    [alert] = all_of(app, "late")
    assert alert.code == "not_sent"
    assert "is a worker running?" in alert.reason
    app.deliver()
    assert opened(app) == {}


def test_what_waits_for_calls_is_late(
    connect: Connect, service: Any, tools: Any
) -> None:
    """Limits too small for what is fired are another reason."""
    options = 'segment = "News"\nlimits = ["20/hour"]'
    app = connect(options, traits={"batch_size": 1})
    tools.fire(app, *(f"p{number}" for number in range(50)))
    app.deliver()
    assert opened(app) == {}
    app.clock.tick(HOUR)
    app.deliver()
    assert opened(app) == {"late": "slow"}
    while app.queued:
        app.clock.tick(HOUR)
        app.deliver()
    assert opened(app) == {}
    assert len(service.people) == 50


def test_a_back_fill_takes_its_time(app: TestApp, service: Any, tools: Any) -> None:
    """It is late only when nothing of it goes any more."""
    with app.runtime.database.read() as transaction:
        [push] = transaction.execute(select(pushes)).mappings()
    row = {**push, "state": "waiting", "priority": 10, "due_at": app.clock()}
    del row["id"]
    app.upsert_contact({"email": "old@shop.example"})
    row["contact_id"] = 2
    app.clock.tick(2 * HOUR)
    tools.fire(app, "now")
    app.deliver()
    with app.runtime.database.write() as transaction:
        transaction.execute(insert(pushes), row)
    check(app.runtime)
    assert opened(app) == {}
    app.clock.tick(2 * HOUR)
    check(app.runtime)
    assert opened(app) == {"late": "not_sent"}
    app.deliver()
    assert opened(app) == {}


# -- failures


def refuse(some: set[str]) -> Callable[..., httpx.Response | None]:
    """Return a step that refuses a batch with one of these in it."""

    def step(request: httpx.Request) -> httpx.Response | None:
        if any(name.encode() in request.content for name in some):
            return httpx.Response(400, json={"error": "not welcome"})
        return None

    return step


def test_many_failures_are_told_by_code(app: TestApp, service: Any, tools: Any) -> None:
    """From a share of a number on; an hour later it is over."""
    people = [f"p{number:02}" for number in range(30)]
    service.script = [refuse({f"{name}@" for name in people[::3]})] * 200
    tools.fire(app, *people[:18])
    app.deliver()
    assert opened(app) == {}  # a third failed, but of nineteen
    tools.fire(app, *people[18:])
    app.deliver()

    [alert] = all_of(app, "failing")
    assert alert.code == "http_400"
    assert alert.reason == "10 of 31 pushes failed within an hour: http_400 10"
    app.clock.tick(HOUR + timedelta(minutes=1))
    check(app.runtime)
    assert opened(app) == {}


def test_few_failures_among_many_are_not_told(
    app: TestApp, service: Any, tools: Any
) -> None:
    """One in ten is life."""
    people = [f"p{number:02}" for number in range(40)]
    service.script = [refuse({"p00@", "p01@", "p02@", "p03@"})] * 200
    tools.fire(app, *people)
    app.deliver()

    assert opened(app) == {}
    assert tools.ended(app)["p00"] == ("failed", "http_400")


# -- plugins


def test_a_plugin_that_fails_is_told_until_it_works(
    connect: Connect, acme: Any, service: Any, tools: Any
) -> None:
    """What it did wrong is said without addresses."""
    broken = True

    class Forgetful(acme):  # type: ignore[misc]
        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Forget everybody."""
            if not broken:
                yield from super().push(api, batch, segment)

    app = connect(kind=Forgetful)
    tools.fire(app, "ana")
    app.deliver()

    [alert] = all_of(app, "plugin_error")
    assert alert.reason == "acme: push() yielded no outcome for <address>"
    broken = False
    app.clock.tick(HOUR)
    app.deliver()
    assert opened(app) == {}
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


def test_a_plugin_that_is_not_loaded_is_told(app: TestApp) -> None:
    """By its name, until no process has said so for a while: others may have it."""
    loaded = app.runtime.plugins.loaded
    one = loaded[0]
    broken = type(one)(
        **{**{f: getattr(one, f) for f in one.__slots__}, "problem": "x"}
    )
    loaded[0] = broken
    check(app.runtime)
    assert [(a.subject, a.reason) for a in all_of(app, "plugin")] == [(one.name, "x")]

    loaded[0] = one
    check(app.runtime)
    assert list(opened(app)) == ["plugin"]
    app.clock.tick(11 * 60)
    check(app.runtime)
    assert opened(app) == {}


def test_a_clock_of_a_machine_that_does_not_come_back(app: TestApp) -> None:
    """It is told until it was not said for ten minutes."""
    with app.runtime.database.write() as transaction:
        open_alert(transaction, app.clock.now, "clock", subject="gone", reason="off")
    app.clock.tick(9 * 60)
    check(app.runtime)
    assert list(opened(app)) == ["clock"]

    app.clock.tick(2 * 60)
    check(app.runtime)

    assert opened(app) == {}


# -- what others find


def test_a_clock_is_somebody_else_s_finding(app: TestApp) -> None:
    """Whoever measures it opens and closes; looking around changes nothing of it."""
    database, now = app.runtime.database, app.clock()
    database.run(
        lambda t: open_alert(t, now, Kind.CLOCK, subject="host-1", reason="7 s behind")
    )
    check(app.runtime)
    assert opened(app) == {"clock": ""}

    database.run(lambda t: close_alerts(t, now, Kind.CLOCK))
    assert opened(app) == {}


def test_old_alerts_are_forgotten(app: TestApp) -> None:
    """After the days of retention, by pruning; the newest one stays."""
    database = app.runtime.database
    database.run(lambda t: open_alert(t, app.clock(), Kind.CLOCK, subject="a"))
    app.deliver()
    database.run(lambda t: close_alerts(t, app.clock(), Kind.CLOCK))
    app.clock.tick(timedelta(days=91))
    database.run(lambda t: open_alert(t, app.clock(), Kind.CLOCK, subject="b"))
    assert len(all_of(app, "clock")) == 2

    prune(app.runtime)

    assert [one.subject for one in all_of(app, "clock")] == ["b"]


def test_an_unpaid_account_that_verifying_meets_pauses(
    connect: Connect, acme: Any, service: Any, tools: Any
) -> None:
    """It does not rest for ever: somebody has to pay."""
    unpaid = True

    class Unpaid(acme):  # type: ignore[misc]
        def verify(self, api: Api) -> Any:
            """Be told to pay."""
            if unpaid:
                raise AccountBlocked("Acme wants to be paid")
            return super().verify(api)

    app = connect(kind=Unpaid)
    tools.fire(app, "ana")
    done = app.deliver()

    assert done.held == {"acme": "Acme wants to be paid"}
    assert opened(app) == {"paused": "account_blocked"}
    unpaid = False
    verify_connection(app.runtime, tools.state(app))
    resume(app.runtime, tools.state(app).id)
    app.deliver()
    assert opened(app) == {}
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


# -- a worker


def test_a_worker_tells_at_once_and_delivers_meanwhile(
    connect: Connect, service: Any, tools: Any, sqlite_url: str
) -> None:
    """A receiver that is slow keeps nothing waiting, what others queue included."""
    asked, may_answer, pushed = (threading.Event() for _ in range(3))

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "hooks.example":
            asked.set()
            assert may_answer.wait(30)
            return httpx.Response(204)
        if request.method == "POST":
            pushed.set()
        answer: httpx.Response = service.handle(request)
        return answer

    given = {
        "more": '[alerts]\nwebhook = "https://hooks.example/x"',
        "database_url": sqlite_url,
        "fake": None,
        "transport": httpx.MockTransport(handle),
    }
    app, other = connect(**given), connect(**given)
    pause(app.runtime, tools.state(app).id, "settings", "no")
    with app:
        assert asked.wait(30)
        resume(other.runtime, tools.state(other).id)
        tools.fire(other, "ana")
        told_meanwhile = pushed.wait(30)
        may_answer.set()

    assert told_meanwhile
    assert tools.ended(other)["ana"] == ("delivered", "delivered")
