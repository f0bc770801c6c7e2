"""Foreign text, made safe to store and to print."""

from __future__ import annotations

import re

# Steer a terminal, turn text around, or (NUL) are no text for PostgreSQL.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def without_control(text: str) -> str:
    """Return a text with a blank for each control character; lines stay lines."""
    return _CONTROL.sub(" ", text)


def one_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return " ".join(without_control(text).split())
