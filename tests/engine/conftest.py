"""Engines to hold to the contract, a service that counts, and an Onward in between."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import pytest
from sqlalchemy import func, select

from onward.app import Onward
from onward.database import Database
from onward.delivery.drain import lease_name
from onward.delivery.lease import read_fences
from onward.engine import Engine
from onward.engine.make import upgrade_engine
from onward.models import Push, table
from onward.testing.server import Server

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

pushes = table(Push)

WITHIN = 30.0
GUIDE = Path(__file__).parents[2] / "docs/engines.md"
# A drop-in, so that other processes load it as well. One request at a time, so that
# two at once are two workers.
PLUGIN = """
import onward

class Acme(onward.Integration):
    key, title, batch_size, in_flight = "acme", "Acme", 10, 1
    limits = (onward.Limit(1_000_000, per=onward.minute),)
    default_map = {"email": "email"}

    class Settings(onward.ConnectionSettings):
        url: str = onward.setting("URL")

    def allowed_hosts(self):
        return [self.settings.url.split("/")[2]]

    def base_url(self):
        return self.settings.url

    def verify(self, api):
        return onward.Account(self.settings.url, self.settings.url, "Acme")

    def fields(self, api, segment):
        yield onward.RemoteField("email", required=True)

    def push(self, api, batch, segment):
        api.post("people", [item.email for item in batch])
        for item in batch:
            yield item.delivered(item.email)

    def read(self, api, batch, segment):
        for item in batch:
            if api.get(f"people/{item.email}", ok={404}).status == 200:
                email = item.email
                yield onward.RemoteContact(email, email, {"email": email}, "normal", {})
"""
TOML = """
[onward]
database_url = "{database_url}"
lease = "{lease}"
engine = "{engine}"
"""
CONNECTION = """
[connections.{name}]
integration = "acme"
segment = false
settings = {{ url = "{url}/{name}/" }}
{limits}
"""
# How to import the class of each kind of engine, as `Engine`.
KINDS = {
    "embedded": "from onward.engine.embedded import EmbeddedEngine as Engine",
    "cluster": "from onward.engine.cluster import ClusterEngine as Engine",
    "loop": "from loop import LoopEngine as Engine",
}


class Service:
    """Takes people, connection by connection, and counts how often."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.people: dict[str, Counter[str]] = {}
        self.busy: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        """Connection → requests that were on their way at the same moment."""
        self.first = 0.0
        """When the first request came after this was set to 0, monotonic."""
        self.open = threading.Event()
        self.open.set()

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; `open.clear()` lets them wait."""
        _, name, *path = request.url.path.split("/")
        self.first = self.first or monotonic()
        if request.method == "GET":
            known = unquote(path[-1]) in self.people.get(name, {})
            return httpx.Response(200 if known else 404, json={})
        with self.lock:
            self.busy[name] += 1
            self.most[name] = max(self.most[name], self.busy[name])
            self.people.setdefault(name, Counter()).update(json.loads(request.content))
            self.lock.notify_all()
        self.open.wait(WITHIN)
        with self.lock:
            self.busy[name] -= 1
        return httpx.Response(200, json={})

    def wait_for(self, email: str, name: str = "acme") -> None:
        """Wait until somebody has arrived."""
        with self.lock:
            came = self.lock.wait_for(
                lambda: email in self.people.get(name, {}), WITHIN
            )
        assert came, f"{email} never arrived"


def until(condition: Callable[[], object], what: str, within: float = WITHIN) -> None:
    """Ask again and again until something is so."""
    end, pause = monotonic() + within, threading.Event()
    while not condition():
        assert monotonic() < end, f"never: {what}"
        pause.wait(0.02)


@dataclass
class Bench:
    """One kind of engine, a service, and an Onward of this process between them."""

    kind: str
    folder: Path
    service: Service
    url: str
    database_url: str
    app: Onward = field(init=False)

    def open(
        self,
        *names: str,
        lease: str = "60s",
        engine: str = "embedded",
        limits: str = "",
    ) -> Onward:
        """Write the configuration, open an app on it and verify its connections.

        Args:
            engine: of the app's own worker; `engine()` makes others by hand.
        """
        names = names or ("acme",)
        database = self.database_url
        parts = [TOML.format(database_url=database, lease=lease, engine=engine)]
        parts += [
            CONNECTION.format(name=name, url=self.url, limits=limits) for name in names
        ]
        (self.folder / "onward.toml").write_text("".join(parts))
        self.app = Onward.from_config(self.folder / "onward.toml", env={})
        for name in names:
            self.app.verify(name)
        return self.app

    def upgrade(self) -> None:
        """Do what `onward db upgrade` does for the cluster engine."""
        config = replace(self.app.config, engine="cluster")
        upgrade_engine(config, self.app.runtime.database)

    def engine(self, *, sweep: float = 0.2) -> Engine:
        """Return an engine of this kind that is woken by what this process queues."""
        names: dict[str, Any] = {}
        exec(KINDS[self.kind], names)  # noqa: S102 - our own
        made: Engine = names["Engine"](self.app.runtime, sweep=timedelta(seconds=sweep))
        self.app.runtime.on_work = made.wake
        return made

    @contextmanager
    def running(self, *, sweep: float = 0.2) -> Iterator[Engine]:
        """Run an engine for the time of a block."""
        engine = self.engine(sweep=sweep)
        engine.start()
        try:
            yield engine
        finally:
            self.service.open.set()
            engine.stop()

    def script(self, text: str) -> str:
        """Return a script for a process of its own, with `Engine` imported."""
        return (
            f"import sys, threading\nfrom datetime import timedelta\n"
            f"sys.path.insert(0, {str(self.folder)!r})\n{KINDS[self.kind]}\n"
            f"{COMMON}{text}"
        )

    def push(self, *people: str, to: str = "acme") -> None:
        """Queue people, by the first part of their address."""
        emails = [f"{name}@shop.example" for name in people]
        self.app.record_actions({"action": "met", "email": one} for one in emails)
        self.app.push(to=to, emails=emails)

    def states(self) -> Counter[str]:
        """Return how many rows are in each state."""
        counted = select(pushes.c.state, func.count()).group_by(pushes.c.state)
        with self.app.runtime.database.read() as transaction:
            return Counter(dict(map(tuple, transaction.execute(counted))))

    def delivered(self, rows: int, within: float = WITHIN) -> None:
        """Wait until so many are, and no row is anything else."""
        until(lambda: self.states() == {"delivered": rows}, f"{rows} delivered", within)

    def fence(self, connection_id: int = 1) -> int:
        """Return how often a connection was drained."""
        name = lease_name(connection_id)
        with self.app.runtime.database.read() as transaction:
            return read_fences(transaction, [name])[name]


# What scripts of other processes may use.
COMMON = """
import time
from sqlalchemy import text

