"""Is everything as it must be? Looks, changes nothing, asks no service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection as Transaction

from onward.audiences.book import read_book
from onward.audiences.check import check_conditions
from onward.clock import utcnow
from onward.config import Config, Problem, check_config, load_config
from onward.config.problems import Problems
from onward.connections.state import read_all
from onward.database import Database
from onward.doctor.alerting import check_alerts
from onward.doctor.check import Check, problem, warning
from onward.doctor.connected import check_connections
from onward.doctor.machine import check_clock, check_versions
from onward.doctor.pulled import check_pulls
from onward.doctor.reporting import check_webhooks
from onward.doctor.stored import check_database, check_key_file, is_made
from onward.doctor.targets import unknown_segments
from onward.errors import OnwardError
from onward.migrate import current_revision, releases_ahead
from onward.plugins import Plugins, load_plugins

__all__ = [
    "Check",
    "connections_elsewhere",
    "examine",
    "lists_nobody_has",
    "names_nobody_has",
]

Found = TypeVar("Found")


def examine(
    path: Path | None,
    env: Mapping[str, str],
    *,
    clock: Callable[[], datetime] = utcnow,
    mounts: Path = Path("/proc/mounts"),
) -> list[Check]:
    """Return every check with its result; the worst decides.

    Args:
        path: the `onward.toml`, None when there is none.
        mounts: where the system lists its file systems.
    """
    found = [*check_versions(), *check_clock(clock)]
    elsewhere = connections_elsewhere(path, env)
    found += _check_config(path, env, elsewhere)
    try:
        config = load_config(path, env, connections_elsewhere=None)
    except OnwardError:
        # Said already, line by line; what follows would be about the defaults.
        return found
    plugins = load_plugins(
        folder=config.plugins_dir,
        disabled=config.plugins_disabled,
        safe_mode=bool(env.get("ONWARD_SAFE_MODE")),
    )
    found += _check_plugins(plugins, env)
    database = Database(config.database_url, durability=config.durability)
    try:
        # The vault repairs the rights of the key file, so this comes first.
        found += check_key_file(config, database, env)
        stored, usable = check_database(database, clock, mounts)
        found += stored
        if usable:
            found += check_connections(config, database, plugins, env, clock)
            found += check_pulls(config, database, plugins, env, clock)
            found += check_alerts(config, database)
            found += check_webhooks(config, database)
    finally:
        database.close()
    return found


def connections_elsewhere(
    path: Path | None, env: Mapping[str, str]
) -> Collection[str] | None:
    """Return the names of connections the database has; None = it cannot tell.

    Rules may name these as well as those of `onward.toml`.
    """
    return _stored(
        path,
        env,
        lambda transaction, _: [state.name for state in read_all(transaction)],
        list[str](),
    )


def lists_nobody_has(path: Path | None, env: Mapping[str, str]) -> Sequence[str]:
    """Return a sentence for each segment that something names and no account has."""

    def read(transaction: Transaction, config: Config) -> list[str]:
        return [f"{of}: {why}" for of, why in unknown_segments(transaction, config)]

    return _stored(path, env, read, list[str]()) or ()


def names_nobody_has(path: Path | None, env: Mapping[str, str]) -> Sequence[Problem]:
    """Return the conditions that name a connection or an audience nobody has."""
    try:
        config = load_config(path, env, connections_elsewhere=None)
        text = path.read_text("utf-8-sig") if path is not None else ""
    except (OnwardError, OSError):
        return ()  # said already

    def read(transaction: Transaction, config: Config) -> list[Problem]:
        known = {state.name for state in read_all(transaction)}
        audiences = read_book(transaction, config.audiences).filters
        problems = Problems()
        check_conditions(config, {*config.connections, *known}, audiences, problems)
        return problems.listed(text)

    alone = Problems()
    filters = {one.key: one.conditions for one in config.audiences}
    check_conditions(config, config.connections, filters, alone)
    return _stored(path, env, read, alone.listed(text)) or ()


def _stored(
    path: Path | None,
    env: Mapping[str, str],
    read: Callable[[Transaction, Config], Found],
    empty: Found,
) -> Found | None:
    """Read something from the database, if it is there and fits; else None."""
    try:
        config = load_config(path, env, connections_elsewhere=None)
        database = Database(config.database_url)
        if not is_made(database):
            return empty
        try:
            with database.read() as transaction:
                step = current_revision(transaction)
                if releases_ahead(transaction, step) not in (0, 1):
                    return None
                return read(transaction, config)
        finally:
            database.close()
    except Exception:
        # Whatever is wrong with it is found and said by its own check.
        return None


def _check_config(
    path: Path | None, env: Mapping[str, str], elsewhere: Collection[str] | None
) -> list[Check]:
    name = path.name if path else "onward.toml"
    if path is None:
        init = "`onward init` makes one"
        found = [warning(name, "there is none; the defaults are used", init)]
    else:
        found = []
    problems = check_config(path, env, connections_elsewhere=elsewhere)
    problems += names_nobody_has(path, env)
    for one in problems:
        found.append(
            problem(name, str(one), "correct the file, or set what is missing")
        )
    if path is not None and not problems:
        config: Config = load_config(path, env, connections_elsewhere=None)
        count = len(config.rules) + len(config.point_triggers)
        found.append(
            Check(
                name,
                "ok",
                f"{path}: {len(config.connections)} connections, {count} rules and "
                "triggers",
            )
        )
    return found


def _check_plugins(plugins: Plugins, env: Mapping[str, str]) -> list[Check]:
    if env.get("ONWARD_SAFE_MODE"):
        return [
            warning(
                "plugins",
                "none is loaded, because ONWARD_SAFE_MODE is set",
                "unset it to push again",
            )
        ]
    found: list[Check] = []
    for one in plugins.loaded:
        name = f"plugin {one.name}"
        if one.problem == "disabled":
            found.append(Check(name, "ok", "disabled in onward.toml"))
        elif one.problem:
            found.append(
                problem(
                    name,
                    f"not loaded: {one.problem}",
                    "update or repair it, or list it under [plugins] disabled",
                )
            )
        else:
            found.append(Check(name, "ok", ", ".join(one.integrations) or "loaded"))
    if not plugins.loaded:
        found.append(
            warning("plugins", "there is none", "install one, or nothing can be pushed")
        )
    return found
