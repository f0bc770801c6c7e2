"""Rest, pause and halving, sentence by sentence of what was promised of them."""

from __future__ import annotations

import json
import queue
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from onward import Integration
from onward.connections.state import pause, resume
from onward.testing import TestApp

Connect = Callable[..., TestApp]

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def app(connect: Connect, tools: Any) -> TestApp:
    """An Onward that delivered once."""
    made = connect()
    tools.fire(made, "first")
    made.deliver()
    return made


# -- retry


def test_waits_between_tries_can_be_set(
    make_app: Callable[..., TestApp], acme: Any, service: Any, tmp_path: Path
) -> None:
    """Two waits are three tries; each wait is 20 % shorter or longer at most."""
    (tmp_path / "acme.toml").write_text('[fields]\nemail = "email"\n')
    app = make_app(
        f"""
[onward]
retry = ["10s", "1m"]
[connections.acme]
integration = "acme"
segment = "News"
field_map = "{tmp_path / "acme.toml"}"
""",
        fake=service,
        integrations=[acme],
    )
    app.upsert_contact({"email": "ana@shop.example"})
    service.script = [lambda _: httpx.Response(503)] * 10
    app.push(to="acme", email="ana@shop.example")

    waits: list[float] = []
    while app.queued:
        start = app.clock()
        app.deliver()
        if not app.queued:
            break
        [row] = app.queued
        waits.append((row["due_at"] - start) / SECOND)
        app.clock.now = max(row["due_at"], app.clock() + MINUTE)

    assert 8 <= waits[0] <= 12
    assert 48 <= waits[1] <= 72
    assert len(waits) == 2
    [row] = app.deliveries()
    assert (row["state"], row["tries"]) == ("failed", 3)
    assert row["reason"].endswith("given up after 3 tries")
    app.push(to="acme", email="ana@shop.example")
    service.script = []
    app.clock.tick(HOUR)
    app.deliver()
    assert app.deliveries()[-1]["state"] == "delivered"


# -- rest


@pytest.mark.parametrize("status", [429, 503])
def test_each_rest_is_twice_as_long(
    app: TestApp, service: Any, tools: Any, status: int
) -> None:
    """After a throttled batch or a failed one: 2, 4, 8, … 900 s, then one success."""
    service.script = [tools.answers(status)] * 30
    rests: list[float] = []
    for number in range(11):
        tools.fire(app, f"p{number}")
        app.deliver()
        state = tools.state(app)
        assert state.rest_until is not None
        rests.append((state.rest_until - app.clock()) / SECOND)
        app.clock.now = state.rest_until

    assert rests == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    service.script = []
    app.clock.tick(timedelta(days=1))
    app.deliver()
    state = tools.state(app)
    assert (state.rest_step, state.rest_until, state.rest_since) == (0, None, None)
    assert {end for end, _ in tools.ended(app).values()} == {"delivered"}


def test_throttled_rows_use_no_try_and_failed_ones_do(
    app: TestApp, service: Any, tools: Any
) -> None:
    """Too fast is no fault of a contact."""
    tools.fire(app, "ana")
    service.script = [tools.answers(429), tools.answers(503)]
    app.deliver()
    assert [row["tries"] for row in app.queued] == [0]
    app.clock.tick(MINUTE)
    app.deliver()
    assert [row["tries"] for row in app.queued] == [1]
    app.clock.tick(MINUTE)
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


def test_another_process_obeys_a_rest(
    connect: Connect, service: Any, tools: Any, database_url: str
) -> None:
    """It is stored, with its reason: whoever comes does not ask the service either."""
    one = connect(database_url=database_url)
    other = connect(database_url=database_url, clock=one.clock)
    service.script = [tools.answers(429, retry_after="77")]
    tools.fire(one, "ana")
    one.deliver()
    asked = len(service.asked)
    one.clock.tick(76)
    done = other.deliver()

    assert len(service.asked) == asked
    assert done.resting["acme"][1] == "Acme asks to slow down (429): no"
    one.clock.tick(2)
    other.deliver()
    assert tools.ended(one)["ana"] == ("delivered", "delivered")


