"""Two contacts turn out to be one person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, delete, insert, select, update

from onward.contacts.facts import TEXT_NAMES
from onward.contacts.release import release
from onward.delivery.claiming import hold_rows
from onward.delivery.queue import Wish, enqueue
from onward.failpoints import failpoint
from onward.models import (
    Cause,
    Claim,
    Consent,
    Contact,
    ContactSegment,
    ContactTag,
    Errand,
    Event,
    Identity,
    Ledger,
    Push,
    RemoteContactRow,
    Suppression,
    table,
)
from onward.models.delivery import OPEN_STATES
from onward.remote import ANYWHERE
from onward.sql import unindexed

contacts = table(Contact)
causes = table(Cause)
claims = table(Claim)
tags = table(ContactTag)
memberships = table(ContactSegment)
pushes = table(Push)
remote_contacts = table(RemoteContactRow)
suppressions = table(Suppression)

_READ = (
    select(contacts)
    .where(contacts.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(contacts.c.id)
)

_OPEN = select(pushes.c.id).where(
    pushes.c.contact_id.in_(bindparam("ids", expanding=True)),
    unindexed(pushes.c.state).in_([state.value for state in OPEN_STATES]),
)


def merge_contacts(
    transaction: Transaction, survivor: int, loser: int, now: datetime
) -> None:
    """Move everything of `loser` to `survivor`; the loser stays as a pointer.

    Claims are united before triggers are evaluated (by the caller, once, on the
    summed points), so nothing fires twice. Blank fields of the survivor are
    filled. The stricter suppression wins because both stay.

    Args:
        survivor: who it is from now on; itself not merged into anybody.
        loser: another contact, not merged into anybody either.
    """
    read = _READ
    if transaction.dialect.name == "postgresql":
        read = read.with_for_update()
    rows = {
        row["id"]: dict(row)
        for row in transaction.execute(read, {"ids": [survivor, loser]}).mappings()
    }
    kept, gone = rows[survivor], rows[loser]
    # What comes back of them meanwhile belongs to the survivor: it waits for us.
    hold_rows(
        transaction, transaction.execute(_OPEN, {"ids": [survivor, loser]}).scalars()
    )
    _unite(transaction, claims, "key", survivor, loser)
    _unite(transaction, tags, "tag", survivor, loser)
    _unite(transaction, memberships, "segment_id", survivor, loser)
    for model in (Identity, Event, Ledger, Consent, Errand):
        moved = table(model)
        transaction.execute(
            update(moved).where(moved.c.contact_id == loser).values(contact_id=survivor)
        )
    _unite_suppressions(transaction, survivor, loser)
    email = kept["email"] or gone["email"]
    filled = {name: kept[name] or gone[name] for name in TEXT_NAMES}
    transaction.execute(
        update(contacts)
        .where(contacts.c.id == survivor)
        .values(
            email=email,
            custom={**(gone["custom"] or {}), **(kept["custom"] or {})},
            points=contacts.c.points + gone["points"],
            updated_at=now,
            **filled,
        )
    )
    transaction.execute(
        update(contacts)
        .where(contacts.c.id == loser)
        .values(
            merged_into=survivor,
            email=None,
            custom={},
            points=0,
            updated_at=now,
            **dict.fromkeys(TEXT_NAMES),
        )
    )
    # Whoever was merged into the loser is now part of the survivor.
    transaction.execute(
        update(contacts)
        .where(contacts.c.merged_into == loser)
        .values(merged_into=survivor)
    )
    _relink(transaction, survivor, loser, email)
    failpoint("during_merge")
    _take_over_pushes(transaction, survivor, loser, now)


def _unite(
    transaction: Transaction, rows: Any, column: str, survivor: int, loser: int
) -> None:
    """Move rows of a (contact, column) key; those both have stay once."""
    own = select(rows.c[column]).where(rows.c.contact_id == survivor)
    transaction.execute(
        update(rows)
        .where(rows.c.contact_id == loser, rows.c[column].not_in(own))
        .values(contact_id=survivor)
    )
    transaction.execute(delete(rows).where(rows.c.contact_id == loser))


def _unite_suppressions(transaction: Transaction, survivor: int, loser: int) -> None:
    key = ("address_hash", "scope", "identity", "segment", "code")
    found = transaction.execute(
        select(suppressions).where(suppressions.c.contact_id.in_((survivor, loser)))
    ).mappings()
    mine: dict[tuple[str, ...], dict[str, Any]] = {}
    theirs: list[dict[str, Any]] = []
    for row in found:
        if row["contact_id"] == survivor:
            mine[tuple(row[name] for name in key)] = dict(row)
        else:
            theirs.append(dict(row))
    for other in theirs:
        same = mine.get(tuple(other[name] for name in key))
        if same is None:
            change: dict[str, Any] = {"contact_id": survivor}
            transaction.execute(
                update(suppressions)
                .where(suppressions.c.id == other["id"])
                .values(**change)
            )
            continue
        if other["lifted_at"] is None and same["lifted_at"] is not None:
            transaction.execute(
                update(suppressions)
                .where(suppressions.c.id == same["id"])
                .values(lifted_at=None, lifted_by=None)
            )
        transaction.execute(
            delete(suppressions).where(suppressions.c.id == other["id"])
        )


def _relink(
    transaction: Transaction, survivor: int, loser: int, email: str | None
) -> None:
    """Keep one remote contact per connection linked; the others are aliases.

    The one that carries the surviving address stays; where none does, the
    survivor's own.
    """
    found = (
        transaction.execute(
            select(
                remote_contacts.c.connection_id,
                remote_contacts.c.remote_id,
                remote_contacts.c.contact_id,
                remote_contacts.c.email,
                remote_contacts.c.alias,
            )
            .where(ANYWHERE, remote_contacts.c.contact_id.in_((survivor, loser)))
            .order_by(
                remote_contacts.c.connection_id, unindexed(remote_contacts.c.remote_id)
            )
            .with_for_update()
        )
        .mappings()
        .all()
    )
    linked: dict[int, Any] = {}
    best_first = sorted(
        found, key=lambda row: (row["email"] != email, row["contact_id"] != survivor)
    )
    for row in best_first:
        if not row["alias"]:
            linked.setdefault(row["connection_id"], row)
    for row in found:
        change = {
            "contact_id": survivor,
            "alias": linked.get(row["connection_id"]) is not row,
        }
        transaction.execute(
            update(remote_contacts)
            .where(
                remote_contacts.c.connection_id == row["connection_id"],
                remote_contacts.c.remote_id == row["remote_id"],
            )
            .values(**change)
        )


def _take_over_pushes(
    transaction: Transaction, survivor: int, loser: int, now: datetime
) -> None:
    """Queue the loser's open rows for the survivor; one being sent ends by itself."""
    found = transaction.execute(
        select(
            pushes.c.id,
            pushes.c.connection_id,
            pushes.c.segment,
            pushes.c.priority,
            pushes.c.force,
        ).where(
            pushes.c.contact_id == loser,
            unindexed(pushes.c.state).in_([state.value for state in OPEN_STATES]),
        )
    ).all()
    wishes = [
        Wish(
            row.connection_id,
            survivor,
            row.segment,
            "merge",
            key=str(row.id),
            priority=row.priority,
            force=row.force,
        )
        for row in found
    ]
    taken = enqueue(transaction, wishes, now)
    _copy_causes(transaction, {int(w.key): row for w, row in taken.items()})
    transaction.execute(
        update(pushes)
        .where(pushes.c.contact_id == loser, unindexed(pushes.c.state) == "waiting")
        .values(
            state="cancelled",
            code="merged",
            reason=f"the contact was merged into {survivor}",
            due_at=None,
            finished_at=now,
        )
    )
    # The survivor may have an address now that rows of a visitor waited for.
    release(transaction, [survivor], now)


def _copy_causes(transaction: Transaction, moved: Mapping[int, int]) -> None:
    """Give the causes of old rows to those that took over: old → new row.

    A map that reads the causing event must still find it.
    """
    if not moved:
        return
    found = transaction.execute(
        select(causes).where(causes.c.push_id.in_(moved)).order_by(causes.c.id)
    ).mappings()
    rows = [{**row, "push_id": moved[row["push_id"]]} for row in found]
    for row in rows:
        del row["id"]
    if rows:
        transaction.execute(insert(causes), rows)
