"""Pull what is due: for an engine, again and again, on any number of machines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy.exc import SQLAlchemyError

from onward.connections.state import State, read_all
from onward.errors import PluginError
from onward.integrations import can
from onward.runtime import Runtime
from onward.sync.finish import next_due, schedule_of
from onward.sync.hints import hinted_connections
from onward.sync.opening import why_not
from onward.sync.plan import (
    FIRST,
    SCHEDULED,
    SETTINGS,
    Plan,
    ask_for_pull,
    move_plan,
    read_plan,
    read_plans,
    without_plan,
)
from onward.sync.run import Manner, Synced, read_hinted, sync
from onward.sync.stopped import AGAIN

# What makes a pull due without that anybody asked for it.
BY_ITSELF = (FIRST, SCHEDULED, SETTINGS)

log = logging.getLogger("onward.sync")

# So long one may go on: others, and who was pointed at, wait for their turn.
TURN_S, ALONE_S = 20.0, 60.0


def pull_due(
    runtime: Runtime, *, stopping: Callable[[], bool] = lambda: False
) -> list[Synced]:
    """Pull every connection that is due, in turns; read those that were pointed at.

    Harmless to call at any time, by any number of processes: a lease keeps two from
    pulling one connection.
    """
    runtime.database.run(lambda transaction: _keep_plans(transaction, runtime))
    with runtime.database.read() as transaction:
        now = runtime.clock()
        states = {state.id: state for state in read_all(transaction)}
        due = _due(runtime, states, read_plans(transaction), now)
        hinted = hinted_connections(transaction, now)
    done: list[Synced] = []
    failures: list[Exception] = []
    for of in due:
        if stopping():
            return done
        try:
            done.append(_one(runtime, states[of], stopping, alone=len(due) == 1))
        except Exception as error:  # one connection must not stop the others
            log.exception("%s: the pull failed", states[of].name)
            failures.append(error)
            _put_off(runtime, of)
    for of in hinted:
        state = states.get(of)
        if stopping() or state is None or why_not(runtime, state, now) is not None:
            continue
        read_hinted(runtime, of, Manner(stopping=stopping))
    if failures and not done:
        raise failures[0]
    return done


def _put_off(runtime: Runtime, connection_id: int) -> None:
    """Let a connection whose pull breaks wait, so that others come first."""

    def work(transaction: Transaction) -> None:
        plan = read_plan(transaction, connection_id)
        if plan is not None:
            again = runtime.clock() + AGAIN[min(plan.tries, len(AGAIN) - 1)]
            tries, schedule = plan.tries + 1, plan.schedule
            move_plan(
                transaction, plan, again, plan.why, schedule=schedule, tries=tries
            )

    with suppress(SQLAlchemyError):  # the database may be what is away
        runtime.database.run(work)


def _one(
    runtime: Runtime, state: State, stopping: Callable[[], bool], *, alone: bool
) -> Synced:
    until = time.monotonic() + (ALONE_S if alone else TURN_S)

    def over() -> bool:
        return stopping() or time.monotonic() > until

    synced = sync(runtime, state.id, manner=Manner(stopping=over))
    if synced.stopped in ("failed", "paused"):
        more = {"connection": state.name, "code": synced.code}
        log.warning("%s: the pull waits: %s", state.name, synced.code, extra=more)
    return synced


def _due(
    runtime: Runtime, states: dict[int, State], plans: dict[int, Plan], now: datetime
) -> list[int]:
    """Return the connections to pull now, whoever has waited longest first."""
    found = [
        (plan.due_at, of)
        for of, plan in plans.items()
        if plan.due_at is not None and plan.due_at <= now and of in states
    ]
    return [of for _, of in sorted(found) if why_not(runtime, states[of], now) is None]


def _keep_plans(transaction: Transaction, runtime: Runtime) -> None:
    """Plan what is new, and anew where the schedule was changed."""
    now = runtime.clock()
    missing = without_plan(transaction)
    plans = read_plans(transaction)
    states = {state.id: state for state in read_all(transaction)}
    for of in missing:
        state = states.get(of)
        if state is not None and _can_pull(runtime, state):
            ask_for_pull(transaction, of, now, FIRST)
    for of, plan in plans.items():
        state = states.get(of)
        if state is None:
            continue
        schedule = schedule_of(runtime, state, plan)
        if state.pull.every is None and plan.due_at and plan.why in BY_ITSELF:
            move_plan(transaction, plan, None, SCHEDULED, schedule=schedule)
        elif plan.schedule and plan.schedule != schedule and plan.why == SCHEDULED:
            due_at = next_due(runtime, state, plan)
            is_missed = plan.due_at is not None and plan.due_at <= now
            if is_missed and due_at is not None:
                due_at = plan.due_at
            move_plan(transaction, plan, due_at, SCHEDULED, schedule=schedule)


def _can_pull(runtime: Runtime, state: State) -> bool:
    try:
        kind = runtime.plugins.integration(state.integration)
        return state.pull.every is not None and can(kind, "pull")
    except PluginError:
        return False
