"""Read by themselves those somebody pointed at: webhooks, or a page they missed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, delete, select, update

from onward.among import ForEach
from onward.contract import RemoteKey
from onward.models import Connection, Hint, table

hints = table(Hint)
connections = table(Connection)

BATCH = 20
# Whoever took them may have died.
TAKEN_FOR = timedelta(minutes=5)
# After so many tries somebody else's pull has to find out.
MOST_TRIES = 7

_THEIRS = (
    select(hints)
    .where(
        hints.c.connection_id == bindparam("of"),
        # Whom a page lacked reads that pull alone, by its share-of-change limit.
        hints.c.run_id == bindparam("run"),
    )
    .order_by(hints.c.due_at, hints.c.remote_id)
    .limit(BATCH)
)
_DUE = _THEIRS.where(hints.c.due_at <= bindparam("now"))
# A look for each connection, not at each hint.
_WHO = select(connections.c.id).where(
    select(hints.c.remote_id)
    .where(
        hints.c.connection_id == connections.c.id,
        hints.c.due_at <= bindparam("now", type_=hints.c.due_at.type),
        hints.c.run_id == 0,
    )
    .exists()
)
_OURS = (hints.c.connection_id == bindparam("of"),)
# Due again meanwhile: somebody pointed at them once more.
_SAME = hints.c.due_at == bindparam("until", type_=hints.c.due_at.type)
_TAKE = ForEach(
    lambda among: (
        update(hints)
        .where(*_OURS, among(hints.c.remote_id, "ids"))
        .values(
            due_at=bindparam("until", type_=hints.c.due_at.type),
            tries=hints.c.tries + 1,
        )
    )
)
_DONE = ForEach(
    lambda among: delete(hints).where(*_OURS, among(hints.c.remote_id, "ids"), _SAME)
)
_LATER = ForEach(
    lambda among: (
        update(hints)
        .where(*_OURS, among(hints.c.remote_id, "ids"), _SAME)
        .values(due_at=bindparam("again", type_=hints.c.due_at.type))
    )
)
_GIVE_UP = ForEach(
    lambda among: delete(hints).where(
        *_OURS, among(hints.c.remote_id, "ids"), hints.c.tries > MOST_TRIES
    )
)


@dataclass(frozen=True, slots=True)
class Pointed:
    """Some that are to be read now, and until when they are ours."""

    keys: Sequence[RemoteKey]
    until: datetime

    def only(self, ids: Iterable[str]) -> Pointed:
        """Return those of them that have these ids."""
        wanted = set(ids)
        return replace(self, keys=[key for key in self.keys if key.id in wanted])


def take_hints(
    transaction: Transaction, connection_id: int, now: datetime, run_id: int
) -> Pointed | None:
    """Take some that are due; None when none is.

    Args:
        run_id: of the pull whose pages lacked them, by whoever holds its lease: all
            of them are due; 0 = those somebody pointed at.
    """
    given = {"of": connection_id, "now": now, "run": run_id}
    # Those of a pull are read under its lease: taken ones were somebody's who died.
    found = transaction.execute(_THEIRS if run_id else _DUE, given).all()
    if not found:
        return None
    until = now + TAKEN_FOR
    keys = [RemoteKey(row.remote_id, tuple(row.segments)) for row in found]
    ids = [key.id for key in keys]
    transaction.execute(
        _TAKE(transaction), {"of": connection_id, "ids": ids, "until": until}
    )
    return Pointed(keys, until)


def drop_hints(transaction: Transaction, connection_id: int, some: Pointed) -> None:
    """Forget those that were read, unless they were pointed at once more since."""
    ids = [key.id for key in some.keys]
    given = {"of": connection_id, "ids": ids, "until": some.until}
    transaction.execute(_DONE(transaction), given)
    transaction.execute(_GIVE_UP(transaction), {"of": connection_id, "ids": ids})


def return_hints(
    transaction: Transaction, connection_id: int, some: Pointed, again_at: datetime
) -> None:
    """Let those that could not be read wait."""
    ids = [key.id for key in some.keys]
    given = {"of": connection_id, "ids": ids, "until": some.until, "again": again_at}
    transaction.execute(_LATER(transaction), given)
    transaction.execute(_GIVE_UP(transaction), {"of": connection_id, "ids": ids})


def hinted_connections(transaction: Transaction, now: datetime) -> list[int]:
    """Return the connections that have some to be read now."""
    return sorted(transaction.execute(_WHO, {"now": now}).scalars())
