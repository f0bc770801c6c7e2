"""Ask for the secrets of a connection anew, and change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from onward.cli.adding import ask_setting
from onward.cli.printing import interactive, note, say
from onward.errors import CredentialsRefused, InputError

if TYPE_CHECKING:
    from onward.connections.state import State
    from onward.runtime import Runtime


def change(
    runtime: Runtime,
    state: State,
    *,
    given: Mapping[str, str],
    segment: str | Literal[False] | None = None,
) -> State:
    """Change a connection; on a terminal ask for secrets that are not known.

    Raises:
        InputError: nothing was said that could be changed.
        CredentialsRefused, ConfigError, ServiceError: nothing was saved.
    """
    from onward.connections.change import change_connection
    from onward.connections.open import stored_secrets

    kind = runtime.plugins.integration(state.integration)
    described = kind.Settings.described()
    asking = interactive() and not state.declared
    settings = dict(given)
    _, lost = stored_secrets(runtime, state)
    nothing = not settings and segment is None
    secrets = [name for name in described if name in kind.Settings.secret_names()]
    wanted = [n for n in secrets if nothing or n in lost] if asking else []
    if nothing and not wanted and not state.declared:
        example = f"{(secrets or list(described))[0]}=…"
        raise InputError(
            f"say what is to change: `onward connections set {state.name} --set "
            f"{example}`; the settings are {', '.join(described)}"
        )
    while True:
        for name in wanted:
            if name not in settings:
                ask_setting(settings, name, described[name], hidden=True)
        try:
            fresh = change_connection(runtime, state, settings, segment=segment)
        except CredentialsRefused as error:
            if not wanted or not _again(error):
                raise
            settings = dict(given)
        else:
            say(f"{state.name}: changed and verified, {fresh.title}")
            return fresh


def _again(error: CredentialsRefused) -> bool:
    import typer

    note(error.message)
    if error.hint:
        note(error.hint)
    return typer.confirm("Try again?", default=True)
