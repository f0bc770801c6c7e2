"""Bring the database to the schema of this release."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from sqlalchemy import Connection as Transaction
from sqlalchemy import create_mock_engine, delete, insert, inspect, select, text
from sqlalchemy.dialects.sqlite import dialect as sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.schema import ExecutableDDLElement

from onward.database import Database
from onward.errors import ConfigError
from onward.models import Contact, SchemaStep, table

log = logging.getLogger("onward.database")
steps = table(SchemaStep)

SCRIPTS = Path(__file__).parent / "migrations"
# The newest step in migrations/versions; a test holds it to the folder.
HEAD = "0003"
LOCK = 4_717_112_903  # any number, the same in every release

_ALONE = text("SELECT pg_advisory_xact_lock(:n)")
_RELEASE = re.compile(r"^Release: (\S+)$", re.MULTILINE)

_TAKEN = select(steps.c.step, steps.c.release).order_by(steps.c.step)


def prepare_database(
    database: Database, *, scripts: Path = SCRIPTS, head: str = HEAD
) -> None:
    """Make sure that the schema is this release's.

    SQLite is migrated here, under a lock, after its own backup. PostgreSQL is
    migrated by `onward db upgrade` only, because several machines share it. A
    database that is one release ahead is used as it is: steps add before they take
    away, so that old and new processes can work side by side while they are changed.

    Args:
        scripts: folder of the migrations.
        head: the step this release needs.

    Raises:
        ConfigError: it cannot be opened, is more than one release ahead, or is a
            PostgreSQL database that must be upgraded first.
    """
    if database.in_memory:
        with database.write() as transaction:
            for statement in _schema():
                transaction.exec_driver_sql(statement)
        return
    _check_folder(database)
    current = revision_or_error(database)
    if current == head or _is_one_ahead(database, current, head, scripts):
        return
    if not database.is_sqlite:
        what = "has no tables yet" if current is None else f"is at step {current}"
        raise ConfigError(
            f"the database {what}, this Onward needs step {head}: run "
            "`onward db upgrade` once, from any machine"
        )
    upgrade(database, scripts=scripts, head=head)


@cache
def _schema() -> list[str]:
    """Return what makes the tables in memory; written once a process."""
    made: list[str] = []

    def keep(statement: ExecutableDDLElement, *_: object, **__: object) -> None:
        made.append(str(statement.compile(dialect=sqlite())))

    Contact.metadata.create_all(create_mock_engine("sqlite://", keep), checkfirst=False)
    return made


def upgrade(database: Database, *, scripts: Path = SCRIPTS, head: str = HEAD) -> bool:
    """Migrate to this release's schema; return whether anything was done.

    Raises:
        ConfigError: it cannot be opened, is more than one release ahead, or in use.
    """
    _check_folder(database)
    current = revision_or_error(database)
    if current == head or _is_one_ahead(database, current, head, scripts):
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
    if database.path is not None and current is not None:
        _back_up(database.path, current)
    _run_alembic(transaction, scripts, head)
    _write_history(transaction, scripts, head)
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


def releases_ahead(
    transaction: Transaction, current: str | None, head: str = HEAD
) -> int | None:
    """Return how many releases a schema is ahead of `head`; None = nobody knows.

    Args:
        current: the step it is at.
    """
    if current == head:
        return 0
    if current is None or not inspect(transaction).has_table(steps.name):
        return None
    taken = {row.step: row.release for row in transaction.execute(_TAKEN)}
    if head not in taken or current not in taken:
        return None
    later = {release for step, release in taken.items() if step > head}
    return len(later - {taken[head]})


def _is_one_ahead(
    database: Database, current: str | None, head: str, scripts: Path
) -> bool:
    """Tell whether the next release migrated it, which this one can work beside.

    Raises:
        ConfigError: it is further ahead.
    """
    if current is None or current in _steps(scripts):
        return False
    with database.read() as transaction:
        ahead = releases_ahead(transaction, current, head)
    if ahead is None or ahead > 1:
        raise ConfigError(
            f"the database is at step {current}, which this Onward does not know: it "
            "was used by a newer release; update this one"
        )
    log.warning(
        "the database was migrated by a newer release; this process works with it, "
        "update it before the release after that"
    )
    return True


def _steps(scripts: Path) -> dict[str, str]:
    """Return step → the release it came with, in order."""
    files = sorted((scripts / "versions").glob("0*.py"))
    found = {path.name.partition("_")[0]: path for path in files}
    return {step: _release(path) for step, path in found.items()}


def _release(path: Path) -> str:
    named = _RELEASE.search(path.read_text(encoding="utf-8"))
    return named[1] if named else ""


def _write_history(transaction: Transaction, scripts: Path, head: str) -> None:
    transaction.execute(delete(steps))
    taken = [
        {"step": step, "release": release}
        for step, release in _steps(scripts).items()
        if step <= head
    ]
    transaction.execute(insert(steps), taken)


def backups_of(database: Database) -> list[Path]:
    """Return the copies that were made of an SQLite file before it was migrated."""
    path = database.path
    return [] if path is None else sorted(path.parent.glob(f"{path.name}.bak-*"))


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
