"""`onward db`: its schema, what is old in it, and its copy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_runtime, options_of
from onward.cli.printing import (
    cell,
    interactive,
    note,
    print_document,
    progress,
    say,
)
from onward.errors import InputError

if TYPE_CHECKING:
    from onward.config import Config
    from onward.copying import Copied
    from onward.database import Database
    from onward.pruning import Pruned

app = typer.Typer(
    help="Upgrade the database, prune, compact and copy it.", no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback()
def db() -> None:
    """Upgrade the database, prune, compact and copy it."""


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


@app.command("compact")
def compact(ctx: typer.Context) -> None:
    """Write the file anew, so that nothing deleted lies in it; stop what writes."""
    from onward.compact import compact as write_anew
    from onward.compact import estimate_s, size_of
    from onward.contacts import unfinished

    with open_runtime(ctx) as runtime:
        size = size_of(runtime.database)
        if size:
            takes = estimate_s(size)
            note(f"to write {size / 1e6:,.0f} MB anew takes about {takes:.0f} s")
        with progress("compacting"):
            done = write_anew(runtime.database, largest=None)
        if done.is_done:
            runtime.database.run(unfinished.compacted)
    if not done.is_done:
        raise InputError(done.why)
    freed = f": {done.before / 1e6:,.1f} → {done.after / 1e6:,.1f} MB" if size else ""
    say(f"compacted in {done.seconds:.1f} s{freed}")


@app.command("copy")
def copy(
    ctx: typer.Context,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            envvar="ONWARD_COPY_TO",
            help="An empty database: postgresql://… or sqlite:///….",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Copy everything into another, empty database; stop the workers first."""
    from onward.clock import utcnow
    from onward.config import load_config
    from onward.copying import copy_database
    from onward.copying.copy import count_rows
    from onward.database import Database

    path = options_of(ctx).path()
    config = load_config(path, os.environ, connections_elsewhere=None)
    source = Database(config.database_url)
    target = Database(_settled(to, config))
    try:
        if source.path is not None and not source.path.exists():
            raise InputError(f"there is no database {source.path} to copy")
        if target.in_memory:
            raise InputError("--to names no file: what is in memory is gone at once")
        total = count_rows(source)
        if interactive() and not yes:
            asked = f"Copy {total:,} rows from {_shown(source)} to {_shown(target)}?"
            typer.confirm(asked, default=True, abort=True)
        with progress("copying", total) as advance:
            done = copy_database(source, target, now=utcnow(), on_progress=advance)
        steps = _what_is_next(config, source, target)
    finally:
        source.close()
        target.close()
    if json:
        print_document(
            {"tables": done.rows, "rows": done.total, "without_nul": done.without_nul}
        )
        return
    _tell_copied(done)
    for line in steps:
        say(line)


def _settled(url: str, config: Config) -> str:
    from pathlib import Path

    from onward.config.load import settle_database_url

    folder = config.path.parent if config.path is not None else Path.cwd()
    try:
        return settle_database_url(url, folder)
    except ValueError as error:
        raise InputError(f"--to {error}") from None


def _shown(database: Database) -> str:
    """Return an address as it can be written down, without a password."""
    from sqlalchemy.engine import make_url

    url = make_url(database.url)
    shown = url.render_as_string(hide_password=True).replace("+psycopg", "", 1)
    return shown.replace(":***@", ":${ONWARD_DB_PASSWORD}@", 1)


def _tell_copied(done: Copied) -> None:
    used = sum(bool(rows) for rows in done.rows.values())
    say(
        f"copied {done.total:,} rows of {used} tables, and compared both sides row by "
        "row"
    )
    if done.without_nul:
        say(
            f"{done.without_nul} texts held a NUL character, which PostgreSQL cannot "
            "keep; it was left out"
        )


def _what_is_next(config: Config, source: Database, target: Database) -> list[str]:
    """Return what a person has to do now."""
    from onward.runtime import KEY_FILE

    where = "onward.toml"
    if os.environ.get("ONWARD_DATABASE_URL"):
        where = "the environment, as ONWARD_DATABASE_URL"
    lines = [f"now change this line in {where}:", f'database_url = "{_shown(target)}"']
    here = config.path.parent if config.path is not None else None
    old, new = (
        one.path.parent if one.path is not None else here for one in (source, target)
    )
    if old is not None and old != new and (old / KEY_FILE).exists():
        there = new / KEY_FILE if new is not None else f"{KEY_FILE} beside onward.toml"
        lines.append(
            f"stored secrets stay sealed with the same key: copy {old / KEY_FILE} to "
            f"{there}, or set ONWARD_SECRET_KEY"
        )
    lines.append(
        "then `onward doctor`, and start the workers; the old one stays as it is"
    )
    return lines
