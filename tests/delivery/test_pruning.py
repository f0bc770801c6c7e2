"""What is over is removed after a while; what is needed stays, and nobody waits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection as Transaction
from sqlalchemy import func, select, text, update

from onward.connections.remove import remove_connection
from onward.connections.state import named
from onward.contacts.importing import import_contacts
from onward.database import Database
from onward.delivery.lease import take
from onward.delivery.queue import Wish, enqueue
from onward.events.apply import apply_trigger
from onward.models import (
    Alert,
    Attempt,
    Cause,
    Claim,
    Connection,
    Consent,
    Event,
    Identity,
    ImportReport,
    Job,
    Ledger,
    OutcomeRow,
    Push,
    RemoteContactRow,
    Suppression,
    table,
)
from onward.pruning import count_old, prune, prune_daily
from onward.pruning.horizon import EVENTS, note_moment, read_moment
from onward.testing.app import START, TestApp
from onward.why import explain

if TYPE_CHECKING:
    from tests.conftest import AtOnce
    from tests.delivery.conftest import Connect, Service, Tools

DAY = timedelta(days=1)
ANA = "ana@shop.example"
HOT = '[[point_triggers]]\nkey = "hot"\npoints = 5\npush_to = ["acme"]\n'
ONCE = '[[rules]]\nkey = "once"\nwhen = "seen"\nrepeat = "once"\npush_to = ["acme"]\n'
OVER = (Event, Push, Cause, OutcomeRow, Attempt, ImportReport, Job, Alert)
KEPT = (Suppression, Consent, Claim, Identity, Ledger, RemoteContactRow)

pushes = table(Push)
causes = table(Cause)
events = table(Event)
outcomes = table(OutcomeRow)
ledger = table(Ledger)


def rows_of(app: TestApp, models: tuple[Any, ...]) -> dict[str, int]:
    """How many rows there are of each."""
    with app.runtime.database.read() as transaction:
        return {
            model.__name__: transaction.execute(
                select(func.count()).select_from(table(model))
            ).scalar_one()
            for model in models
        }


def live(app: TestApp, tools: type[Tools], tmp_path: Path) -> None:
    """Leave at least two rows in every table."""
    (tmp_path / "people.csv").write_text("email,points\nana@shop.example,7\n")
    for _ in range(2):
        import_contacts(app.runtime, tmp_path / "people.csv")
        apply_trigger(app.runtime, "hot")
    for name in ("ana", "bea"):
        tools.fire(app, name)
        app.record_action("seen", email=f"{name}@shop.example")
        app.add_points(9, email=f"{name}@shop.example", reason="fair")
        app.deliver()
    for name in ("cy", "dee"):
        app.suppress(f"{name}@shop.example")
        app.consent(f"{name}@shop.example", how="phone", who="sam")
    now = app.clock.now
    alert = {
        "connection_id": 1,
        "kind": "paused",
        "opened_at": now,
        "last_at": now,
        "closed_at": now,
    }
    with app.runtime.database.write() as transaction:
        transaction.execute(table(Alert).insert(), [alert, alert])


def test_what_is_over_goes_after_its_own_time(
    connect: Connect, tools: type[Tools], database_url: str, tmp_path: Path
) -> None:
    """Events, deliveries and reports each go after their time, and not before.

    The newest row of each table stays: SQLite would give its number again.
    """
    kept = '[retention]\nevents = "10d"\ndeliveries = "20d"\nreports = "30d"\n'
    app = connect(more=HOT + ONCE + kept, database_url=database_url)
    live(app, tools, tmp_path)
    before, facts = rows_of(app, OVER), rows_of(app, KEPT)
    assert min(before.values()) >= 2
    assert min(facts.values()) >= 2

    changed: list[set[str]] = []
    for _ in range(4):
        counted = count_old(app.runtime).counts
        done = prune(app.runtime)
        removed = {name for name, number in done.counts.items() if number}
        assert {n: done.counts[n] for n in counted} == counted
        changed.append(removed)
        app.clock.tick(10 * DAY + timedelta(seconds=1))

    assert changed == [
        set(),
        {"events"},
        {"deliveries", "causes", "outcomes", "attempts"},
        {"import_reports", "jobs", "alerts"},
    ]
    left = rows_of(app, OVER)
    assert {left[model.__name__] for model in (Event, Push, Attempt)} == {1}
    assert {left[model.__name__] for model in (ImportReport, Job, Alert)} == {1}
    assert rows_of(app, KEPT) == facts


def test_nothing_goes_that_is_kept_for_ever(
    connect: Connect, tools: type[Tools], tmp_path: Path
) -> None:
    """`forever` and 0 remove nothing, ever."""
    app = connect(more=HOT + ONCE + '[retention]\nreports = "forever"\nevents = 0\n')
    live(app, tools, tmp_path)
    app.clock.tick(3650 * DAY)

    done = prune(app.runtime)

    assert (done.before["events"], done.before["reports"]) == (None, None)
    assert set(+done.counts) == {"deliveries", "causes", "outcomes", "attempts"}


def test_what_happened_once_does_not_happen_again(
    connect: Connect, service: Service, tools: type[Tools], tmp_path: Path
) -> None:
    """Triggers and rules that ran once stay used, points add up, opt-outs hold.

    What the service has is still known: nothing is sent to it a second time.
    """
    app = connect(more=HOT + ONCE)
    live(app, tools, tmp_path)
    app.suppress("bea@shop.example")
    app.clock.tick(91 * DAY)
    prune(app.runtime)
    sent = len(service.pushes)

    seen = app.record_action("seen", email="ana@shop.example")
    points = app.add_points(1, email="ana@shop.example")
    tools.fire(app, "ana", "bea")
    app.deliver()

    assert (seen.pushes, points.fired) == ((), ())
    assert tools.ended(app)["ana"] == ("unchanged", "unchanged")
    assert tools.ended(app)["bea"] == ("skipped", "suppressed")
    assert len(service.pushes) == sent
    with app.runtime.database.read() as transaction:
        found = transaction.execute(
            select(func.sum(ledger.c.delta), func.max(ledger.c.total)).where(
                ledger.c.contact_id == points.contact_id
            )
        ).one()
    assert tuple(found) == (points.points, points.points)


def test_open_push_keeps_what_it_needs(
    connect: Connect, service: Service, tools: type[Tools], tmp_path: Path
) -> None:
    """A visitor's push waits for years, and is mapped with the event that caused it."""
    app = connect()
    (tmp_path / "acme.toml").write_text(
        '[fields]\nemail = "email"\nname = "{{ event.data.form }}"\n'
    )
    visitor = {"visitor": "v1"}
    app.record_action("form.sent", identities=visitor, data={"form": "fair"})
    tools.fire(app, "ana", "bea")
    service.script = [tools.answers(500)] * 4
    app.deliver(until_empty=False)
    with app.runtime.database.write() as transaction:
        # One is tried for longer than anybody would.
        late = {"due_at": app.clock.now + 200 * DAY}
        waits = pushes.c.state == "waiting"
        transaction.execute(
            update(pushes).where(waits, pushes.c.due_at.is_not(None)).values(late)
        )
    open_before = rows_of(app, (Push, Cause, OutcomeRow, Attempt))
    assert open_before["Push"] == 3

    app.clock.tick(199 * DAY)
    tools.fire(app, "cy")
    app.deliver()
    done = prune(app.runtime)

    assert done.counts["deliveries"] == 0
    assert done.counts["attempts"] == 0
    assert done.counts["events"] > 0
    app.record_action("hello", email="vi@shop.example", identities=visitor)
    app.clock.tick(2 * DAY)
    app.deliver()
    assert service.people["vi@shop.example"]["name"] == "fair"
    assert {state for state, _ in tools.ended(app).values()} == {"delivered"}


