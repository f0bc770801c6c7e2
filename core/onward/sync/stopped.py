"""What follows when a pull stops before its end."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection as Transaction

from onward.connections.slowing import too_fast
from onward.connections.state import State, pause
from onward.connections.verify import verify_or_pause
from onward.delivery.alerting import rest_or_alert
from onward.delivery.lease import Held
from onward.delivery.stops import Stop, rest_for
from onward.errors import InputError, ServiceError
from onward.logs.addresses import without_addresses
from onward.runtime import Runtime
from onward.sync.finish import asks, postpone
from onward.sync.plan import Plan
from onward.sync.runs import ASKS, Run, forget_missing, save_run
from onward.sync.work import check_account

log = logging.getLogger("onward.sync")

# A page that fails is tried again after so long, each time longer.
AGAIN: tuple[timedelta, ...] = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
)
# Kinds of stops after which the pull itself is to be tried again.
FAILED = ("rest", "failed", "settings", "segment")


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of one call of `sync`.

    Args:
        run: None when none was begun.
        stopped: `done`, `asks`, `limit`, `rest`, `paused`, `off`, `busy`, `failed`,
            `turn` (of another connection, or told to stop).
        again_at: when it is worth another call; None = when somebody asks.
    """

    name: str
    stopped: str
    why: str = ""
    code: str = ""
    run: Run | None = None
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """A pull that stopped, and whose it is.

    Args:
        progressed: something was stored since this call began.
    """

    runtime: Runtime
    state: State
    held: Held
    plan: Plan
    run: Run
    progressed: bool = False

    def _keep(self, transaction: Transaction) -> None:
        self.held.check(transaction)
        check_account(transaction, self.state)

    def ask(self, why: str) -> Synced:
        """Let a person decide; nothing more is taken over until then."""
        run, state = self.run, self.state

        def work(transaction: Transaction) -> None:
            self._keep(transaction)
            run.state, run.code, run.reason = ASKS, "too_much_changed", why
            # Whoever is still missing then is asked for anew.
            run.counts["asked"] = 0
            forget_missing(transaction, run)
            save_run(transaction, run, self.runtime.clock())
            asks(transaction, self.runtime, state, self.plan, why)

        self.runtime.database.run(work)
        log.error(
            "%s: the pull stopped and asks: %s",
            state.name,
            without_addresses(why),
            extra={"connection": state.name, "code": run.code},
        )
        return Synced(state.name, "asks", why, run.code, run)

    def obey(self, stop: Stop) -> Synced:
        """Do what a stop asks for, and say when the pull goes on."""
        if stop.kind == "credentials":
            stop = self._confirmed(stop)
        now = self.runtime.clock()
        if stop.kind == "account":
            seen = self.state.version
            of = self.state.id
            pause(self.runtime, of, "account_blocked", stop.why, seen=seen)
            stop = replace(stop, kind="paused")
        elif stop.kind == "rest" and stop.throttled:
            stop = self._rest(stop, now)
        is_try = stop.kind in FAILED and not stop.throttled
        again_at = None if stop.after is None else now + stop.after
        if is_try:
            before = 0 if self.progressed else self.plan.tries
            after = AGAIN[min(before, len(AGAIN) - 1)]
            again_at = max(again_at or now, now + after)

        def work(transaction: Transaction) -> None:
            self._keep(transaction)
            postpone(
                transaction,
                self.runtime,
                self.state,
                replace(self.plan, tries=0) if self.progressed else self.plan,
                again_at or now,
                self.run,
                stop if is_try else None,
            )

        self.runtime.database.run(work)
        kind = "failed" if is_try else stop.kind
        return Synced(self.state.name, kind, stop.why, stop.code, self.run, again_at)

    def _rest(self, stop: Stop, now: datetime) -> Stop:
        """Let everything of the account rest: the service said "too fast"."""
        of = self.state.id
        rested = rest_or_alert(self.runtime, of, stop, again=False)
        slow = partial(too_fast, connection_id=of, now=now, until=rested.until)
        self.runtime.database.run(slow)
        return replace(stop, after=rested.until - now)

    def _confirmed(self, stop: Stop) -> Stop:
        """Pause only if the service still refuses when asked who we are."""
        try:
            fresh = verify_or_pause(self.runtime, self.state, renew=self.held.renew)
        except ServiceError as error:
            return rest_for(error)
        except InputError as error:
            return Stop("turn", "changed", error.message)
        if fresh is None:
            return Stop("paused", "credentials", stop.why)
        return Stop("failed", stop.code, f"{stop.why}; the credentials are accepted")
