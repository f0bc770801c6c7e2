"""A trigger reaches contacts that have the points already, each once."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from onward import signals
from onward.database import Database
from onward.delivery.lease import take
from onward.errors import InputError
from onward.events.apply import Applied, apply_trigger, cancel_trigger
from onward.models import Cause, Claim, Contact, Job, Push, table
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import AtOnce, Blocked, MakeApp

LEASE = timedelta(seconds=60)
TOML = """
[connections.news]
integration = "icontact"
[[point_triggers]]
key = "hot"
points = 100
push_to = ["news"]
add_to = ["Hot leads"]
[[point_triggers]]
key = "off"
points = 1
enabled = false
"""

contacts = table(Contact)
claims = table(Claim)
pushes = table(Push)
causes = table(Cause)
jobs = table(Job)


def fill(database: Database, count: int, points: int = 100) -> None:
    """Put contacts there that have their points already, as another system did."""
    rows = [
        {
            "email": f"p{number}@shop.example",
            "points": points,
            "custom": {},
            "created_at": START,
            "updated_at": START,
        }
        for number in range(count)
    ]
    with database.write() as transaction:
        transaction.execute(insert(contacts), rows)


def fired_for(database: Database) -> Counter[int]:
    """How often each contact was claimed and queued by the trigger."""
    with database.read() as transaction:
        found = transaction.execute(
            select(pushes.c.contact_id).join(causes, causes.c.push_id == pushes.c.id)
        )
        return Counter(found.scalars())


@pytest.fixture
def app(database_url: str, make_app: MakeApp) -> TestApp:
    """Twenty-five contacts with 100 points and three with fewer."""
    made = make_app(TOML, database_url=database_url)
    fill(made.runtime.database, 25)
    fill(made.runtime.database, 3, points=99)
    return made


def test_dry_run_only_counts(app: TestApp) -> None:
    """A dry run says for how many it would fire, and leaves nothing behind."""
    told = apply_trigger(app.runtime, "hot", dry_run=True)

    assert told == Applied("hot", 25, dry_run=True)
    assert str(told) == "hot would fire for 25 contacts"
    assert fired_for(app.runtime.database) == {}
    assert apply_trigger(app.runtime, "hot").fired == 25


def test_everybody_above_is_fired_once(app: TestApp) -> None:
    """It fires once for each contact at or above the points, batch by batch."""
    progress: list[int] = []
    heard: list[signals.PointTriggered] = []

    def hear(_sender: object, event: signals.PointTriggered) -> None:
        heard.append(event)

    with signals.point_triggered.connected_to(hear, app):
        done = apply_trigger(app.runtime, "hot", batch=10, on_progress=progress.append)
    again = apply_trigger(app.runtime, "hot")

    assert done == Applied("hot", 25, 25, 25)
    assert (str(done), progress) == ("hot fired for 25 contacts", [10, 10, 5])
    assert again == Applied("hot", 0, 0, 0)
    fired = fired_for(app.runtime.database)
    assert (len(fired), set(fired.values())) == (25, {1})
    assert sorted(fact.contact_id for fact in heard) == sorted(fired)
    assert {(fact.key, fact.total) for fact in heard} == {("hot", 100)}


def test_its_pushes_wait_behind_live_ones(app: TestApp) -> None:
    """What it queues is a back-fill with the trigger as its cause."""
    apply_trigger(app.runtime, "hot")
    app.add_points(100, email="live@shop.example")

    queued = Counter((row["priority"], *row["causes"]) for row in app.queued)
    assert queued == {(10, ("apply", "hot")): 25, (0, ("trigger", "hot")): 1}


def test_it_adds_to_segments(app: TestApp) -> None:
    """What a trigger adds to segments it adds when it is applied too."""
    apply_trigger(app.runtime, "hot")

    found = [
        contact["segments"] for contact in app.contacts() if contact["points"] == 100
    ]
    assert found == [["Hot leads"]] * 25


def test_who_fired_before_is_left_out(app: TestApp) -> None:
    """Who reached the points live is not fired again, and the other way round."""
    app.add_points(150, email="live@shop.example")

    assert apply_trigger(app.runtime, "hot").fired == 25

    late = app.add_points(1, identities={"visitor": "nobody"})
    assert late.fired == ()
    assert app.add_points(1, email="live@shop.example").fired == ()


def test_merged_contacts_are_left_out(app: TestApp) -> None:
    """A contact that was merged into another is not fired for on its own."""
    app.add_points(60, identities={"visitor": "v"})
    app.add_points(60, email="ana@shop.example")
    app.record_action("seen", email="ana@shop.example", identities={"visitor": "v"})

    assert apply_trigger(app.runtime, "hot").fired == 25


def test_lowered_trigger_reaches_those_between(
    app: TestApp, database_url: str, make_app: MakeApp
) -> None:
    """After a trigger was lowered, applying it reaches those it had passed over."""
    assert apply_trigger(app.runtime, "hot").fired == 25

    lowered = make_app(
        TOML.replace("points = 100", "points = 99"), database_url=database_url
    )

    assert apply_trigger(lowered.runtime, "hot") == Applied("hot", 3, 3, 3)


def test_cancelled_job_stops_at_the_next_batch(app: TestApp) -> None:
    """A running job that is cancelled stops; what it queued stays; it can be redone."""

    def cancel(_done: int) -> None:
        assert cancel_trigger(app.runtime, "hot") is True

    stopped = apply_trigger(app.runtime, "hot", batch=10, on_progress=cancel)

    assert stopped == Applied("hot", 25, 10, 10, cancelled=True)
    assert str(stopped) == (
        "hot was cancelled after 10 of 25 contacts; what was queued stays queued"
    )
    assert cancel_trigger(app.runtime, "hot") is False
    assert len(fired_for(app.runtime.database)) == 10
    assert apply_trigger(app.runtime, "hot") == Applied("hot", 15, 15, 15)


def test_job_that_failed_goes_on_where_it_stopped(app: TestApp) -> None:
    """A job that broke off is resumed: the same row, the rest of the contacts."""

    def fail(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_trigger(app.runtime, "hot", batch=10, on_progress=fail)

    resumed = apply_trigger(app.runtime, "hot", batch=10)

    assert resumed == Applied("hot", 25, 25, 15)
    assert set(fired_for(app.runtime.database).values()) == {1}
    with app.runtime.database.read() as transaction:
        found = transaction.execute(select(jobs.c.state, jobs.c.done)).all()
    assert [tuple(row) for row in found] == [("done", 25)]


def test_resumed_job_reaches_those_it_had_passed(
    app: TestApp, database_url: str, make_app: MakeApp
) -> None:
    """Lowered while it was interrupted, it reaches the ones before its place too."""

    def fail(_done: int) -> None:
        raise KeyboardInterrupt

    fill(app.runtime.database, 1, points=100)  # the last in id order, after the three
    with pytest.raises(KeyboardInterrupt):
        apply_trigger(app.runtime, "hot", batch=26, on_progress=fail)
    lowered = make_app(
        TOML.replace("points = 100", "points = 99"), database_url=database_url
    )

    assert apply_trigger(lowered.runtime, "hot").fired == 3
    assert len(fired_for(app.runtime.database)) == 29


def test_second_process_is_told_to_wait(app: TestApp) -> None:
    """While somebody applies a trigger nobody else can; afterwards it can be."""
    held = take(app.runtime.database, "apply:hot", LEASE, app.clock)
    assert held is not None

    with pytest.raises(InputError) as refused:
        apply_trigger(app.runtime, "hot")

    assert refused.value.message == (
        "the trigger hot is being applied by another process; wait for it, or stop it "
        "with `onward triggers cancel hot`. If that process was killed, this can go on "
        f"at {held.until:%H:%M:%S} UTC at the latest, and at once after the cancel"
    )
    held.release()
    assert apply_trigger(app.runtime, "hot").fired == 25


def test_cancel_ends_the_lease_of_one_that_was_killed(app: TestApp) -> None:
    """After a cancel it starts at once, whoever held the lease; once for each."""

    def killed(_done: int) -> None:
        # The lease is what a killed process leaves behind.
        assert cancel_trigger(app.runtime, "hot") is True
        assert apply_trigger(app.runtime, "hot", batch=10).fired == 15

    first = apply_trigger(app.runtime, "hot", batch=10, on_progress=killed)

    assert (first.fired, first.cancelled) == (10, True)
    assert set(fired_for(app.runtime.database).values()) == {1}
    assert take(app.runtime.database, "apply:hot", LEASE, app.clock) is not None
    assert cancel_trigger(app.runtime, "hot") is True
    assert cancel_trigger(app.runtime, "hot") is False


def test_cancel_of_an_unknown_trigger_is_refused(app: TestApp) -> None:
    """A mistyped key is answered with the known ones, as by apply."""
    with pytest.raises(InputError, match='no point trigger "hit"; there are: hot'):
        cancel_trigger(app.runtime, "hit")

    assert cancel_trigger(app.runtime, "off") is False


def test_process_that_slept_past_its_lease_stops(app: TestApp) -> None:
    """Who was away for longer than the lease, while another went on, stops."""

    def sleep(_done: int) -> None:
        app.clock.tick(LEASE * 2)
        other = take(app.runtime.database, "apply:hot", LEASE, app.clock)
        assert other is not None
        other.release()

    with pytest.raises(InputError, match="another process goes on with the trigger"):
        apply_trigger(app.runtime, "hot", batch=10, on_progress=sleep)

    assert apply_trigger(app.runtime, "hot").fired == 15
    assert set(fired_for(app.runtime.database).values()) == {1}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("warm", 'there is no point trigger "warm"; there are: hot, off'),
        ("off", "the trigger off is switched off; set enabled = true to apply it"),
    ],
)
def test_trigger_that_cannot_be_applied(key: str, message: str, app: TestApp) -> None:
    """A trigger that is unknown or switched off is refused in a sentence."""
    with pytest.raises(InputError) as refused:
        apply_trigger(app.runtime, key)

    assert refused.value.message == message
    assert apply_trigger(app.runtime, "hot").fired == 25


# -- real processes

APPLY = """
from onward.errors import InputError
from onward.events.apply import apply_trigger
import os
try:
    result = apply_trigger(app.runtime, "hot", batch=5).fired
