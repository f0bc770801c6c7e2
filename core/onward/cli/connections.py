"""`onward connections`: the accounts we push to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_app, open_runtime
from onward.cli.printing import (
    interactive,
    note,
    print_facts,
    print_json,
    print_rows,
    say,
)
from onward.cli.webhook import is_reported, note_left, webhook
from onward.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection as Transaction

    from onward.connections.listing import Listed
    from onward.connections.state import State
    from onward.runtime import Runtime

app = typer.Typer(help="The accounts contacts are pushed to.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the connection.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=VALUE", help="May be repeated."),
]
Segment = Annotated[str, typer.Option(help="Where contacts go there: name or id.")]
NoSegment = Annotated[
    bool, typer.Option("--no-segment", help="Put them nowhere in particular.")
]


app.command("webhook")(webhook)


@app.callback()
def connections() -> None:
    """The accounts contacts are pushed to."""


@app.command("list")
def list_(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List every connection with its state and queue."""
    from onward.cli.quota import calls_cell
    from onward.connections.listing import list_connections
    from onward.forecast import read_forecast
    from onward.speed import read_slowed
    from onward.sync.report import standings, when_said

    with open_runtime(ctx) as runtime:
        now, zone = runtime.clock(), runtime.config.timezone
        with runtime.database.read() as transaction:
            listed = list_connections(transaction)
            foreseen = [
                read_forecast(runtime, transaction, one.state) for one in listed
            ]
            speeds = [
                read_slowed(transaction, one.state.counted_as, now) for one in listed
            ]
            pulls = standings(runtime, transaction)
        if json:
            print_json(
                {
                    **one.document,
                    "speed": speed.share if speed else 1,
                    "slowed_since": speed.since if speed else None,
                    "forecast": found.document if found and found.rows else None,
                    "pull": pull.document,
                }
                for one, speed, found, pull in zip(
                    listed, speeds, foreseen, pulls, strict=True
                )
            )
            return
        print_rows(
            [
                "connection",
                "integration",
                "status",
                "account",
                "segment",
                "waiting",
                "held",
                "calls",
                "verified",
                "pulled",
                "next pull",
            ],
            (
                [
                    one.state.name,
                    one.state.integration,
                    _status(one, now) + (f", {speed.sentence(zone)}" if speed else ""),
                    one.state.title,
                    one.segment,
                    one.waiting,
                    one.held,
                    calls_cell(found, now, zone),
                    one.state.verified_at or "never",
                    pull.done.finished_at if pull.done else "never",
                    when_said(pull.plan.due_at, now) if pull.plan else "",
                ]
                for one, speed, found, pull in zip(
                    listed, speeds, foreseen, pulls, strict=True
                )
            ),
            empty="there is no connection; `onward connections add` makes one",
        )


def _status(one: Listed, now: datetime) -> str:
    state = one.state
    status = state.status
    if status == "paused" and state.paused_at is not None:
        status = f"paused since {state.paused_at:%Y-%m-%d %H:%M} UTC: "
        return status + state.paused_why
    if status == "active" and state.is_resting(now):
        batches = "1 batch" if state.rest_step == 1 else f"{state.rest_step} batches"
        until = f"{state.rest_until:%Y-%m-%d %H:%M:%S} UTC"
        status = f"active, rests until {until} after {batches} that failed"
        return f"{status}: {state.rest_why}" if state.rest_why else status
    if status == "active" and not state.push_contacts:
        return "active, pushes are switched off"
    if one.paused_segments:
        held = ", ".join(f"{name} ({why})" for name, why in one.paused_segments.items())
        return f"{status}, held for {held}"
    return status


@app.command("add")
def add(
    ctx: typer.Context,
    integration: Annotated[str, typer.Argument(metavar="INTEGRATION")],
    name: Annotated[str, typer.Option(help="What to call the connection.")] = "",
    settings: Settings = None,
    segment: Segment = "",
    no_segment: NoSegment = False,
) -> None:
    """Connect an account: asks, verifies, and only then saves."""
    from onward.cli.adding import add as add_asking

    given = _given(settings)
    with open_runtime(ctx) as runtime:
        add_asking(
            runtime,
            integration,
            name=name,
            given=given,
            segment=False if no_segment else segment or None,
        )


