"""Small facts an integration keeps about one connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select

from onward.database import Database
from onward.models import Memory as MemoryRow
from onward.models import table
from onward.sql import PerDialect

rows = table(MemoryRow)

_PUT = PerDialect(
    lambda insert: insert(rows).on_conflict_do_update(
        index_elements=["connection_id", "name"],
        set_={
            "value": insert(rows).excluded.value,
            "until": insert(rows).excluded.until,
        },
    )
)


class Memory:
    """`get` and `put` by name, for a time; JSON values of a few kilobytes.

    `lock` is held by an integration around "look, ask the service, put", so
    that batches in flight at the same time do not all ask.

    Args:
        is_current: asked in the transaction that keeps something; when it says no,
            the connection leads to another account by now, and nothing is kept.
    """

    def __init__(
        self,
        database: Database,
        connection_id: int,
        clock: Callable[[], datetime],
        is_current: Callable[[Connection], bool] = lambda _: True,
    ) -> None:
        self._database = database
        self._is_current = is_current
        self._connection_id = connection_id
        self._clock = clock
        self.lock = threading.RLock()
        self._seen: dict[str, tuple[Any, datetime | None]] = {}

    def get(self, name: str) -> Any:
        """Return what was put under this name, None when nothing or too old."""
        seen = self._seen.get(name)
        if seen is None:
            with self._database.read() as connection:
                row = connection.execute(
                    select(rows.c.value, rows.c.until).where(
                        rows.c.connection_id == self._connection_id,
                        rows.c.name == name,
                    )
                ).first()
            if row is None:
                return None
            seen = self._seen[name] = (row.value[0], row.until)
        value, until = seen
        if until is not None and until <= self._clock():
            return None
        return value

    def read_anew(self) -> None:
        """Look into the database again, whatever was read before."""
        self._seen = {}

    def put(self, name: str, value: object, for_: timedelta | None = None) -> None:
        """Keep a value; `for_` is how long it may be believed."""
        until = None if for_ is None else self._clock() + for_
        row = {
            "connection_id": self._connection_id,
            "name": name,
            # In a list, because SQLite turns a bare number in a JSON column into
            # one that is no JSON text any more.
            "value": [value],
            "until": until,
        }
        with self._database.write() as connection:
            if self._is_current(connection):
                connection.execute(_PUT(connection), row)
        self._seen[name] = (value, until)

    def forget(self, name: str) -> None:
        """Drop what was put under this name."""
        self._seen.pop(name, None)
        with self._database.write() as connection:
            connection.execute(
                delete(rows).where(
                    rows.c.connection_id == self._connection_id, rows.c.name == name
                )
            )
