"""What this process does just now, for whoever asks whether it still lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from onward.instrument import Batch, Sweep, Work


class Pulse:
    """An instrument that knows the last sweep and the batches on their way.

    Attributes:
        beat_at: when it last began or ended a sweep, by the monotonic clock; at
            first: when it was made.
        swept: whether a sweep worked at all.
    """

    def __init__(self) -> None:
        self.beat_at = time.monotonic()
        self.swept = False
        self._lock = threading.Lock()
        self._batches: list[Batch] = []

    @property
    def batches(self) -> list[Batch]:
        """What is being sent or read back."""
        with self._lock:
            return list(self._batches)

    @contextmanager
    def watch(self, work: Work) -> Generator[None]:
        """Take note of it."""
        if isinstance(work, Sweep):
            self.beat_at = time.monotonic()
            try:
                yield
                self.swept = True
            finally:
                self.beat_at = time.monotonic()
        elif isinstance(work, Batch):
            with self._lock:
                self._batches.append(work)
            try:
                yield
            finally:
                with self._lock:
                    self._batches = [one for one in self._batches if one is not work]
        else:
            yield

    def settled(self, connection: str, ends: Iterable[tuple[str, str]]) -> None:
        """Do nothing."""

    def waited(self, connection: str, seconds: float) -> None:
        """Do nothing."""
