"""Secret addresses: made, known again by a digest, opened for whoever forgets them.

A table of its own, and not the connection's options or memory: its rows are looked for
by digest, change one by one while others are read, and no integration can touch them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.errors import ConfigError
from onward.models import Connection, Webhook, table
from onward.runtime import Runtime
from onward.vault import KeyLost

rows = table(Webhook)
connections = table(Connection)

PATH = "/hooks/"
SECRET_BYTES = 32

REGISTERING, REGISTERED, LEAVING = "registering", "registered", "leaving"

_ANSWERING = select(rows.c.digest, rows.c.connection_id).where(rows.c.state != LEAVING)
_OF = (
    select(rows)
    .where(rows.c.connection_id == bindparam("of"))
    .order_by(rows.c.created_at, rows.c.digest)
)
_ALL = select(rows).order_by(rows.c.connection_id, rows.c.created_at, rows.c.digest)


@dataclass(frozen=True, slots=True)
class Address:
    """A secret address as its row says; see `Webhook`."""

    digest: str
    connection_id: int
    place: str
    sealed: str
    state: str
    created_at: datetime
    heard_at: datetime | None

    @property
    def shown(self) -> str:
        """The address without its secret, for people."""
        return f"{self.place}{PATH}***"


def digest_of(secret: str) -> str:
    """Return what a secret is known by: 256 random bits need neither key nor salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def make_address(
    runtime: Runtime, connection_id: int, place: str
) -> tuple[Address, str]:
    """Return a new address, and its secret; nothing is stored yet.

    Args:
        place: where the listener is reached from outside, without a slash at its end.

    Raises:
        ConfigError: secrets cannot be stored here.
    """
    secret = secrets.token_urlsafe(SECRET_BYTES)
    digest = digest_of(secret)
    sealed = runtime.vault().encrypt(secret, _context(digest))
    now = runtime.clock()
    return (
        Address(digest, connection_id, place, sealed, REGISTERING, now, None),
        secret,
    )


def open_url(runtime: Runtime, address: Address) -> str:
    """Return the whole address, as the service knows it.

    Raises:
        KeyLost: the key that sealed it is not here.
    """
    return f"{address.place}{PATH}{open_secret(runtime, address)}"


def open_secret(runtime: Runtime, address: Address) -> str:
    """Return the secret of an address.

    Raises:
        KeyLost: see `open_url`.
    """
    return runtime.vault().decrypt(address.sealed, _context(address.digest))


def _context(digest: str) -> str:
    return f"webhook:{digest}"


def whose(transaction: Transaction, secret: str) -> tuple[str, int] | None:
    """Return (digest, connection id) of a secret that answers, None for any other.

    Every digest is compared, and in a time that does not depend on what they are.
    """
    given, found = digest_of(secret), None
    for digest, connection_id in transaction.execute(_ANSWERING):
        if hmac.compare_digest(digest, given):
            found = digest, connection_id
    return found


def read_addresses(transaction: Transaction, connection_id: int) -> list[Address]:
    """Return the addresses of a connection, the oldest first."""
    found = transaction.execute(_OF, {"of": connection_id}).mappings()
    return [Address(**row) for row in found]


def read_all_addresses(transaction: Transaction) -> list[Address]:
    """Return every address, by connection, the oldest first."""
    return [Address(**row) for row in transaction.execute(_ALL).mappings()]


def registered_one(addresses: Sequence[Address]) -> Address | None:
    """Return the one that the service reports to, None when it reports to none."""
    return next((one for one in addresses if one.state == REGISTERED), None)


def known_address_secrets(runtime: Runtime) -> list[str]:
    """Return the secrets of all addresses that can be opened here, for redaction."""
    with runtime.database.read() as transaction:
        addresses = read_all_addresses(transaction)
    found: list[str] = []
    for one in addresses:
        try:
            found.append(open_secret(runtime, one))
        except (KeyLost, ConfigError):
            continue
    return found
