"""Try a connection where nothing remains of what goes wrong."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import insert, select

from onward.database import Database
from onward.migrate import prepare_database
from onward.models import Connection, CustomField, table
from onward.runtime import Runtime


@contextmanager
def rehearsal(runtime: Runtime) -> Generator[Runtime, None, None]:
    """Give a copy of the world in memory for the time of the block.

    Every connection is in it: two of one account are refused.
    """
    database = Database("sqlite://")
    prepare_database(database)
    scratch = Runtime(
        runtime.config,
        database,
        runtime.plugins,
        env=runtime.env,
        clock=runtime.clock,
        sleep=runtime.sleep,
        transport=runtime.transport,
        sender=runtime.sender,
    )
    for known in (table(Connection), table(CustomField)):
        with runtime.database.read() as transaction:
            found = [dict(r) for r in transaction.execute(select(known)).mappings()]
        if found:
            with database.write() as transaction:
                transaction.execute(insert(known), found)
    try:
        yield scratch
    finally:
        for opened in scratch.opened.values():
            client = getattr(opened, "client", None)
            if client is not None:
                client.close()
        database.close()
