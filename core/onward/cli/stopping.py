"""Waiting for SIGINT and SIGTERM."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


def _exit_at_once() -> None:
    os._exit(130)


class StopSignals:
    """The signals that end a command, as they come.

    A handler runs in the middle of whatever the main thread does: one that raised
    could leave a lock half taken, and an event's own lock may be the one that is
    held. A simple queue is made for that.

    Args:
        again: called for every signal after the first, in the handler.

    Attributes:
        number: of the first signal; 0 = none came.
    """

    def __init__(self, again: Callable[[], None]) -> None:
        self.number = 0
        self._again = again
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Take note of one; the handler."""
        if self.number:
            self._again()
        self.number = number
        self._came.put(number)

    def __call__(self, timeout: float | None = None) -> bool:
        """Wait up to that many seconds, None = for ever; tell whether one came."""
        try:
            self._came.get(timeout=timeout)
        except queue.Empty:
            return False
        return True

    def came(self) -> bool:
        """Tell whether one came, without waiting."""
        return self.number != 0


def stop_signals(again: Callable[[], None] = _exit_at_once) -> StopSignals:
    """Listen for the signals that end a command; a second one exits at once."""
    signals = StopSignals(again)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signals.hear)
    return signals


@contextmanager
def ending_well() -> Generator[StopSignals, None, None]:
    """Let a command finish what it holds when it is told to stop.

    The handlers from before come back. A second signal exits at once: what was
    interrupted is read back by whoever comes next.
    """
    if threading.current_thread() is not threading.main_thread():
        yield StopSignals(_exit_at_once)  # signals are the main thread's
        return
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_signals()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
