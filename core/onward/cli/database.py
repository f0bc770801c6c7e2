"""`onward db`: the database's schema, and what is old in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_runtime, options_of
from onward.cli.printing import cell, print_document, progress, say
from onward.errors import InputError

if TYPE_CHECKING:
    from onward.pruning import Pruned

app = typer.Typer(help="Upgrade the database, prune it.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback()
def db() -> None:
    """Upgrade the database, prune it."""


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


@app.command("prune")
def prune(
    ctx: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be removed.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove what is older than [retention] says; a worker does it daily."""
    from onward.pruning import count_old
    from onward.pruning import prune as remove

    with open_runtime(ctx) as runtime:
        if dry_run:
            done = count_old(runtime)
        else:
            with progress("removing") as advance:
                done = remove(runtime, on_progress=advance)
    if done.busy_until is not None:
        raise InputError(
            "another process is pruning now; if it was killed, this can be done at "
            f"{cell(done.busy_until)}"
        )
    if json:
        print_document({**done.counts, "before": done.before, "dry_run": dry_run})
        return
    for line in _lines(done, dry_run=dry_run):
        say(line)


def _lines(done: Pruned, *, dry_run: bool) -> list[str]:
    """Return what was removed, for people."""
    counts = [(name, number) for name, number in done.counts.items() if number]
    if not counts:
        return ["nothing is older than [retention] lets it be"]
    would = "would be removed" if dry_run else "removed"
    return [f"{name.replace('_', ' ')}: {number:,} {would}" for name, number in counts]
