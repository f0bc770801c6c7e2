"""A replay by filter: a job that is killed, stopped, gone on with and never doubled."""

from __future__ import annotations

import re
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, func, insert, select, text

from onward.database import Database
from onward.delivery.lease import take
from onward.delivery.listing import Wanted
from onward.delivery.picking import Picker
from onward.errors import InputError
from onward.models import Cause, Contact, Push, table
from onward.replay import interrupted, replay, stop_replay
from onward.replay.judge import REPLAYABLE
from onward.replay.run import LEASE
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import AtOnce, MakeApp

pushes = table(Push)
causes = table(Cause)
contacts = table(Contact)

TOML = """
[connections.news]
integration = "icontact"
[[rules]]
key = "forms"
when = "form.sent"
push_to = ["news"]
"""
FAILED = Wanted(state="failed")


def fill(database: Database, count: int, state: str = "failed") -> None:
    """Put contacts there, each with a push that ended."""
    with database.write() as transaction:
        first = transaction.execute(select(func.max(contacts.c.id))).scalar() or 0
        transaction.execute(
            insert(contacts),
            [
                {
                    "email": f"p{first + number}@shop.example",
                    "points": 0,
                    "custom": {},
                    "created_at": START,
                    "updated_at": START,
                }
                for number in range(count)
            ],
        )
        who = transaction.execute(
            select(contacts.c.id).where(contacts.c.id > first).order_by(contacts.c.id)
        ).scalars()
        made = Push(connection_id=1, contact_id=0, created_at=START).model_dump()
        row = {**made, "state": state, "code": "refused", "finished_at": START}
        del row["id"]
        transaction.execute(
            insert(pushes), [{**row, "contact_id": contact_id} for contact_id in who]
        )


def replays(database: Database) -> Counter[int]:
    """How often each row was replayed."""
    with database.read() as transaction:
        found = select(causes.c.replay_of).where(causes.c.replay_of.is_not(None))
        return Counter(transaction.execute(found).scalars())


@pytest.fixture
def app(database_url: str, make_app: MakeApp) -> TestApp:
    """Twenty-five people, each with a push that failed."""
    made = make_app(TOML, database_url=database_url)
    fill(made.runtime.database, 25)
    return made


