"""iContact for Onward: announces the integration, nothing else."""

from collections.abc import Callable

from onward import Integration, hookimpl
from onward_icontact.integration import IContact

__all__ = ["IContact"]


@hookimpl
def register_integrations(register: Callable[[type[Integration]], None]) -> None:
    """Announce iContact."""
    register(IContact)