def test_one_batch_is_the_probe(connect: Connect, service: Any, tools: Any) -> None:
    """After a rest a single batch goes first, and when it fails no other follows."""
    second = threading.Event()
    serve: Callable[[httpx.Request], httpx.Response] = service.handle

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and service.script:
            if second_counts and service.pushes:
                second.set()
            answer = serve(request)
            # Time for others to leave, if they may.
            second.wait(0.3)
            return answer
        return serve(request)

    second_counts = False
    app = connect(
        fake=None,
        transport=httpx.MockTransport(handle),
        traits={"batch_size": 1, "in_flight": 4},
    )
    people = [f"p{number}" for number in range(12)]
    service.script = [tools.answers(429)] * 4
    tools.fire(app, *people)
    app.deliver()
    assert len(service.pushes) > 1
    service.pushes.clear()
    service.script = [tools.answers(429)] * 4
    second_counts = True
    app.clock.tick(5)
    app.deliver()
    assert len(service.pushes) == 1

    service.script = []
    app.clock.tick(60)
    app.deliver()
    assert set(tools.ended(app).values()) == {("delivered", "delivered")}
    assert len(service.pushes) == 1 + len(people)


class Dead:
    """Answers for some hosts; the others cost a time-out of 30 s each."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self.app: TestApp | None = None
        self.asked: Counter[str] = Counter()
        self.dead: set[str] = set()
        self.sent_at: list[timedelta] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer, or let time pass."""
        host = request.url.host
        self.asked[host] += 1
        if host in self.dead:
            assert self.app is not None
            self.app.clock.tick(30)
            raise httpx.ConnectTimeout("no answer", request=request)
        answer: httpx.Response = self.service.handle(request)
        return answer


@pytest.mark.parametrize("stale", [False, True])
def test_dead_connections_cost_one_time_out_a_rest(
    make_app: Callable[..., TestApp],
    acme: Any,
    service: Any,
    tmp_path: Path,
    *,
    stale: bool,
) -> None:
    """Each keeps the others from their work by one time-out, and only at first.

    Also where they have to be verified again.
    """
    (tmp_path / "acme.toml").write_text('[fields]\nemail = "email"\n')
    names = [f"c{number}" for number in range(9)]
    kinds: list[type[Integration]] = []
    for name in names:
        kinds.append(
            type(
                name,
                (acme,),
                {
                    "key": name,
                    "hosts": (f"{name}.example",),
                    "batch_size": 1,
                },
            )
        )
    world = Dead(service)
    text = "".join(
        f'[connections.{name}]\nintegration = "{name}"\nsegment = "News"\n'
        f'field_map = "{tmp_path / "acme.toml"}"\n'
        for name in names
    )
    app = make_app(text, fake=world, integrations=kinds)
    world.app = app
    people = [f"p{number}@shop.example" for number in range(5)]
    for email in people:
        app.upsert_contact({"email": email})
    for name in names:
        service.account = name
        app.push(to=name, email=people[0])
        app.deliver()
    assert {row["state"] for row in app.deliveries()} == {"delivered"}

    world.dead = {f"{name}.example" for name in names[:-1]}
    if stale:
        app.clock.tick(timedelta(hours=25))
    world.asked.clear()
    for email in people[1:]:
        for name in names:
            app.push(to=name, email=email)
    start = app.clock()
    rests = 6
    for _ in range(rests):
        app.deliver()
        app.clock.tick(64)

    assert dict.fromkeys(world.dead, rests) == {
        host: world.asked[host] for host in world.dead
    }
    alive = [row for row in app.deliveries() if row["connection_id"] == 9]
    assert {row["state"] for row in alive} == {"delivered"}
    assert max(row["finished_at"] for row in alive) - start <= 8 * 30 * SECOND

    # From the first rest on who works goes before who probably does not.
    app.push(to=names[-1], email=people[0], force=True)
    app.clock.tick(HOUR)
    start = app.clock()
    app.deliver()
    assert app.deliveries()[-1]["finished_at"] == start

    world.dead = set()
    service.account = ""
    for number, name in enumerate(names, 1):
        service.account = name
        for _ in range(3):
            app.clock.tick(HOUR)
            app.deliver(only=[number])
    assert {row["state"] for row in app.deliveries()} == {"delivered"}


# -- pause


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_pause_after_one_question(
    app: TestApp, service: Any, tools: Any, status: int
) -> None:
    """The refusal is confirmed by one `verify`, and nothing more is sent."""
    service.login = status
    service.asked.clear()
    tools.fire(app, "ana", "ben")
    done = app.deliver()

    assert service.asked == ["POST people", "GET me"]
    assert str(status) in done.held["acme"]
    assert [row["tries"] for row in app.queued] == [0, 0]
    service.asked.clear()
    app.clock.tick(HOUR)
    app.deliver()
    assert service.asked == []
    service.login = 200
    resume(app.runtime, tools.state(app).id)
    app.deliver()
    assert set(tools.ended(app).values()) == {("delivered", "delivered")}


