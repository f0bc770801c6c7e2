"""Open Onward for one command, as the global options say."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from onward.app import Onward
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
def open_app(ctx: typer.Context) -> Generator[Onward, None, None]:
    """Open Onward for the time of the block; its warnings go to stderr."""
    from onward.app import Onward

    with logging_to_stderr(logging.WARNING):
        app = Onward.from_config(options_of(ctx).config or None)
        try:
            yield app
        finally:
            app.close()


@contextmanager
def open_runtime(ctx: typer.Context) -> Generator[Runtime, None, None]:
    """Open what the parts of Onward share, for the time of the block."""
    with open_app(ctx) as app:
        yield app.runtime


@contextmanager
def logging_to_stderr(
    level: int, layout: str = "%(message)s"
) -> Generator[logging.Handler, None, None]:
    """Log to stderr, without secrets, for the time of the block."""
    from onward.redact import RedactingFilter, Redactor

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(layout))
    handler.addFilter(RedactingFilter(Redactor()))
    root, ours = logging.getLogger(), logging.getLogger("onward")
    before = ours.level
    root.addHandler(handler)
    ours.setLevel(level)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        ours.setLevel(before)
