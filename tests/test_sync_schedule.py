"""When a connection is pulled next."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.config.model import PullConfig
from onward.sync.schedule import next_run, sentence

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
AMSTERDAM = "Europe/Amsterdam"
# Connected on Monday 2026-03-02 at 14:25:36 in Amsterdam (UTC+1).
CONNECTED = datetime(2026, 3, 2, 13, 25, 36, tzinfo=UTC)
ZONES = [
    "UTC",
    AMSTERDAM,  # an hour, at 02:00 and 03:00
    "America/New_York",  # the same, the other side of UTC
    "America/Sao_Paulo",  # until 2019 at midnight
    "Australia/Lord_Howe",  # half an hour
    "Africa/Casablanca",  # an hour less in Ramadan
    "Asia/Gaza",  # other rules each year
    "Pacific/Apia",  # had no 2011-12-30
]


def utc(text: str) -> datetime:
    """Return a moment written without its zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def daily(at: str = "", timezone: str = "", *, days: int = 1) -> PullConfig:
    """Return a schedule of whole days."""
    return PullConfig(every=days * DAY, at=at, timezone=timezone)


def runs(
    pull: PullConfig, after: datetime, until: datetime, anchor: datetime = CONNECTED
) -> list[datetime]:
    """Return every run after a moment, up to another."""
    found: list[datetime] = []
    while (moment := next_run(pull, anchor, after, "UTC")) and moment <= until:
        found.append(moment)
        after = moment
    return found


def test_never_has_no_next_run() -> None:
    """A connection that is not pulled has no next run, and says so."""
    pull = PullConfig(every=None)

    assert next_run(pull, CONNECTED, CONNECTED, "UTC") is None
    assert sentence(pull, CONNECTED, "UTC") == "never"


@pytest.mark.parametrize(
    ("at", "zone", "after", "expected"),
    [
        # 14:25 of the connecting, seconds dropped: UTC+1 until the 29th of March …
        ("", AMSTERDAM, "2026-03-02 13:25:36", "2026-03-03 13:25"),
        # … strictly after: the moment itself is over
        ("", AMSTERDAM, "2026-03-03 13:25", "2026-03-04 13:25"),
        # … and UTC+2 from then on, so that it stays 14:25 there
        ("", AMSTERDAM, "2026-03-28 13:25", "2026-03-29 12:25"),
        # connected at 13:25 by the clock of [onward]
        ("", "", "2026-03-28 13:25", "2026-03-29 13:25"),
        # today's is still to come: 03:30 is 02:30 UTC
        ("03:30", AMSTERDAM, "2026-03-03 02:29", "2026-03-03 02:30"),
        ("03:30", AMSTERDAM, "2026-03-03 02:31", "2026-03-04 02:30"),
        # spring, 02:00 to 03:00 does not exist: 03:00 UTC+2 is 01:00 UTC
        ("02:30", AMSTERDAM, "2026-03-28 12:00", "2026-03-29 01:00"),
        ("02:30", AMSTERDAM, "2026-03-29 01:00", "2026-03-30 00:30"),
        ("02:00", AMSTERDAM, "2026-03-28 12:00", "2026-03-29 01:00"),
        ("03:00", AMSTERDAM, "2026-03-28 12:00", "2026-03-29 01:00"),
        # autumn, 02:30 comes twice: the first is UTC+2, the second is no run
        ("02:30", AMSTERDAM, "2026-10-24 12:00", "2026-10-25 00:30"),
        ("02:30", AMSTERDAM, "2026-10-25 00:30", "2026-10-26 01:30"),
        # half an hour, 02:00 to 02:30 missing: 02:30 UTC+11 is 15:30 UTC the day before
        ("02:10", "Australia/Lord_Howe", "2026-10-03 12:00", "2026-10-03 15:30"),
        # 01:30 to 02:00 twice: the first is UTC+11
        ("01:45", "Australia/Lord_Howe", "2026-04-04 12:00", "2026-04-04 14:45"),
        # the 29th at 03:30, UTC-10, is 13:30 UTC; the 31st, UTC+14, a day later
        ("03:30", "Pacific/Apia", "2011-12-29 13:30", "2011-12-30 13:30"),
        # midnight did not exist: 01:00 UTC-2 is 03:00 UTC
        ("00:00", "America/Sao_Paulo", "2018-11-03 12:00", "2018-11-04 03:00"),
        # 23:00 to midnight is missing: the next minute is tomorrow's first, UTC-1
        ("23:30", "America/Nuuk", "2024-03-30 12:00", "2024-03-31 01:00"),
        ("23:30", "America/Nuuk", "2024-03-31 01:00", "2024-04-01 00:30"),
    ],
)
def test_daily(at: str, zone: str, after: str, expected: str) -> None:
    """A day's run is at the same time of day, or the next minute there is."""
    assert next_run(daily(at, zone), CONNECTED, utc(after), "UTC") == utc(expected)


