"""Write the database anew, so that nothing lies in it that was deleted.

What is deleted stays in the free room of a file until something is written there.
`secure_delete` overwrites what this release deletes; what older ones left, and copies
SQLite made while it moved rows about, only VACUUM takes away. It writes the whole
file anew, about 20 s a gigabyte, while all others who write wait.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlmodel import SQLModel

from onward.database import Database

# For so long those who write are waited for, and those who read; who writes now may
# have to wait as well, and gives up after 30.
PATIENCE_S = 10.0
READERS_S = 2.0
# What takes longer than they wait is not done by the way.
LARGE = 1_000_000_000
SECONDS_PER_GB = 20
NAP_S = 0.05


@dataclass(frozen=True, slots=True)
class Compacted:
    """Whether a database was written anew.

    Args:
        why: it was not, and what to do; "" when it was.
        before, after: bytes of the file; 0 where there is none.
    """

    is_done: bool
    why: str = ""
    before: int = 0
    after: int = 0
    seconds: float = 0.0


def size_of(database: Database) -> int:
    """Return the bytes of the file, 0 where there is none."""
    path = database.path
    return path.stat().st_size if path is not None and path.exists() else 0


def estimate_s(size: int) -> float:
    """Return about how many seconds it takes."""
    return size / 1_000_000_000 * SECONDS_PER_GB


def compact(database: Database, *, largest: int | None = LARGE) -> Compacted:
    """Write the file anew; on PostgreSQL let the server take away dead rows.

    Args:
        largest: bytes; a larger file is left as it is. None = any size.
    """
    if database.in_memory:
        return Compacted(is_done=True)
    if database.path is None:
        return _vacuum_server(database)
    size = size_of(database)
    if largest is not None and size > largest:
        return Compacted(
            False,
            f"{database.path} has {size / 1e9:.1f} GB: to write it anew takes about "
            f"{estimate_s(size):.0f} s, in which nobody else can write; stop what "
            "writes and run `onward db compact`",
            size,
        )
    free = shutil.disk_usage(database.path.parent).free
    if free < 2 * size:
        return Compacted(
            False,
            f"there is too little room beside {database.path} to write it anew "
            f"(twice {size / 1e6:,.0f} MB are needed); make room and run "
            "`onward db compact`",
            size,
        )
    began = time.monotonic()
    with database.turn:
        why = _vacuum_file(database.path)
    took = time.monotonic() - began
    return Compacted(not why, why, size, size_of(database), took)


def _vacuum_file(path: Path) -> str:
    """Write the file anew and empty its log; return why that could not be done."""
    raw = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
    with closing(raw):
        # The copy it makes on its way may be as large as the file.
        raw.execute("PRAGMA temp_store=FILE")
        raw.execute("PRAGMA secure_delete=ON")
        try:
            raw.execute("VACUUM")
        except sqlite3.OperationalError as error:
            return (
                f"{path} could not be written anew ({error}): somebody else writes, or "
                "there is no room; run `onward db compact` when they have ended"
            )
        raw.execute("PRAGMA busy_timeout=0")
        until = time.monotonic() + READERS_S
        while raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > until:
                return (
                    f"somebody reads {path} for long (an export, `sqlite3`, a backup), "
                    f"so that old pages stay in it and in {path.name}-wal; run `onward "
                    "db compact` when they have ended"
                )
            time.sleep(NAP_S)
    return ""


def _vacuum_server(database: Database) -> Compacted:
    names = [rows.name for rows in SQLModel.metadata.sorted_tables]
    began = time.monotonic()
    with database.engine.connect() as connection:
        # It cannot be a part of a transaction.
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        for name in names:
            alone.execute(text(f'VACUUM "{name}"'))
    return Compacted(is_done=True, seconds=time.monotonic() - began)
