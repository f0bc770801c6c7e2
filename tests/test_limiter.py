"""Calls in time: never more than the limit in any span as long as its window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, literal, select
from sqlalchemy.event import listen

from onward.contract import Limit, day, minute, second
from onward.database import Database
from onward.delivery.retry import rest_for
from onward.limiter import Limiter, Window, applies, rows, windows_for
from onward.migrate import prepare_database
from onward.speed import (
    LEAST,
    NEARLY_S,
    QUIET_S,
    read_slowed,
    slow_down,
    speed_at,
    speed_now,
)
from onward.testing import Clock

LIVE, BACKFILL = True, False


@pytest.fixture(scope="module")
def kept() -> Iterator[Database]:
    """A database in memory; every test uses another rate key."""
    opened = Database("sqlite://")
    prepare_database(opened)
    yield opened
    opened.close()


def look(
    limiter: Limiter, windows: Sequence[Window], calls: int, now: datetime
) -> timedelta | None:
    """Ask without taking."""
    with limiter._database.read() as transaction:
        return limiter.look(transaction, windows, calls, now)


def slow(database: Database, key: str, clock: Clock, rest: float = 2) -> bool:
    """Let the service say that we are too fast."""
    until = clock() + timedelta(seconds=rest)
    with database.write() as transaction:
        return slow_down(transaction, key, clock(), until)


def stored(database: Database, key: str) -> dict[str, Any]:
    """Return the part of a row's key after the rate key → the row."""
    with database.read() as transaction:
        found = transaction.execute(select(rows)).mappings().all()
    mine = [row for row in found if row["key"].startswith(f"{key}|")]
    return {row["key"].removeprefix(f"{key}|"): row for row in mine}


def spend(
    limiter: Limiter, windows: Sequence[Window], clock: Clock, *, for_s: float
) -> int:
    """Take as many calls as there are in so many seconds; return how many."""
    end, made = clock() + timedelta(seconds=for_s), 0
    while clock() < end:
        wait = limiter.take(windows, 1, clock())
        if wait is None:
            made += 1
        else:
            clock.tick(min(wait, end - clock()))
    return made


