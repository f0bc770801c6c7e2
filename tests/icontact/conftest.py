"""An Onward connected to a simulator, with custom fields mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlmodel import SQLModel

from onward import Api, RemoteContact
from onward.api import Wire
from onward.connections.state import read_all, resume
from onward.connections.verify import verify_connection
from onward.database import Database
from onward.limiter import Limiter
from onward.memory import Memory
from onward.redact import Redactor
from onward.testing.app import Clock, TestApp
from onward_icontact import IContact
from onward_icontact.client import Client
from onward_icontact.simulator import Simulator

MAP = """
[fields]
email     = "email"
firstName = "first_name"
lastName  = "last_name"
city      = "city"
state     = "state"
business  = "company"
loyaltytier = "tier"
acceptsphone = "may_call"
birthday  = "birthday"
"""
TOML = """
[contact_fields]
tier = "text"
may_call = "boolean"
birthday = "date"

[connections.icontact]
integration = "icontact"
limits = ["100000/minute"]
field_map = "{field_map}"
{options}
[connections.icontact.settings]
app_id = "{app_id}"
username = "{username}"
password = "${{PASSWORD}}"
account_id = "{account_id}"
client_folder_id = "{folder_id}"
"""

OnwardFor = Callable[..., TestApp]
ClientOf = Callable[[Callable[[httpx.Request], httpx.Response]], Client]


@pytest.fixture
def onward_for(
    make_app: Callable[..., TestApp], tmp_path: Path, migrated_sqlite: Path
) -> OnwardFor:
    """A factory of an Onward whose connection `icontact` leads to a simulator.

    Give it the simulator and options of the connection as TOML lines; the list is
    Newsletter. The simulator gets the custom fields of the map. `between` is what
    answers in place of the simulator, `rules` more TOML.
    """
    count = 0

    def connect(
        sim: Simulator, options: str = 'segment = "Newsletter"', **more: Any
    ) -> TestApp:
        between = more.pop("between", None)
        rules = more.pop("rules", "")
        nonlocal count
        count += 1
        folder = sim.folder()
        for name, kind in (
            ("loyaltytier", "text"),
            ("acceptsphone", "checkbox"),
            ("birthday", "date"),
        ):
            if name not in folder.custom_fields:
                folder.add_custom_field(name, kind)
        field_map = tmp_path / "map.toml"
        field_map.write_text(MAP, encoding="utf-8")
        database = tmp_path / f"onward-{count}.db"
        database.write_bytes(migrated_sqlite.read_bytes())
        config = TOML.format(
            field_map=field_map,
            options=options,
            app_id=sim.app_id,
            username=sim.username,
            account_id=sim.account_id,
            folder_id=sim.client_folder_id,
        )
        return make_app(
            config + rules,
            fake=between or sim,
            env={"PASSWORD": sim.password},
            database_url=f"sqlite:///{database}",
            **more,
        )

    return connect


@pytest.fixture
def sim() -> Simulator:
    """A simulator with the lists Newsletter and VIP and nobody in it."""
    return Simulator()


class Between:
    """Stands between Onward and a simulator; `on_request` may change either.

    Args:
        on_request: given a request, returns the one that arrives.
    """

    def __init__(
        self, sim: Simulator, on_request: Callable[[httpx.Request], httpx.Request]
    ) -> None:
        self.sim = sim
        self.on_request = on_request

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on."""
        return self.sim.handle(self.on_request(request))


def pushed(app: TestApp, *emails: str, **options: Any) -> dict[str, tuple[str, str]]:
    """Push contacts that exist here; return name → (state, code)."""
    rows = app.push(to="icontact", emails=list(emails), **options)
    app.deliver()
    return ended(app, rows)


def ended(app: TestApp, rows: Sequence[int] = ()) -> dict[str, tuple[str, str]]:
    """Return name → (state, code) of some pushes, or of the last of everybody."""
    return {
        row["email"].split("@")[0]: (row["state"], row["code"])
        for row in app.deliveries()
        if not rows or row["id"] in rows
    }


def reason(app: TestApp, email: str) -> str:
    """Return the sentence of the last push of an address."""
    rows = [row for row in app.deliveries() if row["email"] == email]
    return str(rows[-1]["reason"])


def dump(app: TestApp) -> str:
    """Return everything the database holds, as text."""
    with app.runtime.database.read() as transaction:
        return "\n".join(
            repr(tuple(row))
            for table in SQLModel.metadata.sorted_tables
            for row in transaction.execute(select(table))
        )


def verify(app: TestApp) -> None:
    """Do what `onward connections test` does first: read lists and fields afresh."""
    with app.runtime.database.read() as transaction:
        [state] = read_all(transaction)
    verify_connection(app.runtime, state)


@pytest.fixture
def tools() -> SimpleNamespace:
    """The functions above, for tests in other modules."""
    return SimpleNamespace(
        Between=Between,
        pushed=pushed,
        ended=ended,
        reason=reason,
        verify=verify,
        dump=dump,
        resume=lambda app: resume(app.runtime, 1),
    )


class Nothing:
    """An index of remote contacts that stays empty."""

    def learn(self, records: Iterable[RemoteContact]) -> None:
        """Forget at once."""

    def known_ids(self, ids: Sequence[str]) -> dict[str, RemoteContact]:
        """Know nobody."""
        return {}

    def known_emails(self, emails: Sequence[str]) -> dict[str, RemoteContact]:
        """Know nobody."""
        return {}


@pytest.fixture(scope="module")
def empty_database(migrated_sqlite: Path) -> Iterator[Database]:
    """A database that nothing is written to."""
    database = Database(f"sqlite:///{migrated_sqlite}")
    yield database
    database.close()


@pytest.fixture
def client_of(empty_database: Database) -> Iterator[ClientOf]:
    """A factory of a client of account 510001 and folder 8801 over any handler.

    A simulator's `handle` will do; what the client remembers lasts as long as it.
    """
    made: list[httpx.Client] = []
    login = Simulator()
    settings = IContact.Settings.model_validate(
        {
            "app_id": login.app_id,
            "username": login.username,
            "password": login.password,
        }
    )

    def make(handle: Callable[[httpx.Request], httpx.Response]) -> Client:
        made.append(httpx.Client(transport=httpx.MockTransport(handle)))
        wire = Wire(
            client=made[-1],
            authenticator=IContact(settings),
            limiter=Limiter(empty_database),
            windows=(),
            in_flight=2,
            redactor=Redactor([login.password]),
            clock=Clock(),
            sleep=lambda _: None,
        )
        memory = Memory(empty_database, 0, wire.clock, lambda _: False)
        return Client(Api(wire, memory, Nothing()), "510001", "8801")

    yield make
    for client in made:
        client.close()
