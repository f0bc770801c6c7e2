"""Told to stop, a process ends what it sends, returns the rest, and says so."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from onward.database import Database
from onward.models import Job, Lease, table
from onward.testing import serve

from .conftest import PASSWORD, Place, line_with

pytestmark = pytest.mark.slow

Stop = list[subprocess.Popen[str]]
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
leases = table(Lease)
jobs = table(Job)


class Slow:
    """A service that holds the answers to some requests until it is let go."""

    def __init__(self, place: Place, is_held: Callable[[httpx.Request], bool]) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()
        self._place, self._is_held = place, is_held

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer, sooner or later."""
        if self._is_held(request):
            self.arrived.set()
            self.go_on.wait(60)
        return self._place.sim.handle(request)


def is_write(request: httpx.Request) -> bool:
    """Tell a POST of contacts."""
    return request.method == "POST" and request.url.path.endswith("/contacts")


@contextmanager
def slow(
    place: Place, *, own: str = "", is_held: Callable[[httpx.Request], bool] = is_write
) -> Iterator[Slow]:
    """Put a slow service between the folder's connection and the simulator.

    Args:
        own: lines of `[onward]`.
    """
    service = Slow(place, is_held)
    with serve(service.handle) as server:
        shown = (place.path / "onward.toml").read_text()
        there = shown.replace(place.url, f"{server.url}/icp")
        place.write("onward.toml", f"[onward]\n{own}\n{there}")
        try:
            yield service
        finally:
            service.go_on.set()
            place.write("onward.toml", shown)


def queue(place: Place, *names: str) -> None:
    """Queue pushes for some people."""
    for name in names:
        place.good("fire", "seen", "--email", f"{name}@shop.example")
        place.good("push", f"{name}@shop.example", "--to", "icontact")


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def lease_left(place: Place) -> float:
    """Return for how many seconds the connection is still taken."""
    database = Database(f"sqlite:///{place.path / 'onward.db'}")
    with database.read() as transaction:
        found = select(leases.c.until).where(leases.c.name == "connection:1")
        until = transaction.execute(found).scalar_one()
    database.close()
    return float((until - datetime.now(UTC)).total_seconds())


def test_unready_first_then_it_ends_what_it_sends(place: Place, stop: Stop) -> None:
    """The probes say 503 while the batch ends; its lease is free when it is gone."""
    port = free_port()
    queue(place, "ana")
    with slow(place) as service, httpx.Client(trust_env=False) as client:
        worker = place.start("worker", "--listen", str(port), **PIPES)
        stop.append(worker)
        assert service.arrived.wait(60)
        ready = client.get(f"http://127.0.0.1:{port}/readyz")
        metrics = client.get(f"http://127.0.0.1:{port}/metrics").text

        worker.send_signal(signal.SIGTERM)
        line_with(worker, "stopping")
        unready = client.get(f"http://127.0.0.1:{port}/readyz")
        live = client.get(f"http://127.0.0.1:{port}/livez")
        service.go_on.set()
        worker.communicate(timeout=60)

    assert (ready.status_code, live.status_code) == (200, 200)
    assert 'onward_queue_rows{connection="icontact",state="sending"} 1.0' in metrics
    assert (unready.status_code, unready.json()["reasons"]) == (503, ["it stops"])
    assert worker.returncode == 0
    assert lease_left(place) < 0
    [row] = place.good("deliveries", "--json").json
    assert (row["state"], row.get("tries", 0)) == ("delivered", 0)


