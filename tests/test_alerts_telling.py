"""What is told of alerts: once when it begins, once when it ends, flapping gathered."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from onward.alerts.book import close_alerts, open_alert
from onward.alerts.outbox import GIVE_UP, MOST, PAUSES
from onward.alerts.telling import tell
from onward.database import Database
from onward.models import Alert, AlertMessage, table
from onward.testing import Server, TestApp, serve

alerts = table(Alert)
messages = table(AlertMessage)

MakeApp = Callable[..., TestApp]
AtOnce = Callable[[Sequence[str]], list[Any]]

HOOK = "https://hooks.example/services/T0/hidden-token"
TOML = '[alerts]\nwebhook = "${HOOK}"\n'
MINUTE = timedelta(minutes=1)


class Receiver:
    """Takes messages, or answers something else."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.status = 204

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Keep what is sent."""
        self.ids.append(request.headers["webhook-id"])
        self.bodies.append(json.loads(request.content))
        return httpx.Response(self.status)

    @property
    def said(self) -> list[tuple[str, str]]:
        """The type and text of what came."""
        return [(body["type"], body["text"]) for body in self.bodies]


@pytest.fixture
def receiver() -> Receiver:
    """One that takes everything."""
    return Receiver()


@pytest.fixture
def app(make_app: MakeApp, receiver: Receiver, database_url: str) -> TestApp:
    """An Onward that tells it."""
    return make_app(TOML, fake=receiver, database_url=database_url, env={"HOOK": HOOK})


def begin(app: TestApp, why: str = "no disk", about: str = "a") -> None:
    """Open an alert."""
    app.runtime.database.run(
        lambda t: open_alert(t, app.clock(), "disk", subject=about, reason=why)
    )


def end(app: TestApp, *keep: str) -> None:
    """Close it."""
    app.runtime.database.run(lambda t: close_alerts(t, app.clock(), "disk", keep=keep))


def stored(app: TestApp) -> list[Any]:
    """Return every alert."""
    with app.runtime.database.read() as transaction:
        return list(transaction.execute(select(alerts).order_by(alerts.c.id)))


def left(app: TestApp) -> int:
    """Return how many messages wait."""
    with app.runtime.database.read() as transaction:
        count = transaction.execute(select(func.count()).select_from(messages))
        return count.scalar_one()


def test_it_is_told_once_when_it_begins_and_once_when_it_ends(
    app: TestApp, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it happens between; the log says the same, as one line each."""
    with caplog.at_level(logging.INFO, "onward.alerts"):
        for _ in range(3):
            begin(app)
            app.clock.tick(MINUTE)
            tell(app.runtime)
        end(app)
        for _ in range(3):
            app.clock.tick(MINUTE)
            tell(app.runtime)

    assert receiver.said == [
        ("alert.opened", "a: disk: no disk"),
        ("alert.closed", "a: disk: is over"),
    ]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "a: disk: no disk"),
        ("INFO", "a: disk: is over"),
    ]
    [alert] = stored(app)
    assert (alert.count, alert.last_at - alert.opened_at) == (3, 2 * MINUTE)
    assert alert.closed_at == alert.opened_at + 3 * MINUTE
    assert left(app) == 0


def test_a_body_says_what_it_is_about(app: TestApp, receiver: Receiver) -> None:
    """Everything an automation needs stands in `data`, moments in UTC."""
    begin(app, "sam@shop.example said\nthe disk is full")
    tell(app.runtime)

    [body] = receiver.bodies
    assert body == {
        "type": "alert.opened",
        "timestamp": "2026-03-04T09:00:00Z",
        "text": "a: disk: <address> said the disk is full",
        "data": {
            "id": 1,
            "kind": "disk",
            "connection": "",
            "subject": "a",
            "code": "",
            "reason": "<address> said the disk is full",
            "count": 1,
            "opened_at": "2026-03-04T09:00:00Z",
            "last_at": "2026-03-04T09:00:00Z",
            "closed_at": None,
        },
    }


