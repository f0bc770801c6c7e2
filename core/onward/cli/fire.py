"""`onward fire` and `onward points`: something happened to a contact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from onward.cli.opening import open_app
from onward.cli.printing import note, say
from onward.errors import InputError

if TYPE_CHECKING:
    from onward.events.record import ActionResult

# Keys are unique per source, so the command line has its own.
SOURCE = "cli"
Visitor = Annotated[str, typer.Option(help="Who did it, when there is no e-mail yet.")]
Key = Annotated[str, typer.Option(help="Makes a repeat harmless.")]


def fire(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(help="A name, as form.submitted.")],
    email: Annotated[str, typer.Option("--email", "-e", help="Who did it.")] = "",
    visitor: Visitor = "",
    data: Annotated[
        str, typer.Option(metavar="JSON", help="What came with it, a JSON object.")
    ] = "",
    key: Key = "",
) -> None:
    """Record that a contact did something, and do what follows from it."""
    import json

    try:
        given: object = json.loads(data) if data else {}
    except ValueError as error:
        raise InputError(
            f"--data is no JSON: {error}; write for example "
            '\'{"form": "signup"}\' in single quotes'
        ) from None
    if not isinstance(given, dict):
        raise InputError('--data must be a JSON object, as \'{"form": "signup"}\'')
    _check_named(email, visitor, f"onward fire {action} --email ana@shop.example")
    with open_app(ctx) as app:
        result = app.record_action(
            action,
            email=email,
            identities={"visitor": visitor} if visitor else None,
            data=cast("dict[str, object]", given),
            key=key or None,
            source=SOURCE,
        )
        _tell(result)


def points(
    ctx: typer.Context,
    email: Annotated[str, typer.Argument(metavar="[EMAIL]")],
    amount: Annotated[str, typer.Argument(metavar="+N|-N")] = "",
    visitor: Visitor = "",
    reason: Annotated[str, typer.Option(help="For the ledger.")] = "",
    key: Key = "",
) -> None:
    """Award points, or take them: `onward points ana@shop.example +10`."""
    if visitor and not amount:
        email, amount = "", email
    _check_named(email, visitor, "onward points ana@shop.example +10")
    try:
        number = int(amount)
    except ValueError:
        what = "no known option" if amount.startswith("--") else "no whole number"
        raise InputError(f'"{amount}" is {what}; write +10 or -10') from None
    with open_app(ctx) as app:
        result = app.add_points(
            number,
            email=email,
            identities={"visitor": visitor} if visitor else None,
            reason=reason,
            key=key or None,
            source=SOURCE,
        )
        _tell(result)


def _check_named(email: str, visitor: str, example: str) -> None:
    if not email.strip() and not visitor.strip():
        raise InputError(
            f"nobody is named: write `{example}`, or --visitor with another identity"
        )


def _tell(result: ActionResult) -> None:
    if result.repeated:
        other = "; what came with it is different and was not looked at"
        say(f"the key was used before, nothing changed{other * result.differs}")
        return
    say(f"contact {result.contact_id}{', new' if result.created else ''}")
    if result.points is not None:
        say(f"points: {result.points}")
    for rule, ran, why in result.looked:
        say(f"rule {rule}: {'ran' if ran else f'did not run: {why}'}")
    for trigger in result.fired:
        say(f"point trigger {trigger}: fired")
    if result.pushes:
        word = "push" if len(result.pushes) == 1 else "pushes"
        say(f"queued: {word} {', '.join(map(str, result.pushes))}")
        note("a worker or `onward deliver` sends it")
    else:
        say("nothing was queued")
