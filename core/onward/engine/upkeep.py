"""What is done again and again beside delivering, on one worker at a time."""

from __future__ import annotations

from datetime import timedelta

from onward.alerts.check import check
from onward.alerts.telling import tell
from onward.contacts.erasing import finish_erasures
from onward.delivery.repaired import try_paused
from onward.engine.port import Engine
from onward.errands.run import run_errands
from onward.pruning import prune_daily
from onward.runtime import Runtime
from onward.sync.due import pull_due

# Looks as often; each connection is tried once a day.
TRY_PAUSED = timedelta(minutes=15)
CHECK = timedelta(minutes=1)
TELL = timedelta(seconds=5)
# Looks as often; it is done once a day.
PRUNE = timedelta(minutes=15)
# Looks as often; what is due is known by then.
PULL = timedelta(seconds=5)
ERRANDS = timedelta(seconds=5)


def register_tasks(engine: Engine, runtime: Runtime) -> None:
    """Give an engine everything that has to be done from time to time.

    A task is known by its name, so that it runs on one worker at a time.
    """

    def check_alerts() -> None:
        check(runtime)

    def tell_alerts() -> None:
        tell(runtime)

    def try_paused_connections() -> None:
        try_paused(runtime)

    def prune_what_is_old() -> None:
        prune_daily(runtime, stopping=runtime.ending.is_set)

    def pull_what_is_due() -> None:
        pull_due(runtime, stopping=runtime.ending.is_set)

    def do_errands() -> None:
        finish_erasures(runtime)
        run_errands(
            runtime, stopping=lambda: bool(runtime.ending.is_set() or runtime.unfit)
        )

    engine.every(ERRANDS, do_errands)
    engine.every(PRUNE, prune_what_is_old)
    engine.every(PULL, pull_what_is_due)
    engine.every(TRY_PAUSED, try_paused_connections)
    engine.every(CHECK, check_alerts)
    engine.every(TELL, tell_alerts)
