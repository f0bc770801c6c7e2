"""Run one batch of errands, and make an end of everything that can happen to it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, update
from sqlalchemy.exc import SQLAlchemyError

from onward.alerts.book import Kind, open_alert
from onward.api import Api
from onward.connections.open import Opened
from onward.connections.state import State, what_stops
from onward.contract import Outcome, OutcomeKind, RemoteKey
from onward.delivery.lease import Held
from onward.delivery.record import Closing, Sent, close_attempt, open_attempt
from onward.delivery.retry import any_luck, decide
from onward.delivery.stops import Stop, stop_for
from onward.errands.attempts import scrub_error, scrub_exchange
from onward.errands.effects import forget, note_unsubscribed
from onward.errands.queue import ERASE, end_errands, given_up_words
from onward.errors import Fenced, PluginError, Rejected, Repeat, Withdrawn
from onward.failpoints import failpoint
from onward.integrations import Capability
from onward.logs.addresses import without_addresses
from onward.models import Errand, PushState, table
from onward.runtime import Runtime

errands = table(Errand)

_LEAVE = (
    update(errands)
    .where(errands.c.id == bindparam("of"), errands.c.state == "waiting")
    .values(state="sending", attempts=bindparam("tried", type_=errands.c.attempts.type))
)
_AGAIN = (
    update(errands)
    .where(errands.c.id == bindparam("of"), errands.c.state.in_(["waiting", "sending"]))
    .values(
        state="waiting",
        due_at=bindparam("due", type_=errands.c.due_at.type),
        tries=bindparam("failed"),
        code=bindparam("word"),
        reason=bindparam("why"),
    )
)


@dataclass(frozen=True, slots=True)
class Todo:
    """One errand that is to be run now."""

    id: int
    kind: str
    remote_id: str
    tries: int
    due_at: datetime
    attempts: Sequence[int]


@dataclass(slots=True)
class Sending:
    """One batch of errands of one kind.

    Args:
        method: of the integration.
        stop: set when the connection must be left alone now.
        refused: it was refused as a whole: to be tried one by one.
        ends: (kind, state, code) → errands.
    """

    runtime: Runtime
    opened: Opened
    held: Held
    api: Api
    method: Capability
    batch: Sequence[Todo]
    stop: Stop | None = None
    refused: bool = False
    ends: Counter[tuple[str, str, str]] = field(
        default_factory=Counter[tuple[str, str, str]]
    )
    _attempt: int | None = None
    _confirmed: list[Todo] = field(default_factory=list[Todo])
    _left: dict[str, Todo] = field(init=False)
    _over: bool = False
    _error: str = ""
    _storing: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._left = {one.remote_id: one for one in self.batch}

    @property
    def worked(self) -> bool:
        """Tell whether the service was asked and nothing stood in the way."""
        return self.stop is None and bool(self.api.exchanges)

    @property
    def _state(self) -> State:
        return self.opened.state

    @property
    def _is_erasure(self) -> bool:
        return self.batch[0].kind == ERASE

    def run(self) -> None:
        """Ask the service and store what it confirms.

        Raises:
            Fenced: another worker has these errands now; nothing more was stored.
        """
        self.api.before_request = self._store
        self.api.last_word = self._leave
        try:
            self._ask()
            self._not_confirmed()
        except (Fenced, Repeat, SQLAlchemyError):  # ours, not the integration's
            raise
        except Exception as error:  # the integration is foreign code
            self._meet(error)
        self._close()

    def _ask(self) -> None:
        who = self._state.integration
        ask = getattr(self.opened.integration, self.method)
        keys = [RemoteKey(one.remote_id) for one in self.batch]
        answers: Iterable[object] = ask(self.api, keys)
        for said in answers:
            with self._storing:
                done = self._left.pop(said, None) if isinstance(said, str) else None
                if done is None:
                    raise PluginError(
                        f"{who}: {self.method}() yielded {type(said).__name__} that is "
                        "none of the ids it was given, or one of them twice"
                    )
                self._confirmed.append(done)

    # -- storing

    def _leave(self) -> None:
        """Note that they leave, before the first request and after all waiting."""
        with self._storing:
            if self._attempt is None:
                self._attempt = self.runtime.database.run(self._open)
                failpoint("after_errand_left")

    def _open(self, transaction: Transaction) -> int:
        self.held.check(transaction)
        now, state = self.runtime.clock(), self._state
        code, why = what_stops(transaction, state.id, state.version, now)
        if code:
            self.stop = Stop("turn", code, why)
            raise Withdrawn(why)
        sent = Sent(state, "", "", self.held.fence)
        attempt = open_attempt(transaction, sent, self.method, len(self.batch), now)
        for one in self.batch:
            row = {"of": one.id, "tried": [*one.attempts, attempt]}
            if transaction.execute(_LEAVE, row).rowcount != 1:
                # Cancelled while it waited for its call: made anew without it.
                raise Withdrawn("an errand was cancelled")
        return attempt

    def _store(self) -> None:
        """Store what was confirmed so far."""
        with self._storing:
            done, self._confirmed = self._confirmed, []
            if not done:
                return
            self.runtime.database.run(lambda t: self._end(t, done))
            self._over = True
            failpoint("after_errand_done")
            for one in done:
                self.ends[one.kind, "done", "done"] += 1

    def _end(self, transaction: Transaction, done: Sequence[Todo]) -> None:
        self.held.check(transaction)
        now, of = self.runtime.clock(), self._state.id
        ids = [one.id for one in done]
        ended = end_errands(transaction, ids, "done", now, code="done")
        if self.method == "erase":
            forget(transaction, of, list(ended.values()))
        elif not self._is_erasure:
            note_unsubscribed(transaction, self._state, list(ended.values()), now)

    def _close(self) -> None:
        """Keep what was said to whom, as long as it may be needed."""
        self._store()
        if self._attempt is None:
            return
        people = [one.remote_id for one in self.batch]
        exchanges = list(self.api.exchanges)
        error = self._error
        if self._over or self._is_erasure:
            exchanges = [scrub_exchange(one, people) for one in exchanges]
            error = scrub_error(error)
        closing = Closing(self._attempt, exchanges, error)
        now = self.runtime.clock()
        self.runtime.database.run(lambda t: close_attempt(t, closing, now))

    # -- what did not work

    def _not_confirmed(self) -> None:
        why = f"{self.opened.integration.title} did not confirm it"
        self._retry(Outcome(0, OutcomeKind.RETRY, "not_confirmed", why))

    def _meet(self, error: Exception) -> None:
        if isinstance(error, Withdrawn):
            return
        redact = self.opened.redactor.text
        self._error = redact(f"{type(error).__name__}: {error}")
        if isinstance(error, Rejected):
            if len(self._left) > 1:
                self.refused = True
                self._put_back(error.code, self._words(redact(error.message)))
            else:
                self._fail(error.code, self._words(redact(error.message)))
            return
        stop = stop_for(error, self._state.integration, self.opened.redactor)
        self.stop = stop = Stop(
            stop.kind, stop.code, self._words(stop.why), stop.after, stop.throttled
        )
        if stop.is_ours:
            self._put_back(stop.code, stop.why)
        else:
            self._retry(
                Outcome(0, OutcomeKind.RETRY, stop.code, stop.why, after=stop.after)
            )

    def _words(self, why: str) -> str:
        """Return a sentence without the person; of an erasure only how it begins."""
        said = why.removeprefix(f"{self._state.integration}: ")
        if self._is_erasure:
            said = said.partition(": ")[0]
        return without_addresses(said)

    def _put_back(self, code: str, why: str) -> None:
        """Return them to waiting as they were: no try used."""
        left = list(self._left.values())

        def work(transaction: Transaction) -> None:
            self.held.check(transaction)
            for one in left:
                _again(transaction, one, one.due_at, one.tries, code, why)

        self._store()
        self.runtime.database.run(work)

    def _retry(self, outcome: Outcome) -> None:
        now, luck = self.runtime.clock(), any_luck()
        steps = self.runtime.config.retry
        waiting: list[tuple[Todo, datetime, int]] = []
        over: list[tuple[Todo, str]] = []
        for one in self._left.values():
            decision = decide(outcome, one.tries, now, steps=steps, luck=luck)
            if decision.state is PushState.FAILED or decision.due_at is None:
                over.append((one, decision.reason))
            else:
                waiting.append((one, decision.due_at, decision.tries))
        if waiting:
            self._store()
            self.runtime.database.run(
                lambda t: self._wait(t, waiting, outcome.code, outcome.reason)
            )
            for one, _, _ in waiting:
                self.ends[one.kind, "waiting", outcome.code] += 1
        if over:
            self._give_up([one for one, _ in over], outcome.code, over[0][1])

    def _wait(
        self,
        transaction: Transaction,
        waiting: Sequence[tuple[Todo, datetime, int]],
        code: str,
        why: str,
    ) -> None:
        self.held.check(transaction)
        for one, due_at, tries in waiting:
            _again(transaction, one, due_at, tries, code, why)

    def _fail(self, code: str, why: str) -> None:
        self._give_up(list(self._left.values()), code, why)

    def _give_up(self, left: Sequence[Todo], code: str, why: str) -> None:
        self._store()

        def work(transaction: Transaction) -> None:
            self.held.check(transaction)
            give_up(transaction, self._state.id, left, code, why, self.runtime.clock())

        self.runtime.database.run(work)
        self._over = True
        for one in left:
            self.ends[one.kind, "failed", code] += 1


def give_up(
    transaction: Transaction,
    connection_id: int,
    left: Sequence[Todo],
    code: str,
    why: str,
    now: datetime,
) -> None:
    """End errands that a person has to do by hand, and tell somebody."""
    end_errands(
        transaction,
        [one.id for one in left],
        "failed",
        now,
        code=code,
        reason=why,
        tries=1,
        keep_id=True,
    )
    open_alert(
        transaction,
        now,
        Kind.ERRAND,
        connection_id=connection_id,
        code=code,
        reason=given_up_words(left[0].kind, why),
    )


def _again(
    transaction: Transaction,
    one: Todo,
    due_at: datetime,
    tries: int,
    code: str,
    why: str,
) -> None:
    row = {"of": one.id, "due": due_at, "failed": tries, "word": code, "why": why}
    transaction.execute(_AGAIN, row)
