"""Work through the due rows of one connection, once, under its lease."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime

from onward.api import Api
from onward.connections.open import Opened, bind_map, open_connection
from onward.connections.state import (
    State,
    clear_rest,
    pause,
    pause_segment,
    read_segments,
    read_state,
    rest,
)
from onward.connections.verify import is_fresh, verify_connection, verify_or_pause
from onward.contacts.release import release
from onward.contract import RemoteSegment
from onward.delivery import queue
from onward.delivery.lease import Held, take
from onward.delivery.prepare import Prepared, Ready, Rules, prepare, switched_off
from onward.delivery.queue import Claimed
from onward.delivery.readback import read_doubtful
from onward.delivery.record import announce_decisions, record_decisions
from onward.delivery.retry import Decision
from onward.delivery.send import Sending, Stop
from onward.errors import (
    ConfigError,
    CredentialsRefused,
    Fenced,
    PluginError,
    ServiceError,
    Temporary,
)
from onward.failpoints import failpoint
from onward.runtime import Runtime

log = logging.getLogger("onward.delivery")

# After so many batches others get their turn, when others wait.
TURN = 10


@dataclass(slots=True)
class Report:
    """What one drain did.

    Args:
        counts: (state, code) → rows that ended so.
        batches: sent.
        stopped: `empty`, `busy` (another worker has it), `paused`, `rest`,
            `limit` (out of calls) or `turn` (others wait).
        again_at: when it is worth coming back; None = when something new comes.
        why: a sentence, when it stopped early.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    batches: int = 0
    stopped: str = "empty"
    again_at: datetime | None = None
    why: str = ""


def lease_name(connection_id: int) -> str:
    """Return the name of a connection's lease."""
    return f"connection:{connection_id}"


