"""`onward push --audience`: push everybody in an audience."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from onward.cli.audiences import parse_conditions
from onward.cli.printing import interactive, note, print_document, progress, say
from onward.cli.push import print_preview
from onward.cli.quota import backfill_lines
from onward.cli.replaying import print_refused
from onward.cli.stopping import ending_well
from onward.errors import InputError

if TYPE_CHECKING:
    from onward.app import Onward
    from onward.audiences.pushed import Pushed


def push_audience(
    app: Onward,
    key: str,
    conditions: str,
    to: str,
    segment: str,
    *,
    dry_run: bool,
    force: bool,
    yes: bool,
    cancel: bool,
    json: bool,
) -> None:
    """Do what the command says: show, ask and push, or cancel.

    Raises:
        InputError: somebody should be asked, and nobody is there.
    """
    what: str | Sequence[object] = key or parse_conditions(conditions)
    if cancel:
        from onward.audiences.push import cancel_push

        name = key or "these conditions"
        found = cancel_push(app.runtime, what, to=to, segment=segment or None)
        note(f"{name}: cancelled" if found else f"{name}: no push of it is running")
        return
    if not dry_run and not yes and (json or not interactive()):
        raise InputError(
            "nobody can be asked here: add --yes to push without being asked, or "
            "--dry-run to see whom it would push"
        )
    if dry_run or not yes:
        with progress("looking") as advance:
            seen = app.push_audience(
                what, to=to, segment=segment, dry_run=True, on_progress=advance
            )
        if dry_run and json:
            print_document(seen.document)
            return
        _print_preview(app, seen)
        if dry_run or not seen.count:
            return
        typer.confirm(f"Push {_contacts(seen.count)}?", abort=True)
    with progress("pushing") as advance, ending_well() as stop:
        done = app.push_audience(
            what,
            to=to,
            segment=segment,
            force=force,
            on_progress=advance,
            stopping=stop.came,
        )
    if json:
        print_document(done.document)
    else:
        _print_done(done)
    if done.stopped:
        raise typer.Exit(128 + stop.number)


def _print_preview(app: Onward, seen: Pushed) -> None:
    say(f"members: {seen.members:,}")
    say(f"would be pushed to {seen.to}: {seen.count:,}")
    print_refused(seen.refused)
    if not seen.count:
        return
    for line in backfill_lines(app.runtime, [seen.to], seen.count):
        say(line)
    if seen.no_sample:
        say(f"no request can be shown: {seen.no_sample}")
    elif seen.sample is not None:
        say("for example:")
        print_preview(seen.sample)


def _print_done(done: Pushed) -> None:
    say(f"queued for {done.to}: {done.count:,}")
    print_refused(done.refused)
    if done.cancelled or done.stopped:
        end = "cancelled" if done.cancelled else "stopped"
        more = "" if done.cancelled else "; the same command goes on there"
        note(f"{end} after {done.members:,} of {done.total:,} members{more}")
    elif done.count:
        note("a worker or `onward deliver` sends them")


def _contacts(count: int) -> str:
    return "1 contact" if count == 1 else f"{count:,} contacts"
