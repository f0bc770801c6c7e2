"""Claim, check and map rows until a batch is full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection as Transaction

from onward.api import Api
from onward.connections.open import Opened
from onward.connections.state import (
    UNRESOLVED,
    ChangedMeanwhile,
    read_segments,
    what_stops,
)
from onward.connections.verify import reread_segments
from onward.contacts.release import lock_contacts
from onward.contract import RemoteSegment
from onward.delivery import trail
from onward.delivery.claiming import Claimed, claim, next_segment
from onward.delivery.lease import Held
from onward.delivery.prepare import Prepared, Ready, Rules, opted_out, prepare
from onward.delivery.queue import LIVE
from onward.delivery.readback import ReadBack
from onward.delivery.record import announce_decisions
from onward.delivery.retry import Decision
from onward.delivery.send import Sending
from onward.delivery.settling import leave_waiting, put_back, settle
from onward.delivery.stops import Stop, stop_for
from onward.errors import ConfigError, PluginError, ServiceError
from onward.failpoints import failpoint
from onward.runtime import Runtime

# After so many claims others get their turn, when others wait.
TURN = 10
# Rows are claimed, read and mapped several batches at a time: half of the work is
# the same for one row or for many.
MOST_AHEAD = 4
BULK = 500
# What was read and mapped longer ago is read again: people change, and opt out.
STALE = timedelta(seconds=2)


@dataclass(slots=True)
class _Kept:
    """Ready rows that did not fit into the last batch."""

    segment: str = ""
    priority: int = LIVE
    ready: list[Ready] = field(default_factory=list[Ready])
    made_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is next, and the first rows of it.

    Args:
        room: how many were asked for.
    """

    segment: str
    priority: int
    room: int
    rows: list[Claimed]


