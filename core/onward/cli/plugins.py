"""`onward plugins`: what was loaded, and why not."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from onward.cli.opening import logging_to_stderr, options_of
from onward.cli.printing import print_json, print_rows

app = typer.Typer(help="What plugins there are, and why one is not loaded.")


@app.callback()
def plugins() -> None:
    """What plugins there are, and why one is not loaded."""


@app.command("list")
def list_(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List every plugin that was found."""
    from onward.config import load_config
    from onward.plugins import load_plugins

    path = options_of(ctx).path()
    config = load_config(path, os.environ, connections_elsewhere=None)
    # Why one was not loaded is in the list.
    with logging_to_stderr(logging.CRITICAL):
        found = load_plugins(
            folder=config.plugins_dir,
            disabled=config.plugins_disabled,
            safe_mode=bool(os.environ.get("ONWARD_SAFE_MODE")),
        )
    if json:
        print_json(
            {
                "name": plugin.name,
                "source": plugin.source,
                "integrations": list(plugin.integrations),
                "problem": plugin.problem,
            }
            for plugin in found.loaded
        )
        return
    print_rows(
        ["plugin", "integrations", "from", "problem"],
        (
            [plugin.name, plugin.integrations, plugin.source, plugin.problem]
            for plugin in found.loaded
        ),
        empty="no plugin is installed",
    )
