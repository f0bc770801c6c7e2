"""What the database says about ended rows that somebody wants again, read at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import func, select

from onward.among import ForEach
from onward.connections.moved import moved_at
from onward.connections.remove import removed_names
from onward.connections.state import State, read_segments, read_state
from onward.contacts.release import lock_contacts
from onward.contacts.suppress import Stop, find_suppressions, find_survivors
from onward.delivery.picking import Picked
from onward.errors import Repeat
from onward.events.rulebook import Targets
from onward.models import OPEN_STATES, Cause, Contact, Push, table

pushes = table(Push)
causes = table(Cause)
contacts = table(Contact)

OPEN = frozenset(state.value for state in OPEN_STATES)
ARRIVED = frozenset({"delivered", "unchanged"})

# Written so that no index fits: of one person there are few rows, whatever their
# state, and SQLite, which counts nothing, would go through all that was delivered.
_STATE = func.coalesce(pushes.c.state, "")

_PEOPLE = ForEach(
    lambda among: select(contacts.c.id, contacts.c.email, contacts.c.erased_at).where(
        among(contacts.c.id, "ids")
    )
)
_OTHERS = ForEach(
    lambda among: (
        select(
            pushes.c.connection_id,
            pushes.c.contact_id,
            pushes.c.segment,
            pushes.c.state,
            func.max(pushes.c.id).label("id"),
            func.max(pushes.c.finished_at).label("ended"),
        )
        .where(among(pushes.c.contact_id, "ids"), _STATE.in_(sorted(OPEN | ARRIVED)))
        .group_by(
            pushes.c.connection_id,
            pushes.c.contact_id,
            pushes.c.segment,
            pushes.c.state,
        )
    )
)
# The state of each by its number: joined, SQLite would begin with the states.
_REPLAYS = ForEach(
    lambda among: (
        select(
            causes.c.replay_of,
            causes.c.push_id,
            select(pushes.c.state)
            .where(pushes.c.id == causes.c.push_id)
            .scalar_subquery()
            .label("state"),
        )
        .where(among(causes.c.replay_of, "rows"), causes.c.replay_of.is_not(None))
        .order_by(causes.c.id)
    )
)

Place = tuple[int, int, str]
"""Connection, contact, remote segment."""


@dataclass(frozen=True, slots=True)
class Other:
    """The latest row of a place in one state."""

    id: int
    state: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Led:
    """A connection as rows of it are judged.

    Args:
        segments: id of a remote segment that is there → "", or why it is held.
    """

    state: State
    segments: Mapping[str, str]
    moved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says about some rows, read at once."""

    newest: int
    connections: Mapping[int, Led]
    removed: Mapping[int, str]
    survivors: Mapping[int, int]
    people: Mapping[int, Any]
    stops: Mapping[int, Sequence[Stop]]
    replays: Mapping[int, Other]
    others: Mapping[Place, Sequence[Other]]
    targets: Targets


def load(
    transaction: Transaction, rows: Sequence[Picked], newest: int, *, hold: bool
) -> Known:
    """Read everything; see `onward.replay.judge.judge`.

    Raises:
        Repeat: a contact was merged while it was waited for.
    """
    who = sorted({row.contact_id for row in rows})
    survivors = find_survivors(transaction, who)
    if hold:
        lock_contacts(transaction, {survivors.get(one, one) for one in who})
        if find_survivors(transaction, who) != survivors:
            raise Repeat
    now = sorted({survivors.get(one, one) for one in who})
    found = transaction.execute(_PEOPLE(transaction), {"ids": now})
    people = {row.id: row for row in found}
    addresses = {id_: [row.email or ""] for id_, row in people.items()}
    connections: dict[int, Led] = {}
    for of in sorted({row.connection_id for row in rows}):
        state = read_state(transaction, of)
        if state is not None:
            segments = {id_: why for id_, _, why in read_segments(transaction, of)}
            connections[of] = Led(state, segments, moved_at(transaction, of))
    replays: dict[int, Other] = {}
    given = {"rows": [row.id for row in rows]}
    for row in transaction.execute(_REPLAYS(transaction), given):
        if row.state in OPEN or row.state in ARRIVED:
            replays[row.replay_of] = Other(row.push_id, row.state, None)
    return Known(
        newest,
        connections,
        removed_names(transaction),
        survivors,
        people,
        find_suppressions(transaction, addresses),
        replays,
        _others(transaction, [*now, *survivors]),
        Targets(transaction),
    )


def _others(
    transaction: Transaction, ids: Sequence[int]
) -> dict[Place, Sequence[Other]]:
    found: dict[Place, list[Other]] = {}
    for row in transaction.execute(_OTHERS(transaction), {"ids": ids}):
        place = (row.connection_id, row.contact_id, row.segment)
        found.setdefault(place, []).append(Other(row.id, row.state, row.ended))
    return dict(found)