def test_push_in_a_job_of_the_service_is_not_over(
    connect: Connect, tools: type[Tools], database_url: str
) -> None:
    """A submitted push is open, whatever moment stands in its row."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana", "bea")
    app.deliver()
    ana = pushes.c.id == app.deliveries()[0]["id"]
    with app.runtime.database.write() as transaction:
        transaction.execute(update(pushes).where(ana).values(state="submitted"))
    app.clock.tick(91 * DAY)

    assert prune(app.runtime).counts["deliveries"] == 0

    with app.runtime.database.write() as transaction:
        transaction.execute(update(pushes).where(ana).values(state="delivered"))
    assert prune(app.runtime).counts["deliveries"] == 1


def test_replay_keeps_what_it_repeats(
    connect: Connect, tools: type[Tools], database_url: str
) -> None:
    """A delivery that an open push repeats stays until that one ended."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana", "bea")
    app.deliver()
    [first, second] = [row["id"] for row in app.deliveries()]
    app.clock.tick(91 * DAY)
    who = app.deliveries()[0]["contact_id"]
    wish = Wish(1, who, "1", "replay", replay_of=first)
    now = app.clock.now
    app.runtime.database.run(lambda t: enqueue(t, [wish], now))

    assert count_old(app.runtime).counts["deliveries"] == 1
    assert prune(app.runtime).counts["deliveries"] == 1
    assert second not in [row["id"] for row in app.deliveries()]

    app.deliver()
    assert prune(app.runtime).counts["deliveries"] == 1