@pytest.mark.parametrize(
    ("every", "at", "after", "expected"),
    [
        # every other day from the 2nd of March: 4, 6, 8 …
        (2 * DAY, "03:30", "2026-03-03 12:00", "2026-03-04 02:30"),
        # … 28, 30: a day with 23 hours is one day; UTC+2 then
        (2 * DAY, "03:30", "2026-03-28 02:30", "2026-03-30 01:30"),
        # the day of the connecting counts, were it asked of
        (2 * DAY, "23:00", "2026-03-02 13:30", "2026-03-02 22:00"),
        # Mondays
        (7 * DAY, "03:30", "2026-03-03 12:00", "2026-03-09 02:30"),
        (7 * DAY, "", "2026-03-24 00:00", "2026-03-30 12:25"),
        # on the clock of the wall, backwards and forwards from 03:30: 21:30 UTC+1
        (6 * HOUR, "03:30", "2026-03-03 20:29", "2026-03-03 20:30"),
        # 03:30 UTC+2 after the hour that is missing
        (6 * HOUR, "03:30", "2026-03-28 20:30", "2026-03-29 01:30"),
        # half hours: 02:15 and 02:45 do not exist and are one run at 03:00 UTC+2
        (HOUR / 2, "00:15", "2026-03-29 00:45", "2026-03-29 01:00"),
        (HOUR / 2, "00:15", "2026-03-29 01:00", "2026-03-29 01:15"),
        # 02:15 and 02:45 UTC+2, then 03:15 UTC+1: none in the hour that is repeated
        (HOUR / 2, "00:15", "2026-10-25 00:45", "2026-10-25 02:15"),
        # elapsed: 13:25:36 and 4 times 6 hours a day, whatever clocks do
        (6 * HOUR, "", "2026-03-02 13:25:36", "2026-03-02 19:25:36"),
        (6 * HOUR, "", "2026-03-29 01:00", "2026-03-29 01:25:36"),
        # 36 hours do not divide a day: elapsed since 03:30, 02:30 UTC, of that day
        (36 * HOUR, "03:30", "2026-03-02 13:25:36", "2026-03-03 14:30"),
        (36 * HOUR, "03:30", "2026-03-03 14:30", "2026-03-05 02:30"),
    ],
)
def test_other_intervals(every: timedelta, at: str, after: str, expected: str) -> None:
    """Days are of the calendar, divisions of a day of the clock, the rest elapses."""
    pull = PullConfig(every=every, at=at, timezone=AMSTERDAM)

    assert next_run(pull, CONNECTED, utc(after), "UTC") == utc(expected)


def test_what_was_missed_is_one_run() -> None:
    """After weeks of standstill the next run is the next one, not the missed ones."""
    now = utc("2026-05-20 09:00")

    missed = next_run(daily("03:30"), CONNECTED, CONNECTED, AMSTERDAM)

    assert missed == utc("2026-03-03 02:30")  # over: run at once …
    # … and 03:30 UTC+2 the day after, when that run ends
    following = next_run(daily("03:30"), CONNECTED, now, AMSTERDAM)
    assert following == utc("2026-05-21 01:30")


@pytest.mark.parametrize(
    ("pull", "expected"),
    [
        (daily("03:30", AMSTERDAM), "daily at 03:30 Europe/Amsterdam"),
        (daily(timezone=AMSTERDAM), "daily at 14:25 Europe/Amsterdam"),
        (daily(), "daily at 13:25 UTC"),
        (daily("03:30", days=2), "every 2 days at 03:30 UTC"),
        (daily("03:30", days=7), "weekly on Monday at 03:30 UTC"),
        (daily("03:30", days=14), "every 2 weeks on Monday at 03:30 UTC"),
        (PullConfig(every=6 * HOUR), "every 6 hours"),
        (PullConfig(every=HOUR), "every hour"),
        (PullConfig(every=90 * MINUTE), "every 90 minutes"),
        (PullConfig(every=timedelta(seconds=330)), "every 330 seconds"),
        (
            PullConfig(every=6 * HOUR, at="03:30"),
            "every 6 hours, counted from 03:30 UTC",
        ),
    ],
)
def test_sentence(pull: PullConfig, expected: str) -> None:
    """A schedule is told in words, with its zone."""
    assert sentence(pull, CONNECTED, "UTC") == expected


