"""`onward sync`: bring a service's contacts here."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_runtime
from onward.cli.printing import (
    cell,
    note,
    print_document,
    print_json,
    print_rows,
    progressing,
    say,
)
from onward.cli.stopping import ending_well
from onward.errors import InputError
from onward.plain import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from onward.connections.state import State
    from onward.runtime import Runtime
    from onward.sync.run import Progress, Synced

Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def sync(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Of the connection.")
    ] = "",
    full: Annotated[
        bool, typer.Option("--full", help="Apply each row, changed or not.")
    ] = False,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Go on although much would change, this once."),
    ] = False,
    due: Annotated[
        bool, typer.Option("--due", help="Pull all that are due, as a worker does.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Show the last pull; pull nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Pull a service's contacts; without a name, list when each was and will be.

    A worker does it daily by itself. Killed, the same command goes on where it
    stopped; nothing is pushed by it.
    """
    if due and (name or full or accept or report):
        raise InputError("--due pulls all that are due; leave out the rest")
    if not name and (full or accept or report):
        raise InputError("which connection? `onward sync` lists them")
    with open_runtime(ctx) as runtime:
        if due:
            _due(runtime, json=json)
        elif not name:
            _list(runtime, json=json)
        elif report:
            _report(runtime, _state(runtime, name), json=json)
        else:
            _pull(runtime, _state(runtime, name), full=full, accept=accept, json=json)


def _state(runtime: Runtime, name: str) -> State:
    from onward.connections.state import named

    with runtime.database.read() as transaction:
        return named(transaction, name)


def _list(runtime: Runtime, *, json: bool) -> None:
    from onward.sync.report import standings, when_said

    with runtime.database.read() as transaction:
        found = standings(runtime, transaction)
    if json:
        print_json(one.document for one in found)
        return
    now = runtime.clock()
    print_rows(
        ["connection", "schedule", "last", "next", "state"],
        (
            [
                one.state.name,
                one.schedule or "cannot be pulled, or not connected yet",
                one.done.finished_at if one.done else "never",
                when_said(one.plan.due_at, now) if one.plan else "",
                "" if one.last is None else _said(one.last.state, one.last.reason),
            ]
            for one in found
        ),
        empty="there is no connection; `onward connections add` makes one",
    )


def _said(state: str, reason: str) -> str:
    return f"{state}: {reason}" if reason else state


def _due(runtime: Runtime, *, json: bool) -> None:
    from onward.sync.due import pull_due
    from onward.sync.report import synced_document

    with ending_well() as stop:
        done = pull_due(runtime, stopping=stop.came)
    if json:
        print_json(synced_document(synced) for synced in done)
    else:
        for synced in done:
            _tell(runtime, synced)
        if not done:
            say("nothing is due")
    if any(synced.stopped in ("failed", "asks") for synced in done):
        raise typer.Exit(1)
    if stop.number:
        raise typer.Exit(128 + stop.number)


def _pull(
    runtime: Runtime, state: State, *, full: bool, accept: bool, json: bool
) -> None:
    from onward.sync.report import run_document
    from onward.sync.run import Manner
    from onward.sync.run import sync as pull

    with _shown(state.name) as advance, ending_well() as stop:
        manner = Manner(True, True, advance, note, stop.came)
        synced = pull(runtime, state.id, full=full, accept=accept, manner=manner)
    if synced.run is None:
        raise InputError(_refused(state, synced))
    if json:
        print_document(run_document(synced.run, whole=True))
    else:
        _tell(runtime, synced)
        if synced.stopped == "done" and (full or synced.run.why == "first"):
            _spot_check(runtime, state)
    if stop.number:
        raise typer.Exit(128 + stop.number)
    if synced.stopped != "done":
        raise typer.Exit(1)


def _refused(state: State, synced: Synced) -> str:
    if synced.stopped == "paused":
        why = f"{state.name} is paused: {synced.why}"
        return f"{why}; `onward connections resume {state.name}` or a repair ends it"
    if synced.stopped == "busy" and synced.again_at is not None:
        return f"{synced.why}; `onward sync` shows how far it is"
    return synced.why


def _tell(runtime: Runtime, synced: Synced) -> None:
    from onward.sync.report import summary, when_said

    run, name = synced.run, synced.name
    now = runtime.clock()
    if run is None:
        note(f"{name}: {synced.why}")
        return
    say(f"{name}: {summary(run)}")
    for kind, remote_id, why in run.notes[:10]:
        note(f"{name}: {kind}: {remote_id}: {why}")
    if len(run.notes) > 10:
        note(
            f"{name}: {len(run.notes) - 10} more; `onward sync {name} --report --json`"
        )
    if synced.stopped == "done":
        if run.counts["left"]:
            note(f"{name}: not everybody was read one by one; the next pull goes on")
        say(f"{name}: the next pull: {when_said(synced.again_at, now)}")
    elif synced.stopped == "asks":
        note(
            f"{name}: stopped: {synced.why}. If that is right: `onward sync {name} "
            "--accept`; if not, look at the account first"
        )
    else:
        again = when_said(synced.again_at or now, now)
        note(f"{name}: stopped: {synced.why}; it goes on where it is, {again}")


def _report(runtime: Runtime, state: State, *, json: bool) -> None:
    from onward.sync.report import run_document, summary
    from onward.sync.runs import last_runs

    with runtime.database.read() as transaction:
        runs = last_runs(transaction, state.id, 1)
    if not runs:
        raise InputError(
            f"{state.name} was never pulled; `onward sync {state.name}` does it"
        )
    if json:
        print_document(run_document(runs[0], whole=True))
        return
    run = runs[0]
    say(f"{state.name}: {run.state}, began {cell(run.started_at)}: {summary(run)}")
    if run.reason:
        note(f"{state.name}: {run.reason}")
    for kind, remote_id, why in run.notes:
        say(f"{kind}: {remote_id}: {why}")
    _spot_check(runtime, state)


def _spot_check(runtime: Runtime, state: State) -> None:
    """Show the chosen rows, there and here side by side."""
    from onward.sync.runs import DONE, last_runs

    with runtime.database.read() as transaction:
        runs = last_runs(transaction, state.id, 1)
    if not runs or runs[0].state != DONE or not runs[0].sample:
        return
    say("rows to spot-check:")
    print_rows(
        ["id there", "field", "there", "here"],
        (
            [row["remote_id"], name, there, row["local"].get(name, "")]
            for row in runs[0].sample
            for name, there in row["remote"].items()
        ),
    )


class _Bar:
    """How far a pull is, stage by stage, on a terminal."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self.name = name
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Elapsed(),
            console=Console(stderr=True),
            transient=True,
        )
        self.stage = ""
        self.task = self.bar.add_task(f"pulling {name}", total=None)

    def __call__(self, progress: Progress) -> None:
        if progress.stage != self.stage:
            self.stage = progress.stage
            self.bar.remove_task(self.task)
            called = one_line(f"{self.name}: {self.stage}")
            self.task = self.bar.add_task(called, total=None)
        total = progress.total or None
        self.bar.update(self.task, completed=progress.done, total=total)


@contextmanager
def _shown(name: str) -> Generator[Callable[[Progress], None], None, None]:
    if not progressing():
        yield lambda progress: None
        return
    bar = _Bar(name)
    with bar.bar:
        yield bar
