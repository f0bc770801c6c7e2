"""What follows here from an errand that a service confirmed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, func, select, update

from onward import remote
from onward.connections.state import State, read_segments
from onward.contacts.suppress import OptOut, add_suppressions, find_suppressions
from onward.models import Consent, Hint, RemoteContactRow, Suppression, table

remote_contacts = table(RemoteContactRow)
hints = table(Hint)
consents = table(Consent)
suppressions = table(Suppression)

MEMBER = ("normal", "pending")


def forget(transaction: Transaction, connection_id: int, ids: Collection[str]) -> None:
    """Keep nothing of remote contacts that are gone for good.

    Whoever fires an action anew is made anew there.
    """
    for rows in (remote_contacts, hints):
        transaction.execute(
            delete(rows).where(
                rows.c.connection_id == connection_id, rows.c.remote_id.in_(ids)
            )
        )


def note_unsubscribed(
    transaction: Transaction, state: State, ids: Collection[str], now: datetime
) -> None:
    """Note of remote contacts that they are on no remote segment any more.

    As an opt-out of each: a consent given later answers what we did ourselves, as
    it answers what the person did there.
    """
    found = remote.by_ids(transaction, state.id, ids, hold=True)
    names = {id_: name for id_, name, _ in read_segments(transaction, state.id)}
    optouts: list[OptOut] = []
    for snapshot in found.values():
        left = [to for to, how in snapshot.segments.items() if how in MEMBER]
        snapshot.segments = {
            **snapshot.segments,
            **dict.fromkeys(left, "unsubscribed"),
        }
        snapshot.unsure = True
        optouts += [
            OptOut(
                snapshot.contact_id,
                "",
                "segment",
                "unsubscribed",
                f"unsubscribed from {names.get(to, to)} by us, for a do-not-contact",
                state.name,
                state.identity,
                to,
            )
            for to in left
            if snapshot.contact_id
        ]
    remote.save(transaction, state.id, found.values(), now)
    add_suppressions(transaction, optouts, now)
    _lift_again(transaction, state, {one.contact_id: [""] for one in optouts}, now)


def _lift_again(
    transaction: Transaction,
    state: State,
    people: Mapping[int, list[str]],
    now: datetime,
) -> None:
    """Lift at once what a consent answered while the errand was on its way."""
    for contact, stops in find_suppressions(transaction, people).items():
        if any(stop.scope == "address" and not stop.lifted_at for stop in stops):
            continue
        ours = [
            stop.id
            for stop in stops
            if stop.scope == "segment"
            and stop.identity == state.identity
            and stop.seen_at == now
        ]
        latest = transaction.execute(
            select(func.max(consents.c.id)).where(consents.c.contact_id == contact)
        ).scalar()
        if latest is not None:
            transaction.execute(
                update(suppressions)
                .where(suppressions.c.id.in_(ours))
                .values({"lifted_at": now, "lifted_by": latest})
            )
