"""`onward deliveries`: what became of pushes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from onward.cli import filters, replaying
from onward.cli.opening import open_runtime
from onward.cli.printing import (
    cell,
    print_document,
    print_facts,
    print_json,
    print_rows,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import RowMapping

app = typer.Typer(help="What became of pushes, and why.")
app.command("replay")(replaying.replay)
app.command("cancel")(replaying.cancel)
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback()
def deliveries() -> None:
    """What became of pushes, and why."""


def _document(
    row: RowMapping,
    removed: Mapping[int, str],
    names: Mapping[tuple[int, str], str] | None = None,
) -> dict[str, Any]:
    """Return a delivery, with names for what is not there: segment, connection.

    Args:
        removed: id of a connection that was removed → what it was called.
        names: (connection, id of a remote segment) → its name, for people.
    """
    from onward.delivery.listing import delivery_document
    from onward.why.waiting import shown_segment

    found = delivery_document(row)
    shown = shown_segment(row["segment"], ())
    found["segment"] = (names or {}).get((row["connection_id"], shown), shown)
    found["connection"] = found["connection"] or removed.get(row["connection_id"], "")
    return found


@app.command("list")
def list_(
    ctx: typer.Context,
    state: filters.State = "",
    code: filters.Code = "",
    connection: filters.Connection = "",
    email: filters.Email = "",
    since: filters.Since = "",
    until: filters.Until = "",
    rule: filters.Rule = "",
    cause: filters.Cause = "",
    json: Json = False,
) -> None:
    """List pushes, the oldest first."""
    from onward.connections.remove import removed_names
    from onward.delivery.listing import list_deliveries, segment_names

    with open_runtime(ctx) as runtime:
        wanted = filters.wanted(ctx, runtime)
        with runtime.database.read() as transaction:
            removed = removed_names(transaction)
            names = None if json else segment_names(transaction)
            found = (
                _document(row, removed, names)
                for row in list_deliveries(transaction, wanted)
            )
            if json:
                print_json(found)
                return
            columns = [
                "id",
                "state",
                "code",
                "connection",
                "email",
                "segment",
                "tries",
                "due_at",
                "created_at",
                "finished_at",
                "reason",
            ]
            print_rows(
                columns,
                ([one[column] for column in columns] for one in found),
                empty="there are none",
            )


@app.command("show")
def show(
    ctx: typer.Context,
    id_: Annotated[int, typer.Argument(metavar="ID")],
    json: Json = False,
) -> None:
    """Show one push: its causes, every try, and what the service answered."""
    from dataclasses import replace

    from onward.connections.remove import removed_names
    from onward.delivery.listing import (
        cause_words,
        read_deliveries,
        segment_names,
        show_delivery,
    )

    with open_runtime(ctx) as runtime, runtime.database.read() as transaction:
        shown = show_delivery(transaction, id_)
        [row] = read_deliveries(transaction, ids=[id_])
        names = None if json else segment_names(transaction)
        removed = removed_names(transaction)
        shown = replace(shown, delivery=_document(row, removed, names))
    if json:
        print_document(shown.document)
        return
    print_facts(shown.delivery.items())
    for cause in shown.causes:
        what = cause_words(cause["kind"], cause["key"], cause["replay_of"])
        say(f"because: {cell(cause['at'])} {what}")
    for replay in shown.replays:
        say(f"replayed: by push {replay}")
    for outcome in shown.outcomes:
        words = [outcome["kind"], outcome["code"], outcome["reason"]]
        say(f"{cell(outcome['at'])} {' · '.join(cell(w) for w in words if w)}")
    for attempt in shown.attempts:
        head = f"attempt {attempt['id']}, {cell(attempt['started_at'])}"
        say(f"{head}, {attempt['kind']} of {attempt['size']}")
        if attempt["error"]:
            say(f"  {cell(attempt['error'])}")
        for exchange in attempt["exchanges"]:
            answer = exchange.get("status") or exchange.get("error") or "no answer"
            say(f"  {exchange.get('method')} {exchange.get('url')} → {cell(answer)}")
