"""Open Onward for one command, as the global options say."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from onward.app import Onward
    from onward.config import Config
    from onward.redact import RedactingFilter
    from onward.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `onward` itself."""

    config: str = ""

    def path(self) -> Path | None:
        """Return the file to read, None when there is none."""
        from onward.config import find_config

        return find_config(self.config or None, os.environ, Path.cwd())


def options_of(ctx: typer.Context) -> Options:
    """Return the global options."""
    found = ctx.find_object(Options)
    return found if found is not None else Options()


@contextmanager
def open_app(
    ctx: typer.Context, log_format: str = "", log_level: str = ""
) -> Generator[Onward, None, None]:
    """Open Onward for the time of the block; its warnings go to stderr.

    Args:
        log_format, log_level: as somebody asked for; "" = the file's format, and
            warnings alone.

    Raises:
        InputError: there is no such format or level.
    """
    from onward.app import Onward

    app = Onward.from_config(options_of(ctx).config or None)
    config = with_options(app.config, log_format=log_format, log_level=log_level)
    level = config.log_level if log_level else "warning"
    number = logging.getLevelNamesMapping()[level.upper()]
    with logging_to_stderr(number, config.log_format, whole=bool(log_level)):
        try:
            yield app
        finally:
            app.close()


def with_options(config: Config, **given: str) -> Config:
    """Return the configuration with what the command line says instead.

    Args:
        given: name of a setting of `[onward]` → text; "" = as the file says.

    Raises:
        InputError: a value cannot be used.
    """
    from onward.config.load import LOG_FORMATS, LOG_LEVELS
    from onward.config.values import as_duration, as_listen
    from onward.errors import InputError

    words = {"log_format": LOG_FORMATS, "log_level": LOG_LEVELS}
    changed: dict[str, Any] = {}
    for name, text in given.items():
        option = f"--{name.replace('_', '-')}"
        if not text:
            continue
        if name in words:
            if text not in words[name]:
                known = ", ".join(words[name])
                raise InputError(f'{option} "{text}" is not known; there are: {known}')
            changed[name] = text
            continue
        try:
            changed[name] = (as_listen if name == "listen" else as_duration)(text)
        except ValueError as error:
            raise InputError(f"{option} {error}") from None
    return replace(config, **changed)


@contextmanager
def open_runtime(ctx: typer.Context) -> Generator[Runtime, None, None]:
    """Open what the parts of Onward share, for the time of the block."""
    with open_app(ctx) as app:
        yield app.runtime


@contextmanager
def logging_to_stderr(
    level: int, log_format: str = "text", *, whole: bool = False
) -> Generator[RedactingFilter, None, None]:
    """Log to stderr, without secrets and addresses, for the time of the block.

    Args:
        log_format: `json`, or `text` for people.
        whole: text lines with time and place, not the bare message.

    Yields:
        The filter, for when the secrets are known.
    """
    from onward.logs import JsonFormatter, TextFormatter, protect

    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    elif whole:
        handler.setFormatter(TextFormatter())
    else:
        # A command says itself what became of what it did.
        handler.addFilter(lambda record: record.name != "onward.trail")
    found = protect(handler)
    root, ours = logging.getLogger(), logging.getLogger("onward")
    before = ours.level
    root.addHandler(handler)
    ours.setLevel(level)
    try:
        yield found
    finally:
        root.removeHandler(handler)
        ours.setLevel(before)
