"""Who was erased and did not come back by a consent: known by keyed hashes alone."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from onward.among import ForEach
from onward.contacts.addresses import hash_address, look_for_pepper
from onward.models import Suppression, table

suppressions = table(Suppression)

ERASED = "erased"
"""Scope of the row that keeps pull and import from bringing somebody back."""

_ERASED = ForEach(
    lambda among: select(suppressions.c.address_hash).where(
        among(suppressions.c.address_hash, "hashes"),
        suppressions.c.scope == ERASED,
        suppressions.c.lifted_at.is_(None),
    )
)


def erased_addresses(connection: Connection, emails: Collection[str]) -> set[str]:
    """Return those of these lower-cased addresses that must not be brought back."""
    pepper = look_for_pepper(connection) if emails else None
    if pepper is None:
        return set()
    hashed = {hash_address(pepper, email): email for email in emails if email}
    found = connection.execute(_ERASED(connection), {"hashes": list(hashed)})
    return {hashed[row.address_hash] for row in found}
