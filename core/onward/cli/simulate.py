"""`onward simulate`: serve a fake of a service, for tries and demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from onward.cli.opening import options_of
from onward.cli.printing import print_rows
from onward.cli.stopping import stop_signals
from onward.errors import InputError, PluginError

if TYPE_CHECKING:
    import httpx

# A server that runs for days must not keep every request it was sent.
LOG_LIMIT = 10_000


class Simulated(Protocol):
    """What an integration's `simulator` makes."""

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        ...

    def set(self, **switches: object) -> None:
        """Turn switches; raise ValueError for an unknown one."""
        ...

    def credentials(self, server: str) -> Mapping[str, str]:
        """Return `url` and what a client needs, when served at this address."""
        ...

    def described(self) -> Iterable[tuple[str, str, str, str]]:
        """Yield every switch: name, its setting now, known values, what it is."""
        ...


class MakeSimulated(Protocol):
    """A simulator's class."""

    def __call__(self, *, demo: bool, log_limit: int) -> Simulated:
        """Make one, full of demonstration data or nearly empty."""
        ...


def simulate(
    ctx: typer.Context,
    integration: Annotated[str, typer.Argument(metavar="INTEGRATION")],
    port: Annotated[int, typer.Option(help="0 = any free one.")] = 0,
    switches: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SWITCH=VALUE",
            help="How it behaves; may be repeated. `--set list` names the switches.",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo/--plain", help="Full of invented data, or not.")
    ] = True,
) -> None:
    """Serve a fake of a service on this machine until interrupted.

    First prints one JSON line: its url and the credentials it accepts.
    """
    import orjson

    from onward.testing.server import Server

    simulator = _find(ctx, integration)(demo=demo, log_limit=LOG_LIMIT)
    for entry in switches or ():
        if entry == "list":
            columns = ["switch", "set to", "known values", "what it decides"]
            print_rows(columns, simulator.described())
            return
        name, mark, value = entry.partition("=")
        if not mark:
            raise InputError(f'"{entry}" is no switch; write --set name=value')
        try:
            simulator.set(**{name.strip(): value.strip()})
        except ValueError as error:
            raise InputError(f"{error}; `--set list` explains them") from None
    try:
        server = Server(simulator.handle, port)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"port {port} cannot be used: {why}; take another") from None

    wait = stop_signals()
    # One that reports changes to addresses does so for real now.
    getattr(simulator, "served", lambda: None)()
    with server:
        print(
            orjson.dumps(dict(simulator.credentials(server.url))).decode(), flush=True
        )
        wait()


def _find(ctx: typer.Context, integration: str) -> MakeSimulated:
    from onward.plugins import load_plugins

    path = options_of(ctx).path()
    folder = path.parent / "plugins" if path is not None else None
    kind = load_plugins(folder=folder).integration(integration)
    module, mark, name = kind.simulator.partition(":")
    if not mark:
        raise PluginError(f"{kind.title or integration} brings no simulator")
    try:
        made: MakeSimulated = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"{integration}: its simulator {kind.simulator} is not there: {error}"
        ) from error
    return made