def most_in_a_window(moments: Sequence[datetime], window: timedelta) -> int:
    """Return the largest number of calls in any span of that length."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


# A few windows at once, as services have them; small ones, so that they bite.
limits = st.lists(
    st.builds(
        Limit,
        st.integers(1, 40),
        st.sampled_from([second, 10 * second, minute, 10 * minute]),
    ),
    min_size=1,
    max_size=3,
)
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 0.001, 0.3, 1, 7, 40]),
        st.integers(0, 2),
        st.booleans(),
        # Now and then the service says that we are too fast.
        st.sampled_from([False] * 9 + [True]),
    ),
    min_size=1,
    max_size=120,
)
keys = iter(range(10**9))


@given(limits=limits, steps=steps)
def test_no_window_ever_sees_more_calls_than_its_limit(
    kept: Database, limits: list[Limit], steps: list[tuple[float, int, bool, bool]]
) -> None:
    """Whoever asks when, live or back-fill, in one process or in several.

    Slowed down or not; and a back-fill alone never has more than 70 % of a window.
    """
    workers = [Limiter(kept), Limiter(kept), Limiter(kept)]
    clock = Clock()
    key = f"any span {next(keys)}"
    made: list[tuple[datetime, bool]] = []

    for pause, worker, live, too_fast in steps:
        clock.tick(pause)
        if too_fast:
            slow(kept, key, clock)
        windows = windows_for(key, limits, live=live)
        wait = workers[worker].take(windows, 1, clock())
        if wait is None:
            made.append((clock(), live))
        elif pause:
            clock.tick(wait)

    for limit in limits:
        everything = [moment for moment, _ in made]
        backfill = [moment for moment, live in made if not live]
        assert most_in_a_window(everything, limit.per) <= limit.calls
        assert most_in_a_window(backfill, limit.per) <= max(1, limit.calls * 0.7)


@given(limits=limits, calls=st.integers(1, 30))
def test_a_wait_is_long_enough_and_what_is_seen_is_granted(
    kept: Database, limits: list[Limit], calls: int
) -> None:
    """After the wait that was named the call is granted; a look takes nothing."""
    limiter = Limiter(kept)
    clock = Clock()
    windows = windows_for(f"waits {next(keys)}", limits, live=LIVE)

    for _ in range(calls):
        seen = look(limiter, windows, 1, clock())
        assert look(limiter, windows, 1, clock()) == seen
        wait = limiter.take(windows, 1, clock())
        assert (wait is None) == (seen is None)
        if wait is not None:
            clock.tick(wait + timedelta(microseconds=1_000))
            assert limiter.take(windows, 1, clock()) is None


def test_the_whole_limit_can_be_used(database: Database) -> None:
    """A worker that only waits as told makes as many calls as the service allows."""
    limiter, clock = Limiter(database), Clock()
    windows = windows_for("all", [Limit(60, per=minute)], live=LIVE)
    start = clock()
    made: list[datetime] = []

    while clock() - start < 10 * minute:
        wait = limiter.take(windows, 1, clock())
        if wait is None:
            made.append(clock())
        else:
            clock.tick(wait)

    at_once = sum(moment == start for moment in made)
    assert at_once == 15
    assert 460 <= len(made) <= 600
    assert most_in_a_window(made, minute) <= 60


def test_a_call_needs_room_in_every_window(database: Database) -> None:
    """When one window is full, nothing is taken from the others either."""
    limiter, clock = Limiter(database), Clock()
    daily = windows_for("both", [Limit(4, per=day)], live=LIVE)
    both = windows_for("both", [Limit(4, per=day), Limit(1, per=minute)], live=LIVE)
    assert limiter.take(both, 1, clock()) is None

    for _ in range(10):
        assert limiter.take(both, 1, clock()) is not None

    clock.tick(day / 4 + timedelta(milliseconds=1))
    assert limiter.take(daily, 1, clock()) is None


def test_backfill_leaves_room_for_live_events(database: Database) -> None:
    """When back-fill has had its 70 %, a live event goes at once."""
    limiter, clock = Limiter(database), Clock()
    limits = [Limit(40, per=minute)]
    live, backfill = (windows_for("shares", limits, live=one) for one in (True, False))

    granted = 0
    while limiter.take(backfill, 1, clock()) is None:
        granted += 1

    assert granted == 7
    assert [limiter.take(live, 1, clock()) for _ in range(3)] == [None, None, None]
    assert limiter.take(live, 1, clock()) is not None


def test_more_than_a_burst_is_seen_as_a_burst(database: Database) -> None:
    """A batch that needs more calls than ever go at once may begin all the same."""
    limiter, clock = Limiter(database), Clock()
    windows = windows_for("burst", [Limit(8, per=minute)], live=LIVE)

    assert look(limiter, windows, 50, clock()) is None
    assert limiter.take(windows, 1, clock()) is None
    assert look(limiter, windows, 50, clock()) is not None
    assert look(limiter, (), 50, clock()) is None


def test_rows_that_somebody_removed_are_made_again(database: Database) -> None:
    """A clean-up of the table stops nobody."""
    limiter, clock = Limiter(database), Clock()
    windows = windows_for("gone", [Limit(4, per=minute)], live=LIVE)
    assert limiter.take(windows, 1, clock()) is None
    with database.write() as transaction:
        transaction.execute(delete(rows))

    assert limiter.take(windows, 1, clock()) is not None
    assert limiter.take(windows, 1, clock()) is None


@pytest.mark.parametrize(
    ("glob", "path", "counts"),
    [
        ("", "/anything", True),
        ("/import*", "/import/7", True),
        ("/import*", "/people", False),
        ("*/import", "/v1/import", True),
    ],
)
def test_a_limit_of_a_path_counts_that_path(
    glob: str, path: str, *, counts: bool
) -> None:
    """Requests to other paths are not counted by it."""
    [window] = windows_for("key", [Limit(5, per=second, path=glob)], live=LIVE)

    assert applies(window, path) == counts


def test_a_limit_of_a_path_holds_beside_the_others(database: Database) -> None:
    """What a path has used up stops that path only, and its calls count for all."""
    limiter, clock = Limiter(database), Clock()
    limits = [Limit(40, per=minute), Limit(4, per=minute, path="/import*")]
    windows = windows_for("paths", limits, live=LIVE)
    imports = [window for window in windows if applies(window, "/import/7")]
    others = [window for window in windows if applies(window, "/people")]

    assert limiter.take(imports, 1, clock()) is None
    assert limiter.take(imports, 1, clock()) is not None
    assert [limiter.take(others, 1, clock()) for _ in range(9)] == [None] * 9
    assert limiter.take(others, 1, clock()) is not None


# -- calls counted


def test_calls_of_the_day_are_counted_from_midnight_of_the_zone(
    database: Database,
) -> None:
    """A day begins at midnight where the operator lives; a minute with the minute."""
    limiter, clock = Limiter(database, "America/New_York"), Clock()
    clock.now = datetime(2026, 3, 5, 4, 59, 58, tzinfo=UTC)
    windows = windows_for(
        "day", [Limit(600, per=day), Limit(60, per=minute)], live=LIVE
    )

    def used() -> list[int]:
        found = stored(database, "day")
        return [found[f"{name}|all"]["used"] for name in ("600/86400", "60/60")]

    for _ in range(3):
        assert limiter.take(windows, 1, clock()) is None
    assert used() == [3, 3]
    clock.tick(3)
    assert limiter.take(windows, 2, clock()) is None
    assert used() == [2, 2]
    clock.tick(minute)
    assert limiter.take(windows, 1, clock()) is None
    assert used() == [3, 1]
    since = stored(database, "day")["600/86400|all"]["since"]
    assert datetime.fromtimestamp(since, UTC) == datetime(2026, 3, 5, 5, tzinfo=UTC)


def test_a_refused_call_is_not_counted(database: Database) -> None:
    """Neither in the window that is full nor in the others."""
    limiter, clock = Limiter(database), Clock()
    windows = windows_for(
        "count", [Limit(4, per=minute), Limit(90, per=day)], live=False
    )
    assert limiter.take(windows, 1, clock()) is None

    assert limiter.take(windows, 1, clock()) is not None

    assert {row["used"] for row in stored(database, "count").values()} == {1}


def test_a_call_is_one_statement_for_each_row(database: Database) -> None:
    """Counting and the speed cost no further statement."""
    seen: list[str] = []
    limiter, clock = Limiter(database), Clock()
    windows = windows_for(
        "cost", [Limit(90, per=minute), Limit(900, per=day)], live=LIVE
    )
    assert limiter.take(windows, 1, clock()) is None
    with database.write(lasting=False) as connection:
        engine = connection.engine
    listen(engine, "before_cursor_execute", lambda *given: seen.append(given[2]))

    assert limiter.take(windows, 1, clock()) is None

    assert [statement.split()[0] for statement in seen] == ["UPDATE", "UPDATE"]


# -- the speed


def test_half_the_speed_and_back_within_an_hour(database: Database) -> None:
    """Half at once, nearly all soon, then slowly, and everything after an hour."""
    limiter, clock = Limiter(database), Clock()
    windows = windows_for("speed", [Limit(60, per=minute)], live=LIVE)

    def steady() -> int:
        spend(limiter, windows, clock, for_s=0.01)  # what may go at once
        return spend(limiter, windows, clock, for_s=30)

    full = steady()
    assert slow(database, "speed", clock, rest=0)
    half = steady()
    clock.tick(NEARLY_S - 30)
    nearly = steady()
    clock.tick(QUIET_S)
    again = steady()

    assert full == again == 23
    # It has begun to rise again.
    assert full / 2 - 1 <= half <= full * 0.75
    assert full * 0.95 - 2 <= nearly < full


def test_the_speed_goes_down_once_per_rest(database: Database) -> None:
    """What was on its way when the service said so does not count again."""
    limiter, clock = Limiter(database), Clock()
    windows = windows_for("once", [Limit(60, per=minute)], live=LIVE)
    assert limiter.take(windows, 1, clock()) is None

    def share() -> float:
        with database.read() as transaction:
            slowed = read_slowed(transaction, "once", clock())
        return slowed.share if slowed else 1

    assert slow(database, "once", clock)
    clock.tick(1)
    assert not slow(database, "once", clock)
    assert share() == 0.5
    for down in (0.25, 0.125, LEAST, LEAST):
        clock.tick(1)
        assert slow(database, "once", clock, rest=1)
        assert share() == down
    clock.tick(1 + QUIET_S)
    assert share() == 1


def test_the_speed_is_of_one_rate_key(database: Database) -> None:
    """Another account goes on as before, also one whose name begins the same."""
    limiter, clock = Limiter(database), Clock()
    for key in ("acme", "acme|7", "acme2"):
        assert (
            limiter.take(
                windows_for(key, [Limit(9, per=minute)], live=LIVE), 1, clock()
            )
            is None
        )

    assert slow(database, "acme", clock)

    with database.read() as transaction:
        slowed = [
            read_slowed(transaction, key, clock())
            for key in ("acme", "acme|7", "acme2")
        ]
    assert [one is not None for one in slowed] == [True, False, False]


def test_a_day_is_not_slowed_for_a_minute(database: Database) -> None:
    """A daily limit stays as it is; where there is no other, it is the one slowed."""
    limiter, clock = Limiter(database), Clock()
    both = [Limit(60, per=minute), Limit(6_000, per=day)]
    for key, limits in (("both", both), ("daily", both[1:])):
        assert limiter.take(windows_for(key, limits, live=LIVE), 1, clock()) is None

        assert slow(database, key, clock)

    assert {name: row["speed"] for name, row in stored(database, "both").items()} == {
        "60/60|all": 0.5,
        "6000/86400|all": 1,
    }
    assert stored(database, "daily")["6000/86400|all"]["speed"] == 0.5


@given(
    stored_speed=st.floats(LEAST, 0.5),
    moments=st.lists(st.floats(-10, QUIET_S * 1.2), min_size=2, max_size=6),
)
def test_the_speed_only_rises_and_sql_agrees(
    kept: Database, stored_speed: float, moments: list[float]
) -> None:
    """The curve in SQL is the one in Python, never falls and ends at all of it."""
    moments = [1_000_000.0 + moment for moment in sorted(moments)]
    with kept.write() as transaction:
        transaction.execute(delete(rows))
        transaction.execute(
            insert(rows), {"key": "c", "speed": stored_speed, "changed": 1_000_000.0}
        )
        in_sql = [
            transaction.execute(select(speed_now(literal(moment)))).scalar_one()
            for moment in moments
        ]

    here = [speed_at(stored_speed, 1_000_000.0, moment) for moment in moments]

    assert in_sql == pytest.approx(here)
    assert here == sorted(here)
    assert all(LEAST <= share <= 1 for share in here)
    assert speed_at(stored_speed, 1_000_000.0, 1_000_000.0 + QUIET_S) == 1


@pytest.mark.parametrize("allowed", [10, 20, 30])
def test_a_service_that_allows_less_than_it_says(kept: Database, allowed: int) -> None:
    """Told 60 a minute and allowed a third: few refusals, little lost.

    Without adapting, the same run is refused a hundred times as often.
    """
    adapting, stubborn = (
        against(kept, f"less {allowed} {adapt}", allowed, adapt=adapt)
        for adapt in (True, False)
    )

    made, refused = adapting
    assert sum(moment >= 60 for moment in made) >= 0.8 * allowed * 120
    # The first hour looks for what it bears; then it is nearly known.
    assert sum(moment >= 60 for moment in refused) / 2 <= 5
    assert sum(moment < 60 for moment in refused) <= 10
    assert len(stubborn[1]) >= 30 * len(refused)


def against(
    database: Database, key: str, allowed: int, *, adapt: bool
) -> tuple[list[float], list[float]]:
    """Spend three hours with a service; return minutes of calls made and refused."""
    limiter, clock = Limiter(database), Clock()
    windows = windows_for(key, [Limit(60, per=minute)], live=LIVE)
    start, rests = clock(), 0
    made: list[float] = []
    refused: list[float] = []
    while (passed := (clock() - start) / minute) < 180:
        wait = limiter.take(windows, 1, clock())
        if wait is not None:
            clock.tick(wait)
        elif len(made) < allowed or passed - made[-allowed] >= 1:
            made.append(passed)
            rests = 0
        else:
            refused.append(passed)
            rest = rest_for(rests).total_seconds()
            rests += 1
            if adapt:
                slow(database, key, clock, rest)
            clock.tick(rest)
    return made, refused
