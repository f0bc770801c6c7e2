"""`onward connections webhook`: let a service report changes as they happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_runtime
from onward.cli.printing import note, print_document, say
from onward.errors import InputError

if TYPE_CHECKING:
    from onward.connections.state import State
    from onward.runtime import Runtime
    from onward.webhooks.register import Registered


def webhook(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the connection.")],
    url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Where `listen` is reached from outside, instead of public_url.",
        ),
    ] = "",
    remove: Annotated[
        bool, typer.Option("--remove", help="Let the service report nothing more.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Let the service report changes to a new secret address, and to no older one.

    The pull stays the truth: a report only says whom to read again, and not every
    change is reported.
    """
    from onward.connections.state import named
    from onward.webhooks.register import check_place, register, unregister

    if url and remove:
        raise InputError("--remove takes no --url: what is registered is known")
    with open_runtime(ctx) as runtime:
        with runtime.database.read() as transaction:
            state = named(transaction, name)
        if remove:
            done = unregister(runtime, state)
        else:
            place = url or runtime.config.public_url
            if not place:
                raise InputError(
                    f"{name}: nobody knows where the service reaches this machine; set "
                    "public_url in [onward] of onward.toml, or give --url https://…"
                )
            done = register(runtime, state, check_place(place))
        if json:
            print_document(_document(state, done))
        else:
            _tell(runtime, state, done)


def _document(state: State, done: Registered) -> dict[str, object]:
    address = done.address
    return {
        "name": state.name,
        "webhook": address is not None,
        "url": address.shown if address else None,
        "webhook_since": address.created_at if address else None,
        "removed": done.removed,
        "not_removed": list(done.lost),
    }


def _tell(runtime: Runtime, state: State, done: Registered) -> None:
    name = state.name
    if done.address is None:
        was = "is removed" if done.removed or done.lost else "was not registered"
        say(f"{name}: the webhook {was}; changes come with the pull")
    else:
        say(f"{name}: changes are reported to {done.address.shown} from now on")
        note("the rest of the address is secret, and not shown again")
        if runtime.config.listen:
            note(f"a worker must run: it listens on {runtime.config.listen}")
        else:
            note(
                "nobody listens there yet: set `listen` in [onward] of onward.toml, "
                "and keep `onward worker` running"
            )
        note(
            "the pull stays the truth: not every change is reported, an opt-out of a "
            "whole account for one often is not"
        )
        if done.removed:
            note("the address before it is removed")
    for place in done.lost:
        note(
            f"an address at {place} cannot be named to the service, as the key that "
            "sealed it is not here; it answers nobody: remove it in the service's own "
            "settings"
        )


def is_reported(runtime: Runtime, state: State) -> bool:
    """Tell whether the service of a connection knows an address of ours."""
    from onward.webhooks.address import read_addresses

    with runtime.database.read() as transaction:
        return bool(read_addresses(transaction, state.id))


def note_left(runtime: Runtime, state: State, reported: bool) -> None:
    """Say what is left with a service of a connection that is gone or led elsewhere.

    Args:
        reported: as `is_reported` said before.
    """
    if reported and not is_reported(runtime, state):
        note(
            f"{state.name}: {state.title} still reports to an address that answers "
            "nobody any more; remove the webhook in its own settings"
        )
