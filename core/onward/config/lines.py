"""On which line of a TOML text a key stands."""

from __future__ import annotations

import tomllib
from typing import cast

KeyPath = tuple[str | int, ...]
"""Keys and indexes from the root, as `("rules", 0, "when")`."""


def line_index(text: str) -> dict[KeyPath, int]:
    """Tell on which line each table and key of a valid TOML text is.

    `tomllib` keeps no positions. But a statement of TOML ends with its line, so the
    shortest run of whole lines that parses by itself is a statement, and its parse
    says which keys it sets.
    """
    lines: dict[KeyPath, int] = {}
    rows: dict[KeyPath, int] = {}
    base: KeyPath = ()
    chunk, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not chunk:
            start = number
        chunk += line + "\n"
        try:
            parsed = tomllib.loads(chunk)
        except tomllib.TOMLDecodeError:
            continue
        if chunk.lstrip().startswith("["):
            base = _header(parsed, rows)
            lines.setdefault(base, start)
        else:
            _note(parsed, base, start, lines)
        chunk = ""
    return lines


def _header(parsed: object, rows: dict[KeyPath, int]) -> KeyPath:
    """Return the path a header opens, the running index of each list included."""
    path: list[str | int] = []
    inner = parsed
    while isinstance(inner, dict) and inner:
        key, inner = next(iter(cast("dict[str, object]", inner).items()))
        path.append(key)
        so_far = tuple(path)
        if isinstance(inner, list):
            rows[so_far] = rows.get(so_far, -1) + 1
        if so_far in rows:
            path.append(rows[so_far])
    return tuple(path)


def _note(value: object, path: KeyPath, line: int, lines: dict[KeyPath, int]) -> None:
    if path:
        lines.setdefault(path, line)
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            _note(inner, (*path, key), line, lines)
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            _note(inner, (*path, index), line, lines)


def line_of(path: KeyPath, lines: dict[KeyPath, int]) -> int | None:
    """Return the line of a value, or of the nearest thing around it."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None
