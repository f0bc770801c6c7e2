"""What an engine is: four calls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol


class Engine(Protocol):
    """Runs `drain` where there is work; knows nothing of contacts.

    The push row owns the work, an engine only learns "connection X has some". A
    wake-up that gets lost costs time, never work: the sweep finds it. What each call
    promises, and a whole engine in sixty lines, stand in `docs/engines.md`.
    """

    def start(self) -> None:
        """Begin working, in threads of this process or elsewhere.

        Raises:
            ConfigError: it cannot run here.
        """
        ...

    def stop(self) -> None:
        """End what is being sent, then stop."""
        ...

    def wake(self, connection_id: int | None = None) -> None:
        """Say that a connection has work; None = look at all of them.

        Waits for nobody and raises nothing. A connection that is being drained is
        drained once more.
        """
        ...

    def every(self, interval: timedelta, function: Callable[[], None]) -> None:
        """Call a function again and again, on one worker at a time."""
        ...
