"""`onward --help` against `python -c 'import typer'`, as whole processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Section, at_most, interleave, ratio, say, spread

MOST = 4.0


def seconds(command: Sequence[str]) -> float:
    """Return how long a process takes from start to end."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # ours
    return time.perf_counter() - started


def measure(runs: int) -> Section:
    """Compare both."""
    say("  start of a process")
    found = shutil.which("onward", path=sysconfig.get_path("scripts"))
    ours = [found or str(Path(sys.executable).with_name("onward")), "--help"]
    reference = [sys.executable, "-c", "import typer"]
    for command in (ours, reference):
        seconds(command)
    pairs = interleave(
        lambda: seconds(ours) * 1000, lambda: seconds(reference) * 1000, runs
    )

    def shown(values: Sequence[float]) -> str:
        middle = sorted(values)[len(values) // 2]
        return f"{middle:.0f} ms (spread {spread(values):.0%})"

    return Section(
        "Start of the command line",
        ("`onward --help`", "`python -c 'import typer'`", "ratio", "at most", ""),
        [
            (
                shown(pairs.ours),
                shown(pairs.other),
                ratio(pairs.ratios),
                f"{MOST:.0f}",
                at_most(pairs.ratio, MOST),
            )
        ],
        [f"Whole processes, {runs} of each in turn, the first ones left out."],
    )
