"""Which deliveries a command is about, in the same words everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from onward.cli.moments import parse_moment

if TYPE_CHECKING:
    from onward.delivery.listing import Wanted
    from onward.runtime import Runtime

State = Annotated[
    str, typer.Option(help="waiting, held, sending, delivered, failed, ….")
]
Code = Annotated[str, typer.Option(help="The word that says why.")]
Connection = Annotated[str, typer.Option(metavar="NAME")]
Email = Annotated[str, typer.Option(help="Of the contact.")]
Since = Annotated[
    str, typer.Option(help="Queued then or later: 2026-03-04, or 24h ago.")
]
Until = Annotated[str, typer.Option(help="Queued then or earlier.")]
Rule = Annotated[
    str,
    typer.Option(metavar="KEY", help="Of a rule, trigger or audience behind it."),
]
Cause = Annotated[
    str,
    typer.Option(
        help="rule, trigger, apply, audience, manual, replay, merge or joined."
    ),
]


# What a command with all of these calls them.
NAMES = ("state", "code", "connection", "email", "since", "until", "rule", "cause")


def given(ctx: typer.Context) -> dict[str, str]:
    """Return the filters a command was called with, blank ones left out."""
    return {name: ctx.params[name] for name in NAMES if ctx.params[name]}


def wanted(ctx: typer.Context, runtime: Runtime) -> Wanted:
    """Return the filter that a command was called with.

    Raises:
        InputError: a moment is none.
    """
    from onward.delivery.listing import Wanted

    words: dict[str, Any] = given(ctx)
    now, zone = runtime.clock(), runtime.config.timezone
    since = parse_moment(words.pop("since", ""), now, zone)
    until = parse_moment(words.pop("until", ""), now, zone, end=True)
    return Wanted(**words, since=since, until=until)
