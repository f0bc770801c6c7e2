"""Three workers on PostgreSQL, and what happens to machines and networks.

Stopped and woken, cut from the database, a database that restarts, clocks that are
wrong, an old release beside a new one: what iContact has afterwards is what it has
when nobody disturbs.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from onward.app import Onward
from onward.database import Database
from onward.migrate import SCRIPTS, upgrade
from onward.models import Lease, table
from onward_icontact.simulator import Simulator

from .conftest import Gate, Stage, Undisturbed
from .proxy import Wire
from .scene import (
    LEASE_S,
    WORKER,
    Cell,
    Processes,
    count_open,
    everybody,
    get_known,
    populate,
    tell_all,
    wait_until,
)
from .test_matrix import judge

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

Written = Callable[[Cell], None]

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.nightly]
leases = table(Lease)

# Runs before a worker: its machine's clock is that many seconds off.
OFF = """
from datetime import timedelta
import onward.clock
right = onward.clock.utcnow
onward.clock.utcnow = lambda: right() + timedelta(seconds={seconds})
"""


@pytest.fixture
def app(stage: Stage, postgres_url: str, sim: Simulator) -> Onward:
    """The test's own Onward, with everybody known to it."""
    return play(stage(postgres_url), sim)


def play(app: Onward, sim: Simulator) -> Onward:
    """Get ready; nothing is queued yet."""
    populate(sim)
    get_known(app, sim)
    tell_all(app)
    return app


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Cell:
    """What the test shows."""
    row = request.function.__name__.removeprefix("test_").replace("_", " ")
    return Cell(row, "PostgreSQL, 3 workers", people=len(everybody()))


def holder(app: Onward) -> int:
    """Return the process that has the connection now."""
    wanted = select(leases.c.holder).where(leases.c.name == "connection:1")
    with app.runtime.database.read() as transaction:
        found = transaction.execute(wanted).scalar_one()
    return int(found.split(":")[-2])


def finish(
    cell: Cell,
    app: Onward,
    sim: Simulator,
    processes: Processes,
    undisturbed: Undisturbed,
) -> None:
    """Wait until all is done and compare."""
    cell.taken_s = wait_until(lambda: not count_open(app), processes.log())
    judge(cell, app, sim, undisturbed)
    assert (cell.lost, cell.different) == (0, 0), "\n".join(cell.words)
    assert cell.taken_s < LEASE_S + 30


def test_stopped_past_its_lease_and_woken(
    cell: Cell,
    app: Onward,
    sim: Simulator,
    gate: Gate,
    processes: Processes,
    undisturbed: Undisturbed,
    written_down: Written,
) -> None:
    """Somebody else ends its work; what it wakes up with is refused."""
    for _ in range(3):
        processes.start(WORKER)
    gate.shut("/subscriptions")
    app.push(to="icontact", emails=everybody())
    assert gate.reached.wait(60), processes.log()
    sleeper = holder(app)

    os.kill(sleeper, signal.SIGSTOP)
    wait_until(lambda: holder(app) != sleeper, processes.log())
    gate.open.set()
    finish(cell, app, sim, processes, undisturbed)
    os.kill(sleeper, signal.SIGCONT)

    wait_until(lambda: "another worker took over" in processes.log(), processes.log())
    # What it woke up with changed nothing, and sending again still does no harm.
    app.push(to="icontact", emails=everybody())
    finish(cell, app, sim, processes, undisturbed)
    written_down(cell)


@pytest.fixture
def wire(postgres: PostgresServer, tmp_path: Path) -> Iterator[Wire]:
    """The way of one worker to the database."""
    made = Wire(tmp_path, postgres.folder)
    yield made
    made.close()


def test_cut_from_the_database_and_back(
    cell: Cell,
    app: Onward,
    sim: Simulator,
    gate: Gate,
    wire: Wire,
    processes: Processes,
    postgres: PostgresServer,
    undisturbed: Undisturbed,
    written_down: Written,
    tmp_path: Path,
) -> None:
    """It holds the work when it is cut off: others end it, and it comes back."""
    url = app.config.database_url.replace(str(postgres.folder), str(tmp_path))
    cut_off = processes.start(
        WORKER, before=f"import os; os.environ['ONWARD_DATABASE_URL'] = {url!r}"
    )
    gate.shut()
    app.push(to="icontact", emails=everybody())
    assert gate.reached.wait(60), processes.log()
    others = [processes.start(WORKER) for _ in range(2)]

    wire.cut()
    gate.open.set()
    finish(cell, app, sim, processes, undisturbed)
    wait_until(lambda: "the database is away" in processes.log(), processes.log())
    assert processes.log().count("the database is away") == 1
    wire.mend()
    wait_until(lambda: "the database is back" in processes.log(), processes.log())

    for other in others:
        other.terminate()
        other.wait(60)
    app.push(to="icontact", emails=everybody(), force=True)
    finish(cell, app, sim, processes, undisturbed)
    assert cut_off.poll() is None
    assert "Traceback" not in processes.log()
    written_down(cell)


