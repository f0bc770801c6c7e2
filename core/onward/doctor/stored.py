"""The database and the key of stored secrets."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from onward.config import Config
from onward.database import Database
from onward.doctor.check import Check, ok, problem, warning
from onward.migrate import HEAD, current_revision, releases_ahead
from onward.models import Connection, Push, table
from onward.runtime import KEY_FILE

# File systems that do not keep SQLite's locks: two machines corrupt the file.
NETWORK = frozenset(
    {
        "9p",
        "afs",
        "afpfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.davfs2",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "virtiofs",
    }
)
LEAST_FREE = 200_000_000
MOST_OFFSET = timedelta(seconds=5)


def check_key_file(
    config: Config, database: Database, env: Mapping[str, str]
) -> list[Check]:
    """Check who can read the key; must run before anything opens the vault."""
    folder = (database.path or config.path or Path()).parent
    key = folder / KEY_FILE
    given = bool(env.get("ONWARD_SECRET_KEY"))
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except FileNotFoundError:
        sealed = () if given else _with_secrets(database)
        if sealed:
            again = f"onward connections set {sealed[0]}"
            return [
                problem(
                    "secret key",
                    f"{key} is not there, and the stored secrets of "
                    f"{', '.join(sealed)} cannot be read without it",
                    f"put it back; if it is lost: `onward init`, then `{again}` asks "
                    "for them",
                )
            ]
        where = "ONWARD_SECRET_KEY" if given else "none, and none is needed yet"
        return [ok("secret key", where)]
    except OSError as error:
        advice = "let this user read it"
        return [problem("secret key", f"{key}: {error.strerror}", advice)]
    if os.name == "posix" and mode & 0o077:
        return [
            warning(
                "secret key",
                f"{key} is open to other users (mode {mode:o})",
                f"chmod 600 {key}; make a new key if they are not to be trusted",
            )
        ]
    return [ok("secret key", str(key))]


def _with_secrets(database: Database) -> Sequence[str]:
    """Return the names of the connections that have stored secrets."""
    if not is_made(database):
        return ()
    connections = table(Connection)
    named = select(connections.c.name, connections.c.secrets)
    try:
        with database.read() as transaction:
            found = transaction.execute(named.order_by(connections.c.name)).all()
    except (SQLAlchemyError, sqlite3.Error):
        # What is wrong with the database has a check of its own.
        return ()
    return [row.name for row in found if row.secrets]


def is_made(database: Database) -> bool:
    """Tell whether there is a database, without making one by looking."""
    return database.path is None or database.path.exists()


def check_database(
    database: Database, clock: Callable[[], datetime], mounts: Path
) -> tuple[list[Check], bool]:
    """Check where the database is and what is in it.

    Returns:
        The checks, and whether its tables can be read.
    """
    found: list[Check] = []
    if database.path is not None:
        found = _check_place(database.path, mounts)
        if any(check.level == "problem" for check in found):
            return found, False
        if not database.path.exists():
            advice = "`onward init` makes it, and so does the first command"
            return [
                *found,
                warning("database", f"{database.path} is not there yet", advice),
            ], False
    try:
        with database.read() as transaction:
            step = current_revision(transaction)
            offset = None
            ahead = None if step is None else releases_ahead(transaction, step)
            usable = ahead in (0, 1)
            if usable and not database.is_sqlite:
                server = transaction.execute(text("SELECT clock_timestamp()")).scalar()
                offset = clock() - server if isinstance(server, datetime) else None
            newest = None
            if usable:
                pushes = table(Push)
                newest = transaction.execute(
                    select(func.max(pushes.c.created_at))
                ).scalar()
    except (SQLAlchemyError, sqlite3.Error) as error:
        why = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        advice = "check database_url, and that the server runs"
        return [*found, problem("database", f"it cannot be opened: {why}", advice)], (
            False
        )
    if database.path is None:
        found.append(ok("database", "it can be opened"))
    found += _check_step(step, ahead, sqlite=database.is_sqlite)
    found += _check_times(clock(), newest, offset)
    return found, usable


def _check_place(path: Path, mounts: Path) -> list[Check]:
    folder = path.parent
    if not folder.is_dir():
        advice = "make the folder, or change database_url"
        return [problem("database", f"there is no folder {folder}", advice)]
    for place in (folder, path):
        if place.exists() and not os.access(place, os.W_OK):
            advice = "let this user write the folder and the file"
            return [problem("database", f"{place} cannot be written", advice)]
    kind = file_system(folder, mounts)
    if kind in NETWORK:
        return [
            problem(
                "database",
                f"{folder} is on a network file system ({kind}), where SQLite's locks "
                "do not hold and the file gets corrupted",
                "move it to a local disk, or use PostgreSQL",
            )
        ]
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        advice = "make room; without it nothing can be recorded"
        return [
            warning("database", f"{folder} has {free // 1_000_000} MB left", advice)
        ]
    return [ok("database", str(path))]


def file_system(folder: Path, mounts: Path) -> str:
    """Return the type of the file system a folder is on, "" when not known."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    real = folder.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Blanks in names are written as \040.
        point = Path(fields[1].encode().decode("unicode_escape"))
        depth = len(point.parts)
        if real.is_relative_to(point) and depth >= best:
            best, kind = depth, fields[2]
    return kind


def _check_step(step: str | None, ahead: int | None, *, sqlite: bool) -> list[Check]:
    if step == HEAD:
        return [ok("schema", f"step {HEAD}")]
    if ahead == 1:
        message = f"step {step}, of the next release; this one works with it"
        return [warning("schema", message, "update Onward on this machine")]
    what = "there are no tables yet" if step is None else f"it is at step {step}"
    advice = (
        "the next command brings it there" if sqlite else "run `onward db upgrade` once"
    )
    message = f"{what}, this Onward needs step {HEAD}"
    if sqlite:
        return [warning("schema", message, advice)]
    return [problem("schema", message, advice)]


def _check_times(
    now: datetime, newest: datetime | None, offset: timedelta | None
) -> list[Check]:
    if offset is not None and abs(offset) > MOST_OFFSET:
        seconds = offset.total_seconds()
        return [
            problem(
                "clock",
                f"it is {seconds:+.0f} s off the database server's",
                "let both follow the same time server",
            )
        ]
    if newest is not None and newest - now > timedelta(minutes=5):
        return [
            warning(
                "clock",
                f"the newest push was queued at {newest:%Y-%m-%d %H:%M} UTC, which "
                "has not come yet",
                "set the clock; what was queued then waits until that time",
            )
        ]
    return []
