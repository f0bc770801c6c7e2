"""`onward segments`, `fields` and `map`: what a connected account has."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_runtime
from onward.cli.printing import note, print_json, print_rows, say

if TYPE_CHECKING:
    from onward.api import Api
    from onward.connections.open import Opened
    from onward.runtime import Runtime

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the connection.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def segments(ctx: typer.Context, name: Name, json: Json = False) -> None:
    """List the remote segments (lists, groups) of an account, as they are now."""
    from onward.connections.state import read_segments

    with open_runtime(ctx) as runtime, _asking(runtime, name) as (opened, api):
        with runtime.database.read() as transaction:
            paused = {
                id_: why
                for id_, _, why in read_segments(transaction, opened.state.id)
                if why
            }
        wished = opened.state.segment_id or opened.state.segment
        found = {one.id: one for one in opened.integration.segments(api)}
        rows = [
            {
                "id": one.id,
                "name": one.name,
                "chosen": wished in (one.id, one.name),
                "paused_why": paused.get(one.id, ""),
            }
            for one in found.values()
        ]
    if json:
        print_json(rows)
        return
    print_rows(
        ["id", "name", "chosen", "held because"],
        (
            [r["id"], r["name"], "yes" if r["chosen"] else "", r["paused_why"]]
            for r in rows
        ),
        empty="the account has none",
    )


def fields(ctx: typer.Context, name: Name, json: Json = False) -> None:
    """List the fields a contact has in an account, and what fills each."""
    from onward.connections.open import read_map
    from onward.contract import RemoteSegment

    with open_runtime(ctx) as runtime, _asking(runtime, name) as (opened, api):
        of = opened.state.segment_id
        segment = RemoteSegment(of, of) if of else None
        filled = {
            remote: entry.value
            for remote, entry in read_map(runtime, opened.state).entries.items()
        }
        rows = [
            {
                "name": one.name,
                "title": one.title,
                "type": one.type,
                "required": one.required,
                "max_length": one.max_length,
                "choices": list(one.choices),
                "filled_from": filled.get(one.name, ""),
            }
            for one in opened.integration.fields(api, segment)
        ]
    if json:
        print_json(rows)
        return
    print_rows(
        ["field", "title", "type", "required", "longest", "choices", "filled from"],
        (
            [
                row["name"],
                row["title"],
                row["type"],
                "yes" if row["required"] else "",
                row["max_length"],
                row["choices"],
                row["filled_from"],
            ]
            for row in rows
        ),
    )


def show_map(
    ctx: typer.Context,
    name: Name,
    preview: Annotated[
        str, typer.Option(metavar="EMAIL", help="Show the request for this contact.")
    ] = "",
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Suggest a map from the fields' names.")
    ] = False,
) -> None:
    """Show the field map of a connection, checked against the account."""
    from onward.cli.push import print_preview
    from onward.connections.open import bind_map, known_contact_fields, read_map
    from onward.connections.state import named
    from onward.fieldmap import FieldMap
    from onward.fieldmap import suggest as suggest_
    from onward.preview import preview as preview_

    with open_runtime(ctx) as runtime:
        if preview:
            print_preview(preview_(runtime, name, preview))
            return
        if suggest:
            with _asking(runtime, name) as (opened, api):
                remote = list(opened.integration.fields(api, None))
            found = suggest_(remote, known_contact_fields(runtime))
            made = FieldMap.parse({"fields": found}, source=f"suggestion for {name}")
            say(made.toml.rstrip())
            left = [one.name for one in remote if one.name not in found]
            if left:
                note(f"not mapped: {', '.join(left)}")
            return
        with runtime.database.read() as transaction:
            state = named(transaction, name)
        read = read_map(runtime, state)
        say(read.toml.rstrip())
        note(f"from {read.source}")
        if state.remote_fields:
            bind_map(runtime, state)
        else:
            note(
                "not held against the account yet: "
                f"`onward connections test {name}` does it"
            )


@contextmanager
def _asking(runtime: Runtime, name: str) -> Generator[tuple[Opened, Api], None, None]:
    """Open a connection and a client for it."""
    from onward.connections.open import open_connection
    from onward.connections.state import named

    with runtime.database.read() as transaction:
        state = named(transaction, name)
    opened = open_connection(runtime, state)
    yield opened, opened.api(runtime)
