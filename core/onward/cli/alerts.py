"""`onward alerts`: what somebody should know of, and whether they would be told."""

from __future__ import annotations

from typing import Annotated

import typer

from onward.cli.opening import open_runtime
from onward.cli.printing import print_json, print_rows, say
from onward.errors import ConfigError, ServiceError

app = typer.Typer(help="What somebody should know of, and whom it is told.")


@app.callback()
def alerts() -> None:
    """What somebody should know of, and whom it is told."""


@app.command("list")
def list_(
    ctx: typer.Context,
    only_open: Annotated[
        bool, typer.Option("--open", help="Only what is so now.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List alerts, the newest last; those that are over have an end."""
    from onward.alerts.listing import list_alerts
    from onward.alerts.words import sentence

    with open_runtime(ctx) as runtime, runtime.database.read() as transaction:
        found = list_alerts(transaction, only_open=only_open)
        if json:
            print_json(found)
            return
        columns = ["opened_at", "closed_at", "kind", "connection", "count"]
        print_rows(
            [*columns, "what"],
            (
                [*(one[column] for column in columns), sentence(_as_opened(one))]
                for one in found
            ),
            empty="there is none",
        )


def _as_opened(alert: dict[str, object]) -> dict[str, object]:
    """Return an alert as it was: its end has a column of its own."""
    return {**alert, "closed_at": None}


@app.command("check")
def check(ctx: typer.Context) -> None:
    """Look now and tell; for cron where neither worker nor `deliver` runs.

    Ends 1 when something is wrong, with a line for each.
    """
    from onward.alerts.listing import list_alerts
    from onward.alerts.watch import watch
    from onward.alerts.words import sentence

    with open_runtime(ctx) as runtime:
        watch(runtime)
        with runtime.database.read() as transaction:
            found = list(list_alerts(transaction, only_open=True))
    for one in found:
        say(sentence(one))
    if found:
        raise typer.Exit(1)
    say("nothing is wrong")


@app.command("test")
def try_(ctx: typer.Context) -> None:
    """Send a message to the webhook, and say what came back."""
    from onward.alerts.outbox import new_key
    from onward.alerts.webhook import post
    from onward.alerts.words import body

    with open_runtime(ctx) as runtime:
        config = runtime.config.alerts
        if not config.webhook:
            raise ConfigError(
                "there is no alert webhook, so alerts are only logged; set `webhook` "
                "under [alerts] in onward.toml (`onward doctor` says why one that is "
                "set is not used)"
            )
        said = body([], runtime.clock(), "alert.test")
        said["text"] = "this is a test: Onward can reach you"
        problem = post(runtime, new_key(), said)
        if problem:
            raise ServiceError(
                f"the alert webhook {config.place} took no message: {problem}"
            )
        signed = "signed" if config.key else "not signed"
        say(f"{config.place} took the message, which was {signed}")
