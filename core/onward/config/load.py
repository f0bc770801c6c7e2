"""Finding, reading and checking `onward.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from onward.config.alerts import read_alerts
from onward.config.model import (
    RETRY_AFTER,
    Config,
    ConnectionConfig,
    Durability,
    EngineName,
    LogFormat,
    LogLevel,
    Retention,
)
from onward.config.problems import Problem, Problems, Table
from onward.config.sections import (
    read_audience,
    read_connection,
    read_field,
    read_rule,
    read_trigger,
)
from onward.config.values import (
    as_duration,
    as_durations,
    as_key,
    as_listen,
    as_number,
    as_public_url,
    as_retention,
    as_text,
    as_texts,
    as_timezone,
    fill_in,
)
from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS, ContactField
from onward.errors import ConfigError

FILE_NAME = "onward.toml"
DEFAULT_DATABASE_URL = "sqlite:///onward.db"

_DURABILITIES: tuple[Durability, ...] = ("normal", "power")
LOG_FORMATS: tuple[LogFormat, ...] = ("text", "json")
LOG_LEVELS: tuple[LogLevel, ...] = ("info", "debug", "warning", "error")
_ENGINES: tuple[EngineName, ...] = ("embedded", "cluster")
_WRITTEN_AT = re.compile(r" \(at line (\d+), column \d+\)$")


def find_config(
    explicit: str | Path | None, env: Mapping[str, str], cwd: Path
) -> Path | None:
    """Return the file to read: as told, else `ONWARD_CONFIG`, else `./onward.toml`.

    The first two are returned without a look at the disk; None means that nobody
    named a file and there is none in `cwd`.
    """
    named = explicit or env.get("ONWARD_CONFIG")
    if named:
        return cwd / Path(named).expanduser()
    path = cwd / FILE_NAME
    return path if path.is_file() else None


def load_config(
    path: Path | None,
    env: Mapping[str, str],
    *,
    connections_elsewhere: Collection[str] | None = (),
) -> Config:
    """Read and check the file; without a file, return the defaults.

    Args:
        path: relative paths in the file are relative to its folder, without a file
            to the current one.
        env: `ONWARD_DATABASE_URL` overrides the file, `${VAR}` is looked up here.
        connections_elsewhere: names of connections the database has, which rules
            and triggers may name too; None = do not check those names.

    Raises:
        ConfigError: the file cannot be used; one line per problem.
    """
    config, problems = _read(path, env, connections_elsewhere)
    stopping = [problem for problem in problems if problem.stops]
    if stopping:
        name = path.name if path else "environment"
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in stopping))
    return config


def check_config(
    path: Path | None,
    env: Mapping[str, str],
    *,
    connections_elsewhere: Collection[str] | None = (),
) -> list[Problem]:
    """Return all that is wrong with the file, what stops nothing included."""
    return _read(path, env, connections_elsewhere)[1]


def _read(
    path: Path | None, env: Mapping[str, str], elsewhere: Collection[str] | None
) -> tuple[Config, list[Problem]]:
    text, values, unreadable = _parse(path) if path else ("", {}, None)
    folder = (path.parent if path else Path()).absolute()
    config, problems = read_values(values, folder, env, elsewhere)
    # Nothing else can be said about a file that could not be read.
    found = [unreadable] if unreadable else problems.listed(text)
    return replace(
        config,
        path=path.absolute() if path else None,
        warnings=tuple(problem for problem in found if not problem.stops),
    ), found


def read_values(
    values: dict[str, object],
    folder: Path,
    env: Mapping[str, str],
    elsewhere: Collection[str] | None,
) -> tuple[Config, Problems]:
    """Read what the file says; wrong values are noted and replaced by defaults."""
    problems = Problems()
    root = Table(values, (), problems)
    own = root.table("onward") or Table({}, ("onward",), problems)
    plugins = root.table("plugins") or Table({}, ("plugins",), problems)
    alerts = root.table("alerts") or Table({}, ("alerts",), problems)
    days = own.read("retention_days", 90, as_number(0, 36_500))
    retention = _retention(root, days)
    fields = _fields(root)
    connections = _connections(root, folder, env)
    known_fields = {*STANDARD_FIELDS, *DERIVED_FIELDS, *fields}
    known = None if elsewhere is None else {*connections, *elsewhere}
    rules = [read_rule(t, known_fields, known) for t in root.tables("rules")]
    triggers = [read_trigger(t, known) for t in root.tables("point_triggers")]
    _refuse_twice(problems, "rules", [rule.key for rule in rules])
    _refuse_twice(problems, "point_triggers", [trigger.key for trigger in triggers])
    audiences = [read_audience(t, known_fields) for t in root.tables("audiences")]
    _refuse_twice(problems, "audiences", [one.key for one in audiences])
    config = Config(
        path=None,
        database_url=_database_url(own, folder, env),
        durability=own.one_of("durability", _DURABILITIES),
        engine=own.one_of("engine", _ENGINES),
        lease=own.read("lease", timedelta(seconds=60), as_duration),
        retry=own.read("retry", RETRY_AFTER, as_durations),
        timezone=own.read("timezone", "UTC", as_timezone),
        log_format=own.one_of("log_format", LOG_FORMATS),
        log_level=own.one_of("log_level", LOG_LEVELS),
        listen=own.read("listen", "", as_listen),
        public_url=own.read("public_url", "", as_public_url),
        grace=own.read("grace", timedelta(seconds=30), as_duration),
        retention_days=days,
        retention=retention,
        plugins_disabled=plugins.read("disabled", (), as_texts),
        plugins_dir=folder / "plugins",
        contact_fields=fields,
        connections=connections,
        rules=tuple(rules),
        point_triggers=tuple(triggers),
        audiences=tuple(audiences),
        alerts=read_alerts(alerts, env),
    )
    for table in (own, plugins, alerts, root):
        table.finish()
    return config, problems


def _parse(path: Path) -> tuple[str, dict[str, object], Problem | None]:
    """Return the file's text and values, or why it cannot be read."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        why = f"there is no such file in {path.parent}; `onward init` makes one"
    except UnicodeDecodeError:
        why = "the file is not UTF-8 text; save it as UTF-8"
    except OSError as error:
        why = f"the file cannot be read: {error.strerror}"
    else:
        try:
            return text, tomllib.loads(text), None
        except tomllib.TOMLDecodeError as error:
            place = _WRITTEN_AT.search(str(error))
            why = "this is not valid TOML: " + _WRITTEN_AT.sub("", str(error))
            line = int(place[1]) if place else text.count("\n") + 1
            return "", {}, Problem("", why, line)
    return "", {}, Problem("", why)


