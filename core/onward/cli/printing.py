"""Tables for people, plain lines for pipes, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, cast

from onward.plain import without_control

if TYPE_CHECKING:
    from collections.abc import Callable

# More rows than this are no help on a terminal; a pipe and --json get all.
MOST_ROWS = 200


def say(text: str = "") -> None:
    """Print a line, or several."""
    print(without_control(text))


def note(text: str) -> None:
    """Print a line that is no result: a remark, a question, a problem."""
    print(without_control(text), file=sys.stderr)


def cell(value: object) -> str:
    """Return a value as one line of text that cannot steer a terminal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, cast("Iterable[object]", value)))
    return "".join(c if c.isprintable() else " " for c in str(value))


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = ""
) -> None:
    """Print a table: drawn on a terminal, tab-separated and complete in a pipe.

    Args:
        empty: a remark when there are no rows.
    """
    texts = ([cell(value) for value in row] for row in rows)
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in texts:
            print("\t".join(row))
        return
    shown = list(islice(texts, MOST_ROWS))
    if not shown:
        note(empty or "there are none")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in shown:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)
    more = sum(1 for _ in texts)
    if more:
        note(f"… and {more} more; a filter finds them, a pipe or --json has them all")


def print_json(rows: Iterable[Mapping[str, object]]) -> None:
    """Print rows as one JSON array; any number of them, in little memory."""
    from onward.contacts.writing import write_json

    write_json(sys.stdout, rows)


def print_document(value: Mapping[str, object]) -> None:
    """Print one JSON object."""
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=cell).decode())


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print `name: value` lines, blank values left out."""
    for name, value in facts:
        text = cell(value)
        if text:
            print(f"{name}: {text}")


@contextmanager
def progress(
    what: str, total: int | None = None
) -> Generator[Callable[[int], None], None, None]:
    """Show how far long work is, on a terminal only; yields `advance(by)`.

    Args:
        total: when known, the time that is left is shown too.
    """
    if not progressing():
        yield lambda by: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *([TextColumn("left"), TimeRemainingColumn()] if total else []),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda by: bar.advance(task, by)


def progressing() -> bool:
    """Tell whether somebody sees how far long work is."""
    return sys.stderr.isatty()


def interactive() -> bool:
    """Tell whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()
