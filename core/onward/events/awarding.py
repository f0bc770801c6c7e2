"""What the actions of one transaction mean for the points, entry by entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection as Transaction

from onward.events.points import LedgerRow, read_totals
from onward.events.rules import Doing

Difference = tuple[int, int, Doing]
"""Contact id, by how much "points are N" changes them, who said so."""


def points_set(transaction: Transaction, doings: Sequence[Doing]) -> list[Difference]:
    """Turn "points are N" into differences, so that the ledger adds up.

    Of several for one contact the last counts.
    """
    said = {
        doing.contact_id: (doing, points)
        for doing in doings
        if (points := doing.action.contact.points) is not None
    }
    if not said:
        return []
    totals = read_totals(transaction, said)
    return [
        (contact_id, points - totals[contact_id], doing)
        for contact_id, (doing, points) in said.items()
        if points != totals[contact_id]
    ]


def sum_up(doings: Sequence[Doing], wanted: Sequence[Difference]) -> dict[int, int]:
    """Return contact id → the sum of all changes."""
    deltas = {contact_id: difference for contact_id, difference, _ in wanted}
    for doing in doings:
        if doing.delta:
            before = deltas.get(doing.contact_id, 0)
            deltas[doing.contact_id] = before + doing.delta
    return deltas


def entries_of(
    doings: Sequence[Doing],
    wanted: Sequence[Difference],
    deltas: Mapping[int, int],
    totals: Mapping[int, int],
    now: datetime,
) -> list[LedgerRow]:
    """Return one ledger entry per event, what was set first.

    Args:
        totals: contact id → points after all of `deltas`.
    """
    running = {c: totals[c] - delta for c, delta in deltas.items()}
    rows: list[LedgerRow] = []

    def add(doing: Doing, delta: int, reason: str) -> None:
        contact_id, action = doing.contact_id, doing.action
        running[contact_id] += delta
        total, event_id = running[contact_id], doing.event_id or None
        actor = action.actor or action.source
        rows.append((contact_id, delta, total, reason, actor, event_id, now))

    for _, difference, doing in wanted:
        add(doing, difference, "set")
    for doing in doings:
        if doing.delta:
            add(doing, doing.delta, ", ".join(doing.reasons))
    return rows
