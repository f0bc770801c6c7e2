"""`onward contacts`: who we know and what they allowed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from onward.cli import person, report
from onward.cli.opening import open_app, open_runtime
from onward.cli.printing import (
    cell,
    interactive,
    note,
    print_document,
    print_facts,
    print_json,
    print_rows,
    progress,
    say,
)
from onward.cli.user import user
from onward.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from onward.contacts.importing import ImportSummary
    from onward.runtime import Runtime

app = typer.Typer(help="Who we know, and what they allowed.")
Email = Annotated[str, typer.Argument(metavar="EMAIL")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON array instead of CSV.")]
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.")
]
Bom = Annotated[bool, typer.Option("--bom", help="Mark it as UTF-8, for Excel.")]

# Refused lines shown one by one; a file holds more.
SHOWN = 20


@app.callback()
def contacts() -> None:
    """Who we know, and what they allowed."""


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """List every contact."""
    from onward.contacts.exporting import export_rows

    with open_runtime(ctx) as runtime:
        rows = export_rows(runtime)
        if json:
            print_json(rows)
            return
        columns = ["id", "email", "first_name", "last_name", "points", "tags"]
        columns.append("do_not_contact")
        print_rows(
            columns,
            ([row[column] for column in columns] for row in rows),
            empty="there are none; `onward contacts import FILE` brings some",
        )


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV, or JSON lines.")],
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="Where a column goes; may be repeated. FIELD:TYPE declares a new "
            "custom field, an empty FIELD leaves the column out.",
        ),
    ] = None,
    fire: Annotated[
        bool, typer.Option("--fire", help="Let rules and triggers see it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, keep nothing.")
    ] = False,
    refused: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write refused lines there.")
    ] = None,
) -> None:
    """Import contacts; nothing is pushed unless --fire.

    Ends 0 when every line was taken, 1 when some were refused, 2 when none was.
    """
    from onward.contacts.importing import import_contacts

    mapping: dict[str, str] = {}
    for entry in map_ or ():
        column, mark, field = entry.rpartition("=")
        if not mark:
            raise InputError(f'"{entry}" maps nothing; write --map "Column=field"')
        mapping[column] = field
    if refused is not None:
        _check_writable(refused)
    with open_app(ctx) as app_, progress(f"importing {file.name}") as advance:
        read = 0

        def on_progress(position: int, size: int, so_far: ImportSummary) -> None:
            nonlocal read
            advance(so_far.taken + so_far.refused - read)
            read = so_far.taken + so_far.refused

        try:
            summary = import_contacts(
                app_.runtime,
                file,
                mapping=mapping,
                fire=fire,
                dry_run=dry_run,
                on_progress=on_progress,
            )
        except InputError as error:
            # Not a single line was taken, and that is status 2.
            report(error)
            raise typer.Exit(2) from None
    _tell(summary, dry_run=dry_run)
    if refused is not None:
        say(f"wrote {summary.write_refused(refused)} refused lines to {refused}")
    raise typer.Exit(summary.exit_code)


def _check_writable(path: Path) -> None:
    """Find out before the import, not after it, and leave no empty file behind."""
    there = path.exists()
    try:
        with path.open("a", encoding="utf-8"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _tell(summary: ImportSummary, *, dry_run: bool) -> None:
    for header, why in summary.ignored.items():
        note(f"column {cell(header)} left out{f': {why}' if why else ''}")
    for remark in summary.notes:
        note(remark)
    for line, reason, _ in summary.problems[:SHOWN]:
        note(f"line {line}: {reason}")
    more = summary.refused - min(len(summary.problems), SHOWN)
    if more > 0:
        note(f"… and {more} more refused lines; --refused FILE writes them down")
    if not summary.taken and not summary.refused:
        note("there is no contact in it")
    if dry_run:
        say("dry run: nothing was kept")
    for name, count in summary.counts.items():
        say(f"{name}: {count}")


@app.command("show")
def show(
    ctx: typer.Context,
    email: person.Email = "",
    visitor: person.Visitor = "",
    json: Json = False,
) -> None:
    """Show everything that is known of a contact."""
    from onward.contacts.showing import show_contact

    who, kind = person.one_person(email, visitor)
    with open_runtime(ctx) as runtime:
        shown = show_contact(runtime, who, kind=kind)
    if json:
        print_document(shown)
        return
    for name, value in shown.items():
        histories = _rows(value)
        if not histories:
            print_facts([(name, _short(value))])
            continue
        say(f"{name}:")
        for row in histories:
            words = (f"{k} {_short(v)}" for k, v in row.items() if _short(v))
            say("  " + ", ".join(words))


def _rows(value: object) -> list[dict[str, object]]:
    """Return the rows of a history, none when it is something else."""
    if not isinstance(value, list):
        return []
    rows = cast("list[object]", value)
    return [cast("dict[str, object]", row) for row in rows if isinstance(row, dict)]


def _short(value: object) -> str:
    if isinstance(value, dict):
        table = cast("dict[object, object]", value)
        return ", ".join(f"{cell(k)}={_short(v)}" for k, v in table.items())
    if isinstance(value, list):
        return ", ".join(map(_short, cast("list[object]", value)))
    return cell(value)


@app.command("export")
def export(
    ctx: typer.Context,
    json: AsJson = False,
    output: Output = "",
    bom: Bom = False,
) -> None:
    """Write every contact as CSV, which an import takes back, or as JSON."""
    from onward.contacts.exporting import export_rows

    with open_runtime(ctx) as runtime:
        write_contacts(runtime, export_rows(runtime), output, json=json, bom=bom)


def write_contacts(
    runtime: Runtime,
    rows: Iterable[Mapping[str, Any]],
    output: str,
    *,
    json: bool,
    bom: bool,
) -> None:
    """Write contacts to a file, or to stdout when none is named."""
    from onward.contacts.exporting import export_csv
    from onward.contacts.writing import write_json

    if not output:
        if json:
            print_json(rows)
        else:
            export_csv(runtime, sys.stdout, rows=rows, bom=bom)
        return
    try:
        with Path(output).open("w", encoding="utf-8", newline="") as stream:
            if json:
                count = write_json(stream, rows)
            else:
                count = export_csv(runtime, stream, rows=rows, bom=bom)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from error
    say(f"wrote {count} contacts to {output}")


@app.command("suppress")
def suppress(
    ctx: typer.Context,
    email: Email,
    reason: Annotated[str, typer.Option(help="Why, in words.")] = "",
) -> None:
    """Never push this address again, anywhere, until it consents."""
    with open_app(ctx) as app_:
        app_.suppress(email, reason=reason, actor=user())
    say(f"{email.strip()} is not pushed any more")


@app.command("consent")
def consent(
    ctx: typer.Context,
    email: Email,
    how: Annotated[
        str, typer.Option(help="How they said so: 'form \"newsletter\"', by phone.")
    ],
    who: Annotated[str, typer.Option(help="Who says that; default: you.")] = "",
) -> None:
    """Record that somebody allowed it; only that lifts an opt-out."""
    with open_app(ctx) as app_:
        lifted = app_.consent(email, how=how, who=who or user())
    say(f"recorded; it lifted {lifted} opt-out{'s' * (lifted != 1)}")


@app.command("erase")
def erase(
    ctx: typer.Context,
    email: Email,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_remote: Annotated[
        bool, typer.Option("--keep-remote", help="Leave the services as they are.")
    ] = False,
    json: Json = False,
) -> None:
    """Erase what is known of somebody, here and in services; opt-outs stay, as hashes.

    Killed, the same command finishes it; to erase again is harmless. Ends 1 when old
    bytes may still lie in the database file, and says what to do.
    """
    from onward.cli.erasing import as_document, lines, say_what_it_takes
    from onward.contacts.erasing import erase_contact
    from onward.migrate import backups_of

    with open_runtime(ctx) as runtime:
        if interactive() and not yes:
            typer.confirm(f"Erase {email} for good?", abort=True)
        say_what_it_takes(runtime)
        with progress("erasing"):
            done = erase_contact(runtime, email, user(), keep_remote=keep_remote)
        backups = backups_of(runtime.database)
    if json:
        print_document(as_document(done, backups))
    else:
        for line in lines(email.strip(), done, backups):
            say(line)
    if done.compacted is not None and not done.compacted.is_done:
        raise typer.Exit(1)
