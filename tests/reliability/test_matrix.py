"""Kill -9 of a real process at each named place, with every engine and database.

Every cell ends with what iContact has and what Onward says, compared with a run that
nobody disturbed. By day some cells; `make nightly` plays all and writes the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from onward.app import Onward
from onward.failpoints import DELIVERY, QUEUEING
from onward_icontact.simulator import Simulator

from .conftest import Stage, Undisturbed
from .scene import (
    EMBEDDED,
    KEPT,
    LEASE_S,
    LIST,
    WORKER,
    Cell,
    Processes,
    count_open,
    differences,
    effect_on,
    everybody,
    get_known,
    populate,
    tell_all,
    truth_of,
    wait_until,
)

Written = Callable[[Cell], None]

# Places that are passed once a drain; the others meet their second time, when
# some are through already.
ONCE = frozenset({"before_claim"})


@dataclass(frozen=True)
class Column:
    """Where it runs: a database, an engine, and what the processes are."""

    name: str
    database: str
    engine: str
    code: str
    count: int


COLUMNS = (
    Column("SQLite, embedded", "sqlite", "embedded", EMBEDDED, 1),
    Column("SQLite, 3 workers", "sqlite", "embedded", WORKER, 3),
    Column("PostgreSQL, embedded", "postgres", "embedded", EMBEDDED, 1),
    Column("PostgreSQL, 3 workers", "postgres", "embedded", WORKER, 3),
    Column("PostgreSQL, cluster, 3 workers", "postgres", "cluster", WORKER, 3),
)
# By day, where a mistake would send twice or lose something.
BY_DAY = {
    ("after_request", "SQLite, embedded"),
    ("after_answer", "PostgreSQL, 3 workers"),
}


def cells(points: tuple[str, ...]) -> list[object]:
    """Return a parameter per cell; those of the night are marked."""
    return [
        pytest.param(
            point,
            column,
            id=f"{point}-{column.name}",
            marks=[
                pytest.mark.slow,
                *([pytest.mark.postgres] if column.database == "postgres" else []),
                *([] if (point, column.name) in BY_DAY else [pytest.mark.nightly]),
            ],
        )
        for point in points
        for column in COLUMNS
    ]


@pytest.fixture
def app(request: pytest.FixtureRequest, stage: Stage, column: Column) -> Onward:
    """The test's own Onward, on the database of the column."""
    url = request.getfixturevalue(f"{column.database}_url")
    return stage(url, column.engine)


@pytest.mark.parametrize(("point", "column"), cells(DELIVERY))
def test_killed_while_delivering(
    point: str,
    column: Column,
    app: Onward,
    sim: Simulator,
    processes: Processes,
    tmp_path: Path,
    undisturbed: Undisturbed,
    written_down: Written,
) -> None:
    """Whoever dies wherever: the next one ends the work when the lease is over."""
    cell = Cell(point, column.name, people=len(everybody()))
    populate(sim)
    get_known(app, sim)
    tell_all(app)
    turn = 1 if point in ONCE else 2
    for _ in range(column.count):
        processes.start(column.code, failpoint=f"{point}:{turn}@{tmp_path}/once")
    app.push(to="icontact", emails=everybody())

    wait_until(processes.killed, f"nobody was killed\n{processes.log()}")
    touched = meanwhile(sim)
    if column.count == 1:
        processes.start(column.code)
    cell.taken_s = wait_until(lambda: not count_open(app), processes.log())

    judge(cell, app, sim, undisturbed, touched)
    written_down(cell)
    assert (cell.lost, cell.different) == (0, 0), "\n".join(cell.words)
    # The work itself takes a while on a busy machine; being stuck takes for ever.
    assert cell.taken_s < LEASE_S + 30


def meanwhile(sim: Simulator) -> tuple[set[str], set[str]]:
    """Let the owner change some, and one leave, before the next worker comes."""
    folder = sim.folder()
    there = {e for e in everybody() if e.startswith("new-") and folder.find(e)}
    for email in there:
        contact = folder.find(email)
        assert contact is not None
        contact.values["fax"] = KEPT
    leaving = next(
        (e for e in sorted(there) if folder.subscription(LIST, e) == "normal"), None
    )
    if leaving is None:
        return there, set()
    folder.unsubscribe(LIST, leaving)
    return there, {leaving}


