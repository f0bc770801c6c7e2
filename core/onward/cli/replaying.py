"""`onward deliveries replay` and `cancel`: again, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli import filters
from onward.cli.opening import open_app
from onward.cli.printing import interactive, note, print_document, progress, say
from onward.cli.user import user
from onward.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onward.app import Onward
    from onward.delivery.cancel import Cancelled
    from onward.delivery.picking import What
    from onward.delivery.refusing import Refused
    from onward.replay import Replayed, Sample
    from onward.runtime import Runtime

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be done.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def replay(
    ctx: typer.Context,
    ids: Ids = None,
    state: filters.State = "",
    code: filters.Code = "",
    connection: filters.Connection = "",
    email: filters.Email = "",
    since: filters.Since = "",
    until: filters.Until = "",
    rule: filters.Rule = "",
    cause: filters.Cause = "",
    dry_run: DryRun = False,
    show: Annotated[
        int, typer.Option(min=0, help="Of so many rows the differences are shown.")
    ] = 10,
    force: Annotated[
        bool,
        typer.Option("--force", help="Send even what seems unchanged; opt-outs hold."),
    ] = False,
    yes: Yes = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted replay.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop a replay; what it queued stays queued.")
    ] = False,
    json: Json = False,
) -> None:
    """Queue failed, skipped or cancelled pushes again.

    They go as their contacts and the map are then, after a preview. By number they go
    before back-fills; by filter they are a back-fill, which goes on where it stopped
    when it is interrupted and called again.
    """
    from onward.replay import interrupted, preview_replay, stop_replay

    with open_app(ctx) as app:
        if stop:
            stopped = stop_replay(app.runtime)
            note("stopped" if stopped else "no replay runs, and none was interrupted")
            return
        if resume:
            job = interrupted(app.runtime)
            if job is None:
                raise InputError("no replay was interrupted")
            if ids or filters.given(ctx):
                raise InputError(
                    "--resume goes on with the filter of the interrupted replay; leave "
                    "numbers and filters out"
                )
            what: What = job.wanted
            force = job.force
        else:
            what = _what(ctx, app.runtime, ids, "replay")
        if dry_run or _must_ask(yes=yes, json=json, command="replay"):
            with progress("looking") as advance:
                seen = preview_replay(app.runtime, what, show=show, on_progress=advance)
            if dry_run and json:
                print_document(seen.document)
                return
            _print_preview(seen)
            if dry_run:
                return
            if not seen.count:
                raise typer.Exit(1 if ids else 0)
            typer.confirm(f"Replay {_rows(seen.count)}?", abort=True)
        _replay(app, what, force=force, json=json)


def _replay(app: Onward, what: What, *, force: bool, json: bool) -> None:
    with progress("replaying") as advance:
        done = app.replay(what, force=force, on_progress=advance)
    if json:
        print_document(done.document)
    else:
        say(f"replayed: {done.count}")
        print_refused(done.refused)
        if done.stopped:
            note(f"stopped after {done.looked:,} of {_rows(done.total)}")
        elif done.count:
            note("a worker or `onward deliver` sends it")
    _end(what, done.refused)


def cancel(
    ctx: typer.Context,
    ids: Ids = None,
    state: filters.State = "",
    code: filters.Code = "",
    connection: filters.Connection = "",
    email: filters.Email = "",
    since: filters.Since = "",
    until: filters.Until = "",
    rule: filters.Rule = "",
    cause: filters.Cause = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Take back pushes that wait; what is being sent cannot be taken back."""
    with open_app(ctx) as app:
        what = _what(ctx, app.runtime, ids, "cancel")
        if dry_run or _must_ask(yes=yes, json=json, command="cancel"):
            seen = app.cancel(what, dry_run=True)
            if dry_run and json:
                print_document(seen.document)
                return
            _print_cancelled(seen)
            if dry_run:
                return
            if not seen.count:
                raise typer.Exit(1 if ids else 0)
            typer.confirm(f"Cancel {_rows(seen.count)}?", abort=True)
        with progress("cancelling") as advance:
            done = app.cancel(what, reason=reason, actor=user(), on_progress=advance)
        if json:
            print_document(done.document)
        else:
            _print_cancelled(done)
        _end(what, done.refused)


def _what(
    ctx: typer.Context, runtime: Runtime, ids: Sequence[int] | None, verb: str
) -> What:
    """Return which rows are meant.

    Raises:
        InputError: nothing is given, or both numbers and a filter.
    """
    from onward.delivery.picking import check_named

    given = filters.given(ctx)
    if ids and given:
        raise InputError(f"give numbers or --{next(iter(given))}, not both")
    what = list(ids) if ids else filters.wanted(ctx, runtime)
    check_named(what, verb)
    return what


def _must_ask(*, yes: bool, json: bool, command: str) -> bool:
    """Tell whether somebody is to be asked.

    Raises:
        InputError: they should be, and nobody is there.
    """
    if yes:
        return False
    if json or not interactive():
        raise InputError(
            f"nobody can be asked here: add --yes to {command} without being asked, or "
            "--dry-run to see what it would do"
        )
    return True


def _end(what: What, refused: Refused) -> None:
    """End as failed where a row that was named was left alone."""
    if isinstance(what, list) and refused.total:
        raise typer.Exit(1)


# -- words


def _rows(count: int) -> str:
    return "1 push" if count == 1 else f"{count:,} pushes"


def print_refused(refused: Refused) -> None:
    """Say how many were left alone, and why the first of each kind was."""
    for one in refused.document:
        example = "" if one["count"] == 1 else "for example "
        say(f"left alone, {one['code']}: {one['count']} ({example}{one['reason']})")


def _print_cancelled(done: Cancelled) -> None:
    say(f"{'would be cancelled' if done.dry_run else 'cancelled'}: {done.count}")
    if done.arrived:
        word = "was" if done.arrived == 1 else "were"
        say(f"of them {done.arrived} {word} sent before and may have arrived")
    print_refused(done.refused)


def _print_preview(seen: Replayed) -> None:
    say(f"would be replayed: {seen.count}")
    print_refused(seen.refused)
    for sample in seen.samples:
        _print_sample(sample)
    if seen.more:
        say(f"and {seen.more:,} more; --show N shows as many")


def _print_sample(sample: Sample) -> None:
    ended = f"{sample.code}: {sample.reason}" if sample.reason else sample.code
    who = sample.email or f"contact {sample.contact_id}"
    say(f"push {sample.id}, {who} to {sample.connection}, ended {ended}")
    if sample.ends:
        say(f"  would end {sample.ends}: {sample.why}")
    elif sample.why:
        say(f"  {sample.why}")
    elif not sample.changes:
        say("  the same would be sent as the last time")
    for change in sample.changes:
        before = "nothing known" if change.before is None else f'"{change.before}"'
        now = "left out" if change.now is None else f'"{change.now}"'
        say(f"  {change.field}: {before} → {now}")
    for warning in sample.warnings:
        say(f"  warning: {warning}")
