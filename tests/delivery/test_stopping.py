"""A drain that is told to stop begins nothing more, and returns what it holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx

from onward import Limit
from onward.delivery.drain import drain
from onward.delivery.lease import shorten_all, take, this_process
from onward.testing.app import TestApp

Connect = Callable[..., TestApp]


def test_a_batch_that_waits_for_its_first_call_is_returned(
    connect: Connect, tools: Any, service: Any, database_url: str
) -> None:
    """Nothing of it left: it waits as before, unsent and without a try used."""
    few = Limit(4, per=timedelta(minutes=1), path="/people")
    app = connect(traits={"limits": [few]}, database_url=database_url)
    tools.fire(app, *(f"p{number}" for number in range(11)))

    report = drain(
        app.runtime, 1, stopping=lambda: bool(service.pushes) and app.clock.slept > 0
    )

    [left] = app.queued
    assert report.counts["delivered", "delivered"] == 10
    assert (left["state"], left["tries"], left["sent_at"]) == ("waiting", 0, None)
    app.deliver()
    assert {end[0] for end in tools.ended(app).values()} == {"delivered"}
    assert len(service.pushes) == 2


def test_a_batch_made_ahead_does_not_leave_any_more(
    connect: Connect, tools: Any, service: Any
) -> None:
    """Told to stop while one batch is sent, the one that is ready is put back."""
    app = connect(traits={"in_flight": 1})
    tools.fire(app, *(f"p{number}" for number in range(30)))
    told: list[bool] = []

    def step(request: httpx.Request) -> None:
        told.append(True)

    service.script = [step]
    report = drain(app.runtime, 1, stopping=lambda: bool(told))

    assert len(service.pushes) == 1
    assert report.stopped == "turn"
    assert {row["state"] for row in app.queued} == {"waiting"}
    assert len(app.queued) == 20
    app.deliver()
    assert app.queued == []


def test_a_verification_is_broken_off(
    connect: Connect, tools: Any, service: Any
) -> None:
    """Between two of its questions; the connection neither rests nor is paused."""
    app = connect()
    tools.fire(app, "ana")

    report = drain(app.runtime, 1, stopping=lambda: "GET me" in service.asked)

    assert service.asked == ["GET me"]
    assert report.stopped == "turn"
    state = tools.state(app)
    assert (state.paused_code, state.rest_until) == ("", None)
    app.deliver()
    assert tools.ended(app) == {"ana": ("delivered", "delivered")}


def test_deliver_goes_on_with_no_other_connection(
    connect: Connect, tools: Any, service: Any
) -> None:
    """It returns what was done, and does not wait for calls any more."""
    app = connect('segment = "News"\nlimits = ["4/minute"]')
    tools.fire(app, *(f"p{number}" for number in range(30)))

    done = app.deliver(stopping=lambda: len(service.pushes) == 1)

    assert len(service.pushes) == 1
    assert done.counts["delivered", "delivered"] == 10
    app.deliver()
    assert app.queued == []


def test_leases_of_this_process_are_shortened(connect: Connect) -> None:
    """Those that run longer, and only ours; the holder is named."""
    app = connect()
    database, clock = app.runtime.database, app.clock
    long = take(database, "connection:8", timedelta(minutes=10), clock)
    short = take(database, "connection:9", timedelta(seconds=5), clock)
    with database.read() as transaction:
        said = transaction.exec_driver_sql("SELECT DISTINCT holder FROM lease").all()

    changed = shorten_all(database, clock() + timedelta(seconds=30))

    assert long is not None
    assert short is not None
    assert changed == 1
    assert said == [(this_process(),)]
    clock.tick(29)
    assert take(database, "connection:8", timedelta(minutes=1), clock) is None
    clock.tick(2)
    assert take(database, "connection:8", timedelta(minutes=1), clock) is not None
