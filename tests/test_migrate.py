"""The schema is this release's, however the database came to be."""

from __future__ import annotations

import ast
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from onward.database import Database
from onward.errors import ConfigError
from onward.migrate import (
    HEAD,
    SCRIPTS,
    current_revision,
    prepare_database,
    upgrade,
)
from onward.models import Contact

if TYPE_CHECKING:
    from tests.conftest import AtOnce, PostgresServer

NEXT_STEP = '''
"""A step of some later release.

Release: 9.1
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade():
    op.add_column("contact", sa.Column("nickname", sa.String(), nullable=True))
'''


def a_database(path: Path) -> Database:
    """An SQLite file."""
    return Database(f"sqlite:///{path}")


def step_of(database: Database) -> str | None:
    """The step a database says it is at."""
    with database.read() as transaction:
        return current_revision(transaction)


def set_step(database: Database, step: str) -> None:
    """Make a database say that it is at a step."""
    with database.write() as transaction:
        row = {"step": step}
        transaction.execute(text("UPDATE alembic_version SET version_num = :step"), row)


def test_head_is_the_newest_step() -> None:
    """HEAD names the newest file in migrations/versions."""
    steps = sorted(path.name for path in (SCRIPTS / "versions").glob("0*.py"))

    assert steps[-1].partition("_")[0] == HEAD


def test_migrations_make_the_tables_of_the_models(database: Database) -> None:
    """A database migrated from nothing has what the models say, and nothing else."""
    with database.write() as transaction:
        context = MigrationContext.configure(
            transaction, opts={"compare_type": True, "compare_server_default": True}
        )

        differences = compare_metadata(context, Contact.metadata)

    assert differences == []


def test_migrations_make_the_partial_indexes(database: Database) -> None:
    """The index that allows one open push per target is unique and partial."""
    name = "sqlite" if database.is_sqlite else "postgresql"
    with database.read() as transaction:
        indexes = {
            index["name"]: (
                index["unique"],
                index["column_names"],
                str(index["dialect_options"].get(f"{name}_where")),
            )
            for index in inspect(transaction).get_indexes("push")
        }

    unique, columns, where = indexes["push_open"]
    assert (bool(unique), columns) == (True, ["connection_id", "contact_id", "segment"])
    assert all(state in where for state in ("waiting", "sending", "submitted"))
    unique, columns, where = indexes["push_due"]
    assert (bool(unique), columns[:2]) == (False, ["connection_id", "priority"])
    assert "waiting" in where


def test_tables_in_memory_are_those_of_the_models() -> None:
    """A database in memory, which is not migrated, has the same tables."""
    database = Database("sqlite://")
    prepare_database(database)

    with database.read() as transaction:
        tables = set(inspect(transaction).get_table_names())

    assert tables == set(Contact.metadata.tables)
    database.close()


def test_sqlite_is_migrated_at_start(tmp_path: Path) -> None:
    """An SQLite file that is not there yet is made and migrated, once."""
    database = a_database(tmp_path / "onward.db")

    prepare_database(database)

    assert step_of(database) == HEAD
    assert upgrade(database) is False
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "onward.db",
        "onward.db-shm",
        "onward.db-wal",
    ]
    database.close()


@pytest.mark.postgres
def test_postgres_is_migrated_only_by_hand(postgres: PostgresServer) -> None:
    """An empty PostgreSQL database is refused until somebody upgrades it."""
    name = postgres.create()
    database = Database(postgres.url(name))

    with pytest.raises(ConfigError) as refused:
        prepare_database(database)

    assert refused.value.message == (
        f"the database has no tables yet, this Onward needs step {HEAD}: run "
        "`onward db upgrade` once, from any machine"
    )
    assert upgrade(database) is True
    prepare_database(database)
    assert step_of(database) == HEAD
    database.close()
    postgres.drop(name)


def test_database_of_the_future_is_refused(database: Database) -> None:
    """A schema this release does not know is refused in one sentence, unharmed."""
    set_step(database, "0999")

    for attempt in (prepare_database, upgrade):
        with pytest.raises(ConfigError) as refused:
            attempt(database)
        assert refused.value.message == (
            "the database is at step 0999, which this Onward does not know: it was "
            "used by a newer release; update this one"
        )

    set_step(database, HEAD)
    prepare_database(database)


def test_backup_is_made_before_an_upgrade(sqlite_url: str, tmp_path: Path) -> None:
    """A file is backed up, for its owner only, before a later step changes it."""
    scripts = tmp_path / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "0004_next.py").write_text(NEXT_STEP)
    database = Database(sqlite_url)
    with database.write() as transaction:
        transaction.execute(text("INSERT INTO setting VALUES ('kept', 'yes')"))

    prepare_database(database, scripts=scripts, head="0004")

    backup = tmp_path / "onward.db.bak-0003"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert step_of(database) == "0004"
    with database.read() as transaction:
        columns = [
            column["name"] for column in inspect(transaction).get_columns("contact")
        ]
    assert "nickname" in columns
    before = a_database(backup)
    assert step_of(before) == "0003"
    with before.read() as transaction:
        found = transaction.execute(text("SELECT value FROM setting")).scalars().all()
    assert found == ["yes"]
    for opened in (database, before):
        opened.close()


