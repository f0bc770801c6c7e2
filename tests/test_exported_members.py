"""What `onward` exports is pinned: a name is added on purpose, or not at all."""

from __future__ import annotations

import subprocess
import sys

import pytest

import onward
import onward.testing

PUBLIC = [
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
FOR_TESTS = ["Clock", "FakeService", "Server", "TestApp", "app", "serve"]


def test_public_names_are_pinned_and_sorted() -> None:
    """`__all__` is exactly this list, in order; `__version__` is public as well."""
    assert onward.__all__ == PUBLIC
    assert sorted(onward.__all__) == onward.__all__
    assert sorted(onward.testing.__all__) == onward.testing.__all__ == FOR_TESTS


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_there(name: str) -> None:
    """Every name can be imported, though it is loaded only when asked for."""
    assert getattr(onward, name) is not None
    assert name in dir(onward)


def test_unknown_name_is_an_attribute_error() -> None:
    """Asking for what is not there fails as on any module."""
    with pytest.raises(AttributeError, match="'onward' has no attribute 'Onwards'"):
        getattr(onward, "Onwards")  # noqa: B009 - a typing error on purpose


def test_importing_onward_loads_nothing_heavy() -> None:
    """`import onward` leaves database, HTTP client and templates unloaded."""
    script = (
        "import sys, onward; heavy = {'sqlalchemy', 'httpx', 'jinja2', 'alembic',"
        " 'typer', 'cryptography'}; print(sorted(heavy & set(sys.modules)))"
    )

    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert said.stdout == "[]\n"
