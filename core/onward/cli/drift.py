"""`onward drift`: what differs in a service from what we last wrote there."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_runtime
from onward.cli.printing import (
    cell,
    note,
    print_json,
    print_rows,
    progress,
    say,
)
from onward.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onward.connections.state import State
    from onward.runtime import Runtime
    from onward.sync.drift import Difference, Drift


def drift(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the connection.")],
    field: Annotated[
        str, typer.Option(metavar="FIELD", help="Only where this remote field differs.")
    ] = "",
    who: Annotated[
        bool,
        typer.Option(
            "--who", help="Ask who changed it: a call each, for the first 20."
        ),
    ] = False,
    push: Annotated[
        bool, typer.Option("--push", help="Write ours again where fields differ.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --push: only count.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show what differs there from what we last wrote, as of the last pull."""
    from onward.connections.state import named
    from onward.sync.runs import DONE, last_runs

    if dry_run and not push:
        raise InputError("--dry-run needs --push; without it nothing is pushed anyway")
    with open_runtime(ctx) as runtime:
        with runtime.database.read() as transaction:
            state = named(transaction, name)
            runs = last_runs(transaction, state.id, 20)
        done = next((run for run in runs if run.state == DONE), None)
        if done is None:
            raise InputError(
                f"{name} was never pulled to the end, so nothing is known; "
                f"`onward sync {name}` does it"
            )
        if push:
            _push(runtime, state, field, dry_run=dry_run)
            return
        _show(runtime, state, field, who=who, json=json)
        if not json:
            note(f"as of the pull that ended {cell(done.finished_at)}")


def _push(runtime: Runtime, state: State, field: str, *, dry_run: bool) -> None:
    from onward.cli.quota import backfill_lines
    from onward.sync.drift import push_drift

    total = push_drift(runtime, state, field, dry_run=True)
    if dry_run:
        say(f"{state.name}: {total} would be pushed")
        for line in backfill_lines(runtime, [state.name], total) if total else ():
            note(line)
        return
    with progress(f"queueing for {state.name}", total) as advance:
        queued = push_drift(runtime, state, field, on_progress=advance)
    say(f"{state.name}: {queued} queued; `onward deliver` or a worker sends them")


def _show(runtime: Runtime, state: State, field: str, *, who: bool, json: bool) -> None:
    from onward.sync.drift import Drift, read_drift

    drift = Drift()
    found = _counted(read_drift(runtime, state, field), drift)
    if who:
        found = _with_history(runtime, state, found)
    if json:
        print_json(one.document for one in found)
        return
    columns = ["id there", "contact", "what", "field", "we wrote", "is there"]
    if who:
        columns.append("changed")
    print_rows(
        columns,
        (line for one in found for line in _lines(one, who=who)),
        empty="nothing differs",
    )
    if drift.kinds:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in drift.kinds.most_common())
        fields = ", ".join(f"{n:,} {name}" for name, n in drift.fields.most_common())
        say(f"{kinds}{f'; by field: {fields}' if fields else ''}")


def _counted(found: Iterable[Difference], drift: Drift) -> Iterator[Difference]:
    for one in found:
        drift.add(one)
        yield one


def _with_history(
    runtime: Runtime, state: State, found: Iterator[Difference]
) -> Iterator[Difference]:
    from dataclasses import replace

    from onward.sync.drift import MOST_HISTORIES, read_history

    for one in islice(found, MOST_HISTORIES):
        changes = read_history(runtime, state, one.remote_id)
        yield replace(one, changes=tuple(changes))
    yield from found


def _lines(one: Difference, *, who: bool) -> Iterator[list[object]]:
    what = ", ".join(one.kinds)
    for name, (ours, theirs) in one.fields.items():
        changed = one.who_changed(name) if who else None
        said = [f"{cell(changed[0])} by {changed[1] or '?'}" if changed else ""]
        yield [one.remote_id, one.email, what, name, ours, theirs, *(said * who)]
    if not one.fields:
        yield [one.remote_id, one.email, what, "", "", "", *([""] * who)]
