"""The default engine: a pool of worker threads in this process."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from onward.delivery.drain import drain
from onward.delivery.work import connections_with_work
from onward.runtime import Runtime

log = logging.getLogger("onward.engine")

SWEEP = timedelta(seconds=2)
THREADS = 4


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
        self._todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._busy: set[int] = set()
        self._again: set[int] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._every: list[tuple[timedelta, Callable[[], None], float]] = []

    @property
    def is_running(self) -> bool:
        """Tell whether it was started and not stopped."""
        return bool(self._threads)

    def start(self) -> None:
        """Start the threads; a second call does nothing."""
        if self._threads:
            return
        self._stopping.clear()
        self._threads = [threading.Thread(target=self._look, name="onward-sweep")]
        self._threads += [
            threading.Thread(target=self._drain, name=f"onward-worker-{number}")
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def stop(self) -> None:
        """Let what is being sent end, then stop; returns when all have."""
        self._stopping.set()
        self._awake.set()
        for _ in range(self._count):
            self._todo.put(None)
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
        self._every.append((interval, function, time.monotonic()))

    def _offer(self, connection_id: int) -> None:
        with self._lock:
            if connection_id in self._busy:
                # What came while it was being drained may have been missed.
                self._again.add(connection_id)
                return
            self._busy.add(connection_id)
        self._todo.put(connection_id)

    def _look(self) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            try:
                with self._runtime.database.read() as transaction:
                    found = connections_with_work(transaction, self._runtime.clock())
                for connection_id in found:
                    self._offer(connection_id)
                self._run_scheduled()
            except Exception:
                # A database that is away comes back; the sweep must live.
                log.exception("the sweep failed; it goes on")
            self._awake.wait(self._sweep.total_seconds())

    def _run_scheduled(self) -> None:
        now = time.monotonic()
        for place, (interval, function, due) in enumerate(self._every):
            if now >= due:
                self._every[place] = (
                    interval,
                    function,
                    now + interval.total_seconds(),
                )
                try:
                    function()
                except Exception:
                    log.exception("%s failed; it is called again", function)

    def _drain(self) -> None:
        while (connection_id := self._todo.get()) is not None:
            try:
                drain(
                    self._runtime,
                    connection_id,
                    others_wait=lambda: not self._todo.empty(),
                )
            except Exception:
                log.exception("connection %s: the drain failed", connection_id)
            with self._lock:
                self._busy.discard(connection_id)
                again = connection_id in self._again
                self._again.discard(connection_id)
            if again and not self._stopping.is_set():
                self._offer(connection_id)
