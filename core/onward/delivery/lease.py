"""Who may work on something now: one lease primitive for all processes."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from onward.among import ForEach
from onward.database import Database
from onward.errors import Fenced
from onward.models import Lease, table
from onward.sql import PerDialect

leases = table(Lease)

_TAKE = PerDialect(
    lambda insert: (
        insert(leases)
        .values(
            name=bindparam("name"),
            fence=1,
            until=bindparam("until"),
            holder=bindparam("holder"),
        )
        .on_conflict_do_update(
            index_elements=["name"],
            set_={
                "fence": leases.c.fence + 1,
                "until": insert(leases).excluded.until,
                "holder": insert(leases).excluded.holder,
            },
            where=leases.c.until < bindparam("now", type_=leases.c.until.type),
        )
        .returning(leases.c.fence)
    )
)
_UNTIL = select(leases.c.until).where(leases.c.name == bindparam("of"))
_FENCES = ForEach(
    lambda among: select(leases.c.name, leases.c.fence).where(
        among(leases.c.name, "names")
    )
)
_MINE = (leases.c.name == bindparam("of"), leases.c.fence == bindparam("mine"))
# Shared: a worker that takes it waits, and then sees what this transaction did.
_STILL_MINE = select(leases.c.fence).where(*_MINE).with_for_update(read=True)
_RENEW = update(leases).where(*_MINE).values(until=bindparam("to"))
_SHORTEN = (
    update(leases)
    .where(
        leases.c.holder == bindparam("mine"),
        leases.c.until > bindparam("latest", type_=leases.c.until.type),
    )
    .values(until=bindparam("latest"))
)
_END = (
    update(leases)
    .where(leases.c.name == bindparam("of"))
    .where(leases.c.until >= bindparam("now", type_=leases.c.until.type))
    .values(until=bindparam("past"))
)
TICK = timedelta(microseconds=1)
# Two machines may have one name, and their first processes one number.
_TOKEN = secrets.token_hex(3)


@dataclass(slots=True)
class Held:
    """A lease this process holds.

    Args:
        fence: rises with every holder; everything done under an older one is
            refused.
        until: when it ends unless renewed.
    """

    database: Database
    name: str
    fence: int
    until: datetime
    length: timedelta
    clock: Callable[[], datetime]
    lost: bool = field(default=False)

    def renew(self, *, always: bool = False) -> None:
        """Prolong it when less than half is left.

        Raises:
            Fenced: somebody else took it meanwhile.
        """
        now = self.clock()
        if self.lost:
            raise Fenced
        if not always and self.until - now > self.length / 2:
            return
        until = now + self.length
        if not self._move(until):
            self.lost = True
            raise Fenced
        self.until = until

    def _move(self, until: datetime) -> bool:
        row = {"of": self.name, "mine": self.fence, "to": until}
        return self.database.run(
            lambda connection: connection.execute(_RENEW, row).rowcount == 1
        )

    def check(self, connection: Connection) -> None:
        """Make sure that it is ours, until this transaction ends.

        Raises:
            Fenced: somebody else took it meanwhile; roll back.
        """
        given = {"of": self.name, "mine": self.fence}
        if connection.execute(_STILL_MINE, given).first() is None:
            self.lost = True
            raise Fenced

    def left(self) -> timedelta:
        """Return how long it still runs, by our clock."""
        return self.until - self.clock()

    def release(self) -> bool:
        """Let the next one in at once; keeps the fence. Tell whether it was ours."""
        return self._move(self.clock() - TICK)


def take(
    database: Database,
    name: str,
    length: timedelta,
    clock: Callable[[], datetime],
) -> Held | None:
    """Take a lease that nobody holds, or return None.

    Taking it raises the fence, so the holder before can store nothing more.
    """
    return database.run(
        lambda connection: take_within(connection, database, name, length, clock)
    )


def take_within(
    connection: Connection,
    database: Database,
    name: str,
    length: timedelta,
    clock: Callable[[], datetime],
) -> Held | None:
    """Take a lease as a part of a transaction; it counts when that has ended."""
    now = clock()
    until = now + length
    given = {"name": name, "until": until, "now": now, "holder": this_process()}
    fence = connection.execute(_TAKE(connection), given).scalar()
    if fence is None:
        return None
    return Held(database, name, fence, until, length, clock)


def end_within(connection: Connection, name: str, now: datetime) -> bool:
    """End a lease whoever holds it, as a part of a transaction; tell if anybody did."""
    given = {"of": name, "now": now, "past": now - TICK}
    return connection.execute(_END, given).rowcount > 0


def held_until(database: Database, name: str) -> datetime | None:
    """Return when a lease ends, if nobody renews it; None when nobody ever took it."""
    with database.read() as connection:
        until: datetime | None = connection.execute(_UNTIL, {"of": name}).scalar()
    return until


def this_process() -> str:
    """Return what this process is called where it holds a lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{_TOKEN}"


def shorten_all(database: Database, latest: datetime) -> int:
    """Let every lease of this process end by then; return how many ended later.

    For a process that must go before its calls are answered: `latest` is when the
    last of them would have been given up, and until then nobody may read back.
    """
    given = {"mine": this_process(), "latest": latest}
    return database.run(
        lambda transaction: transaction.execute(_SHORTEN, given).rowcount
    )


def read_fences(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return name → fence of its last holder; 0 when nobody ever took it."""
    fences = dict.fromkeys(names, 0)
    found = connection.execute(_FENCES(connection), {"names": list(fences)})
    return fences | {row.name: row.fence for row in found}
