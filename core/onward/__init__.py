"""Onward pushes marketing contacts to the services their owner uses."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onward.answer import Answer
    from onward.api import Api, is_loopback
    from onward.app import Onward
    from onward.contract import (
        Account,
        FieldType,
        Item,
        Limit,
        Membership,
        Outcome,
        OutcomeKind,
        Page,
        RemoteChange,
        RemoteContact,
        RemoteField,
        RemoteKey,
        RemoteSegment,
        day,
        hour,
        minute,
        second,
    )
    from onward.decorator import integration
    from onward.errors import (
        AccountBlocked,
        ConfigError,
        CredentialsRefused,
        FieldMapError,
        InputError,
        Lost,
        OnwardError,
        PluginError,
        Rejected,
        SegmentGone,
        ServiceError,
        Temporary,
    )
    from onward.hookspecs import Draft, hookimpl
    from onward.integrations import ConnectionSettings, Integration, Secret, setting

__version__ = "0.2.0"

__all__ = [
    "Account",
    "AccountBlocked",
    "Answer",
    "Api",
    "ConfigError",
    "ConnectionSettings",
    "CredentialsRefused",
    "Draft",
    "FieldMapError",
    "FieldType",
    "InputError",
    "Integration",
    "Item",
    "Limit",
    "Lost",
    "Membership",
    "Onward",
    "OnwardError",
    "Outcome",
    "OutcomeKind",
    "Page",
    "PluginError",
    "Rejected",
    "RemoteChange",
    "RemoteContact",
    "RemoteField",
    "RemoteKey",
    "RemoteSegment",
    "Secret",
    "SegmentGone",
    "ServiceError",
    "Temporary",
    "day",
    "hookimpl",
    "hour",
    "integration",
    "is_loopback",
    "minute",
    "second",
    "setting",
]

# Where each name is. They are imported when first asked for: database and HTTP
# client take a second to import, and `onward --help` needs neither.
_HOMES = {
    "onward.answer": ("Answer",),
    "onward.api": ("Api", "is_loopback"),
    "onward.app": ("Onward",),
    "onward.contract": (
        "Account",
        "FieldType",
        "Item",
        "Limit",
        "Membership",
        "Outcome",
        "OutcomeKind",
        "Page",
        "RemoteChange",
        "RemoteContact",
        "RemoteField",
        "RemoteKey",
        "RemoteSegment",
        "day",
        "hour",
        "minute",
        "second",
    ),
    "onward.decorator": ("integration",),
    "onward.errors": (
        "AccountBlocked",
        "ConfigError",
        "CredentialsRefused",
        "FieldMapError",
        "InputError",
        "Lost",
        "OnwardError",
        "PluginError",
        "Rejected",
        "SegmentGone",
        "ServiceError",
        "Temporary",
    ),
    "onward.hookspecs": ("Draft", "hookimpl"),
    "onward.integrations": ("ConnectionSettings", "Integration", "Secret", "setting"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # else every misspelt name would pass the type checkers

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names, imported already or not."""
    return sorted({*globals(), *__all__})
