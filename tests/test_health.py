"""Whether a worker lives and can work, asked over HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from onward.database import Database
from onward.errors import ConfigError
from onward.health import Health, Probes, Pulse
from onward.health.probes import HANGS, database_problem
from onward.health.server import MOST_AT_ONCE
from onward.instrument import Batch, Sweep, joined
from onward.runtime import Runtime
from onward.testing.app import TestApp


class Around:
    """A worker that stands still, and who asks it."""

    def __init__(self, runtime: Runtime) -> None:
        self.alive, self.stopping = True, False
        self.pulse = Pulse()
        self.health = Health(
            runtime, self.pulse, lambda: self.alive, lambda: self.stopping
        )

    def sweep(self) -> None:
        """Look for work once."""
        with self.pulse.watch(Sweep()):
            pass


@pytest.fixture
def around(make_app: Callable[..., TestApp]) -> Around:
    """A worker that has not looked for work yet."""
    return Around(make_app().runtime)


@pytest.fixture
def asked(around: Around) -> Iterator[httpx.Client]:
    """A client of its probes."""
    page = (200, "text/plain", b"onward_up 1\n")
    with (
        Probes(around.health, "127.0.0.1:0", lambda: page) as probes,
        httpx.Client(base_url=probes.url, trust_env=False) as client,
    ):
        yield client


def test_ready_after_the_first_look_for_work(
    around: Around, asked: httpx.Client
) -> None:
    """And not any more from the moment it is told to stop; it lives all the time."""
    first = asked.get("/readyz")
    around.sweep()
    then = asked.get("/readyz")
    around.stopping = True
    last = asked.get("/readyz")

    assert first.status_code == 503
    assert first.json()["reasons"] == ["it has not looked for work yet"]
    assert (then.status_code, then.json()["ready"]) == (200, True)
    assert (last.status_code, last.json()["reasons"]) == (503, ["it stops"])
    assert asked.get("/livez").status_code == 200


def test_not_live_when_a_thread_ended_or_hangs(
    around: Around, asked: httpx.Client
) -> None:
    """A dead thread and a sweep without end count; a sweep that fails does not."""
    around.alive = False
    dead = asked.get("/livez")
    around.alive = True
    around.pulse.beat_at = time.monotonic() - HANGS.total_seconds() - 1
    hangs = asked.get("/livez")
    with pytest.raises(OSError, match="away"), around.pulse.watch(Sweep()):
        raise OSError("away")

    assert (dead.status_code, hangs.status_code) == (503, 503)
    assert dead.json()["reasons"] == ["a thread of the worker ended"]
    assert hangs.json()["reasons"][0].startswith("no look for work for")
    assert asked.get("/livez").status_code == 200
    assert around.pulse.swept is False


def test_a_database_that_is_away_makes_it_unready(database: Database) -> None:
    """Of another step as well; the reason names neither host nor user."""
    runtime: Any = type("Runtime", (), {"database": database})

    fine = database_problem(runtime)
    with database.write() as transaction:
        transaction.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    older = database_problem(runtime)
    with database.write() as transaction:
        transaction.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    place = "postgresql+psycopg://sam:secret@127.0.0.1:1/x"
    runtime.database = away = Database(place)
    unreachable = database_problem(runtime)
    away.close()
    runtime.database = database

    assert fine == ""
    assert older == "the database is at step 0001, this Onward needs step 0003"
    assert unreachable == "the database cannot be reached (OperationalError)"
    assert database_problem(runtime) == ""


def test_a_database_that_hangs_keeps_nobody(
    around: Around, asked: httpx.Client, make_app: Callable[..., TestApp]
) -> None:
    """The probe answers within seconds, and all is well when the database is back."""
    runtime = make_app().runtime
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with runtime.database.write():
            held.set()
            go_on.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    health = Health(runtime, around.pulse, lambda: True)
    around.sweep()
    hangs = health.not_ready()
    go_on.set()
    thread.join()

    assert hangs == ["the database has not answered within 3 s"]
    deadline = time.monotonic() + 30
    while health.not_ready() and time.monotonic() < deadline:
        pass
    assert health.not_ready() == []


def test_it_answers_reading_only(asked: httpx.Client) -> None:
    """GET and HEAD of three pages; nothing is told of ourselves but the version."""
    asks = [
        asked.request(method, path)
        for method, path in (
            ("HEAD", "/livez"),
            ("GET", "/metrics?x=1"),
            ("GET", "/etc/passwd"),
            ("POST", "/livez"),
            ("DELETE", "/metrics"),
        )
    ]

    assert [one.status_code for one in asks] == [200, 200, 404, 405, 405]
    assert asks[0].content == b""
    assert asks[1].text == "onward_up 1\n"
    assert asks[3].headers["allow"] == "GET, HEAD"
    assert {one.headers["server"] for one in asks} == {"onward"}


def test_many_askers_keep_nobody_out_for_long(asked: httpx.Client) -> None:
    """Those that ask nothing fill the places until their time is over, or they go."""
    url = httpx.URL(str(asked.base_url))
    silent = [
        socket.create_connection((url.host, url.port or 0))
        for _ in range(MOST_AT_ONCE + 2)
    ]

    refused = True
    try:
        asked.get("/livez", timeout=10)
        refused = False
    except httpx.HTTPError:
        pass
    for one in silent:
        one.close()

    deadline = time.monotonic() + 30
    answered = 0
    while answered != 200 and time.monotonic() < deadline:
        try:
            answered = asked.get("/livez").status_code
        except httpx.HTTPError:
            continue
    assert refused
    assert answered == 200


def test_a_port_that_is_taken_is_said_in_a_sentence(around: Around) -> None:
    """With what to do; and the port is free again when the probes end."""
    page = (200, "text/plain", b"")
    with Probes(around.health, "127.0.0.1:0", lambda: page) as probes:
        taken = f"127.0.0.1:{probes.port}"

        with pytest.raises(ConfigError, match=rf"listen on {taken}: .*--listen"):
            Probes(around.health, taken, lambda: page)

    with Probes(around.health, taken, lambda: page) as again:
        assert httpx.get(f"{again.url}/livez", trust_env=False).status_code == 200


def test_the_pulse_knows_what_is_on_its_way() -> None:
    """Batches, as long as they last."""
    pulse = Pulse()
    batch = Batch("acme", "acme", "push", [1])

    with joined(pulse, Pulse()).watch(batch):
        within = pulse.batches

    assert within == [batch]
    assert pulse.batches == []
