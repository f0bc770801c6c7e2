"""The default engine: a pool of worker threads in this process."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from onward.delivery.drain import Report, drain
from onward.delivery.lease import take
from onward.delivery.work import connections_with_work
from onward.engine.outage import Outage
from onward.errors import Fenced
from onward.instrument import Sweep
from onward.runtime import Runtime

log = logging.getLogger("onward.engine")

SWEEP = timedelta(seconds=2)
THREADS = 4
# Nobody waits longer for what another process may have changed meanwhile.
LONGEST = timedelta(seconds=15)
FIRST, LAST = 0, 1


@dataclass(slots=True)
class _Task:
    """A function that is called again and again; `due` by the monotonic clock."""

    interval: timedelta
    function: Callable[[], None]
    due: float

    @property
    def lease(self) -> str:
        """Its lease: one worker at a time, whatever process that is in."""
        return f"every:{getattr(self.function, '__qualname__', repr(self.function))}"


class EmbeddedEngine:
    """Sweeps for due rows, is woken for new ones, drains in threads.

    Right on SQLite and on PostgreSQL, in one process or in many: the lease
    decides who drains a connection.

    Args:
        threads: connections drained at the same time.
        sweep: how often it looks without being woken.
    """

    def __init__(
        self, runtime: Runtime, *, threads: int = THREADS, sweep: timedelta = SWEEP
    ) -> None:
        self._runtime = runtime
        self._sweep = sweep
        self._count = threads
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._tasks: list[_Task] = []
        self._away = Outage()
        self._reset()

    def _reset(self) -> None:
        # Those whose last batch failed come last: four dead ones keep four threads
        # for a time-out each, and what works must not wait for four more.
        self._todo: queue.PriorityQueue[tuple[int, int, int | None]] = (
            queue.PriorityQueue()
        )
        self._turns = count()
        self._failed: set[int] = set()
        self._busy: set[int] = set()
        self._again: set[int] = set()
        # Connection → not before; what a drain said about when to come back.
        self._later: dict[int, datetime] = {}

    @property
    def is_running(self) -> bool:
        """Tell whether it was started and not stopped."""
        return bool(self._threads)

    @property
    def is_alive(self) -> bool:
        """Tell whether all its threads run."""
        return self.is_running and all(one.is_alive() for one in self._threads)

    def start(self) -> None:
        """Start the threads; a second call does nothing."""
        if self._threads:
            return
        self._stopping.clear()
        self._reset()
        self._threads = [
            threading.Thread(target=self._look, name="onward-sweep", daemon=True),
            # Of their own: a task that takes long must not delay what is due.
            threading.Thread(target=self._tend, name="onward-tasks", daemon=True),
        ]
        self._threads += [
            threading.Thread(
                target=self._drain, name=f"onward-worker-{number}", daemon=True
            )
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let what is being sent end, then stop; returns when all have."""
        self._stopping.set()
        self._awake.set()
        for _ in range(self._count):
            self._todo.put((FIRST, next(self._turns), None))
        for thread in self._threads:
            thread.join()
        self._threads = []

    def wake(self, connection_id: int | None = None) -> None:
        """See `Engine.wake`."""
        if connection_id is None:
            self._awake.set()
        else:
            self._offer(connection_id)

    def every(self, interval: timedelta, function: Callable[[], None]) -> None:
        """See `Engine.every`."""
        self._tasks.append(_Task(interval, function, time.monotonic()))

    def _offer(self, connection_id: int) -> None:
        with self._lock:
            if connection_id in self._busy:
                # What came while it was being drained may have been missed.
                self._again.add(connection_id)
                return
            self._busy.add(connection_id)
            rank = LAST if connection_id in self._failed else FIRST
        self._todo.put((rank, next(self._turns), connection_id))

    # -- looking for work

    def _look(self) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            wait = self._sweep
            try:
                if not self._runtime.unfit:
                    with self._runtime.instrument.watch(Sweep()):
                        wait = self._offer_due()
                self._away.over()
            except Exception as error:
                # A database that is away comes back; the sweep must live.
                if not self._away.begins(error):
                    log.exception("the sweep failed; it goes on")
            self._awake.wait(max(wait.total_seconds(), 0.001))

    def _offer_due(self) -> timedelta:
        """Offer what can be worked on; return when to look again."""
        now = self._runtime.clock()
        with self._runtime.database.read() as transaction:
            found = connections_with_work(transaction, now, able=True)
        wait = self._sweep
        for connection_id in found:
            with self._lock:
                later = self._later.get(connection_id)
            if later is None or later <= now:
                self._offer(connection_id)
            else:
                wait = min(wait, later - now)
        return wait

    # -- tasks

    def _tend(self) -> None:
        while not self._stopping.is_set():
            if not self._runtime.unfit:
                self._run_tasks()
            now = time.monotonic()
            due = min((task.due for task in self._tasks), default=now + 1)
            self._stopping.wait(min(max(due - now, 0.001), 1))

    def _run_tasks(self) -> None:
        now = time.monotonic()
        for task in self._tasks:
            if now < task.due:
                continue
            task.due = now + task.interval.total_seconds()
            try:
                self._run(task)
            except Exception as error:
                if not self._away.begins(error):
                    log.exception("%s failed; it is called again", task.lease)

    def _run(self, task: _Task) -> None:
        runtime = self._runtime
        length = runtime.config.lease
        held = take(runtime.database, task.lease, length, runtime.clock)
        if held is None:
            return
        try:
            task.function()
        except Fenced:
            log.warning("%s: another worker took over", task.lease)
        finally:
            held.release()

    # -- working

    def _drain(self) -> None:
        while (connection_id := self._todo.get()[2]) is not None:
            if self._stopping.is_set():
                continue  # what was offered before: others see it too
            report = Report()
            try:
                report = drain(
                    self._runtime,
                    connection_id,
                    others_wait=lambda: not self._todo.empty(),
                    stopping=self._stopping.is_set,
                )
            except Exception as error:
                if not self._away.begins(error):
                    log.exception("connection %s: the drain failed", connection_id)
            self._note(connection_id, report)

    def _note(self, connection_id: int, report: Report) -> None:
        """Come back at once, at a given moment, or at the next sweep."""
        soon = report.stopped == "turn"
        with self._lock:
            self._busy.discard(connection_id)
            again = connection_id in self._again or soon
            self._again.discard(connection_id)
            self._later.pop(connection_id, None)
            if report.stopped == "rest":
                self._failed.add(connection_id)
            elif report.batches:
                self._failed.discard(connection_id)
            if report.stopped == "limit" and report.again_at is not None:
                latest = self._runtime.clock() + LONGEST
                self._later[connection_id] = min(report.again_at, latest)
        if again and not self._stopping.is_set():
            self._offer(connection_id)
        elif report.stopped == "limit":
            self._awake.set()
