"""A pull that is interrupted, however, goes on where it was, to the same end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.delivery.lease import take
from onward.sync.run import lease_name
from onward.testing.app import Clock

if TYPE_CHECKING:
    from tests.sync.conftest import Connect, Shelf, Step, Tools


def answers(status: int, **headers: str) -> Step:
    """Return a step that answers this status."""

    def step(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={}, headers=headers)

    return step


def goes_well(_: httpx.Request) -> None:
    """Let the request happen."""


@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_page_that_fails_is_asked_for_again(
    connect: Connect, shelf: Shelf, tools: type[Tools], place: int
) -> None:
    """What came before stays; the next try begins there, and none is skipped."""
    shelf.add("ana", "bo", "cy", "dee", "eve", "fay", "gus")
    app = connect()
    shelf.script = [*[goes_well] * place, answers(500)]

    first = tools.sync(app)
    app.clock.tick(timedelta(minutes=1))
    shelf.asked.clear()
    second = tools.sync(app)

    assert (first.stopped, first.code) == ("failed", "http_500")
    assert first.again_at == app.clock() + timedelta(minutes=0)
    assert second.stopped == "done"
    assert len(tools.people(app)) == 7
    asked = [one for one in shelf.asked if one.startswith("GET people?")]
    assert len(asked) == max(4 - place, 0)


def test_dies_while_somebody_missing_is_read(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Whom no page showed is read by whoever goes on, at once, and not left out."""
    shelf.add("ana", "bo", "cy", "dee")
    app = connect()
    tools.sync(app)
    del shelf.people[2]

    def dies(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/people/2":
            shelf.script.append(dies)
            return None
        raise KeyboardInterrupt

    shelf.script = [dies]
    with pytest.raises(KeyboardInterrupt):
        tools.sync(app)
    assert tools.stops(app) == set()

    assert tools.sync(app).stopped == "done"

    assert tools.stops(app) == {("connection", "", "deleted")}


def test_too_fast_lets_the_connection_rest(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """429 in the middle: everything rests, the pull goes on afterwards."""
    shelf.add("ana", "bo", "cy", "dee")
    app = connect()
    shelf.script = [goes_well, answers(429, **{"Retry-After": "30"})]

    first = tools.sync(app)

    assert first.stopped == "rest"
    assert tools.sync(app).stopped == "rest"
    assert tools.plan(app).tries == 0
    app.clock.tick(timedelta(seconds=31))
    assert tools.sync(app).stopped == "done"
    assert len(tools.people(app)) == 4


def test_refused_in_the_middle_pauses(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """Refused credentials pause the connection; repaired, the pull goes on."""
    shelf.add("ana", "bo", "cy", "dee")
    app = connect()
    tools.sync(app)
    shelf.add("eve")

    def refuse(_: httpx.Request) -> httpx.Response:
        shelf.login = 401
        return httpx.Response(401, json={})

    shelf.script = [goes_well, refuse]
    assert tools.sync(app).stopped == "paused"
    assert tools.state(app).paused_code == "credentials"
    assert tools.sync(app).stopped == "paused"
    shelf.login = 200
    app.verify("shelf")
    from onward.connections.state import resume

    resume(app.runtime, tools.state(app).id)

    assert tools.sync(app).stopped == "done"
    assert "eve" in tools.people(app)


def test_one_at_a_time(connect: Connect, shelf: Shelf, tools: type[Tools]) -> None:
    """While another process pulls, nobody else does; when it died, the next goes on."""
    shelf.add("ana")
    app = connect()
    tools.sync(app)
    runtime = app.runtime
    length = timedelta(seconds=60)
    name = lease_name(tools.state(app).id)
    assert take(runtime.database, name, length, runtime.clock) is not None

    assert tools.sync(app).stopped == "busy"

    app.clock.tick(timedelta(seconds=61))
    assert tools.sync(app).stopped == "done"


def test_told_to_stop_it_goes_on_later(
    connect: Connect, shelf: Shelf, tools: type[Tools]
) -> None:
    """What was stored stays; the same run goes on."""
    shelf.add("ana", "bo", "cy", "dee", "eve")
    app = connect()
    asked = iter([False, False, False, True])

    first = tools.sync(app, stopping=lambda: next(asked, True))
    second = tools.sync(app)

    assert first.stopped == "turn"
    assert first.run is not None
    assert second.run is not None
    assert (first.run.id, second.stopped) == (second.run.id, "done")
    assert len(tools.people(app)) == 5


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.sampled_from(["ok", "500", "503", "lost", "html", "stop"]), max_size=12
    ),
    size=st.integers(1, 4),
)
def test_any_faults_lead_to_the_same_end(steps: list[str], size: int) -> None:
    """Whatever fails whenever, everybody is here once, and opt-outs are known."""
    from tests.sync.conftest import TOML, Shelf, Shelves, Tools

    import onward.testing

    shelf = Shelf()
    shelf.size = size
    ids = shelf.add("ana", "bo", "cy", "dee", "eve")
    shelf.on["1"][ids[1]] = "unsubscribed"
    shelf.people[ids[2]]["status"] = "opted_out"
    clock = Clock()
    app = onward.testing.app(
        TOML.format(options="", more=""),
        fake=shelf,
        integrations=[Shelves],
        clock=clock,
    )

    def lost(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("no answer", request=request)

    how: dict[str, Step] = {
        "ok": goes_well,
        "500": answers(500),
        "503": answers(503),
        "lost": lost,
        "html": answers(200),
    }
    stops = iter(steps)
    shelf.script = [how[one] for one in steps if one != "stop"]

    for _ in range(len(steps) + 1):
        stop = next(stops, "ok") == "stop"
        synced = Tools.sync(app, stopping=lambda stop=stop: stop)
        if synced.stopped == "done":
            break
        clock.tick(timedelta(hours=6))
    else:
        synced = Tools.sync(app)

    assert synced.stopped == "done"
    assert sorted(Tools.people(app)) == ["ana", "bo", "cy", "dee", "eve"]
    assert Tools.stops(app) == {
        ("segment", "1", "unsubscribed"),
        ("address", "", "do_not_contact"),
    }
    again = Tools.sync(app)
    assert again.run is not None
    assert again.run.counts["unchanged"] == 5
    app.close()
