"""Foreign text, made safe to store and to print."""

from __future__ import annotations

from itertools import chain

# Steer a terminal, turn text around, or (NUL) are no text for PostgreSQL.
_CONTROL = dict.fromkeys(
    chain(
        sorted(set(range(0x20)) - {*b"\t\n\r"}),
        range(0x7F, 0xA0),
        range(0x202A, 0x202F),
        range(0x2066, 0x206A),
    ),
    " ",
)


def without_control(text: str) -> str:
    """Return a text with a blank for each control character; lines stay lines."""
    return text.translate(_CONTROL)


def one_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return " ".join(without_control(text).split())
