"""The stage of the matrix, and where its cells are written down."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from onward.app import Onward
from onward.engine.make import upgrade_engine
from onward.testing import Server
from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator

from .scene import (
    LEASE_S,
    TOML,
    Cell,
    Processes,
    effect_on,
    get_known,
    harmful_simulator,
    populate,
    tell_all,
    truth_of,
)

# `make nightly` names a folder; what is found in it becomes docs/reliability.md.
VARIABLE = "ONWARD_RELIABILITY"

Undisturbed = tuple[dict[str, object], dict[str, str]]
Stage = Callable[..., Onward]


@pytest.fixture
def sim() -> Simulator:
    """The iContact everybody pushes to."""
    return harmful_simulator()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Onward in processes of its own; ended with the test."""
    made = Processes(tmp_path)
    yield made
    made.close()


class Gate:
    """Lets nothing back from the service while it is shut: stored, not answered."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.reached = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.at = ""

    def shut(self, at: str = "/contacts") -> None:
        """Hold back the answers to what stores something there."""
        self.at = at
        self.reached.clear()
        self.open.clear()

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        answer = self.sim.handle(request)
        stores = request.method == "POST" and request.url.path.endswith(self.at)
        if stores and not self.open.is_set():
            self.reached.set()
            self.open.wait(120)
        return answer


@pytest.fixture
def gate(sim: Simulator) -> Iterator[Gate]:
    """Between everybody and the service."""
    made = Gate(sim)
    yield made
    made.open.set()


@pytest.fixture
def stage(gate: Gate, sim: Simulator, tmp_path: Path) -> Iterator[Stage]:
    """Writes an onward.toml and opens the Onward of the test itself."""
    made: list[Onward] = []
    with Server(gate.handle) as server:

        def open_(database_url: str, engine: str = "embedded") -> Onward:
            named = "" if engine == "embedded" else f'engine = "{engine}"'
            path = tmp_path / "onward.toml"
            path.write_text(
                TOML.format(
                    database_url=database_url,
                    lease=LEASE_S,
                    engine=named,
                    sim=sim,
                    url=server.url,
                )
            )
            app = Onward.from_config(path)
            upgrade_engine(app.config, app.runtime.database)
            made.append(app)
            return app

        yield open_
        for app in made:
            app.close()


@pytest.fixture(scope="session")
def undisturbed() -> Iterator[Undisturbed]:
    """What iContact has, and Onward says, when nobody disturbs."""
    import onward.testing

    sim = harmful_simulator()
    text = TOML.format(
        database_url="sqlite://",
        lease=LEASE_S,
        engine="",
        sim=sim,
        url="http://127.0.0.1:1",
    )
    app: TestApp = onward.testing.app(text, fake=sim)
    populate(sim)
    get_known(app, sim)
    app.clock.tick(60)
    tell_all(app)
    everybody = [row["email"] for row in app.contacts()]
    app.push(to="icontact", emails=everybody)
    app.deliver()
    yield dict(effect_on(sim)), truth_of(app)
    app.close()


@pytest.fixture
def written_down() -> Iterator[Callable[[Cell], None]]:
    """Keeps the cells for the page, when somebody wants it."""
    cells: list[Cell] = []
    yield cells.append
    folder = os.environ.get(VARIABLE)
    if folder:
        for cell in cells:
            name = f"{cell.row}--{cell.column}.json".replace("/", "-").replace(" ", "_")
            place = Path(folder)
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(json.dumps(cell.document))
