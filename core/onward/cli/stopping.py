"""Waiting for SIGINT and SIGTERM."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Callable
from types import FrameType


def _exit_at_once() -> None:
    os._exit(130)


def stop_signals(again: Callable[[], None] = _exit_at_once) -> Callable[..., bool]:
    """Listen for the signals that end a command.

    A handler runs in the middle of whatever the main thread does: one that raised
    could leave a lock half taken, and an event's own lock may be the one that is
    held. A simple queue is made for that.

    Args:
        again: called for every signal after the first, in the handler.

    Returns:
        `wait(timeout)`: waits up to that many seconds, or for ever with None, and
        tells whether a signal came.
    """
    came: queue.SimpleQueue[int] = queue.SimpleQueue()
    first: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if first:
            again()
        first.append(number)
        came.put(number)

    def wait(timeout: float | None = None) -> bool:
        try:
            came.get(timeout=timeout)
        except queue.Empty:
            return False
        return True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hear)
    return wait