def test_after_its_grace_it_goes_and_leaves_the_rest_to_others(
    place: Place, stop: Stop
) -> None:
    """It names the batch, ends with 1; who comes next reads it back, sends no twice."""
    queue(place, "ana")
    with slow(place, own='lease = "6s"') as service:
        worker = place.start("worker", "--grace", "1s", "--log-format", "json", **PIPES)
        stop.append(worker)
        assert service.arrived.wait(60)
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=30)
        service.go_on.set()
        place.good("deliver", "--until-empty")

    said = [json.loads(line) for line in err.splitlines()]
    [named] = [line for line in said if "has not answered" in line["message"]]
    assert worker.returncode == 1
    assert (named["attempt_id"], named["delivery_ids"]) == (1, [1])
    [row] = place.good("deliveries", "--json").json
    assert row["state"] == "delivered"
    assert len(place.sim.calls("POST", "contacts")) == 1
    assert place.sim.folder().on_list("Newsletter") == {"ana@shop.example"}
    assert "shop.example" not in err
    assert PASSWORD not in err


def test_after_its_grace_a_lease_lasts_as_long_as_a_call_may(
    place: Place, stop: Stop
) -> None:
    """Not the ten minutes it was taken for: others go on half a minute later."""
    queue(place, "ana")
    with slow(place, own='lease = "10m"') as service:
        worker = place.start("worker", "--grace", "1s", **PIPES)
        stop.append(worker)
        assert service.arrived.wait(60)
        before = lease_left(place)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)
        after = lease_left(place)

    assert before > 60
    assert 5 < after <= 30


def test_a_second_signal_exits_at_once(place: Place, stop: Stop) -> None:
    """In the middle of a batch, with 130; afterwards it is read back."""
    queue(place, "ana")
    with slow(place, own='lease = "5s"') as service:
        worker = place.start("worker", **PIPES)
        stop.append(worker)
        assert service.arrived.wait(60)
        worker.send_signal(signal.SIGTERM)
        line_with(worker, "stopping")
        worker.send_signal(signal.SIGINT)
        worker.communicate(timeout=5)
        service.go_on.set()
        place.good("deliver", "--until-empty")

    assert worker.returncode == 130
    [row] = place.good("deliveries", "--json").json
    assert row["state"] == "delivered"
    assert place.sim.folder().on_list("Newsletter") == {"ana@shop.example"}


def test_it_does_not_wait_for_a_verification(place: Place, stop: Stop) -> None:
    """A service that does not even say who we are keeps nobody from stopping."""
    with slow(place, is_held=lambda request: True) as service:
        worker = place.start("worker", **PIPES)
        stop.append(worker)
        assert service.arrived.wait(60)

        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=10)

    assert worker.returncode == 0
    assert place.good("connections", "--json").json[0]["status"] == "active"


def test_it_does_not_wait_for_the_limit_of_calls(place: Place, stop: Stop) -> None:
    """What a batch was to ask after its first calls is asked by whoever comes next."""
    text = (place.path / "onward.toml").read_text()
    place.good("connections", "test", "icontact")
    # Three calls at once, the next one in six minutes: a batch needs four.
    place.write("onward.toml", text.replace("60000/minute", "12/hour"))
    queue(place, "ana")
    before = len(place.sim.requests)
    worker = place.start("worker", **PIPES)
    stop.append(worker)
    while len(place.sim.requests) < before + 3:
        assert worker.poll() is None

    started = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=20)

    assert worker.returncode == 0, err
    assert time.monotonic() - started < 10
    assert lease_left(place) < 0
    place.write("onward.toml", text)
    place.good("deliver", "--until-empty")
    [row] = place.good("deliveries", "--json").json
    assert row["state"] == "delivered"


