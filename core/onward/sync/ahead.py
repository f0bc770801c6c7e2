"""Read pages in a thread of their own, one ahead of what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Event
from types import TracebackType
from typing import Self

from onward.contract import Page

# One that must wait longer for its turn does so while a page is stored.
A_MOMENT_S = 0.05


class Ahead:
    """The pages of a pull; the next is asked for while one is stored.

    Never more than one is held besides the one that was given out, so memory stays
    flat, and a pull that is killed has asked for one page in vain.

    Args:
        pull: makes the pages; runs in the other thread alone.
    """

    def __init__(self, pull: Callable[[], Iterable[Page]]) -> None:
        self._pull = pull
        self._pages: Iterator[Page] | None = None
        self._pool = ThreadPoolExecutor(1, "onward-pull")
        self._next: Future[Page | None] | None = None
        self._asked = Event()

    def __enter__(self) -> Self:
        """Be ready to read."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the request that is on its way end, and ask for nothing more."""
        self._pool.shutdown(wait=True)

    @property
    def is_reading(self) -> bool:
        """Tell whether a page was asked for that nobody took yet."""
        return self._next is not None

    def prepare(self) -> None:
        """Begin to read the next page, if nobody does."""
        if self._next is None:
            self._asked.clear()
            self._next = self._pool.submit(copy_context().run, self._read)

    def ask(self) -> None:
        """Begin to read the next page; return when the request is on its way.

        A call is noted in the database first. Where there is one writer, storing a
        page would keep it from that, and the request from leaving meanwhile.
        """
        self.prepare()
        self._asked.wait(A_MOMENT_S)

    def is_on_its_way(self) -> None:
        """Note that a request leaves; called in the other thread."""
        self._asked.set()

    def take(self) -> Page | None:
        """Return the next page, None after the last; raises what reading raises."""
        self.prepare()
        reading, self._next = self._next, None
        return reading.result() if reading is not None else None

    def is_over(self) -> bool:
        """Wait for the next page and keep it; tell whether there is none.

        What reading raises, `take` raises.
        """
        self.prepare()
        reading = self._next
        if reading is None or reading.exception() is not None:
            return False
        return reading.result() is None

    def _read(self) -> Page | None:
        try:
            if self._pages is None:
                self._pages = iter(self._pull())
            return next(self._pages, None)
        finally:
            self._asked.set()
