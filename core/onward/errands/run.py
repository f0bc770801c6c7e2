"""Run the errands that are due, each connection under a lease of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, func, select, text, update

from onward.api import Api, Wire
from onward.connections.open import (
    LOCAL_PROBLEMS,
    Opened,
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
    read_state,
)
from onward.connections.verify import is_fresh, verify_or_pause
from onward.delivery.alerting import PLUGIN_ERROR, alert_plugin, rest_or_alert
from onward.delivery.drain import REFUSALS
from onward.delivery.lease import Held, held_until, take
from onward.delivery.stops import Stop, rest_for
from onward.delivery.work import Delivery
from onward.errands.queue import ERASE, UNSUBSCRIBE, cancel_for_connection
from onward.errands.sending import Sending, Todo, give_up
from onward.errors import (
    ConfigError,
    Fenced,
    PluginError,
    ServiceError,
    Stopping,
    Temporary,
)
from onward.integrations import Capability, Integration, can
from onward.logs.addresses import without_addresses
from onward.models import Contact, Errand, Push, table
from onward.runtime import Runtime
from onward.sql import unindexed

log = logging.getLogger("onward.errands")

errands = table(Errand)
pushes = table(Push)
contacts = table(Contact)

# What was confirmed is stored before the next request; what was not is asked again.
BATCH = 20

_ON_ITS_WAY = (
    unindexed(pushes.c.connection_id) == errands.c.connection_id,
    unindexed(pushes.c.state).in_(["sending", "submitted"]),
)
# A push that ends after it could bring them back.
_IS_PUSHED = (
    select(pushes.c.id)
    .where(pushes.c.contact_id == errands.c.contact_id, *_ON_ITS_WAY)
    .correlate(errands)
    .exists()
)
_IS_PUSHED_AS_ANOTHER = (
    select(pushes.c.id)
    .join(contacts, contacts.c.id == pushes.c.contact_id)
    .where(contacts.c.merged_into == errands.c.contact_id, *_ON_ITS_WAY)
    .correlate(errands)
    .exists()
)
_IS_WAITING = text("errand.state = 'waiting'")
_DUE = (
    _IS_WAITING,
    errands.c.due_at <= bindparam("moment", type_=errands.c.due_at.type),
)
_CONNECTIONS = (
    select(errands.c.connection_id)
    .where(*_DUE)
    .union(select(errands.c.connection_id).where(errands.c.state == "sending"))
)
_TODO = (
    select(
        errands.c.id,
        errands.c.kind,
        errands.c.remote_id,
        errands.c.tries,
        errands.c.due_at,
        errands.c.attempts,
    )
    .where(
        errands.c.connection_id == bindparam("of"),
        *_DUE,
        ~_IS_PUSHED,
        ~_IS_PUSHED_AS_ANOTHER,
    )
    .order_by(errands.c.due_at, errands.c.id)
    .limit(BATCH)
)
_ADOPT = (
    update(errands)
    .where(errands.c.connection_id == bindparam("of"), errands.c.state == "sending")
    .values(state="waiting")
)
_NEXT = select(func.min(errands.c.due_at)).where(_IS_WAITING)

Never = Callable[[], bool]


@dataclass(slots=True)
class Done:
    """What became of errands.

    Args:
        ends: (kind, state, code) → errands; `waiting` = to be tried again.
        held: connection → why its errands wait.
        next_at: when the next one is due.
    """

    ends: Counter[tuple[str, str, str]] = field(
        default_factory=Counter[tuple[str, str, str]]
    )
    held: dict[str, str] = field(default_factory=dict[str, str])
    next_at: datetime | None = None


def add_errands(delivery: Delivery, done: Done) -> None:
    """Add what became of errands to what became of pushes."""
    delivery.errands.update(done.ends)
    for name, why in done.held.items():
        delivery.held.setdefault(f"{name}, errands", why)
    moments = [one for one in (delivery.next_at, done.next_at) if one is not None]
    delivery.next_at = min(moments, default=None)


def lease_name(connection_id: int) -> str:
    """Return the name of the lease of a connection's errands."""
    return f"errands:{connection_id}"


