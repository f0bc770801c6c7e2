"""What `onward.toml` says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from onward.config.alerts import AlertsConfig
from onward.config.problems import Problem
from onward.contacts.fields import ContactField
from onward.contract import Limit
from onward.filters import Filter

Durability = Literal["normal", "power"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["info", "debug", "warning", "error"]
EngineName = Literal["embedded", "cluster"]
OptIn = Literal["normal", "pending"]
UnsubscribeMeans = Literal["segment", "everywhere"]

# After the n-th failed try. 27 h 35 min in all.
RETRY_AFTER: tuple[timedelta, ...] = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=10),
)

SegmentChoice = str | Literal[False] | None
"""A remote segment by name or id; None = not said; False = none at all."""

Repeat = Literal["every", "once"] | timedelta
"""How often a rule may run for one contact; a timedelta is a cool-down."""


@dataclass(frozen=True, slots=True)
class PullConfig:
    """When and how contacts are pulled from a connection.

    Args:
        every: whole days are days of the calendar; None = never.
        at: `HH:MM`; "" = the time of day it was connected at.
        timezone: of `at`; "" = that of `[onward]`.
        fire: let changes that come with a pull lead to actions, for rules.
        limit: a pull that finds a larger share of the known contacts missing,
            changed or stopped than this stops and asks.
        opt_outs: also push out a do-not-contact of ours, as an unsubscription.
    """

    every: timedelta | None = timedelta(days=1)
    at: str = ""
    timezone: str = ""
    fire: bool = False
    limit: float = 0.2
    opt_outs: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> PullConfig:
        """Read what `document` wrote; what is missing has its default."""
        given = dict(options)
        if given.get("every") is not None:
            given["every"] = timedelta(seconds=given["every"])
        return cls(**given)

    @property
    def document(self) -> dict[str, Any]:
        """Plain data, only what is not the default."""
        said = {
            "every": None if self.every is None else self.every.total_seconds(),
            "at": self.at,
            "timezone": self.timezone,
            "fire": self.fire,
            "limit": self.limit,
            "opt_outs": self.opt_outs,
        }
        usual = PullConfig()
        return {name: one for name, one in said.items() if self._differs(usual, name)}

    def _differs(self, usual: PullConfig, name: str) -> bool:
        return bool(getattr(self, name) != getattr(usual, name))


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """One `[connections.NAME]`.

    Args:
        name: the connection's name.
        integration: key of the integration; whether it exists is not known here.
        enabled: False = switched off.
        push_contacts: False = nothing leaves.
        segment: where pushed contacts go.
        opt_in: `pending` lets the service ask for confirmation.
        field_map: name of a map, or an absolute path to one.
        unsubscribe_means: `everywhere` widens an unsubscription to every segment.
        limits: empty = the integration's own.
        pull: when contacts are pulled, and how.
        settings: the integration's settings, `${VAR}` replaced. A setting whose
            variable is missing is left out. Not checked here; holds secrets, so
            it is in no repr.
        variables: setting → names of the variables it was made from; such a
            setting is a secret and never stored.
        missing_variables: those of them the environment does not have. The
            connection cannot be used until it has.
        fingerprint: changes when anything declared, or the content of a variable,
            changes. Says nothing while a variable is missing.
    """

    name: str
    integration: str
    enabled: bool = True
    push_contacts: bool = True
    segment: SegmentChoice = None
    opt_in: OptIn = "normal"
    field_map: str = ""
    unsubscribe_means: UnsubscribeMeans = "segment"
    limits: tuple[Limit, ...] = ()
    pull: PullConfig = PullConfig()
    settings: dict[str, object] = field(default_factory=dict[str, object], repr=False)
    variables: dict[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    missing_variables: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def secrets_from(self) -> frozenset[str]:
        """The settings that came from the environment."""
        return frozenset(self.variables)


@dataclass(frozen=True, slots=True)
class PushTo:
    """Where a rule or trigger pushes to.

    Args:
        connection: its name.
        segment: None = the connection's own.
    """

    connection: str
    segment: SegmentChoice = None


@dataclass(frozen=True, slots=True)
class Rule:
    """When this action happens and the conditions hold, do that.

    Args:
        key: stable; what ran once for a key is remembered under it.
        when: name of an action, or a glob over names.
        points: added to the contact, may be negative; 0 = none.
        add_to: names of our segments.
        repeat: how often for one contact.
    """

    key: str
    when: str
    conditions: Filter = field(default_factory=Filter)
    push_to: tuple[PushTo, ...] = ()
    points: int = 0
    add_to: tuple[str, ...] = ()
    repeat: Repeat = "every"
    enabled: bool = True

    def matches(self, action: str) -> bool:
        """Tell whether `when` names this action; capitals count."""
        return action == self.when or fnmatchcase(action, self.when)


@dataclass(frozen=True, slots=True)
class PointTrigger:
    """When a contact's points are at or above `points`, do that once.

    Args:
        key: stable; that it fired is remembered under it.
        re_arm: may fire again after the points fell below.
    """

    key: str
    name: str
    points: int
    push_to: tuple[PushTo, ...] = ()
    add_to: tuple[str, ...] = ()
    re_arm: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class AudienceConfig:
    """A saved filter over contacts.

    Args:
        key: stable; what rules and commands name it by.
    """

    key: str
    name: str
    conditions: Filter = field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is over is kept; None = for ever.

    Args:
        events: with their keys: a repeat of an older one is taken for a new one.
        deliveries: that ended, with their causes, outcomes and attempts.
        reports: of imports and pulls, finished jobs, closed alerts.
    """

    events: timedelta | None = timedelta(days=90)
    deliveries: timedelta | None = timedelta(days=90)
    reports: timedelta | None = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `onward.toml` says, with its defaults.

    Args:
        path: the file; None when there is none.
        database_url: for SQLAlchemy; a relative SQLite path is made absolute
            beside the file. May hold a password, so it is in no repr.
        durability: `power` = committed work survives a power cut as well.
        engine: who calls the workers: threads of the process, or DBOS.
        lease: how long a worker keeps a connection without renewing.
        retry: waits after the first, second, … failed try of one contact.
        timezone: of times of day, as `Europe/Amsterdam`.
        log_format, log_level: of what the worker logs.
        listen: HOST:PORT of the worker's probes, metrics and webhooks; "" = none.
        public_url: where services reach that from outside; "" = they cannot.
        grace: how long a worker that is stopped lets what it sends end.
        retention_days: of all of `retention` that says nothing else; 0 = for ever.
        plugins_disabled: names of plugins not to load.
        plugins_dir: where drop-in plugins lie; need not exist.
        contact_fields: the custom fields, by name.
        connections: by name.
        warnings: what is wrong with one part and does not stop the others.
    """

    path: Path | None
    database_url: str = field(repr=False)
    plugins_dir: Path
    durability: Durability = "normal"
    engine: EngineName = "embedded"
    lease: timedelta = timedelta(seconds=60)
    retry: tuple[timedelta, ...] = RETRY_AFTER
    timezone: str = "UTC"
    retention_days: int = 90
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    listen: str = ""
    public_url: str = ""
    grace: timedelta = timedelta(seconds=30)
    retention: Retention = Retention()
    plugins_disabled: tuple[str, ...] = ()
    contact_fields: dict[str, ContactField] = field(
        default_factory=dict[str, ContactField]
    )
    connections: dict[str, ConnectionConfig] = field(
        default_factory=dict[str, ConnectionConfig]
    )
    rules: tuple[Rule, ...] = ()
    point_triggers: tuple[PointTrigger, ...] = ()
    audiences: tuple[AudienceConfig, ...] = ()
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    warnings: tuple[Problem, ...] = ()
