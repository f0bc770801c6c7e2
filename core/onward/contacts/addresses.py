"""E-mail addresses as keyed hashes, for what must outlive the address itself."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy import Connection, select

from onward.models import Setting, table
from onward.sql import PerDialect

settings = table(Setting)

PEPPER = "address_pepper"
_READ = select(settings.c.value).where(settings.c.name == PEPPER)
_ADD = PerDialect(lambda insert: insert(settings).on_conflict_do_nothing())


def look_for_pepper(connection: Connection) -> bytes | None:
    """Return the pepper if there is one yet; writes nothing."""
    found = connection.execute(_READ).scalar()
    return None if found is None else bytes.fromhex(str(found))


def read_pepper(connection: Connection) -> bytes:
    """Return the pepper of this database, made on first use.

    It is kept in the database, copied with it and never rotated: a new one
    would forget every opt-out of an address whose contact is gone.
    """
    pepper = look_for_pepper(connection)
    if pepper is None:
        row = {"name": PEPPER, "value": secrets.token_hex(32)}
        connection.execute(_ADD(connection), row)
        pepper = bytes.fromhex(connection.execute(_READ).scalar_one())
    return pepper


def hash_address(pepper: bytes, email: str) -> str:
    """Return the keyed hash of a lower-cased address, "" for none."""
    if not email:
        return ""
    return hmac.new(pepper, email.encode(), hashlib.sha256).hexdigest()
