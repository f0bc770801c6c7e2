"""Many connections at once: everybody gets a turn, and nobody waits for the dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import httpx
import pytest

from onward import (
    Account,
    Api,
    ConnectionSettings,
    Integration,
    Item,
    Outcome,
    RemoteField,
    RemoteSegment,
)
from onward.database import Database
from onward.delivery import work
from onward.delivery.batches import TURN
from onward.delivery.queue import BACKFILL, LIVE, Wish, enqueue
from onward.testing import TestApp
from onward.testing.app import START
from onward.testing.pool import Pool

pytestmark = pytest.mark.slow

CALL = timedelta(milliseconds=50)
TIMEOUT = timedelta(seconds=30)
DEAD = {"c001", "c003", "c006"}


class EachSettings(ConnectionSettings):
    """Which account."""

    account: str


class Each(Integration):
    """Pushes one contact a call, to an address of its connection's own."""

    key, title, hosts = "each", "Each", ("each.example",)
    batch_size = 1
    default_map: ClassVar[dict[str, str]] = {"email": "email"}

    Settings = EachSettings

    def verify(self, api: Api) -> Account:
        """Believe everything."""
        of = self.settings.account
        return Account(of, of, of)

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Have the address."""
        yield RemoteField("email", required=True)

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """POST it."""
        for item in batch:
            api.post(f"{self.settings.account}/{item.email}")
            yield item.delivered(item.email)


class World:
    """Some connections, whose calls take time, and what was called when."""

    def __init__(self, make_app: Callable[..., TestApp], number: int) -> None:
        self.calls: list[tuple[datetime, str, str]] = []
        self.dead: set[str] = set()
        names = [f"c{of:03}" for of in range(number)]
        tables = [
            f'[connections.{name}]\nintegration = "each"\nsegment = false\n'
            f'settings = {{ account = "{name}" }}\n'
            for name in names
        ]
        self.app = make_app("".join(tables), integrations=[Each], fake=self)
        self.ids = {name: self.app.verify(name).id for name in names}

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer after a while, or never."""
        _, account, email = request.url.path.split("/")
        if account in self.dead:
            self.app.clock.tick(TIMEOUT)
            raise httpx.ConnectTimeout("no answer", request=request)
        self.calls.append((self.app.clock.now, account, email))
        self.app.clock.tick(CALL)
        return httpx.Response(200, json={})

    def queue(self, name: str, rows: int, priority: int = LIVE) -> None:
        """Let something wait."""
        emails = [f"{name}-{priority}-{row}@shop.example" for row in range(rows)]
        for email in emails:
            self.app.upsert_contact({"email": email})
        known = {row["email"]: row["id"] for row in self.app.contacts()}
        wishes = [
            Wish(self.ids[name], known[email], "", "test", priority=priority)
            for email in emails
        ]
        with self.app.runtime.database.write() as transaction:
            enqueue(transaction, wishes, self.app.clock.now)

    def counts(self, until: datetime | None = None) -> Counter[str]:
        """Return how often each was called."""
        return Counter(
            account for at, account, _ in self.calls if until is None or at <= until
        )


@pytest.fixture
def world(make_app: Callable[..., TestApp]) -> Callable[[int], World]:
    """A factory of worlds."""
    return lambda number: World(make_app, number)