@app.command("set")
def set_(
    ctx: typer.Context,
    name: Name,
    settings: Settings = None,
    segment: Segment = "",
    no_segment: NoSegment = False,
    pull: Annotated[
        str, typer.Option(help='How often it is pulled: "daily", "6h", "never".')
    ] = "",
    pull_at: Annotated[str, typer.Option(help="At this time of day: 03:30.")] = "",
    timezone: Annotated[str, typer.Option(help="Of that time of day.")] = "",
    pull_limit: Annotated[
        str, typer.Option(help='More changes than this stop a pull: "20%".')
    ] = "",
    fire_on_pull: Annotated[
        bool | None, typer.Option(help="Let a pull lead to rules.")
    ] = None,
    push_opt_outs: Annotated[
        bool | None, typer.Option(help="Tell the service of our do-not-contacts.")
    ] = None,
) -> None:
    """Change settings of a connection; asks for its secrets when none is named.

    Verifies first and saves only then; what waits for it goes on waiting. When and how
    it is pulled is changed without asking the service.
    """
    from onward.cli.changing import change, change_schedule

    given = _given(settings)
    said = {
        "pull": pull,
        "pull_at": pull_at,
        "timezone": timezone,
        "pull_limit": pull_limit,
        "fire_on_pull": fire_on_pull,
        "push_opt_outs": push_opt_outs,
    }
    with open_runtime(ctx) as runtime:
        state = _state(runtime, name)
        if any(value not in ("", None) for value in said.values()):
            state = change_schedule(runtime, state, said)
            if not given and not segment and not no_segment:
                return
        change(
            runtime,
            state,
            given=given,
            segment=False if no_segment else segment or None,
        )


@app.command("test")
def try_(
    ctx: typer.Context,
    name: Name,
    contact: Annotated[
        str, typer.Option(metavar="EMAIL", help="Also show what would be sent.")
    ] = "",
    send: Annotated[
        bool, typer.Option("--send", help="And really push that contact.")
    ] = False,
) -> None:
    """Verify a connection; with a contact map it, and on request push it."""
    from onward.cli.push import print_preview, push_now
    from onward.connections.state import MANUAL, resume
    from onward.connections.verify import verify_connection
    from onward.preview import preview

    if send and not contact:
        raise InputError("--send needs to know whom: add --contact EMAIL")
    with open_app(ctx) as app_:
        runtime = app_.runtime
        state = verify_connection(runtime, _state(runtime, name))
        say(f"{name}: verified, {state.title}")
        # The test is the repair's proof; what a person paused stays paused.
        if state.paused_code not in ("", MANUAL) and resume(
            runtime, state.id, only=state.paused_code
        ):
            say(f"{name}: resumed; it was paused: {state.paused_why}")
        if contact:
            print_preview(preview(runtime, name, contact))
        if send and not push_now(app_, name, [contact]):
            raise typer.Exit(1)


@app.command("pause")
def pause(
    ctx: typer.Context,
    name: Name,
    why: Annotated[str, typer.Option(help="For whoever finds it paused.")] = "",
) -> None:
    """Hold what is queued until somebody resumes it."""
    from onward.connections.state import MANUAL
    from onward.connections.state import pause as pause_

    with open_runtime(ctx) as runtime:
        state = _state(runtime, name)
        pause_(runtime, state.id, MANUAL, why or "paused by hand")
        say(f"{name}: paused; `onward connections resume {name}` ends it")


