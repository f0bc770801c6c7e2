"""The two questions of whoever runs the worker: does it live, can it work?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from onward.health.pulse import Pulse
from onward.migrate import HEAD, current_revision, releases_ahead
from onward.runtime import Runtime

# A sweep that neither ended nor began for so long hangs. A database that is away
# is no reason to be restarted: a sweep that fails has ended.
HANGS = timedelta(minutes=5)
PATIENCE_S = 3.0
# However often it is asked, the database is asked that rarely.
KEPT_S = 1.0


class Health:
    """What is wrong with this worker, in sentences without private words.

    Args:
        alive: tells whether the engine's threads run.
        stopping: tells whether it is to stop: no more work for it.
    """

    def __init__(
        self,
        runtime: Runtime,
        pulse: Pulse,
        alive: Callable[[], bool],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stopping = stopping
        self._runtime = runtime
        self._pulse = pulse
        self._alive = alive
        self._database = _Asked(lambda: database_problem(runtime))

    def not_live(self) -> list[str]:
        """Return why this process should be killed and started again; [] = not."""
        if self._stopping():
            return []
        reasons: list[str] = []
        if not self._alive():
            reasons.append("a thread of the worker ended")
        silent = time.monotonic() - self._pulse.beat_at
        # With a wrong clock it looks for nothing, and goes on by itself when it is set.
        if silent > HANGS.total_seconds() and not self._runtime.unfit:
            reasons.append(f"no look for work for {silent:.0f} s")
        return reasons

    def not_ready(self) -> list[str]:
        """Return why it cannot work now; [] = it can."""
        if self._stopping():
            return ["it stops"]
        reasons: list[str] = []
        if problem := self._database.answer():
            reasons.append(problem)
        if self._runtime.unfit:
            reasons.append(self._runtime.unfit)
        if not self._pulse.swept:
            reasons.append("it has not looked for work yet")
        if not self._alive():
            reasons.append("a thread of the worker ended")
        return reasons


def database_problem(runtime: Runtime) -> str:
    """Return why the database cannot be worked with; "" = it can."""
    database = runtime.database
    try:
        with database.read() as transaction:
            if database.in_memory:
                return ""
            current = current_revision(transaction)
            if current == HEAD:
                return ""
            ahead = releases_ahead(transaction, current)
    except SQLAlchemyError as error:
        # Its words may name hosts and users.
        return f"the database cannot be reached ({type(error).__name__})"
    if current is not None and current > HEAD and ahead in (0, 1):
        return ""  # the next release migrated it, and this one works beside
    return f"the database is at step {current}, this Onward needs step {HEAD}"


class _Asked:
    """A question in a thread of its own, so that it can hang without its askers."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._running = False
        self._said = ""
        self._said_at = 0.0

    def answer(self) -> str:
        with self._lock:
            if self._done.is_set() and time.monotonic() - self._said_at < KEPT_S:
                return self._said
            if not self._running:
                self._running = True
                self._done.clear()
                threading.Thread(
                    target=self._run, name="onward-ready", daemon=True
                ).start()
        if self._done.wait(PATIENCE_S):
            return self._said
        return f"the database has not answered within {PATIENCE_S:.0f} s"

    def _run(self) -> None:
        said = "the database cannot be asked"
        try:
            said = self._ask()
        finally:
            with self._lock:
                self._said, self._said_at = said, time.monotonic()
                self._running = False
                self._done.set()
