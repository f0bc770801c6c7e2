"""Settle what may or may not have arrived: ask the service before resending."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from onward.api import Api
from onward.connections.open import Opened
from onward.contract import Item, Outcome, RemoteContact, RemoteSegment
from onward.delivery.claiming import use_try
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
from onward.delivery.retry import Decision, any_luck, spread
from onward.delivery.send import GIVE_UP_AFTER
from onward.delivery.settling import settle
from onward.delivery.stops import Stop, is_crash, stop_for
from onward.errors import Fenced, Repeat, Temporary
from onward.instrument import Batch, watching
from onward.integrations import can, read_back
from onward.models import PushState
from onward.runtime import Runtime


def is_as_wished(
    item: Item, record: RemoteContact, segment: RemoteSegment | None
) -> bool:
    """Tell whether the service has a contact exactly as it was to be sent.

    A field the service does not show counts as not confirmed.
    """
    if record.email.lower() != item.email or record.status not in ("normal", "pending"):
        return False
    if record.status == "pending" and item.opt_in != "pending":
        return False
    for name, text in item.fields.items():
        if record.fields.get(name, "\0").strip() != text.strip():
            return False
    if segment is None:
        return True
    return record.segments.get(segment.id) in {"normal", item.opt_in}


@dataclass(slots=True)
class ReadBack:
    """Asks what became of rows whose last send got no answer.

    One found as wished is delivered. One that is not there uses a try and is sent
    again, reading before it writes.

    Args:
        again: to be sent again.
        stop: set when the service could not be asked.
    """

    runtime: Runtime
    opened: Opened
    held: Held
    api: Api
    segment: RemoteSegment | None
    map_version: str
    on_settled: Callable[[dict[int, Decision]], None]
    again: list[Ready] = field(default_factory=list[Ready])
    stop: Stop | None = None
    _error: str = ""
    _read: int = 0
    _failed: int = 0

    def run(self, doubtful: Sequence[Ready]) -> None:
        """Settle what can be settled.

        Raises:
            Fenced: another worker has the connection.
        """
        if can(self.opened.integration, "read"):
            sent = self._opened(len(doubtful))
            rows = [ready.row.id for ready in doubtful]
            name, integration = sent.state.name, sent.state.integration
            watched = Batch(name, integration, "read", rows, sent.attempt_id)
            with watching(self.runtime.instrument, watched):
                try:
                    self._ask(sent, list(doubtful), "")
                finally:
                    watched.stopped = self.stop.code if self.stop else ""
                    self._close(sent)
        elif self.opened.integration.repeatable:
            self._send_again(doubtful, "no_answer", "never answered")
        else:
            why = (
                "it may or may not have arrived, and this service can neither be asked "
                "nor pushed to twice; look there, and push it by hand if it is missing"
            )
            self._give_up(doubtful, "unknown", why)

    def _opened(self, size: int) -> Sent:
        sent = Sent(
            self.opened.state,
            self.segment.id if self.segment else "",
            self.map_version,
            self.held.fence,
        )
        now = self.runtime.clock()
        attempt_id = self.runtime.database.run(
            lambda transaction: open_attempt(transaction, sent, "read", size, now)
        )
        return replace(sent, attempt_id=attempt_id)

    def _close(self, sent: Sent) -> None:
        closing = Closing(sent.attempt_id or 0, self.api.exchanges, self._error)
        now = self.runtime.clock()
        self.runtime.database.run(
            lambda transaction: close_attempt(transaction, closing, now)
        )

    # -- asking

    def _ask(self, sent: Sent, part: list[Ready], crashed: str) -> None:
        """Read some rows back; one that the service stumbles over is found."""
        items = [ready.item for ready in part]
        found: dict[str, RemoteContact] = {}
        try:
            answers = read_back(self.opened.integration, self.api, items, self.segment)
            for record in answers:
                found[record.email.lower()] = record
            self.api.learn(found.values())
        except (Fenced, Repeat, SQLAlchemyError):  # ours, not the integration's
            raise
        except Exception as error:  # the integration is foreign code
            # Who was read was read; the calls for it are not spent again.
            read = [ready for ready in part if ready.item.email in found]
            self._compare(sent, read, found)
            left = [ready for ready in part if ready.item.email not in found]
            self._meet(error, sent, left, crashed)
        else:
            self._read += len(part)
            self._compare(sent, part, found)

    def _meet(
        self, error: Exception, sent: Sent, part: list[Ready], crashed: str
    ) -> None:
        redactor = self.opened.redactor
        self._error = redactor.text(f"{type(error).__name__}: {error}")
        stop = stop_for(error, self.opened.state.integration, redactor)
        crash = is_crash(error)
        if crash and crashed != stop.why:
            self._ask(sent, part, stop.why)
            return
        if stop.is_ours or (isinstance(error, Temporary) and not crash):
            self.stop = stop
            self._still_unknown(part, stop)
            return
        # It cannot be read now and perhaps never will: that must end some day.
        self._failed += 1
        if self._failed > GIVE_UP_AFTER and not self._read:
            self.stop = stop
            self._use_try_unread(part, stop)
        elif len(part) == 1:
            self._use_try_unread(part, stop)
        else:
            middle = len(part) // 2
            for half in (part[:middle], part[middle:]):
                if self.stop is None:
                    self._ask(sent, half, crashed)
                elif self.stop.is_ours:
                    self._still_unknown(half, self.stop)
                else:
                    self._use_try_unread(half, self.stop)

    def _compare(
        self, sent: Sent, part: list[Ready], found: dict[str, RemoteContact]
    ) -> None:
        results: list[tuple[Ready, Outcome]] = []
        again: list[Ready] = []
        for ready in part:
            record = found.get(ready.item.email)
            if record is not None and is_as_wished(ready.item, record, self.segment):
                outcome = ready.item.delivered(
                    record.remote_id, "read_back", "found there when read back"
                )
                results.append((ready, outcome))
            else:
                again.append(ready)
        if results:
            decisions = record_outcomes(self.runtime, sent, results)
            self.on_settled(decisions)
            contacts = ((r.row.id, r.row.contact_id) for r, _ in results)
            announce_decisions(self.runtime, sent.state, decisions, contacts)
        if again:
            why = "never answered, and is not there"
            self._send_again(again, "no_answer", why)

    # -- what follows

    def _send_again(self, part: Sequence[Ready], code: str, why: str) -> None:
        """Count the lost send as a try, so that it cannot go on for ever."""
        most = len(self.runtime.config.retry)
        hopeless = [ready for ready in part if ready.row.tries >= most]
        self._give_up(hopeless, code, f"sent {most + 1} times, {why}")
        rest = [ready for ready in part if ready.row.tries < most]
        if not rest:
            return
        ids = [ready.row.id for ready in rest]
        self.runtime.database.run(
            lambda transaction: use_try(transaction, ids, self.held.fence)
        )
        for ready in rest:
            # A permission is used once, and the lost send may have used it.
            item = replace(
                ready.item,
                unsure=True,
                on_segment=False,
                changed=ready.item.fields,
                consent=False,
                recreate=False,
            )
            row = replace(ready.row, tries=ready.row.tries + 1)
            self.again.append(Ready(row, item, ready.warnings))

    def _give_up(self, part: Sequence[Ready], code: str, why: str) -> None:
        self._settle(
            {
                ready.row.id: Decision(
                    PushState.FAILED, None, ready.row.tries, code, why
                )
                for ready in part
            },
            part,
        )

    def _use_try_unread(self, part: Sequence[Ready], stop: Stop) -> None:
        steps, luck = self.runtime.config.retry, any_luck()
        for ready in part:
            tries = ready.row.tries
            if tries >= len(steps):
                why = f"it may have arrived, and cannot be read back: {stop.why}"
                self._give_up([ready], stop.code, why)
                continue
            due = self.runtime.clock() + spread(steps[tries], luck)
            self._settle(
                {
                    ready.row.id: Decision(
                        PushState.WAITING,
                        due,
                        tries + 1,
                        stop.code,
                        stop.why,
                        unknown=True,
                    )
                },
                part,
            )

    def _still_unknown(self, part: Sequence[Ready], stop: Stop) -> None:
        due = self.runtime.clock() + (stop.after or timedelta())
        self._settle(
            {
                ready.row.id: Decision(
                    PushState.WAITING,
                    due,
                    ready.row.tries,
                    stop.code,
                    stop.why,
                    unknown=True,
                )
                for ready in part
            },
            part,
        )

    def _settle(self, decisions: dict[int, Decision], part: Sequence[Ready]) -> None:
        if not decisions:
            return
        now = self.runtime.clock()
        self.runtime.database.run(
            lambda transaction: settle(transaction, decisions, self.held.fence, now)
        )
        self.on_settled(decisions)
        contacts = ((ready.row.id, ready.row.contact_id) for ready in part)
        announce_decisions(self.runtime, self.opened.state, decisions, contacts)
