"""Read pages in a thread of their own, one ahead of what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self

from onward.contract import Page


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
            self._next = self._pool.submit(copy_context().run, self._read)

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
        if self._pages is None:
            self._pages = iter(self._pull())
        return next(self._pages, None)
