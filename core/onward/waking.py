"""Say that there is work: to the engine of this process, or to those of others."""

from __future__ import annotations

import logging
from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from onward.database import Database
from onward.runtime import Runtime

log = logging.getLogger("onward.engine")

CHANNEL = "onward"
# A message of PostgreSQL holds 8,000 bytes; for more connections: look at all.
MOST = 400

_TELL = text(f"SELECT pg_notify('{CHANNEL}', :ids)")


def wake(runtime: Runtime, connections: Collection[int]) -> None:
    """Wake whoever sends for these; call it after the commit.

    A wake-up that gets lost costs time, never work: every engine also looks by
    itself.
    """
    if not connections:
        return
    if runtime.on_work is None:
        tell(runtime.database, connections)
        return
    for connection_id in sorted(connections):
        runtime.on_work(connection_id)


def tell(database: Database, connections: Collection[int]) -> None:
    """Tell other processes on PostgreSQL; those on SQLite see that the file changed.

    After the commit and on its own: inside a transaction NOTIFY lets only one
    transaction of the whole database commit at a time.
    """
    if database.is_sqlite:
        return
    ids = sorted(connections) if len(connections) <= MOST else []
    try:
        with database.engine.connect() as connection:
            alone = connection.execution_options(isolation_level="AUTOCOMMIT")
            alone.execute(_TELL, {"ids": ",".join(map(str, ids))})
    except SQLAlchemyError as error:
        log.info("no worker could be woken; it looks by itself soon (%s)", error)