def judge(
    cell: Cell,
    app: Onward,
    sim: Simulator,
    undisturbed: Undisturbed,
    touched: tuple[set[str], set[str]] = (set(), set()),
) -> None:
    """Compare what is with what would be, had nobody disturbed."""
    effect, truth = undisturbed
    expected = dict(effect)
    changed, left = touched
    for email in changed:
        status, values, on = sim_entry(expected[email])
        on = "unsubscribed" if email in left else on
        expected[email] = (status, {**values, "fax": KEPT}, on)
    wrong = differences(effect_on(sim), expected)
    said = {
        email: states
        for email, states in differences(truth_of(app), truth).items()
        # Who left meanwhile was there before, or is found to have left: both true.
        if not (email in left and states[0] in ("delivered", "skipped"))
    }
    cell.different = len(wrong.keys() | said.keys())
    cell.lost = count_open(app)
    cell.words = [f"{email}: {both}" for email, both in (*wrong.items(), *said.items())]


def sim_entry(entry: object) -> tuple[object, dict[str, object], object]:
    """Take one entry of the effect apart."""
    assert isinstance(entry, tuple)
    status, values, on = entry
    return status, dict(values), on


FIRES = """
from onward.app import Onward
app = Onward.from_config("onward.toml")
with app:
    for turn in range(0, len(PEOPLE), 10):
        app.record_actions([
            {"action": "form.sent", "email": email, "key": email}
            for email in PEOPLE[turn:turn + 10]
        ])
"""
MERGES = """
from onward.app import Onward
app = Onward.from_config("onward.toml")
with app:
    for email in PEOPLE:
        app.record_action(
            "form.sent", identities={"visitor": email.partition("@")[0]},
            key=f"visit {email}",
        )
        app.record_action(
            "seen", email=email, identities={"visitor": email.partition("@")[0]},
            key=f"known {email}",
        )
"""
APPLIES = """
from onward.app import Onward
from onward.events.apply import apply_trigger
app = Onward.from_config("onward.toml")
with app:
    apply_trigger(app.runtime, "hot", batch=20)
"""
PROGRAMS = {
    "during_enqueue": FIRES,
    "during_merge": MERGES,
    "during_backfill": APPLIES,
}


@pytest.mark.parametrize(("point", "column"), cells(QUEUEING))
def test_killed_while_queueing(
    point: str,
    column: Column,
    app: Onward,
    sim: Simulator,
    processes: Processes,
    tmp_path: Path,
    undisturbed: Undisturbed,
    written_down: Written,
) -> None:
    """A program that dies in its transaction does all of it again, with one effect."""
    cell = Cell(point, column.name, people=len(everybody()))
    populate(sim)
    get_known(app, sim)
    tell_all(app)
    if point == "during_backfill":
        # By a program that knows no trigger yet.
        text = (tmp_path / "onward.toml").read_text().partition("[[point_triggers]]")[0]
        (tmp_path / "before.toml").write_text(text)
        before = Onward.from_config(tmp_path / "before.toml")
        for email in everybody():
            before.add_points(120, email=email)
        before.close()
    program = f"PEOPLE = {everybody()!r}\n{PROGRAMS[point]}"
    if column.count == 1:
        # The worker of the same process sends at the same time, and dies with it.
        dying = processes.start(program, failpoint=f"{point}:4")
    else:
        for _ in range(column.count):
            processes.start(column.code)
        dying = processes.start(program, failpoint=f"{point}:4")
    wait_until(lambda: dying.poll() is not None, processes.log())
    assert dying.returncode == -9, processes.log()

    # Of an interrupted job the lease must end; with keys the rest is a repeat.
    again = processes.start(f"{UNTIL_FREE}\n{program}")
    begun = wait_until(lambda: again.poll() is not None, processes.log())
    assert again.returncode == 0, processes.log()
    if column.count == 1:
        processes.start(column.code)
    cell.taken_s = begun + wait_until(lambda: not count_open(app), processes.log())

    judge(cell, app, sim, undisturbed)
    written_down(cell)
    assert (cell.lost, cell.different) == (0, 0), "\n".join(cell.words)
    points = {row["email"]: row["points"] for row in app.contacts()}
    expected = 120 if point == "during_backfill" else 10
    assert {points[email] for email in everybody()} == {expected}


UNTIL_FREE = """
import threading
from onward.app import Onward
from onward.delivery.lease import held_until
app = Onward.from_config("onward.toml")
until = held_until(app.runtime.database, "apply:hot")
left = (until - app.runtime.clock()).total_seconds() if until else 0
threading.Event().wait(max(left, 0))
app.close()
"""