def test_a_worker_that_rests_stops_at_once(place: Place, stop: Stop) -> None:
    """Nothing is held while a connection rests."""
    queue(place, "ana")
    place.good("connections", "test", "icontact")
    place.sim.fail("json_503", times=99, retry_after=600)
    worker = place.start("worker", **PIPES)
    stop.append(worker)
    line_with(worker, "rests until")

    started = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=20)

    assert worker.returncode == 0
    assert time.monotonic() - started < 10
    assert lease_left(place) < 0
    place.sim.clear_faults()
    place.good("connections", "pause", "icontact")
    place.good("connections", "resume", "icontact")
    place.good("deliver", "--until-empty")
    [row] = place.good("deliveries", "--json").json
    assert row["state"] == "delivered"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_deliver_ends_what_it_sends_and_says_what_is_left(
    place: Place, stop: Stop, number: signal.Signals
) -> None:
    """128 + the signal; the batch it was about to send next waits as it was."""
    queue(place, "ana")
    place.good("push", "ana@shop.example", "--to", "icontact", "--segment", "VIP")
    with slow(place) as service:
        process = place.start("deliver", "--until-empty", **PIPES)
        stop.append(process)
        assert service.arrived.wait(60)
        process.send_signal(number)
        service.go_on.set()
        out, err = process.communicate(timeout=30)
        left = lease_left(place)
        states = sorted(r["state"] for r in place.good("deliveries", "--json").json)
        place.good("deliver", "--until-empty")

    assert process.returncode == 128 + number
    assert "delivered delivered: 1" in out
    assert "stopped; what was not sent waits" in err
    assert left < 0
    assert states == ["delivered", "waiting"]
    assert place.sim.folder().on_list("VIP") == {"ana@shop.example"}


def test_bad_options_are_said_in_a_sentence(place: Place) -> None:
    """Each with what it takes, before anything begins."""
    ran = [
        place.run("worker", *options)
        for options in (
            ("--listen", "nowhere"),
            ("--log-format", "xml"),
            ("--log-level", "loud"),
            ("--grace", "soon"),
        )
    ]

    assert [one.status for one in ran] == [1, 1, 1, 1]
    assert "--listen must be an address and a port" in ran[0].err
    assert '--log-format "xml" is not known; there are: text, json' in ran[1].err
    assert '--log-level "loud" is not known' in ran[2].err
    assert "--grace 'soon' is not a length of time" in ran[3].err


def test_a_taken_port_ends_the_worker(place: Place) -> None:
    """With a sentence and 1, before it works."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = place.start("worker", "--listen", str(port), **PIPES)
        out, err = worker.communicate(timeout=60)

    assert (worker.returncode, out) == (1, "")
    assert f"nothing can listen on 127.0.0.1:{port}" in err
    assert "Traceback" not in err


def test_deliver_logs_json_when_the_file_says_so(place: Place) -> None:
    """Warnings as JSON lines, with ids; at debug every step."""
    queue(place, "ana")
    text: Any = (place.path / "onward.toml").read_text()
    place.write("onward.toml", f'[onward]\nlog_format = "json"\n{text}')

    quiet = place.good("deliver")
    queue(place, "bob")
    loud = place.good("deliver", "--log-level", "debug")

    assert quiet.err == ""
    said = [json.loads(line) for line in loud.err.splitlines()]
    about = [line["message"] for line in said if line.get("delivery_id") == 2]
    assert about == ["delivery 2 is claimed", "delivery 2 is delivered"]
    assert "shop.example" not in loud.err


def test_an_apply_that_is_stopped_goes_on_later(place: Place, stop: Stop) -> None:
    """It ends its batch, says how far it came, and frees its lease at once."""
    text = (place.path / "onward.toml").read_text()
    trigger = '[[point_triggers]]\nkey = "hot"\npoints = 5\n'
    many = "\n".join(f"p{n}@shop.example,10" for n in range(3000))
    place.write("people.csv", f"email,points\n{many}\n")
    place.good("contacts", "import", "people.csv")
    place.write("onward.toml", f"{text}\n{trigger}push_to = ['icontact']\n")
    process = place.start("triggers", "apply", "hot", **PIPES)
    stop.append(process)
    while not (queued := _jobs(place)):
        assert process.poll() is None

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (143, "")
    assert "hot was stopped after" in out
    assert queued < 3000
    assert "hot fired for" in place.good("triggers", "apply", "hot").out
    [listed] = place.good("triggers", "--json").json
    assert listed["fired"] == 3000


def _jobs(place: Place) -> int:
    """Return how many contacts the job has done."""
    database = Database(f"sqlite:///{place.path / 'onward.db'}")
    with database.read() as transaction:
        done = transaction.execute(select(jobs.c.done)).scalar()
    database.close()
    return int(done or 0)