def test_everybody_is_served_alike(world: Callable[[int], World]) -> None:
    """At no moment is anybody more than a turn ahead of anybody who has work."""
    here = world(9)
    for name in here.ids:
        here.queue(name, 3 * TURN)

    Pool(here.app, threads=2).run(timedelta(minutes=1))

    assert set(here.counts().values()) == {3 * TURN}
    for at, _, _ in here.calls[:: TURN // 2]:
        served = here.counts(at)
        counts = [served[name] for name in here.ids]
        assert max(counts) - min(counts) <= TURN + 1


def test_a_live_event_goes_before_the_back_fills_of_others(
    world: Callable[[int], World],
) -> None:
    """One row of a form waits for the next turn that ends, and no whole round.

    On a connection that is busy with a back-fill itself it goes before that.
    """
    here = world(6)
    for name in here.ids:
        here.queue(name, 4 * TURN, BACKFILL)
    pool = Pool(here.app, threads=1)
    pool.run(3 * TURN * CALL - CALL / 2)
    began = here.app.clock.now
    here.queue("c005", 1)
    here.queue("c000", 1)
    here.app.clock.now = began

    pool.run(timedelta(seconds=4))

    live = {of: at for at, of, email in here.calls if f"-{LIVE}-" in email}
    assert set(live) == {"c000", "c005"}
    assert max(live.values()) - began <= 2 * TURN * CALL
    assert here.counts()["c004"] > 0


def test_the_dead_cost_the_others_nothing(world: Callable[[int], World]) -> None:
    """With a free thread left, three dead ones change no call of the other five."""
    calls: dict[bool, list[tuple[datetime, str, str]]] = {}
    for with_dead in (False, True):
        here = world(8)
        here.dead = DEAD if with_dead else set()
        for name in here.ids:
            here.queue(name, 1 if name in DEAD else TURN)
        here.app.clock.now = START
        Pool(here.app, threads=8).run(timedelta(minutes=3))
        calls[with_dead] = [one for one in here.calls if one[1] not in DEAD]

    assert calls[True] == calls[False]
    assert len(calls[True]) == 5 * TURN


def test_one_dead_among_ten_changes_no_figure(world: Callable[[int], World]) -> None:
    """With four threads the other nine make as many calls, and end as soon."""
    ends: dict[bool, timedelta] = {}
    for with_dead in (False, True):
        here = world(10)
        here.dead = {"c003"} if with_dead else set()
        for name in here.ids:
            here.queue(name, TURN)
        here.app.clock.now = START
        Pool(here.app, threads=4).run(timedelta(minutes=1))
        nine = [one for one in here.calls if one[1] != "c003"]
        assert Counter(of for _, of, _ in nine) == {
            name: TURN for name in here.ids if name != "c003"
        }
        ends[with_dead] = nine[-1][0] - START

    assert ends[True] - ends[False] <= TURN * CALL


def test_a_dead_one_is_asked_once_per_rest(world: Callable[[int], World]) -> None:
    """It holds a thread for one time-out, then rests ever longer; then it recovers."""
    here = world(2)
    here.queue("c000", 15)
    here.queue("c001", 3 * TURN)
    here.dead = {"c000"}
    pool = Pool(here.app, threads=1)

    pool.run(timedelta(minutes=5))

    lost = [(began, end) for began, end, of in pool.drains if of == here.ids["c000"]]
    assert all(end - began >= TIMEOUT for began, end in lost)
    assert 4 <= len(lost) <= 7
    assert here.counts() == {"c001": 3 * TURN}
    here.dead = set()
    pool.run(timedelta(minutes=15))
    assert here.counts() == {"c000": 15, "c001": 3 * TURN}


def test_a_restart_begins_with_whoever_was_served_longest_ago(
    world: Callable[[int], World],
) -> None:
    """Who has a low number has no advantage, however often workers are restarted."""
    here = world(5)
    for name in here.ids:
        here.queue(name, 4 * TURN)

    for _ in range(10):
        Pool(here.app, threads=1).run(TURN * CALL - CALL / 2)

    assert set(here.counts().values()) == {2 * TURN}


def test_deliver_goes_round(world: Callable[[int], World]) -> None:
    """`deliver` gives nobody a second turn before everybody had one."""
    here = world(3)
    for name in here.ids:
        here.queue(name, 3 * TURN)

    done = here.app.deliver(until_empty=False)

    order = [of for _, of, _ in here.calls]
    turns = [order[place] for place in range(0, len(order), TURN)]
    assert turns == ["c000", "c001", "c002"] * 3
    assert done.counts == {("delivered", "delivered"): 9 * TURN}


def test_deliver_looks_up_from_a_long_back_fill(world: Callable[[int], World]) -> None:
    """A live event that comes meanwhile waits seconds, not for the end of it."""
    here = world(2)
    here.queue("c000", 200, BACKFILL)
    began = here.app.clock.now

    def form(rows: int) -> None:
        if here.calls[-1][1] == "c000" and not here.counts()["c001"]:
            moment = here.app.clock.now
            here.queue("c001", 1)
            here.app.clock.now = moment

    here.app.deliver(on_progress=form)

    live = next(at for at, of, _ in here.calls if of == "c001")
    assert live - began <= timedelta(seconds=5) + 2 * TURN * CALL
    assert here.counts() == {"c000": 200, "c001": 1}


def test_the_sweep_walks_through_no_rows(sqlite_url: str) -> None:
    """Each question of it is a look into an index, however many rows wait."""
    database = Database(sqlite_url)
    plans: list[str] = []
    for statement in (work._DUE, work._NEXT, work._LEFT):
        written = statement.compile(database.engine)
        values = [str(written.params[name]) for name in written.positiontup or ()]
        with database.read() as transaction:
            plan = transaction.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {written}", tuple(values)
            )
            plans += [str(row[3]) for row in plan]
    database.close()

    of_rows = [plan for plan in plans if " push" in plan]
    assert len(of_rows) == 5
    assert [plan for plan in of_rows if "SEARCH push USING INDEX" not in plan] == []
    whole = [plan for plan in of_rows if "due_at" in plan]
    assert len(whole) == 4
    assert all("connection_id=? AND priority=? AND due_at" in plan for plan in whole)