def test_flapping_is_gathered(app: TestApp, receiver: Receiver) -> None:
    """What comes and goes every minute is told twice, then every 15 minutes."""
    for _ in range(60):
        begin(app)
        tell(app.runtime)
        app.clock.tick(MINUTE / 2)
        end(app)
        tell(app.runtime)
        app.clock.tick(MINUTE / 2)

    kinds = [kind for kind, _ in receiver.said]
    assert kinds == ["alert.opened", "alert.closed", *["alert.digest"] * 3]
    [entry] = receiver.bodies[-1]["data"]["alerts"]
    assert entry["times"] == 15
    assert "(began 15 times)" in receiver.bodies[-1]["text"]
    app.clock.tick(20 * MINUTE)
    tell(app.runtime)
    receiver.bodies.clear()
    app.clock.tick(20 * MINUTE)
    begin(app)
    tell(app.runtime)
    assert receiver.said == [("alert.opened", "a: disk: no disk")]


def test_what_comes_back_soon_is_told_later(app: TestApp, receiver: Receiver) -> None:
    """A second beginning waits for the window's end; then it is a plain one."""
    begin(app)
    tell(app.runtime)
    end(app)
    tell(app.runtime)
    app.clock.tick(5 * MINUTE)
    begin(app, "full again")
    for _ in range(9):
        tell(app.runtime)
        app.clock.tick(MINUTE)
    assert len(receiver.bodies) == 2
    app.clock.tick(MINUTE)
    tell(app.runtime)

    assert receiver.said[2:] == [("alert.opened", "a: disk: full again")]


def test_what_was_over_before_anybody_was_told_is_a_digest(
    app: TestApp, receiver: Receiver
) -> None:
    """Nothing is kept back: that it was is told, and that it is over."""
    begin(app)
    end(app)
    tell(app.runtime)

    assert receiver.said == [("alert.digest", "a: disk: is over")]
    assert receiver.bodies[0]["data"]["alerts"][0]["times"] == 1


def test_many_at_once_are_one_message(app: TestApp, receiver: Receiver) -> None:
    """A network that is away is no flood, and neither is its return."""
    names = [f"c{n:02}" for n in range(30)]
    for name in names:
        begin(app, about=name)
    tell(app.runtime)
    end(app)
    tell(app.runtime)

    assert [kind for kind, _ in receiver.said] == ["alert.digest"] * 2
    for body in receiver.bodies:
        assert [one["subject"] for one in body["data"]["alerts"]] == names


