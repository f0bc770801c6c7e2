"""Counting requests against the two windows.

Source:
    icontact-api.md 16: the numbers, the body and the kind of window are not known.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from .switches import Switches

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


class RateLimit:
    """A sliding log of the admitted requests."""

    def __init__(self) -> None:
        self._times: deque[datetime] = deque()

    def admits(self, now: datetime, switches: Switches) -> bool:
        """Say whether a request may pass, and count it if it may."""
        per_minute, per_day = switches.rate_per_minute, switches.rate_per_day
        if not per_minute and not per_day:
            return True
        while self._times and self._times[0] <= now - _DAY:
            self._times.popleft()
        if per_day and len(self._times) >= per_day:
            return False
        if per_minute:
            recent = 0
            for at in reversed(self._times):
                if at <= now - _MINUTE:
                    break
                recent += 1
            if recent >= per_minute:
                return False
        self._times.append(now)
        return True
