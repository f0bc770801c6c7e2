"""Look and tell, from whatever runs: a worker's tasks, a single `deliver`."""

from __future__ import annotations

from onward.alerts.check import check
from onward.alerts.telling import tell
from onward.runtime import Runtime


def watch(runtime: Runtime) -> None:
    """Find out what a person should know of, and tell it."""
    check(runtime)
    tell(runtime)
