"""The engine and its transactions: SQLite or PostgreSQL, same text."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from onward.errors import ConfigError, Repeat
from onward.sql import to_json

Result = TypeVar("Result")

# Repeat the whole transaction: deadlock_detected, serialization_failure, and
# idle_in_transaction_session_timeout, when this process was stopped for a while.
REPEATABLE = {"40P01", "40001", "25P03"}
REPEATS = 8
# What a pooled connection to SQLite is told before the BEGIN of a writer.
WRITES = "writes"
# Seconds, at most, before the first of them; then twice as long each time.
SHORT = 0.002
# Seconds after which a pooled connection is asked whether it still works. One used
# a moment ago does: asking it before each of a batch's transactions took as long as
# a short statement, and the latest is always used first.
PAUSE = 1.0
USED_AT = "used_at"

# Of libpq: seconds, and milliseconds for what was sent and not acknowledged.
WIRE = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


# Of this process, for those who fork it.
_open_files: WeakSet[Database] = WeakSet()


def breathe(turn: int) -> None:
    """Wait a little before a repeat, so that two do not meet again and again.

    Args:
        turn: 0 for the first repeat.
    """
    time.sleep(random.uniform(0, SHORT * 2**turn))  # noqa: S311 - guards nothing


def _loads(text: str | bytes | float) -> object:
    # SQLite keeps a lone number of a JSON column as a number, not as its text.
    return orjson.loads(text) if isinstance(text, (str, bytes)) else text


class Database:
    """One database, opened on first use.

    Args:
        url: an SQLAlchemy address; `sqlite://` alone is in memory.
        durability: `normal` survives kill -9, `power` a power cut as well.
        patience: how long PostgreSQL waits for a process that was stopped, or is cut
            off, in the middle of a transaction: until then others wait for its locks.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: str = "normal",
        patience: timedelta = timedelta(seconds=60),
    ) -> None:
        self.url = url
        self.durability = durability
        self.patience = patience
        # Whether its transactions last → the engine.
        self._engines: dict[bool, Engine] = {}
        # When a connection of any of them was found dead.
        self._died_at = -math.inf
        self._new_locks()
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            raise ConfigError(
                f'database_url "{url.partition("://")[0]}…" is no database address; '
                "write for example sqlite:///onward.db or "
                "postgresql+psycopg://user@host/name"
            ) from None
        if "@" in (parsed.host or ""):
            raise ConfigError(
                "database_url holds an @ too many; write an @ in a password as %40"
            )
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.path = (
            Path(parsed.database)
            if self.is_sqlite and parsed.database not in (None, "", ":memory:")
            else None
        )
        self.in_memory = self.is_sqlite and self.path is None
        if self.path is not None:
            _open_files.add(self)

    def _new_locks(self) -> None:
        self._opening = threading.Lock()
        # SQLite has one writer. Waiting for it in our own lock is immediate;
        # SQLite's busy handler sleeps.
        self.turn = threading.RLock()

    @property
    def engine(self) -> Engine:
        """The engine; made on first use."""
        return self._get(lasting=True)

    def _get(self, *, lasting: bool) -> Engine:
        found = self._engines.get(lasting)
        if found is None:
            with self._opening:
                found = self._engines.get(lasting)
                if found is None:
                    self._make_private()
                    found = self._engines[lasting] = self._open(lasting=lasting)
        return found

    def _make_private(self) -> None:
        """Make a new file for its owner alone; SQLite would for all to read."""
        if self.path is not None:
            # What else may be wrong with the place, SQLite says itself.
            with suppress(OSError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))

    def _open(self, *, lasting: bool) -> Engine:
        options: dict[str, Any] = {
            "json_serializer": to_json,
            "json_deserializer": _loads,
            # Values are people's data; an error names the statement without them.
            "hide_parameters": True,
        }
        if self.is_sqlite:
            options["connect_args"] = {"check_same_thread": False, "timeout": 30}
            # In memory one connection is the database.
            options |= (
                {"poolclass": StaticPool}
                if self.in_memory
                else {"pool_size": 20, "max_overflow": 20}
            )
        else:
            # What need not last, claims and calls, is over soon: a few will do.
            size = 10 if lasting else 5
            options |= {"pool_use_lifo": True, "pool_size": size}
            options["max_overflow"] = 2 * size
            options["connect_args"] = self._wire_args()
        engine = create_engine(self.url, **options)
        if self.is_sqlite:
            _prepare_sqlite(engine, full=self.durability == "power")
        else:
            self._prepare_server(engine, lasting=lasting)
        return engine

    def _prepare_server(self, engine: Engine, *, lasting: bool) -> None:
        milliseconds = round(self.patience.total_seconds() * 1000)

        @event.listens_for(engine.pool, "connect")
        def set_up(raw: Any, record: object) -> None:
            cursor = raw.cursor()
            cursor.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
            if not lasting:
                cursor.execute("SET synchronous_commit = off")
            raw.commit()
            cursor.close()

        @event.listens_for(engine.pool, "checkin")
        def note(raw: Any, record: ConnectionPoolEntry) -> None:
            record.info[USED_AT] = time.monotonic()

        @event.listens_for(engine.pool, "invalidate")
        def died(raw: Any, record: ConnectionPoolEntry, error: object) -> None:
            # Where one died, others did, of the other engine as well.
            self._died_at = time.monotonic()

        @event.listens_for(engine.pool, "checkout")
        def ask(raw: Any, record: ConnectionPoolEntry, proxy: object) -> None:
            used_at = record.info.get(USED_AT, math.inf)
            if used_at > self._died_at and time.monotonic() - used_at < PAUSE:
                return
            driver: Any = engine.dialect.loaded_dbapi
            try:
                engine.dialect.do_ping(raw)
            except driver.Error as error:
                if not engine.dialect.is_disconnect(error, raw, None):
                    raise
                # All that are older are made anew as well.
                raise InvalidatePoolError from error

    def _wire_args(self) -> dict[str, int]:
        """Return how soon a dead network is noticed, where the address does not say."""
        url = make_url(self.url)
        if url.get_driver_name() != "psycopg":
            return {}
        return {name: n for name, n in WIRE.items() if name not in url.query}

    @contextmanager
    def write(self, *, lasting: bool = True) -> Generator[Connection]:
        """Open a transaction that may write; commits at the end.

        Args:
            lasting: whether it must be on the server's disk when it has ended. What
                is not is there for everybody, and on the disk no later than the
                next that is; only a crash of the server itself can undo it.
        """
        turn = self.turn if self.is_sqlite else nullcontext()
        # Connections of its own: telling one so each time takes as long as a claim.
        engine = self._get(lasting=lasting or self.is_sqlite)
        with turn, engine.connect() as connection:
            if self.is_sqlite:
                connection.info[WRITES] = True
            with connection.begin():
                yield connection

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Open a transaction that only reads."""
        # In memory there is one connection for everybody: take turns.
        turn = self.turn if self.in_memory else nullcontext()
        with turn, self.engine.connect() as connection, connection.begin():
            yield connection

    def run(
        self, work: Callable[[Connection], Result], *, lasting: bool = True
    ) -> Result:
        """Run `work` in one write transaction, repeated on a deadlock.

        One whose connection was lost before its COMMIT is repeated as well; after it
        nobody knows whether it counts.

        Args:
            work: called with the connection; may be repeated, so everything it
                does must be in the transaction.
            lasting: see `write`.

        Raises:
            Repeat: somebody else was first, eight times.
        """
        for turn in range(REPEATS + 1):
            is_done = False
            try:
                with self.write(lasting=lasting) as connection:
                    result = work(connection)
                    is_done = True
            except Repeat:
                if turn == REPEATS:
                    raise
            except DBAPIError as error:
                state = getattr(error.orig, "sqlstate", "")
                lost = error.connection_invalidated and not is_done
                if turn == REPEATS or not (lost or state in REPEATABLE):
                    raise
            else:
                return result
            breathe(turn)
        raise AssertionError("unreachable")  # the last turn returned or raised

    def connect_alone(self) -> Any:
        """Return a new connection of the driver's, which nobody else gets."""
        dialect = self.engine.dialect
        places, options = dialect.create_connect_args(self.engine.url)
        return dialect.connect(*places, **options, **self._wire_args())

    def close(self) -> None:
        """Close every connection; the next use opens anew."""
        self._forget(close=True)

    def after_fork(self) -> None:
        """Forget the parent's connections without closing them.

        Locks may have been held by a thread that this process does not have.
        """
        self._new_locks()
        if not self.in_memory:  # what is in memory was copied, and is ours now
            self._forget(close=False)

    def _forget(self, *, close: bool) -> None:
        engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.dispose(close=close)