def test_key_is_known_as_long_as_its_event(
    connect: Connect, tools: type[Tools], database_url: str
) -> None:
    """A repeat within the time changes nothing; after it, it counts as new."""
    app = connect(database_url=database_url)
    first = app.record_action("form.sent", email=ANA, key="k1")
    app.deliver()
    app.clock.tick(89 * DAY)
    prune(app.runtime)

    again = app.record_action("form.sent", email=ANA, key="k1")
    app.clock.tick(2 * DAY)
    tools.fire(app, "bea")
    prune(app.runtime)
    later = app.record_action("form.sent", email=ANA, key="k1")

    assert (again.repeated, again.event_id) == (True, first.event_id)
    assert not later.repeated
    assert later.event_id > first.event_id


def test_no_number_is_given_twice(
    connect: Connect, tools: type[Tools], database_url: str
) -> None:
    """What still names a removed row by its number never names another one."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana", "bea")
    app.deliver()
    highest = [row["id"] for row in app.deliveries()][-1]
    app.clock.tick(91 * DAY)

    prune(app.runtime)
    tools.fire(app, "cy")

    assert [row["id"] for row in app.deliveries()] == [highest, highest + 1]


def test_why_says_what_was_removed(
    connect: Connect, tools: type[Tools], database_url: str
) -> None:
    """Nothing that `why` says becomes false; who came later is not concerned."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana", "bea")
    app.deliver()
    assert "before" not in "\n".join(explain(app.runtime, "ana@shop.example").lines())
    app.clock.tick(91 * DAY)
    prune(app.runtime)
    tools.fire(app, "cy")

    told = explain(app.runtime, "ana@shop.example").lines()
    new = explain(app.runtime, "cy@shop.example")

    assert told == [
        "what ended before 2026-03-05 09:00 was removed, and nothing was queued for "
        "it since",
        "nothing was recorded of it since 2026-03-05 09:00 (what is older was "
        "removed), so no rule had anything to look at",
        "connection acme (active)",
        "  nothing was since 2026-03-05 09:00 queued for it",
        "events before 2026-03-05 09:00 were removed",
        "deliveries that ended before 2026-03-05 09:00 were removed",
    ]
    assert new.as_dict()["since"] == {"events": None, "deliveries": None}


