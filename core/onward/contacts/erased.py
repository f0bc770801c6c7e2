"""Who was erased: a keyed hash of each address, that they are not brought back."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select, update

from onward.among import ForEach
from onward.contacts.addresses import hash_address, look_for_pepper, read_pepper
from onward.models import Identity, Suppression, table
from onward.sql import PerDialect

suppressions = table(Suppression)
identities = table(Identity)

# A suppression of nobody's that stops no push, only pull and import.
ERASED = "erased"


def _note(insert: Any) -> Any:
    statement = insert(suppressions)
    return statement.on_conflict_do_update(
        index_elements=[
            "contact_id",
            "address_hash",
            "scope",
            "identity",
            "segment",
            "code",
        ],
        set_={
            "seen_at": statement.excluded.seen_at,
            "lifted_at": None,
            "lifted_by": None,
        },
    )


_NOTE = PerDialect(_note)
_BLOCKED = ForEach(
    lambda among: select(suppressions.c.address_hash, suppressions.c.seen_at).where(
        among(suppressions.c.address_hash, "hashes"),
        suppressions.c.scope == ERASED,
        suppressions.c.lifted_at.is_(None),
    )
)
_LIVING = ForEach(
    lambda among: select(identities.c.value).where(
        identities.c.kind == "email", among(identities.c.value, "emails")
    )
)
_ADDRESSES = select(identities.c.value).where(
    identities.c.kind == "email", identities.c.contact_id == bindparam("of")
)
_LIFT = ForEach(
    lambda among: (
        update(suppressions)
        .where(
            among(suppressions.c.address_hash, "hashes"),
            suppressions.c.scope == ERASED,
            suppressions.c.lifted_at.is_(None),
        )
        .values(lifted_at=bindparam("moment"), lifted_by=bindparam("consent"))
    )
)


def note_erased(
    transaction: Transaction, addresses: Iterable[str], now: datetime
) -> None:
    """Remember that whoever had these addresses was erased."""
    pepper = read_pepper(transaction)
    rows = [
        {
            "contact_id": 0,
            "address_hash": hashed,
            "scope": ERASED,
            "identity": "",
            "segment": "",
            "code": ERASED,
            "reason": "",
            "source": "",
            "seen_at": now,
        }
        for hashed in sorted({hash_address(pepper, one) for one in addresses} - {""})
    ]
    if rows:
        transaction.execute(_NOTE(transaction), rows)


def erased_addresses(transaction: Transaction, emails: Collection[str]) -> set[str]:
    """Return which of these addresses no pull or import may bring back.

    Until a consent is recorded. Somebody who came back by themselves, with an
    action, is here again and not among them.

    Args:
        emails: lower case; "" is nobody's.
    """
    blocked = set(erased_when(transaction, emails))
    if not blocked:
        return blocked
    given = {"emails": sorted(blocked)}
    return blocked.difference(
        transaction.execute(_LIVING(transaction), given).scalars()
    )


def erased_when(
    transaction: Transaction, emails: Collection[str]
) -> dict[str, datetime]:
    """Return address → when whoever had it was erased, until a consent."""
    pepper = look_for_pepper(transaction)
    if pepper is None:
        return {}  # nobody was ever suppressed or erased: the first time makes it
    of = {hash_address(pepper, email): email for email in emails if email}
    if not of:
        return {}
    found = transaction.execute(_BLOCKED(transaction), {"hashes": list(of)})
    return {of[row.address_hash]: row.seen_at for row in found}


def lift_erased(
    transaction: Transaction, contact_id: int, email: str, consent: int, now: datetime
) -> int:
    """Let somebody be brought back who allowed it; return whether they were erased.

    Args:
        consent: id of the recorded one.
    """
    pepper = read_pepper(transaction)
    addresses = {email}
    if contact_id:
        addresses.update(transaction.execute(_ADDRESSES, {"of": contact_id}).scalars())
    hashes = sorted({hash_address(pepper, one) for one in addresses} - {""})
    given = {"hashes": hashes, "moment": now, "consent": consent}
    return transaction.execute(_LIFT(transaction), given).rowcount
