"""The threads of a worker in simulated time, one event after the other."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import count

from onward.delivery.drain import Report, drain
from onward.engine.embedded import EmbeddedEngine
from onward.testing.app import TestApp

Event = tuple[datetime, int, Callable[[], None]]


class Pool:
    """What `threads` threads of an embedded engine do, as far as the clock says.

    The sweep, the turns and the drains are the real ones. A drain is run when its
    thread takes it up; however far it moves the clock, so long its thread is busy,
    and the others go on from where they are.

    Args:
        app: its fake service moves the clock by what a call takes.
    """

    def __init__(self, app: TestApp, threads: int = 4) -> None:
        self._app = app
        self._idle = threads
        self._engine = EmbeddedEngine(app.runtime)
        self._turns = self._engine._turns  # pyright: ignore[reportPrivateUsage]
        self._events: list[Event] = []
        self._numbers = count()
        # When each drain began and ended, and of which connection.
        self.drains: list[tuple[datetime, datetime, int]] = []

    def run(self, length: timedelta) -> None:
        """Let that much time pass."""
        clock = self._app.clock
        end = clock.now + length
        self._at(clock.now, self._sweep)
        while self._events and self._events[0][0] <= end:
            clock.now, _, happen = heapq.heappop(self._events)
            happen()
            self._take_up()
        clock.now = end
        # Those who were still at it end now; nothing of them is lost.
        for _, _, happen in sorted(self._events, key=lambda event: event[:2]):
            if happen != self._sweep:
                happen()
        self._events.clear()

    def _at(self, moment: datetime, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), happen))

    def _sweep(self) -> None:
        wait = self._engine._offer_due()  # pyright: ignore[reportPrivateUsage]
        pause = max(wait, timedelta(milliseconds=1))
        self._at(self._app.clock.now + pause, self._sweep)

    def _take_up(self) -> None:
        clock, began = self._app.clock, self._app.clock.now
        while self._idle and self._turns.others_wait():
            of = self._turns.next()
            if of is None:
                return
            self._idle -= 1
            others_wait = self._turns.others_wait
            report = drain(self._app.runtime, of, others_wait=others_wait)
            self.drains.append((began, clock.now, of))

            self._at(clock.now, partial(self._end, of, report))
            clock.now = began

    def _end(self, of: int, report: Report) -> None:
        self._idle += 1
        self._engine._note(of, report)  # pyright: ignore[reportPrivateUsage]
