"""The cluster engine: DBOS Transact spreads connections over all workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from onward.delivery.drain import Report, drain, lease_name
from onward.delivery.lease import read_fences
from onward.delivery.work import connections_with_work
from onward.engine.outage import Outage
from onward.engine.tasks import Tasks
from onward.engine.transact import POLL, THREADS, Queued, Transact
from onward.instrument import Sweep
from onward.runtime import Runtime

log = logging.getLogger("onward.engine")

SWEEP = timedelta(seconds=2)
# Those that wait get their turn after this and ten batches: to take the next one
# from the queue costs a worker a part of a second.
TURN = timedelta(seconds=0.5)
# Nobody waits longer for what another process may have changed meanwhile.
LONGEST = timedelta(seconds=15)
# How long and how often: workflows that ended tell nothing a row does not.
KEPT = timedelta(days=1)
CLEANING = timedelta(hours=1)


class ClusterEngine:
    """Queues connections in PostgreSQL, where every worker takes from.

    A connection is queued at most once until a worker takes it, and no second
    worker takes it meanwhile; one that is woken while it is drained is queued once
    more. All of it saves work only: whoever drains holds the lease.

    Args:
        threads: connections drained at the same time in this process.
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
        self._idle = threading.Condition(self._lock)
        self._draining = 0
        self._transact: Transact | None = None
        self._thread: threading.Thread | None = None
        self._away = Outage()
        self._tasks = Tasks(runtime, self._away)
        self._tasks.every(CLEANING, self._clean)
        self._reset()

    def _reset(self) -> None:
        self._woken: set[int] = set()
        # Connection → not before; what a drain said about when to come back.
        self._later: dict[int, datetime] = {}
        # Those nobody has taken yet, as of the last look.
        self._waiting: set[int] = set()
        self._next_sweep = time.monotonic()

    @property
    def is_alive(self) -> bool:
        """Tell whether it was started and its threads run."""
        thread, transact = self._thread, self._transact
        if thread is None or transact is None or not thread.is_alive():
            return False
        return transact.is_alive or bool(self._runtime.unfit)

    def start(self) -> None:
        """Start DBOS and its threads; a second call does nothing.

        Raises:
            ConfigError: DBOS runs in this process already, or its tables are
                missing.
        """
        if self._thread is not None:
            return
        self._stopping.clear()
        self._reset()
        transact = Transact(self._runtime.database)
        transact.launch(self._drain, threads=self._count)
        self._transact = transact
        self._tasks.start()
        self._thread = threading.Thread(
            target=self._look, args=(transact,), name="onward-sweep", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Let what is being sent end, then stop; returns when all have."""
        if self._thread is None or self._transact is None:
            return
        self._stopping.set()
        self._awake.set()
        self._tasks.stop()
        self._thread.join()
        self._shut_down(self._transact)
        self._thread = self._transact = None

    def _shut_down(self, transact: Transact) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._draining)
        transact.shut_down()

    def wake(self, connection_id: int | None = None) -> None:
        """See `Engine.wake`."""
        with self._lock:
            if connection_id is None:
                self._next_sweep = time.monotonic()
            else:
                self._woken.add(connection_id)
        self._awake.set()

    def every(self, interval: timedelta, function: Callable[[], None]) -> None:
        """See `Engine.every`."""
        self._tasks.every(interval, function)

    # -- looking for work

    def _look(self, transact: Transact) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            try:
                self._obey_fitness(transact)
                if transact.is_launched:
                    self._queue_work(transact)
                self._away.over()
            except Exception as error:
                # A database that is away comes back; the sweep must live.
                if not self._away.begins(error):
                    log.exception("the sweep failed; it goes on")
            # What comes within a moment is queued together: workers do not look
            # more often either.
            self._stopping.wait(POLL.total_seconds() / 2)
            self._awake.wait(max(self._next_sweep - time.monotonic(), 0.001))

    def _obey_fitness(self, transact: Transact) -> None:
        """Take nothing from the queue while this process must not send."""
        if not self._runtime.unfit and not transact.is_launched:
            transact.launch(self._drain, threads=self._count)
        elif self._runtime.unfit and transact.is_launched:
            self._shut_down(transact)

    def _queue_work(self, transact: Transact) -> None:
        with self._lock:
            woken, self._woken = self._woken, set()
            later, self._later = self._later, {}
            sweeps = time.monotonic() >= self._next_sweep
            if sweeps:
                self._next_sweep = time.monotonic() + self._sweep.total_seconds()
        try:
            found: list[int] = []
            if sweeps:
                with self._runtime.instrument.watch(Sweep()):
                    found = self._find()
            # Read after the wake-ups: whoever takes one of these sees their rows.
            queued = transact.queued()
            self._queue(transact, queued, woken, later, found)
        except BaseException:
            with self._lock:
                self._woken |= woken
            raise

    def _find(self) -> list[int]:
        now = self._runtime.clock()
        with self._runtime.database.read() as transaction:
            return list(connections_with_work(transaction, now, able=True))

    def _queue(
        self,
        transact: Transact,
        queued: list[Queued],
        woken: set[int],
        later: dict[int, datetime],
        found: Iterable[int],
    ) -> None:
        known = {one.connection_id for one in queued}
        waiting = {one.connection_id for one in queued if one.state == "ENQUEUED"}
        delayed = {one.connection_id for one in queued if one.state == "DELAYED"}
        soon = woken.union(of for of in found if of not in known) - waiting
        names = self._names({*soon, *later})
        timeout = self._runtime.config.lease
        for of in soon:
            transact.put(of, names[of], timeout=timeout)
        now = self._runtime.clock()
        for of in later.keys() - delayed:
            after = max(later[of] - now, timedelta())
            transact.put(of, f"{names[of]}-later", timeout=timeout, after=after)
        self._waiting = waiting | soon

    def _names(self, of: set[int]) -> dict[int, str]:
        """Return what each workflow is called, so that several wakers queue one.

        It tells which holder of the lease it comes after: a wake-up while that one
        drains is a new one. And the moment, roughly: one that was lost is repeated.
        """
        if not of:
            return {}
        leases = {one: lease_name(one) for one in of}
        with self._runtime.database.read() as transaction:
            fences = read_fences(transaction, leases.values())
        moment = int(self._runtime.clock().timestamp() / self._sweep.total_seconds())
        return {one: f"{name}-{fences[name]}-{moment}" for one, name in leases.items()}

    # -- working

    def _drain(self, connection_id: int) -> None:
        """Drain one connection, in a thread of DBOS, for half a lease at most.

        Longer, and the workflow's time-out would tell the others it is free.
        """
        with self._lock:
            self._draining += 1
        begun = time.monotonic()
        turn, most = TURN.total_seconds(), self._runtime.config.lease / 2

        def others_wait() -> bool:
            waits = self._waiting - {connection_id}
            return bool(waits) and time.monotonic() > begun + turn

        def over() -> bool:
            return time.monotonic() > begun + most.total_seconds()

        def stopping() -> bool:
            return self._stopping.is_set() or bool(self._runtime.unfit)

        try:
            if not stopping():
                report = drain(
                    self._runtime,
                    connection_id,
                    others_wait=others_wait,
                    stopping=stopping,
                    over=over,
                )
                self._note(connection_id, report)
        except Exception as error:
            if not self._away.begins(error):
                log.exception("connection %s: the drain failed", connection_id)
        finally:
            with self._idle:
                self._draining -= 1
                self._idle.notify_all()

    def _note(self, connection_id: int, report: Report) -> None:
        """Come back at once, at a given moment, or at the next sweep."""
        if report.stopped == "turn":
            self.wake(connection_id)
        elif report.stopped == "limit" and report.again_at is not None:
            latest = self._runtime.clock() + LONGEST
            with self._lock:
                self._later[connection_id] = min(report.again_at, latest)
            self._awake.set()

    def _clean(self) -> None:
        before = self._runtime.clock() - KEPT
        while self._transact is not None and not self._stopping.is_set():
            if not self._transact.remove_ended(before):
                return
