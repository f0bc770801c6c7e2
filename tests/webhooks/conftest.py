"""A service that reports changes, its integration, and an Onward around both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import httpx
import orjson
import pytest
from sqlalchemy import select

from onward import (
    Account,
    Api,
    ConnectionSettings,
    Integration,
    Item,
    Outcome,
    RemoteField,
    RemoteKey,
    Secret,
    setting,
)
from onward.connections.state import State, named
from onward.connections.verify import verify_connection
from onward.health import Health, Probes, Pulse
from onward.models import Hint, Webhook, table
from onward.testing.app import TestApp
from onward.webhooks.receive import Receiver
from onward.webhooks.register import register

PLACE = "https://onward.bakery.example"
TOML = """
[connections.acme]
integration = "acme"
[connections.acme.settings]
token = "acme-token"
"""
Step = Callable[[httpx.Request], httpx.Response | None]


class Service:
    """Keeps the addresses it reports to; `script` decides how next calls go."""

    def __init__(self) -> None:
        self.account = "acme/1"
        self.hooks: list[str] = []
        self.script: list[Step] = []
        self.asked: list[str] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.asked.append(f"{request.method} {request.url.path}")
        if request.url.path == "/me":
            return httpx.Response(200, json={"account": self.account})
        said = self.script.pop(0)(request) if self.script else None
        if said is not None:
            return said
        url = orjson.loads(request.content)["url"]
        if request.url.path == "/watch":
            self.hooks.append(url)
        else:
            self.hooks = [one for one in self.hooks if one != url]
        return httpx.Response(200, json={})


class Acme(Integration):
    """Reports `[{"id": "7", "list": "1"}, …]`."""

    key, title, contract = "acme", "Acme Mail", 1
    hosts: ClassVar[list[str]] = ["api.acme.example"]
    default_map: ClassVar[dict[str, str]] = {"email": "email"}

    class Settings(ConnectionSettings):
        """One secret."""

        token: Secret = setting("API token")

    def verify(self, api: Api) -> Account:
        """Ask who we are."""
        account = api.get("me").json()["account"]
        return Account(account, account, f"Acme {account}")

    def fields(self, api: Api, segment: object) -> list[RemoteField]:
        """Have one."""
        return [RemoteField("email")]

    def push(
        self, api: Api, batch: Sequence[Item], segment: object
    ) -> Iterator[Outcome]:
        """Take everybody."""
        for item in batch:
            yield item.delivered("1")

    def watch(self, api: Api, url: str) -> None:
        """Register an address."""
        api.post("watch", {"url": url})

    def unwatch(self, api: Api, url: str) -> None:
        """Forget one."""
        api.post("unwatch", {"url": url})

    def receive(self, body: bytes) -> Iterator[RemoteKey]:
        """Read a report."""
        for one in json.loads(body):
            if one == "a fault":
                raise KeyError("ana@shop.example")
            lists = (one["list"],) if "list" in one else ()
            yield RemoteKey(one["id"], lists)


class Mute(Acme):
    """Reports nothing."""

    watch = unwatch = receive = None  # type: ignore[assignment]


class World:
    """An Onward that is connected, and its listener."""

    def __init__(self, app: TestApp, service: Service) -> None:
        self.app = app
        self.runtime = app.runtime
        self.service = service
        self.ticks = 0.0
        self.told: list[int] = []
        self.receiver = Receiver(self.runtime, self.told.append, lambda: self.ticks)

    @property
    def state(self) -> State:
        """The connection as it is now."""
        with self.runtime.database.read() as transaction:
            return named(transaction, "acme")

    def register(self) -> str:
        """Register an address; return its path."""
        register(self.runtime, self.state, PLACE)
        return self.service.hooks[-1].removeprefix(PLACE)

    def hints(self) -> list[dict[str, Any]]:
        """Return what waits to be read again."""
        return self.rows(Hint)

    def webhooks(self) -> list[dict[str, Any]]:
        """Return the addresses there are."""
        return self.rows(Webhook)

    def rows(self, model: type[Any]) -> list[dict[str, Any]]:
        """Return all rows of a table, in the order of its key."""
        of = table(model)
        with self.runtime.database.read() as transaction:
            found = transaction.execute(select(of).order_by(*of.primary_key))
            return [dict(row) for row in found.mappings()]


@pytest.fixture
def service() -> Service:
    """A service that knows no address."""
    return Service()


@pytest.fixture
def make_world(
    make_app: Callable[..., TestApp], service: Service
) -> Callable[..., World]:
    """A factory of worlds, connected and verified."""

    def make(config: str = TOML, **options: Any) -> World:
        env = {"ONWARD_SECRET_KEY": "k" * 40}
        app = make_app(config, fake=service, integrations=[Acme], env=env, **options)
        world = World(app, service)
        verify_connection(world.runtime, world.state)
        return world

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world in memory."""
    return make_world()


@pytest.fixture
def stored(make_world: Callable[..., World], database_url: str) -> World:
    """A world on each kind of database."""
    return make_world(database_url=database_url)


@pytest.fixture
def listening(world: World) -> Iterator[Probes]:
    """Its listener."""
    health = Health(world.runtime, Pulse(), lambda: True)
    page = (200, "text/plain", b"onward_up 1\n")
    with Probes(health, "127.0.0.1:0", lambda: page, world.receiver) as probes:
        yield probes


@pytest.fixture
def client(listening: Probes) -> Iterator[httpx.Client]:
    """Somebody who can reach it."""
    with httpx.Client(base_url=listening.url, trust_env=False, timeout=30) as client:
        yield client