except InputError:
    result = 0
"""
AWARD = """
result = 0
for n in range(60):
    done = app.add_points(1, email=f"p{n}@shop.example")
    result += done.fired == ("hot",)
"""


@pytest.fixture
def shared(database_url: str, tmp_path: Path, make_app: MakeApp) -> TestApp:
    """Sixty contacts that were found by their addresses, and a file for processes."""
    head = f'[onward]\ndatabase_url = "{database_url}"\n'
    (tmp_path / "onward.toml").write_text(head + TOML)
    below = TOML.replace("points = 100", "points = 1000")
    made = make_app(below, database_url=database_url)
    made.record_actions(
        {
            "action": "seen",
            "email": f"p{number}@shop.example",
            "contact": {"points": 100},
        }
        for number in range(60)
    )
    return made


def test_processes_that_apply_and_award_at_once(
    shared: TestApp, at_once: AtOnce
) -> None:
    """Two processes apply while two award points: each contact fires once in all."""
    fired = at_once([APPLY, AWARD, APPLY, AWARD])

    assert sum(fired) == 60
    found = fired_for(shared.runtime.database)
    assert (len(found), set(found.values())) == (60, {1})
    with shared.runtime.database.read() as transaction:
        assert len(transaction.execute(select(claims)).all()) == 60


@pytest.mark.postgres
def test_live_event_that_comes_between(
    postgres_url: str, make_app: MakeApp, blocked: Blocked
) -> None:
    """A contact that fires live while the job waits for it is not fired again."""
    app = make_app(TOML, database_url=postgres_url)
    app.record_actions(
        {"action": "seen", "email": f"p{n}@shop.example", "contact": {"points": 99}}
        for n in range(3)
    )
    lowered = make_app(
        TOML.replace("points = 100", "points = 90"), database_url=postgres_url
    )
    applied: list[Applied] = []

    with Session(lowered.runtime.database.engine) as session:
        live = lowered.add_points(1, email="p1@shop.example", session=session)
        thread = blocked(
            app.runtime.database,
            lambda: applied.append(apply_trigger(lowered.runtime, "hot")),
        )
        session.commit()
    thread.join()

    assert live.fired == ("hot",)
    assert [one.fired for one in applied] == [2]
    assert set(fired_for(app.runtime.database).values()) == {1}


def test_killed_job_is_resumed(shared: TestApp, at_once: AtOnce) -> None:
    """Killed in the middle, the next call does the rest and nobody twice."""
    # The lease of the killed process runs out by itself.
    later = (
        "from datetime import timedelta\n"
        "now = app.runtime.clock\n"
        "app.runtime.clock = lambda: now() + timedelta(minutes=2)\n"
    )
    armed = 'import os\nos.environ["ONWARD_FAILPOINT"] = "after_apply_batch:3"\n'

    assert at_once([armed + APPLY]) == [{"ended": -9}]

    assert len(fired_for(shared.runtime.database)) == 15
    assert at_once([later + APPLY]) == [45]
    found = fired_for(shared.runtime.database)
    assert (len(found), set(found.values())) == (60, {1})


@pytest.mark.slow
def test_memory_is_flat(sqlite_url: str, make_app: MakeApp) -> None:
    """Applying to 20,000 contacts needs no more memory than applying to 2,000."""
    app = make_app(TOML, database_url=sqlite_url)
    peaks: list[int] = []

    for count in (2_000, 20_000):
        fill(app.runtime.database, count)
        tracemalloc.start()
        assert apply_trigger(app.runtime, "hot").fired == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < peaks[0] * 1.5 + 500_000
