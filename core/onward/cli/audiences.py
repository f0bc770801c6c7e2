"""`onward audiences`: saved filters over contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from onward.cli.contacts import AsJson, Bom, Output, write_contacts
from onward.cli.opening import open_runtime
from onward.cli.printing import (
    cell,
    note,
    print_document,
    print_facts,
    print_json,
    print_rows,
    progress,
    say,
)
from onward.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onward.audiences.resolve import Question
    from onward.runtime import Runtime

app = typer.Typer(help="Saved filters over contacts, counted and pushed.")
Key = Annotated[str, typer.Argument(metavar="KEY", help="Of the audience.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback()
def audiences() -> None:
    """Saved filters over contacts, counted and pushed."""


@app.command("list")
def list_(
    ctx: typer.Context,
    count: Annotated[
        bool, typer.Option("--count", help="Count all members, however many.")
    ] = False,
    json: Json = False,
) -> None:
    """List every audience."""
    from onward.audiences.listing import COUNTED, list_audiences, open_book

    with open_runtime(ctx) as runtime, progress("counting") as advance:
        most = None if count else COUNTED
        found = list(list_audiences(runtime, most=most, on_progress=advance))
        hidden = open_book(runtime).hidden
    if json:
        print_json(found)
        return
    for key in sorted(hidden):
        note(f"{key}: the one in onward.toml counts; the stored one is hidden by it")
    print_rows(
        ["key", "name", "members", "source", "if"],
        (
            [row["key"], row["name"], _members(row), row["source"], _shown(row)]
            for row in found
        ),
        empty="there is none; `onward audiences add KEY --if …` makes one",
    )


@app.command("add")
def add(
    ctx: typer.Context,
    key: Key,
    if_: Annotated[
        str,
        typer.Option(
            "--if",
            metavar="JSON",
            help='Who is in it: \'[["country", "is", "NL"]]\'.',
        ),
    ],
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Change the one there is.")
    ] = False,
    json: Json = False,
) -> None:
    """Save a filter."""
    from onward.audiences.keeping import save_audience
    from onward.audiences.listing import list_audiences

    with open_runtime(ctx) as runtime, progress(f"counting {key}") as advance:
        save_audience(runtime, key, name, parse_conditions(if_), replace=replace)
        keys = frozenset({key})
        [row] = list_audiences(runtime, keys=keys, on_progress=advance)
    if json:
        print_document(row)
        return
    say(f"{key}: saved; members: {_members(row)}")


@app.command("show")
def show(
    ctx: typer.Context,
    key: Key,
    limit: Annotated[int, typer.Option(min=0, help="So many members are shown.")] = 10,
    json: Json = False,
) -> None:
    """Show an audience and the first of its members."""
    from onward.audiences.listing import list_audiences
    from onward.audiences.members import preview_members

    with open_runtime(ctx) as runtime, progress(f"counting {key}") as advance:
        question = _question(runtime, key)
        keys = frozenset({key})
        [row] = list_audiences(runtime, keys=keys, on_progress=advance)
        members = preview_members(runtime, question, limit)
    if json:
        print_document({**row, "preview": members})
        return
    print_facts(
        [
            ("key", key),
            ("name", row["name"]),
            ("source", row["source"]),
            ("if", _shown(row)),
            ("members", _members(row)),
        ]
    )
    if members:
        print_rows(list(members[0]), (list(one.values()) for one in members))


@app.command("count")
def count(
    ctx: typer.Context,
    key: Key,
    limit: Annotated[
        int, typer.Option(min=0, help="Stop when there are more; 0 = count all.")
    ] = 0,
    json: Json = False,
) -> None:
    """Count the members."""
    from onward.audiences.members import count_members

    with open_runtime(ctx) as runtime:
        question = _question(runtime, key)
        with progress(f"counting {key}") as advance:
            found = count_members(
                runtime, question, most=limit or None, on_progress=advance
            )
    more = bool(limit) and found > limit
    row = {"key": key, "members": limit if more else found, "more": more}
    if json:
        print_document(row)
        return
    say(_members(row))


@app.command("export")
def export(
    ctx: typer.Context,
    key: Key,
    json: AsJson = False,
    output: Output = "",
    bom: Bom = False,
) -> None:
    """Write the members as `contacts export` writes every contact."""
    from onward.audiences.members import export_members

    with open_runtime(ctx) as runtime:
        rows = export_members(runtime, _question(runtime, key))
        write_contacts(runtime, rows, output, json=json, bom=bom)


@app.command("remove")
def remove(ctx: typer.Context, key: Key) -> None:
    """Forget an audience; its members stay as they are."""
    from onward.audiences.keeping import remove_audience

    with open_runtime(ctx) as runtime:
        remains = remove_audience(runtime, key)
    rest = "; the one in onward.toml stays" if remains else ""
    say(f"{key}: removed{rest}")


def parse_conditions(text: str) -> Sequence[object]:
    """Return the conditions somebody typed.

    Raises:
        InputError: they are no JSON array.
    """
    import orjson

    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, list):
        raise InputError(
            "--if takes conditions as JSON, with brackets around all and each: "
            """'[["country", "is", "NL"]]'"""
        )
    return cast("list[object]", found)


def _question(runtime: Runtime, key: str) -> Question:
    from onward.audiences.listing import open_book

    return open_book(runtime).question(key)


def _members(row: dict[str, Any]) -> str:
    if row["members"] is None:
        return str(row["problem"])
    return f"{row['members']}{'+' if row['more'] else ''}"


def _shown(row: dict[str, Any]) -> str:
    import orjson

    return orjson.dumps(row["if"], default=cell).decode()
