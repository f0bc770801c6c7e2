"""What one process queues, the worker of another hears of; and when not, it looks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import text

import onward
from onward.app import Onward
from onward.engine.embedded import EmbeddedEngine
from onward.engine.wakeups import Wakeups
from onward.testing.app import TestApp
from onward.waking import MOST, wake
from onward.worktime import Worktime

TOML = """
[connections.acme]
integration = "acme"
segment = false
[connections.acme.settings]
token = "key"
[[rules]]
key = "forms"
when = "form.sent"
push_to = ["acme"]
"""
PATIENCE_S = 20


class Service:
    """Takes every contact; tests wait for one."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.came = threading.Condition()

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Take one."""
        with self.came:
            self.got.append(request.content)
            self.came.notify_all()
        return httpx.Response(200, json={"id": "1"})

    def has(self, email: str) -> bool:
        """Wait until somebody was sent."""
        with self.came:
            return self.came.wait_for(
                lambda: any(email.encode() in body for body in self.got), PATIENCE_S
            )


Open = Callable[[], Onward]


@pytest.fixture
def service() -> Service:
    """What the contacts are pushed to."""
    return Service()


@onward.integration("acme", url="https://acme.example/contacts")
def acme(item: onward.Item) -> object:
    """Send what is mapped."""
    return dict(item.fields)


@pytest.fixture
def another(
    service: Service, database_url: str, make_app: Callable[..., TestApp]
) -> Open:
    """Opens one more Onward on the same database, as another process would."""
    transport = httpx.MockTransport(service.handle)

    def open_() -> Onward:
        return make_app(
            TOML,
            database_url=database_url,
            transport=transport,
            integrations=[acme],
        )

    return open_


@pytest.fixture
def worker(another: Open) -> Iterator[Onward]:
    """A worker that hardly ever looks by itself."""
    app = another()
    runtime = app.runtime
    engine = EmbeddedEngine(runtime, sweep=timedelta(hours=1))
    hears = Wakeups(runtime, engine.wake, Worktime(runtime))
    engine.start()
    hears.start()
    yield app
    hears.stop()
    engine.stop()
    assert [t.name for t in threading.enumerate() if t.name == "onward-wakeups"] == []


def test_other_processes_are_heard(
    worker: Onward, another: Open, service: Service
) -> None:
    """What is fired elsewhere is sent at once: nobody waits for the next look."""
    assert worker.runtime.on_work is None
    firing = another()

    for name in ("ana", "ben"):
        firing.record_action("form.sent", email=f"{name}@shop.example")

        assert service.has(f"{name}@shop.example")


def test_pushes_by_hand_are_heard(
    worker: Onward, another: Open, service: Service
) -> None:
    """So is what is pushed by hand, and what a job queues."""
    firing = another()
    firing.upsert_contact({"email": "cleo@shop.example"})

    firing.push(email="cleo@shop.example", to="acme")

    assert service.has("cleo@shop.example")


def test_many_connections_are_one_word(
    worker: Onward, another: Open, service: Service
) -> None:
    """More connections than a message holds: the worker looks at all of them."""
    firing = another()
    firing.upsert_contact({"email": "dan@shop.example"})
    ids = firing.push(email="dan@shop.example", to="acme")
    assert ids

    wake(firing.runtime, range(1, MOST * 10))

    assert service.has("dan@shop.example")


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.postgres
def test_listener_that_was_cut_off_listens_again(
    worker: Onward, another: Open, service: Service
) -> None:
    """The server closes its connection; what was queued meanwhile is found."""
    firing = another()
    firing.record_action("form.sent", email="ana@shop.example")
    assert service.has("ana@shop.example")
    listening = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = " + (
        "current_database()"
    )

    def ask(what: str) -> int:
        with firing.runtime.database.read() as transaction:
            return int(transaction.execute(text(f"{what} {listening}")).scalar_one())

    before = ask("SELECT max(pid)")
    assert ask("SELECT count(pg_terminate_backend(pid))") == 1
    firing.record_action("form.sent", email="ben@shop.example")
    assert service.has("ben@shop.example")

    while ask("SELECT count(*)") == 0:
        pass
    assert ask("SELECT max(pid)") != before
    firing.record_action("form.sent", email="cleo@shop.example")
    assert service.has("cleo@shop.example")


def test_word_that_cannot_be_said_harms_nobody(another: Open) -> None:
    """A database that goes away right after the commit: the caller has its answer."""
    app = another()
    app.runtime.database.close()
    app.runtime.database.url = app.runtime.database.url.replace("test_", "nowhere_")

    wake(app.runtime, [1])