def method_for(
    integration: Integration | type[Integration], kind: str
) -> Capability | None:
    """Return how an integration does an errand; None = it cannot.

    Who cannot be erased is at least unsubscribed.
    """
    if kind == ERASE and can(integration, "erase"):
        return "erase"
    if kind in (ERASE, UNSUBSCRIBE) and can(integration, "unsubscribe"):
        return "unsubscribe"
    return None


def run_errands(runtime: Runtime, *, stopping: Never = lambda: False) -> Done:
    """Do what is due now, on every connection; a repeat has no further effect.

    Safe to call at any time from anywhere: without a connection's lease nothing is
    done there. An errand waits while a push of the same contact is on its way, and
    while its connection is paused, rests or is switched off.

    Args:
        stopping: when it says so, nothing more begins.
    """
    done = Done()
    if runtime.unfit:
        return done
    with runtime.database.read() as transaction:
        found = transaction.execute(_CONNECTIONS, {"moment": runtime.clock()})
        todo = sorted(found.scalars())
    for of in todo:
        if stopping():
            break
        try:
            _run(runtime, of, done, stopping)
        except Fenced:
            log.warning("connection %s: another worker took over its errands", of)
    with runtime.database.read() as transaction:
        done.next_at = transaction.execute(_NEXT).scalar()
    return done


def _run(runtime: Runtime, of: int, done: Done, stopping: Never) -> None:
    name = lease_name(of)
    held = take(runtime.database, name, runtime.config.lease, runtime.clock)
    if held is None:
        until = held_until(runtime.database, name)
        done.held[str(of)] = f"another worker does them (until {until:%H:%M:%S})"
        return
    try:
        _Errands(runtime, of, held, done, stopping).run()
    except Fenced:
        held.lost = True
        raise
    finally:
        if not held.lost:
            held.release()


