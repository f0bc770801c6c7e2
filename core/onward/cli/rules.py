"""`onward rules`: what happens when a contact does something."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_runtime, options_of
from onward.cli.printing import note, print_json, print_rows, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onward.config import PushTo, Repeat

app = typer.Typer(help="What happens when a contact does something.")


@app.callback()
def rules() -> None:
    """What happens when a contact does something."""


@app.command("list")
def list_(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List every rule."""
    with open_runtime(ctx) as runtime:
        found = [
            {
                "key": rule.key,
                "when": rule.when,
                "if": rule.conditions.plain(),
                "push_to": targets(rule.push_to),
                "points": rule.points,
                "add_to": list(rule.add_to),
                "repeat": _repeat(rule.repeat),
                "enabled": rule.enabled,
            }
            for rule in runtime.config.rules
        ]
    if json:
        print_json(found)
        return
    columns = ["key", "when", "if", "push_to", "points", "add_to", "repeat", "enabled"]
    print_rows(
        columns,
        ([row[column] for column in columns] for row in found),
        empty="there is no rule; they are written in onward.toml",
    )


def targets(push_to: Sequence[PushTo]) -> list[str]:
    """Return where somebody is pushed to, as `acme` or `acme: VIP`."""
    return [
        to.connection
        if to.segment is None
        else f"{to.connection}: {to.segment or 'no segment'}"
        for to in push_to
    ]


def _repeat(repeat: Repeat) -> str:
    if isinstance(repeat, timedelta):
        return f"after {repeat}"
    return repeat


@app.command("check")
def check(ctx: typer.Context) -> None:
    """Check that the rules can work; ends 1 when one cannot."""
    import os

    from onward.config import check_config
    from onward.doctor import (
        connections_elsewhere,
        lists_nobody_has,
        names_nobody_has,
    )

    path = options_of(ctx).path()
    elsewhere = connections_elsewhere(path, os.environ)
    problems = check_config(path, os.environ, connections_elsewhere=elsewhere)
    problems += names_nobody_has(path, os.environ)
    for problem in problems:
        note(f"{path.name if path else 'environment'}: {problem}")
    if any(problem.stops for problem in problems):
        raise typer.Exit(1)
    missing = lists_nobody_has(path, os.environ)
    for sentence in missing:
        note(sentence)
    if missing:
        raise typer.Exit(1)
    say("the rules can work")
