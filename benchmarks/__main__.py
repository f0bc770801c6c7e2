"""Run the benchmarks and write `results.md`: `python -m benchmarks [NAME…]`."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import (
    actions,
    backfill,
    calls,
    dead,
    delivery,
    importing,
    latency,
    peers,
    pruning,
    pull,
    startup,
    workers,
)
from benchmarks.measure import Section, say, surroundings
from benchmarks.postgres import Postgres
from onward.cli import COLLECT

HERE = Path(__file__).parent


def _calls(options: argparse.Namespace) -> Iterator[Section]:
    yield calls.measure(commas="honoured")
    yield calls.measure(commas="ignored")


def _delivery(options: argparse.Namespace) -> Iterator[Section]:
    yield delivery.measure(20_000 // options.divide, options.runs)


def _peers(options: argparse.Namespace) -> Iterator[Section]:
    yield peers.measure(20_000 // options.divide, options.runs)


def _dead(options: argparse.Namespace) -> Iterator[Section]:
    yield dead.measure(600 // options.divide)


def _actions(options: argparse.Namespace) -> Iterator[Section]:
    yield actions.measure(2_000 // options.divide, options.runs)


def _importing(options: argparse.Namespace) -> Iterator[Section]:
    yield importing.measure(options.rows)


def _startup(options: argparse.Namespace) -> Iterator[Section]:
    yield startup.measure(options.runs * 2)


def _latency(options: argparse.Namespace) -> Iterator[Section]:
    yield latency.measure(100 // options.divide)
    with Postgres() as server:
        yield latency.measure(100 // options.divide, server)


def _pruning(options: argparse.Namespace) -> Iterator[Section]:
    yield pruning.measure(pruning.ROWS // options.divide)
    with Postgres() as server:
        yield pruning.measure(pruning.ROWS // options.divide, server)


def _postgres(options: argparse.Namespace) -> Iterator[Section]:
    with Postgres() as server:
        yield delivery.measure(10_000 // options.divide, options.runs, server)
        yield actions.measure(1_000 // options.divide, options.runs, server)


def _workers(options: argparse.Namespace) -> Iterator[Section]:
    with Postgres() as server:
        yield workers.measure(10_000 // options.divide, options.runs, server)
        batches = max(2, workers.BATCHES // options.divide)
        yield workers.measure_many(batches, options.runs, server)


def _backfill(options: argparse.Namespace) -> Iterator[Section]:
    sizes = [size // options.divide for size in backfill.SIZES]
    yield from backfill.measure(sizes if options.full else sizes[:-1], options.runs)
    yield backfill.measure_killed()


def _pull(options: argparse.Namespace) -> Iterator[Section]:
    contacts = pull.CONTACTS // options.divide
    yield pull.measure(contacts, options.runs)
    with Postgres() as server:
        yield pull.measure(contacts, options.runs, server)
    yield pull.measure_memory([contacts // 5, contacts])


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Section]]] = {
    "calls": _calls,
    "delivery": _delivery,
    "dead": _dead,
    "actions": _actions,
    "importing": _importing,
    "startup": _startup,
    "postgres": _postgres,
    "latency": _latency,
    "pruning": _pruning,
    "peers": _peers,
    "workers": _workers,
    "backfill": _backfill,
    "pull": _pull,
}


def main() -> None:
    """Run what was asked for; print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="NAME", help=", ".join(PARTS))
    parser.add_argument(
        "--full", action="store_true", help="import, and back-fill, 1,000,000"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--rows", type=int, help="lines to import")
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs")
    parser.add_argument("--out", type=Path, help="file; results.md after a whole run")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(PARTS)}")
    options.divide = 10 if options.quick else 1
    if options.rows is None:
        options.rows = 1_000_000 if options.full else 100_000 // options.divide
    logging.getLogger("onward").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if not os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter("ignore")
    gc.set_threshold(*COLLECT)  # as in a process of the command line
    text = "# Results\n\nWritten by `python -m benchmarks`; see `README.md`.\n\n"
    text += "\n".join(surroundings()) + "\n"
    started = time.monotonic()
    for name in options.parts or PARTS:
        say(f"{name}:")
        for section in PARTS[name](options):
            print(section.text(), flush=True)
            text += "\n" + section.text()
    load, minutes = os.getloadavg()[0], (time.monotonic() - started) / 60
    text += f"\nTook {minutes:.0f} minutes; load at the end {load:.1f}.\n"
    # Part of the figures, or small ones, must not replace a whole run's.
    partial = options.parts or options.quick
    out: Path | None = options.out or (None if partial else HERE / "results.md")
    if out is not None:
        out.write_text(text, encoding="utf-8")
        say(f"written to {out.name}")


if __name__ == "__main__":
    main()