def test_failed_upgrade_changes_nothing(sqlite_url: str, tmp_path: Path) -> None:
    """A step that fails half-way leaves the schema as it was, ready for another try."""
    scripts = tmp_path / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    step = scripts / "versions" / "0004_next.py"
    step.write_text(NEXT_STEP + "    raise RuntimeError('half-way')\n")
    database = Database(sqlite_url)

    with pytest.raises(RuntimeError, match="half-way"):
        upgrade(database, scripts=scripts, head="0004")

    assert step_of(database) == HEAD
    with database.read() as transaction:
        columns = [
            column["name"] for column in inspect(transaction).get_columns("contact")
        ]
    assert "nickname" not in columns
    step.write_text(NEXT_STEP)
    assert upgrade(database, scripts=scripts, head="0004") is True
    database.close()


def test_processes_that_start_at_once_migrate_once(
    tmp_path: Path, at_once: AtOnce
) -> None:
    """Four processes start on a file that is not there: all work, one migrates."""
    (tmp_path / "onward.toml").write_text("")
    fire = (
        'fired = app.record_action("page.visited", email=f"p{number}@x.example")\n'
        "result = fired.contact_id"
    )

    ids = at_once([fire] * 4)

    assert sorted(ids) == [1, 2, 3, 4]
    database = a_database(tmp_path / "onward.db")
    assert step_of(database) == HEAD
    assert list(tmp_path.glob("*migrating*")) == []
    database.close()


def in_no_folder(folder: Path) -> Path:
    """A path in a folder that is not there."""
    return folder / "nowhere" / "onward.db"


def that_is_a_folder(folder: Path) -> Path:
    """The folder itself."""
    return folder


def that_is_text(folder: Path) -> Path:
    """A file that holds something else."""
    path = folder / "diary.db"
    path.write_text("Dear diary, " * 200)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            in_no_folder,
            "the database {path} cannot be made: there is no folder {path.parent}",
        ),
        (
            that_is_a_folder,
            "the database {path} cannot be opened: unable to open database file",
        ),
        (
            that_is_text,
            "the database {path} cannot be opened: file is not a database",
        ),
    ],
)
def test_file_that_cannot_be_opened(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    """A file that cannot be opened is refused in one sentence."""
    path = make(tmp_path)
    database = a_database(path)

    with pytest.raises(ConfigError) as refused:
        prepare_database(database)

    assert refused.value.message == message.format(path=path)
    database.close()


@pytest.mark.postgres
def test_server_that_cannot_be_reached(tmp_path: Path) -> None:
    """A PostgreSQL that does not answer is refused in one sentence."""
    database = Database(f"postgresql+psycopg://ana:secret@/onward?host={tmp_path}")

    with pytest.raises(ConfigError) as refused:
        prepare_database(database)

    assert refused.value.message.startswith(
        "the database at database_url cannot be opened: "
    )
    assert "secret" not in refused.value.message
    assert "\n" not in refused.value.message
    database.close()


def step_file(number: int, release: str) -> str:
    """A step that adds what the processes before it do not know, and nothing else."""
    step = NEXT_STEP.replace("0004", f"{number:04}").replace("0003", f"{number - 1:04}")
    return step.replace("9.1", release).replace("nickname", f"nickname{number}")


def test_next_release_is_worked_beside(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A schema one release ahead is used as it is, one of two releases is refused."""
    scripts = tmp_path / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    versions = scripts / "versions"
    (versions / "0004_next.py").write_text(step_file(4, "9.1"))
    (versions / "0005_same.py").write_text(step_file(5, "9.1"))
    upgrade(database, scripts=scripts, head="0005")

    prepare_database(database)

    assert upgrade(database) is False
    assert step_of(database) == "0005"
    assert "update it before the release after that" in caplog.text

    (versions / "0006_later.py").write_text(step_file(6, "9.2"))
    upgrade(database, scripts=scripts, head="0006")
    with pytest.raises(ConfigError, match="step 0006, which this Onward does not know"):
        prepare_database(database)

    prepare_database(database, scripts=scripts, head="0006")


def test_steps_only_add() -> None:
    """A process of the release before survives each step: it adds, and only adds."""
    harmless = {"add_column", "create_index", "create_table", "f"}
    for path in sorted((SCRIPTS / "versions").glob("0*.py"))[1:]:
        calls = {
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and getattr(node.func.value, "id", "") == "op"
        }
        assert calls <= harmless, path.name
