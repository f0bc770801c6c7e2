"""`onward init`: make what is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import open_app, options_of
from onward.cli.printing import interactive, note, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onward.config import Config
    from onward.integrations import Integration
    from onward.runtime import Runtime

IGNORED = ("onward.key", "onward.db", "onward.db-*", "onward.db.bak-*")


def init(
    ctx: typer.Context,
    ask: Annotated[
        bool, typer.Option(help="Offer to connect a service, on a terminal.")
    ] = True,
) -> None:
    """Make what is missing: onward.toml, the key of stored secrets, the database."""
    from onward.config import load_config
    from onward.database import Database
    from onward.plugins import load_plugins

    path = options_of(ctx).path() or Path.cwd() / "onward.toml"
    if path.exists():
        say(f"kept {path}")
    else:
        plugins = load_plugins(folder=path.parent / "plugins")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(first_config(plugins.integrations), encoding="utf-8")
        say(f"made {path}")
    config = load_config(path, os.environ, connections_elsewhere=None)
    place = Database(config.database_url).path
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
    _make_key((place or path).parent)
    _make_tables(config)
    with open_app(ctx) as app:
        runtime = app.runtime
        if place is not None:
            say(f"database {place}")
        for name, problem in verify_all(runtime):
            say(f"{name}: {problem or 'verified'}")
        if ask and interactive():
            _offer_connection(ctx, runtime)


def _make_key(folder: Path) -> None:
    from onward.runtime import KEY_FILE
    from onward.vault import Vault

    key = folder / KEY_FILE
    if os.environ.get("ONWARD_SECRET_KEY") and not key.exists():
        say("stored secrets are sealed with ONWARD_SECRET_KEY")
        return
    made = Vault.create_key_file(key)
    say(f"{'made' if made else 'kept'} {key}")
    ignore = folder / ".gitignore"
    lines = ignore.read_text("utf-8").splitlines() if ignore.exists() else []
    missing = [line for line in IGNORED if line not in lines]
    if missing:
        ignore.write_text("\n".join([*lines, *missing, ""]), encoding="utf-8")


def _make_tables(config: Config) -> None:
    """Make the tables of an empty PostgreSQL; SQLite makes its own when opened.

    Tables that exist already are left to `onward db upgrade`: other machines may
    be using them.
    """
    from onward.database import Database
    from onward.migrate import revision_or_error, upgrade

    database = Database(config.database_url)
    if database.is_sqlite:
        return
    try:
        if revision_or_error(database) is None:
            upgrade(database)
            say("made the tables")
    finally:
        database.close()


def verify_all(
    runtime: Runtime, stopping: Callable[[], bool] = lambda: False
) -> list[tuple[str, str]]:
    """Verify the connections that are new or changed; return (name, problem).

    Refused ones are paused, as they would be at their first delivery.

    Args:
        stopping: when it says so, no more is asked; the rest is left out.
    """
    from onward.connections.open import stored_secrets
    from onward.connections.state import ChangedMeanwhile, read_all, read_state
    from onward.connections.verify import is_fresh, verify_or_pause
    from onward.errors import ServiceError, Stopping

    def go_on() -> None:
        if stopping():
            raise Stopping

    with runtime.database.read() as transaction:
        states = read_all(transaction)
    found: list[tuple[str, str]] = []
    for state in states:
        if not state.enabled or (
            is_fresh(runtime, state) and not stored_secrets(runtime, state)[1]
        ):
            continue
        try:
            fresh = verify_or_pause(runtime, state, renew=go_on)
        except Stopping:
            break
        except (ChangedMeanwhile, ServiceError) as error:
            found.append((state.name, f"not verified yet: {error.message}"))
            continue
        problem = ""
        if fresh is None:
            with runtime.database.read() as transaction:
                paused = read_state(transaction, state.id)
            problem = f"not verified: {paused.paused_why if paused else 'it is gone'}"
        found.append((state.name, problem))
    return found


def _offer_connection(ctx: typer.Context, runtime: Runtime) -> None:
    from onward.cli.adding import add
    from onward.connections.state import read_all

    with runtime.database.read() as transaction:
        if read_all(transaction):
            return
    for key, kind in sorted(runtime.plugins.integrations.items()):
        if typer.confirm(f"Connect {kind.title or key} now?", default=False):
            add(runtime, key)
            return
    note("`onward connections add` connects a service at any time")


def first_config(integrations: Mapping[str, type[Integration]]) -> str:
    """Return a commented `onward.toml` with an example of every integration."""
    parts = [_HEAD]
    for key, kind in sorted(integrations.items()):
        parts.append(_example(key, kind))
    first = min(integrations, default="NAME")
    parts.append(_RULES.replace("NAME", first))
    return "\n".join(parts)


def _example(key: str, kind: type[Integration]) -> str:
    lines = [
        f"# {kind.title or key}: `onward connections add {key}` asks for all this and",
        "# keeps it in the database instead; `onward connections test` tries it.",
        f"# [connections.{key}]",
        f'# integration = "{key}"',
        '# segment = "Newsletter"         # where contacts go: name, id; false = none',
        "# push_contacts = true           # false: nothing leaves",
        f"# [connections.{key}.settings]",
    ]
    secrets = kind.Settings.secret_names()
    for name, field in kind.Settings.described().items():
        value = ""
        if name in secrets:
            value = f"${{{key}_{name}}}".upper()
        elif not field.is_required():
            value = str(field.default or "")
        lines.append(f'# {name} = "{value}"'.ljust(31) + f"  # {field.title or name}")
    return "\n".join([*lines, ""])


_HEAD = """\
# Onward: what is connected, and what happens when. `onward doctor` checks it.
# ${NAME} stands for an environment variable; secrets belong there.

[onward]
database_url = "sqlite:///onward.db"   # relative to this file; or postgresql://…
# durability = "normal"                # "power": also survives a power cut
# engine = "embedded"                  # "cluster": see docs/engines.md
# timezone = "UTC"
# retention_days = 90                  # of what is over; 0 keeps it for ever
# retry = ["5s", "5m", "30m", "2h", "5h", "10h", "10h"]   # after each failed try

# Who is told when a connection is paused, pushes fail or are late: docs/alerts.md.
# [alerts]
# webhook = "${ALERT_WEBHOOK}"
"""

_RULES = """\
# When a contact does something. Every rule needs a key that never changes.
# [[rules]]
# key = "forms"
# when = "form.submitted"              # a name, or a pattern as "form.*"
# if = [["country", "in", ["NL", "BE"]]]
# push_to = ["NAME"]
# points = 10

# When a contact's points reach a number, once for each contact.
# [[point_triggers]]
# key = "hot-lead"
# name = "Hot lead"
# points = 100
# push_to = ["NAME"]
"""
