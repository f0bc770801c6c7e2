"""A worker goes by the database server's clock, and not at all by a wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from onward.app import Onward
from onward.clock import utcnow
from onward.database import Database
from onward.errors import ConfigError
from onward.models import Alert, table
from onward.worktime import Worktime, measure

pytestmark = pytest.mark.postgres


class Machine:
    """A machine's clock, somewhat off."""

    def __init__(self, seconds: float) -> None:
        self.off = timedelta(seconds=seconds)

    def __call__(self) -> datetime:
        """Return what it takes for the current moment."""
        return utcnow() + self.off


@pytest.fixture
def machine() -> Machine:
    """The clock of the machine the worker runs on."""
    return Machine(-3)


@pytest.fixture
def app(machine: Machine, postgres_url: str, tmp_path: Path) -> Iterator[Onward]:
    """An Onward on that machine."""
    (tmp_path / "onward.toml").write_text(f'[onward]\ndatabase_url = "{postgres_url}"')
    made = Onward.from_config(tmp_path / "onward.toml", clock=machine)
    yield made
    made.close()


def server_time(database: Database) -> datetime:
    """What the server's clock says."""
    with database.read() as transaction:
        found = transaction.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert isinstance(found, datetime)
    return found


def alerts(database: Database) -> list[Any]:
    """What people are told."""
    with database.read() as transaction:
        return list(transaction.execute(select(table(Alert))))


def test_offset_is_measured_exactly(app: Onward, machine: Machine) -> None:
    """What is measured is what the two clocks differ by, whichever is ahead."""
    for seconds in (-3.0, 40.0):
        machine.off = timedelta(seconds=seconds)

        found = measure(app.runtime.database, machine)

        assert found.total_seconds() == pytest.approx(-seconds, abs=0.2)


def test_worker_goes_by_the_servers_clock(app: Onward) -> None:
    """While a worker runs, its leases and due times are the server's."""
    own = app.runtime.clock
    with app:
        apart = app.runtime.clock() - server_time(app.runtime.database)
        assert abs(apart.total_seconds()) < 0.2
        assert app.runtime.unfit == ""

        app.stop()

        assert app.runtime.clock is own


@pytest.mark.parametrize("seconds", [-60, 60])
def test_worker_with_a_wrong_clock_sends_nothing(
    app: Onward,
    machine: Machine,
    seconds: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """More than 5 s apart it says so once and holds; set right, it goes on."""
    machine.off = timedelta(seconds=seconds)
    worktime = Worktime(app.runtime)

    worktime.start()
    for _ in range(3):
        worktime.keep()

    side = "ahead of" if seconds > 0 else "behind"
    assert app.runtime.unfit.startswith(
        f"this machine's clock is 60 s {side} the database server's"
    )
    assert caplog.text.count("clock is 60 s") == 1
    [alert] = alerts(app.runtime.database)
    assert (alert.kind, alert.closed_at) == ("clock", None)
    assert "clock is 60 s" in alert.reason

    machine.off = timedelta(seconds=1)
    worktime.keep(now=True)

    assert app.runtime.unfit == ""
    assert "the clock is right again" in caplog.text
    [alert] = alerts(app.runtime.database)
    assert alert.closed_at is not None
    worktime.stop()


def test_deliver_with_a_wrong_clock_is_refused(app: Onward, machine: Machine) -> None:
    """`deliver` takes leases as well: it refuses in one sentence, and later works."""
    machine.off = timedelta(seconds=60)
    with app.runtime.database.write() as transaction:
        transaction.execute(
            text(
                "INSERT INTO push (connection_id, contact_id, segment, state, priority,"
                " due_at, tries, again, force, fence, code, reason, map_version,"
                " remote_id, job, created_at) SELECT 1, 1, '', 'sending', 0, now(), 0,"
                " false, false, 0, '', '', '', '', '', now()"
            )
        )

    with pytest.raises(ConfigError, match="set the clock"):
        app.deliver()

    machine.off = timedelta()
    app.deliver()
    assert app.runtime.unfit == ""


def test_others_keep_their_own_clock(sqlite_url: str, tmp_path: Path) -> None:
    """On SQLite everybody goes by one machine's clock, however wrong it is."""
    (tmp_path / "onward.toml").write_text(f'[onward]\ndatabase_url = "{sqlite_url}"')
    machine = Machine(60)
    app = Onward.from_config(tmp_path / "onward.toml", clock=machine)

    with app:
        assert app.runtime.clock is machine
        assert app.runtime.unfit == ""
