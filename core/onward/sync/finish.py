"""How a pull ends, and when the next one begins."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select, text, update

from onward import remote, signals
from onward.alerts.book import Kind, close_alerts, open_alert
from onward.audiences.offered import offer
from onward.connections.state import State
from onward.contacts.facts import load_facts
from onward.delivery.stops import Stop
from onward.models import RemoteContactRow, Suppression, table
from onward.remote import AGAIN
from onward.runtime import Runtime
from onward.sync.differing import STOPPED
from onward.sync.opening import Ready
from onward.sync.plan import (
    FIRST,
    SCHEDULED,
    Plan,
    ask_for_pull,
    move_plan,
    note_offered,
    read_plan,
)
from onward.sync.runs import DONE, FAILED, HOPELESS, Run, end_run, save_run
from onward.sync.schedule import next_run, sentence

log = logging.getLogger("onward.sync")

rows = table(RemoteContactRow)
suppressions = table(Suppression)

# A pull that got nowhere so often is given up; the next begins at the start.
MOST_TRIES = 10
# So many failed tries are somebody's business.
ALERT_AFTER = 3

# The service says normal of whom an address-wide opt-out of ours forbids: found by
# the few opt-outs, not by the many contacts.
_STOPPED_HERE = (
    update(rows)
    .where(
        rows.c.connection_id == bindparam("of"),
        rows.c.contact_id.in_(
            select(suppressions.c.contact_id).where(
                suppressions.c.scope == "address",
                suppressions.c.lifted_at.is_(None),
                suppressions.c.contact_id != 0,
            )
        ),
        rows.c.status.in_(("normal", *sorted(AGAIN))),
        text(f"(differs / {STOPPED}) % 2 = 0"),
    )
    .values(differs=rows.c.differs + STOPPED)
)


def plan_of(transaction: Transaction, connection_id: int, now: datetime) -> Plan:
    """Return the plan of a connection, made where there is none."""
    plan = read_plan(transaction, connection_id)
    if plan is None:
        ask_for_pull(transaction, connection_id, now, FIRST)
        plan = read_plan(transaction, connection_id)
    assert plan is not None  # noqa: S101 - it was written just now
    return plan


def schedule_of(runtime: Runtime, state: State, plan: Plan) -> str:
    """Return the schedule of a connection in words."""
    return sentence(state.pull, plan.anchor_at, runtime.config.timezone)


def next_due(
    runtime: Runtime, state: State, plan: Plan, run: Run | None = None
) -> datetime | None:
    """Return when the pull after this one is due; None = only when asked."""
    after = runtime.clock() if run is None else run.started_at
    return next_run(state.pull, plan.anchor_at, after, runtime.config.timezone)


def finish(
    transaction: Transaction, runtime: Runtime, ready: Ready, plan: Plan, run: Run
) -> None:
    """End a pull that saw everything, and plan the next one."""
    now, state = runtime.clock(), ready.opened.state
    transaction.execute(_STOPPED_HERE, {"of": state.id})
    run.sample = spot_check(transaction, ready, run)
    end_run(transaction, run, DONE, now)
    close_alerts(transaction, now, Kind.SYNC, connection_id=state.id)
    if not plan.offered:
        offer(transaction, state, now, title=ready.terms.place.title)
        note_offered(transaction, state.id)
    move_plan(
        transaction,
        plan,
        # One that took longer than until the next is followed by that at once.
        next_due(runtime, state, plan, run),
        SCHEDULED,
        schedule=schedule_of(runtime, state, plan),
    )


def spot_check(
    transaction: Transaction, ready: Ready, run: Run
) -> list[dict[str, Any]]:
    """Return the chosen rows, what the service showed and what is here side by side.

    Those of nobody (any more), as of somebody erased meanwhile, are left out.
    """
    chosen: list[str] = [one[1] for one in run.sample]
    known = remote.by_ids(transaction, run.connection_id, chosen)
    who = {one.contact_id for one in known.values()} - {0}
    facts = load_facts(transaction, sorted(who), lists=False)
    lines = ready.terms.pull.lines
    checked: list[dict[str, Any]] = []
    for remote_id in chosen:
        snapshot = known.get(remote_id)
        ours = facts.get(snapshot.contact_id) if snapshot is not None else None
        if snapshot is None or ours is None:
            continue
        there = {"email": snapshot.email}
        here = {"email": ours.get("email") or ""}
        for name, value in snapshot.values.items():
            line = lines.get(name.lower())
            if line is not None and (value or ours.get(line.ours.name)):
                there[name] = value
                here[name] = ours.get(line.ours.name) or ""
        checked.append(
            {
                "remote_id": remote_id,
                "contact_id": snapshot.contact_id,
                "remote": there,
                "local": here,
            }
        )
    return checked


def announce(runtime: Runtime, state: State, run: Run) -> None:
    """Tell everybody that a pull ended."""
    counts = {name: count for name, count in run.counts.items() if ":" not in name}
    log.info(
        "%s: pulled: %d shown, %d created, %d changed",
        state.name,
        counts.get("shown", 0),
        counts.get("created", 0),
        counts.get("changed", 0),
        extra={"connection": state.name},
    )
    fact = signals.SyncFact(state.name, run.id, counts)
    signals.announce(signals.sync_finished, runtime.sender, fact)


def asks(
    transaction: Transaction, runtime: Runtime, state: State, plan: Plan, why: str
) -> None:
    """Let people know that a pull stopped; the next one by schedule looks anew."""
    now = runtime.clock()
    said = (
        f"{why}; if that is right, `onward sync {state.name} --accept` goes on, else "
        "look at the account"
    )
    open_alert(
        transaction, now, Kind.SYNC, connection_id=state.id, code="asks", reason=said
    )
    move_plan(
        transaction,
        plan,
        next_due(runtime, state, plan),
        SCHEDULED,
        schedule=schedule_of(runtime, state, plan),
    )


def postpone(
    transaction: Transaction,
    runtime: Runtime,
    state: State,
    plan: Plan,
    again_at: datetime,
    run: Run,
    failure: Stop | None,
) -> None:
    """Let a pull go on later.

    Args:
        failure: why, when that counts as a try that failed.
    """
    now = runtime.clock()
    tries = plan.tries + (failure is not None)
    schedule, why = schedule_of(runtime, state, plan), plan.why
    if failure is not None:
        run.code, run.reason = failure.code, failure.why
        if tries >= ALERT_AFTER:
            open_alert(
                transaction,
                now,
                Kind.SYNC,
                connection_id=state.id,
                code=failure.code,
                reason=failure.why,
            )
        if tries > MOST_TRIES:
            end_run(transaction, run, FAILED, now, HOPELESS, failure.why)
            move_plan(
                transaction,
                plan,
                next_due(runtime, state, plan),
                why,
                schedule=schedule,
                full=run.full,
            )
            return
    if not run.is_over:
        save_run(transaction, run, now)
    move_plan(
        transaction,
        plan,
        again_at,
        why,
        schedule=schedule,
        tries=tries,
        full=plan.full,
    )