def test_database_restarts(
    cell: Cell,
    stage: Stage,
    sim: Simulator,
    gate: Gate,
    processes: Processes,
    undisturbed: Undisturbed,
    written_down: Written,
) -> None:
    """A restart in the middle costs time; who was working reads back what it sent."""
    from tests.conftest import start_postgres

    with start_postgres() as server:
        url = server.url(server.create())
        empty = Database(url)
        upgrade(empty)
        empty.close()
        app = play(stage(url), sim)
        for _ in range(3):
            processes.start(WORKER)
        gate.shut()
        app.push(to="icontact", emails=everybody())
        assert gate.reached.wait(60), processes.log()

        server.restart()
        gate.open.set()

        finish(cell, app, sim, processes, undisturbed)
        assert all(one.poll() is None for one in processes.running), processes.log()
        processes.close()
        app.close()
    written_down(cell)


@pytest.mark.parametrize("seconds", [4, 60])
def test_clocks_are_apart(
    cell: Cell,
    seconds: int,
    app: Onward,
    sim: Simulator,
    processes: Processes,
    undisturbed: Undisturbed,
    written_down: Written,
    tmp_path: Path,
) -> None:
    """Up to 5 s a clock is corrected; further apart its worker refuses to work.

    One of those that work is killed, so that a lease must end by the right clock.
    """
    cell.row = f"clocks {seconds} s apart"
    off = [
        processes.start(
            WORKER,
            before=OFF.format(seconds=way),
            failpoint=f"after_request:3@{tmp_path}/once" if seconds < 5 else "",
        )
        for way in (seconds, -seconds)
    ]
    if seconds > 5:
        for one in off:
            assert one.wait(60) == 1
        assert processes.log().count(f"this machine's clock is {seconds} s") >= 2
        processes.start(WORKER, failpoint=f"after_request:3@{tmp_path}/once")
    app.push(to="icontact", emails=everybody())
    wait_until(processes.killed, processes.log())
    processes.start(WORKER)

    finish(cell, app, sim, processes, undisturbed)

    written_down(cell)


NEXT = '''
"""A step of the next release.

Release: 9.9
"""

import sqlalchemy as sa
from alembic import op

revision = "0999"
down_revision = "{head}"


def upgrade():
    for table in ("push", "connection", "lease", "contact", "outcome", "event"):
        op.add_column(table, sa.Column("more", sa.String(), server_default="new"))
'''
NEWER = """
from functools import partial
from pathlib import Path
import onward.app
onward.app.prepare_database = partial(
    onward.app.prepare_database, scripts=Path({scripts!r}), head="0999"
)
"""


def test_old_and_new_release_side_by_side(
    cell: Cell,
    app: Onward,
    sim: Simulator,
    processes: Processes,
    undisturbed: Undisturbed,
    written_down: Written,
    tmp_path: Path,
) -> None:
    """The schema moves on while this release works; both then work on, beside it."""
    from onward.migrate import HEAD

    scripts = tmp_path / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "0999_next.py").write_text(NEXT.format(head=HEAD))
    olds = [processes.start(WORKER) for _ in range(2)]
    app.push(to="icontact", emails=everybody()[: len(everybody()) // 2])

    upgrade(app.runtime.database, scripts=scripts, head="0999")
    new = processes.start(WORKER, before=NEWER.format(scripts=str(scripts)))
    # One of the old ones comes back after the step, as after a restart.
    olds[0].terminate()
    olds[0].wait(60)
    olds.append(processes.start(WORKER))
    app.push(to="icontact", emails=everybody())

    finish(cell, app, sim, processes, undisturbed)
    assert new.poll() is None
    assert [one.poll() for one in olds[1:]] == [None, None], processes.log()
    with app.runtime.database.read() as transaction:
        filled = transaction.execute(text("SELECT DISTINCT more FROM push")).scalars()
        assert list(filled) == ["new"]
    written_down(cell)
