"""Store whom a report is about, to be read again; nothing else of it is believed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, case, func, select, update

from onward.among import ForEach
from onward.contract import RemoteKey
from onward.errors import PluginError
from onward.models import Connection, Hint, Webhook, table
from onward.sql import Rows
from onward.sync.plan import HINTED, ask_for_pull

hints = table(Hint)
connections = table(Connection)
webhooks = table(Webhook)

# More of one connection than this are cheaper read by a pull of everybody.
MOST_WAITING = 10_000
# What a service calls somebody or a list is short; of a list of lists, so many count.
MOST_CHARACTERS, MOST_SEGMENTS = 200, 100

_HOLD = (
    select(webhooks.c.connection_id, connections.c.enabled, connections.c.created_at)
    .join(connections, connections.c.id == webhooks.c.connection_id)
    .where(webhooks.c.digest == bindparam("known_by"), webhooks.c.state != "leaving")
    # One report of a connection after the other: what waits is counted.
    .with_for_update(of=webhooks)
)
_HEARD = (
    update(webhooks)
    .where(webhooks.c.digest == bindparam("known_by"))
    .values(heard_at=bindparam("now"))
)
_COUNT = (
    select(func.count())
    .select_from(hints)
    .where(hints.c.connection_id == bindparam("of"))
)
_WAITING = ForEach(
    lambda among: select(hints.c.remote_id, hints.c.segments).where(
        hints.c.connection_id == bindparam("of"), among(hints.c.remote_id, "ids")
    )
)
_UNITE = (
    update(hints)
    .where(
        hints.c.connection_id == bindparam("of"), hints.c.remote_id == bindparam("it")
    )
    .values(segments=bindparam("all_of_them", type_=hints.c.segments.type))
)


def _add(insert: Any) -> Any:
    statement = insert(hints)
    # Whoever is read at this moment is read once more: what came back may be older
    # than this report. Who waits for a first try neither gains nor loses by it.
    now = statement.excluded.due_at
    return statement.on_conflict_do_update(
        index_elements=["connection_id", "remote_id"],
        set_={"due_at": case((hints.c.due_at > now, now), else_=hints.c.due_at)},
    )


_ADD = Rows(_add, list(hints.c))


class Pointed(StrEnum):
    """What became of a report."""

    STORED = "stored"
    EVERYBODY = "everybody"
    """Too many wait: a pull of everybody was asked for instead."""
    OFF = "off"
    """The connection is switched off, and nobody would read them."""
    UNKNOWN = "unknown"
    """The address was taken away meanwhile."""


def tidy(keys: Iterable[RemoteKey]) -> dict[str, set[str]]:
    """Return remote id → remote segments, of ids and names that can be ones.

    Stops reading where there are too many anyway.

    Raises:
        PluginError: the integration yields something else.
    """
    found: dict[str, set[str]] = {}
    for key in keys:
        named: list[object] = [key.id, *islice(key.segments, MOST_SEGMENTS)]
        if not all(isinstance(name, str) for name in named):
            raise PluginError("receive() must yield RemoteKey with texts")
        if _is_name(key.id):
            segments = filter(_is_name, key.segments[:MOST_SEGMENTS])
            found.setdefault(key.id, set()).update(segments)
        if len(found) > MOST_WAITING:
            break
    return found


def _is_name(text: str) -> bool:
    # Neither NUL nor half a character, which databases refuse.
    return 0 < len(text) <= MOST_CHARACTERS and text.isprintable()


def store_hints(
    transaction: Transaction,
    digest: str,
    people: Mapping[str, Collection[str]],
    now: datetime,
) -> Pointed:
    """Let people be read again, each once however often somebody points at them.

    A connection that is paused keeps them until it goes on.

    Args:
        digest: of the secret the report came by.
        people: remote id → remote segments whose membership is read as well.
    """
    held = transaction.execute(_HOLD, {"known_by": digest}).first()
    if held is None:
        return Pointed.UNKNOWN
    if not held.enabled:
        return Pointed.OFF
    of: int = held.connection_id
    transaction.execute(_HEARD, {"known_by": digest, "now": now})
    given: dict[str, Any] = {"of": of, "ids": list(people)}
    known = {row.remote_id for row in transaction.execute(_WAITING(transaction), given)}
    waiting: int = transaction.execute(_COUNT, {"of": of}).scalar_one()
    if waiting + len(people.keys() - known) > MOST_WAITING:
        ask_for_pull(transaction, of, now, HINTED, anchor=held.created_at)
        return Pointed.EVERYBODY
    _ADD(transaction, [_row(of, id_, people[id_], now) for id_ in sorted(people)])
    # Read after that, when nobody else can change them until the end.
    given["ids"] = [id_ for id_, named in people.items() if named]
    for row in transaction.execute(_WAITING(transaction), given).all():
        wished = set(row.segments).union(people[row.remote_id])
        if wished != set(row.segments):
            united = sorted(wished)[:MOST_SEGMENTS]
            one = {"of": of, "it": row.remote_id, "all_of_them": united}
            transaction.execute(_UNITE, one)
    return Pointed.STORED


def _row(
    connection_id: int, remote_id: str, segments: Collection[str], now: datetime
) -> list[object]:
    named = {
        "connection_id": connection_id,
        "remote_id": remote_id,
        "segments": sorted(segments)[:MOST_SEGMENTS],
        "run_id": 0,
        "tries": 0,
        "due_at": now,
        "created_at": now,
    }
    return [named[column.key] for column in hints.c]