def killed(app: TestApp, batches: int = 2, wanted: Wanted = FAILED) -> None:
    """Let a replay end in the middle, as when its process dies."""

    class Dies(Exception):
        """What nobody expects."""

    left = [batches]

    def die(_rows: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise Dies

    with pytest.raises(Dies):
        replay(app.runtime, wanted, batch=5, on_progress=die)


def test_it_goes_on_where_it_stopped(app: TestApp) -> None:
    """The same call does the rest and says how far it is in all."""
    told: list[int] = []
    killed(app)
    job = interrupted(app.runtime)

    done = replay(app.runtime, FAILED, batch=5, on_progress=told.append)

    assert job is not None
    assert (job.wanted, job.done, job.total, job.cursor) == (FAILED, 10, 25, 10)
    assert (done.count, done.looked, done.total, told) == (15, 25, 25, [5, 5, 5])
    assert replays(app.runtime.database) == Counter(range(1, 26))
    assert interrupted(app.runtime) is None


def test_once_it_is_done_nothing_is_replayed_twice(app: TestApp) -> None:
    """The same filter once more finds that all were replayed."""
    assert app.replay(FAILED).count == 25

    again = app.replay(FAILED)

    assert (again.count, again.refused.counts) == (0, {"replayed_already": 25})
    assert len(app.queued) == 25


def test_what_fails_meanwhile_is_not_meant(app: TestApp) -> None:
    """Rows that are queued after it began are none of its business, however it ends."""

    def fail(_rows: int) -> None:
        fill(app.runtime.database, 1)

    done = replay(app.runtime, FAILED, batch=5, on_progress=fail)

    assert (done.count, done.total) == (25, 25)
    assert app.replay(FAILED).count == 5


def test_another_filter_waits_for_the_interrupted_one(app: TestApp) -> None:
    """It is said how far that is; it can be gone on with, or forgotten."""
    killed(app)

    narrower = Wanted(state="failed", code="refused")
    for other, force in ((narrower, False), (FAILED, True)):
        with pytest.raises(InputError, match="interrupted after 10 of 25 rows; `onw"):
            replay(app.runtime, other, force=force)

    assert app.replay([11]).count == 1
    assert stop_replay(app.runtime)
    assert not stop_replay(app.runtime)
    done = app.replay(narrower)
    assert (done.count, done.refused.counts) == (14, {"replayed_already": 11})


def test_moments_survive_an_interruption(app: TestApp) -> None:
    """What `--since 24h` meant at the beginning is what is gone on with."""
    wanted = Wanted(state="failed", since=START)
    killed(app, 1, wanted)
    job = interrupted(app.runtime)

    assert job is not None
    assert job.wanted == wanted
    assert replay(app.runtime, job.wanted).looked == 25
    assert len(app.queued) == 25


def test_two_do_not_run_at_once(app: TestApp) -> None:
    """The second is told so, and what stops the first."""
    held = take(app.runtime.database, "replay", LEASE, app.clock)
    assert held is not None

    with pytest.raises(InputError, match="another process replays now; wait for it, o"):
        app.replay(FAILED)

    held.release()
    assert app.replay(FAILED).count == 25


def test_it_stops_at_the_next_batch(app: TestApp) -> None:
    """What was queued stays queued, and another replay can begin at once."""
    stopped: list[bool] = []

    def stop(_rows: int) -> None:
        stopped.append(stop_replay(app.runtime))

    done = replay(app.runtime, FAILED, batch=10, on_progress=stop)

    assert (done.stopped, done.count, done.looked, stopped) == (True, 10, 10, [True])
    assert app.replay(FAILED).count == 15


def test_one_that_slept_past_its_lease_stops(app: TestApp) -> None:
    """Who was away while another went on queues nothing more."""

    def sleep(_rows: int) -> None:
        app.clock.tick(LEASE * 2)
        assert replay(app.runtime, FAILED, batch=10).count == 15

    with pytest.raises(InputError, match="another process goes on with this replay"):
        replay(app.runtime, FAILED, batch=10, on_progress=sleep)

    assert replays(app.runtime.database) == Counter(range(1, 26))


def test_a_late_batch_of_a_lost_job_queues_nothing(app: TestApp) -> None:
    """Where the lease was lost while a batch was being written, the cursor refuses."""
    began = threading.Event()

    def steal(_rows: int) -> None:
        if not began.is_set():
            began.set()
            # As if it had been renewed a moment before the other took over.
            with app.runtime.database.write() as transaction:
                moved = text("UPDATE job SET \"cursor\" = 20 WHERE kind = 'replay'")
                transaction.execute(moved)

    with pytest.raises(InputError, match="another process goes on with this replay"):
        replay(app.runtime, FAILED, batch=10, on_progress=steal)

    assert len(app.queued) == 10
    assert replay(app.runtime, FAILED).count == 5


# -- real processes

REPLAY = """
from onward.delivery.listing import Wanted
from onward.errors import InputError
from onward.replay import replay
try:
    result = replay(app.runtime, Wanted(state="failed"), batch=5).count
except InputError:
    result = 0
"""
FIRE = """
for n in range(60):
    app.record_action("form.sent", email=f"p{n}@shop.example")
"""
NAMED = """
result = sum(app.replay([id_]).count for id_ in range(1, 61))
"""


@pytest.fixture
def shared(database_url: str, tmp_path: Path, make_app: MakeApp) -> TestApp:
    """Sixty people who can be found by address, each with a push that failed."""
    head = f'[onward]\ndatabase_url = "{database_url}"\n'
    (tmp_path / "onward.toml").write_text(head + TOML)
    made = make_app(TOML, database_url=database_url)
    made.record_actions(
        {"action": "form.sent", "email": f"p{number}@shop.example"}
        for number in range(60)
    )
    with made.runtime.database.write() as transaction:
        transaction.execute(
            pushes.update().values(state="failed", code="refused", finished_at=START)
        )
    return made


def test_killed_in_the_middle_each_row_goes_once(
    shared: TestApp, at_once: AtOnce
) -> None:
    """Kill -9 between two batches: the next call goes on, nobody is queued twice."""
    # The lease of the killed process runs out by itself.
    later = (
        "from datetime import timedelta\n"
        "now = app.runtime.clock\n"
        "app.runtime.clock = lambda: now() + timedelta(minutes=2)\n"
    )
    armed = 'import os\nos.environ["ONWARD_FAILPOINT"] = "after_replay_batch:3"\n'

    assert at_once([armed + REPLAY]) == [{"ended": -9}]

    assert len(shared.queued) == 15
    assert at_once([REPLAY]) == [0]
    assert at_once([later + REPLAY]) == [45]
    assert len(shared.queued) == 60
    assert replays(shared.runtime.database) == Counter(range(1, 61))


def test_processes_that_replay_and_fire_at_once(
    shared: TestApp, at_once: AtOnce
) -> None:
    """In bulk, singly and by events at the same moment: one open row each."""
    results = at_once([REPLAY, FIRE, NAMED, REPLAY, CLAIM])

    assert results[2] is not None
    open_rows = shared.queued
    assert sorted(row["contact_id"] for row in open_rows) == list(range(1, 61))
    # Whoever came second found it waiting; none was replayed twice.
    assert max(replays(shared.runtime.database).values(), default=1) == 1
    kinds = {kind for row in open_rows for kind, _ in row["causes"]}
    assert "rule" in kinds


CLAIM = """
from onward.delivery.claiming import claim
from onward.delivery.settling import put_back
run, now = app.runtime.database.run, app.runtime.clock
for turn in range(40):
    rows = run(lambda t: claim(t, 1, "?", 1, now(), 7, 10))
    run(lambda t: put_back(t, [row.id for row in rows], 1))
"""


@pytest.mark.postgres
def test_replays_and_events_in_another_order_do_not_deadlock(
    postgres_url: str, make_app: MakeApp, tmp_path: Path, at_once: AtOnce
) -> None:
    """Batches hold contacts in the order of their numbers, as events do."""
    head = f'[onward]\ndatabase_url = "{postgres_url}"\n'
    (tmp_path / "onward.toml").write_text(head + TOML)
    app = make_app(TOML, database_url=postgres_url)
    app.record_actions(
        {"action": "form.sent", "email": f"p{number}@shop.example"}
        for number in range(40)
    )
    with app.runtime.database.write() as transaction:
        transaction.execute(
            pushes.update().values(state="failed", code="refused", finished_at=START)
        )
    fires = """
from sqlalchemy.exc import DBAPIError
app.runtime.database.run  # opened
import onward.database
onward.database.REPEATS = 0  # a deadlock is an error here
people = [f"p{n}@shop.example" for n in (range(40) if number else range(39, -1, -1))]
for turn in range(5):
    app.record_actions({"action": "form.sent", "email": one} for one in people)
"""
    replaying = """
import onward.database
onward.database.REPEATS = 0
from onward.delivery.listing import Wanted
from onward.delivery.cancel import cancel
from onward.replay import replay
for turn in range(5):
    replay(app.runtime, Wanted(state="failed"), batch=7)
    cancel(app.runtime, Wanted(state="waiting"), batch=7)
    replay(app.runtime, Wanted(state="cancelled"), batch=7)
"""

    at_once([fires, fires, replaying])

    places = Counter(row["contact_id"] for row in app.queued)
    assert max(places.values(), default=1) == 1


# -- at any size


def plans(database: Database, wanted: Wanted) -> list[str]:
    """Return how the database finds a page of each state."""
    word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    with database.read() as transaction:
        picker = Picker(transaction, wanted, REPLAYABLE)
        found: list[str] = []
        for page in picker.pages:
            written = page.params(after=5_000, newest=10**9, size=500).compile(
                database.engine, compile_kwargs={"literal_binds": True}
            )
            rows = transaction.exec_driver_sql(f"{word} {written}")
            found.append("\n".join(str(row[-1]) for row in rows))
    return found


FILTERS = (
    FAILED,
    Wanted(state="failed", code="refused"),
    Wanted(code="refused"),
    Wanted(connection="news"),
    Wanted(state="failed", connection="news"),
    Wanted(state="failed", connection="news", since=START, until=START),
    Wanted(email="p7@shop.example"),
    Wanted(state="failed", email="p7@shop.example"),
    Wanted(since=START),
    Wanted(rule="forms"),
    Wanted(state="skipped", cause="rule"),
)


# By state, by a rare code, by the moment of a failure.
ENDED_OTHERWISE = ("push_state", "push_code", "push_failed")


def test_every_filter_finds_its_rows_by_an_index(
    database_url: str, make_app: MakeApp
) -> None:
    """Among many delivered rows, pages of those that ended otherwise need no scan."""
    app = make_app(TOML, database_url=database_url)
    app.upsert_contact({"email": "p7@shop.example"})
    database = app.runtime.database
    fill(database, 10_000, "delivered")
    for state in REPLAYABLE:
        fill(database, 300, state)
    if not database.is_sqlite:
        with database.write() as transaction:
            for name in ("push", "cause", "contact"):
                transaction.execute(text(f"ANALYZE {name}"))

    for wanted in FILTERS:
        for plan in plans(database, wanted):
            good = ("push_contact",) if wanted.email else ENDED_OTHERWISE
            assert any(index in plan for index in good), wanted
            assert "SCAN push" not in plan
            assert "Seq Scan on push" not in plan
            # Pages come in order; sorting each would be sorting all that is left.
            assert wanted.email or "TEMP B-TREE" not in plan


BIG = ("push", "cause", "contact", "outcome", "attempt", "remote_contact", "identity")


@contextmanager
def seen(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Keep the statements that are run, with their values."""
    kept: list[tuple[str, Any]] = []

    def keep(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        kept.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", keep)
    yield kept
    event.remove(database.engine, "before_cursor_execute", keep)


def test_no_statement_goes_through_a_whole_table(
    database_url: str, make_app: MakeApp
) -> None:
    """Neither the preview, nor the replay, nor the cancel, nor what they look up."""
    app = make_app(TOML, database_url=database_url)
    database = app.runtime.database
    app.suppress("nobody@shop.example")
    fill(database, 10_000, "delivered")
    fill(database, 400)
    app.replay([10_001])
    if not database.is_sqlite:
        with database.write() as transaction:
            for name in BIG:
                transaction.execute(text(f"ANALYZE {name}"))

    with seen(database) as kept:
        app.replay([10_001, 10_002], dry_run=True)
        app.replay([10_001, 10_002])
        replay(app.runtime, FAILED, batch=100)
        app.cancel(Wanted(cause="replay"))

    plans = explained(database, kept)
    assert len(plans) > 20
    for statement, plan in plans.items():
        for name in BIG:
            assert not re.search(rf"^SCAN {name}\b", plan, re.MULTILINE), statement
            assert f"Seq Scan on {name} " not in plan, statement
        assert "INDEX push_state (state=?)" not in plan, statement


def explained(database: Database, kept: list[tuple[str, Any]]) -> dict[str, str]:
    """Return statement → how the database does it, if it can without a scan."""
    found: dict[str, str] = {}
    word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    with database.write() as transaction:
        if not database.is_sqlite:
            # These tables are small.
            transaction.execute(text("SET LOCAL enable_seqscan = off"))
        for statement, values in kept:
            if statement.split()[0] in ("SELECT", "UPDATE"):
                rows = transaction.exec_driver_sql(f"{word} {statement}", values)
                found[statement] = "\n".join(str(row[-1]) for row in rows)
    return found


@pytest.mark.slow
def test_memory_is_flat(sqlite_url: str, make_app: MakeApp) -> None:
    """Preview, replay and cancel of 20,000 rows need no more than those of 2,000."""
    app = make_app(TOML, database_url=sqlite_url)
    peaks: list[int] = []

    for count in (2_000, 20_000):
        fill(app.runtime.database, count)
        tracemalloc.start()
        assert app.replay(FAILED, dry_run=True).count == count
        assert app.replay(FAILED).count == count
        assert app.cancel(Wanted(cause="replay")).count == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        stay = pushes.update().where(pushes.c.state == "failed")
        with app.runtime.database.write() as transaction:
            transaction.execute(stay.values(state="delivered"))

    assert peaks[1] < peaks[0] * 1.5 + 500_000
