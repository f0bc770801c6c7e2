"""`every`: functions that are called again and again, on one worker at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from onward.delivery.lease import Held, take
from onward.engine.outage import Outage
from onward.errors import Fenced
from onward.runtime import Runtime

log = logging.getLogger("onward.engine")

# When to try again what the database, or this machine's clock, did not allow.
SOON = timedelta(seconds=15)


@dataclass(slots=True)
class _Task:
    """A function and when to call it; `due` by the monotonic clock."""

    interval: timedelta
    function: Callable[[], None]
    due: float

    @property
    def lease(self) -> str:
        """Its lease: one worker at a time, whatever process that is in."""
        return f"every:{getattr(self.function, '__name__', repr(self.function))}"


class Tasks:
    """Calls functions again and again, each in a thread of its own.

    So none waits for one that takes long. Every process has its own turn; a lease,
    renewed while a function runs, keeps them from running it at the same time. For
    any engine to use.

    Args:
        away: of the engine, which says so when the database is away.
    """

    def __init__(self, runtime: Runtime, away: Outage) -> None:
        self._runtime = runtime
        self._away = away
        self._tasks: list[_Task] = []
        self._changing = threading.Lock()
        # Two functions may have one name: the second waits for the first.
        self._turns: dict[str, threading.Lock] = {}
        self._stopping = threading.Event()
        # None = not started.
        self._threads: list[threading.Thread] | None = None

    def every(self, interval: timedelta, function: Callable[[], None]) -> None:
        """See `Engine.every`; may be called before and after the start."""
        task = _Task(interval, function, time.monotonic())
        with self._changing:
            self._tasks.append(task)
            self._turns.setdefault(task.lease, threading.Lock())
            if self._threads is not None:
                self._threads.append(self._begin(task))

    def start(self) -> None:
        """Begin calling them."""
        with self._changing:
            if self._threads is None:
                self._stopping.clear()
                self._threads = [self._begin(task) for task in self._tasks]

    def stop(self) -> None:
        """Let the functions that run end, and call no other."""
        with self._changing:
            self._stopping.set()
            threads, self._threads = self._threads or [], None
        for thread in threads:
            thread.join()

    def _begin(self, task: _Task) -> threading.Thread:
        name = f"onward-{task.lease}"
        thread = threading.Thread(
            target=self._loop, args=(task,), name=name, daemon=True
        )
        thread.start()
        return thread

    def _loop(self, task: _Task) -> None:
        pause = task.due - time.monotonic()
        while not self._stopping.wait(max(pause, 0)):
            if self._runtime.unfit:
                pause = SOON.total_seconds()
                continue
            with self._turns[task.lease]:
                pause = self._try(task).total_seconds()
            task.due = time.monotonic() + pause

    def _try(self, task: _Task) -> timedelta:
        """Call it, if nobody else does; return when it is its turn again."""
        runtime = self._runtime
        try:
            length = runtime.config.lease
            held = take(runtime.database, task.lease, length, runtime.clock)
            if held is not None:
                self._run(task, held)
        except Fenced:
            log.warning("%s: another worker took over", task.lease)
        except Exception as error:
            if not self._away.begins(error):
                log.exception("%s failed; it is called again", task.lease)
            return min(task.interval, SOON)
        return task.interval

    def _run(self, task: _Task, held: Held) -> None:
        # In a thread of its own, so that this one can renew the lease meanwhile.
        thread = threading.Thread(target=_call, args=(task,), name=task.lease)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(held.length.total_seconds() / 3)
                held.renew()
        finally:
            thread.join()
            if not held.lost:
                held.release()


def _call(task: _Task) -> None:
    try:
        task.function()
    except Exception:
        log.exception("%s failed; it is called again", task.lease)
