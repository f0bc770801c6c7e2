"""Limits in whole deliveries: windows and shares, several workers, "too fast"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from onward import Account, Api, Integration, Item, Outcome, RemoteSegment
from onward.connections.state import State, named, pause, rest
from onward.delivery.queue import BACKFILL, LIVE, Wish, enqueue
from onward.delivery.work import count_due
from onward.speed import read_slowed
from onward.testing import TestApp
from onward.testing.pool import Pool

pytestmark = pytest.mark.slow

Connect = Callable[..., TestApp]
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def most_within(moments: Sequence[datetime], span: timedelta) -> int:
    """Return the largest number of moments in any span of that length."""
    ordered = sorted(moments)
    return max(
        sum(first <= moment < first + span for moment in ordered) for first in ordered
    )


def queue(app: TestApp, name: str, rows: int, priority: int = LIVE) -> None:
    """Let so many people wait for a connection."""
    emails = [f"{name}-{priority}-{row}@shop.example" for row in range(rows)]
    with app.runtime.database.read() as transaction:
        state = named(transaction, name)
    for email in emails:
        app.upsert_contact({"email": email})
    known = {row["email"]: row["id"] for row in app.contacts()}
    wishes = [
        Wish(state.id, known[email], state.segment_id, "test", priority=priority)
        for email in emails
    ]
    with app.runtime.database.write() as transaction:
        enqueue(transaction, wishes, app.clock.now)


@pytest.fixture
def shared(acme: type[Integration]) -> type[Integration]:
    """Acme as it counts calls by app, whatever the account; one contact a call."""

    class Shared(acme):  # type: ignore[valid-type, misc]
        """Two connections lead to two accounts and share a limit."""

        batch_size = 1

        def verify(self, api: Api) -> Account:
            """Have as many accounts as are asked for."""
            account: str = api.get("me").json()["account"]
            return Account(account, "app", account)

    return Shared


@pytest.fixture
def two(connect: Connect, service: Any, shared: type[Integration]) -> TestApp:
    """Connections acme and other, of one rate key with 12 calls a minute."""
    limits = 'limits = ["12/minute"]\nsegment = false\n'
    other = f'[connections.other]\nintegration = "acme"\n{limits}'
    app = connect(limits, kind=shared, more=other)
    for name, account in (("acme", "acme/1"), ("other", "acme/2")):
        service.account = account
        app.verify(name)
    app.clock.tick(10 * MINUTE)
    return app


def both(app: TestApp) -> list[State]:
    """Return the two connections."""
    with app.runtime.database.read() as transaction:
        return [named(transaction, name) for name in ("acme", "other")]


def share(app: TestApp, state: State) -> float:
    """Return how much of its limits a connection uses."""
    with app.runtime.database.read() as transaction:
        slowed = read_slowed(transaction, state.counted_as, app.clock.now)
    return slowed.share if slowed else 1


def test_two_connections_of_one_rate_key_share_its_limit(
    two: TestApp, service: Any
) -> None:
    """What one has called is missing to the other; together they use all of it."""
    moments: list[datetime] = []
    service.script = [lambda _: moments.append(two.clock.now)] * 60
    for name in ("acme", "other"):
        queue(two, name, 20)

    two.deliver()

    assert len(moments) == 40
    assert most_within(moments, MINUTE) <= 12
    assert {row["state"] for row in two.deliveries()} == {"delivered"}


def test_too_fast_is_said_to_all_of_a_rate_key(
    two: TestApp, service: Any, tools: Any
) -> None:
    """Retry-After of one connection is obeyed by the others that are counted with it.

    All of them send more slowly afterwards; an hour later at full speed.
    """
    service.script = [tools.answers(429, retry_after="90")]
    for name in ("acme", "other"):
        queue(two, name, 1)
    told = two.clock.now

    two.deliver(until_empty=False)

    assert len(service.pushes) == 1
    acme, other = both(two)
    assert acme.rest_until == other.rest_until == told + 90 * SECOND
    assert share(two, other) == 0.5
    two.clock.now = told + 89 * SECOND
    two.deliver(until_empty=False)
    assert len(service.pushes) == 1
    two.clock.now = told + 90 * SECOND
    two.deliver()
    assert len(service.pushes) == 3
    assert [state.rest_step for state in both(two)] == [0, 0]
    two.clock.tick(timedelta(hours=1))
    assert share(two, other) == 1


def test_what_is_due_is_counted(two: TestApp) -> None:
    """What waits for later, or on a paused connection, is not there to be sent now."""
    queue(two, "acme", 3)
    queue(two, "acme", 2, BACKFILL)
    queue(two, "other", 4)
    _acme, other = both(two)
    with two.runtime.database.write() as transaction:
        assert count_due(transaction, two.clock.now) == 9
        assert count_due(transaction, two.clock.now - SECOND) == 0
    pause(two.runtime, other.id, "manual", "holiday")
    with two.runtime.database.read() as transaction:
        assert count_due(transaction, two.clock.now) == 5


def test_rests_far_apart_are_not_one(two: TestApp) -> None:
    """How long it rests is counted anew when it has not tried for an hour."""
    acme, _ = both(two)
    first = two.clock.now

    def rests() -> datetime:
        now = two.clock.now
        return two.runtime.database.run(lambda t: rest(t, acme.id, now, MINUTE)).since

    assert rests() == first
    two.clock.tick(60 * MINUTE)
    assert rests() == first
    two.clock.tick(62 * MINUTE)
    assert rests() == two.clock.now


def test_too_fast_stops_another_of_the_rate_key_between_two_batches(
    two: TestApp, service: Any
) -> None:
    """One that is sending at that moment begins no batch until the rest is over.

    The one it made while the first was on its way may still leave.
    """
    queue(two, "acme", 30)
    acme, _ = both(two)
    told = two.clock.now

    def other_is_told(_: httpx.Request) -> None:
        two.runtime.database.run(lambda t: rest(t, acme.id, told, 90 * SECOND))

    service.script = [other_is_told]

    two.deliver(until_empty=False)

    sent = len(service.pushes)
    assert sent <= 2
    two.clock.now = told + 89 * SECOND
    two.deliver(until_empty=False)
    sent = len(service.pushes)
    assert sent <= 2
    two.clock.now = told + 90 * SECOND
    two.deliver()
    assert {row["state"] for row in two.deliveries()} == {"delivered"}


@pytest.mark.parametrize(
    ("value", "rest"),
    [
        ("77", 77),
        ("Wed, 04 Mar 2026 09:02:00 GMT", 120),
        ("Wed, 04 Mar 2026 08:00:00 GMT", 2),  # it is over: as if nothing was said
        ("-5", 2),
        ("soon", 2),
        ("0", 2),
        ("Fri, 04 Mar 9999 09:02:00 GMT", 86_400),
        ("1e400", 2),
        ("99999999999999999999", 2),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_or_sensibly_ignored(
    connect: Connect, service: Any, tools: Any, value: str, rest: int, status: int
) -> None:
    """Seconds or a date, on any status that says "later"; a day at most."""
    app = connect()
    app.verify("acme")
    service.script = [tools.answers(status, retry_after=value)]
    tools.fire(app, "ana")
    told = app.clock.now

    app.deliver(until_empty=False)

    assert tools.state(app).rest_until == told + rest * SECOND
    app.clock.tick(timedelta(days=2))
    app.deliver()
    assert tools.ended(app) == {"ana": ("delivered", "delivered")}


def test_retry_after_in_the_middle_of_a_batch(
    connect: Connect, acme: type[Integration], service: Any, tools: Any
) -> None:
    """Those who went through stay delivered; the others wait, no try used."""

    class Each(acme):  # type: ignore[valid-type, misc]
        """One call for each contact of a batch."""

        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """POST one after the other."""
            for item in batch:
                yield from super().push(api, [item], segment)

    app = connect(kind=Each)
    app.verify("acme")
    service.script = [lambda _: None, tools.answers(429, retry_after="300")]
    tools.fire(app, "ana", "bo", "cy")
    told = app.clock.now

    app.deliver(until_empty=False)

    assert [row["state"] for row in app.deliveries()] == [
        "delivered",
        "waiting",
        "waiting",
    ]
    assert {row["tries"] for row in app.queued} == {0}
    assert tools.state(app).rest_until == told + 300 * SECOND
    app.clock.now = told + 300 * SECOND
    app.deliver()
    assert {state for state, _ in tools.ended(app).values()} == {"delivered"}
    assert [len(push) for push in service.pushes] == [1] * 4


def test_a_live_event_is_sent_while_a_back_fill_waits_for_calls(
    connect: Connect, service: Any, acme: type[Integration]
) -> None:
    """The back-fill has used up its share; a form of that moment goes at once."""
    limits = 'segment = false\nlimits = ["16/minute"]\n'
    app = connect(limits, kind=acme, traits={"batch_size": 1})
    app.verify("acme")
    app.clock.tick(10 * MINUTE)
    queue(app, "acme", 30, BACKFILL)
    pool = Pool(app, threads=1)
    pool.run(SECOND)
    sent = len(service.pushes)
    assert sent == 2
    began = app.clock.now
    queue(app, "acme", 1)

    pool.run(3 * SECOND)

    assert service.pushes[sent] == ["acme-0-0@shop.example"]
    assert app.clock.now - began == 3 * SECOND
    pool.run(5 * MINUTE)
    assert len(service.pushes) == 31


def test_the_speed_of_a_slower_service_is_found(
    connect: Connect, service: Any, tools: Any, acme: type[Integration]
) -> None:
    """Told 24 a minute and allowed 8: through real drains it settles near 8."""
    limits = 'segment = false\nlimits = ["24/minute"]\n'
    app = connect(limits, kind=acme, traits={"batch_size": 1})
    app.verify("acme")
    made: list[datetime] = []
    refused: list[datetime] = []

    def strict(_: httpx.Request) -> httpx.Response | None:
        now = app.clock.now
        if sum(now - moment < MINUTE for moment in made[-8:]) < 8:
            made.append(now)
            return None
        refused.append(now)
        return httpx.Response(429)

    service.script = [strict] * 2_000
    queue(app, "acme", 600)
    start = app.clock.now

    Pool(app, threads=1).run(timedelta(minutes=60))

    half = start + 30 * MINUTE
    assert sum(moment > half for moment in made) >= 0.8 * 8 * 30
    assert len(refused) <= 12
    assert sum(moment > half for moment in refused) <= 4


TAKE = """
from datetime import datetime, timedelta
from onward.contract import Limit, second
from onward.limiter import windows_for
limits = [Limit(12, per=second), Limit(30, per=timedelta(seconds=4))]
windows = windows_for("shared", limits, live=number != 2)
runtime, result = app.runtime, []
end = runtime.clock() + timedelta(seconds=1.6)
while (now := runtime.clock()) < end:
    if runtime.limiter.take(windows, 1, now) is None:
        result.append((now.timestamp(), number))
"""


def test_processes_share_a_limit(
    at_once: Callable[[Sequence[str]], list[Any]], database_url: str, tmp_path: Path
) -> None:
    """Four at once, one of them a back-fill: no window sees more than its limit."""
    (tmp_path / "onward.toml").write_text(
        f'[onward]\ndatabase_url = "{database_url}"\n'
    )

    answers = at_once([TAKE] * 4)

    made = sorted(entry for answer in answers for entry in answer)
    moments = [datetime.fromtimestamp(at, UTC) for at, _ in made]
    backfill = [datetime.fromtimestamp(at, UTC) for at, of in made if of == 2]
    assert 12 <= len(moments) <= 30
    assert most_within(moments, SECOND) <= 12
    assert not backfill or most_within(backfill, SECOND) <= 8
