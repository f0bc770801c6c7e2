"""The command line; `main` is what `onward` runs.

No module of this package imports anything heavy at its top: `onward --help` must
not wait for a database and an HTTP client. Commands import what they need.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from onward.cli.arguments import arrange
from onward.cli.printing import note
from onward.errors import CredentialsRefused, OnwardError

# Python looks for cycles after 700 new objects, which every batch of contacts makes
# several times over: a tenth of the processor time of a delivery.
COLLECT = (10_000, 20, 20)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status.

    0 = it worked, 1 = it did not and one sentence says why, 2 = it was called
    wrongly.
    """
    if argv is None:  # the process is ours
        gc.set_threshold(*COLLECT)
    command, groups = _commands()
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # A terminal that lacks a letter is no reason to fail.
        reconfigure(errors="replace")
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        command(arrange(given, groups), prog_name="onward")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except OnwardError as error:
        if "--debug" in given:
            raise
        report(error)
        return 1
    except Exception as error:
        if "--debug" in given:
            raise
        # Its text may hold anything, so only its kind is named.
        print(
            f"onward: this is a bug in Onward ({type(error).__name__}); run the same "
            "command with --debug to see where, and report it with the output of "
            "`onward diagnose`",
            file=sys.stderr,
        )
        return 1
    return 0


@cache
def _commands() -> tuple[Any, frozenset[str]]:
    """Return what runs them all, and the groups that can `list`; built once."""
    import typer.main

    from onward.cli.root import app

    groups = {
        group.name
        for group in app.registered_groups
        if group.name
        and group.typer_instance is not None
        and any(c.name == "list" for c in group.typer_instance.registered_commands)
    }
    return typer.main.get_command(app), frozenset(groups)


def report(error: OnwardError) -> None:
    """Print an error as plain lines, never wrapped: people search for them."""
    note(error.message)
    if isinstance(error, CredentialsRefused) and error.hint:
        note(error.hint)
