"""The clock a worker goes by: this machine's, corrected to the database server's.

Leases and due times are compared by workers on several machines. Everywhere else
time is the machine's own; this is the one place that asks a server for it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from onward.alerts.book import Kind, close_alert, open_alert
from onward.database import Database
from onward.runtime import Runtime

log = logging.getLogger("onward.engine")

# Further apart a clock is wrong rather than late, and what it wrote elsewhere is too.
MOST_APART = timedelta(seconds=5)
EVERY_S = 60.0
# Of a wrong clock, until it is right again.
SOON_S = 5.0
# The quickest of so many answers says it best.
QUESTIONS = 3

_NOW = text("SELECT clock_timestamp()")


class Worktime:
    """Corrects a runtime's clock, and keeps it from working when that is too wrong.

    Does nothing on SQLite, where everybody goes by one machine's clock, and under a
    test's own clock.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._own = runtime.clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._is_measured = False
        self.offset = timedelta()
        """What is added to this machine's clock."""
        self.is_followed = not runtime.database.is_sqlite and not runtime.simulated

    def __call__(self) -> datetime:
        """Return the current moment by the server's clock."""
        return self._own() + self.offset

    def start(self) -> None:
        """Measure for the first time and let the runtime go by it."""
        if self.is_followed:
            self.keep()
            self._runtime.clock = self

    def stop(self) -> None:
        """Give the runtime its own clock back."""
        if self._runtime.clock is self:
            self._runtime.clock = self._own
            self._runtime.unfit = ""

    def keep(self, *, now: bool = False) -> None:
        """Measure anew when a minute has passed.

        Args:
            now: whether it has or not.
        """
        if not self.is_followed or (time.monotonic() < self._next and not now):
            return
        with self._lock:
            self._take(measure(self._runtime.database, self._own))

    def _take(self, offset: timedelta) -> None:
        before = self._runtime.unfit
        wrong = abs(offset) > MOST_APART
        self._next = time.monotonic() + (SOON_S if wrong else EVERY_S)
        self.offset = offset
        self._runtime.unfit = _sentence(offset) if wrong else ""
        if wrong and not before:
            log.error("%s", self._runtime.unfit)
        elif before and not wrong:
            log.warning("the clock is right again: the worker goes on")
        if wrong or before or not self._is_measured:
            self._runtime.database.run(self._alert)
        self._is_measured = True

    def _alert(self, transaction: Transaction) -> None:
        """Let people know of this machine's clock, and when it is right again."""
        host, why = socket.gethostname(), self._runtime.unfit
        if why:
            # Said each time: of a machine that never comes back it is over by that.
            open_alert(
                transaction, self(), Kind.CLOCK, subject=host, reason=why, again=False
            )
        else:
            close_alert(transaction, self(), Kind.CLOCK, host)


def measure(database: Database, clock: Callable[[], datetime]) -> timedelta:
    """Return how far the server's clock is ahead of ours, exact to half a round trip.

    Args:
        clock: ours.
    """
    found: list[tuple[float, timedelta]] = []
    with database.read() as connection:
        for _ in range(QUESTIONS):
            begun, asked = time.monotonic(), clock()
            server: datetime = connection.execute(_NOW).scalar_one()
            took = time.monotonic() - begun
            found.append((took, server - asked - timedelta(seconds=took / 2)))
    return min(found)[1]


def _sentence(offset: timedelta) -> str:
    seconds = abs(offset.total_seconds())
    way = "behind" if offset > timedelta() else "ahead of"
    return (
        f"this machine's clock is {seconds:.0f} s {way} the database server's, and a "
        "worker may be at most 5 s apart, or it would take what others are sending; "
        "set the clock (NTP), and it goes on by itself"
    )
