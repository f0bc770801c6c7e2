"""Write down what a send led to: outcomes, rows, snapshots, opt-outs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, insert, update

from onward import remote, signals
from onward.connections.state import State, read_segments
from onward.contacts.suppress import (
    OptOut,
    add_suppression,
    add_suppressions,
    find_survivors,
)
from onward.contract import Outcome, OutcomeKind
from onward.delivery import trail
from onward.delivery.claiming import hold_rows
from onward.delivery.prepare import Ready
from onward.delivery.retry import Decision, any_luck, decide
from onward.delivery.settling import settle
from onward.errors import Fenced
from onward.models import Attempt, PushState, table
from onward.remote import AGAIN, DELETED, Snapshot
from onward.runtime import Runtime

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

Results = Sequence[tuple[Ready, Outcome]]


@dataclass(frozen=True, slots=True)
class Sent:
    """What is the same for all outcomes of one batch.

    Args:
        segment: id of the remote segment, "" for none.
        attempt_id: None when nothing was asked.
    """

    state: State
    segment: str
    map_version: str
    fence: int
    attempt_id: int | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """How an attempt ended.

    Args:
        exchanges: its requests and answers, redacted.
        error: "" or what stopped it.
    """

    attempt_id: int
    exchanges: Sequence[Mapping[str, Any]]
    error: str


def open_attempt(
    transaction: Transaction, sent: Sent, kind: str, size: int, now: datetime
) -> int:
    """Note that a batch is about to leave; return the attempt's id."""
    row: dict[str, object] = {
        "connection_id": sent.state.id,
        "segment": sent.segment,
        "kind": kind,
        "size": size,
        "fence": sent.fence,
        "started_at": now,
        "exchanges": [],
        "error": "",
    }
    return int(transaction.execute(_OPEN, row).scalar_one())


def close_attempt(transaction: Transaction, closing: Closing, now: datetime) -> None:
    """Add the requests and answers of a batch, once."""
    transaction.execute(
        _CLOSE,
        {
            "of": closing.attempt_id,
            "moment": now,
            "seen": list(closing.exchanges),
            "words": closing.error,
        },
    )


def record_outcomes(
    runtime: Runtime, sent: Sent, results: Results, closing: Closing | None = None
) -> dict[int, Decision]:
    """Store outcomes of sent rows with everything that follows from them.

    Args:
        closing: when the attempt is over.

    Returns:
        The decisions by row.

    Raises:
        Fenced: another worker has these rows, or nobody any more. Opt-outs are
            stored all the same, and what is known of these contacts is marked unsure.
    """
    now = runtime.clock()
    # One for all: rows that failed together may come back as one batch.
    luck = any_luck()
    decisions = {
        ready.row.id: _decision(ready, outcome, now, luck, runtime.config.retry)
        for ready, outcome in results
    }

    def work(transaction: Transaction) -> None:
        if results:
            owners = _hold(transaction, results)
            _learn(transaction, sent, results, owners, now)
            _doubt(transaction, sent, results, owners, now)
            settle(
                transaction,
                decisions,
                sent.fence,
                now,
                attempt_id=sent.attempt_id,
                kinds={r.row.id: outcome.kind.value for r, outcome in results},
            )
            _suppress(transaction, sent, results, now)
        if closing is not None:
            close_attempt(transaction, closing, now)

    try:
        runtime.database.run(work)
    except Fenced:

        def keep(transaction: Transaction) -> None:
            owners = _hold(transaction, results)
            remote.mark_unsure(transaction, sent.state.id, owners.values())
            # Whoever has the row now, nobody may have asked for this one again.
            _suppress(transaction, sent, results, now)

        runtime.database.run(keep)
        raise
    return decisions


def _decision(
    ready: Ready,
    outcome: Outcome,
    now: datetime,
    luck: float,
    steps: tuple[timedelta, ...],
) -> Decision:
    decision = decide(outcome, ready.row.tries, now, steps=steps, luck=luck)
    if ready.warnings and outcome.kind is OutcomeKind.DELIVERED:
        reason = "; ".join(filter(None, (decision.reason, *ready.warnings)))
        decision = replace(decision, reason=reason)
    return decision


def _suppress(
    transaction: Transaction, sent: Sent, results: Results, now: datetime
) -> None:
    for ready, outcome in results:
        if outcome.suppress is not None:
            add_suppression(
                transaction,
                contact_id=ready.row.contact_id,
                email=ready.item.email,
                scope=outcome.suppress,
                code=outcome.code,
                reason=outcome.reason,
                source=sent.state.name,
                now=now,
                identity=sent.state.identity,
                segment=sent.segment,
            )


def _hold(transaction: Transaction, results: Results) -> dict[int, int]:
    """Hold the rows of outcomes; return contact of a row → who it is by now.

    A merge holds the open rows of its contacts: it was seen, or waits for us.
    """
    hold_rows(transaction, (ready.row.id for ready, _ in results))
    who = {ready.row.contact_id for ready, _ in results}
    merged = find_survivors(transaction, who)
    return {one: merged.get(one, one) for one in who}


def _told(results: Results) -> list[tuple[Ready, Outcome]]:
    """Return outcomes that say which remote contact they are about."""
    named = [(ready, _named(ready, outcome)) for ready, outcome in results]
    return [(ready, outcome) for ready, outcome in named if outcome.remote_id]


