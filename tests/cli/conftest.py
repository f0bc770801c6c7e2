"""A folder with an `onward.toml`, a served simulator, and the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onward.cli import main
from onward.database import Database
from onward.migrate import upgrade
from onward.testing import Server, serve
from onward.vault import Vault
from onward_icontact.simulator import Simulator

PASSWORD = "a pass:wörd"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


class Place:
    """A folder somebody works in."""

    def __init__(
        self, path: Path, sim: Simulator, url: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.path = path
        self.sim = sim
        self.url = url
        self._capsys = capsys

    def run(self, *argv: str) -> Ran:
        """Run a command in this process, in a pipe as far as it can tell."""
        self._capsys.readouterr()
        status = main(argv)
        shown = self._capsys.readouterr()
        return Ran(status, shown.out, shown.err)

    def good(self, *argv: str) -> Ran:
        """Run a command that must work."""
        ran = self.run(*argv)
        assert ran.status == 0, ran.err
        return ran

    def start(self, *argv: str, **streams: Any) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", "from onward.cli import main; exit(main())", *argv],
            cwd=self.path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            text=True,
            **streams,
        )

    def write(self, name: str, text: str) -> Path:
        """Write a file of the folder."""
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        return path

    def configure(self, more: str = "", *, password: str = "") -> None:
        """Write an `onward.toml` with one connection; by default it works."""
        self.write(
            "onward.toml",
            f"""
[connections.icontact]
integration = "icontact"
segment = "Newsletter"
limits = ["60000/minute"]
[connections.icontact.settings]
app_id = "{self.sim.app_id}"
username = "{self.sim.username}"
password = "{password or "${PW}"}"
account_id = "{self.sim.account_id}"
client_folder_id = "{self.sim.client_folder_id}"
api_url = "{self.url}"
{more}
""",
        )

    def settings(self, **changes: str) -> list[str]:
        """Return `--set` options with all settings of the simulator."""
        given = {
            "app_id": self.sim.app_id,
            "username": self.sim.username,
            "password": self.sim.password,
            "account_id": self.sim.account_id,
            "client_folder_id": self.sim.client_folder_id,
            "api_url": self.url,
            **changes,
        }
        return [word for n, v in given.items() for word in ("--set", f"{n}={v}")]


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """Read stderr until a line has these words."""
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"{words!r} was never said: {seen}")


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables, made once and copied."""
    path = tmp_path_factory.mktemp("made") / "onward.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.close()
    return path


@pytest.fixture
def sim() -> Simulator:
    """A simulator with one account, one folder and two lists."""
    made = Simulator()
    made.password = PASSWORD
    return made


@pytest.fixture
def server(sim: Simulator) -> Iterator[Server]:
    """The simulator over HTTP."""
    with serve(sim.handle) as running:
        yield running


@pytest.fixture
def empty(
    tmp_path: Path,
    sim: Simulator,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Place:
    """A folder with nothing in it, the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("ONWARD_CONFIG", "ONWARD_DATABASE_URL", "ONWARD_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PW", PASSWORD)
    return Place(tmp_path, sim, f"{server.url}/icp", capsys)


@pytest.fixture
def place(empty: Place, made_database: Path) -> Place:
    """A folder with a database and a connection that works."""
    shutil.copy(made_database, empty.path / "onward.db")
    empty.configure()
    return empty


@pytest.fixture
def stop() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to be gone when the test ends."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def bare(place: Place) -> Place:
    """A folder with a database and a key, and no connection."""
    place.write("onward.toml", "")
    Vault.create_key_file(place.path / "onward.key")
    return place
