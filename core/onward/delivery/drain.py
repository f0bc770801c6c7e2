"""Work through the due rows of one connection, once, under its lease."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy import Connection as Transaction

from onward.alerts.book import Kind, is_open
from onward.connections.open import (
    LOCAL_PROBLEMS,
    Opened,
    bind_map,
    is_outdated,
    local_problem,
    open_connection,
)
from onward.connections.slowing import too_fast
from onward.connections.state import (
    ChangedMeanwhile,
    State,
    clear_rest,
    pause,
    pause_segment,
    read_state,
    resume,
    what_stops,
)
from onward.connections.verify import is_fresh, verify_connection, verify_or_pause
from onward.contacts.declared import read_fields
from onward.contacts.fields import ContactField
from onward.contract import RemoteSegment
from onward.delivery import trail
from onward.delivery.alerting import (
    PLUGIN_ERROR,
    alert_outdated,
    alert_plugin,
    rest_or_alert,
)
from onward.delivery.batches import STALE, Batches
from onward.delivery.claiming import (
    Claimed,
    adopt,
    claim,
    is_left,
    next_due,
    next_segment,
)
from onward.delivery.lease import Held, held_until, take_within
from onward.delivery.prepare import Rules, switched_off
from onward.delivery.queue import BACKFILL
from onward.delivery.record import announce_decisions
from onward.delivery.retry import Decision
from onward.delivery.send import Sending
from onward.delivery.settling import settle
from onward.delivery.stops import Stop, rest_for
from onward.errors import (
    ConfigError,
    Fenced,
    PluginError,
    ServiceError,
    Stopping,
    Temporary,
)
from onward.failpoints import failpoint
from onward.instrument import Drain, watching
from onward.logs.addresses import without_addresses
from onward.runtime import Runtime

log = logging.getLogger("onward.delivery")

# Refused so often although the service knows us: somebody must look at it.
REFUSALS = 4
BULK = 500

Never = Callable[[], bool]


@dataclass(slots=True)
class Report:
    """What one drain did.

    Args:
        counts: (state, code) → rows that ended so.
        batches: sent.
        stopped: `empty`, `busy` (another worker has it), `paused`, `rest`,
            `limit` (out of calls), `turn` (others wait) or `unfit` (this process may
            send nothing now).
        again_at: when it is worth coming back; None = when something new comes.
        why: a sentence, when it stopped early.
        held: name of a remote segment → why its rows wait for a person.
        live: what was sent last, or waits for calls, is no back-fill.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    batches: int = 0
    stopped: str = "empty"
    again_at: datetime | None = None
    why: str = ""
    held: dict[str, str] = field(default_factory=dict[str, str])
    live: bool = False


def lease_name(connection_id: int | str) -> str:
    """Return the name of a connection's lease."""
    return f"connection:{connection_id}"


