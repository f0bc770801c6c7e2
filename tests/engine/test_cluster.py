"""The cluster engine: what DBOS is used for, and what of it must not be noticed."""

from __future__ import annotations

import logging
import os
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from onward.clock import utcnow
from onward.engine.transact import Transact
from onward.errors import ConfigError

from .conftest import until

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Bench

pytestmark = pytest.mark.postgres

STATUSES = text("SELECT status, count(*) FROM dbos.workflow_status GROUP BY status")
INPUTS = text("SELECT count(*) FROM dbos.workflow_input")


def statuses(cluster: Bench) -> dict[str, int]:
    """Return status → workflows of DBOS."""
    with cluster.app.runtime.database.read() as transaction:
        return dict(map(tuple, transaction.execute(STATUSES)))


def test_onward_toml_chooses_it(cluster: Bench) -> None:
    """With `engine = "cluster"` the app's own worker runs on DBOS, as often as told."""
    cluster.open(engine="cluster")
    for name in ("ana", "ben"):
        assert not cluster.app.is_alive
        with cluster.app:
            assert cluster.app.is_alive
            cluster.push(name)
            until(lambda: cluster.states()["waiting"] == 0, "taken")
    cluster.delivered(2)

    assert statuses(cluster)["SUCCESS"] >= 2


def test_without_its_tables_it_does_not_start(
    cluster: Bench, postgres_url: str
) -> None:
    """It says what makes them; a start after that works."""
    cluster.database_url = postgres_url
    cluster.open(engine="cluster")

    with pytest.raises(ConfigError) as refused:
        cluster.app.start()

    assert refused.value.message == (
        'the tables of DBOS (schema "dbos") are missing or older than the installed '
        "dbos needs: run `onward db upgrade` once, from any machine"
    )
    cluster.upgrade()
    with cluster.running():
        cluster.push("ana")
        cluster.delivered(1)


def test_one_runs_in_a_process(cluster: Bench) -> None:
    """A second one is refused in a sentence, and starts when the first has stopped."""
    cluster.open()
    first, second = cluster.engine(), cluster.engine()
    first.start()

    with pytest.raises(ConfigError, match="DBOS runs in this process already"):
        second.start()

    second.stop()
    cluster.push("ana")
    cluster.delivered(1)
    first.stop()
    second.start()
    cluster.push("ben")
    cluster.delivered(2)
    second.stop()


def test_a_forked_process_is_refused(cluster: Bench) -> None:
    """Where DBOS came along by a fork, and has no threads, nothing seems to run."""
    cluster.open(engine="cluster")
    cluster.app.start()
    answer, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            cluster.app.start()
        except ConfigError as error:
            os.write(tell, error.message.encode())
        finally:
            os._exit(0)
    os.close(tell)

    with os.fdopen(answer) as said:
        message = said.read()
    os.waitpid(child, 0)

    assert "or did in the one it was forked from" in message
    cluster.push("ana")
    cluster.delivered(1)


def test_sqlite_is_refused(cluster: Bench, tmp_path: Path) -> None:
    """What, why, and what to do; nothing is left running."""
    cluster.database_url = f"sqlite:///{tmp_path}/onward.db"
    cluster.open(engine="cluster")

    with pytest.raises(ConfigError) as refused:
        cluster.app.start()

    assert refused.value.message == (
        'engine = "cluster" needs PostgreSQL, and database_url leads to SQLite; set '
        'database_url to a PostgreSQL database, or engine = "embedded"'
    )
    cluster.open()
    with cluster.app:
        cluster.push("ana")
        cluster.delivered(1)


