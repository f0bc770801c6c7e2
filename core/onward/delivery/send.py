"""Send one batch and make an outcome of everything that can happen to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction
from sqlalchemy.exc import SQLAlchemyError

from onward.api import Api
from onward.connections.open import Opened
from onward.contract import Outcome, OutcomeKind, RemoteSegment
from onward.delivery import trail
from onward.delivery.claiming import mark_sent
from onward.delivery.lease import Held
from onward.delivery.prepare import Ready
from onward.delivery.record import (
    Closing,
    Sent,
    announce_decisions,
    close_attempt,
    open_attempt,
    record_outcomes,
)
from onward.delivery.retry import Decision
from onward.delivery.settling import add_outcomes, put_back
from onward.delivery.stops import HALVED, Stop, is_crash, stop_for
from onward.errors import (
    Fenced,
    PluginError,
    Rejected,
    Repeat,
    Temporary,
    Withdrawn,
)
from onward.failpoints import failpoint
from onward.instrument import Batch, watching
from onward.runtime import Runtime

# A batch may wait long for its calls; who opts out meanwhile is looked for as often.
OPT_OUTS = timedelta(seconds=5)
# So many refused parts and not one accepted: it is not about a contact.
GIVE_UP_AFTER = 12

Part = Sequence[Ready]


@dataclass(slots=True)
class Sending:
    """One batch on its way.

    Args:
        on_settled: told what became of rows, in whatever thread.
        opted_out: tells who of some may not be sent to any more.
        made_at: when its contacts were read and mapped.
        stop: set when the connection must be left alone now.
    """

    runtime: Runtime
    opened: Opened
    held: Held
    api: Api
    segment: RemoteSegment | None
    map_version: str
    made_at: datetime
    batch: Part
    on_settled: Callable[[dict[int, Decision]], None]
    opted_out: Callable[[Part], Part]
    stop: Stop | None = None
    _sent: Sent = field(init=False)
    _watched: Batch = field(init=False)
    _error: str = ""
    _pending: list[tuple[Ready, Outcome]] = field(
        default_factory=list[tuple[Ready, Outcome]]
    )
    _answered: set[int] = field(default_factory=set[int])
    _accepted: int = 0
    _refused: int = 0
    _crash: Stop | None = None
    _storing: threading.RLock = field(default_factory=threading.RLock)
    _looked_at: datetime = field(init=False)
    _gone: Part = ()

    def __post_init__(self) -> None:
        self._looked_at = self.made_at
        self._sent = Sent(
            self.opened.state,
            self.segment.id if self.segment else "",
            self.map_version,
            self.held.fence,
        )
        state, rows = self.opened.state, [ready.row.id for ready in self.batch]
        self._watched = Batch(state.name, state.integration, "push", rows)

    @property
    def worked(self) -> bool:
        """Tell whether the service was asked and nothing stood in the way."""
        return self.stop is None and bool(self.api.exchanges)

    def run(self) -> None:
        """Send the batch and store every outcome.

        Raises:
            Fenced: another worker has the connection; nothing more was stored.
        """
        self.api.before_request = self._before_request
        self.api.last_word = self._look_for_opt_outs
        with watching(self.runtime.instrument, self._watched):
            self._run()

    def _run(self) -> None:
        try:
            self._send_part(list(self.batch))
            if self.stop is None and self._accepted == 0:
                # It was no single contact: not one of them went through.
                self.stop = self._crash
            self._watched.stopped = self.stop.code if self.stop else ""
            self._store(closing=True)
        except BaseException as error:
            if isinstance(error, Fenced):
                self.held.lost = True
            self._close_only()
            raise

    # -- storing

    def _before_request(self) -> None:
        """Store what was yielded so far; before the first request, that it leaves."""
        with self._storing:
            if self._sent.attempt_id is None:
                self._open()
            else:
                self._store()

    def _look_for_opt_outs(self) -> None:
        """Let nothing leave any more when somebody of the batch opted out."""
        with self._storing:
            now = self.runtime.clock()
            if not self._gone and now - self._looked_at >= OPT_OUTS:
                self._looked_at = now
                self._gone = self.opted_out(self._left(self.batch))
            if self._gone:
                raise Withdrawn

    def _open(self) -> None:
        now = self.runtime.clock()
        rows = [ready.row.id for ready in self.batch]

        def work(transaction: Transaction) -> int:
            size = len(self.batch)
            attempt_id = open_attempt(transaction, self._sent, "push", size, now)
            mark_sent(transaction, rows, self.held.fence, now, self.map_version)
            return attempt_id

        attempt_id = self.runtime.database.run(work)
        self._sent = replace(self._sent, attempt_id=attempt_id)
        self._watched.attempt_id = attempt_id
        trail.leaves(attempt_id, rows)
        failpoint("after_attempt")

    def _store(self, *, closing: bool = False) -> None:
        with self._storing:
            results, self._pending = self._pending, []
            closed = self._closing() if closing else None
            if not results and closed is None:
                return
            failpoint("after_answer")
            decisions = record_outcomes(self.runtime, self._sent, results, closed)
            failpoint("after_commit")
        self.on_settled(decisions)
        announce_decisions(
            self.runtime,
            self._sent.state,
            decisions,
            ((ready.row.id, ready.row.contact_id) for ready, _ in results),
        )

    def _closing(self) -> Closing | None:
        if self._sent.attempt_id is None:
            return None
        return Closing(self._sent.attempt_id, self.api.exchanges, self._error)

    def _close_only(self) -> None:
        """Keep at least what was said to whom; the rows are somebody else's now."""
        closing = self._closing()
        if closing is not None:
            now = self.runtime.clock()
            self.runtime.database.run(
                lambda transaction: close_attempt(transaction, closing, now)
            )

    def _put_back(self, left: Part, code: str, why: str) -> None:
        """Return rows to waiting as they were; the connection's state holds them."""
        self._store()
        rows = [ready.row.id for ready in left]
        self._answered.update(rows)
        if not rows:
            return
        now = self.runtime.clock()
        fence = self.held.fence
        # Of an earlier send nobody knows more than before.
        doubtful = [ready.row.id for ready in left if ready.row.sent_at is not None]
        clear = set(rows).difference(doubtful)

        def work(transaction: Transaction) -> None:
            put_back(transaction, clear, fence, code=code, reason=why, sent=True)
            put_back(transaction, doubtful, fence, code=code, reason=why)
            attempt = self._sent.attempt_id
            add_outcomes(transaction, rows, attempt, "waiting", code, why, now)

        self.runtime.database.run(work)
        trail.put_back(rows, code)

    # -- sending

    def _keep(self, part: dict[int, Ready], outcome: object) -> None:
        who = self.opened.state.integration
        if not isinstance(outcome, Outcome):
            raise PluginError(
                f"{who}: push() yielded {type(outcome).__name__}, not an outcome; "
                "make one with item.delivered(…), item.rejected(…) and the like"
            )
        ready = part.get(outcome.push_id)
        if ready is None:
            names = ", ".join(one.item.email for one in list(part.values())[:5])
            raise PluginError(
                f"{who}: push() yielded an outcome for a contact that was not in the "
                f"batch ({names}{', …' if len(part) > 5 else ''})"
            )
        if outcome.push_id in self._answered:
            raise PluginError(
                f"{who}: push() yielded two outcomes for {ready.item.email}"
            )
        if outcome.kind is OutcomeKind.SUBMITTED:
            raise PluginError(
                f"{who}: submitted() is reserved, nothing asks for a job's end yet; "
                f"{ready.item.email} is sent again"
            )
        if not outcome.remote_id.isprintable():
            raise PluginError(
                f"{who}: the id of {ready.item.email} holds control characters"
            )
        if outcome.reason:
            words = self.opened.redactor.text(outcome.reason)
            outcome = replace(outcome, reason=words)
        self._add(ready, outcome)
        if outcome.kind is not OutcomeKind.REJECTED:
            self._accepted += 1

    def _add(self, ready: Ready, outcome: Outcome) -> None:
        with self._storing:
            self._answered.add(ready.row.id)
            self._pending.append((ready, outcome))

    def _end(self, part: Part, make: Callable[[Ready], Outcome]) -> None:
        for ready in part:
            self._add(ready, make(ready))

    def _push_once(self, part: Part) -> None:
        by_row = {ready.row.id: ready for ready in part}
        items = [ready.item for ready in part]
        answers = self.opened.integration.push(self.api, items, self.segment)
        try:
            for outcome in answers:
                self._keep(by_row, outcome)
        finally:
            # What it still has running must have ended before its rows are settled.
            close = getattr(answers, "close", None)
            if close is not None:
                close()
        missing = self._left(part)
        if missing:
            names = ", ".join(ready.item.email for ready in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise PluginError(
                f"{self.opened.state.integration}: push() yielded no outcome for "
                f"{names}{more}"
            )

    def _left(self, part: Part) -> list[Ready]:
        return [ready for ready in part if ready.row.id not in self._answered]

    def _send_part(self, part: Part, *, crashed: str = "") -> None:
        """Push some rows; halve them where that can find a bad contact.

        Args:
            crashed: with which words a 500 met these rows before.
        """
        try:
            self._push_once(part)
        except (Fenced, Repeat, SQLAlchemyError):  # ours, not the integration's
            raise
        except Exception as error:  # the integration is foreign code
            self._meet(error, self._left(part), crashed)

    def _meet(self, error: Exception, left: Part, crashed: str) -> None:
        if isinstance(error, Withdrawn):
            # Made anew at once, without them.
            self._put_back(left, "made_anew", error.message)
            return
        state = self.opened.state
        redact = self.opened.redactor.text
        self._error = redact(f"{type(error).__name__}: {error}")
        if isinstance(error, Rejected) and (error.status in HALVED or len(left) == 1):
            self._halve(error, left)
            return
        if isinstance(error, Temporary) and is_crash(error):
            # Once may be chance. The same 500 again, at once: one contact may be
            # what it stumbles over.
            if crashed == error.message:
                self._halve(error, left)
            else:
                self._send_part(left, crashed=error.message)
            return
        stop = stop_for(error, state.integration, self.opened.redactor)
        self.stop = stop
        # Of a batch that waited for its very first call nothing left.
        if stop.lost and (self.api.exchanges or stop.kind != "limit"):
            self._end(left, lambda r: r.item.unknown(stop.code, stop.why))
        elif stop.is_ours:
            # No fault of these contacts: they wait as they are, no try used.
            self._put_back(left, stop.code, stop.why)
        else:
            self._end(left, lambda r: r.item.retry(stop.code, stop.why, stop.after))

    def _halve(self, error: Rejected | Temporary, left: Part) -> None:
        why = self.opened.redactor.text(error.message)
        self._refused += 1
        if isinstance(error, Temporary):
            self._crash = Stop("rest", error.code, why, error.after)
        if len(left) <= 1:
            refused = isinstance(error, Rejected)
            self._end(
                left,
                lambda r: (
                    r.item.rejected(error.code, why)
                    if refused
                    else r.item.retry(error.code, why)
                ),
            )
            return
        if self._accepted == 0 and self._refused > GIVE_UP_AFTER:
            self._end(left, lambda r: r.item.retry(error.code, why))
            self.stop = Stop("rest", error.code, why)
            return
        middle = len(left) // 2
        crashed = error.message if isinstance(error, Temporary) else ""
        for half in (left[:middle], left[middle:]):
            if self.stop is None:
                self._send_part(half, crashed=crashed)
            else:
                self._put_back(self._left(half), self.stop.code, self.stop.why)
