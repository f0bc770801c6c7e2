"""Pulls by real processes that die, at named places and at any moment."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import select

from onward.clock import utcnow
from onward.models import (
    Contact,
    Identity,
    RemoteContactRow,
    Suppression,
    SyncPage,
    SyncRun,
    table,
)
from onward.testing.app import Clock, TestApp
from onward.testing.server import Server
from onward_icontact.simulator import Simulator

if TYPE_CHECKING:
    from tests.conftest import AtOnce, MakeApp

PEOPLE = 180
PAGE = 50  # rows, however many are asked for
LIST = "Newsletter"
MADE = datetime(2026, 3, 1, tzinfo=UTC)
# At the start of each process: the lists, and at most two pages that were asked for
# and not stored.
LOST = 3

TOML = """
[onward]
database_url = "{database_url}"
lease = "60s"
[connections.icontact]
integration = "icontact"
segment = "Newsletter"
limits = ["100000/minute"]
pull_limit = 1.0
[connections.icontact.settings]
app_id = "{sim.app_id}"
username = "{sim.username}"
password = "{sim.password}"
account_id = "{sim.account_id}"
client_folder_id = "{sim.client_folder_id}"
api_url = "{url}/icp"
"""
PULL = """
from datetime import datetime
moment = datetime.fromisoformat("{now}")
app.runtime.clock, app.runtime.simulated = (lambda: moment), True
result = app.sync("icontact").stopped
"""
ARMED = 'import os\nos.environ["ONWARD_FAILPOINT"] = "{point}"\n'
# The kernel ends it wherever it is then, in the middle of a statement perhaps, as
# kill -9 does: nothing is caught and nothing cleaned up.
MORTAL = """
import signal
signal.signal(signal.SIGALRM, signal.SIG_DFL)
signal.setitimer(signal.ITIMER_REAL, {seconds})
"""
LIVES = "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\n"
BUSY = """
import httpx
result = app.sync("icontact").stopped
httpx.post("{url}/ended")
"""


class Short:
    """An iContact whose pages are short, so that there are many; counts them."""

    def __init__(self) -> None:
        self.sim = Simulator(log_limit=10)
        self.calls = 0
        # Until somebody says that it ended, nobody gets a page while this is shut.
        self.ended = threading.Event()
        self.ended.set()

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if request.url.path == "/ended":
            self.ended.set()
            return httpx.Response(204)
        self.calls += 1
        if request.method == "GET" and "limit" in request.url.params:
            self.ended.wait(60)
            url = request.url.copy_set_param("limit", str(PAGE))
            request = httpx.Request(request.method, url, headers=request.headers)
        return self.sim.handle(request)

    def populate(self) -> None:
        """Put people there, some of whom decided something."""
        folder = self.sim.folder()
        for number in range(PEOPLE):
            status = "donotcontact" if number % 20 == 3 else "normal"
            name = f"p{number}@shop.example"
            first = f"P{number}"
            on = [LIST] if number % 2 else []
            folder.add_contact(name, status, on, created=MADE, firstName=first)
            if number % 20 == 5:
                folder.unsubscribe(LIST, name)

    def change(self, days: int) -> None:
        """Let a day pass there; none is nothing."""
        folder = self.sim.folder()
        if not days:
            return
        for number in range(0, PEOPLE, 7):
            contact = folder.find(f"p{number}@shop.example")
            assert contact is not None
            contact.values["city"] = f"Durham {days}"
            if number % 2 and days == 1:
                folder.unsubscribe(LIST, contact.email)
            if number % 3 == 1:
                contact.status = "bounced"
        gone = folder.find(f"p{100 + days}@shop.example")
        assert gone is not None
        folder.delete_contact(gone)
        for number in range(30):
            folder.add_contact(f"q{days}-{number}@shop.example", created=MADE)


@pytest.fixture
def short() -> Short:
    """The service that everybody pulls."""
    return Short()


@pytest.fixture
def app(
    short: Short, database_url: str, tmp_path: Path, make_app: MakeApp
) -> Iterator[TestApp]:
    """An Onward connected over real HTTP, as the processes of `at_once` are."""
    short.populate()
    with Server(short.handle) as server:
        text = TOML.format(database_url=database_url, sim=short.sim, url=server.url)
        (tmp_path / "onward.toml").write_text(text)
        made = make_app(text, database_url=database_url, clock=Clock(utcnow()))
        made.verify("icontact")
        yield made


def rows(app: TestApp, model: Any) -> list[Any]:
    """Return all rows of a table."""
    with app.runtime.database.read() as transaction:
        return list(transaction.execute(select(table(model))).mappings())


def state_of(app: TestApp) -> dict[str, list[Any]]:
    """Return everything a pull leaves behind, without the numbers that differ."""
    left_out = {"id", "created_at", "updated_at", "seen_at", "first_seen_at"}
    left_out.add("fetched_at")
    who = {row["id"]: row["email"] for row in rows(app, Contact)}
    who[0] = ""

    def plain(model: Any, *without: str) -> list[Any]:
        found = [
            {
                name: who[value] if name == "contact_id" else value
                for name, value in row.items()
                if name not in left_out.union(without)
            }
            for row in rows(app, model)
        ]
        return sorted(found, key=repr)

    return {
        "contacts": plain(Contact),
        "identities": plain(Identity),
        "remote": plain(RemoteContactRow),
        # Hashed with each database's own secret; learned from another host.
        "stops": plain(Suppression, "address_hash", "identity"),
    }


class Undisturbed:
    """What there is, and what it costs, when nobody dies."""

    def __init__(self, make_app: MakeApp) -> None:
        self.short = Short()
        self.short.populate()
        text = TOML.format(
            database_url="sqlite://", sim=self.short.sim, url="https://app.icontact.com"
        )
        self.app: TestApp = make_app(text, fake=self.short)
        self.app.verify("icontact")

    def pull(self) -> tuple[dict[str, list[Any]], int]:
        """Pull; return the state, and the calls it took."""
        self.short.calls = 0
        assert self.app.sync("icontact").stopped == "done"
        return state_of(self.app), self.short.calls


@pytest.fixture
def undisturbed(make_app: MakeApp) -> Undisturbed:
    """See `Undisturbed`."""
    return Undisturbed(make_app)


def pull_to_the_end(
    app: TestApp, at_once: AtOnce, prepare: str, *, most: int = 99
) -> int:
    """Let processes pull, one after the other's death; return how many died."""
    for died in range(most):
        [ended] = at_once([prepare + PULL.format(now=app.clock().isoformat())])
        if ended == "done":
            return died
        assert ended == {"ended": -signal.SIGKILL}
        app.clock.tick(timedelta(seconds=61))
    raise AssertionError(f"{most} died, and it is not done")