class Batches:
    """Makes one batch after the other out of what is due on a connection.

    Args:
        rules: of the connection; each batch has its own segment and moment.
        on_settled: told what became of rows that needed no sending.
        others_wait: asked from time to time, to be fair.
        halted: tells whether a batch on its way met a reason to stop; its rows may
            be waiting again already, and must not be taken up.
        stopping: tells that no call may be waited for any more.
    """

    def __init__(
        self,
        runtime: Runtime,
        opened: Opened,
        held: Held,
        rules: Rules,
        on_settled: Callable[[dict[int, Decision]], None],
        others_wait: Callable[[], bool],
        halted: Callable[[], bool],
        stopping: Callable[[], bool],
    ) -> None:
        self._runtime = runtime
        self._opened = opened
        self._held = held
        self._rules = rules
        self._on_settled = on_settled
        self._others_wait = others_wait
        self._halted = halted
        self._state = rules.state
        self._wires = {
            live: opened.wire(
                runtime,
                live=live,
                renew=held.renew,
                left=held.left,
                stopping=stopping,
            )
            for live in (True, False)
        }
        self._wires[False].slots = self._wires[True].slots
        self._kept = _Kept()
        # What is next, or waits for calls, is no back-fill.
        self.live = False
        # Where what was claimed last goes.
        self.segment: RemoteSegment | None = None
        self._claims = 0
        # How many batches are claimed at once.
        self._ahead = 1
        self._may_grow = opened.in_flight > 1
        self._reread = False
        # Id of a remote segment → its name; read with the first claim.
        self._names: dict[str, str] | None = None

    def next(self, in_flight: int) -> Sending | Stop | None:
        """Return the next batch, why there is none now, or None: nothing is due.

        Args:
            in_flight: batches on their way, whose calls are not all made yet.
        """
        while True:
            if self._claims >= TURN and self._others_wait():
                return Stop("turn", "turn", "others wait")
            self._held.renew()
            self._drop_stale()
            found = self._begin(in_flight)
            if found is None or isinstance(found, Stop):
                return found
            if found.segment.startswith(UNRESOLVED):
                stop = self._resolve()
                if stop is not None:
                    return stop
                continue
            ready = self._collect(found)
            if isinstance(ready, Stop):
                return ready
            if ready:
                return Sending(
                    self._runtime,
                    self._opened,
                    self._held,
                    self._api(live=found.priority == LIVE),
                    self._segment(found.segment),
                    self._rules.map_version,
                    self._kept.made_at or self._rules.now,
                    ready,
                    self._on_settled,
                    partial(opted_out, self._runtime.database, self._rules),
                )

    @property
    def kept(self) -> Sequence[Ready]:
        """What is ready and did not fit into the last batch."""
        return self._kept.ready

    def put_back(
        self, ready: Iterable[Ready] = (), code: str = "", reason: str = ""
    ) -> None:
        """Return rows that were claimed and not sent, and what was kept.

        Args:
            code, reason: why they were not sent, if there is a reason.
        """
        rows = [one.row.id for one in (*ready, *self._kept.ready)]
        self._kept = _Kept()
        if rows:
            fence = self._held.fence
            self._runtime.database.run(
                lambda transaction: put_back(
                    transaction, rows, fence, code=code, reason=reason
                )
            )
            trail.put_back(rows, code)

    # -- what is next

    def _drop_stale(self) -> None:
        kept = self._kept
        if kept.ready and not self._is_fresh(kept.made_at):
            # This service is slower than we are: no use in working ahead.
            self._ahead, self._may_grow = 1, False
            self.put_back()

    def _is_fresh(self, made_at: datetime | None) -> bool:
        return made_at is not None and self._runtime.clock() - made_at < STALE

    def _begin(self, in_flight: int) -> _Begun | Stop | None:
        """Find out what is next and claim it, in one transaction."""
        integration = self._opened.integration
        kept = self._kept
        if not kept.ready and self._may_grow:
            self._ahead = min(self._ahead * 2, MOST_AHEAD)
        size = max(integration.batch_size, 1)
        room = 0
        if len(kept.ready) < size:
            room = max(min(size * self._ahead, BULK), size) - len(kept.ready)

        def work(transaction: Transaction) -> _Begun | Stop | None:
            now = self._runtime.clock()
            of, seen = self._state.id, self._state.version
            code, why = what_stops(transaction, of, seen, now)
            if code:
                return Stop("turn", code, why)  # the next drain opens it anew
            if self._names is None:
                self._names = _names(transaction, of)
            found: tuple[str, int] | None = (kept.segment, kept.priority)
            if not kept.ready:
                found = next_segment(transaction, self._state.id, now)
            if found is None or found[0].startswith(UNRESOLVED):
                return None if found is None else _Begun(*found, room, [])
            self.live = found[1] == LIVE
            wire = self._wires[self.live]
            calls = integration.calls_per_batch * (in_flight + 1)
            pause = wire.room_for(transaction, calls)
            if pause is not None:
                why = "the limit of calls is used up"
                return Stop("limit", "out_of_calls", why, pause)
            return _Begun(*found, room, self._claim(transaction, *found, room))

        if room <= 0:  # what was kept fills a batch
            with self._runtime.database.read() as transaction:
                begun = work(transaction)
        else:
            # A claim that a crash of the server undoes is missed before anything
            # leaves: that these rows left is noted first, and lasts.
            begun = self._runtime.database.run(work, lasting=False)
        if isinstance(begun, _Begun) and not self._may_keep(begun.rows):
            return None
        return begun

    def _may_keep(self, rows: list[Claimed]) -> bool:
        """Look around after a claim: put it back if a batch met a reason to stop."""
        self._claims += 1
        trail.claimed(rows)
        failpoint("after_claim")
        if not self._halted():
            return True
        ids = [row.id for row in rows]
        self._runtime.database.run(
            lambda transaction: put_back(transaction, ids, self._held.fence)
        )
        trail.put_back(ids, "")
        return False

    def _resolve(self) -> Stop | None:
        """Ask for the segments anew: one may have been made since the last time."""
        if self._reread:
            # Queued since; once per drain is enough.
            return Stop("turn", "unresolved", "the remote segments were read just now")
        self._reread = True
        try:
            reread_segments(self._runtime, self._state, self._held.renew)
        except ChangedMeanwhile as error:
            return Stop("turn", "changed", error.message)
        except (ServiceError, ConfigError, PluginError) as error:
            return stop_for(error, self._state.integration, self._opened.redactor)
        self._names = None
        return None

    def _segment(self, segment: str) -> RemoteSegment | None:
        if not segment:
            return None
        return RemoteSegment(segment, (self._names or {}).get(segment, segment))

    def _api(self, *, live: bool) -> Api:
        return Api(self._wires[live], self._opened.memory, self._opened.index)

    # -- filling it

    def _collect(self, begun: _Begun) -> list[Ready] | Stop:
        """Prepare what was claimed, and claim more where too little needs sending.

        Returns:
            As many as fit into a batch; none when others should be asked first.
        """
        integration = self._opened.integration
        size = max(integration.batch_size, 1)
        now = self._runtime.clock()
        kept = self._kept
        ready, made_at = kept.ready, kept.made_at or now
        self._rules = replace(self._rules, segment=begun.segment, now=now)
        self.segment = self._segment(begun.segment)
        self._kept = _Kept(begun.segment, begun.priority, made_at=made_at)
        rows, room = begun.rows, begun.room
        for _ in range(TURN):
            if rows:
                prepared = self._prepare(rows)
                ready += prepared.ready
                if prepared.doubtful:
                    back = self._read_back(prepared.doubtful)
                    ready += back.again
                    if back.stop is not None:
                        self._kept.ready = ready
                        return back.stop
            if len(rows) < room or len(ready) >= size:
                break
            self._held.renew()
            rows = self._claim_more(begun, room)
        batch = _within_bytes(ready[:size], integration.batch_bytes)
        self._kept.ready = ready[len(batch) :]
        return batch

    def _claim_more(self, begun: _Begun, room: int) -> list[Claimed]:
        rows = self._runtime.database.run(
            lambda transaction: self._claim(
                transaction, begun.segment, begun.priority, room
            ),
            lasting=False,
        )
        return rows if self._may_keep(rows) else []

    def _claim(
        self, transaction: Transaction, segment: str, priority: int, room: int
    ) -> list[Claimed]:
        if room <= 0:
            return []
        # One that slept since may have a successor, who has taken back all it found.
        self._held.check(transaction)
        now = self._runtime.clock()
        fence = self._held.fence
        of = self._state.id
        return claim(transaction, of, segment, fence, now, room, priority)

    def _prepare(self, rows: list[Claimed]) -> Prepared:
        prepared = prepare(self._runtime.database, self._rules, rows)
        if prepared.decided or prepared.waiting:
            now, fence = self._runtime.clock(), self._held.fence
            waiting = set(prepared.waiting)
            visitors = [row.contact_id for row in rows if row.id in waiting]

            def work(transaction: Transaction) -> None:
                # Somebody may be identifying them: what waits for an address is put
                # back before that is done, or with what it did before our eyes.
                lock_contacts(transaction, visitors)
                settle(transaction, prepared.decided, fence, now)
                leave_waiting(transaction, prepared.waiting, fence, now)

            self._runtime.database.run(work)
            self._on_settled(prepared.decided)
            announce_decisions(
                self._runtime,
                self._state,
                prepared.decided,
                ((row.id, row.contact_id) for row in rows),
            )
        return prepared

    def _read_back(self, doubtful: list[Ready]) -> ReadBack:
        back = ReadBack(
            self._runtime,
            self._opened,
            self._held,
            self._api(live=True),
            self.segment,
            self._rules.map_version,
            self._on_settled,
        )
        back.run(doubtful)
        return back


def _names(transaction: Transaction, connection_id: int) -> dict[str, str]:
    return {id_: name for id_, name, _ in read_segments(transaction, connection_id)}


def _within_bytes(ready: list[Ready], most: int) -> list[Ready]:
    size = 0
    for place, entry in enumerate(ready):
        size += entry.size
        if size > most and place:
            return ready[:place]
    return ready
