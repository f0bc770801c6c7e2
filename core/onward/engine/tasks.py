"""What is done again and again beside delivering, on one worker at a time."""

from __future__ import annotations

from datetime import timedelta

from onward.alerts.check import check
from onward.alerts.telling import tell
from onward.engine.port import Engine
from onward.runtime import Runtime

CHECK = timedelta(minutes=1)
TELL = timedelta(seconds=5)


def register_tasks(engine: Engine, runtime: Runtime) -> None:
    """Give an engine everything that has to be done from time to time.

    A task is known by its name, so that it runs on one worker at a time.
    """

    def check_alerts() -> None:
        check(runtime)

    def tell_alerts() -> None:
        tell(runtime)

    engine.every(CHECK, check_alerts)
    engine.every(TELL, tell_alerts)
