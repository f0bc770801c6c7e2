"""Hear what other processes queued: PostgreSQL says it, an SQLite file changes."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from onward.engine.outage import is_outage
from onward.runtime import Runtime
from onward.waking import CHANNEL
from onward.worktime import Worktime

log = logging.getLogger("onward.engine")

# How often an SQLite file is asked whether it was changed: a few microseconds.
LOOK_S = 0.1
# A stop waits no longer for a connection that listens.
LISTEN_S = 0.25
# Between two tries to reach a database that is away.
AWAY_S = 1.0

Wake = Callable[[int | None], None]


class Wakeups:
    """A thread that wakes this process's engine for what others queued.

    On PostgreSQL it also keeps this process's clock at the server's.

    Args:
        wake: of the engine; None = look at every connection.
        worktime: measured anew every minute.
    """

    def __init__(self, runtime: Runtime, wake: Wake, worktime: Worktime) -> None:
        self._runtime = runtime
        self._wake = wake
        self._worktime = worktime
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start listening; nothing to hear in a database in memory."""
        database = self._runtime.database
        if self._thread is not None or database.in_memory:
            return
        self._stopping.clear()
        work = self._listen if database.path is None else self._watch
        self._thread = threading.Thread(target=work, name="onward-wakeups", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # -- SQLite

    def _watch(self) -> None:
        path = self._runtime.database.path
        while path is not None and not self._stopping.is_set():
            try:
                with closing(_open(path)) as file:
                    self._watch_file(file)
            except sqlite3.Error as error:
                log.warning("%s cannot be watched (%s)", path, error)
                self._stopping.wait(AWAY_S)

    def _watch_file(self, file: sqlite3.Connection) -> None:
        """Wake the engine after every change, this process's own ones included."""
        seen = None
        while not self._stopping.wait(LOOK_S):
            [now] = file.execute("PRAGMA data_version").fetchone()
            if now != seen:
                seen = now
                self._wake(None)

    # -- PostgreSQL

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen_once()
            except Exception as error:
                # The engine's own sweep says that the database is away.
                if not is_outage(error):
                    log.exception("listening failed; it goes on")
            self._stopping.wait(AWAY_S)

    def _listen_once(self) -> None:
        with closing(self._runtime.database.connect_alone()) as raw:
            if not callable(getattr(raw, "notifies", None)):
                log.info("this driver cannot listen; the worker looks by itself")
                self._stopping.wait()
                return
            raw.autocommit = True
            raw.execute(f"LISTEN {CHANNEL}")
            # What was said before this connection listened is found by looking.
            self._wake(None)
            while not self._stopping.is_set():
                for said in raw.notifies(timeout=LISTEN_S):
                    self._hear(said.payload)
                self._worktime.keep()

    def _hear(self, payload: str) -> None:
        ids = [int(word) for word in payload.split(",") if word.isdecimal()]
        for connection_id in ids:
            self._wake(connection_id)
        if not ids:
            self._wake(None)


def _open(path: Path) -> sqlite3.Connection:
    # Only asked for a number, never written with.
    return sqlite3.connect(path, isolation_level=None, timeout=1)