def test_stopped_it_goes_on(
    connect: Connect, tools: type[Tools], database_url: str
) -> None:
    """Told to stop it ends after its batch; the next one does the rest."""
    app = connect(database_url=database_url)
    names = [f"p{number}" for number in range(600)]
    tools.fire(app, *names)
    app.clock.tick(91 * DAY)
    with app.runtime.database.write() as transaction:
        transaction.execute(update(pushes).values(state="skipped"))
    stop = Flag()

    first = prune(
        app.runtime, stopping=stop.is_set, on_progress=lambda rows: stop.set()
    )
    second = prune(app.runtime)

    assert (first.complete, first.counts["events"]) == (False, 500)
    assert (second.complete, second.counts["events"]) == (True, 699)


PROCESSES = """
[onward]
database_url = "{url}"
[connections.news]
integration = "icontact"
[[rules]]
key = "forms"
when = "form.sent"
push_to = ["news"]
"""
# What all others do now is old to this one.
LATER = """
from datetime import timedelta
from onward.clock import utcnow
from onward.pruning import count_old, prune
app.runtime.clock = lambda: utcnow() + timedelta(days=91)
"""
FIRE = """
app.record_actions(
    {"action": "seen", "email": f"p{turn}@shop.example"} for turn in range(600)
)
"""


def test_killed_it_goes_on(
    database: Database, database_url: str, at_once: AtOnce, tmp_path: Path
) -> None:
    """Killed after a batch, that batch is gone and all else there; it goes on."""
    (tmp_path / "onward.toml").write_text(PROCESSES.format(url=database_url))
    at_once([FIRE])
    kill = "import os\nos.environ['ONWARD_FAILPOINT'] = 'after_prune_batch'\n"

    [killed] = at_once([LATER + kill + "prune(app.runtime)"])
    [left] = at_once([LATER + "result = count_old(app.runtime).counts['events']"])
    after = "app.runtime.clock = lambda: utcnow() + timedelta(days=92)\n"
    [done] = at_once([LATER + after + "result = prune(app.runtime).counts['events']"])

    assert killed == {"ended": -9}
    assert (left, done) == (699, 699)


def test_it_runs_beside_everything_else(
    database: Database, database_url: str, at_once: AtOnce, tmp_path: Path
) -> None:
    """Events, merges and erasures go on while one prunes: no error, no deadlock."""
    (tmp_path / "onward.toml").write_text(PROCESSES.format(url=database_url))
    work = """
from contextlib import suppress
from onward.contacts.erasing import erase_contact
from onward.errors import InputError
for turn in range(12):
    visitor = {"visitor": f"v{number}-{turn}"}
    email = f"p{turn % 4}@shop.example"
    app.record_action("form.sent", identities=visitor)
    app.record_action("form.sent", identities=visitor, email=email)
    if turn % 3 == number:
        with suppress(InputError):  # the other one was first
            erase_contact(app.runtime, email)
result = turn
"""
    pruning = "result = sum(prune(app.runtime).counts['events'] for _ in range(12))"

    *worked, removed = at_once([work, work, LATER + pruning])
    [left] = at_once([LATER + "result = count_old(app.runtime).counts"])

    assert worked == [11, 11]
    assert removed + left["events"] > 0
    with database.read() as transaction:
        open_rows = transaction.execute(
            select(func.count()).where(pushes.c.state == "waiting")
        ).scalar_one()
        named = transaction.execute(
            select(func.count(pushes.c.id.distinct()))
            .join(causes, causes.c.push_id == pushes.c.id)
            .join(events, events.c.id == causes.c.event_id)
            .where(pushes.c.state == "waiting")
        ).scalar_one()
        assert (named, open_rows > 0) == (open_rows, True)
        if not database.is_sqlite:
            deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = "
            found = transaction.execute(text(deadlocks + "current_database()"))
            assert found.scalar_one() == 0


