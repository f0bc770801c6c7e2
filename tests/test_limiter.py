"""Calls in time: never more than the limit in any span as long as its window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.contract import Limit, day, minute, second
from onward.database import Database
from onward.limiter import Limiter, Window, applies, windows_for
from onward.migrate import prepare_database
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
        st.integers(0, 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=120,
)
keys = iter(range(10**9))


@given(limits=limits, steps=steps)
def test_no_window_ever_sees_more_calls_than_its_limit(
    kept: Database, limits: list[Limit], steps: list[tuple[float, int, bool]]
) -> None:
    """Whoever asks when, live or back-fill, in one process or in several.

    And a back-fill alone never has more than 70 % of a window.
    """
    workers = [Limiter(kept), Limiter(kept)]
    clock = Clock()
    key = f"any span {next(keys)}"
    made: list[tuple[datetime, bool]] = []

    for pause, worker, live in steps:
        clock.tick(pause)
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
    from sqlalchemy import delete

    from onward.models import Limiter as Row
    from onward.models import table

    limiter, clock = Limiter(database), Clock()
    windows = windows_for("gone", [Limit(4, per=minute)], live=LIVE)
    assert limiter.take(windows, 1, clock()) is None
    with database.write() as transaction:
        transaction.execute(delete(table(Row)))

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
