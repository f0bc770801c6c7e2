"""What the log lines of a piece of work carry, whoever writes them."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

# Beyond that many a line names how many there are, the first and the last.
MOST_IDS = 500


class Carried(Protocol):
    """Something that knows what the log lines about it carry."""

    def facts(self) -> Mapping[str, object]:
        """Return name → value; asked for each line, so that it may change."""
        ...


_bound: ContextVar[tuple[Carried, ...]] = ContextVar("onward_work", default=())


@contextmanager
def bound(work: Carried) -> Generator[None]:
    """Let all lines of the block carry the facts of some work.

    The work itself is kept, not what it says now: what it learns later is on the
    lines of other threads as well, if they run in a copy of this context.
    """
    token = _bound.set((*_bound.get(), work))
    try:
        yield
    finally:
        _bound.reset(token)


def facts() -> dict[str, object]:
    """Return what a line written here and now carries; the innermost work wins."""
    found: dict[str, object] = {}
    for work in _bound.get():
        found |= work.facts()
    return found


def named(ids: list[int]) -> dict[str, object]:
    """Return the facts of a line about several deliveries: their ids."""
    if len(ids) <= MOST_IDS:
        return {"delivery_ids": ids}
    return {"deliveries": len(ids), "first_id": min(ids), "last_id": max(ids)}


_OF_SEVERAL = frozenset({"delivery_ids", "deliveries", "first_id", "last_id"})


class ContextFilter(logging.Filter):
    """Adds the facts to a record; what the line itself says wins."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add them, and the type of an exception; drop no record."""
        own = vars(record)
        # A line about one delivery does not name all the others of its batch.
        single = "delivery_id" in own or not _OF_SEVERAL.isdisjoint(own)
        for name, value in facts().items():
            if name not in own and not (single and name in _OF_SEVERAL):
                setattr(record, name, value)
        if record.exc_info and record.exc_info[0] and "error" not in own:
            record.error = record.exc_info[0].__name__
        return True