class _Fork:
    """Lets nobody write to an SQLite file while this process is forked.

    A child takes over what the library believes of the locks of its parent. Of a
    transaction that was open it would believe so for ever, and wait.
    """

    PATIENCE = 10  # seconds for a transaction to end; then better late than never

    def __init__(self) -> None:
        self._held: list[threading.RLock] = []

    def before(self) -> None:
        """Wait for the writers."""
        turns = [database.turn for database in list(_open_files)]
        self._held = [turn for turn in turns if turn.acquire(timeout=self.PATIENCE)]

    def after(self) -> None:
        """Let them go on."""
        held, self._held = self._held, []
        for turn in held:
            turn.release()


_fork = _Fork()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_fork.before,
        after_in_parent=_fork.after,
        after_in_child=_fork.after,
    )


def _use_wal(raw: Any) -> None:
    """Turn write-ahead logging on; SQLite itself does not wait for others who do."""
    for left in range(200, -1, -1):
        try:
            raw.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not left or "locked" not in str(error):
                raise
            time.sleep(0.02)
        else:
            return


def _prepare_sqlite(engine: Engine, *, full: bool) -> None:
    @event.listens_for(engine.pool, "connect")
    def set_up(raw: Any, record: object) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves
        _use_wal(raw)
        raw.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
        raw.execute("PRAGMA temp_store=MEMORY")
        # What is deleted or changed does not stay behind between what is kept.
        raw.execute("PRAGMA secure_delete=ON")
        # 8 MB a connection instead of 2: what is written now was read just now.
        raw.execute("PRAGMA cache_size=-8000")
        # A page changed a hundred times is copied into the file once per
        # checkpoint: 32 MB of log between two of them instead of 4.
        raw.execute("PRAGMA wal_autocheckpoint=8000")

    def do_begin(raw: Any) -> None:
        # A deferred transaction that turns into a writer can fail at once with
        # "database is locked"; one that says so at the start waits its turn.
        writes = raw.info.pop(WRITES, False)
        raw.execute("BEGIN IMMEDIATE" if writes else "BEGIN")

    # Not by the engine's "begin" event: any engine event makes SQLAlchemy look
    # for listeners at every statement, a fifth of what a short one costs.
    setattr(engine.dialect, "do_begin", do_begin)  # noqa: B010 - typed as a method