def test_without_the_package_it_says_what_to_install(
    cluster: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pip install onward[cluster]`, and then it works."""
    cluster.open(engine="cluster")
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "dbos", None)

        with pytest.raises(ConfigError) as refused:
            cluster.app.start()

    assert refused.value.message == (
        'engine = "cluster" needs the package dbos, which is not installed: '
        "`pip install onward[cluster]`"
    )
    with cluster.app:
        cluster.push("ana")
        cluster.delivered(1)


def test_many_rows_are_few_workflows(cluster: Bench) -> None:
    """One drain sends many batches, and a workflow holds nothing of a contact."""
    cluster.open()
    cluster.push(*(f"p{number}" for number in range(100)))
    with cluster.running():
        cluster.delivered(100)

    assert sum(statuses(cluster).values()) <= 3
    with cluster.app.runtime.database.read() as transaction:
        rows = transaction.execute(
            text(
                "SELECT to_jsonb(s) || to_jsonb(i) FROM dbos.workflow_status s "
                "JOIN dbos.workflow_input i USING (workflow_uuid)"
            )
        ).scalars()
        assert "shop.example" not in str(list(rows))


def test_several_wakers_queue_a_connection_once(cluster: Bench) -> None:
    """Until a worker takes it, a name that was used is not queued again."""
    cluster.open()
    transact = Transact(cluster.app.runtime.database)

    for name in ("1-7", "1-7", "1-8"):
        transact.put(1, name, timeout=timedelta(seconds=60))

    assert [(one.connection_id, one.state) for one in transact.queued()] == [
        (1, "ENQUEUED"),
        (1, "ENQUEUED"),
    ]


def test_out_of_calls_it_comes_back_in_time(cluster: Bench) -> None:
    """A connection out of calls is queued for later and not drained till then."""
    cluster.open(limits='limits = ["2/second"]')
    cluster.push(*(f"p{number}" for number in range(60)))

    with cluster.running(sweep=0.1):
        cluster.delivered(60)

    # By the sweep alone it would be drained ten times a second.
    assert cluster.fence() < 15


def test_workflows_that_ended_are_removed(cluster: Bench) -> None:
    """Those that ended long ago, inputs included; what waits stays."""
    cluster.open()
    with cluster.running():
        cluster.push("ana")
        cluster.delivered(1)
    transact = Transact(cluster.app.runtime.database)
    transact.put(1, "waits", timeout=timedelta(seconds=60))
    ended = statuses(cluster)["SUCCESS"]

    recent = transact.remove_ended(utcnow() - timedelta(days=1))
    removed = transact.remove_ended(utcnow() + timedelta(minutes=1))

    assert (recent, removed) == (0, ended)
    assert statuses(cluster) == {"ENQUEUED": 1}
    with cluster.app.runtime.database.read() as transaction:
        assert transaction.execute(INPUTS).scalar() == 1


def test_nothing_of_dbos_is_seen(
    cluster: Bench, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No banner, no line of its own, whatever the program logs."""
    cluster.open()
    with caplog.at_level(logging.INFO), cluster.running():
        cluster.push("ana")
        cluster.delivered(1)

    assert [one.message for one in caplog.records if one.name.startswith("dbos")] == []
    assert capfd.readouterr() == ("", "")


def test_a_workflow_that_takes_too_long_is_followed(
    cluster: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """One of a connection runs at a time, until its time-out; that is no news."""
    cluster.open()
    transact = Transact(cluster.app.runtime.database)
    began, go_on = threading.Semaphore(0), threading.Event()
    at_once = threading.Semaphore(0)

    def drain(connection_id: int) -> None:
        (began if connection_id == 1 else at_once).release()
        go_on.wait(30)

    with caplog.at_level(logging.INFO, "dbos"):
        transact.launch(drain, threads=4)
        for name in ("first", "second"):
            transact.put(1, name, timeout=timedelta(seconds=2))
        transact.put(2, "other", timeout=timedelta(seconds=2))
        assert began.acquire(timeout=30)
        assert at_once.acquire(timeout=30)
        joined = began.acquire(timeout=0.6)

        assert began.acquire(timeout=30)

        assert not joined
        assert statuses(cluster)["CANCELLED"] >= 1
        go_on.set()
        until(lambda: "PENDING" not in statuses(cluster), "ended")
        transact.shut_down()
    assert [one.message for one in caplog.records if one.name.startswith("dbos")] == []


def test_an_unfit_worker_takes_nothing_from_the_queue(cluster: Bench) -> None:
    """What it would leave undone, others can take; it takes again when it is fit."""
    app = cluster.open()
    transact = Transact(app.runtime.database)
    before = set(threading.enumerate())
    with cluster.running(sweep=0.1):
        app.runtime.unfit = "the clock is wrong"
        until(lambda: not _dbos_threads(before), "DBOS shut down")
        transact.put(1, "for others", timeout=timedelta(seconds=60))
        assert not threading.Event().wait(0.6)
        meanwhile = statuses(cluster)

        app.runtime.unfit = ""

        until(lambda: statuses(cluster).get("SUCCESS"), "taken")
    assert meanwhile == {"ENQUEUED": 1}


def _dbos_threads(before: set[threading.Thread]) -> list[str]:
    names = [thread.name for thread in set(threading.enumerate()) - before]
    return [name for name in names if name.startswith(("queue-worker", "dbos"))]
