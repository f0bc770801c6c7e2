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
    """Calls functions again and again, in a thread of its own.

    Every process has its own turn; a lease, renewed while a function runs, keeps
    them from running it at the same time. For any engine to use.

    Args:
        away: of the engine, which says so when the database is away.
    """

    def __init__(self, runtime: Runtime, away: Outage) -> None:
        self._runtime = runtime
        self._away = away
        self._tasks: list[_Task] = []
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def every(self, interval: timedelta, function: Callable[[], None]) -> None:
        """See `Engine.every`; may be called before and after the start."""
        self._tasks.append(_Task(interval, function, time.monotonic()))
        self._changed.set()

    def start(self) -> None:
        """Begin calling them."""
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._loop, name="onward-tasks", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Let the function that runs end, and call no other."""
        self._stopping.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            for task in self._tasks:
                if task.due <= time.monotonic() and self._may_run():
                    task.due = time.monotonic() + self._try(task).total_seconds()
            due = min((task.due for task in self._tasks), default=None)
            pause = None if due is None else max(due - time.monotonic(), 0.001)
            self._changed.wait(SOON.total_seconds() if self._runtime.unfit else pause)

    def _may_run(self) -> bool:
        return not (self._stopping.is_set() or self._runtime.unfit)

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
