"""Bring the database to the schema of this release."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection as Transaction
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError

from onward.database import Database
from onward.errors import ConfigError
from onward.models import Contact

log = logging.getLogger("onward.database")

SCRIPTS = Path(__file__).parent / "migrations"
# The newest step in migrations/versions; a test holds it to the folder.
HEAD = "0001"
LOCK = 4_717_112_903  # any number, the same in every release

_ALONE = text("SELECT pg_advisory_xact_lock(:n)")


def prepare_database(
    database: Database, *, scripts: Path = SCRIPTS, head: str = HEAD
) -> None:
    """Make sure that the schema is this release's.

    SQLite is migrated here, under a lock, after its own backup. PostgreSQL is
    migrated by `onward db upgrade` only, because several machines share it.

    Args:
        scripts: folder of the migrations.
        head: the step this release needs.

    Raises:
        ConfigError: it cannot be opened, is newer than this release, or is a
            PostgreSQL database that must be upgraded first.
    """
    if database.in_memory:
        with database.write() as transaction:
            Contact.metadata.create_all(transaction)
        return
    _check_folder(database)
    current = revision_or_error(database)
    if current == head:
        return
    _refuse_newer(current, scripts)
    if not database.is_sqlite:
        what = "has no tables yet" if current is None else f"is at step {current}"
        raise ConfigError(
            f"the database {what}, this Onward needs step {head}: run "
            "`onward db upgrade` once, from any machine"
        )
    upgrade(database, scripts=scripts, head=head)


def upgrade(database: Database, *, scripts: Path = SCRIPTS, head: str = HEAD) -> bool:
    """Migrate to this release's schema; return whether anything was done.

    Raises:
        ConfigError: it cannot be opened, is newer than this release, or in use.
    """
    _check_folder(database)
    if revision_or_error(database) == head:
        return False
    try:
        with database.write() as transaction:
            return _upgrade(database, transaction, scripts, head)
    except OperationalError as error:
        if "locked" not in str(error.orig):
            raise
        raise ConfigError(
            f"the database {database.path} is in use by another process and cannot be "
            "migrated now; stop that process, or try again"
        ) from error


def _upgrade(
    database: Database, transaction: Transaction, scripts: Path, head: str
) -> bool:
    # One process at a time: on SQLite whoever may write, on PostgreSQL this.
    if not database.is_sqlite:
        transaction.execute(_ALONE, {"n": LOCK})
    current = current_revision(transaction)
    if current == head:
        return False
    _refuse_newer(current, scripts)
    if database.path is not None and current is not None:
        _back_up(database.path, current)
    _run_alembic(transaction, scripts, head)
    return True


def _check_folder(database: Database) -> None:
    if database.path is None:
        return
    folder = database.path.parent
    if not folder.is_dir():
        raise ConfigError(
            f"the database {database.path} cannot be made: there is no folder {folder}"
        )


def revision_or_error(database: Database) -> str | None:
    """Return the step the database is at, None when it is empty.

    Raises:
        ConfigError: it cannot be opened.
    """
    try:
        with database.read() as transaction:
            return current_revision(transaction)
    except DBAPIError as error:
        place = database.path or "at database_url"
        # The drivers of servers explain in several lines; the first says it.
        why = (str(error.orig).splitlines() or [""])[0]
        raise ConfigError(f"the database {place} cannot be opened: {why}") from error


def current_revision(transaction: Transaction) -> str | None:
    """Return the step the database is at, None when it is empty."""
    if not inspect(transaction).has_table("alembic_version"):
        return None
    found = transaction.execute(text("SELECT version_num FROM alembic_version"))
    return found.scalar()


def _refuse_newer(current: str | None, scripts: Path) -> None:
    steps = {
        path.name.partition("_")[0] for path in (scripts / "versions").glob("0*.py")
    }
    if current is not None and current not in steps:
        raise ConfigError(
            f"the database is at step {current}, which this Onward does not know: it "
            "was used by a newer release; update this one"
        )


def _back_up(path: Path, revision: str) -> None:
    target = path.with_name(f"{path.name}.bak-{revision}")
    target.unlink(missing_ok=True)
    # Nobody else may read it, from its first byte on.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    log.warning("the database was backed up to %s before it is migrated", target)


def _run_alembic(transaction: Transaction, scripts: Path, head: str) -> None:
    # Alembic is slow to import and needed once per release.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = transaction
    command.upgrade(config, head)