class _Errands:
    def __init__(
        self, runtime: Runtime, of: int, held: Held, done: Done, stopping: Never
    ) -> None:
        self.runtime = runtime
        self.of = of
        self.held = held
        self.done = done
        self.stopping = stopping
        # How many of those that were refused together are still asked one by one.
        self.alone = 0

    def run(self) -> None:
        """Do what can be done now."""
        state = self.runtime.database.run(self._begin)
        if state is None:
            return
        why = self._what_holds(state)
        if why:
            self._hold(state, why)
            return
        opened = self._open(state)
        if opened is None:
            return
        self.opened = opened
        self.probing = opened.state.rest_step > 0
        while not self.stopping():
            self.held.renew()
            batch = self._next()
            if not batch or not self._send(batch):
                return

    def _begin(self, transaction: Transaction) -> State | None:
        """Take over what a dead worker left, and see how things are."""
        transaction.execute(_ADOPT, {"of": self.of})
        state = read_state(transaction, self.of)
        if state is None:
            why, now = "the connection was removed", self.runtime.clock()
            cancel_for_connection(transaction, self.of, "connection_removed", why, now)
        return state

    def _hold(self, state: State, why: str) -> None:
        self.done.held[state.name] = why

    # -- getting ready

    def _what_holds(self, state: State) -> str:
        if not state.enabled:
            return "the connection is switched off"
        if state.paused_code and state.paused_code not in LOCAL_PROBLEMS:
            return f"the connection is paused: {state.paused_why}"
        if state.is_resting(self.runtime.clock()):
            return state.rest_why or "the connection rests"
        if is_outdated(self.runtime, state):
            return "onward.toml was changed after this process started"
        problem = local_problem(self.runtime, state)
        return "" if problem is None else problem[1]

    def _open(self, state: State) -> Opened | None:
        """Open the connection, verified within the last day."""
        try:
            fresh = state if is_fresh(self.runtime, state) else self._verify(state)
            return None if fresh is None else open_connection(self.runtime, fresh)
        except (ChangedMeanwhile, Stopping):
            return None  # the next one looks again
        except ServiceError as error:
            self._rest(state, rest_for(error))
        except (ConfigError, PluginError) as error:
            self._pause(state, "settings", error.message)
        return None

    def _verify(self, state: State) -> State | None:
        try:
            fresh = verify_or_pause(self.runtime, state, renew=self._go_on)
        except Temporary as error:
            if state.verified_at is None or error.status is None:
                raise
            return state  # it was verified once; an outage shows by itself
        if fresh is None:
            self._hold(state, "the connection is paused")
        return fresh

    def _go_on(self) -> None:
        """Prolong the lease; ask nothing more when this process is to stop."""
        if self.stopping():
            raise Stopping
        self.held.renew()

    # -- sending

    def _next(self) -> list[Todo]:
        """Return the first ones that may go now, all of one kind."""
        given = {"of": self.of, "moment": self.runtime.clock()}
        with self.runtime.database.read() as transaction:
            found = [Todo(*row) for row in transaction.execute(_TODO, given)]
        return [one for one in found if one.kind == found[0].kind]

    def _send(self, batch: list[Todo]) -> bool:
        """Run a batch; tell whether more may follow now."""
        opened, state = self.opened, self.opened.state
        method = method_for(opened.integration, batch[0].kind)
        if method is None:
            self._cannot(batch)
            return True
        wire = self._wire()
        calls = opened.integration.calls_per_batch
        with self.runtime.database.read() as transaction:
            pause = wire.room_for(transaction, calls)
        if pause is not None:
            self._hold(state, "the limit of calls is used up for now")
            return False
        some = batch[:1] if self.alone else batch
        api = Api(wire, opened.memory, opened.index)
        sending = Sending(self.runtime, opened, self.held, api, method, some)
        try:
            sending.run()
        finally:
            self.done.ends += sending.ends
        self.alone = len(some) if sending.refused else max(self.alone - 1, 0)
        if sending.stop is not None:
            self._obey(state, sending.stop)
            return False
        if self.probing and sending.worked:
            now = self.runtime.clock()
            self.runtime.database.run(lambda t: clear_rest(t, self.of, now))
            self.probing = False
        return True

    def _wire(self) -> Wire:
        wire = self.opened.wire(
            self.runtime,
            live=True,
            renew=self.held.renew,
            left=self.held.left,
            stopping=self.stopping,
        )
        # Beside what the drain has on its way.
        return replace(wire, in_flight=1)

    def _cannot(self, batch: list[Todo]) -> None:
        """End what the integration has no method for."""
        title, kind = self.opened.integration.title, batch[0].kind
        code, why = "not_supported", f"this integration cannot {kind} in {title}"

        def work(transaction: Transaction) -> None:
            self.held.check(transaction)
            give_up(transaction, self.of, batch, code, why, self.runtime.clock())

        self.runtime.database.run(work)
        self.done.ends[kind, "failed", code] += len(batch)

    # -- what follows from a failure

    def _obey(self, state: State, stop: Stop) -> None:
        match stop.kind:
            case "turn" | "limit":
                self._hold(state, stop.why)
            case "credentials":
                self._confirm_refusal(state, stop)
            case "account":
                self._pause(state, "account_blocked", stop.why)
            case "rest" | "segment":
                self._rest(state, stop)
            case _:
                self._pause(state, stop.code, stop.why)

    def _confirm_refusal(self, state: State, stop: Stop) -> None:
        """Pause only if the service still refuses when asked who we are."""
        try:
            fresh = verify_or_pause(self.runtime, state, renew=self.held.renew)
        except ChangedMeanwhile:
            return
        except ServiceError as error:
            self._rest(state, rest_for(error))
            return
        if fresh is None:
            self._hold(state, "the connection is paused")
        elif fresh.rest_step >= REFUSALS:
            why = f"{stop.why}; the credentials themselves are accepted"
            self._pause(fresh, "credentials", why)
        else:
            self._rest(fresh, stop)

    def _pause(self, state: State, code: str, why: str) -> None:
        pause(self.runtime, self.of, code, why, seen=state.version)
        self._hold(state, f"the connection is paused: {why}")

    def _rest(self, state: State, stop: Stop) -> None:
        if stop.code == PLUGIN_ERROR:
            alert_plugin(self.runtime, self.of, stop.why)
        rested = rest_or_alert(self.runtime, self.of, stop, again=False)
        if stop.throttled:
            now, until = self.runtime.clock(), rested.until
            self.runtime.database.run(lambda t: too_fast(t, self.of, now, until))
        words = without_addresses(stop.why)
        log.warning(
            "%s rests until %s: %s", state.name, f"{rested.until:%H:%M:%S}", words
        )
        self._hold(state, stop.why)
