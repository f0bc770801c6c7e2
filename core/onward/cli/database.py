"""`onward db`: the database's schema."""

from __future__ import annotations

import os

import typer

from onward.cli.opening import options_of
from onward.cli.printing import say

app = typer.Typer(help="Bring the database to this release.", no_args_is_help=True)


@app.callback()
def db() -> None:
    """Bring the database to this release."""


@app.command("upgrade")
def upgrade(ctx: typer.Context) -> None:
    """Migrate the schema; on PostgreSQL run it once, from any machine."""
    from onward.config import load_config
    from onward.database import Database
    from onward.engine.make import upgrade_engine
    from onward.migrate import HEAD
    from onward.migrate import upgrade as migrate

    path = options_of(ctx).path()
    config = load_config(path, os.environ, connections_elsewhere=None)
    database = Database(config.database_url)
    try:
        changed = migrate(database)
        engine = upgrade_engine(config, database)
    finally:
        database.close()
    say(f"upgraded to step {HEAD}" if changed else f"already at step {HEAD}")
    if engine:
        say(f"the tables of the {config.engine} engine are ready")
