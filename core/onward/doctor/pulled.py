"""The pulls: that they happen, and that none waits for a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from onward.config import Config
from onward.database import Database
from onward.doctor.check import Check, ok, problem, warning
from onward.plugins import Plugins
from onward.runtime import Runtime
from onward.sync.finish import ALERT_AFTER
from onward.sync.report import Standing, standings, when_said
from onward.sync.runs import ASKS

# Due for so long: nobody pulls.
LATE = timedelta(hours=1)


def check_pulls(
    config: Config,
    database: Database,
    plugins: Plugins,
    env: Mapping[str, str],
    clock: Callable[[], datetime],
) -> list[Check]:
    """Check every connection that is pulled."""
    runtime = Runtime(config, database, plugins, env=env, clock=clock)
    with database.read() as transaction:
        found = standings(runtime, transaction)
    now = clock()
    return [
        _check(one, now)
        for one in found
        if one.plan is not None and one.state.status == "active"
    ]


def _check(one: Standing, now: datetime) -> Check:
    name, plan = f"pull {one.state.name}", one.plan
    assert plan is not None  # noqa: S101 - others were left out
    if one.last is not None and one.last.state == ASKS:
        advice = (
            f"`onward sync {one.state.name} --accept` if that is right, else look at "
            "the account"
        )
        return problem(name, f"stopped and asks: {one.last.reason}", advice)
    if plan.tries >= ALERT_AFTER:
        why = one.last.reason if one.last is not None else ""
        advice = "it tries again by itself; repair what it says"
        return warning(name, f"failed {plan.tries} times: {why}", advice)
    if plan.due_at is not None and now - plan.due_at > LATE:
        since = f"{plan.due_at:%Y-%m-%d %H:%M} UTC"
        advice = "is a worker running? `onward worker`, or cron: `onward sync --due`"
        return warning(name, f"due since {since}", advice)
    last = one.done.finished_at if one.done is not None else None
    said = f"{last:%Y-%m-%d %H:%M} UTC" if last is not None else "never yet"
    return ok(name, f"last {said}, next {when_said(plan.due_at, now)}")
