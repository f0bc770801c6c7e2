"""When what waits is done: the forecast against the limiter itself, in moved time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward import Account, Api, Integration, Item, Limit, Outcome, RemoteField
from onward import RemoteSegment as Segment
from onward.connections.state import named, pause
from onward.contract import day, hour, minute
from onward.database import Database
from onward.delivery.queue import BACKFILL, LIVE, Wish, enqueue
from onward.forecast import (
    Cost,
    Forecast,
    Level,
    calls_said,
    forecast,
    forecast_said,
    moment_said,
    read_forecast,
)
from onward.limiter import Limiter, Window, rows, windows_for
from onward.migrate import prepare_database
from onward.speed import settled, slow_down
from onward.testing import Clock, TestApp

NOW = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def kept() -> Iterator[Database]:
    """A database in memory; every example uses another rate key."""
    opened = Database("sqlite://")
    prepare_database(opened)
    yield opened
    opened.close()


keys = iter(range(10**9))
limits = st.lists(
    st.builds(
        Limit, st.integers(1, 60), st.sampled_from([10 * minute, minute, minute / 6])
    ),
    min_size=1,
    max_size=3,
    unique=True,
)


def levels_of(
    database: Database, windows: Sequence[Window], now: datetime
) -> list[Level]:
    """Read how full some windows are."""
    with database.read() as transaction:
        stored = {row.key: row for row in transaction.execute(rows.select())}
    found: list[Level] = []
    for window in windows:
        row = stored.get(window.key)
        if row is None:
            found.append(Level(window))
        else:
            speed = settled(row.speed, row.changed, now.timestamp())
            found.append(Level(window, row.tat, row.used, speed))
    return found


def make(limiter: Limiter, windows: Sequence[Window], calls: int, clock: Clock) -> None:
    """Make so many calls as early as they may leave."""
    while calls:
        wait = limiter.take(windows, 1, clock())
        if wait is None:
            calls -= 1
        else:
            clock.tick(wait)


# Each makes up to a hundred calls.
@settings(deadline=None, max_examples=settings().max_examples // 3)
@given(
    limits=limits,
    before=st.integers(0, 20),
    pause_s=st.sampled_from([0, 3, 100]),
    live=st.integers(0, 12),
    backfill=st.integers(0, 25),
    calls=st.integers(1, 3),
)
def test_it_agrees_with_the_limiter(
    kept: Database,
    limits: list[Limit],
    before: int,
    pause_s: float,
    live: int,
    backfill: int,
    calls: int,
) -> None:
    """Live batches, then those of a back-fill, end when it says, within a hundredth."""
    limiter, clock, key = Limiter(kept), Clock(), f"agrees {next(keys)}"
    alone, both = (windows_for(key, limits, live=one) for one in (True, False))
    make(limiter, both, before, clock)
    clock.tick(pause_s)
    start = clock()

    said = forecast(
        live * 10, backfill * 10, Cost(10, calls), levels_of(kept, both, start), start
    )
    make(limiter, alone, live * calls, clock)
    make(limiter, both, backfill * calls, clock)

    assert said.calls == (live + backfill) * calls
    assert said.done_at is not None
    took = (clock() - start).total_seconds()
    foreseen = (said.done_at - start).total_seconds()
    assert foreseen == pytest.approx(took, rel=0.01, abs=0.2)


@given(
    limits=limits,
    before=st.integers(0, 20),
    live=st.integers(0, 10**6),
    backfill=st.integers(0, 10**6),
    more=st.tuples(st.integers(0, 1_000), st.integers(0, 1_000)),
    speed=st.floats(1 / 16, 1),
    tat=st.floats(-1e5, 1e5),
)
def test_more_rows_never_end_earlier(
    limits: list[Limit],
    before: int,
    live: int,
    backfill: int,
    more: tuple[int, int],
    speed: float,
    tat: float,
) -> None:
    """It never lies before now, and grows with the rows, whatever they are."""
    levels = [
        Level(window, NOW.timestamp() + tat, speed=speed)
        for window in windows_for("rows", limits, live=False)
    ]

    some = forecast(live, backfill, Cost(100, 4), levels, NOW)
    others = forecast(live + more[0], backfill + more[1], Cost(100, 4), levels, NOW)

    assert some.done_at is not None
    assert others.done_at is not None
    assert NOW <= some.done_at <= others.done_at


@settings(deadline=None, max_examples=settings().max_examples // 3)
@given(calls=st.integers(1, 200), times=st.integers(1, 3))
def test_a_slowed_service_is_not_promised_more_than_it_bears(
    kept: Database, calls: int, times: int
) -> None:
    """With the speed that was found: not earlier than it can be, but for a minute."""
    limiter, clock, key = Limiter(kept), Clock(), f"slowed {next(keys)}"
    windows = windows_for(key, [Limit(60, per=minute)], live=True)
    make(limiter, windows, 20, clock)
    for _ in range(times):
        with kept.write() as transaction:
            assert slow_down(transaction, key, clock(), clock())
        clock.tick(1)
    start = clock()

    said = forecast(calls, 0, Cost(1, 1), levels_of(kept, windows, start), start)
    make(limiter, windows, calls, clock)

    assert said.done_at is not None
    assert said.done_at >= clock() - minute


def test_without_limits_the_batches_say_how_long(kept: Database) -> None:
    """Where nothing is known it says so rather than now."""
    assert forecast(900, 0, Cost(100, 1), [], NOW).done_at is None
    assert forecast(0, 0, Cost(100, 1), [], NOW).done_at == NOW
    measured = forecast(450, 450, Cost(100, 1, seconds=2.0), [], NOW)
    assert measured.done_at == NOW + timedelta(seconds=20)


# -- in words


@pytest.mark.parametrize(
    ("after", "timezone", "words"),
    [
        (timedelta(seconds=20), "UTC", "within a minute"),
        (timedelta(hours=2, seconds=1), "UTC", "at 11:01 UTC"),
        (timedelta(hours=29, minutes=20), "UTC", "at 14:20 UTC tomorrow"),
        (timedelta(hours=29, minutes=20), "Europe/Amsterdam", "at 15:20 tomorrow"),
        (timedelta(hours=14, minutes=30), "Europe/Amsterdam", "at 00:30 tomorrow"),
        (timedelta(days=8), "UTC", "on 2026-03-12 at 09:00 UTC"),
        # Summer time begins on 29 March.
        (timedelta(days=30), "Europe/Amsterdam", "on 2026-04-03 at 11:00"),
    ],
)
def test_moments_are_said_where_the_operator_lives(
    after: timedelta, timezone: str, words: str
) -> None:
    """Today by the clock, tomorrow by the word, later by the day; never too early."""
    assert moment_said(NOW + after, NOW, timezone) == words


@pytest.mark.parametrize(
    ("per", "words"),
    [
        (day, "4,100 of 6,000 calls today"),
        (hour, "4,100 of 6,000 calls this hour"),
        (30 * day, "4,100 of 6,000 calls in 30 days"),
        (minute, ""),
    ],
)
def test_calls_are_said_of_the_longest_window(per: timedelta, words: str) -> None:
    """Of a minute nobody wants to know."""
    found = Forecast(100, 4, 4_100, 6_000, per.total_seconds(), NOW + 5 * hour)

    assert calls_said(found) == words
    ends = "done at 14:00 UTC"
    assert forecast_said(found, NOW, "UTC") == (f"{words}, {ends}" if words else ends)


# -- of what waits


class Acme(Integration):
    """Three calls for a batch, where it says two."""

    key, title, hosts = "acme", "Acme", ("acme.example",)
    limits = (Limit(30, per=minute), Limit(600, per=day))
    batch_size, calls_per_batch = 2, 2
    default_map: ClassVar[dict[str, str]] = {"email": "email"}

    def verify(self, api: Api) -> Account:
        """Believe everything."""
        return Account("acme/1", "acme/1", "Acme")

    def fields(self, api: Api, segment: Segment | None) -> Iterator[RemoteField]:
        """Have the address."""
        yield RemoteField("email", required=True)

    def push(
        self, api: Api, batch: Sequence[Item], segment: Segment | None
    ) -> Iterator[Outcome]:
        """Make three calls."""
        for _ in range(3):
            api.post("people")
        for item in batch:
            yield item.delivered(item.email)


@pytest.fixture
def app(make_app: Callable[..., TestApp]) -> TestApp:
    """An Onward connected to it."""
    made = make_app(
        '[connections.acme]\nintegration = "acme"\nsegment = false\n',
        integrations=[Acme],
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json={})),
    )
    made.verify("acme")
    return made


def queue(app: TestApp, count: int, priority: int = BACKFILL) -> None:
    """Let new people wait."""
    emails = [f"p{next(keys)}@shop.example" for _ in range(count)]
    for email in emails:
        app.upsert_contact({"email": email})
    known = {row["email"]: row["id"] for row in app.contacts()}
    wishes = [Wish(1, known[email], "", "test", priority=priority) for email in emails]
    with app.runtime.database.write() as transaction:
        enqueue(transaction, wishes, app.clock.now)


def foresee(app: TestApp, **more: int) -> Forecast | None:
    """Read the forecast of the only connection."""
    with app.runtime.database.read() as transaction:
        state = named(transaction, "acme")
        return read_forecast(app.runtime, transaction, state, **more)


def test_what_waits_is_done_when_it_says(app: TestApp) -> None:
    """A whole delivery ends at the moment that was foreseen, within one batch."""
    queue(app, 2, LIVE)
    app.deliver()
    queue(app, 60)
    queue(app, 10, LIVE)
    start = app.clock.now
    said = foresee(app)
    assert said is not None
    assert said.done_at is not None
    # Measured, and not as declared.
    assert (said.rows, said.calls) == (70, 35 * 3)

    done = app.deliver()

    assert done.counts == {("delivered", "delivered"): 70}
    batch = 3 * (minute / 16)
    assert abs(app.clock.now - said.done_at) <= batch + (said.done_at - start) * 0.05
    after = foresee(app)
    assert after is not None
    assert (after.rows, after.used, after.limit) == (0, 36 * 3, 600)


def test_a_rest_and_rows_to_come_are_counted(app: TestApp) -> None:
    """A dry run adds its rows; a connection that rests begins when it may."""
    plain, more = foresee(app, backfill=10), foresee(app, backfill=300)
    assert plain is not None
    assert more is not None
    assert (plain.calls, more.calls) == (10, 300)
    assert plain.done_at is not None
    assert more.done_at is not None
    assert plain.done_at < more.done_at
    from onward.connections.state import rest

    with app.runtime.database.write() as transaction:
        until = rest(transaction, 1, app.clock.now, hour).until

    rested = foresee(app, backfill=10)

    assert rested is not None
    assert rested.done_at == until + (plain.done_at - app.clock.now)


def test_nobody_foresees_the_end_of_a_pause(app: TestApp) -> None:
    """While a person must do something first, there is no moment."""
    queue(app, 4)
    assert foresee(app) is not None

    pause(app.runtime, 1, "manual", "by hand")

    assert foresee(app) is None


def used(app: TestApp) -> Any:
    """Return the calls of the day."""
    found = foresee(app)
    return None if found is None else found.used


def test_yesterdays_calls_are_not_todays(app: TestApp) -> None:
    """At midnight the count begins anew."""
    queue(app, 2)
    app.deliver()
    assert used(app) == 3

    app.clock.tick(day)

    assert used(app) == 0