moments = st.integers(0, 40 * 365 * 24 * 60 * 60).map(
    lambda seconds: datetime(1996, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
times = st.times().map(lambda one: f"{one:%H:%M}")
intervals = st.one_of(
    st.integers(1, 30).map(lambda n: n * DAY),
    st.sampled_from([HOUR / 4, HOUR, 6 * HOUR, 12 * HOUR]),
    st.integers(300, 10**6).map(lambda n: timedelta(seconds=n)),
)
schedules = st.builds(
    PullConfig,
    every=intervals,
    at=times | st.just(""),
    timezone=st.sampled_from(ZONES),
)


@given(schedules, moments, moments, st.floats(0, 1, exclude_max=True))
def test_it_is_the_first_strictly_after(
    pull: PullConfig, anchor: datetime, after: datetime, share: float
) -> None:
    """The next run is after the moment, and the same when asked at any time before."""
    found = next_run(pull, anchor, after, "UTC")

    assert found is not None
    assert found.tzinfo is UTC
    assert found > after
    between = min(after + (found - after) * share, found - timedelta.resolution)
    assert next_run(pull, anchor, between, "UTC") == found
    # Never far: a day left out, and a clock that was set.
    assert pull.every is not None
    assert found - after <= pull.every + 2 * DAY


@given(schedules, moments, st.lists(moments, min_size=2, max_size=8))
def test_it_never_goes_back(
    pull: PullConfig, anchor: datetime, asked: list[datetime]
) -> None:
    """Whoever asks later is told the same or a later run."""
    found = [next_run(pull, anchor, moment, "UTC") for moment in sorted(asked)]

    assert found == sorted(one for one in found if one)


@cache
def days_of(zone: ZoneInfo, year: int) -> list[date]:
    """Return the days a year had: each that some moment of it belongs to."""
    start = datetime(year, 1, 1, 0, 15, tzinfo=UTC)
    moments = (start + half * DAY / 48 for half in range(48 * 365))
    return sorted({moment.astimezone(zone).date() for moment in moments})[1:-1]


@pytest.mark.parametrize("zone", ZONES)
@given(at=times, year=st.sampled_from([2011, 2018, 2023, 2026]))
def test_each_day_has_one_run(zone: str, at: str, year: int) -> None:
    """Over a year each day has one run, the first minute not before its time."""
    local = ZoneInfo(zone)
    days = days_of(local, year)
    begin = datetime.combine(days[0], time.min, local).astimezone(UTC)
    end = datetime.combine(days[-1], time(23, 59), local).astimezone(UTC)

    found = runs(daily(at, zone), begin - timedelta.resolution, end)

    assert [moment.astimezone(local).date() for moment in found] == days
    for moment, day in zip(found, days, strict=True):
        wished = datetime.combine(day, time.fromisoformat(at))
        shown = moment.astimezone(local).replace(tzinfo=None)
        before = (moment - MINUTE).astimezone(local).replace(tzinfo=None)
        # Late only where the clock jumped over it; of two the first.
        assert shown == wished or before < wished < shown
        assert moment.astimezone(local).fold == 0


@pytest.mark.parametrize("zone", [AMSTERDAM, "Australia/Lord_Howe", "Pacific/Apia"])
@given(at=times, days=st.integers(2, 9), anchor=moments)
def test_every_few_days_stay_that_many_apart(
    zone: str, at: str, days: int, anchor: datetime
) -> None:
    """Runs are that many days of the calendar apart, and count from the first day."""
    local = ZoneInfo(zone)
    found = runs(daily(at, zone, days=days), anchor, anchor + 200 * DAY, anchor=anchor)
    dates = [moment.astimezone(local).date() for moment in found]

    assert len(dates) >= 200 // days - 1
    first = anchor.astimezone(local).date()
    assert {(one - first).days % days for one in dates} == {0}
    assert all(
        (b - a).days == days or date(2011, 12, 30) - a == days * DAY
        for a, b in pairwise(dates)
    )
