"""When to try again, as pure functions of what happened and how often."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from onward.config.model import RETRY_AFTER as RETRY_AFTER
from onward.contract import Outcome, OutcomeKind
from onward.models import PushState

SPREAD = 0.2
REST_FIRST = timedelta(seconds=2)
REST_MOST = timedelta(seconds=900)

_FINAL = {
    OutcomeKind.DELIVERED: PushState.DELIVERED,
    OutcomeKind.UNCHANGED: PushState.UNCHANGED,
    OutcomeKind.SKIPPED: PushState.SKIPPED,
    OutcomeKind.REJECTED: PushState.FAILED,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """The next state of a push row.

    Args:
        due_at: when it may be claimed again; None for a final state.
        tries: failed tries so far.
        unknown: it may have arrived; read back before it is sent again.
        job: the service's name of the job it was handed to, "" for none.
    """

    state: PushState
    due_at: datetime | None
    tries: int
    code: str
    reason: str
    unknown: bool = False
    job: str = ""


def decide(
    outcome: Outcome,
    tries: int,
    now: datetime,
    *,
    steps: tuple[timedelta, ...] = RETRY_AFTER,
    luck: float = 0.5,
) -> Decision:
    """Return what follows from an outcome.

    Args:
        tries: failed tries before this one.
        steps: waits after the first, second, … failed try.
        luck: 0 to 1; spreads the wait over ±20 % so that rows that failed
            together do not come back together.
    """
    final = _FINAL.get(outcome.kind)
    if final is not None:
        return Decision(final, None, tries, outcome.code, outcome.reason)
    if outcome.kind is OutcomeKind.SUBMITTED:
        due = now + (outcome.after or timedelta(minutes=1))
        return Decision(
            PushState.SUBMITTED,
            due,
            tries,
            outcome.code,
            outcome.reason,
            job=outcome.job,
        )
    if outcome.kind is OutcomeKind.UNKNOWN:
        # Nobody knows yet, so no try is used; the row is read back first, at once.
        # One that stays unknown comes back ever later.
        late = steps[min(tries, len(steps)) - 1] if tries else timedelta()
        due = now + (outcome.after or late)
        return Decision(
            PushState.WAITING, due, tries, outcome.code, outcome.reason, unknown=True
        )
    if tries >= len(steps):
        reason = f"{outcome.reason or outcome.code}; given up after {tries + 1} tries"
        return Decision(PushState.FAILED, None, tries + 1, outcome.code, reason)
    wait = spread(steps[tries], luck)
    if outcome.after:
        wait = outcome.after  # the service knows best
    return Decision(
        PushState.WAITING, now + wait, tries + 1, outcome.code, outcome.reason
    )


def spread(wait: timedelta, luck: float) -> timedelta:
    """Return a wait that is up to 20 % shorter or longer."""
    return wait * (1 + SPREAD * (2 * luck - 1))


def any_luck() -> float:
    """Return a fresh value for `decide(luck=…)`."""
    return random.random()  # noqa: S311 - spreads load, protects nothing


def rest_for(step: int, after: timedelta | None = None) -> timedelta:
    """Return how long a connection rests after its (step + 1)-th throttled batch.

    2, 4, 8 … 900 s; `after` (Retry-After) wins.
    """
    if after is not None and after > timedelta():
        return after
    doubled: int = 2 ** min(step, 16)
    return min(REST_FIRST * doubled, REST_MOST)
