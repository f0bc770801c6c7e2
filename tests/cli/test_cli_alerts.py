"""`onward alerts`, and being told: from refused credentials to the recovery."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.cli.conftest import Place

from onward.testing import Server, serve

RULES = '[[rules]]\nkey = "forms"\nwhen = "form.submitted"\npush_to = ["icontact"]\n'


class Receiver:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.status = 200

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Take a message."""
        self.bodies.append(json.loads(request.content))
        return httpx.Response(self.status)


@pytest.fixture
def receiver() -> Receiver:
    """One that takes everything."""
    return Receiver()


@pytest.fixture
def hook(receiver: Receiver) -> Iterator[Server]:
    """The receiver over HTTP."""
    with serve(receiver.handle) as server:
        yield server


@pytest.fixture
def told(
    place: Place, hook: Server, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A place that tells the receiver."""
    monkeypatch.setenv("HOOK", f"{hook.url}/hidden-token")
    monkeypatch.setenv("KEY", "whsec_" + "QUJD" * 8)
    alerts = '[alerts]\nwebhook = "${HOOK}"\nsecret = "${KEY}"\n'
    place.configure(RULES + alerts)
    place.good("init")
    return place


def test_refused_told_repaired_told(told: Place, receiver: Receiver) -> None:
    """Who is refused is held and told of; repaired, all arrive and it is told."""
    people = [f"p{number}@shop.example" for number in range(3)]
    for email in people:
        told.good("fire", "form.submitted", "--email", email)
    told.sim.password = "changed there"
    ran = told.good("deliver")

    assert "icontact is held: The credentials entered" in ran.out
    assert "icontact is paused: The credentials entered" in ran.err
    [body] = receiver.bodies
    assert (body["type"], body["data"]["code"]) == ("alert.opened", "credentials")
    assert body["text"].startswith("icontact is paused: The credentials entered")
    assert told.run("alerts", "check").status == 1
    [listed] = told.good("alerts", "--open", "--json").json
    assert (listed["kind"], listed["connection"]) == ("paused", "icontact")
    assert "1 open: icontact is paused" in told.run("doctor").out

    told.sim.password = "a pass:wörd"
    told.good("connections", "test", "icontact")
    assert "delivered delivered: 3" in told.good("deliver").out
    assert [body["type"] for body in receiver.bodies] == [
        "alert.opened",
        "alert.closed",
    ]
    assert receiver.bodies[1]["text"] == "icontact is not paused any more"
    assert told.good("alerts", "list", "--open", "--json").json == []
    assert told.good("alerts", "check").out == "nothing is wrong\n"
    assert told.sim.folder().on_list("Newsletter") == set(people)
    shown = told.good("alerts").out
    assert "icontact is paused: The credentials entered" in shown
    assert "hidden-token" not in shown + ran.out + ran.err


def test_a_test_says_what_came_back(told: Place, receiver: Receiver) -> None:
    """Taken or not, it is said, and nothing of the address but its host."""
    ran = told.good("alerts", "test")
    assert ran.out.startswith("http://127.0.0.1:")
    assert ran.out.endswith(" took the message, which was signed\n")
    assert receiver.bodies[0]["type"] == "alert.test"

    receiver.status = 403
    ran = told.run("alerts", "test")
    assert ran.status == 1
    assert ran.err.endswith("took no message: it answered 403\n")
    assert "hidden" not in ran.err


def test_a_test_without_a_webhook(place: Place) -> None:
    """It says where one is named, and the doctor that there is none."""
    ran = place.run("alerts", "test")

    assert ran.status == 1
    assert ran.err.startswith("there is no alert webhook, so alerts are only logged;")
    place.good("init")
    assert "OK       alerts: they are logged; there is no webhook" in (
        place.good("doctor").out
    )


def test_the_doctor_knows_the_webhook(
    told: Place, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed or not, encrypted or not, and whether it takes what it is sent."""
    shown = told.good("doctor").out
    assert "alerts: they are logged and sent to http://127.0.0.1:" in shown
    assert "hidden-token" not in shown

    receiver.status = 500
    told.sim.password = "changed there"
    told.good("fire", "form.submitted", "--email", "ana@shop.example")
    told.good("deliver")
    shown = told.run("doctor").out
    assert "has not taken 1 message yet" in shown
    told.sim.password = "a pass:wörd"
    told.good("connections", "test", "icontact")
    with sqlite3.connect(told.path / "onward.db") as database:
        database.execute("DELETE FROM alert_message")
    database.close()
    monkeypatch.setenv("HOOK", "http://hooks.example/x")
    assert "http://hooks.example is not encrypted" in told.good("doctor").out
    monkeypatch.delenv("HOOK")
    assert "HOOK is not set; alerts are only logged" in told.run("doctor").out


def test_a_rest_says_why_everywhere(place: Place) -> None:
    """Whoever meets a connection that rests is told why, the second time too."""
    place.configure(RULES)
    place.good("init")
    place.good("fire", "form.submitted", "--email", "ana@shop.example")
    place.sim.fail("html_503", times=1, resource="contacts")
    why = "iContact asks to slow down (503)"
    for _ in range(2):
        assert why in place.good("deliver").out
        with sqlite3.connect(place.path / "onward.db") as database:
            moment = "UPDATE connection SET rest_until = '2099-01-01 00:00:00.000000'"
            database.execute(moment)
        database.close()

    assert why in place.good("connections", "list").out
    [listed] = place.good("connections", "list", "--json").json
    assert listed["rest_code"] == "throttled"
    assert listed["rest_why"].startswith(why)
    assert why in place.good("doctor").out
    assert (
        f"rests until 2099-01-01 00:00:00 UTC: {why}"
        in place.good("why", "ana@shop.example").out
    )
    with sqlite3.connect(place.path / "onward.db") as database:
        moment = "UPDATE connection SET rest_until = '2026-01-01 00:00:00.000000'"
        database.execute(moment)
    database.close()
    assert "delivered delivered: 1" in place.good("deliver").out
    [listed] = place.good("connections", "list", "--json").json
    assert (listed["rest_code"], listed["rest_why"]) == ("", "")


def test_a_worker_says_nothing_of_saving(place: Place) -> None:
    """Nobody asked for anything to be saved when a delivery finds no service."""
    place.configure(RULES)
    place.good("init")
    place.good("fire", "form.submitted", "--email", "ana@shop.example")
    with sqlite3.connect(place.path / "onward.db") as database:
        moment = "UPDATE connection SET verified_at = '2026-01-01 00:00:00.000000'"
        database.execute(moment)
    database.close()
    place.sim.fail("connect_error", times=1)

    out = place.good("deliver").out

    assert "icontact rests until" in out
    assert "iContact could not be reached (" in out
    assert "nothing was saved" not in out
    place.sim.fail("connect_error", times=1)
    ran = place.run("connections", "test", "icontact")
    assert ran.err.endswith("; nothing was saved.\n")
    with sqlite3.connect(place.path / "onward.db") as database:
        database.execute("UPDATE connection SET rest_until = NULL")
    database.close()
    assert "delivered delivered: 1" in place.good("deliver").out
