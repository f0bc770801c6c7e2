"""The two hooks a plugin may implement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pluggy

from onward.integrations import Integration

PROJECT = "onward"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(slots=True)
class Draft:
    """A contact that is about to be pushed, mapped.

    Args:
        connection: its name.
        integration: key of the integration.
        contact_id: ours.
        segment: id of the remote segment, "" for none.
        fields: remote name → text; may be changed in place.
        veto: set it to a sentence to leave this contact out.
    """

    connection: str
    integration: str
    contact_id: int
    segment: str
    fields: dict[str, str] = field(default_factory=dict[str, str])
    veto: str = ""


@hookspec
def register_integrations(
    register: Callable[[type[Integration]], None],
) -> None:
    """Announce the integrations of this plugin: `register(Acme)`.

    Args:
        register: call it once per class.
    """


@hookspec
def before_push(draft: Draft) -> None:
    """Change what is sent, or veto it, just before it is checked and sent.

    Called once per contact and send, in the worker; keep it quick. What it
    raises leaves this contact waiting for a retry and names the plugin.

    Args:
        draft: change `fields` in place, or set `veto`.
    """
