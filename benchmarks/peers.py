"""Onward, dlt, and Celery with Redis: the same contacts to the same service."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.delivery import FLOORS, Recorder, Store, deliver, replay
from benchmarks.dummy import Dummy
from benchmarks.measure import Pairs, Run, Section, at_least, rate, ratio, say
from benchmarks.services import BATCH, IN_FLIGHT, OnePost, ThreeCalls

EXTRA = "not installed: `pip install -e .[bench]`"
NO_REDIS = "redis-server is not installed: `apt install redis-server`"


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody else's way to deliver.

    Args:
        module: `python -m` of it makes one run and prints what it did.
        packages: what it needs, by import name.
        floors: Onward's share of its rate that was promised, by latency in ms.
    """

    title: str
    module: str
    packages: Sequence[str]
    floors: Mapping[int, float]
    program: str = ""

    def missing(self) -> str:
        """Return what to install, empty where nothing lacks."""
        if any(find_spec(name) is None for name in self.packages):
            return EXTRA
        if self.program and shutil.which(self.program) is None:
            return NO_REDIS
        return ""


DLT = Peer("dlt", "benchmarks.with_dlt", ("dlt", "pyarrow"), {50: 1.3, 0: 0.5})
CELERY = Peer(
    "Celery and Redis",
    "benchmarks.with_celery",
    ("celery", "redis"),
    {50: 0.75},
    program="redis-server",
)
PEERS = (DLT, CELERY)


@dataclass(slots=True)
class Situation:
    """One integration, one latency, and what each peer must send for it."""

    store: Store
    integration: str
    url: str
    rows: int
    requests: int
    loads: list[float] = field(default_factory=list[float])

    def run(self, peer: Peer) -> float:
        """Let a peer deliver everything once; return rows a second."""
        with self.store.copy() as folder:
            options = {
                "folder": str(folder),
                "integration": self.integration,
                "url": self.url,
                "rows": self.rows,
                "batch": BATCH,
                "parallel": IN_FLIGHT,
            }
            command = [sys.executable, "-m", peer.module, json.dumps(options)]
            ended = subprocess.run(  # noqa: S603
                command, stdout=subprocess.PIPE, text=True, check=True
            )
        found = json.loads(ended.stdout.splitlines()[-1])
        done = (found["contacts"], found["requests"])
        assert done == (self.rows, self.requests), f"{peer.title} answered for {done}"
        if "load" in found:
            self.loads.append(self.rows / found["load"])
        return self.rows / float(found["took"])


def _rounds(sides: Mapping[str, Run], runs: int) -> dict[str, list[float]]:
    """Run all of them in turn, `runs` times."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(runs):
        for name, side in sides.items():
            gc.collect()
            found[name].append(side())
        latest = ", ".join(f"{name} {rates[-1]:,.0f}" for name, rates in found.items())
        say(f"    run {number + 1}: {latest}")
    return found


def _line(
    service: str, title: str, pairs: Pairs, floor: float | None
) -> tuple[str, ...]:
    return (
        service,
        title,
        rate(pairs.ours),
        rate(pairs.other),
        ratio(pairs.ratios),
        "" if floor is None else f"{floor:.2f}",
        "" if floor is None else at_least(pairs.ratio, floor),
    )


def _situation(
    section: Section, situation: Situation, service: str, latency: int, runs: int
) -> None:
    recorder = Recorder()
    deliver(situation.store, situation.rows, [], recorder)
    situation.requests = len(recorder.requests)
    present = [peer for peer in PEERS if not peer.missing()]
    sides: dict[str, Run] = {
        "Onward": partial(deliver, situation.store, situation.rows, []),
        "bare loop": partial(replay, recorder.requests, situation.rows),
    }
    sides |= {peer.title: partial(situation.run, peer) for peer in present}
    found = {name: tuple(rates) for name, rates in _rounds(sides, runs).items()}
    ours = found.pop("Onward")
    floors = {peer.title: peer.floors.get(latency) for peer in present}
    # Without a latency it is an aim, which `delivery` shows.
    floors["bare loop"] = FLOORS[latency] if latency else None
    for name, rates in found.items():
        pairs = Pairs(ours, rates)
        section.rows.append(_line(service, name, pairs, floors[name]))
        if name == DLT.title:
            pairs = Pairs(ours, tuple(situation.loads))
            section.rows.append(_line(service, "dlt, its load step", pairs, None))


def measure(rows: int, runs: int) -> Section:
    """Compare with each peer that is installed, for a slow and a fast service."""
    section = Section(
        f"Delivering {rows:,} contacts, SQLite, against others",
        ("service", "reference", "Onward", "reference", "ratio", "at least", ""),
    )
    for peer in PEERS:
        if lacks := peer.missing():
            section.rows.append(("", peer.title, "", "", lacks, "", ""))
    if all(peer.missing() for peer in PEERS):
        return section
    with (
        tempfile.TemporaryDirectory(prefix="onward-bench-") as folder,
        Dummy() as dummy,
    ):
        for integration in (ThreeCalls, OnePost):
            for latency in (50, 0):
                service = f"{integration.title}, {latency} ms"
                say(f"  {service}")
                url = dummy.url(latency)
                store = Store(Path(folder), rows, None)
                store.fill(integration.key, url)
                situation = Situation(store, integration.key, url, rows, 0)
                _situation(section, situation, service, latency, runs)
                store.remove()
    section.notes += [
        f"Rows a second, batches of {BATCH}, {IN_FLIGHT} requests in flight, all in "
        "turn; each got an answer for every contact, in as many requests as Onward. "
        "dlt's clock is on `pipeline.run` (extract, normalize, load); Celery's runs "
        "from the begin of its first task to the end of its last.",
        f"With {_versions()}.",
    ]
    return section


def _versions() -> str:
    packages = [
        f"{name} {version(name)}"
        for peer in PEERS
        if not peer.missing()
        for name in peer.packages
    ]
    if not CELERY.missing():
        told = subprocess.run(
            ["redis-server", "--version"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
        server = dict(part.split("=", 1) for part in told.stdout.split() if "=" in part)
        packages.append(f"redis-server {server['v']}")
    return ", ".join(packages)
