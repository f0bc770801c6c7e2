"""One contact with everything known about it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.connections.remove import removed_names
from onward.connections.state import UNRESOLVED
from onward.contacts.exporting import contact_as_dict, suppression_as_dict
from onward.contacts.suppress import find_suppressions
from onward.contacts.values import clean_email
from onward.errands.listing import list_errands
from onward.errors import InputError
from onward.models import (
    Connection,
    Consent,
    Contact,
    Event,
    Identity,
    Ledger,
    Push,
    RemoteContactRow,
    table,
)
from onward.remote import ANYWHERE
from onward.runtime import Runtime

contacts = table(Contact)
identities = table(Identity)
ledger = table(Ledger)
events = table(Event)
pushes = table(Push)
connections = table(Connection)
consents = table(Consent)
remote_contacts = table(RemoteContactRow)

TAIL = 20  # of each history, the latest

_POINTER = select(contacts.c.id, contacts.c.merged_into, contacts.c.erased_at).where(
    contacts.c.id == bindparam("of")
)
_BY_IDENTITY = select(identities.c.contact_id).where(
    identities.c.kind == bindparam("sort"), identities.c.value == bindparam("is_")
)
_MERGED = select(contacts.c.id).where(contacts.c.merged_into == bindparam("of"))
_IDENTITIES = (
    select(identities.c.kind, identities.c.value)
    .where(identities.c.contact_id == bindparam("of"))
    .order_by(identities.c.kind, identities.c.value)
)
_LEDGER = (
    select(ledger.c.at, ledger.c.delta, ledger.c.total, ledger.c.reason, ledger.c.actor)
    .where(ledger.c.contact_id == bindparam("of"))
    .order_by(ledger.c.id.desc())
    .limit(TAIL)
)
_EVENTS = (
    select(events.c.id, events.c.action, events.c.occurred_at, events.c.data)
    .where(events.c.contact_id == bindparam("of"))
    .order_by(events.c.id.desc())
    .limit(TAIL)
)
# What was pushed under a number that was merged into this one belongs to it.
_PUSHES = (
    select(
        pushes.c.id,
        pushes.c.connection_id,
        connections.c.name.label("connection"),
        pushes.c.segment,
        pushes.c.state,
        pushes.c.code,
        pushes.c.reason,
        pushes.c.tries,
        pushes.c.due_at,
        pushes.c.created_at,
        pushes.c.finished_at,
    )
    .outerjoin(connections, connections.c.id == pushes.c.connection_id)
    .where(pushes.c.contact_id.in_(bindparam("ids", expanding=True)))
    .order_by(pushes.c.id.desc())
    .limit(TAIL)
)
_CONSENTS = (
    select(consents.c.given_at, consents.c.how, consents.c.who)
    .where(consents.c.contact_id == bindparam("of"))
    .order_by(consents.c.id.desc())
)
_REMOTE = (
    select(
        connections.c.name.label("connection"),
        remote_contacts.c.remote_id,
        remote_contacts.c.email,
        remote_contacts.c.status,
        remote_contacts.c.segments,
        remote_contacts.c.alias,
        remote_contacts.c.unsure,
        remote_contacts.c.seen_at,
    )
    .join(connections, connections.c.id == remote_contacts.c.connection_id)
    .where(ANYWHERE, remote_contacts.c.contact_id == bindparam("of"))
    .order_by(connections.c.name, remote_contacts.c.alias)
)


def show_contact(
    runtime: Runtime, email_or_id: str | int, *, kind: str = ""
) -> dict[str, Any]:
    """Return a contact as `export_rows` gives it, with its histories.

    Besides: `identities` all of them as [kind, value], `suppressions` lifted
    ones included, `consents`, and the latest 20 of `ledger`, `events`, `pushes`
    (newest first), `remote`: what each service is known to have, and `errands`:
    what else is asked of them.

    Args:
        email_or_id: an address it has or had, or its number; one that was
            merged leads to its survivor.
        kind: of another identity that is given instead, as `visitor`.

    Raises:
        InputError: there is nobody.
    """
    with runtime.database.read() as transaction:
        contact_id = find_contact(transaction, email_or_id, kind)
        shown = contact_as_dict(transaction, contact_id) or {}
        of = {"of": contact_id}
        stops = find_suppressions(transaction, {contact_id: [shown["email"] or ""]})
        found = transaction.execute(_IDENTITIES, of).all()
        shown["identities"] = [[row.kind, row.value] for row in found]
        shown["suppressions"] = [
            suppression_as_dict(stop) for stop in stops.get(contact_id, [])
        ]
        shown["consents"] = _dicts(transaction, _CONSENTS, of)
        shown["ledger"] = _dicts(transaction, _LEDGER, of)
        shown["events"] = _dicts(transaction, _EVENTS, of)
        ids = [contact_id, *merged_into(transaction, contact_id)]
        shown["pushes"] = _dicts(transaction, _PUSHES, {"ids": ids})
        removed = removed_names(transaction)
        for push in shown["pushes"]:
            gone = removed.get(push.pop("connection_id"), "")
            push["connection"] = push["connection"] or gone
            push["segment"] = push["segment"].removeprefix(UNRESOLVED)
        shown["remote"] = _dicts(transaction, _REMOTE, of)
        shown["errands"] = [
            {name: _plain(value) for name, value in one.items()}
            for one in list_errands(transaction, contacts=ids)
        ]
    return shown


def find_contact(
    transaction: Transaction, email_or_id: str | int, kind: str = ""
) -> int:
    """Return the number of a living contact.

    Raises:
        InputError: there is nobody, or it was erased.
    """
    text = str(email_or_id).strip()
    if kind:
        what = f'with the {kind} "{text}"'
        found = transaction.execute(_BY_IDENTITY, {"sort": kind, "is_": text}).scalar()
    elif text.isascii() and text.isdigit():
        found, what = int(text), f"with the number {text}"
        # Beyond what a database numbers rows with.
        found = found if found < 2**63 else 0
    else:
        address = clean_email(text)
        what = f"with the address {address}"
        by = {"sort": "email", "is_": address}
        found = transaction.execute(_BY_IDENTITY, by).scalar()
    row = transaction.execute(_POINTER, {"of": found or 0}).first()
    if row is None:
        raise InputError(
            f"there is no contact {what}; import it, or fire an action with it"
        )
    if row.erased_at is not None:
        raise InputError(f"the contact {what} was erased on {row.erased_at:%Y-%m-%d}")
    return int(row.merged_into or row.id)


def merged_into(transaction: Transaction, contact_id: int) -> list[int]:
    """Return the numbers that were merged into this contact."""
    return list(transaction.execute(_MERGED, {"of": contact_id}).scalars())


def _dicts(
    transaction: Transaction, statement: Any, parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    found = transaction.execute(statement, parameters).mappings()
    return [{name: _plain(value) for name, value in row.items()} for row in found]


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
