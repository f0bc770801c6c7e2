"""`onward push`: push contacts by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onward.cli.opening import open_app
from onward.cli.printing import note, print_facts, say
from onward.cli.quota import push_lines
from onward.errors import InputError

if TYPE_CHECKING:
    from onward.app import Onward
    from onward.preview import Preview

# So many numbers of queued pushes are read; of the others the count is enough.
SHOWN = 10


def push(
    ctx: typer.Context,
    to: Annotated[str, typer.Option(metavar="NAME", help="Which connection.")],
    emails: Annotated[list[str] | None, typer.Argument(metavar="EMAIL...")] = None,
    audience: Annotated[
        str, typer.Option(metavar="KEY", help="Everybody in this audience.")
    ] = "",
    conditions: Annotated[
        str,
        typer.Option(
            "--if", metavar="JSON", help="Everybody for whom these conditions hold."
        ),
    ] = "",
    segment: Annotated[
        str, typer.Option(help="Remote segment instead of the connection's own.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be sent.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Send even what seems unchanged; opt-outs hold."),
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Send at once and say what became of it.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Push an audience without being asked.")
    ] = False,
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel", help="Stop the push of an audience; what is queued stays."
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document; for an audience.")
    ] = False,
) -> None:
    """Queue pushes of these contacts to a connection.

    A push of an audience is a back-fill: live events go first, and interrupted it
    goes on where it stopped when called again.
    """
    from onward.preview import preview

    emails = emails or []
    if sum(map(bool, (emails, audience, conditions))) != 1:
        raise InputError("name whom to push: addresses, --audience KEY or --if JSON")
    for option, given in (("--yes", yes), ("--cancel", cancel), ("--json", json)):
        if given and emails:
            raise InputError(f"{option} is for --audience and --if")
    if now and not emails:
        raise InputError("--now is for addresses; `onward deliver` sends the others")
    with open_app(ctx) as app:
        if not emails:
            from onward.cli.bulk import push_audience

            push_audience(
                app,
                audience,
                conditions,
                to,
                segment,
                dry_run=dry_run,
                force=force,
                yes=yes,
                cancel=cancel,
                json=json,
            )
            return
        if dry_run:
            for email in emails:
                print_preview(preview(app.runtime, to, email, segment=segment or None))
            if len(emails) > 1:
                for line in push_lines(app.runtime, [to], len(emails)):
                    say(line)
            return
        if now:
            if not push_now(app, to, emails, segment=segment, force=force):
                raise typer.Exit(1)
            return
        rows = app.push(to=to, emails=emails, segment=segment or None, force=force)
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        say(f"queued for {to}: {', '.join(map(str, rows[:SHOWN]))}{more}")
        note("a worker or `onward deliver` sends it")


def push_now(
    app: Onward,
    to: str,
    emails: Sequence[str],
    *,
    segment: str = "",
    force: bool = False,
) -> bool:
    """Push and deliver; tell whether the service has all of them now."""
    from onward.connections.state import named, read_segments
    from onward.delivery.listing import delivery_document, read_deliveries
    from onward.delivery.queue import joined_rows
    from onward.why.waiting import tried_since, what_it_waits_for

    rows = app.push(to=to, emails=emails, segment=segment or None, force=force)
    with app.runtime.database.read() as transaction:
        state = named(transaction, to)
    began = app.runtime.clock()
    done = app.deliver(only=[state.id])
    for until, why in done.resting.values():
        note(f"{to} rests until {until:%Y-%m-%d %H:%M:%S} UTC: {why}" if until else why)
    good = True
    now = app.runtime.clock()
    with app.runtime.database.read() as transaction:
        state = named(transaction, to)
        paused = {id_: why for id_, _, why in read_segments(transaction, state.id)}
        # Of those that joined another row meanwhile, that one is shown.
        rows = joined_rows(transaction, rows)
        tried = tried_since(transaction, rows, began)
        for row in read_deliveries(transaction, ids=rows):
            one = delivery_document(row)
            good = good and one["state"] in ("delivered", "unchanged")
            waits = ""
            if one["state"] == "waiting":
                waits = what_it_waits_for(row, state, paused, {}, now)
            say(_outcome(one, waits, tried=row["id"] in tried))
    return good


def _outcome(one: Mapping[str, Any], waits: str, *, tried: bool) -> str:
    """Return what became of a push; an old error is not told as a new one."""
    reason = one["reason"]
    if waits and not tried:
        last = f"; the last try ended: {reason}" if reason not in waits else ""
        return f"{one['email']} not tried now; {waits}{last}"
    code = f" ({one['code']})" if one["code"] not in ("", one["state"]) else ""
    return f"{one['email']} {one['state']}{code}{f': {reason}' if reason else ''}"


def print_preview(shown: Preview) -> None:
    """Print what would be sent, and what would not."""
    import orjson

    print_facts(
        [
            ("contact", shown.email),
            ("connection", shown.connection),
            ("segment", shown.segment),
        ]
    )
    for warning in shown.warnings:
        say(f"warning: {warning}")
    for asked in shown.asked:
        say(f"asked: {asked.method} {asked.url}")
    if shown.request is None:
        say(f"nothing would be sent: {shown.reason or shown.code}")
        return
    say(f"{shown.request.method} {shown.request.url}")
    if shown.request.body is not None:
        body = orjson.dumps(shown.request.body, option=orjson.OPT_INDENT_2)
        say(body.decode())
