"""Write down what a send led to: outcomes, rows, snapshots, opt-outs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, insert, update

from onward import remote, signals
from onward.connections.state import State
from onward.contacts.suppress import add_suppression
from onward.contract import Outcome, OutcomeKind
from onward.delivery.prepare import Ready
from onward.delivery.queue import add_outcomes, settle
from onward.delivery.retry import Decision, any_luck, decide
from onward.models import Attempt, PushState, table
from onward.remote import Snapshot
from onward.runtime import Runtime

log = logging.getLogger("onward.delivery")

attempts = table(Attempt)

_OPEN = insert(attempts).returning(attempts.c.id)
_CLOSE = (
    update(attempts)
    .where(attempts.c.id == bindparam("of"))
    .values(
        finished_at=bindparam("moment"),
        exchanges=bindparam("seen", type_=attempts.c.exchanges.type),
        error=bindparam("words"),
    )
)

_SIGNALS = {
    PushState.DELIVERED: signals.push_delivered,
    PushState.UNCHANGED: signals.push_delivered,
    PushState.SKIPPED: signals.push_skipped,
    PushState.FAILED: signals.push_failed,
}


def open_attempt(
    transaction: Transaction,
    *,
    connection_id: int,
    segment: str,
    kind: str,
    size: int,
    fence: int,
    now: datetime,
) -> int:
    """Note that a batch is about to leave; return the attempt's id."""
    return int(
        transaction.execute(
            _OPEN,
            {
                "connection_id": connection_id,
                "segment": segment,
                "kind": kind,
                "size": size,
                "fence": fence,
                "started_at": now,
                "exchanges": [],
                "error": "",
            },
        ).scalar_one()
    )


def close_attempt(
    transaction: Transaction,
    attempt_id: int,
    exchanges: Sequence[Mapping[str, Any]],
    error: str,
    now: datetime,
) -> None:
    """Add the requests and answers of a batch, redacted, once."""
    transaction.execute(
        _CLOSE,
        {"of": attempt_id, "moment": now, "seen": list(exchanges), "words": error},
    )


def record_decisions(
    transaction: Transaction,
    decisions: Mapping[int, Decision],
    fence: int,
    now: datetime,
) -> int:
    """Store the ends of rows that needed no sending."""
    add_outcomes(
        transaction,
        [
            {
                "push_id": row,
                "attempt_id": None,
                "kind": decision.state.value,
                "code": decision.code,
                "reason": decision.reason,
                "at": now,
            }
            for row, decision in decisions.items()
        ],
    )
    return settle(transaction, decisions, fence, now)


def record_outcomes(
    transaction: Transaction,
    state: State,
    segment: str,
    map_version: str,
    results: Sequence[tuple[Ready, Outcome]],
    attempt_id: int | None,
    fence: int,
    now: datetime,
) -> dict[int, Decision] | None:
    """Store outcomes of sent rows with everything that follows from them.

    Returns:
        The decisions by row; None when the fence refused them: then nothing is
        settled, and what is known of these contacts is marked unsure.
    """
    decisions: dict[int, Decision] = {}
    for ready, outcome in results:
        decision = decide(outcome, ready.row.tries, now, luck=any_luck())
        if ready.warnings and outcome.kind is OutcomeKind.DELIVERED:
            reason = "; ".join(filter(None, (decision.reason, *ready.warnings)))
            decision = Decision(
                decision.state, decision.due_at, decision.tries, decision.code, reason
            )
        decisions[ready.row.id] = decision
    settled = settle(
        transaction,
        decisions,
        fence,
        now,
        remote_ids={r.row.id: o.remote_id for r, o in results if o.remote_id},
        jobs={r.row.id: o.job for r, o in results if o.job},
    )
    if settled != len(decisions):
        remote.mark_unsure(
            transaction, state.id, [ready.row.contact_id for ready, _ in results]
        )
        return None
    add_outcomes(
        transaction,
        [
            {
                "push_id": ready.row.id,
                "attempt_id": attempt_id,
                "kind": outcome.kind.value,
                "code": outcome.code,
                "reason": decisions[ready.row.id].reason,
                "at": now,
            }
            for ready, outcome in results
        ],
    )
    _learn(transaction, state, segment, map_version, results, now)
    for ready, outcome in results:
        if outcome.suppress is not None:
            add_suppression(
                transaction,
                contact_id=ready.row.contact_id,
                email=ready.item.email,
                scope=outcome.suppress,
                code=outcome.code,
                reason=outcome.reason,
                source=state.name,
                now=now,
                identity=state.identity,
                segment=segment,
            )
    return decisions


def _learn(
    transaction: Transaction,
    state: State,
    segment: str,
    map_version: str,
    results: Sequence[tuple[Ready, Outcome]],
    now: datetime,
) -> None:
    """Link remote contacts to ours and keep what is now known of them."""
    told = [(ready, outcome) for ready, outcome in results if outcome.remote_id]
    known = remote.by_ids(transaction, state.id, [o.remote_id for _, o in told])
    before = remote.ours(transaction, state.id, [r.row.contact_id for r, _ in told])
    fresh: list[Snapshot] = []
    for ready, outcome in told:
        item = ready.item
        snapshot = known.get(outcome.remote_id) or Snapshot(
            outcome.remote_id, 0, item.email, "", {}, {}, "", unsure=False, alias=False
        )
        old = before.get(ready.row.contact_id)
        if old is not None and old.remote_id != outcome.remote_id:
            old.contact_id = 0
            fresh.append(old)
        snapshot.contact_id = ready.row.contact_id
        snapshot.alias = False
        if outcome.kind in (OutcomeKind.DELIVERED, OutcomeKind.UNCHANGED):
            snapshot.email = item.email
            snapshot.values = {**snapshot.values, **item.fields}
            snapshot.map_version = map_version
            snapshot.unsure = False
            if segment and outcome.on_segment:
                snapshot.segments[segment] = item.opt_in
        elif outcome.suppress == "segment" and segment:
            snapshot.segments[segment] = "unsubscribed"
        elif outcome.suppress == "connection":
            # So that a consent given later is asked about, and makes it anew.
            snapshot.segments, snapshot.status = {}, "deleted"
        fresh.append(snapshot)
    remote.save(transaction, state.id, fresh, now)


def announce_decisions(
    runtime: Runtime,
    state: State,
    decisions: Mapping[int, Decision],
    contacts: Mapping[int, int],
) -> None:
    """Tell everybody what became of rows; call it after the commit.

    Args:
        contacts: row → contact id.
    """
    for row, decision in decisions.items():
        signal = _SIGNALS.get(decision.state)
        if signal is not None:
            fact = signals.PushFact(
                row,
                state.name,
                contacts.get(row, 0),
                decision.state.value,
                decision.code,
                decision.reason,
            )
            signals.announce(signal, runtime.sender, fact)
