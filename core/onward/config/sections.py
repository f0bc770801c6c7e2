"""The parts of `onward.toml`: connections, rules, point triggers, contact fields."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import cast

from onward.config.model import (
    AudienceConfig,
    ConnectionConfig,
    OptIn,
    PointTrigger,
    PullConfig,
    PushTo,
    Rule,
    UnsubscribeMeans,
)
from onward.config.problems import Table, as_table, did_you_mean
from onward.config.values import (
    as_action_glob,
    as_flag,
    as_interval,
    as_key,
    as_limits,
    as_number,
    as_repeat,
    as_segment,
    as_share,
    as_text,
    as_texts,
    as_time_of_day,
    as_timezone,
    fill_in,
)
from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS, ContactField
from onward.contract import FieldType
from onward.errors import ConfigError
from onward.filters import Filter
from onward.filters.names import BEYOND, is_of_event

_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Words that mean something else where a field may be named.
_TAKEN = {"action", "data", "custom", "consent", *BEYOND}
_FIELD_TYPES: tuple[FieldType, ...] = (
    "text",
    "date",
    "boolean",
    "number",
    "choice",
    "multi",
)
_OPT_INS: tuple[OptIn, ...] = ("normal", "pending")
_UNSUBSCRIBE_MEANS: tuple[UnsubscribeMeans, ...] = ("segment", "everywhere")
_NO_SETTINGS: dict[str, object] = {}
_NOWHERE: tuple[PushTo, ...] = ()
NO_EVENT = '"{}" is of an event, and an audience has none; name a field of contacts'


def read_connection(
    name: str, table: Table, folder: Path, env: Mapping[str, str]
) -> ConnectionConfig:
    """Read one `[connections.NAME]`; a missing `${VAR}` only spoils this one."""
    integration = table.need("integration", "", as_key)
    settings = table.read("settings", _NO_SETTINGS, as_table)
    filled: dict[str, object] = {}
    variables: dict[str, tuple[str, ...]] = {}
    absent: dict[str, None] = {}
    for key, raw in settings.items():
        used: list[str] = []
        missing: list[str] = []
        value = fill_in(raw, env, used, missing)
        if used:
            variables[key] = tuple(used)
        if not missing:
            filled[key] = value
        absent.update(dict.fromkeys(missing))
    for variable in absent:
        table.problems.add(
            (*table.path, "settings"),
            f"the environment variable {variable} is not set; the connection cannot"
            " be used until it is",
            where=f"{table.where}.settings",
            stops=False,
        )
    field_map = table.read("field_map", integration, as_text)
    if "/" in field_map or field_map.endswith(".toml"):
        field_map = str((folder / field_map).absolute())
    declared = {key: table.raw(key) for key in table.given()}
    config = ConnectionConfig(
        name=name,
        integration=integration,
        enabled=table.read("enabled", True, as_flag),
        push_contacts=table.read("push_contacts", True, as_flag),
        segment=table.read("segment", None, as_segment),
        opt_in=table.one_of("opt_in", _OPT_INS),
        field_map=field_map,
        unsubscribe_means=table.one_of("unsubscribe_means", _UNSUBSCRIBE_MEANS),
        limits=table.read("limits", (), as_limits),
        pull=_read_pull(table),
        settings=filled,
        variables=variables,
        missing_variables=tuple(absent),
        fingerprint=_fingerprint(declared, filled),
    )
    table.finish(hint=f"; the integration's own belong under [{table.where}.settings]")
    return config


def _read_pull(table: Table) -> PullConfig:
    usual = PullConfig()
    return PullConfig(
        every=table.read("pull", usual.every, as_interval),
        at=table.read("pull_at", "", as_time_of_day),
        timezone=table.read("timezone", "", as_timezone),
        fire=table.read("fire_on_pull", False, as_flag),
        limit=table.read("pull_limit", usual.limit, as_share),
        opt_outs=table.read("push_opt_outs", False, as_flag),
    )


def read_audience(table: Table, known_fields: Collection[str]) -> AudienceConfig:
    """Read one `[[audiences]]`."""
    key = _key(table)
    audience = AudienceConfig(
        key=key,
        name=table.read("name", key, as_text),
        conditions=_conditions(table, known_fields),
    )
    for field in filter(is_of_event, sorted(audience.conditions.fields())):
        table.add("if", NO_EVENT.format(field))
    table.finish()
    return audience


def _conditions(table: Table, known_fields: Collection[str]) -> Filter:
    raw = table.read("if", None, lambda value: value)
    if raw is None:
        return Filter()
    try:
        return Filter.parse(raw, source="", known=known_fields)
    except ConfigError as error:
        table.add("if", error.message)
    return Filter()


def _fingerprint(declared: dict[str, object], filled: dict[str, object]) -> str:
    """Tell one declaration from another without giving its secrets away."""
    rest = {name: value for name, value in declared.items() if name != "settings"}
    secrets = _hardened(_as_json([declared.get("settings"), filled]))
    return hashlib.sha256(_as_json([rest, secrets]).encode()).hexdigest()[:32]


def _as_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


@lru_cache(maxsize=64)
def _hardened(text: str) -> str:
    """Return what may be known of settings.

    scrypt, because a short password must not be found by trying: about 10 ms a
    guess, paid once per settings and process.
    """
    salt = b"onward connection fingerprint 2"
    digest = hashlib.scrypt(text.encode(), salt=salt, n=2**12, r=8, p=1, dklen=16)
    return digest.hex()


def read_rule(
    table: Table, known_fields: Collection[str], connections: Collection[str] | None
) -> Rule:
    """Read one `[[rules]]`."""
    key = _key(table)
    conditions = _conditions(table, known_fields)
    rule = Rule(
        key=key,
        when=table.need("when", "", as_action_glob),
        conditions=conditions,
        push_to=_push_to(table, connections),
        points=table.read("points", 0, as_number(-1_000_000_000)),
        add_to=table.read("add_to", (), as_texts),
        repeat=table.read("repeat", "every", as_repeat),
        enabled=table.read("enabled", True, as_flag),
    )
    if not any(table.has(word) for word in ("push_to", "points", "add_to")):
        table.problems.add(
            table.path,
            'does nothing; give it "push_to", "points" or "add_to"',
            where=table.where,
        )
    table.finish()
    return rule


def read_trigger(table: Table, connections: Collection[str] | None) -> PointTrigger:
    """Read one `[[point_triggers]]`."""
    key = _key(table)
    trigger = PointTrigger(
        key=key,
        name=table.read("name", key, as_text),
        points=table.need("points", 1, as_number(1)),
        push_to=_push_to(table, connections),
        add_to=table.read("add_to", (), as_texts),
        re_arm=table.read("re_arm", False, as_flag),
        enabled=table.read("enabled", True, as_flag),
    )
    table.finish()
    return trigger


def _key(table: Table) -> str:
    key = table.need("key", "", as_key)
    if key:
        # From here on people find it by its key rather than by its number.
        table.where = f"{table.path[0]}.{key}"
    return key


def _push_to(table: Table, connections: Collection[str] | None) -> tuple[PushTo, ...]:
    targets = table.read("push_to", _NOWHERE, as_push_to)
    for target in targets:
        name = target.connection
        if connections is not None and name not in connections:
            advice = did_you_mean(name, connections) or (
                f"; declare it as [connections.{name}]"
            )
            table.add("push_to", f'there is no connection "{name}"{advice}')
    return targets


def as_push_to(value: object) -> tuple[PushTo, ...]:
    """Return targets: names, or tables like `{ to = "…", segment = "…" }`."""
    entries = cast("list[object]", value) if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(_target(entry) for entry in entries))


def _target(entry: object) -> PushTo:
    if isinstance(entry, str):
        return PushTo(as_text(entry))
    if not isinstance(entry, dict):
        raise ValueError(  # noqa: TRY004 - Table.read() takes one kind
            'must name connections, as ["acme"] or [{ to = "acme", segment = "VIP" }]'
        )
    values = cast("dict[str, object]", entry)
    for key in values:
        if key not in ("to", "segment"):
            raise ValueError(
                f'"{key}" is not known in an entry; it takes "to" and "segment"'
            )
    if "to" not in values:
        raise ValueError('an entry lacks "to", the name of the connection')
    segment = as_segment(values["segment"]) if "segment" in values else None
    return PushTo(as_text(values["to"]), segment)


def read_field(name: str, table: Table) -> ContactField:
    """Read one entry of `[contact_fields]`: a type, or a table with more."""
    title = name.replace("_", " ").capitalize()
    problem = field_name_problem(name)
    if problem:
        table.add(name, problem)
    if isinstance(table.raw(name), str):
        return ContactField(name, title, table.one_of(name, _FIELD_TYPES))
    inner = table.table(name)
    if inner is None:
        return ContactField(name, title)
    field = ContactField(
        name=name,
        title=inner.read("title", title, as_text),
        type=inner.one_of("type", _FIELD_TYPES),
        choices=inner.read("choices", (), as_texts),
    )
    if field.choices and field.type not in ("choice", "multi"):
        inner.add("choices", 'needs type = "choice" or "multi"')
    inner.finish()
    return field


def field_name_problem(name: str) -> str:
    """Say why a custom field cannot be called this; "" when it can."""
    if name in STANDARD_FIELDS or name in DERIVED_FIELDS:
        return "every contact has this field already; leave it out"
    if name in _TAKEN:
        return "this name is taken; choose another"
    if not _FIELD_NAME.fullmatch(name):
        return (
            "a field's name may hold a to z, 0 to 9 and underscore, must begin with a"
            " letter and be at most 64 characters long"
        )
    return ""
