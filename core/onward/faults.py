"""What is wrong with a plugin, as a sentence for its author."""

from __future__ import annotations

import inspect
import re
import traceback
from pathlib import Path
from typing import cast

import pluggy

from onward import hookspecs
from onward.integrations import CONTRACT, ConnectionSettings, Integration

KEY = re.compile(r"[a-z][a-z0-9_]*")
HOOKS = ("before_push", "register_integrations")


def draft_fault(draft: hookspecs.Draft) -> str:
    """Say what a hook left in a draft that nobody could send; "" when nothing."""
    # A plugin need not be type-checked: its promises are looked at again here.
    given = cast("object", draft.fields)
    if not isinstance(given, dict):
        return f"fields that are no dict but {type(given).__name__}"
    for name, text in cast("dict[object, object]", given).items():
        if not isinstance(name, str) or not isinstance(text, str):
            return f"{name!r}: {type(text).__name__}, where only texts can be sent"
    veto = cast("object", draft.veto)
    if not isinstance(veto, str):
        return f"a veto that is no sentence but {type(veto).__name__}"
    return ""


def integration_fault(integration: type[Integration]) -> str:
    """Say why a class cannot be used as an integration; "" when it can."""
    key = cast("object", integration.key)
    if not isinstance(key, str) or not KEY.fullmatch(key):
        return (
            f"{integration.__name__} needs a `key` of lower-case letters, digits and "
            f'"_", as "acme"; it has {key!r}'
        )
    if integration.contract != CONTRACT:
        return (
            f'"{key}" is written for contract {integration.contract}, '
            f"this Onward has {CONTRACT}: update the plugin or Onward"
        )
    missing = [
        f"{name}()"
        for name in ("verify", "fields", "push")
        if getattr(integration, name) is getattr(Integration, name)
    ]
    if missing:
        return f'"{key}" lacks {", ".join(missing)}'
    settings = cast("object", integration.Settings)
    if not inspect.isclass(settings) or not issubclass(settings, ConnectionSettings):
        return f'the Settings of "{key}" must be a subclass of ConnectionSettings'
    for name in ("batch_size", "batch_bytes", "in_flight", "calls_per_batch"):
        if getattr(integration, name) < 1:
            return f'`{name}` of "{key}" must be at least 1'
    return ""


def load_fault(error: BaseException, source: str) -> str:
    """Say why a plugin could not be loaded, with the place in its own file."""
    if isinstance(error, pluggy.PluginValidationError):
        return _hook_fault(error)
    if isinstance(error, SyntaxError):
        place = f"{Path(error.filename or source).name}, line {error.lineno}"
        return f"SyntaxError: {error.msg} ({place})"
    frames = traceback.extract_tb(error.__traceback__)
    words = f"{type(error).__name__}: {error}"
    if not frames:
        return words
    return f"{words} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _hook_fault(error: pluggy.PluginValidationError) -> str:
    """Say what is wrong with a hook, and which hooks there are."""
    known = [
        f"{name}({', '.join(inspect.signature(getattr(hookspecs, name)).parameters)})"
        for name in HOOKS
    ]
    # pluggy writes the plugin's repr and one part a line; its name is known here.
    words = re.sub(r"^Plugin \S+ for | in plugin <.*$", "", str(error))
    return f"{' '.join(words.split())}; the hooks are {', '.join(known)}"
