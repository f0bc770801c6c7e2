"""A person's own rows: what is removed of them, and what stays, about nobody."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy import Connection as Transaction

from onward.contacts.addresses import hash_address, read_pepper
from onward.contacts.erased import ERASED, note_erased
from onward.contacts.facts import TEXT_NAMES
from onward.contacts.permissions import kept_words
from onward.contacts.traces import MARK, Person
from onward.models import (
    Consent,
    Contact,
    ContactSegment,
    ContactTag,
    Errand,
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
from onward.sql import unindexed

contacts = table(Contact)
identities = table(Identity)
events = table(Event)
ledger = table(Ledger)
pushes = table(Push)
outcomes = table(OutcomeRow)
suppressions = table(Suppression)
consents = table(Consent)
errands = table(Errand)
remote_contacts = table(RemoteContactRow)

WHY = "the contact was erased"
# Somebody's word on the phone, perhaps about the person: not needed to obey it.
BY_HAND = "do_not_contact"
# Shared by many: no text is about this person because it holds them.
COMMON = frozenset(
    {"prefix", "suffix", "company", "position", "city", "state", "country"}
)
SHORTEST = 3


def describe(transaction: Transaction, ids: Sequence[int], address: str) -> Person:
    """Return what a stored text could tell this person by."""
    known = transaction.execute(
        select(identities.c.kind, identities.c.value).where(
            identities.c.contact_id.in_(ids)
        )
    ).all()
    there = transaction.execute(
        select(remote_contacts.c.remote_id, remote_contacts.c.email).where(
            ANYWHERE, remote_contacts.c.contact_id.in_(ids)
        )
    ).all()
    own = select(pushes.c.id).where(pushes.c.contact_id.in_(ids))
    attempts = transaction.execute(
        select(outcomes.c.attempt_id)
        .where(outcomes.c.push_id.in_(own), outcomes.c.attempt_id.is_not(None))
        .distinct()
    ).scalars()
    asked = transaction.execute(
        select(errands.c.attempts).where(errands.c.contact_id.in_(ids))
    ).scalars()
    people = transaction.execute(select(contacts).where(contacts.c.id.in_(ids)))
    words = {row.value for row in known if row.kind != "email"}
    for row in people.mappings():
        words |= _words(dict(row))
    emails = [row.value for row in known if row.kind == "email"]
    only_there = {row.email for row in there} - {"", *emails}
    emails += sorted(only_there - _of_others(transaction, only_there))
    return Person(
        tuple(dict.fromkeys([address, *emails])),
        tuple(row.remote_id for row in there),
        frozenset([*attempts, *(one for some in asked for one in some)]),
        tuple(sorted(word for word in words if len(word) >= SHORTEST)),
    )


def _of_others(transaction: Transaction, emails: Collection[str]) -> set[str]:
    """Return which addresses, that a service alone has of a person, are of others."""
    if not emails:
        return set()
    owned = select(identities.c.value).where(
        identities.c.kind == "email", identities.c.value.in_(sorted(emails))
    )
    return set(transaction.execute(owned).scalars())


def _words(row: Mapping[str, Any]) -> set[str]:
    found = {row[name] or "" for name in TEXT_NAMES if name not in COMMON}
    first, last = row["first_name"], row["last_name"]
    if first and last:
        found.add(f"{first} {last}")
    # Of a custom field nobody knows how many have the same.
    custom: dict[str, object] = row["custom"] or {}
    found |= {
        text
        for text in custom.values()
        if isinstance(text, str) and len(text) >= 2 * SHORTEST
    }
    return {text.strip() for text in found}


def end_pushes(
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
    return cancelled, is_being_pushed(transaction, ids)


def is_being_pushed(transaction: Transaction, ids: Sequence[int]) -> int:
    """Return how many pushes of some contacts are on their way now."""
    mine = pushes.c.contact_id.in_(ids)
    sending: int = transaction.execute(
        select(func.count())
        .select_from(pushes)
        .where(mine, unindexed(pushes.c.state).in_(("sending", "submitted")))
    ).scalar_one()
    return sending


def forget_rows(
    transaction: Transaction,
    ids: Sequence[int],
    person: Person,
    values: re.Pattern[str],
    now: datetime,
) -> None:
    """Remove what is known of some contacts; points, dates and opt-outs stay.

    Args:
        values: matches everything the person had.
    """
    scrub_nobodys(transaction, person.addresses, values)
    _keep_opt_outs(transaction, ids, person.addresses, values)
    _keep_consents(transaction, ids, values)
    note_erased(transaction, person.addresses, now)
    for model in (Identity, ContactTag, ContactSegment):
        rows = table(model)
        transaction.execute(delete(rows).where(rows.c.contact_id.in_(ids)))
    known = remote_contacts.c.contact_id.in_(ids)
    transaction.execute(delete(remote_contacts).where(ANYWHERE, known))
    transaction.execute(
        update(errands).where(errands.c.contact_id.in_(ids)).values(reason="")
    )
    _forget_events(transaction, ids, values)
    transaction.execute(
        update(ledger).where(ledger.c.contact_id.in_(ids)).values(reason="", actor="")
    )
    transaction.execute(
        update(contacts)
        .where(contacts.c.id.in_(ids))
        .values(
            email=None,
            custom={},
            erased_at=func.coalesce(contacts.c.erased_at, now),
            updated_at=now,
            **dict.fromkeys(TEXT_NAMES),
        )
    )


def _forget_events(
    transaction: Transaction, ids: Sequence[int], values: re.Pattern[str]
) -> None:
    mine = events.c.contact_id.in_(ids)
    transaction.execute(
        update(events).where(mine).values({"data": {}, "result": {}, "body_hash": ""})
    )
    keyed = transaction.execute(
        select(events.c.id, events.c.key).where(mine, events.c.key.is_not(None))
    ).all()
    for row in keyed:
        if values.search(row.key):
            transaction.execute(
                update(events)
                .where(events.c.id == row.id)
                .values(key=f"{MARK} {row.id}")
            )


def all_values(
    transaction: Transaction, ids: Sequence[int], person: Person
) -> re.Pattern[str]:
    """Return a pattern of everything the person had, common values included."""
    found = {*person.addresses, *person.words}
    people = transaction.execute(select(contacts).where(contacts.c.id.in_(ids)))
    for row in people.mappings():
        found |= {row[name] or "" for name in TEXT_NAMES}
        custom: dict[str, object] = row["custom"] or {}
        found |= {str(one) for one in custom.values()}
    longest_first = sorted((one for one in found if len(one) > 1), key=len)
    texts = "|".join(map(re.escape, reversed(longest_first)))
    return re.compile(rf"(?<!\w)(?:{texts})(?!\w)", re.IGNORECASE)


def _keep_consents(
    transaction: Transaction, ids: Sequence[int], values: re.Pattern[str]
) -> None:
    """Keep that there was a consent, and its words as a hash: again, they are old."""
    _scrub_consents(transaction, (consents.c.contact_id.in_(ids),), values)


def _scrub_consents(
    transaction: Transaction,
    which: Sequence[ColumnElement[bool]],
    values: re.Pattern[str],
) -> None:
    pepper = read_pepper(transaction)
    found = transaction.execute(
        select(consents).where(*which).order_by(consents.c.id)
    ).all()
    for row in found:
        transaction.execute(
            update(consents)
            .where(consents.c.id == row.id)
            .values(
                contact_id=0,
                how=kept_words(pepper, row.how),
                who=values.sub(MARK, row.who),
            )
        )


def _keep_opt_outs(
    transaction: Transaction,
    ids: Sequence[int],
    addresses: Sequence[str],
    values: re.Pattern[str],
) -> None:
    """Keep what forbids a push under every address of the person, and nobody's id."""
    pepper = read_pepper(transaction)
    hashes = {hash_address(pepper, address) for address in addresses}
    own = suppressions.c.contact_id.in_(ids)
    kept: dict[tuple[str, ...], dict[str, Any]] = {}
    # What is renewed at this moment is read as it is then, or waits.
    held = select(suppressions).where(own).order_by(suppressions.c.id).with_for_update()
    for found in transaction.execute(held).mappings():
        row: dict[str, Any] = {**found, **_plain(found, values), "contact_id": 0}
        del row["id"]
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
        suppressions.c.scope != ERASED,
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


def scrub_nobodys(
    transaction: Transaction, addresses: Sequence[str], values: re.Pattern[str]
) -> None:
    """Take words out of what was allowed or refused under an address of nobody."""
    pepper = read_pepper(transaction)
    hashes = sorted({hash_address(pepper, address) for address in addresses})
    for row in transaction.execute(
        select(suppressions)
        .where(suppressions.c.contact_id == 0, suppressions.c.address_hash.in_(hashes))
        .order_by(suppressions.c.id)
    ).mappings():
        transaction.execute(
            update(suppressions)
            .where(suppressions.c.id == row["id"])
            .values(_plain(row, values))
        )
    nobodys = (consents.c.contact_id == 0, consents.c.address_hash.in_(hashes))
    _scrub_consents(transaction, nobodys, values)


def _plain(row: Mapping[Any, Any], values: re.Pattern[str]) -> dict[str, Any]:
    """Return the words of an opt-out without the person."""
    said = {name: values.sub(MARK, row[name]) for name in ("reason", "source")}
    return {**said, "reason": "do not contact"} if row["code"] == BY_HAND else said


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("address_hash", "scope", "identity", "segment", "code")
    return tuple(row[name] for name in names)