def drain(
    runtime: Runtime,
    connection_id: int,
    *,
    others_wait: Never = lambda: False,
    stopping: Never = lambda: False,
    over: Never = lambda: False,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Report:
    """Send what is due on one connection; return when nothing more can be done now.

    Safe to call at any time from anywhere: without the lease it does nothing.

    Args:
        others_wait: asked after ten batches, to be fair.
        stopping: when it says so, what is being sent ends and nothing more begins.
        over: when it says so, nothing more begins; what is being sent has its time.
        on_progress: told how many rows ended.
    """
    if runtime.unfit:
        return Report(stopped="unfit", why=runtime.unfit)
    taken = runtime.database.run(partial(_take, runtime, connection_id))
    if taken is None:
        return Report(
            stopped="busy",
            again_at=held_until(runtime.database, lease_name(connection_id)),
            why="another worker has this connection",
        )
    held, begun = taken
    work = _Drain(
        runtime, connection_id, held, begun, others_wait, stopping, over, on_progress
    )
    try:
        with watching(runtime.instrument, work.watched):
            work.run()
            work.watched.stopped = work.report.stopped
    except Fenced:
        held.lost = True
        if held.release():
            # Nobody took over: the connection was removed, or leads elsewhere now.
            work.report.stopped, work.report.again_at = "turn", runtime.clock()
            work.report.why = "what was on its way was cancelled"
        else:
            log.warning("connection %s: another worker took over", connection_id)
            work.report.stopped = "busy"
    finally:
        if not held.lost:
            held.release()
    return work.report


@dataclass(frozen=True, slots=True)
class _Begun:
    """How things are when a drain begins.

    Args:
        state: None when the connection was removed.
        is_due: there is a row to send.
        was_broken: somebody was told that the plugin does something wrong.
        fields: the contact fields that imports declared.
    """

    at: datetime
    state: State | None
    is_due: bool
    was_broken: bool
    fields: Mapping[str, ContactField]


def _take(
    runtime: Runtime, of: int, transaction: Transaction
) -> tuple[Held, _Begun | None] | None:
    """Take the lease and see how things are.

    Not where a dead worker left rows: somebody may hold them for long, and others
    who come for the lease would wait as well.
    """
    database, length = runtime.database, runtime.config.lease
    held = take_within(transaction, database, lease_name(of), length, runtime.clock)
    if held is None:
        return None
    left = is_left(transaction, of, held.fence)
    return held, None if left else _begin(runtime, of, transaction)


def _adopt(runtime: Runtime, of: int, held: Held, transaction: Transaction) -> _Begun:
    """Take over what a dead worker left, and see how things are."""
    adopt(transaction, of, held.fence, runtime.clock())
    return _begin(runtime, of, transaction)


def _begin(runtime: Runtime, of: int, transaction: Transaction) -> _Begun:
    now = runtime.clock()
    return _Begun(
        now,
        read_state(transaction, of),
        next_segment(transaction, of, now) is not None,
        is_open(transaction, Kind.PLUGIN_ERROR, connection_id=of),
        read_fields(transaction),
    )


class _Drain:
    def __init__(
        self,
        runtime: Runtime,
        connection_id: int,
        held: Held,
        begun: _Begun | None,
        others_wait: Never,
        stopping: Never,
        over: Never,
        on_progress: Callable[[int], None],
    ) -> None:
        self.runtime = runtime
        self.of = connection_id
        self.held = held
        self.given = begun
        self.others_wait = others_wait
        self.stopping = stopping
        self.over = over
        self.on_progress = on_progress
        self.report = Report()
        self.watched = Drain(connection_id, held.fence)
        self.counting = threading.Lock()
        self.gone: set[str] = set()
        # What rows are told that were claimed and do not leave now.
        self.code = ""
        # What a plugin did wrong.
        self.broken = ""

    def run(self) -> None:
        adopting = partial(_adopt, self.runtime, self.of, self.held)
        self.begun = self.given or self.runtime.database.run(adopting)
        state, now = self.begun.state, self.begun.at
        failpoint("before_claim")
        if state is None:
            return
        self.seen = state.version
        self.watched.connection = state.name
        self.watched.integration = state.integration
        if switched_off(state) is not None:
            self._skip_all(state)
        elif self._may_work(state, now):
            try:
                self._work(state)
            finally:
                self._note_plugin()
        if self.report.again_at is None and self.report.stopped in ("empty", "turn"):
            with self.runtime.database.read() as transaction:
                self.report.again_at = next_due(transaction, self.of)

    def _ends(self) -> bool:
        return self.stopping() or self.over()

    def _stop(
        self, kind: str, again_at: datetime | None, why: str, code: str = ""
    ) -> None:
        report = self.report
        report.stopped, report.again_at, report.why = kind, again_at, why
        self.code = code

    def _pause(self, code: str, why: str) -> None:
        if pause(self.runtime, self.of, code, why, seen=self.seen):
            self._stop("paused", None, why, code)
        else:
            self._stop("turn", self.runtime.clock(), "the connection was changed")

    def _may_work(self, state: State, now: datetime) -> bool:
        paused = state.paused_code
        if paused and paused not in LOCAL_PROBLEMS:
            self._stop("paused", None, state.paused_why)
            return False
        if state.is_resting(now):
            why = state.rest_why or "the connection rests"
            self._stop("rest", state.rest_until, why, state.rest_code)
            return False
        if not self.begun.is_due:
            return False
        problem = local_problem(self.runtime, state)
        if problem is not None:
            self._pause(*problem)
        elif paused and not resume(self.runtime, self.of, only=paused):
            self._stop("turn", now, "the connection was changed")
            return False
        return problem is None

    def _skip_all(self, state: State) -> None:
        """End the rows of a connection from which nothing may leave."""
        decision = switched_off(state)
        while decision is not None and not self._ends():
            self.held.renew()
            rows = self.runtime.database.run(partial(self._end_some, decision))
            if rows is None:
                return
            decisions = {row.id: decision for row in rows}
            self._count(decisions)
            contacts = ((row.id, row.contact_id) for row in rows)
            announce_decisions(self.runtime, state, decisions, contacts)

    def _end_some(
        self, decision: Decision, transaction: Transaction
    ) -> list[Claimed] | None:
        now, fence = self.runtime.clock(), self.held.fence
        self.held.check(transaction)
        found = next_segment(transaction, self.of, now)
        code, _ = what_stops(transaction, self.of, self.seen, now)
        if found is None or code == "changed":
            return None
        rows = claim(transaction, self.of, found[0], fence, now, BULK, BACKFILL)
        settle(transaction, {row.id: decision for row in rows}, fence, now)
        return rows

    # -- getting ready

    def _work(self, state: State) -> None:
        if state.paused_code:  # it was resumed just now
            with self.runtime.database.read() as transaction:
                state = read_state(transaction, self.of) or state
            self.seen = state.version
        opened = self._open(state)
        if opened is None:
            return
        state = opened.state
        self.seen = state.version
        try:
            read, bound = bind_map(self.runtime, state, self._fields(state))
        except ConfigError as error:
            self._pause("settings", error.message)
            return
        rules = Rules(
            state,
            self.runtime.plugins,
            bound,
            read.sources(),
            read.version,
            segment="",
            now=self.runtime.clock(),
            email_field=opened.integration.email_field,
            retry=self.runtime.config.retry,
        )
        self.opened = opened
        self.probing = state.rest_step > 0
        self.running: dict[Future[None], Sending] = {}
        self.batches = Batches(
            self.runtime,
            opened,
            self.held,
            rules,
            self._count,
            self.others_wait,
            lambda: any(sending.stop for sending in self.running.values()),
            self.stopping,
        )
        self._pump()

    def _fields(self, state: State) -> Mapping[str, ContactField] | None:
        """Return the declared fields; None when it was verified since they were read.

        That may have taken long, and an import have declared some.
        """
        before = self.begun.state
        is_same = before is not None and before.verified_at == state.verified_at
        return self.begun.fields if is_same else None

    def _open(self, state: State) -> Opened | None:
        """Open the connection, verified within the last day."""
        try:
            if is_outdated(self.runtime, state):
                return self._open_outdated(state)
            if not is_fresh(self.runtime, state):
                try:
                    fresh = verify_or_pause(self.runtime, state, renew=self._go_on)
                except Temporary as error:
                    # Without any answer, one time-out a rest is enough.
                    if state.verified_at is None or error.status is None:
                        raise
                    # It was verified once; an outage shows by itself.
                    fresh = state
                if fresh is None:
                    self._stop("paused", None, self._why_paused())
                    return None
                state = fresh
            return open_connection(self.runtime, state)
        except (ChangedMeanwhile, Stopping) as error:
            self._stop("turn", self.runtime.clock(), error.message)
        except ServiceError as error:
            self._rest(rest_for(error))
        except (ConfigError, PluginError) as error:
            self._pause("settings", error.message)
        return None

    def _go_on(self) -> None:
        """Prolong the lease; ask nothing more when this process is to stop."""
        if self.stopping():
            raise Stopping
        self.held.renew()

    def _open_outdated(self, state: State) -> Opened | None:
        """Open it with the older settings of this process, if they lead there too.

        If not, it is no fault of the connection: others may send with it.
        """
        opened = open_connection(self.runtime, state)
        if opened.unfit is None or not (opened.unfit or is_fresh(self.runtime, state)):
            try:
                state = verify_connection(
                    self.runtime, state, renew=self.held.renew, asked_for=False
                )
                opened.unfit = ""
            except ConfigError as error:
                opened.unfit = (
                    f"{state.name}: onward.toml was changed after this process started;"
                    f" restart it ({error.message})"
                )
                log.warning("%s", without_addresses(opened.unfit))
        if opened.unfit:
            self._stop("paused", None, opened.unfit)
            why = opened.unfit.removeprefix(f"{state.name}: ")
            alert_outdated(self.runtime, self.of, why)
            return None
        return open_connection(self.runtime, state)

    def _why_paused(self) -> str:
        with self.runtime.database.read() as transaction:
            state = read_state(transaction, self.of)
        return state.paused_why if state else ""

    def _note_plugin(self) -> None:
        works = self.report.batches > 0 and self.report.stopped != "rest"
        if self.broken or (self.begun.was_broken and works):
            alert_plugin(self.runtime, self.of, self.broken)

    # -- sending

    @property
    def width(self) -> int:
        """How many batches may be on their way: after a rest a single probe."""
        return 1 if self.probing else self.opened.in_flight

    def _pump(self) -> None:
        """Keep batches on their way until there is a reason to stop."""
        running = self.running
        # Made while the others are on their way, so that none waits for it.
        ahead: Sending | None = None
        with ThreadPoolExecutor(self.opened.in_flight, "onward-batch") as pool:
            try:
                while True:
                    if ahead is None:
                        ahead = self._next(len(running))
                        if ahead is not None and self._overlaps(ahead):
                            self._put_back(ahead)
                            ahead = None
                    if ahead is not None and self._ends():
                        self._put_back(ahead)
                        ahead = None
                        continue
                    if ahead is not None and len(running) < self.width:
                        begun = pool.submit(copy_context().run, ahead.run)
                        running[begun] = ahead
                        ahead = None
                        continue
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._finish(running.pop(future), future)
                    if ahead is not None and not self._may_go(ahead):
                        self._put_back(ahead)
                        ahead = None
            finally:
                if not self.held.lost:
                    self._put_back(ahead)

    def _put_back(self, ahead: Sending | None) -> None:
        why = self.report.why if self.code else ""
        self.batches.put_back(ahead.batch if ahead else (), self.code, why)

    def _next(self, in_flight: int) -> Sending | None:
        if self.report.stopped != "empty":
            return None
        if self._ends():
            self._stop("turn", self.runtime.clock(), "the worker stops")
            return None
        found = self.batches.next(in_flight)
        self.report.live = self.batches.live
        if isinstance(found, Stop):
            if found.kind == "limit" and in_flight:
                return None  # those on their way may leave some
            self._obey(found, self.batches.segment)
            return None
        return found

    def _overlaps(self, ahead: Sending) -> bool:
        """Tell whether somebody of it is on the way already, to another segment.

        It was mapped without what becomes of that, and could overtake it.
        """
        busy = {r.row.contact_id for s in self.running.values() for r in s.batch}
        made = (*ahead.batch, *self.batches.kept)
        return any(ready.row.contact_id in busy for ready in made)

    def _may_go(self, ahead: Sending) -> bool:
        segment = ahead.segment.id if ahead.segment else ""
        return (
            self.report.stopped == "empty"
            and segment not in self.gone
            and self.runtime.clock() - ahead.made_at < STALE
        )

    def _finish(self, sending: Sending, future: Future[None]) -> None:
        future.result()
        self.report.batches += 1
        if sending.stop is not None:
            self._obey(sending.stop, sending.segment)
        elif self.probing and sending.worked:
            now = self.runtime.clock()
            self.runtime.database.run(
                lambda transaction: clear_rest(transaction, self.of, now)
            )
            self.probing = False

    # -- what follows from a failure

    def _count(self, decisions: dict[int, Decision]) -> None:
        with self.counting:
            for decision in decisions.values():
                self.report.counts[decision.state.value, decision.code] += 1
                if decision.code == PLUGIN_ERROR:
                    self.broken = decision.reason
            self.on_progress(len(decisions))

    def _obey(self, stop: Stop, segment: RemoteSegment | None) -> None:
        """Do what a stop asks for; a pause is not undone by a later rest."""
        if self.report.stopped == "paused":
            return
        now = self.runtime.clock()
        match stop.kind:
            case "turn":
                self._stop("turn", now, stop.why)
            case "limit" if stop.after is not None:
                self._stop("limit", now + stop.after, stop.why, stop.code)
            case "segment" if segment is not None:
                pause_segment(self.runtime, self.opened.state, segment.id, stop.why)
                why = without_addresses(stop.why)
                log.error("%s: %s", self.opened.state.name, why)
                self.gone.add(segment.id)
                self.report.held[segment.name] = stop.why
                self.batches.put_back()
            case "credentials":
                self._confirm_refusal(stop)
            case "account":
                self._pause("account_blocked", stop.why)
            case "rest":
                self._rest(stop)
            case _:
                self._pause(stop.code, stop.why)

    def _confirm_refusal(self, stop: Stop) -> None:
        """Pause only if the service still refuses when asked who we are."""
        if self.report.stopped == "rest":
            return  # another batch was refused as well, and that was asked about
        state = self.opened.state
        try:
            fresh = verify_or_pause(self.runtime, state, renew=self.held.renew)
        except ChangedMeanwhile as error:
            self._stop("turn", self.runtime.clock(), error.message)
            return
        except ServiceError as error:
            self._rest(rest_for(error))
            return
        if fresh is None:
            self._stop("paused", None, self._why_paused())
        elif fresh.rest_step >= REFUSALS:
            why = f"{stop.why}; the credentials themselves are accepted"
            self._pause("credentials", why)
        else:
            self._rest(stop)

    def _rest(self, stop: Stop) -> None:
        again = self.report.stopped == "rest"
        rested = rest_or_alert(self.runtime, self.of, stop, again=again)
        trail.rests(rested.until, stop.code, stop.why)
        if stop.throttled:
            now, until = self.runtime.clock(), rested.until
            self.runtime.database.run(
                lambda transaction: too_fast(transaction, self.of, now, until)
            )
        self._stop("rest", rested.until, stop.why, stop.code)
