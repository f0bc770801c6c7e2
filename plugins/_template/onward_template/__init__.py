"""Template for Onward: announces the integration, nothing else."""

from __future__ import annotations

from collections.abc import Callable

from onward import Integration, hookimpl

# Relative, so that the same files work installed and dropped into `plugins/`.
from .integration import Template

__all__ = ["Template"]


@hookimpl
def register_integrations(register: Callable[[type[Integration]], None]) -> None:
    """Announce Template."""
    register(Template)