def test_one_process_at_a_time(connect: Connect, database_url: str) -> None:
    """While one prunes, another does nothing, and says until when it would wait."""
    app = connect(database_url=database_url)
    runtime = app.runtime
    held = take(runtime.database, "prune", timedelta(seconds=60), runtime.clock)
    assert held is not None

    second = prune(runtime)

    assert (second.busy_until, second.complete) == (held.until, False)
    held.release()
    assert prune(runtime).complete


def test_daily_is_once_a_day_over_all_processes(
    connect: Connect, database_url: str
) -> None:
    """Called often, it prunes once a day; one that was stopped does not count."""
    app = connect(database_url=database_url)

    stopped = prune_daily(app.runtime, stopping=lambda: True)
    first = prune_daily(app.runtime)
    app.clock.tick(timedelta(hours=23))
    second = prune_daily(app.runtime)
    app.clock.tick(timedelta(hours=1))
    third = prune_daily(app.runtime)

    assert stopped is not None
    assert not stopped.complete
    assert first is not None
    assert second is None
    assert third is not None


def hold_push(transaction: Transaction) -> None:
    """Hold the deliveries, as an erasure does."""
    transaction.execute(select(pushes.c.id).with_for_update())


def hold_outcome(transaction: Transaction) -> None:
    """Hold the outcomes, as an erasure does."""
    transaction.execute(select(outcomes.c.id).with_for_update())


def hold_event(transaction: Transaction) -> None:
    """Hold the events, as a merge does."""
    transaction.execute(select(events.c.id).with_for_update())


@pytest.mark.postgres
@pytest.mark.parametrize("hold", [hold_push, hold_outcome, hold_event])
def test_it_passes_over_what_others_hold(
    hold: Callable[[Transaction], None],
    connect: Connect,
    tools: type[Tools],
    postgres_url: str,
) -> None:
    """Rows that somebody works on are left for the next time, without waiting."""
    app = connect(database_url=postgres_url)
    tools.fire(app, "ana", "bea")
    app.deliver()
    app.clock.tick(91 * DAY)
    counted = count_old(app.runtime).counts
    other = Database(postgres_url)

    with ExitStack() as busy:
        hold(busy.enter_context(other.write()))
        held = prune(app.runtime).counts
    free = prune(app.runtime).counts

    what = "events" if hold is hold_event else "deliveries"
    assert (held[what], free[what]) == (0, counted[what])
    other.close()


def test_horizon_does_not_go_back(database: Database) -> None:
    """Who keeps events for longer does not make removed ones come back."""
    database.run(lambda t: note_moment(t, EVENTS, START))
    database.run(lambda t: note_moment(t, EVENTS, START - DAY))

    with database.read() as transaction:
        assert read_moment(transaction, EVENTS) == START


def test_row_for_a_connection_that_is_gone_ends(
    connect: Connect, tools: type[Tools], database_url: str
) -> None:
    """An event that commits after its connection was removed waits for nobody."""
    app = connect(database_url=database_url)
    runtime = app.runtime
    tools.fire(app, "ana")
    [row] = app.deliveries()
    old = {"name": "old", "integration": "acme", "created_at": START}
    with runtime.database.write() as transaction:
        transaction.execute(table(Connection).insert(), old)
        state = named(transaction, "old")
    remove_connection(runtime, state)
    wish = Wish(state.id, row["contact_id"], "", "manual")
    runtime.database.run(lambda t: enqueue(t, [wish], START))
    app.deliver()
    assert [one["state"] for one in app.queued] == ["waiting"]

    done = prune(runtime)

    assert done.counts == {"cancelled": 1}
    assert app.queued == []
    last = app.deliveries()[-1]
    why = (last["state"], last["code"], last["reason"])
    assert why == (
        "cancelled",
        "connection_removed",
        'the connection "old" was removed',
    )
    assert prune(runtime).counts["cancelled"] == 0