def test_a_refusal_that_verifying_does_not_confirm_rests(
    app: TestApp, service: Any, tools: Any
) -> None:
    """A service that knows us means something else; the fifth time somebody looks."""
    service.script = [tools.answers(403)] * 5
    tools.fire(app, "ana")
    for _ in range(4):
        done = app.deliver()
        assert "acme" in done.resting
        app.clock.tick(MINUTE)
    done = app.deliver()

    assert "the credentials themselves are accepted" in done.held["acme"]
    assert [row["tries"] for row in app.queued] == [0]
    resume(app.runtime, tools.state(app).id)
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


@pytest.mark.parametrize("status", [402, 507])
def test_an_unpaid_or_full_account_pauses(
    app: TestApp, service: Any, tools: Any, status: int
) -> None:
    """At once, with the service's words; no try is used, nobody is asked again."""
    service.script = [tools.answers(status)]
    tools.fire(app, "ana")
    done = app.deliver()

    assert tools.state(app).paused_code == "account_blocked"
    assert str(status) in done.held["acme"]
    assert [row["tries"] for row in app.queued] == [0]
    resume(app.runtime, tools.state(app).id)
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


def test_a_changed_file_is_a_repair(
    connect: Connect, service: Any, tools: Any, database_url: str
) -> None:
    """Whoever starts with other settings lets the held rows go."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana")
    pause(app.runtime, tools.state(app).id, "settings", "it does not fit")
    app.deliver()
    assert [row["state"] for row in app.queued] == ["waiting"]

    again = connect('segment = "Old"', database_url=database_url, clock=app.clock)
    again.deliver()

    assert tools.state(again).paused_code == ""
    assert tools.ended(again)["ana"] == ("delivered", "delivered")


@pytest.mark.parametrize("status", [401, 402])
def test_what_was_repaired_elsewhere_goes_on_within_a_day(
    app: TestApp, service: Any, tools: Any, status: int
) -> None:
    """Once a day it is asked whether it works again, and not more often."""
    service.login = status
    tools.fire(app, "ana")
    app.deliver()
    assert tools.state(app).paused_code in ("credentials", "account_blocked")
    service.asked.clear()
    for _ in range(47):
        app.clock.tick(HOUR)
        app.deliver()
    assert service.asked == ["GET me"]

    service.login = 200
    app.clock.tick(2 * HOUR)
    app.deliver()
    assert tools.state(app).paused_code == ""
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


def test_what_a_person_paused_is_not_tried(
    app: TestApp, service: Any, tools: Any
) -> None:
    """Nor what a person must confirm."""
    tools.fire(app, "ana")
    service.asked.clear()
    for code in ("manual", "identity_changed"):
        pause(app.runtime, tools.state(app).id, code, "wait")
        app.clock.tick(timedelta(days=3))
        app.deliver()
        assert tools.state(app).paused_code == code
        resume(app.runtime, tools.state(app).id)
    assert service.asked == []
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


def test_an_unchanged_file_is_no_repair(
    connect: Connect, service: Any, tools: Any, database_url: str
) -> None:
    """A restart alone changes nothing of why it is paused."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana")
    pause(app.runtime, tools.state(app).id, "settings", "it does not fit")
    again = connect(database_url=database_url, clock=app.clock)
    again.deliver()

    assert tools.state(again).paused_code == "settings"
    resume(again.runtime, tools.state(again).id, only="settings")
    again.deliver()
    assert tools.ended(again)["ana"] == ("delivered", "delivered")


# -- halving


def sizes(service: Any) -> list[int]:
    """Return how many contacts each request had."""
    return [len(push) for push in service.pushes]


def refusing(status: int) -> Callable[[httpx.Request], httpx.Response | None]:
    """Return a step that refuses every batch with ben in it."""

    def step(request: httpx.Request) -> httpx.Response | None:
        people = json.loads(request.content)["people"]
        if any(row["email"].startswith("ben@") for row in people):
            return httpx.Response(status, json={"error": "no"})
        return None

    return step


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_batch_is_halved_without_tries(
    app: TestApp, service: Any, tools: Any, status: int
) -> None:
    """Until the bad contact is alone: it fails, and nobody else pays for it."""
    service.pushes.clear()
    service.script = [refusing(status)] * 20
    tools.fire(app, "ana", "ben", "chi", "dewi")
    app.deliver()

    assert sizes(service) == [4, 2, 1, 1, 2]
    ended = tools.ended(app)
    assert ended.pop("ben") == ("failed", f"http_{status}")
    assert set(ended.values()) == {("delivered", "delivered")}
    assert [row["tries"] for row in app.deliveries()] == [0] * 5
    assert tools.state(app).rest_until is None
    service.script = []
    tools.fire(app, "ben")
    app.deliver()
    assert tools.ended(app)["ben"] == ("delivered", "delivered")


