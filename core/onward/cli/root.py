"""All commands, in the order people meet them."""

from __future__ import annotations

from typing import Annotated

import typer

from onward import __version__
from onward.cli import (
    alerts,
    audiences,
    checkup,
    connections,
    contacts,
    database,
    deliveries,
    demo,
    drift,
    errands,
    fire,
    plugins,
    push,
    rules,
    service,
    setup,
    simulate,
    sync,
    triggers,
    why,
    work,
)
from onward.cli.opening import Options

# Plain help: it starts twice as fast, and can be searched and piped.
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"onward {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        str,
        typer.Option(
            envvar="ONWARD_CONFIG", metavar="FILE", help="Instead of ./onward.toml."
        ),
    ] = "",
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error came from.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Push contacts onward to the services you use, and say what became of them."""
    ctx.obj = Options(config)


app.command("init", short_help="Make what is missing to begin.")(setup.init)
app.command("demo", short_help="See the main job, against a fake service.")(demo.demo)
app.command("worker", short_help="Send what is queued, until stopped.")(work.worker)
app.command("deliver", short_help="Send what is due now.")(work.deliver)
app.command("doctor", short_help="Check that all is well.")(checkup.doctor)
app.command("diagnose", short_help="Write a bundle for support.")(checkup.diagnose)
app.add_typer(alerts.app, name="alerts")
app.add_typer(connections.app, name="connections")
app.add_typer(contacts.app, name="contacts")
app.add_typer(audiences.app, name="audiences")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(errands.app, name="errands")
app.add_typer(rules.app, name="rules")
app.add_typer(triggers.app, name="triggers")
app.add_typer(plugins.app, name="plugins")
app.add_typer(database.app, name="db")
app.command("segments", short_help="Where contacts can go in an account.")(
    service.segments
)
app.command("fields", short_help="What fields an account has.")(service.fields)
app.command("map", short_help="What is sent, and where it goes.")(service.show_map)
app.command("sync", short_help="Pull a service's contacts.")(sync.sync)
app.command("drift", short_help="What differs there from what we wrote.")(drift.drift)
app.command("why", short_help="Why somebody was pushed, or not.")(why.why)
app.command("fire", short_help="Record that a contact did something.")(fire.fire)
# -10 must reach the command as it was typed, and it looks like an option.
app.command(
    "points",
    short_help="Award points, or take them.",
    context_settings={"ignore_unknown_options": True},
)(fire.points)
app.command("push", short_help="Push contacts by hand.")(push.push)
app.command("simulate", short_help="Serve a fake of a service.")(simulate.simulate)
