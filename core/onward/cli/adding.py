"""Ask for what a connection needs, and add it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

import typer

from onward.cli.printing import interactive, note, say
from onward.errors import CredentialsRefused, InputError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from onward.connections.state import State
    from onward.runtime import Runtime

# More segments than this are asked for by name instead of by number.
MOST_CHOICES = 60


def add(
    runtime: Runtime,
    integration: str,
    *,
    name: str = "",
    given: Mapping[str, str] | None = None,
    segment: str | Literal[False] | None = None,
) -> State:
    """Add a connection; on a terminal ask for what was not given.

    Raises:
        CredentialsRefused, ConfigError, ServiceError: nothing was saved.
    """
    from onward.connections.add import (
        Draft,
        SegmentNeeded,
        add_connection,
        default_name,
        trimmed,
    )

    described = runtime.plugins.integration(integration).Settings.described()
    secrets = runtime.plugins.integration(integration).Settings.secret_names()
    settings = dict(given or {})
    asking = interactive()
    if asking:
        for field, what in described.items():
            if field not in settings:
                ask_setting(settings, field, what, hidden=field in secrets)
    called = name or default_name(runtime, integration)
    told: set[str] = set()
    while True:
        draft = Draft(called, integration, settings, segment)
        for title in trimmed(runtime, draft):
            if title not in told:
                told.add(title)
                note(f"blanks around the {title} were removed")
        try:
            state = add_connection(runtime, draft)
        except CredentialsRefused as error:
            if not asking:
                raise
            _mend(settings, error, described, secrets)
        except SegmentNeeded as error:
            if not asking:
                raise InputError(
                    f"{error.message}. Nothing was saved; say which with --segment "
                    "(a name or an id, or --no-segment): "
                    + ", ".join(f"{s.id} ({s.name})" for s in error.segments)
                ) from None
            note("Where do contacts go?")
            offered = [("", "nowhere in particular")]
            offered += [(one.id, one.name) for one in error.segments]
            segment = choose(offered) or False
        else:
            say(f"{state.name}: connected to {state.title}")
            return state


def ask_setting(
    settings: dict[str, str], field: str, what: FieldInfo, *, hidden: bool
) -> None:
    """Ask for one setting, with its help, and put the answer to the others."""
    extra = what.json_schema_extra
    texts = cast("dict[str, object]", extra) if isinstance(extra, dict) else {}
    note("")
    for text in (texts.get("help"), texts.get("link")):
        if text:
            note(str(text))
    default = None if what.is_required() else str(what.default or "")
    answer = typer.prompt(
        what.title or field,
        default=default,
        show_default=bool(default),
        hide_input=hidden,
    )
    # A default is the integration's to give, also after an update.
    if answer != default:
        settings[field] = str(answer)


def _mend(
    settings: dict[str, str],
    error: CredentialsRefused,
    described: Mapping[str, FieldInfo],
    secrets: frozenset[str],
) -> None:
    """Say what was refused, then offer choices or ask again."""
    offered = error.choices.get(error.field, ())
    if offered and not settings.get(error.field, "").strip():
        note(f"Which {described[error.field].title or error.field}?")
        settings[error.field] = choose(offered)
        return
    note(error.message)
    if error.hint:
        note(error.hint)
    if not typer.confirm("Try again?", default=True):
        raise error
    # Refused credentials are refused together; a named one alone when it is known.
    again = [error.field] if offered else list(described)
    for field in again:
        what = described[field]
        if offered:
            note(f"Which {what.title or field}?")
            settings[field] = choose(offered)
        elif field in secrets:
            ask_setting(settings, field, what, hidden=True)
        else:
            kept = settings.get(field, "" if what.is_required() else what.default)
            settings[field] = str(
                typer.prompt(
                    what.title or field,
                    default=str(kept or ""),
                    show_default=bool(kept),
                )
            )


def choose(offered: Sequence[tuple[str, str]]) -> str:
    """Let somebody choose by number, id or name; return the value."""
    for number, (value, title) in enumerate(offered[:MOST_CHOICES], 1):
        note(f"{number:4}  {title or value}" + (f"  ({value})" if value else ""))
    if len(offered) > MOST_CHOICES:
        note(f"      … and {len(offered) - MOST_CHOICES} more: type the name")
    while True:
        text = str(typer.prompt("Number, id or name")).strip()
        if text.isdigit() and 1 <= int(text) <= min(len(offered), MOST_CHOICES):
            return offered[int(text) - 1][0]
        same = [value for value, title in offered if text in (value, title)]
        if len(same) == 1:
            return same[0]
        note(f'"{text}" is {"ambiguous" if same else "none of them"}')
        if not sys.stdin.isatty():
            raise InputError("nothing was chosen")