@app.command("resume")
def resume(ctx: typer.Context, name: Name) -> None:
    """Let what was held go."""
    from onward.connections.state import DELETED, read_segments
    from onward.connections.state import resume as resume_

    with open_runtime(ctx) as runtime:
        state = _state(runtime, name)
        if state.paused_code == "identity_changed":
            raise InputError(
                f"{state.paused_why}; resuming does not confirm that, "
                f"`onward connections accept {name}` does"
            )
        if not state.paused_code:
            say(f"{name}: was not paused")
        elif resume_(runtime, state.id, only=state.paused_code):
            say(f"{name}: resumed")
        else:
            raise InputError(f"{name}: somebody else changed it meanwhile; try again")
        with runtime.database.read() as transaction:
            held = [one for one in read_segments(transaction, state.id) if one[2]]
        for _, called, why in held:
            note(
                f'{name}: what waits for "{called}" is still held: {why}; choose '
                f"another list in the settings or make it anew, then `onward "
                f"connections test {name}`; or `onward connections redirect {name} "
                f'"{called.removeprefix(DELETED)}" LIST`'
            )


@app.command("redirect")
def redirect(
    ctx: typer.Context,
    name: Name,
    held: Annotated[str, typer.Argument(metavar="HELD", help="Its name or id.")],
    to: Annotated[str, typer.Argument(metavar="LIST", help="Name or id.")],
) -> None:
    """Send what is held for a remote segment that is gone to another one."""
    from onward.connections.rename import redirect as redirect_
    from onward.connections.rename import resolve_segment
    from onward.connections.state import DELETED, read_segments
    from onward.contract import RemoteSegment

    with open_runtime(ctx) as runtime:
        state = _state(runtime, name)

        def work(transaction: Transaction) -> tuple[int, str]:
            known = read_segments(transaction, state.id)
            there = [
                RemoteSegment(id_, called) for id_, called, why in known if not why
            ]
            wrong = {
                id_
                for id_, called, why in known
                if why and held in (id_, called, called.removeprefix(DELETED))
            }
            if len(wrong) != 1:
                raise InputError(
                    f'{name}: nothing is held for "{held}"; '
                    f"`onward connections list` says what is"
                )
            real, problem = resolve_segment(name, to, there)
            if problem:
                raise InputError(problem)
            count = redirect_(transaction, state, wrong.pop(), real, runtime.clock())
            return count, next(one.name for one in there if one.id == real)

        count, called = runtime.database.run(work)
        say(f'{name}: {count} now {"waits" if count == 1 else "wait"} for "{called}"')


@app.command("accept")
def accept(ctx: typer.Context, name: Name) -> None:
    """Confirm that a connection may lead to another account than before."""
    from onward.connections.state import resume as resume_
    from onward.connections.verify import verify_connection

    with open_runtime(ctx) as runtime:
        before = _state(runtime, name)
        reported = is_reported(runtime, before)
        state = verify_connection(runtime, before, accept=True)
        if state.paused_code == "identity_changed":
            resume_(runtime, state.id, only="identity_changed")
        note_left(runtime, before, reported)
        if before.identity in ("", state.identity):
            say(f"{name}: it leads to {state.title}, as before")
            return
        say(f"{name}: it now leads to {state.title}; what was queued was cancelled")


@app.command("remove")
def remove(
    ctx: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a connection; contacts and what was delivered stay."""
    from onward.connections.remove import remove_connection

    with open_runtime(ctx) as runtime:
        state = _state(runtime, name)
        if interactive() and not yes:
            print_facts([("account", state.title), ("identity", state.identity)])
            typer.confirm(f"Remove the connection {name}?", abort=True)
        reported = is_reported(runtime, state)
        cancelled = remove_connection(runtime, state)
        say(f"{name}: removed")
        note_left(runtime, state, reported)
        if cancelled:
            note(f"{cancelled} waiting pushes were cancelled")


def _given(entries: Sequence[str] | None) -> dict[str, str]:
    given: dict[str, str] = {}
    for entry in entries or ():
        key, mark, value = entry.partition("=")
        if not mark:
            raise InputError(f'"{entry}" is no setting; write --set name=value')
        given[key.strip()] = value
    return given


def _state(runtime: Runtime, name: str) -> State:
    from onward.connections.state import named

    with runtime.database.read() as transaction:
        return named(transaction, name)
