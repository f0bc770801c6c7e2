"""Erase somebody: the person goes, the opt-out and the accounts stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, func, insert, select, update

from onward import signals
from onward.contacts.addresses import hash_address, read_pepper
from onward.contacts.facts import TEXT_NAMES
from onward.contacts.release import lock_contacts
from onward.contacts.showing import find_contact, merged_into
from onward.contacts.traces import MARK, Person, clean_traces
from onward.contacts.values import clean_email
from onward.errors import InputError, Repeat
from onward.models import (
    Consent,
    Contact,
    ContactSegment,
    ContactTag,
    Event,
    Identity,
    Ledger,
    OutcomeRow,
    Push,
    RemoteContactRow,
    Suppression,
    table,
)
from onward.remote import ANYWHERE
from onward.runtime import Runtime
from onward.sql import unindexed

contacts = table(Contact)
identities = table(Identity)
events = table(Event)
ledger = table(Ledger)
pushes = table(Push)
outcomes = table(OutcomeRow)
suppressions = table(Suppression)
consents = table(Consent)
remote_contacts = table(RemoteContactRow)

ERASED = "contact.erased"
WHY = "the contact was erased"


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did.

    Args:
        contact_id: 0 when the address belonged to nobody (any more).
        cancelled: pushes that were waiting.
        cleaned: stored requests and answers that held the address.
        sending: pushes that are on their way now; erase again when they ended.
    """

    contact_id: int
    cancelled: int
    cleaned: int
    sending: int


def erase_contact(runtime: Runtime, email: str, actor: str = "") -> Erased:
    """Remove what is known of a person; an opt-out is kept as a keyed hash.

    Removed are fields, identities, tags, segments, the data of events, remote
    snapshots, and every stored request, answer and refused import line that
    holds the address. The contact's row, points and the dates of what happened
    stay, about nobody. Whoever must not be pushed is still not pushed when the
    address is imported again. What services keep is not touched.

    To erase again is harmless and cleans what was written meanwhile.

    Args:
        actor: who wanted it, for the record.

    Raises:
        InputError: nothing is known of this address.
    """
    address = clean_email(email)

    def work(transaction: Transaction) -> tuple[Erased, Person]:
        try:
            contact_id = find_contact(transaction, address)
        except InputError:
            return Erased(0, 0, 0, 0), Person((address,))
        return _erase(transaction, contact_id, address, actor, runtime.clock())

    done, person = runtime.database.run(work)
    cleaned = clean_traces(runtime, person)
    if done.contact_id:
        fact = signals.ContactFact(done.contact_id)
        signals.announce(signals.contact_erased, runtime.sender, fact)
    elif not cleaned:
        raise InputError(f"nothing is known of the address {address}")
    return replace(done, cleaned=cleaned)


def _erase(
    transaction: Transaction,
    contact_id: int,
    address: str,
    actor: str,
    now: datetime,
) -> tuple[Erased, Person]:
    ids = [contact_id, *merged_into(transaction, contact_id)]
    lock_contacts(transaction, ids)
    # Whoever held them before us may have merged them.
    survivor = find_contact(transaction, address)
    if [survivor, *merged_into(transaction, survivor)] != ids:
        raise Repeat
    person = _person(transaction, ids, address)
    cancelled, sending = _end_pushes(transaction, ids, now)
    _keep_opt_outs(transaction, ids, person.addresses)
    transaction.execute(
        update(consents).where(consents.c.contact_id.in_(ids)).values(contact_id=0)
    )
    for model in (Identity, ContactTag, ContactSegment):
        rows = table(model)
        transaction.execute(delete(rows).where(rows.c.contact_id.in_(ids)))
    known = remote_contacts.c.contact_id.in_(ids)
    transaction.execute(delete(remote_contacts).where(ANYWHERE, known))
    transaction.execute(
        update(events)
        .where(events.c.contact_id.in_(ids))
        .values({"data": {}, "result": {}, "body_hash": ""})
    )
    transaction.execute(
        update(ledger).where(ledger.c.contact_id.in_(ids)).values(reason="")
    )
    transaction.execute(
        update(contacts)
        .where(contacts.c.id.in_(ids))
        .values(
            email=None,
            custom={},
            erased_at=now,
            updated_at=now,
            **dict.fromkeys(TEXT_NAMES),
        )
    )
    transaction.execute(
        insert(events),
        {
            "source": "erase",
            "action": ERASED,
            "contact_id": contact_id,
            "data": {"by": actor},
            "occurred_at": now,
            "created_at": now,
        },
    )
    return Erased(contact_id, cancelled, 0, sending), person