def drain(
    runtime: Runtime,
    connection_id: int,
    *,
    others_wait: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Report:
    """Send what is due on one connection; return when nothing more can be done now.

    Safe to call at any time from anywhere: without the lease it does nothing.

    Args:
        others_wait: asked after ten batches, to be fair.
        on_progress: told how many rows ended.
    """
    held = take(
        runtime.database,
        lease_name(connection_id),
        runtime.config.lease,
        runtime.clock,
    )
    if held is None:
        return Report(stopped="busy", why="another worker has this connection")
    work = _Drain(runtime, connection_id, held, others_wait, on_progress)
    try:
        work.run()
    except Fenced:
        log.warning("connection %s: another worker took over", connection_id)
        work.report.stopped = "busy"
    finally:
        if not held.lost:
            held.release()
    return work.report


class _Drain:
    def __init__(
        self,
        runtime: Runtime,
        connection_id: int,
        held: Held,
        others_wait: Callable[[], bool],
        on_progress: Callable[[int], None],
    ) -> None:
        self.runtime = runtime
        self.of = connection_id
        self.held = held
        self.others_wait = others_wait
        self.on_progress = on_progress
        self.report = Report()
        self.leftover: list[Ready] = []
        self.leftover_segment = ""

    def run(self) -> None:
        now = self.runtime.clock()
        with self.runtime.database.write() as transaction:
            queue.adopt(transaction, self.of, self.held.fence, now)
            state = read_state(transaction, self.of)
        failpoint("before_claim")
        if state is None:
            return
        if switched_off(state) is not None:
            self._skip_all(state)
        elif state.paused_code:
            self._stop("paused", None, state.paused_why)
        elif state.is_resting(now):
            self._stop("rest", state.rest_until, "the connection rests")
        elif self._has_work(now):
            self._work(state)
        if self.report.again_at is None and self.report.stopped in ("empty", "turn"):
            with self.runtime.database.read() as transaction:
                self.report.again_at = queue.next_due(transaction, self.of)

    def _stop(self, kind: str, again_at: datetime | None, why: str) -> None:
        self.report.stopped, self.report.again_at, self.report.why = (
            kind,
            again_at,
            why,
        )

    def _has_work(self, now: datetime) -> bool:
        with self.runtime.database.read() as transaction:
            return queue.next_segment(transaction, self.of, now) is not None

    def _skip_all(self, state: State) -> None:
        """End the rows of a connection from which nothing may leave."""
        decision = switched_off(state)
        while decision is not None:
            now = self.runtime.clock()
            with self.runtime.database.write() as transaction:
                found = queue.next_segment(transaction, self.of, now)
                if found is None:
                    return
                rows = queue.claim(
                    transaction, self.of, found[0], self.held.fence, now, 500
                )
                decisions = {row.id: decision for row in rows}
                record_decisions(transaction, decisions, self.held.fence, now)
            self._count(decisions)
            contacts = {row.id: row.contact_id for row in rows}
            announce_decisions(self.runtime, state, decisions, contacts)

    # -- getting ready

    def _work(self, state: State) -> None:
        ready = self._ready(state)
        if ready is None:
            return
        state, opened = ready
        try:
            read, bound = bind_map(self.runtime, state)
        except ConfigError as error:
            pause(self.runtime, state.id, "settings", error.message)
            self._stop("paused", None, error.message)
            return
        with self.runtime.database.read() as transaction:
            names = {id_: name for id_, name, _ in read_segments(transaction, state.id)}
        self.rules = Rules(
            state,
            self.runtime.plugins,
            bound,
            read.sources(),
            read.version,
            segment="",
            now=self.runtime.clock(),
            email_field=opened.integration.email_field,
        )
        self.opened = opened
        self.names = names
        self._pump()

    def _ready(self, state: State) -> tuple[State, Opened] | None:
        """Open the connection, verified within the last day."""
        try:
            if not is_fresh(self.runtime, state):
                try:
                    fresh = verify_or_pause(self.runtime, state)
                except Temporary:
                    if state.verified_at is None:
                        raise
                    # It was verified once; an outage shows by itself.
                    fresh = state
                if fresh is None:
                    self._stop("paused", None, self._why_paused())
                    return None
                state = fresh
            return state, open_connection(self.runtime, state)
        except ServiceError as error:
            self._rest(Stop("rest", error.code, error.message))
        except (ConfigError, PluginError) as error:
            pause(self.runtime, state.id, "settings", error.message)
            self._stop("paused", None, error.message)
        return None

    def _why_paused(self) -> str:
        with self.runtime.database.read() as transaction:
            state = read_state(transaction, self.of)
        return state.paused_why if state else ""

    # -- sending

    def _pump(self) -> None:
        """Keep `in_flight` batches on their way until there is a reason to stop."""
        width = max(1, self.opened.integration.in_flight)
        running: dict[Future[None], Sending] = {}
        with ThreadPoolExecutor(width, "onward-batch") as pool:
            try:
                while True:
                    while len(running) < width and self.report.stopped == "empty":
                        sending = self._next()
                        if sending is None:
                            break
                        if not running and not self._more_due():
                            self._finish(sending, sending.run)
                            continue
                        running[pool.submit(sending.run)] = sending
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._finish(running.pop(future), future.result)
                    if self.report.batches >= TURN and self.others_wait():
                        self._stop("turn", self.runtime.clock(), "others wait")
            finally:
                self._put_back_leftover()

    def _finish(self, sending: Sending, get_result: Callable[[], None]) -> None:
        get_result()
        self.report.batches += 1
        if sending.stop is not None:
            self._obey(sending.stop, sending.segment)
        elif sending.api.exchanges and self.rules.state.rest_step:
            with self.runtime.database.write() as transaction:
                clear_rest(transaction, self.of)

    def _more_due(self) -> bool:
        return bool(self.leftover) or self._has_work(self.runtime.clock())

    def _next(self) -> Sending | None:
        """Claim, check and map rows until a batch is full; None = nothing to send."""
        self.held.renew()
        now = self.runtime.clock()
        with self.runtime.database.read() as transaction:
            found = queue.next_segment(transaction, self.of, now)
            state = read_state(transaction, self.of)
        if state is None or state.version != self.rules.state.version:
            # Changed in another process: the next drain opens it anew.
            self._stop("turn", now, "the connection was changed")
            return None
        if self.leftover:
            segment, most = self.leftover_segment, queue.BACKFILL
        elif found is not None:
            segment, most = found
        else:
            return None
        self.rules = self._rules_for(segment, now)
        api = self._api(live=most == queue.LIVE)
        pause_for = api.reserve(self.opened.integration.calls_per_batch)
        if pause_for is not None:
            self._stop("limit", now + pause_for, "the limit of calls is used up")
            return None
        remote_segment = (
            RemoteSegment(segment, self.names.get(segment, segment))
            if segment
            else None
        )
        ready = self._collect(segment, most, remote_segment, api)
        if not ready:
            api.close()
            return None
        sending = Sending(
            self.runtime,
            self.rules.state,
            self.opened,
            self.held,
            api,
            remote_segment,
            self.rules.map_version,
            ready,
            self._count,
        )
        api.before_request = sending.flush
        return sending

    def _rules_for(self, segment: str, now: datetime) -> Rules:
        old = self.rules
        return Rules(
            old.state,
            old.plugins,
            old.bound,
            old.sources,
            old.map_version,
            segment,
            now,
            old.email_field,
        )

    def _api(self, *, live: bool) -> Api:
        wire = self.opened.wire(self.runtime, live=live, renew=self.held.renew)
        return Api(wire, self.opened.memory, self.opened.index)

    def _collect(
        self,
        segment: str,
        most: int,
        remote_segment: RemoteSegment | None,
        api: Api,
    ) -> list[Ready]:
        """Claim rows until enough of them really need sending."""
        integration = self.opened.integration
        ready, self.leftover = self.leftover, []
        while len(ready) < integration.batch_size:
            now = self.runtime.clock()
            room = integration.batch_size - len(ready)
            with self.runtime.database.write() as transaction:
                rows = queue.claim(
                    transaction, self.of, segment, self.held.fence, now, room, most
                )
            failpoint("after_claim")
            if not rows:
                break
            prepared = self._prepare(rows, now)
            ready += prepared.ready
            if prepared.doubtful:
                ready += self._read_back(prepared.doubtful, remote_segment)
                if self.report.stopped != "empty":
                    self.leftover, self.leftover_segment = ready, segment
                    return []
        batch = self._within_bytes(ready, integration.batch_bytes)
        self.leftover, self.leftover_segment = ready[len(batch) :], segment
        return batch

    @staticmethod
    def _within_bytes(ready: list[Ready], most: int) -> list[Ready]:
        size = 0
        for place, entry in enumerate(ready):
            size += entry.size
            if size > most and place:
                return ready[:place]
        return ready

    def _prepare(self, rows: list[Claimed], now: datetime) -> Prepared:
        with self.runtime.database.read() as transaction:
            prepared = prepare(transaction, self.rules, rows)
        if prepared.decided or prepared.waiting:
            with self.runtime.database.write() as transaction:
                if prepared.decided:
                    record_decisions(
                        transaction, prepared.decided, self.held.fence, now
                    )
                if prepared.waiting:
                    queue.unclaim(transaction, prepared.waiting, self.held.fence)
                    # Whoever was identified since they were looked at goes on.
                    visitors = {
                        row.contact_id for row in rows if row.id in prepared.waiting
                    }
                    release(transaction, visitors, now)
            self._count(prepared.decided)
            contacts = {row.id: row.contact_id for row in rows}
            announce_decisions(
                self.runtime, self.rules.state, prepared.decided, contacts
            )
        return prepared

    def _read_back(
        self, doubtful: list[Ready], segment: RemoteSegment | None
    ) -> list[Ready]:
        result = read_doubtful(
            self.runtime,
            self.rules.state,
            self.opened,
            self.held,
            self._api(live=True),
            segment,
            self.rules.map_version,
            doubtful,
        )
        self._count(result.settled)
        if result.stop is not None:
            self._obey(result.stop, segment)
        return result.again

    def _put_back_leftover(self) -> None:
        if self.leftover and not self.held.lost:
            now = self.runtime.clock()
            rows = {ready.row.id: (now, "", "") for ready in self.leftover}
            with self.runtime.database.write() as transaction:
                queue.unclaim(transaction, rows, self.held.fence)

    # -- what follows from a failure

    def _count(self, decisions: dict[int, Decision]) -> None:
        for decision in decisions.values():
            self.report.counts[decision.state.value, decision.code] += 1
        self.on_progress(len(decisions))

    def _obey(self, stop: Stop, segment: RemoteSegment | None) -> None:
        if stop.kind == "rest":
            self._rest(stop)
        elif stop.kind == "segment" and segment is not None:
            with self.runtime.database.write() as transaction:
                pause_segment(transaction, self.of, segment.id, stop.why)
            log.error("connection %s: %s", self.rules.state.name, stop.why)
            self.report.why = stop.why
        elif stop.kind == "credentials":
            self._confirm_refusal(stop)
        else:
            pause(self.runtime, self.of, stop.code, stop.why)
            self._stop("paused", None, stop.why)

    def _confirm_refusal(self, stop: Stop) -> None:
        """Pause only if the service still refuses when asked who we are."""
        try:
            verify_connection(self.runtime, self.rules.state)
        except CredentialsRefused as error:
            why = f"{error.message} {error.hint}".strip()
            pause(self.runtime, self.of, "credentials", why)
            self._stop("paused", None, why)
        except (ConfigError, PluginError) as error:
            pause(self.runtime, self.of, "settings", error.message)
            self._stop("paused", None, error.message)
        except ServiceError as error:
            self._rest(Stop("rest", error.code, error.message))
        else:
            self._rest(stop)

    def _rest(self, stop: Stop) -> None:
        with self.runtime.database.write() as transaction:
            until = rest(transaction, self.of, self.runtime.clock(), stop.after)
        self._stop("rest", until, stop.why)
