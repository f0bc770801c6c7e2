"""The default engine: a pool of worker threads in this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from onward.delivery.drain import Report, drain
from onward.delivery.work import connections_with_work
from onward.engine.outage import Outage
from onward.engine.tasks import Tasks
from onward.engine.turns import Turns
from onward.instrument import Sweep
from onward.runtime import Runtime

log = logging.getLogger("onward.engine")

SWEEP = timedelta(seconds=2)
THREADS = 4
# Nobody waits longer for what another process may have changed meanwhile.
LONGEST = timedelta(seconds=15)


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
        self._away = Outage()
        self._tasks = Tasks(runtime, self._away)
        self._reset()

    def _reset(self) -> None:
        self._turns = Turns()
        # Connection → not before; what a drain said about when to come back, and
        # whether that holds for live events too.
        self._later: dict[int, tuple[datetime, bool]] = {}

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
        ]
        self._threads += [
            threading.Thread(
                target=self._drain, name=f"onward-worker-{number}", daemon=True
            )
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()
        self._tasks.start()

    def stop(self) -> None:
        """Let what is being sent end, then stop; returns when all have."""
        self._stopping.set()
        self._awake.set()
        self._turns.close()
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._tasks.stop()

    def wake(self, connection_id: int | None = None) -> None:
        """See `Engine.wake`."""
        if connection_id is None:
            self._awake.set()
        else:
            # Something has just happened; what else it has to do the sweep knows.
            self._turns.offer(connection_id, live=True)

    def every(self, interval: timedelta, function: Callable[[], None]) -> None:
        """See `Engine.every`."""
        self._tasks.every(interval, function)

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
        for connection_id, live in found.items():
            with self._lock:
                later, for_all = self._later.get(connection_id, (now, True))
            if later <= now or (live and not for_all):
                self._turns.offer(connection_id, live=live)
            else:
                wait = min(wait, later - now)
        return wait

    # -- working

    def _drain(self) -> None:
        while (connection_id := self._turns.next()) is not None:
            report = Report()
            try:
                report = drain(
                    self._runtime,
                    connection_id,
                    others_wait=self._turns.others_wait,
                    stopping=self._ends,
                )
            except Exception as error:
                if not self._away.begins(error):
                    log.exception("connection %s: the drain failed", connection_id)
            self._note(connection_id, report)

    def _ends(self) -> bool:
        return self._stopping.is_set() or bool(self._runtime.unfit)

    def _note(self, connection_id: int, report: Report) -> None:
        """Come back at once, at a given moment, or at the next sweep."""
        limited = report.stopped == "limit"
        with self._lock:
            self._later.pop(connection_id, None)
            if limited and report.again_at is not None:
                latest = self._runtime.clock() + LONGEST
                until = min(report.again_at, latest)
                self._later[connection_id] = (until, report.live)
        more = report.stopped == "turn"
        failed = True if report.stopped == "rest" else None
        if report.batches and not failed:
            failed = False
        self._turns.done(connection_id, more=more, live=report.live, failed=failed)
        if limited:
            self._awake.set()
