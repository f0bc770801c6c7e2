"""The connections, as the database knows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import func, select

from onward.config import Config
from onward.connections.declare import as_declared
from onward.connections.listing import Listed, list_connections
from onward.connections.open import bind_map, make_integration, read_settings
from onward.database import Database
from onward.doctor.check import Check, ok, problem, warning
from onward.doctor.targets import unknown_segments
from onward.errors import OnwardError
from onward.models import Connection, Push, table
from onward.plugins import Plugins
from onward.runtime import Runtime
from onward.speed import read_slowed

# Due for so long, with nothing in the way: nobody delivers.
LATE = timedelta(minutes=10)

pushes = table(Push)
rows = table(Connection)


def check_connections(
    config: Config,
    database: Database,
    plugins: Plugins,
    env: Mapping[str, str],
    clock: Callable[[], datetime],
) -> list[Check]:
    """Check every connection that could push, and that somebody delivers."""
    runtime = Runtime(config, database, plugins, env=env, clock=clock)
    with database.read() as transaction:
        listed = [
            replace(one, state=as_declared(one.state, config.connections))
            for one in list_connections(transaction)
        ]
        oldest = transaction.execute(
            select(func.count(), func.min(pushes.c.due_at))
            .join(rows, rows.c.id == pushes.c.connection_id)
            .where(
                pushes.c.state == "waiting",
                pushes.c.due_at < clock() - LATE,
                rows.c.paused_code == "",
                rows.c.rest_until.is_(None),
            )
        ).one()
    found = [check for one in listed for check in _check(runtime, one)]
    with database.read() as transaction:
        for name, message in unknown_segments(transaction, config):
            found.append(problem(name, message, "correct `segment`, or make the list"))
    known = {one.state.name for one in listed}
    for name in config.connections:
        if name not in known:
            advice = f"`onward connections test {name}` tries it"
            found.append(warning(f"connection {name}", "never verified", advice))
    if not known and not config.connections:
        advice = "`onward connections add INTEGRATION` makes one"
        found.append(warning("connections", "there is none", advice))
    if oldest[0]:
        found.append(
            warning(
                "worker",
                f"{oldest[0]} pushes have been due for more than 10 minutes",
                "is a worker running? `onward worker`, or `onward deliver` once",
            )
        )
    return found


def _check(runtime: Runtime, one: Listed) -> list[Check]:
    state = one.state
    name = f"connection {state.name}"
    test = f"`onward connections test {state.name}`"
    if not state.enabled:
        return [ok(name, "switched off")]
    try:
        raw = read_settings(runtime, state)
        make_integration(runtime, state.integration, raw, name=state.name)
    except OnwardError as error:
        return [problem(name, error.message, f"repair it, then {test}")]
    if state.paused_code:
        since = f"{state.paused_at:%Y-%m-%d %H:%M} UTC" if state.paused_at else ""
        advice = {
            "manual": f"`onward connections resume {state.name}` ends it",
            "identity_changed": f"`onward connections accept {state.name}`, or "
            "correct the settings",
        }.get(state.paused_code, f"repair it, then {test} resumes it")
        message = f"paused since {since}: {state.paused_why} ({one.held} rows held)"
        return [problem(name, message, advice)]
    found: list[Check] = []
    try:
        if state.remote_fields:
            bind_map(runtime, state)
    except OnwardError as error:
        found.append(problem(name, error.message, "correct the field map"))
    for segment, why in one.paused_segments.items():
        advice = (
            f"choose another segment or make it anew, then {test}; or `onward "
            f"connections redirect {state.name}` sends what waits elsewhere"
        )
        found.append(problem(name, f"{segment}: {why}", advice))
    if state.is_resting(runtime.clock()):
        until = f"{state.rest_until:%Y-%m-%d %H:%M:%S} UTC"
        message = f"rests until {until}: {state.rest_why or 'the service asked for it'}"
        found.append(warning(name, message, f"it goes on by itself; {test} tries it"))
    with runtime.database.read() as transaction:
        slowed = read_slowed(transaction, state.counted_as, runtime.clock())
    if slowed is not None:
        advice = "it tries more by itself; lower `limits` if the service allows less"
        message = slowed.sentence(runtime.config.timezone)
        found.append(warning(name, message, advice))
    if state.verified_at is None:
        said = "changed and not verified yet" if state.identity else "never verified"
        found.append(warning(name, said, f"{test} tries it"))
    if not state.push_contacts:
        advice = "push_contacts = true lets contacts leave"
        found.append(warning(name, "pushes are switched off", advice))
    if not found:
        where = f", {one.segment}" if one.segment else ""
        found.append(ok(name, f"{state.title}{where}, {one.waiting} rows waiting"))
    return found