def test_a_receiver_that_is_away_is_tried_again(
    app: TestApp, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Ever later and under the same id; the log says it once, and never the address."""
    receiver.status = 503
    begin(app)
    tries = [app.clock()]
    with caplog.at_level(logging.DEBUG):
        tell(app.runtime)
        while len(receiver.ids) < 8:
            app.clock.tick(5)
            before = len(receiver.ids)
            tell(app.runtime)
            tries += [app.clock()] * (len(receiver.ids) - before)
        receiver.status = 200
        app.clock.tick(PAUSES[-1])
        tell(app.runtime)

    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits == [*PAUSES, PAUSES[-1], PAUSES[-1]]
    assert len(set(receiver.ids)) == 1
    assert [r.message for r in caplog.records if r.name == "onward.alerts"] == [
        "a: disk: no disk",
        "the alert webhook https://hooks.example took no message: it answered 503; it "
        "is tried again",
        "the alert webhook https://hooks.example takes messages again",
    ]
    assert "hidden-token" not in caplog.text
    assert left(app) == 0


def test_a_receiver_that_comes_back_gets_no_flood(
    app: TestApp, receiver: Receiver
) -> None:
    """What it missed comes in few messages, and nothing of it is missing."""
    receiver.status = 500
    for number in range(40):
        begin(app, about=f"s{number:02}")
        tell(app.runtime)
        app.clock.tick(PAUSES[-1])
        tell(app.runtime)
    receiver.status = 204
    receiver.bodies.clear()
    for _ in range(10):
        app.clock.tick(PAUSES[-1])
        tell(app.runtime)

    assert len(receiver.bodies) <= MOST + 1
    told = {
        one["subject"]
        for body in receiver.bodies
        for one in body["data"].get("alerts", [body["data"]])
    }
    assert told == {f"s{number:02}" for number in range(40)}


def test_a_receiver_that_never_comes_back_is_given_up(
    app: TestApp, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """After three days a message is dropped, and the log says so."""
    receiver.status = 410
    begin(app)
    tell(app.runtime)
    app.clock.tick(GIVE_UP + MINUTE)
    tell(app.runtime)

    assert left(app) == 0
    assert "took no message for 3 days: it answered 410" in caplog.text
    receiver.status = 200
    begin(app, about="b")
    tell(app.runtime)
    assert receiver.said[-1] == ("alert.opened", "b: disk: no disk")


def test_what_one_is_telling_nobody_else_tells(
    make_app: MakeApp, receiver: Receiver
) -> None:
    """While it is on its way it is taken; the next one is free."""
    made: list[TestApp] = []

    def handle(request: httpx.Request) -> httpx.Response:
        answer = receiver.handle(request)
        if len(receiver.ids) == 1:
            begin(made[0], about="b")
            tell(made[0].runtime)
        return answer

    app = make_app(TOML, transport=httpx.MockTransport(handle), env={"HOOK": HOOK})
    made.append(app)
    begin(app)
    tell(app.runtime)

    assert [body["data"]["subject"] for body in receiver.bodies] == ["a", "b"]
    assert left(app) == 0


def test_without_a_webhook_the_log_is_told(
    make_app: MakeApp, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent, and nothing waits for a receiver that nobody named."""
    app = make_app("", fake=receiver)
    begin(app)
    tell(app.runtime)

    assert caplog.messages == ["a: disk: no disk"]
    assert (receiver.bodies, left(app)) == ([], 0)


# -- processes


@pytest.fixture
def hook(receiver: Receiver) -> Any:
    """A receiver that processes can reach."""
    with serve(receiver.handle) as server:
        yield server


def config(tmp_path: Path, hook: Server, url: str) -> None:
    """Write the `onward.toml` of some processes."""
    text = f'[onward]\ndatabase_url = "{url}"\n[alerts]\nwebhook = "{hook.url}/x"\n'
    (tmp_path / "onward.toml").write_text(text)


BEGIN = """
from onward.alerts.book import open_alert
from onward.alerts.telling import tell
app.runtime.database.run(
    lambda t: open_alert(t, app.runtime.clock(), "disk", reason=f"from {number}")
)
tell(app.runtime)
"""


def test_processes_at_once_tell_once(
    tmp_path: Path,
    hook: Server,
    receiver: Receiver,
    at_once: AtOnce,
    database_url: str,
    database: Database,
) -> None:
    """Four that meet it at the same moment make one alert and one message."""
    config(tmp_path, hook, database_url)

    at_once([BEGIN] * 4)

    assert len(receiver.bodies) == 1
    with database.read() as transaction:
        [count] = transaction.execute(select(alerts.c.count)).scalars()
    assert count == 4


@pytest.mark.parametrize(("point", "times"), [("alert_taken", 1), ("alert_sent", 2)])
def test_who_is_killed_while_telling_is_followed(
    point: str,
    times: int,
    tmp_path: Path,
    hook: Server,
    receiver: Receiver,
    at_once: AtOnce,
    database_url: str,
) -> None:
    """After a kill -9 the next process tells it, under the same id."""
    config(tmp_path, hook, database_url)
    armed = f'import os\nos.environ["ONWARD_FAILPOINT"] = "{point}"\n'

    assert at_once([armed + BEGIN]) == [{"ended": -9}]
    later = """
from datetime import timedelta
from onward.alerts.telling import tell
now = app.runtime.clock() + timedelta(minutes=2)
app.runtime.clock = lambda: now
tell(app.runtime)
tell(app.runtime)
"""
    at_once([later])

    assert len(receiver.ids) == times
    assert len(set(receiver.ids)) == 1


def test_old_ends_are_not_told_again(app: TestApp, receiver: Receiver) -> None:
    """What was told stays told, also when its message is long gone."""
    begin(app)
    tell(app.runtime)
    end(app)
    tell(app.runtime)
    app.clock.tick(timedelta(days=30))
    tell(app.runtime)

    assert len(receiver.bodies) == 2
    begin(app)
    tell(app.runtime)
    assert len(receiver.bodies) == 3