def _person(transaction: Transaction, ids: Sequence[int], address: str) -> Person:
    """Return what a stored request could tell this person by."""
    addresses = transaction.execute(
        select(identities.c.value).where(
            identities.c.contact_id.in_(ids), identities.c.kind == "email"
        )
    ).scalars()
    remote_ids = transaction.execute(
        select(remote_contacts.c.remote_id).where(
            ANYWHERE, remote_contacts.c.contact_id.in_(ids)
        )
    ).scalars()
    own = select(pushes.c.id).where(pushes.c.contact_id.in_(ids))
    attempts = transaction.execute(
        select(outcomes.c.attempt_id)
        .where(outcomes.c.push_id.in_(own), outcomes.c.attempt_id.is_not(None))
        .distinct()
    ).scalars()
    return Person(
        tuple(dict.fromkeys([address, *addresses])),
        tuple(remote_ids),
        frozenset(attempts),
    )


def _end_pushes(
    transaction: Transaction, ids: Sequence[int], now: datetime
) -> tuple[int, int]:
    """Cancel what waits; return how many, and how many are on their way."""
    mine = pushes.c.contact_id.in_(ids)
    cancelled = transaction.execute(
        update(pushes)
        .where(mine, unindexed(pushes.c.state) == "waiting")
        .values(state="cancelled", code="erased", due_at=None, finished_at=now)
    ).rowcount
    # Sentences may quote the address or a value.
    transaction.execute(update(pushes).where(mine).values(reason=WHY, remote_id=""))
    transaction.execute(
        update(outcomes)
        .where(outcomes.c.push_id.in_(select(pushes.c.id).where(mine)))
        .values(reason=WHY)
    )
    sending: int = transaction.execute(
        select(func.count())
        .select_from(pushes)
        .where(mine, unindexed(pushes.c.state).in_(("sending", "submitted")))
    ).scalar_one()
    return cancelled, sending


def _keep_opt_outs(
    transaction: Transaction, ids: Sequence[int], addresses: Sequence[str]
) -> None:
    """Keep what forbids a push under every address of the person, and nobody's id."""
    pepper = read_pepper(transaction)
    hashes = {hash_address(pepper, address) for address in addresses}
    own = suppressions.c.contact_id.in_(ids)
    kept: dict[tuple[str, ...], dict[str, Any]] = {}
    # What is renewed at this moment is read as it is then, or waits.
    held = select(suppressions).where(own).order_by(suppressions.c.id).with_for_update()
    for found in transaction.execute(held).mappings():
        row: dict[str, Any] = {**found, "contact_id": 0}
        del row["id"]
        for address in addresses:
            row["reason"] = row["reason"].replace(address, MARK)
        # Lifted ones answer only for the address they were said of.
        active = row["lifted_at"] is None
        for hashed in {row["address_hash"], *(hashes if active else ())} - {""}:
            one = {**row, "address_hash": hashed}
            same = kept.setdefault(_key(one), one)
            if active and same["lifted_at"] is not None:
                kept[_key(one)] = one
    transaction.execute(delete(suppressions).where(own))
    of_nobody = select(suppressions).where(
        suppressions.c.contact_id == 0,
        suppressions.c.address_hash.in_({key[0] for key in kept}),
    )
    for there in transaction.execute(of_nobody).mappings().all():
        key = _key(dict(there))
        if key not in kept:
            continue
        if kept.pop(key)["lifted_at"] is None:
            transaction.execute(
                update(suppressions)
                .where(suppressions.c.id == there["id"])
                .values({"lifted_at": None, "lifted_by": None})
            )
    if kept:
        transaction.execute(insert(suppressions), list(kept.values()))


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("address_hash", "scope", "identity", "segment", "code")
    return tuple(row[name] for name in names)
