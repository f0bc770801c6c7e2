"""Points: one ledger, and triggers that fire exactly once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, bindparam, delete, func, insert, select, update
from sqlalchemy import Connection as Transaction

from onward.among import ForEach
from onward.config.model import PointTrigger
from onward.models import Claim, Contact, Ledger, table
from onward.sql import Among, PerDialect, Rows

contacts = table(Contact)
ledger = table(Ledger)
claims = table(Claim)

_IDS: BindParameter[int] = bindparam("among", expanding=True)
_AWARD = Among(
    update(contacts)
    .where(contacts.c.id.in_(_IDS))
    .values(points=contacts.c.points + bindparam("delta"))
    .returning(contacts.c.id, contacts.c.points)
)
_TOTALS = Among(select(contacts.c.id, contacts.c.points).where(contacts.c.id.in_(_IDS)))
_ENTER = Rows(
    lambda _: insert(ledger),
    [
        ledger.c.contact_id,
        ledger.c.delta,
        ledger.c.total,
        ledger.c.reason,
        ledger.c.actor,
        ledger.c.event_id,
        ledger.c.at,
    ],
)
_CLAIM = Rows(
    lambda insert: (
        insert(claims)
        .on_conflict_do_nothing()
        .returning(claims.c.key, claims.c.contact_id)
    ),
    [claims.c.key, claims.c.contact_id, claims.c.at],
)
# Once more after the cool-down; the claim's time says since when.
_CLAIM_AGAIN = PerDialect(
    lambda insert: (
        insert(claims)
        .values(
            key=bindparam("key"), contact_id=bindparam("contact_id"), at=bindparam("at")
        )
        .on_conflict_do_update(
            index_elements=["key", "contact_id"],
            set_={"at": insert(claims).excluded.at},
            where=claims.c.at <= bindparam("since", type_=claims.c.at.type),
        )
        .returning(claims.c.key)
    )
)
_RE_ARM = Among(
    delete(claims).where(
        claims.c.key == bindparam("named"), claims.c.contact_id.in_(_IDS)
    )
)

_COUNT = ForEach(
    lambda among: (
        select(claims.c.key, func.count())
        .where(among(claims.c.key, "keys"))
        .group_by(claims.c.key)
    )
)

LedgerRow = tuple[int, int, int, str, str, int | None, datetime]
"""Contact id, difference, total, reason, actor, event id, when."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A trigger fired for a contact, at this total."""

    contact_id: int
    trigger: PointTrigger
    total: int


def rule_claim(key: str) -> str:
    """Return the claim's name of a rule."""
    return f"rule:{key}"


def trigger_claim(key: str) -> str:
    """Return the claim's name of a trigger."""
    return f"trigger:{key}"


def award(transaction: Transaction, deltas: Mapping[int, int]) -> dict[int, int]:
    """Change points by arithmetic in the database; return contact id → total.

    Concurrent awards are added, never lost. The caller holds these contacts
    (`lock_contacts`), so the order of the statements cannot deadlock.
    """
    by_delta: dict[int, list[int]] = {}
    for contact_id, delta in deltas.items():
        by_delta.setdefault(delta, []).append(contact_id)
    totals: dict[int, int] = {}
    for delta, ids in by_delta.items():
        totals.update(_AWARD(transaction, ids, delta))
    return totals


def enter(transaction: Transaction, entries: Sequence[LedgerRow]) -> None:
    """Write ledger rows."""
    if entries:
        _ENTER.count(transaction, entries)


def read_totals(transaction: Transaction, ids: Collection[int]) -> dict[int, int]:
    """Return contact id → points."""
    return dict(_TOTALS(transaction, list(ids)))


def claim_once(
    transaction: Transaction, wanted: Sequence[tuple[str, int]], now: datetime
) -> set[tuple[str, int]]:
    """Take claims (key, contact id); return those that nobody had."""
    if not wanted:
        return set()
    rows = [(key, contact_id, now) for key, contact_id in wanted]
    return {(row[0], row[1]) for row in _CLAIM(transaction, rows)}


def count_fired(
    transaction: Transaction, triggers: Sequence[PointTrigger]
) -> dict[str, int]:
    """Return key of a trigger → for how many contacts it fired, 0 left out."""
    keys = {trigger_claim(trigger.key): trigger.key for trigger in triggers}
    given = {"keys": list(keys)}
    found: Any = transaction.execute(_COUNT(transaction), given)
    return {keys[row[0]]: row[1] for row in found}


def claim_again(
    transaction: Transaction, key: str, contact_id: int, now: datetime, since: datetime
) -> bool:
    """Take a claim that may be taken once more if it was taken until `since`."""
    row: dict[str, Any] = {"key": key, "contact_id": contact_id, "at": now}
    taken = transaction.execute(_CLAIM_AGAIN(transaction), {**row, "since": since})
    return taken.first() is not None


def fire_triggers(
    transaction: Transaction,
    triggers: Sequence[PointTrigger],
    totals: Mapping[int, int],
    now: datetime,
) -> list[Fired]:
    """Fire what is reached and not yet claimed, lowest first per contact.

    Args:
        triggers: enabled ones, lowest threshold first.
        totals: contact id → points, of those who are to be looked at.
    """
    reached = {
        (trigger_claim(trigger.key), contact_id): Fired(contact_id, trigger, total)
        # In id order, like everybody who takes claims: no deadlock.
        for contact_id, total in sorted(totals.items())
        for trigger in triggers
        if total >= trigger.points
    }
    taken = claim_once(transaction, list(reached), now)
    return [fired for claim, fired in reached.items() if claim in taken]


def re_arm(
    transaction: Transaction,
    triggers: Sequence[PointTrigger],
    totals: Mapping[int, int],
) -> None:
    """Let triggers that may fire again do so for whoever is below them now."""
    for trigger in triggers:
        if trigger.re_arm:
            below = [c for c, total in totals.items() if total < trigger.points]
            _RE_ARM(transaction, below, trigger_claim(trigger.key))
