"""Whose turn it is: one line for live events, one for back-fills."""

from __future__ import annotations

import threading

# Of so many turns one is a back-fill's, however many live events there are.
ROUND = 4
# While others always have work, one of so many is of somebody whose last batch failed.
RARELY = 16


class Turns:
    """Connections that wait to be drained, each once, and those being drained.

    First come, first served, live events before back-fills. Whoever still has work
    after a turn stands at the end of its line. Those whose last batch failed come
    last: four dead ones keep four threads for a time-out each, and what works must
    not wait for four more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Dicts as ordered sets.
        self._live: dict[int, None] = {}
        self._backfills: dict[int, None] = {}
        self._doubtful: dict[int, None] = {}
        self._failed: set[int] = set()
        self._working: set[int] = set()
        # Offered while being drained, and whether for something live.
        self._again: dict[int, bool] = {}
        self._in_a_row = 0
        self._count = 0
        self._closed = False

    def offer(self, of: int, *, live: bool) -> None:
        """Put a connection into its line, or from the later into the earlier one.

        What comes while it is being drained may have been missed: once more then.
        """
        with self._changed:
            if of in self._working:
                self._again[of] = live or self._again.get(of, False)
            elif of in self._failed:
                self._doubtful.setdefault(of)
            elif live:
                self._backfills.pop(of, None)
                self._live.setdefault(of)
            elif of not in self._live:
                self._backfills.setdefault(of)
            self._changed.notify()

    def next(self) -> int | None:
        """Return whose turn it is, waiting for somebody; None = closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._anybody())
            if self._closed:
                return None
            line = self._line()
            of = next(iter(line))
            del line[of]
            self._working.add(of)
            return of

    def done(
        self, of: int, *, more: bool, live: bool, failed: bool | None = None
    ) -> None:
        """Note that a turn is over.

        Args:
            more: there is work left.
            live: what is left is live.
            failed: its last batch did; None = there was none.
        """
        with self._changed:
            if failed is not None:
                (self._failed.add if failed else self._failed.discard)(of)
            self._working.discard(of)
            again = self._again.pop(of, None)
            if more or again is not None:
                self.offer(of, live=bool(again) or (more and live))

    def others_wait(self) -> bool:
        """Tell whether somebody waits for a turn."""
        with self._changed:
            return self._anybody()

    def close(self) -> None:
        """Give nobody a turn any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _anybody(self) -> bool:
        return bool(self._live or self._backfills or self._doubtful)

    def _line(self) -> dict[int, None]:
        self._count += 1
        works = self._live or self._backfills
        if self._doubtful and (not works or self._count % RARELY == 0):
            return self._doubtful
        if self._live and (self._in_a_row < ROUND - 1 or not self._backfills):
            self._in_a_row += 1
            return self._live
        self._in_a_row = 0
        return self._backfills
