"""Ask for the secrets of a connection anew, and change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from onward.cli.adding import ask_setting
from onward.cli.printing import interactive, note, say
from onward.config.values import (
    as_flag,
    as_interval,
    as_share,
    as_time_of_day,
    as_timezone,
)
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


_PULL: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "pull": ("every", as_interval),
    "pull_at": ("at", as_time_of_day),
    "timezone": ("timezone", as_timezone),
    "pull_limit": ("limit", as_share),
    "fire_on_pull": ("fire", as_flag),
    "push_opt_outs": ("opt_outs", as_flag),
}


def change_schedule(
    runtime: Runtime, state: State, said: Mapping[str, str | bool | None]
) -> State:
    """Change when and how a connection is pulled.

    Args:
        said: as in `onward.toml`; "" and None = as it is.

    Raises:
        InputError: a value cannot be used, or `onward.toml` declares it.
    """
    from onward.connections.change import change_pull
    from onward.sync.schedule import sentence

    pull = state.pull
    for key, value in said.items():
        if value in ("", None):
            continue
        name, read = _PULL[key]
        changed: dict[str, Any] = {}
        try:
            changed[name] = read(value)
        except ValueError as error:
            raise InputError(f"--{key.replace('_', '-')} {error}") from None
        pull = replace(pull, **changed)
    fresh = change_pull(runtime, state, pull)
    when = sentence(fresh.pull, runtime.clock(), runtime.config.timezone)
    # Without a time of day it is the one it was connected at.
    when = when if fresh.pull.at else when.partition(" at ")[0]
    say(f"{state.name}: pulled {when}")
    return fresh


def _again(error: CredentialsRefused) -> bool:
    import typer

    note(error.message)
    if error.hint:
        note(error.hint)
    return typer.confirm("Try again?", default=True)
