"""`onward doctor` and `onward diagnose`: what is wrong, and a bundle for support."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from onward.cli.opening import logging_to_stderr, open_app, options_of
from onward.cli.printing import print_json, say


def doctor(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Check configuration, database, plugins and connections; asks no service."""
    from onward.doctor import examine

    # What is logged on the way is among the checks.
    with logging_to_stderr(logging.CRITICAL):
        checks = examine(options_of(ctx).path(), os.environ)
    if json:
        print_json(check.document for check in checks)
    else:
        for check in checks:
            say(f"{check.level.upper():8} {check.name}: {check.message}")
            if check.advice:
                say(f"{'':8} → {check.advice}")
    if any(check.level == "problem" for check in checks):
        raise typer.Exit(1)


def diagnose(
    ctx: typer.Context,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")
    ] = "",
) -> None:
    """Write a bundle for support: no secrets, no e-mail addresses."""
    from onward.diagnose import write_bundle

    with open_app(ctx) as app:
        runtime = app.runtime
        name = f"onward-diagnose-{runtime.clock():%Y%m%d-%H%M%S}.json"
        path = Path(output or name)
        write_bundle(runtime, path)
    say(f"wrote {path}; read it before you send it")
