"""What conditions ask of contacts, what services know of them included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.among import ForEach
from onward.contacts.facts import CHUNK, Facts, load_facts, needs_lists
from onward.filters.names import AUDIENCE, CONNECTIONS, is_of_event, remote_fact
from onward.models import Connection, RemoteContactRow, RemoteSegmentRow, table
from onward.remote import DELETED

rows = table(RemoteContactRow)
connections = table(Connection)
remote_segments = table(RemoteSegmentRow)

# On a remote segment, or on it as soon as the person confirms.
MEMBER = frozenset({"normal", "pending"})

_NAMES = select(connections.c.id, connections.c.name)
_SEGMENTS = select(remote_segments.c.id, remote_segments.c.name).where(
    remote_segments.c.connection_id == bindparam("of")
)
_SHOWN = tuple(
    rows.c[name]
    for name in (
        "connection_id",
        "contact_id",
        "status",
        "created_at",
        "first_seen_at",
        "differs",
    )
)


def _of(*columns: Any) -> ForEach:
    return ForEach(
        lambda among: select(*columns).where(
            among(rows.c.connection_id, "of"),
            among(rows.c.contact_id, "ids"),
            ~rows.c.alias,
        )
    )


_THERE = _of(*_SHOWN)
# Memberships are JSON, read only where somebody asks for them.
_WITH_MEMBERSHIPS = _of(*_SHOWN, rows.c.segments)

_MAKE: Mapping[str, Callable[[Any, Mapping[str, str]], object]] = {
    "created_at": lambda row, _: row.created_at,
    "first_seen_at": lambda row, _: row.first_seen_at,
    "status": lambda row, _: row.status,
    "differs": lambda row, _: row.differs != 0,
    "segments": lambda row, names: sorted(
        names.get(of, of) for of, how in row.segments.items() if how in MEMBER
    ),
}


def ask_facts(
    transaction: Transaction, ids: Sequence[int], names: frozenset[str]
) -> dict[int, Facts]:
    """Return contact id → the facts that are asked for; the others are not read.

    Args:
        ids: of contacts; unknown ones are left out.
        names: as conditions name them; what only events and audiences know is not
            looked for.

    Returns:
        As `load_facts`, with `connections` and `NAME.fact` where asked for.
    """
    beyond = {name for name in names if name == CONNECTIONS or remote_fact(name)}
    ours = frozenset(
        name
        for name in names
        if name not in beyond and name != AUDIENCE and not is_of_event(name)
    )
    found = load_facts(transaction, ids, lists=needs_lists(ours), only=ours)
    if beyond and found:
        _add(transaction, found, beyond)
    return found


def _add(transaction: Transaction, found: dict[int, Facts], names: set[str]) -> None:
    """Add what services know; of several there who is alive is told of."""
    wanted: dict[str, list[tuple[str, str]]] = {}
    for field in names:
        asked = remote_fact(field)
        if asked is not None:
            wanted.setdefault(asked[0], []).append((field, asked[1]))
    everywhere = CONNECTIONS in names
    called = {
        row.id: row.name
        for row in transaction.execute(_NAMES)
        if everywhere or row.name in wanted
    }
    if everywhere:
        for facts in found.values():
            facts[CONNECTIONS] = []
    if not called:
        return
    members = {
        name for name, of in wanted.items() if any(fact == "segments" for _, fact in of)
    }
    segments: dict[int, dict[str, str]] = {
        of: {row.id: row.name for row in transaction.execute(_SEGMENTS, {"of": of})}
        for of, name in called.items()
        if name in members
    }
    statement = (_WITH_MEMBERSHIPS if members else _THERE)(transaction)
    ids = list(found)
    there: list[Any] = []
    for start in range(0, len(ids), CHUNK):
        given = {"of": list(called), "ids": ids[start : start + CHUNK]}
        there += transaction.execute(statement, given).all()
    for row in sorted(there, key=lambda row: row.status != DELETED):
        facts, name = found[row.contact_id], called[row.connection_id]
        if everywhere and row.status != DELETED and name not in facts[CONNECTIONS]:
            facts[CONNECTIONS].append(name)
        for field, fact in wanted.get(name, ()):
            facts[field] = _MAKE[fact](row, segments.get(row.connection_id, {}))
