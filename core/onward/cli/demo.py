"""`onward demo`: an integration's own demonstration, with its simulator."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from onward.errors import InputError

if TYPE_CHECKING:
    from onward.plugins import Plugins


def demo(
    integration: Annotated[
        str,
        typer.Argument(
            metavar="[INTEGRATION]", help="Default: the first that has one."
        ),
    ] = "",
) -> None:
    """Show the main job against a simulated service, and check the result.

    Uses a database in a temporary folder; nothing of yours is read or written.
    """
    from onward.plugins import load_plugins

    run = import_demo(load_plugins(), integration)
    if not run(typer.echo):
        raise typer.Exit(1)


def import_demo(plugins: Plugins, key: str) -> Callable[[Callable[[str], None]], bool]:
    """Return the function that an integration declares as its demonstration.

    Raises:
        InputError: it has none.
        PluginError: there is no such integration.
    """
    if key:
        wanted = plugins.integration(key).demo
    else:
        found = sorted(plugins.integrations.items())
        wanted = next((kind.demo for _, kind in found if kind.demo), "")
    if not wanted:
        raise InputError(
            f"{key or 'none of the integrations'} has no demonstration; "
            "`onward plugins` lists what is loaded"
        )
    module, _, name = wanted.partition(":")
    run: Callable[[Callable[[str], None]], bool] = getattr(import_module(module), name)
    return run