def rows(state="state"):
    with app.runtime.database.read() as transaction:
        found = transaction.execute(
            text("SELECT count(*) FROM push WHERE state <> 'delivered'"))
        return found.scalar()

def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.02)
"""


@pytest.fixture(scope="session")
def cluster_postgres(postgres: PostgresServer, migrated_postgres: str) -> str:
    """Name of a migrated, empty database with the tables of DBOS; never written to."""
    from onward.engine.transact import migrate

    name = postgres.create(template=migrated_postgres)
    database = Database(postgres.url(name))
    migrate(database)
    database.close()
    return name


@pytest.fixture
def cluster_url(postgres: PostgresServer, cluster_postgres: str) -> Iterator[str]:
    """A fresh PostgreSQL database with the tables of DBOS."""
    name = postgres.create(template=cluster_postgres)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def service() -> Service:
    """A fresh service."""
    return Service()


@pytest.fixture(
    params=[
        pytest.param(("embedded", "sqlite_url"), id="embedded-sqlite"),
        pytest.param(
            ("embedded", "postgres_url"),
            id="embedded-postgres",
            marks=pytest.mark.postgres,
        ),
        pytest.param(
            ("cluster", "cluster_url"),
            id="cluster-postgres",
            marks=pytest.mark.postgres,
        ),
        pytest.param(("loop", "sqlite_url"), id="loop-sqlite", marks=pytest.mark.slow),
    ]
)
def bench(
    request: pytest.FixtureRequest,
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    """Every engine in turn, with the database it runs on."""
    kind, database = request.param
    yield from make_bench(
        kind, request.getfixturevalue(database), service, tmp_path, monkeypatch
    )


@pytest.fixture
def cluster(
    service: Service,
    cluster_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    """The cluster engine alone."""
    yield from make_bench("cluster", cluster_url, service, tmp_path, monkeypatch)


def make_bench(
    kind: str,
    database_url: str,
    service: Service,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    """Yield a bench in a folder of its own; what it opened is closed."""
    (folder / "plugins").mkdir()
    (folder / "plugins/acme.py").write_text(PLUGIN)
    # The engine of the guide, as it stands there.
    [loop] = re.findall(
        r"^```python\n(# loop\.py\n.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S
    )
    (folder / "loop.py").write_text(loop)
    monkeypatch.syspath_prepend(folder)
    with Server(service.handle) as server:
        made = Bench(kind, folder, service, server.url, database_url)
        yield made
        service.open.set()
        made.app.close()
