"""Who must not be pushed, why, and how far that reaches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, case, insert, select, update

from onward.among import ForEach
from onward.contacts.addresses import hash_address, look_for_pepper, read_pepper
from onward.contacts.erased import ERASED, lift_erased
from onward.errands.queue import cancel_opt_outs
from onward.models import Consent, Contact, Identity, Suppression, table
from onward.sql import PerDialect, unindexed

Item = TypeVar("Item")

suppressions = table(Suppression)
consents = table(Consent)

contacts = table(Contact)
identities = table(Identity)

CHUNK = 500  # stays below every database's limit of parameters


# What is seen again stays known since its first day. An opt-out seen again after
# a consent is a new one and counts again.
def _add(insert: Any) -> Any:
    statement = insert(suppressions)
    new = statement.excluded
    lifted = suppressions.c.lifted_at.is_not(None)
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
            "reason": new.reason,
            "source": case((lifted, new.source), else_=suppressions.c.source),
            "seen_at": case((lifted, new.seen_at), else_=suppressions.c.seen_at),
            "lifted_at": None,
            "lifted_by": None,
        },
    )


_ADD = PerDialect(_add)
_SURVIVORS = ForEach(
    lambda among: select(contacts.c.id, contacts.c.merged_into).where(
        among(contacts.c.id, "ids"), contacts.c.merged_into.is_not(None)
    )
)
_ADDRESSES = ForEach(
    lambda among: select(identities.c.contact_id, identities.c.value).where(
        # Of many contacts SQLite would rather go through the addresses of all.
        unindexed(identities.c.kind) == "email",
        among(identities.c.contact_id, "ids"),
    )
)
_OF_CONTACTS = ForEach(
    lambda among: select(suppressions).where(among(suppressions.c.contact_id, "ids"))
)
_OF_ADDRESSES = ForEach(
    lambda among: select(suppressions).where(
        among(suppressions.c.address_hash, "hashes")
    )
)
_LIFTED = (
    select(suppressions.c.segment)
    .where(
        suppressions.c.scope == "segment",
        suppressions.c.identity == bindparam("account"),
        suppressions.c.lifted_at.is_not(None),
    )
    .distinct()
)
_LIFT = (
    update(suppressions)
    .where(suppressions.c.id.in_(bindparam("rows", expanding=True)))
    .values(lifted_at=bindparam("moment"), lifted_by=bindparam("consent"))
)


@dataclass(frozen=True, slots=True)
class Stop:
    """One active or lifted suppression, as it concerns a contact."""

    id: int
    scope: str
    identity: str
    segment: str
    code: str
    reason: str
    seen_at: datetime
    lifted_at: datetime | None
    source: str = ""

    def blocks(self, identity: str, segment: str, *, everywhere: bool) -> bool:
        """Tell whether it forbids a push to this account and remote segment.

        Args:
            identity: of the connection.
            segment: remote segment id, "" for none.
            everywhere: the connection lets an unsubscription from any segment
                count for all (`unsubscribe_means = "everywhere"`).
        """
        if self.scope == "address":
            return True
        if self.scope == "segment":
            if everywhere:
                return True
            return self.identity == identity and self.segment == segment
        return self.identity == identity


@dataclass(frozen=True, slots=True)
class OptOut:
    """Somebody must not be pushed, as it was learned.

    Args:
        contact_id: 0 when only the address is known.
        email: "" when only the contact is known.
        scope: `address`, `segment` or `connection`.
        identity: of the connection it was learned from; "" for `address`.
        segment: remote segment id; only for `segment`.
        source: who said so, for people.
    """

    contact_id: int
    email: str
    scope: str
    code: str
    reason: str
    source: str
    identity: str = ""
    segment: str = ""


def add_suppression(
    connection: Connection,
    *,
    contact_id: int,
    email: str,
    scope: str,
    code: str,
    reason: str,
    source: str,
    now: datetime,
    identity: str = "",
    segment: str = "",
) -> None:
    """Remember one opt-out; see `OptOut`."""
    optout = OptOut(contact_id, email, scope, code, reason, source, identity, segment)
    add_suppressions(connection, [optout], now)


def add_suppressions(
    connection: Connection, optouts: Sequence[OptOut], now: datetime
) -> None:
    """Remember opt-outs, for the contact and for the address."""
    if not optouts:
        return
    pepper = read_pepper(connection)
    # A push that was on its way during a merge answers under the old number.
    survivors = find_survivors(connection, {optout.contact_id for optout in optouts})
    rows: dict[tuple[object, ...], dict[str, object]] = {}
    for optout in optouts:
        row: dict[str, object] = {
            "contact_id": survivors.get(optout.contact_id, optout.contact_id),
            "address_hash": hash_address(pepper, optout.email),
            "scope": optout.scope,
            "identity": "" if optout.scope == "address" else optout.identity,
            "segment": optout.segment if optout.scope == "segment" else "",
            "code": optout.code,
        }
        # PostgreSQL refuses the same key twice in one statement.
        rows[tuple(row.values())] = {
            **row,
            "reason": optout.reason,
            "source": optout.source,
            "seen_at": now,
        }
    connection.execute(_ADD(connection), list(rows.values()))


def find_survivors(connection: Connection, ids: Collection[int]) -> dict[int, int]:
    """Return merged contact → whom it was merged into, of those that were."""
    if not ids:
        return {}
    found = connection.execute(_SURVIVORS(connection), {"ids": sorted(ids)})
    return {row.id: row.merged_into for row in found}


def find_suppressions(
    connection: Connection, people: Mapping[int, Sequence[str]]
) -> dict[int, list[Stop]]:
    """Return every suppression of these contacts, lifted ones included.

    Besides the contact itself, all addresses count that it ever had: somebody
    who opted out under an old one opted out. That somebody was erased stops no
    push, and is not among them: see `onward.contacts.erased`.

    Args:
        people: contact id → the addresses it has or is about to be sent to; 0
            for addresses of nobody.
    """
    pepper = look_for_pepper(connection)
    if pepper is None:
        return {}  # nobody was ever suppressed: the first time makes it
    concerns: dict[str, set[int]] = {}
    for contact_id, emails in people.items():
        for email in filter(None, emails):
            concerns.setdefault(hash_address(pepper, email), set()).add(contact_id)
    ids = [contact_id for contact_id in people if contact_id]
    rows: dict[int, Any] = {}
    for part in _parts(ids):
        for row in connection.execute(_ADDRESSES(connection), {"ids": part}):
            hashed = hash_address(pepper, row.value)
            concerns.setdefault(hashed, set()).add(row.contact_id)
        for row in connection.execute(_OF_CONTACTS(connection), {"ids": part}):
            rows[row.id] = row
    for hashes in _parts(list(concerns)):
        given = {"hashes": hashes}
        for row in connection.execute(_OF_ADDRESSES(connection), given):
            rows[row.id] = row
    found: dict[int, list[Stop]] = {}
    for _, row in sorted(rows.items()):
        if row.scope == ERASED:
            continue
        stop = Stop(
            row.id,
            row.scope,
            row.identity,
            row.segment,
            row.code,
            row.reason,
            row.seen_at,
            row.lifted_at,
            row.source,
        )
        concerned = set(concerns.get(row.address_hash, ()))
        if row.contact_id and row.contact_id in people:
            concerned.add(row.contact_id)
        for contact_id in concerned:
            found.setdefault(contact_id, []).append(stop)
    return found


def lifted_segments(connection: Connection, identity: str) -> list[str]:
    """Return the remote segments of an account where a consent answered an opt-out."""
    return list(connection.execute(_LIFTED, {"account": identity}).scalars())


def _parts(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


def record_consent(
    connection: Connection,
    *,
    contact_id: int,
    email: str,
    how: str,
    who: str,
    now: datetime,
) -> int:
    """Record a permission and lift what it answers; return how many were lifted.

    A deletion in the service is lifted as well: the person asked to be there; and
    that they were erased.
    """
    consent_id = connection.execute(
        insert(consents).returning(consents.c.id),
        {
            "contact_id": contact_id,
            "address_hash": hash_address(read_pepper(connection), email),
            "how": how,
            "who": who,
            "given_at": now,
        },
    ).scalar_one()
    active = [
        stop.id
        for stop in find_suppressions(connection, {contact_id: [email]}).get(
            contact_id, []
        )
        if stop.lifted_at is None
    ]
    if active:
        connection.execute(
            _LIFT, {"rows": active, "moment": now, "consent": consent_id}
        )
    if contact_id:
        cancel_opt_outs(connection, contact_id, "a consent was recorded", now)
    return len(active) + lift_erased(connection, contact_id, email, consent_id, now)
