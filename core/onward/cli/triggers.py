"""`onward triggers`: what happens when points reach a number."""

from __future__ import annotations

from typing import Annotated

import typer

from onward.cli.opening import open_app, open_runtime
from onward.cli.printing import (
    note,
    print_json,
    print_rows,
    progress,
    progressing,
    say,
)
from onward.cli.rules import targets
from onward.cli.stopping import ending_well

app = typer.Typer(help="What happens when points reach a number.")
Key = Annotated[str, typer.Argument(metavar="KEY", help="Of the trigger.")]


@app.callback()
def triggers() -> None:
    """What happens when points reach a number."""


@app.command("list")
def list_(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List every point trigger, and for how many contacts it fired."""
    from onward.events.points import count_fired

    with open_runtime(ctx) as runtime:
        with runtime.database.read() as transaction:
            fired = count_fired(transaction, runtime.config.point_triggers)
        found = [
            {
                "key": trigger.key,
                "name": trigger.name,
                "points": trigger.points,
                "push_to": targets(trigger.push_to),
                "add_to": list(trigger.add_to),
                "re_arm": trigger.re_arm,
                "enabled": trigger.enabled,
                "fired": fired.get(trigger.key, 0),
            }
            for trigger in runtime.config.point_triggers
        ]
    if json:
        print_json(found)
        return
    columns = list(found[0]) if found else ["key", "name", "points"]
    print_rows(
        columns,
        (list(row.values()) for row in found),
        empty="there is no point trigger; they are written in onward.toml",
    )


@app.command("apply")
def apply(
    ctx: typer.Context,
    key: Key,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count whom it would fire for.")
    ] = False,
) -> None:
    """Fire a trigger for the contacts that have the points already.

    Says what that costs in calls and when they are done. Interrupted, it goes on
    where it stopped when called again.
    """
    from onward.cli.quota import backfill_lines
    from onward.events.apply import apply_trigger

    with open_app(ctx) as app_:
        runtime = app_.runtime
        total = None
        if dry_run or progressing():
            would = apply_trigger(runtime, key, dry_run=True)
            to = [
                push.connection
                for trigger in runtime.config.point_triggers
                if trigger.key == key
                for push in trigger.push_to
            ]
            total = would.total
            tell = say if dry_run else note
            tell(str(would))
            for line in backfill_lines(runtime, to, total) if total else ():
                tell(line)
        if dry_run:
            return
        with progress(f"applying {key}", total) as advance, ending_well() as stop:
            done = apply_trigger(runtime, key, on_progress=advance, stopping=stop.came)
    say(str(done))
    if done.stopped:
        raise typer.Exit(128 + stop.number)


@app.command("cancel")
def cancel(ctx: typer.Context, key: Key) -> None:
    """Stop a running `apply`; what it queued stays queued."""
    from onward.events.apply import cancel_trigger

    with open_runtime(ctx) as runtime:
        cancelled = cancel_trigger(runtime, key)
    if cancelled:
        say(f"{key}: cancelled")
    else:
        note(f"{key}: no apply is running")
