"""`onward errands`: who is to be unsubscribed or erased in a service."""

from __future__ import annotations

from typing import Annotated

import typer

from onward.cli.opening import open_runtime
from onward.cli.printing import print_json, print_rows, say
from onward.cli.user import user

app = typer.Typer(help="Who is to be unsubscribed or erased in a service.")
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Ids = Annotated[list[int], typer.Argument(metavar="ID…")]


@app.callback()
def errands() -> None:
    """Who is to be unsubscribed or erased in a service."""


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[
        str, typer.Option(help="waiting, sending, done, failed or cancelled.")
    ] = "",
    connection: Annotated[str, typer.Option(help="Of this connection.")] = "",
    json: Json = False,
) -> None:
    """List errands, the oldest first."""
    from onward.errands.listing import COLUMNS, list_errands

    with open_runtime(ctx) as runtime, runtime.database.read() as transaction:
        found = list_errands(transaction, state=state, connection=connection)
        if json:
            print_json(found)
            return
        print_rows(COLUMNS, ([one[column] for column in COLUMNS] for one in found))


@app.command("retry")
def retry(ctx: typer.Context, ids: Ids) -> None:
    """Let errands that were given up begin anew."""
    from onward.errands.listing import try_again

    with open_runtime(ctx) as runtime:
        now = runtime.clock()
        runtime.database.run(lambda transaction: try_again(transaction, ids, now))
    say(f"{len(ids)} wait again; a worker or `onward deliver` does them")


@app.command("done")
def done(ctx: typer.Context, ids: Ids) -> None:
    """Say that you did errands by hand that were given up."""
    from onward.errands.listing import note_by_hand

    with open_runtime(ctx) as runtime:
        who, now = user(), runtime.clock()
        runtime.database.run(lambda t: note_by_hand(t, ids, who, now))
    say(f"noted; {len(ids)} done by hand")