def check(
    app: TestApp, short: Short, expected: tuple[dict[str, list[Any]], int], died: int
) -> None:
    """The same, nobody twice, in not many more calls; nothing is left of the run."""
    state, calls = expected
    found = state_of(app)
    for name, listed in state.items():
        assert found[name] == listed, name
    remote_ids = [row["remote_id"] for row in found["remote"]]
    emails = [row["email"] for row in found["contacts"]]
    assert len(set(remote_ids)) == len(remote_ids)
    assert len(set(emails)) == len(emails)
    assert short.calls <= calls + died * LOST
    assert rows(app, SyncPage) == []
    assert {row["state"] for row in rows(app, SyncRun)} == {"done"}


# Turns that let each process store a page at least.
@pytest.mark.parametrize(
    "point",
    [
        "after_pull_page:1",
        "after_request:4",
        pytest.param("before_request:4", marks=pytest.mark.nightly),
    ],
)
def test_killed_at(
    point: str, app: TestApp, short: Short, undisturbed: Undisturbed, at_once: AtOnce
) -> None:
    """Killed after each page, or around a call: the same end, in few calls more."""
    short.calls = 0

    died = pull_to_the_end(app, at_once, ARMED.format(point=point))

    assert died > 3
    check(app, short, undisturbed.pull(), died)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.nightly)])
def test_killed_at_random_moments(
    app: TestApp, short: Short, undisturbed: Undisturbed, at_once: AtOnce, kills: int
) -> None:
    """A first pull, and one after a day of changes, die anywhere, again and again."""
    draw = random.Random(kills)  # noqa: S311 - guards nothing
    died = day = 0
    while died < kills:
        for one in (short, undisturbed.short):
            one.change(day)
        expected = undisturbed.pull()
        short.calls, before, ended = 0, died, None

        while ended != "done":
            pull = PULL.format(now=app.clock().isoformat())
            if died < kills and died - before < max(kills // 2, 1):
                seconds = round(draw.uniform(0.01, 0.4), 4)
                pull = MORTAL.format(seconds=seconds) + pull + LIVES
            [ended] = at_once([pull])
            died += ended == {"ended": -signal.SIGALRM}
            app.clock.tick(timedelta(seconds=61))

        check(app, short, expected, died - before)
        day += 1


def test_two_at_once(app: TestApp, short: Short, at_once: AtOnce) -> None:
    """Two processes pull the same connection: one does, and the other asks nothing."""
    short.ended.clear()
    before = short.calls
    url = str(app.config.connections["icontact"].settings["api_url"])

    ended = at_once([BUSY.format(url=url.removesuffix("/icp"))] * 2)

    assert sorted(ended) == ["busy", "done"]
    assert len(rows(app, Contact)) == PEOPLE
    [run] = rows(app, SyncRun)
    # Its pages, and the lists.
    assert short.calls - before == run["pages"] + 1
