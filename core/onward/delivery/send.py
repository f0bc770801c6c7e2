"""Send one batch and make an outcome of everything that can happen to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from onward.api import Api
from onward.connections.open import Opened
from onward.connections.state import State
from onward.contract import Outcome, OutcomeKind, RemoteSegment
from onward.delivery.lease import Held
from onward.delivery.prepare import Ready
from onward.delivery.queue import mark_sent
from onward.delivery.record import (
    announce_decisions,
    close_attempt,
    open_attempt,
    record_decisions,
    record_outcomes,
)
from onward.delivery.retry import Decision
from onward.errors import (
    AccountBlocked,
    CredentialsRefused,
    Fenced,
    Lost,
    PluginError,
    Rejected,
    SegmentGone,
    Temporary,
)
from onward.failpoints import failpoint
from onward.models import PushState
from onward.runtime import Runtime

log = logging.getLogger("onward.delivery")

# A batch refused with these is halved until the bad contact is alone.
HALVED = frozenset({400, 413, 422})
# So many refused parts and not one accepted: it is not about a contact.
GIVE_UP_AFTER = 12


@dataclass(slots=True)
class Stop:
    """Why a drain must not go on with this connection now.

    Args:
        kind: `rest`, `credentials`, `account` or `segment`.
        after: for `rest`: what the service asked for.
    """

    kind: str
    code: str
    why: str
    after: timedelta | None = None


def stop_for(error: Exception, integration: str) -> Stop:
    """Return what an error means for the whole connection."""
    if isinstance(error, SegmentGone):
        return Stop("segment", error.code, error.message)
    if isinstance(error, AccountBlocked):
        return Stop("account", error.code, error.message)
    if isinstance(error, CredentialsRefused):
        return Stop("credentials", "credentials", error.message)
    if isinstance(error, Temporary):
        return Stop("rest", error.code, error.message, error.after)
    if isinstance(error, Rejected):
        return Stop("rest", error.code, error.message)
    if isinstance(error, PluginError):
        return Stop("rest", "plugin_error", error.message)
    log.error("%s: the integration failed", integration, exc_info=error)
    return Stop("rest", "plugin_error", f"{integration} failed: {error!r}")


@dataclass(slots=True)
class Sending:
    """One batch on its way.

    Args:
        stop: set when the connection must be left alone now.
        calls: requests made.
    """

    runtime: Runtime
    state: State
    opened: Opened
    held: Held
    api: Api
    segment: RemoteSegment | None
    map_version: str
    batch: Sequence[Ready]
    on_settled: Callable[[dict[int, Decision]], None]
    stop: Stop | None = None
    attempt_id: int | None = None
    error: str = ""
    _pending: list[tuple[Ready, Outcome]] = field(
        default_factory=list[tuple[Ready, Outcome]]
    )
    _answered: set[int] = field(default_factory=set[int])
    _accepted: int = 0
    _refused: int = 0
    _storing: threading.RLock = field(default_factory=threading.RLock)

    def run(self) -> None:
        """Send the batch and store every outcome.

        Raises:
            Fenced: another worker has the connection; nothing more was stored.
        """
        self._open()
        try:
            self._send_part(list(self.batch))
            self.flush()
        finally:
            self._close()

    # -- storing

    def flush(self) -> None:
        """Store the outcomes yielded so far; called before every request."""
        with self._storing:
            results, self._pending = self._pending, []
            if not results:
                return
            failpoint("after_answer")
            now = self.runtime.clock()
            with self.runtime.database.write() as transaction:
                decisions = record_outcomes(
                    transaction,
                    self.state,
                    self.segment.id if self.segment else "",
                    self.map_version,
                    results,
                    self.attempt_id,
                    self.held.fence,
                    now,
                )
            failpoint("after_commit")
            if decisions is None:
                self.held.lost = True
                raise Fenced
        self.on_settled(decisions)
        announce_decisions(
            self.runtime,
            self.state,
            decisions,
            {ready.row.id: ready.row.contact_id for ready, _ in results},
        )

    def _open(self) -> None:
        now = self.runtime.clock()
        with self.runtime.database.write() as transaction:
            self.attempt_id = open_attempt(
                transaction,
                connection_id=self.state.id,
                segment=self.segment.id if self.segment else "",
                kind="push",
                size=len(self.batch),
                fence=self.held.fence,
                now=now,
            )
            marked = mark_sent(
                transaction,
                [ready.row.id for ready in self.batch],
                self.held.fence,
                now,
                self.map_version,
            )
        failpoint("after_attempt")
        if marked != len(self.batch):
            self.held.lost = True
            raise Fenced

    def _close(self) -> None:
        with self.runtime.database.write() as transaction:
            close_attempt(
                transaction,
                self.attempt_id or 0,
                self.api.exchanges,
                self.error,
                self.runtime.clock(),
            )
        self.api.close()

    # -- sending

    def _keep(self, part: dict[int, Ready], outcome: Outcome) -> None:
        ready = part.get(outcome.push_id)
        if ready is None:
            raise PluginError(
                f"{self.state.integration}: push() yielded an outcome for a contact "
                "that was not in the batch"
            )
        if outcome.push_id in self._answered:
            raise PluginError(
                f"{self.state.integration}: push() yielded two outcomes for "
                f"{ready.item.email}"
            )
        with self._storing:
            self._answered.add(outcome.push_id)
            self._pending.append((ready, outcome))
        if outcome.kind is not OutcomeKind.REJECTED:
            self._accepted += 1

    def _end_rest(
        self, part: Sequence[Ready], make: Callable[[Ready], Outcome]
    ) -> None:
        with self._storing:
            for ready in part:
                if ready.row.id not in self._answered:
                    self._answered.add(ready.row.id)
                    self._pending.append((ready, make(ready)))

    def _open_rows(self, part: Sequence[Ready]) -> list[Ready]:
        return [ready for ready in part if ready.row.id not in self._answered]

    def _push_once(self, part: Sequence[Ready]) -> None:
        by_row = {ready.row.id: ready for ready in part}
        items = [ready.item for ready in part]
        for outcome in self.opened.integration.push(self.api, items, self.segment):
            self._keep(by_row, outcome)
        missing = self._open_rows(part)
        if missing:
            names = ", ".join(ready.item.email for ready in missing[:5])
            raise PluginError(
                f"{self.state.integration}: push() yielded no outcome for {names}"
                + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            )

    def _send_part(self, part: list[Ready], *, failed_before: str = "") -> None:
        """Push some rows; halve them where that can find a bad contact."""
        try:
            self._push_once(part)
        except Fenced:
            raise
        except Exception as error:  # the integration is foreign code
            self._meet(error, part, failed_before)

    def _meet(self, error: Exception, part: list[Ready], failed_before: str) -> None:
        left = self._open_rows(part)
        self.error = f"{type(error).__name__}: {error}"
        if isinstance(error, Rejected) and error.status in HALVED:
            self._halve(error, left)
        elif (
            isinstance(error, Temporary)
            and error.status == 500
            and not isinstance(error, Lost)
        ):
            # Once may be chance. The same 500 again, at once: one contact may
            # be what it stumbles over.
            if failed_before == error.message:
                self._halve(error, left)
            else:
                self._send_part(left, failed_before=error.message)
        else:
            stop = stop_for(error, self.state.integration)
            self.stop = stop
            if stop.kind != "rest" or (
                isinstance(error, Temporary) and error.throttled
            ):
                # No fault of these contacts: they wait as they are, no try used.
                self._put_back(left, stop.code, stop.why)
            elif isinstance(error, Lost):
                self._end_rest(left, lambda r: r.item.unknown(stop.code, stop.why))
            else:
                self._end_rest(
                    left, lambda r: r.item.retry(stop.code, stop.why, stop.after)
                )

    def _put_back(self, left: list[Ready], code: str, why: str) -> None:
        """Return rows to waiting as they were; the connection's state holds them."""
        self.flush()
        now = self.runtime.clock()
        decisions = {
            ready.row.id: _still_waiting(ready, now, code, why) for ready in left
        }
        self._answered.update(decisions)
        if decisions:
            with self.runtime.database.write() as transaction:
                record_decisions(transaction, decisions, self.held.fence, now)
            self.on_settled(decisions)

    def _halve(self, error: Rejected | Temporary, left: list[Ready]) -> None:
        self._refused += 1
        if len(left) <= 1:
            for ready in left:
                self._end_alone(error, ready)
            return
        if self._accepted == 0 and self._refused > GIVE_UP_AFTER:
            self._end_rest(left, lambda r: r.item.retry(error.code, error.message))
            self.stop = Stop("rest", error.code, error.message)
            return
        middle = len(left) // 2
        before = error.message if isinstance(error, Temporary) else ""
        for half in (left[:middle], left[middle:]):
            if self.stop is None:
                self._send_part(half, failed_before=before)
            else:
                self._put_back(half, error.code, error.message)

    def _end_alone(self, error: Rejected | Temporary, ready: Ready) -> None:
        outcome = (
            ready.item.rejected(error.code, error.message)
            if isinstance(error, Rejected)
            else ready.item.retry(error.code, error.message)
        )
        with self._storing:
            self._answered.add(ready.row.id)
            self._pending.append((ready, outcome))


def _still_waiting(ready: Ready, now: datetime, code: str, why: str) -> Decision:
    return Decision(PushState.WAITING, now, ready.row.tries, code, why)
