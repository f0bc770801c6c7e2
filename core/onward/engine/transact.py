"""What we use of DBOS Transact: one queue, and one workflow that is told a connection.

A workflow holds nothing of a contact and has no steps, so one that is lost is not
missed: the sweep queues its connection again. DBOS' own tables lie in the schema
`dbos` of the same database; `onward db upgrade` makes them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions, error
from sqlalchemy.exc import DBAPIError

from onward.database import Database
from onward.delivery.lease import this_process
from onward.errors import ConfigError

APPLICATION = "onward"
QUEUE = WORKFLOW = "onward.drain"
SCHEMA = "dbos"
# The same in every release, so that a worker takes up what a newer or older one
# queued. Another one only if the workflow were told something else.
VERSION = "1"
# How often a worker looks into the queue; a look costs it 5 to 10 ms of processor.
POLL = timedelta(seconds=0.25)
# Of Onward's connections, how many a worker drains at the same time.
THREADS = 8
# Connections of DBOS to the database, at most, in each process.
POOL = 10
BULK = 500
# Seconds until it repeats itself in the log.
OFTEN = 300.0
# Seconds in which what has ended is noted, when a worker stops.
PATIENCE = 10.0
# Names of its threads: the one that takes from the queue, those that work.
_TAKES, _WORKS = f"queue-worker-{QUEUE}", "dbos-executor-"

Drain = Callable[[int], None]

# DBOS has one instance in a process, and finds a workflow by its name.
_drains: list[Drain] = []


@DBOS.workflow(name=WORKFLOW)
def _drain(connection_id: int) -> None:
    for drain in _drains:
        drain(connection_id)


@dataclass(frozen=True, slots=True)
class Queued:
    """A workflow that has not ended.

    Args:
        state: `ENQUEUED`, `DELAYED` (queued, not before a moment) or `PENDING`
            (a worker has it).
    """

    connection_id: int
    state: str


def migrate(database: Database) -> None:
    """Make the tables of DBOS, or bring them to what its installed version needs."""
    _tame_logging()
    DBOS.migrate(database.url, schema=SCHEMA)
    # A worker that starts finds it there; one that is new is seen a second later.
    Transact(database).register_queue(THREADS)


class Transact:
    """The queue in the database, and DBOS in this process while it is launched.

    Args:
        database: on PostgreSQL; what is asked of the queue goes over its
            connections and raises what they raise. DBOS itself has its own, and
            waits for a database that is away.
    """

    def __init__(self, database: Database) -> None:
        _tame_logging()
        self._url = database.url
        self._client = DBOSClient(
            system_database_engine=database.engine,
            dbos_system_schema=SCHEMA,
            application_name=APPLICATION,
            retry_connection_errors=False,
            lazy=True,
        )
        self._executor = ""
        self._dbos: DBOS | None = None

    # -- this process

    @property
    def is_launched(self) -> bool:
        """Tell whether this process takes from the queue."""
        return self._dbos is not None

    @property
    def is_alive(self) -> bool:
        """Tell whether it is launched and the thread that takes from the queue runs."""
        taking = any(thread.name == _TAKES for thread in threading.enumerate())
        return self.is_launched and taking

    def launch(self, drain: Drain, *, threads: int) -> None:
        """Start DBOS in this process: its threads take connections from the queue.

        Nothing of it leaves the process: no conductor, no traces, no admin server.

        Args:
            drain: called in a thread of DBOS with a connection's id; raises nothing.
            threads: connections this process works on at the same time.

        Raises:
            ConfigError: it runs here already, or its tables are missing or too old.
        """
        self._executor = f"{this_process()}:{uuid4().hex[:8]}"
        dbos = DBOS(config=self._config())
        # Where there is one already, that one comes back, whatever it was asked for.
        if DBOS.executor_id != self._executor:
            raise ConfigError(
                "DBOS runs in this process already, or did in the one it was forked "
                "from, and a process can have one: stop the other first, or run this "
                "worker in a process of its own"
            )
        try:
            DBOS.launch()
            self.register_queue(threads)
        except error.DBOSInitializationError as failure:
            DBOS.destroy()
            raise ConfigError(
                f'the tables of DBOS (schema "{SCHEMA}") are missing or older than the '
                "installed dbos needs: run `onward db upgrade` once, from any machine"
            ) from failure
        except BaseException:
            DBOS.destroy()
            raise
        _drains[:] = [drain]
        self._dbos = dbos

    def _config(self) -> DBOSConfig:
        return {
            "name": APPLICATION,
            "system_database_url": self._url,
            "dbos_system_schema": SCHEMA,
            "run_migrations": False,
            "application_version": VERSION,
            # Never one that was before: what a dead process had ends by its time-out.
            "executor_id": self._executor,
            "sys_db_pool_size": POOL,
            "db_engine_kwargs": {"hide_parameters": True},
            # Nobody waits for a workflow, so nobody needs to be told of its end.
            "use_listen_notify": False,
            "notification_listener_polling_interval_sec": 0.2,
            "scheduler_polling_interval_sec": 3600.0,
            "enable_otlp": False,
            "log_level": "WARNING",
        }

    def shut_down(self) -> None:
        """Take nothing more, wait for what was taken, and end every thread of DBOS."""
        if self._dbos is None:
            return
        # DBOS.destroy() can wait as well, but looks only once a second.
        for event in self._dbos.background_thread_stop_events:
            event.set()
        _join(_TAKES)
        patience = time.monotonic() + PATIENCE
        # A database that is away cannot say it; then nothing needs to be noted there.
        with suppress(DBAPIError):
            while self._has_some() and time.monotonic() < patience:
                threading.Event().wait(0.01)
        DBOS.destroy()
        self._dbos = None
        _drains.clear()
        _join(_WORKS)

    def _has_some(self) -> bool:
        found = self._client.list_workflows(
            status="PENDING",
            executor_id=self._executor,
            limit=1,
            load_input=False,
            load_output=False,
        )
        return bool(found)

    # -- the queue

    def register_queue(self, threads: int) -> None:
        """Let the queue be as this release wants it."""
        self._client.register_queue(
            QUEUE,
            worker_concurrency=threads,
            partition_concurrency=1,
            polling_interval_sec=POLL.total_seconds(),
        )

    def put(
        self,
        connection_id: int,
        name: str,
        *,
        timeout: timedelta,
        after: timedelta | None = None,
    ) -> None:
        """Queue a connection, unless there was a workflow of this name.

        While one of its workflows runs, anywhere, no other of them begins.

        Args:
            timeout: when it has run so long, another one may begin, whether its
                worker lives or not.
            after: not before; up to a second is added.
        """
        options: EnqueueOptions = {
            "queue_name": QUEUE,
            "workflow_name": WORKFLOW,
            "workflow_id": name,
            "queue_partition_key": str(connection_id),
            "workflow_timeout": timeout.total_seconds(),
            "app_version": VERSION,
        }
        if after is not None:
            options["delay_seconds"] = after.total_seconds()
        self._client.enqueue(options, connection_id)

    def queued(self) -> list[Queued]:
        """Return what has not ended, of all processes."""
        found = self._client.list_queued_workflows(
            queue_name=QUEUE, load_input=False, load_output=False
        )
        return [Queued(int(row.queue_partition_key or 0), row.status) for row in found]

    def remove_ended(self, before: datetime) -> int:
        """Delete up to 500 workflows that ended before a moment; return how many."""
        found = self._client.list_workflows(
            name=WORKFLOW,
            completed_before=before.isoformat(),
            limit=BULK,
            load_input=False,
            load_output=False,
        )
        if found:
            self._client.delete_workflows([row.workflow_id for row in found])
        return len(found)


def _join(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            thread.join(PATIENCE)


def _tame_logging() -> None:
    """Let DBOS log like everybody else; without a handler it adds one of its own."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.WARNING)
    logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether to log it.

    Not what is raised as well, nor what we planned for, nor the same again and again:
    of a database that is away, every loop of DBOS complains at every turn.
    """
    said = str(record.msg)
    failure = record.exc_info[1] if record.exc_info else None
    if (
        said.startswith("DBOS failed to launch")
        # It outlasted its time-out; the lease decides whether that matters.
        or isinstance(failure, error.DBOSAwaitedWorkflowCancelledError)
        or "outcome was not recorded" in said
    ):
        return False
    kind, now = said[:30], time.monotonic()
    if now - _said.get(kind, -OFTEN) < OFTEN:
        return False
    _said[kind] = now
    return True


_said: dict[str, float] = {}