def _retention(root: Table, days: int) -> Retention:
    table = root.table("retention") or Table({}, ("retention",), root.problems)
    common = timedelta(days=days) if days else None
    retention = Retention(
        events=table.read("events", common, as_retention),
        deliveries=table.read("deliveries", common, as_retention),
        reports=table.read("reports", common, as_retention),
    )
    table.finish()
    return retention


def _fields(root: Table) -> dict[str, ContactField]:
    table = root.table("contact_fields")
    if table is None:
        return {}
    return {name: read_field(name, table) for name in table.given()}


def _connections(
    root: Table, folder: Path, env: Mapping[str, str]
) -> dict[str, ConnectionConfig]:
    table = root.table("connections")
    found: dict[str, ConnectionConfig] = {}
    if table is None:
        return found
    for name in table.given():
        if (inner := table.table(name)) is None:
            continue
        try:
            as_key(name)
        except ValueError as error:
            inner.problems.add(inner.path, f"the name {error}", where=inner.where)
        found[name] = read_connection(name, inner, folder, env)
    return found


def _refuse_twice(problems: Problems, kind: str, keys: list[str]) -> None:
    for index, key in enumerate(keys):
        if key and key in keys[:index]:
            problems.add(
                (kind, index, "key"),
                "this key is used twice; each needs its own",
                where=f"{kind}.{key}",
            )


def _database_url(own: Table, folder: Path, env: Mapping[str, str]) -> str:
    """Return the URL with its path and driver settled; never show it."""

    def parse(value: object) -> str:
        missing: list[str] = []
        url = str(fill_in(as_text(value), env, [], missing))
        if missing:
            raise ValueError(f"the environment variable {missing[0]} is not set")
        return settle_database_url(url, folder)

    default = settle_database_url(DEFAULT_DATABASE_URL, folder)
    url = own.read("database_url", default, parse)
    if override := env.get("ONWARD_DATABASE_URL"):
        try:
            return settle_database_url(override, folder)
        except ValueError as error:
            own.problems.add((), str(error), where="ONWARD_DATABASE_URL")
    return url


def settle_database_url(url: str, folder: Path) -> str:
    """Make a relative SQLite path absolute, and name the driver of PostgreSQL.

    Raises:
        ValueError: neither SQLite nor PostgreSQL; the text does not hold the URL.
    """
    scheme, found, rest = url.partition("://")
    if found and scheme in ("postgres", "postgresql"):
        return f"postgresql+psycopg://{rest}"
    if found and scheme == "postgresql+psycopg":
        return url
    if not found or scheme not in ("sqlite", "sqlite+pysqlite"):
        raise ValueError(
            "must begin with sqlite:/// (and a path) or postgresql:// (and a server)"
        )
    if rest and not rest.startswith("/"):
        raise ValueError("a SQLite path needs three slashes: sqlite:///onward.db")
    path, mark, query = rest[1:].partition("?")
    if not path or path == ":memory:" or path.startswith("file:"):
        return url
    return f"{scheme}:///{folder / path}{mark}{query}"