def _learn(
    transaction: Transaction,
    sent: Sent,
    results: Results,
    owners: Mapping[int, int],
    now: datetime,
) -> None:
    """Link remote contacts to ours and keep what is now known of them."""
    told = _told(results)
    of = sent.state.id
    if not told:
        return
    ids = [outcome.remote_id for _, outcome in told]
    known = remote.by_ids(transaction, of, ids, hold=True)
    who = {*owners, *owners.values()}
    before = remote.ours(transaction, of, who, hold=True)
    fresh: list[Snapshot] = []
    for ready, outcome in told:
        old = before.get(ready.row.contact_id)
        if old is not None and old.remote_id != outcome.remote_id:
            old.contact_id, old.pulled = 0, ""
            fresh.append(old)
    brought: list[tuple[Ready, Snapshot]] = []
    # After those that let go: one may be taken over by another contact here.
    for ready, outcome in told:
        snapshot = known.get(outcome.remote_id) or Snapshot.unknown(outcome.remote_id)
        snapshot.email = snapshot.email or ready.item.email
        owner = owners[ready.row.contact_id]
        if snapshot.contact_id != owner:
            brought.append((ready, snapshot))
        if owner == ready.row.contact_id:
            snapshot.contact_id, snapshot.alias = owner, False
        elif snapshot.contact_id != owner:
            # Made while the two became one; what both had already, the merge linked.
            snapshot.contact_id, snapshot.alias = owner, owner in before
        _note(snapshot, ready, outcome, sent)
        fresh.append(snapshot)
    _bring_along(transaction, sent, brought, now)
    remote.save(transaction, of, fresh, now)


def _bring_along(
    transaction: Transaction,
    sent: Sent,
    brought: Sequence[tuple[Ready, Snapshot]],
    now: datetime,
) -> None:
    """Let opt-outs count that were noted before anybody knew whose they are.

    A permission answered what was noted of another remote contact, if anything.
    """
    state = sent.state
    left = {one.remote_id: remote.left(one.segments) for _, one in brought}
    if not any(left.values()):
        return
    names = {id_: name for id_, name, _ in read_segments(transaction, state.id)}
    optouts = [
        OptOut(
            ready.row.contact_id,
            ready.item.email,
            "segment",
            "unsubscribed",
            f"unsubscribed from {names.get(segment, segment)} in {state.name}",
            state.name,
            state.identity,
            segment,
        )
        for ready, one in brought
        for segment in left[one.remote_id]
    ]
    add_suppressions(transaction, optouts, now)


def _doubt(
    transaction: Transaction,
    sent: Sent,
    results: Results,
    owners: Mapping[int, int],
    now: datetime,
) -> None:
    """Believe nothing of who may have been changed: other rows are theirs as well."""
    lost = [r.row.contact_id for r, o in results if o.kind is OutcomeKind.UNKNOWN]
    doubtful = ((owners[who], sent.segment) for who in lost)
    remote.doubt(transaction, sent.state.id, doubtful, now)


def _named(ready: Ready, outcome: Outcome) -> Outcome:
    """Let an opt-out be noted of the remote contact, also where nobody names it."""
    if outcome.suppress is None or outcome.remote_id:
        return outcome
    return replace(outcome, remote_id=ready.item.remote_id)


def _note(snapshot: Snapshot, ready: Ready, outcome: Outcome, sent: Sent) -> None:
    snapshot.pulled = ""  # what the next pull shows may be news again
    if outcome.suppress == "connection":
        # So that a consent given later is asked about, and makes it anew.
        snapshot.segments = remote.left(snapshot.segments)
        snapshot.status = DELETED
        return
    if snapshot.status in (DELETED, *AGAIN):
        snapshot.status = ""  # it was there, and the consent is used
    if outcome.kind in (OutcomeKind.DELIVERED, OutcomeKind.UNCHANGED):
        item = ready.item
        snapshot.email = item.email
        # No others: of what is not mapped now, nothing is known when it is again.
        snapshot.values = snapshot.written = dict(item.fields)
        snapshot.differs = 0
        snapshot.map_version = sent.map_version
        snapshot.unsure = False
        if not snapshot.is_alive:
            snapshot.status = "normal"
        if not outcome.on_segment:
            # Whatever it was there, it is something else by now.
            snapshot.segments.pop(sent.segment, None)
    if sent.segment and outcome.on_segment:
        snapshot.segments[sent.segment] = ready.item.opt_in
    elif outcome.suppress == "address":
        # As a pull would see it: the same thing is no news then.
        is_bounce = outcome.code == "bounced"
        snapshot.status = "bounced" if is_bounce else "opted_out"
    elif outcome.suppress == "segment" and sent.segment:
        snapshot.segments[sent.segment] = "unsubscribed"


def announce_decisions(
    runtime: Runtime,
    state: State,
    decisions: Mapping[int, Decision],
    contacts: Iterable[tuple[int, int]],
) -> None:
    """Tell everybody what became of rows; call it after the commit.

    Args:
        contacts: (row, contact id).
    """
    contact_of = dict(contacts)
    ends = ((one.state.value, one.code) for one in decisions.values())
    runtime.instrument.settled(state.name, ends)
    trail.settled(decisions, contact_of)
    if not any(signal.receivers for signal in _SIGNALS.values()):
        return
    for row, decision in decisions.items():
        signal = _SIGNALS.get(decision.state)
        if signal is not None:
            fact = signals.PushFact(
                row,
                state.name,
                contact_of.get(row, 0),
                decision.state.value,
                decision.code,
                decision.reason,
            )
            signals.announce(signal, runtime.sender, fact)