def test_the_same_500_twice_in_a_drain_is_halved(
    app: TestApp, service: Any, tools: Any
) -> None:
    """The first is tried again whole; only who stays alone with it uses a try."""
    service.pushes.clear()
    service.script = [refusing(500)] * 20
    tools.fire(app, "ana", "ben", "chi", "dewi")
    app.deliver()

    assert sizes(service)[:3] == [4, 4, 2]
    by_name = {row["email"].partition("@")[0]: row for row in app.deliveries()}
    assert by_name["ben"]["tries"] == 1
    assert [by_name[name]["tries"] for name in ("ana", "chi", "dewi")] == [0, 0, 0]
    service.script = []
    app.clock.tick(HOUR)
    app.deliver()
    assert set(tools.ended(app).values()) == {("delivered", "delivered")}


def lost(request: httpx.Request) -> httpx.Response:
    """Close the connection without an answer."""
    raise httpx.RemoteProtocolError("closed", request=request)


@pytest.mark.parametrize("status", [401, 402, 403, 429, 501, 503, 507, "late", "lost"])
def test_nothing_else_is_halved(
    app: TestApp, service: Any, tools: Any, status: int | str
) -> None:
    """The whole batch waits: no smaller one is ever tried for it."""
    step = {"late": tools.is_lost, "lost": lost}.get(str(status))
    service.script = [step or tools.answers(int(status))]
    service.pushes.clear()
    tools.fire(app, "ana", "ben", "chi", "dewi")
    app.deliver()

    assert sizes(service) == [4]
    assert {row["state"] for row in app.queued} == {"waiting"}
    resume(app.runtime, tools.state(app).id)
    app.clock.tick(HOUR)
    app.deliver()
    assert set(tools.ended(app).values()) == {("delivered", "delivered")}


def test_a_worker_keeps_who_works_from_waiting_for_two_time_outs(
    make_app: Callable[..., TestApp], acme: Any, service: Any, tmp_path: Path
) -> None:
    """Eight dead connections and four threads: the ninth goes before the second four.

    Each time-out lasts until the test lets it end, so it is known who waits for whom.
    """
    (tmp_path / "acme.toml").write_text('[fields]\nemail = "email"\n')
    names = [f"c{number}" for number in range(9)]
    kinds = [
        type(name, (acme,), {"key": name, "hosts": (f"{name}.example",)})
        for name in names
    ]
    text = "".join(
        f'[connections.{name}]\nintegration = "{name}"\nsegment = "News"\n'
        f'field_map = "{tmp_path / "acme.toml"}"\n'
        for name in names
    )
    order: queue.SimpleQueue[str] = queue.SimpleQueue()
    time_outs = threading.Semaphore(0)
    alive = threading.Event()
    alive.set()

    def handle(request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if host != "c8.example" and not alive.is_set():
            order.put(host)
            assert time_outs.acquire(timeout=60)
            raise httpx.ConnectTimeout("no answer", request=request)
        if host == "c8.example" and request.method == "POST":
            order.put(host)
        service.account = host
        answer: httpx.Response = service.handle(request)
        return answer

    app = make_app(
        text,
        transport=httpx.MockTransport(handle),
        integrations=kinds,
        database_url=f"sqlite:///{tmp_path / 'onward.db'}",
    )
    for email in ("ana@shop.example", "ben@shop.example"):
        app.upsert_contact({"email": email})
    for number, name in enumerate(names, 1):
        app.push(to=name, email="ana@shop.example")
        app.deliver(only=[number])
    while not order.empty():
        order.get()
    alive.clear()
    for name in names[:-1]:
        app.push(to=name, email="ben@shop.example")
    with app:
        # All eight fail once, so that it is known of them; then each is the probe.
        time_outs.release(8)
        assert {order.get(timeout=60) for _ in range(8)} == {
            f"{name}.example" for name in names[:-1]
        }
        probes: list[str] = []
        while len(probes) < 4:
            # Perhaps before their rests were stored.
            app.clock.tick(MINUTE)
            app.wake()
            with suppress(queue.Empty):
                probes.append(order.get(timeout=1))
        app.push(to="c8", email="ben@shop.example")
        time_outs.release(1)
        first = order.get(timeout=60)
        time_outs.release(100)

    assert first == "c8.example"
