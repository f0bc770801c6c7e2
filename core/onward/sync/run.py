"""Pull one connection: the stages, under its lease, from where the last call was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from sqlalchemy import Connection as Transaction
from sqlalchemy.exc import SQLAlchemyError

from onward.connections.state import State, read_state
from onward.delivery.lease import Held, held_until, take
from onward.delivery.stops import Stop, stop_for
from onward.errors import Fenced, InputError
from onward.runtime import Runtime
from onward.sync import finish
from onward.sync.absent import look_for_missing
from onward.sync.fetching import fetch_rest, read_hints
from onward.sync.limit import Asks
from onward.sync.missing import count_known
from onward.sync.opening import make_ready, why_not
from onward.sync.pages import read_pages
from onward.sync.plan import BY_HAND, FIRST, Plan, read_plan
from onward.sync.runs import (
    ASKS,
    BEGUN_ANEW,
    CANCELLED,
    DONE,
    FETCH,
    HOPELESS,
    MISSING,
    PULL,
    RUNNING,
    Run,
    begin_run,
    end_run,
    last_runs,
    no_run,
    open_run,
    save_run,
)
from onward.sync.stopped import Stopped, Synced
from onward.sync.terms import ALTERED, STOPPED
from onward.sync.work import Manner, Progress, Work

__all__ = ["Manner", "Progress", "Synced", "read_hinted", "sync"]

log = logging.getLogger("onward.sync")

# How a pull ended that did not come to its end, of the same account.
UNFINISHED = (BEGUN_ANEW, HOPELESS)
_STAGES: Mapping[str, Callable[[Work], Stop | None]] = {
    PULL: read_pages,
    MISSING: look_for_missing,
    FETCH: fetch_rest,
}


def lease_name(connection_id: int) -> str:
    """Return the lease that whoever pulls a connection holds."""
    return f"pull:{connection_id}"


def sync(
    runtime: Runtime,
    connection_id: int,
    *,
    full: bool = False,
    accept: bool = False,
    manner: Manner | None = None,
) -> Synced:
    """Pull a connection, or go on where a pull of it stopped.

    At most one at a time, over all processes. Each page is stored in one transaction
    with the place to go on from: killed anywhere, the next call goes on.

    Args:
        full: apply each row, whatever was pulled before.
        accept: go on beyond the share-of-change limit, this time.

    Raises:
        InputError: there is no such connection.
    """
    state = _state(runtime, connection_id)
    stop = why_not(runtime, state, runtime.clock())
    if stop is not None:
        again = None if stop.after is None else runtime.clock() + stop.after
        return Synced(state.name, stop.kind, stop.why, stop.code, None, again)
    held = _take(runtime, connection_id)
    if held is None:
        until = held_until(runtime.database, lease_name(connection_id))
        why = f"{state.name} is being pulled by another process"
        return Synced(state.name, "busy", why, "busy", None, until)
    manner = manner or Manner()
    try:
        begin = partial(_begin, runtime=runtime, state=state, held=held)
        plan, run = runtime.database.run(
            partial(begin, full=full, accept=accept, by_hand=manner.by_hand)
        )
        return _go_on(runtime, state, held, plan, run, manner)
    except Fenced:
        why = f"{state.name}: another process went on with the pull"
        return Synced(state.name, "busy", why, "busy")
    finally:
        if not held.lost:
            held.release()


def read_hinted(
    runtime: Runtime, connection_id: int, manner: Manner | None = None
) -> None:
    """Read by themselves those of a connection that were pointed at, outside a pull."""
    state = _state(runtime, connection_id)
    held = _take(runtime, connection_id)
    if held is None:
        return  # whoever pulls it may take minutes: later
    try:
        ready = make_ready(runtime, state, held.renew, full=False)
        if isinstance(ready, Stop):
            return
        now = runtime.clock()
        plan = runtime.database.run(
            partial(finish.plan_of, connection_id=state.id, now=now)
        )
        run = no_run(state.id, now)
        work = Work.of(runtime, held, plan, run, ready, manner or Manner())
        if work.can_fetch:
            read_hints(work)
    except Fenced:
        log.warning("%s: another process went on", state.name)
    except SQLAlchemyError:
        raise
    except Exception as error:  # of the service, or foreign code
        log.warning("%s: hints wait: %s", state.name, type(error).__name__)
    finally:
        if not held.lost:
            held.release()


def _state(runtime: Runtime, connection_id: int) -> State:
    with runtime.database.read() as transaction:
        state = read_state(transaction, connection_id)
    if state is None:
        raise InputError("there is no such connection any more")
    return state


def _take(runtime: Runtime, connection_id: int) -> Held | None:
    name, length = lease_name(connection_id), runtime.config.lease
    return take(runtime.database, name, length, runtime.clock)


def _begin(
    transaction: Transaction,
    runtime: Runtime,
    state: State,
    held: Held,
    *,
    full: bool,
    accept: bool,
    by_hand: bool,
) -> tuple[Plan, Run]:
    """Return the pull that was begun and is not over, or begin one."""
    now, of = runtime.clock(), state.id
    held.check(transaction)
    plan = finish.plan_of(transaction, of, now)
    run = open_run(transaction, of)
    if run is not None and (full > run.full or (run.state == ASKS and not accept)):
        why = "another pull was begun"
        end_run(transaction, run, CANCELLED, now, BEGUN_ANEW, why)
        run = None
    if run is None:
        before = last_runs(transaction, of, 1)
        run = begin_run(
            transaction,
            of,
            now,
            why=BY_HAND if by_hand and plan.why != FIRST else plan.why,
            full=full or plan.full,
            known=count_known(transaction, of),
        )
        if before and before[0].state != DONE and before[0].code in UNFINISHED:
            # What it took over counts on: a limit that began anew each day would let
            # everybody through, some at a time.
            for name in (STOPPED, ALTERED):
                run.counts[name] = before[0].counts[name]
            run.counts["known"] = max(run.counts["known"], before[0].counts["known"])
            save_run(transaction, run, now)
    if accept:
        run.accepted, run.state = True, RUNNING
        run.code = run.reason = ""
        save_run(transaction, run, now)
    return plan, run


def _go_on(
    runtime: Runtime, state: State, held: Held, plan: Plan, run: Run, manner: Manner
) -> Synced:
    begun = _stored(run)
    ready = make_ready(runtime, state, held.renew, full=run.full)
    if isinstance(ready, Stop):
        return Stopped(runtime, state, held, plan, run).obey(ready)
    with runtime.database.read() as transaction:
        # It was verified, perhaps, and a pull asked for: this one is it.
        plan = read_plan(transaction, state.id) or plan
    work = Work.of(runtime, held, plan, run, ready, manner)
    try:
        while (stage := _STAGES.get(work.run.stage)) is not None:
            before = work.run.stage
            stop = stage(work)
            if stop is not None:
                return _stopped(work, begun).obey(stop)
            if work.run.stage == before:
                break
    except (Fenced, SQLAlchemyError):
        raise
    except Asks as error:
        return _stopped(work, begun).ask(error.message)
    except Exception as error:  # of the service, or foreign code
        redactor = ready.opened.redactor
        stop = stop_for(error, state.integration, redactor)
        return _stopped(work, begun).obey(stop)
    return _finish(work)


def _stored(run: Run) -> tuple[int, int]:
    """Return what tells whether a pull came any further."""
    return run.pages, run.counts["fetched"]


def _stopped(work: Work, begun: tuple[int, int]) -> Stopped:
    progressed = _stored(work.run) != begun
    return Stopped(work.runtime, work.state, work.held, work.plan, work.run, progressed)


def _finish(work: Work) -> Synced:
    runtime, run = work.runtime, work.run
    work.keep(
        partial(
            finish.finish, runtime=runtime, ready=work.ready, plan=work.plan, run=run
        )
    )
    finish.announce(runtime, work.state, run)
    with runtime.database.read() as transaction:
        plan = read_plan(transaction, work.state.id)
    again = plan.due_at if plan is not None else None
    return Synced(work.state.name, "done", "", "", run, again)
