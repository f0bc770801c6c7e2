"""A bundle for support: how it is set up and what went wrong, nobody's data."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import orjson
from sqlalchemy import Connection as Transaction
from sqlalchemy import Executable, func, select
from sqlalchemy.engine import make_url

from onward import __version__
from onward.connections.listing import Listed, list_connections
from onward.connections.secrets import known_secrets
from onward.diagnose.anonymous import Anonymous
from onward.doctor import examine
from onward.errors import ConfigError
from onward.migrate import current_revision
from onward.models import Attempt, Job, Lease, OutcomeRow, Push, table
from onward.redact import MARK, Redactor
from onward.runtime import Runtime
from onward.sync.report import standings

LAST = 50
ANSWER_CHARACTERS = 2_000
PACKAGES = (
    "alembic",
    "blinker",
    "cryptography",
    "httpx",
    "jinja2",
    "orjson",
    "pluggy",
    "pydantic",
    "sqlalchemy",
    "sqlmodel",
    "typer",
)

pushes = table(Push)
outcomes = table(OutcomeRow)
attempts = table(Attempt)


def write_bundle(runtime: Runtime, path: Path) -> None:
    """Write the bundle as one JSON file.

    Raises:
        ConfigError: the file cannot be written.
    """
    content = orjson.dumps(collect(runtime), option=orjson.OPT_INDENT_2, default=str)
    try:
        path.touch(0o600)
        path.write_bytes(content + b"\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def collect(runtime: Runtime) -> dict[str, Any]:
    """Return the bundle: no secrets, no e-mail addresses, no contents of contacts."""
    redactor = Redactor([*known_secrets(runtime), *_keys(runtime)])
    with runtime.database.read() as transaction:
        document: dict[str, Any] = {
            "made_at": runtime.clock(),
            "versions": _versions(),
            "database": {
                "url": make_url(runtime.database.url).render_as_string(
                    hide_password=True
                ),
                "step": current_revision(transaction),
                "rows": _counts(transaction),
            },
            "config": _config(runtime),
            "plugins": [
                {
                    "name": one.name,
                    "source": one.source,
                    "integrations": one.integrations,
                    "problem": one.problem,
                }
                for one in runtime.plugins.loaded
            ],
            "connections": [
                _connection(runtime, one) for one in list_connections(transaction)
            ],
            # Without rows to spot-check, which are people.
            "pulls": [one.document for one in standings(runtime, transaction)],
            "deliveries": _deliveries(transaction),
            "last_attempts": _attempts(transaction),
            "last_failures": _failures(transaction),
            "jobs": _rows(transaction, select(table(Job)).limit(LAST)),
            "leases": _rows(transaction, select(table(Lease)).limit(LAST)),
        }
    document["checks"] = [
        check.document
        for check in examine(runtime.config.path, runtime.env, clock=runtime.clock)
    ]
    return cast("dict[str, Any]", Anonymous(runtime, redactor).clean(document))


def _keys(runtime: Runtime) -> list[str]:
    """Return the keys of stored secrets, should one ever stand in a text."""
    keys = [key.strip() for key in runtime.env.get("ONWARD_SECRET_KEY", "").split(",")]
    file = runtime.key_file
    if file is not None and file.is_file():
        keys += file.read_text("utf-8", "replace").split()
    return [key for key in keys if key]


def _versions() -> dict[str, str]:
    found = {
        "onward": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "sqlite": sqlite3.sqlite_version,
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _counts(transaction: Transaction) -> dict[str, int]:
    from sqlmodel import SQLModel

    return {
        one.name: transaction.execute(
            select(func.count()).select_from(one)
        ).scalar_one()
        for one in SQLModel.metadata.sorted_tables
    }


def _config(runtime: Runtime) -> dict[str, Any]:
    config = runtime.config
    return {
        "durability": config.durability,
        "engine": config.engine,
        "lease_s": config.lease.total_seconds(),
        "timezone": config.timezone,
        "retention_days": {
            name: None if kept is None else kept.days
            for name, kept in asdict(config.retention).items()
        },
        "plugins_disabled": config.plugins_disabled,
        "contact_fields": {n: f.type for n, f in config.contact_fields.items()},
        "rules": [
            {
                "key": rule.key,
                "when": rule.when,
                # Conditions may name people; what they look at is enough.
                "looks_at": sorted(rule.conditions.fields()),
                "push_to": [[to.connection, to.segment] for to in rule.push_to],
                "points": rule.points,
                "repeat": str(rule.repeat),
                "enabled": rule.enabled,
            }
            for rule in config.rules
        ],
        "point_triggers": [
            {
                "key": trigger.key,
                "points": trigger.points,
                "push_to": [[to.connection, to.segment] for to in trigger.push_to],
                "re_arm": trigger.re_arm,
                "enabled": trigger.enabled,
            }
            for trigger in config.point_triggers
        ],
        "warnings": [str(warning) for warning in config.warnings],
    }


def _connection(runtime: Runtime, one: Listed) -> dict[str, Any]:
    state = one.state
    declared = runtime.config.connections.get(state.name)
    settings = dict(declared.settings if declared else state.settings)
    kind = runtime.plugins.integrations.get(state.integration)
    # Of an integration that is not there, nobody knows which settings are secret.
    known = set(kind.Settings.described() if kind is not None else ())
    secret = kind.Settings.secret_names() if kind is not None else frozenset[str]()
    hidden = {*secret, *(declared.variables if declared else ()), *state.secrets}
    return {
        **one.document,
        "id": state.id,
        "version": state.version,
        "opt_in": state.opt_in,
        "unsubscribe_means": state.unsubscribe_means,
        "rest_step": state.rest_step,
        "fields": [field.name for field in state.remote_fields],
        "settings": {
            name: MARK if name in hidden or name not in known else value
            for name, value in {**dict.fromkeys(state.secrets, ""), **settings}.items()
        },
        "limits": [str(limit) for limit in declared.limits] if declared else [],
    }


def _deliveries(transaction: Transaction) -> list[dict[str, Any]]:
    found = (
        select(
            pushes.c.connection_id,
            pushes.c.state,
            pushes.c.code,
            func.count().label("rows"),
            func.min(pushes.c.due_at).label("first_due_at"),
        )
        .group_by(pushes.c.connection_id, pushes.c.state, pushes.c.code)
        .order_by(pushes.c.connection_id, pushes.c.state, pushes.c.code)
    )
    return _rows(transaction, found)


def _attempts(transaction: Transaction) -> list[dict[str, Any]]:
    """Return the last batches; of contents only what a refusal answered."""
    found = _rows(
        transaction, select(attempts).order_by(attempts.c.id.desc()).limit(LAST)
    )
    for attempt in found:
        attempt["exchanges"] = [
            {
                "method": exchange.get("method"),
                # Queries name people and their fields.
                "path": str(exchange.get("url", "")).partition("?")[0],
                "status": exchange.get("status"),
                "ms": exchange.get("ms"),
                "error": exchange.get("error"),
                "answer": _refusal(exchange),
            }
            for exchange in cast("Iterable[dict[str, Any]]", attempt["exchanges"])
        ]
    return found


def _refusal(exchange: Mapping[str, Any]) -> str | None:
    status = exchange.get("status")
    if not isinstance(status, int) or status < 400:
        return None
    return str(exchange.get("answer", ""))[:ANSWER_CHARACTERS]


def _failures(transaction: Transaction) -> list[dict[str, Any]]:
    found = (
        select(
            outcomes.c.id,
            outcomes.c.push_id,
            outcomes.c.attempt_id,
            pushes.c.contact_id,
            pushes.c.connection_id,
            outcomes.c.kind,
            outcomes.c.code,
            outcomes.c.reason,
            outcomes.c.at,
        )
        .join(pushes, pushes.c.id == outcomes.c.push_id)
        .where(outcomes.c.kind.not_in(("delivered", "unchanged")))
        .order_by(outcomes.c.id.desc())
        .limit(LAST)
    )
    return _rows(transaction, found)


def _rows(transaction: Transaction, found: Executable) -> list[dict[str, Any]]:
    return [dict(row) for row in transaction.execute(found).mappings()]
