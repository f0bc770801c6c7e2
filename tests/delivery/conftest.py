"""A small mailing service with a dict, its integration, and an Onward around both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import httpx
import pytest

from onward import (
    Account,
    Api,
    Integration,
    Item,
    Membership,
    Outcome,
    RemoteContact,
    RemoteField,
    RemoteSegment,
    SegmentGone,
)
from onward.connections.state import State, named
from onward.testing.app import TestApp

Step = Callable[[httpx.Request], httpx.Response | None]
Connect = Callable[..., TestApp]

TOML = """
[onward]
lease = "{lease}"
[connections.acme]
integration = "acme"
field_map = "{map}"
{options}
[[rules]]
key = "forms"
when = "form.sent"
push_to = ["acme"]
{more}
"""
MAP = '[fields]\nemail = "email"\nname = "first_name"\n'


class Service:
    """Keeps people and who is on which list.

    `script` decides how the next pushes go, `reads` how the next reads go: a step
    answers, raises, or returns None to let it happen.
    """

    def __init__(self) -> None:
        self.people: dict[str, dict[str, str]] = {}
        self.lists = {"1": "News", "2": "Old"}
        self.on: dict[str, set[str]] = {}
        self.pushes: list[list[str]] = []
        self.asked: list[str] = []
        self.script: list[Step] = []
        self.reads: list[Step] = []
        self.account = "acme/1"
        self.login = 200

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        path = request.url.path.strip("/")
        self.asked.append(f"{request.method} {path}")
        if self.login != 200:
            return httpx.Response(self.login, json={"error": "bad key"})
        if path == "me":
            return httpx.Response(200, json={"account": self.account})
        if path == "lists":
            return httpx.Response(200, json=self.lists)
        if request.method == "GET":
            return self._scripted(self.reads, request) or self._read(path)
        body = json.loads(request.content)
        self.pushes.append([row["email"] for row in body["people"]])
        return self._scripted(self.script, request) or self._store(body)

    @staticmethod
    def _scripted(steps: list[Step], request: httpx.Request) -> httpx.Response | None:
        return steps.pop(0)(request) if steps else None

    def _read(self, path: str) -> httpx.Response:
        email = unquote(path.removeprefix("people/"))
        if email not in self.people:
            return httpx.Response(404)
        on = [id_ for id_, members in self.on.items() if email in members]
        return httpx.Response(200, json={"fields": self.people[email], "on": on})

    def _store(self, body: dict[str, Any]) -> httpx.Response:
        if body["to"] and body["to"] not in self.lists:
            return httpx.Response(410)
        for row in body["people"]:
            self.people[row["email"]] = row
            if body["to"]:
                self.on.setdefault(body["to"], set()).add(row["email"])
        return httpx.Response(200, json={"ok": True})


class Acme(Integration):
    """Pushes a batch by one POST, reads people singly."""

    key, title, hosts = "acme", "Acme", ("acme.example",)
    batch_size = 10
    default_map: ClassVar[dict[str, Any]] = {"email": "email", "name": "first_name"}

    def verify(self, api: Api) -> Account:
        """Ask who we are."""
        account = api.get("me").json()["account"]
        return Account(account, account, f"Acme {account}")

    def segments(self, api: Api) -> Iterator[RemoteSegment]:
        """Ask for the lists."""
        for id_, name in api.get("lists").json().items():
            yield RemoteSegment(id_, name)

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Have two fields."""
        yield RemoteField("email", required=True)
        yield RemoteField("name", max_length=20)

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """POST all of them at once."""
        to = segment.id if segment else ""
        body = {"to": to, "people": [dict(item.fields) for item in batch]}
        if api.post("people", body, ok={410}).status == 410:
            raise SegmentGone(f"the list {to} was deleted in Acme")
        for item in batch:
            yield item.delivered(f"id-{item.email}")

    def read(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[RemoteContact]:
        """GET each of them."""
        for item in batch:
            answer = api.get(f"people/{item.email}", ok={404})
            if answer.status == 404:
                continue
            row = answer.json()
            on: dict[str, Membership] = dict.fromkeys(row["on"], "normal")
            yield RemoteContact(
                f"id-{item.email}", item.email, row["fields"], "normal", on
            )


@pytest.fixture
def service() -> Service:
    """A fresh service."""
    return Service()


@pytest.fixture
def acme() -> type[Acme]:
    """The integration, to be subclassed."""
    return Acme


@pytest.fixture
def connect(
    make_app: Callable[..., TestApp], service: Service, tmp_path: Path
) -> Connect:
    """A factory of an Onward connected to `service`.

    `options` are lines of the connection, `more` further tables, `kind` another
    integration, `traits` attributes to change on it.
    """
    (tmp_path / "acme.toml").write_text(MAP)

    def make(
        options: str = 'segment = "News"',
        *,
        kind: type[Integration] = Acme,
        more: str = "",
        lease: str = "60s",
        **given: Any,
    ) -> TestApp:
        made = type("Made", (kind,), given.pop("traits", {}))
        given.setdefault("fake", service)
        text = TOML.format(
            map=tmp_path / "acme.toml", options=options, more=more, lease=lease
        )
        return make_app(text, integrations=[made], **given)

    return make


class Tools:
    """What the tests do again and again."""

    @staticmethod
    def fire(app: TestApp, *names: str) -> None:
        """Let people send a form."""
        app.record_actions(
            {"action": "form.sent", "email": f"{name}@shop.example"} for name in names
        )

    @staticmethod
    def ended(app: TestApp) -> dict[str, tuple[str, str]]:
        """Return the first part of an address → (state, code) of its last push."""
        return {
            row["email"].partition("@")[0]: (row["state"], row["code"])
            for row in app.deliveries()
        }

    @staticmethod
    def state(app: TestApp) -> State:
        """Return the connection."""
        with app.runtime.database.read() as transaction:
            return named(transaction, "acme")

    @staticmethod
    def answers(status: int, **headers: str) -> Step:
        """Return a step that answers this status and stores nothing."""
        given = {name.replace("_", "-"): text for name, text in headers.items()}
        return lambda _: httpx.Response(status, json={"error": "no"}, headers=given)

    @staticmethod
    def is_lost(request: httpx.Request) -> httpx.Response:
        """Lose a request before it arrives."""
        raise httpx.ReadTimeout("no answer", request=request)

    @staticmethod
    def is_kept(service: Service) -> Step:
        """Return a step that does the work and loses the answer."""

        def step(request: httpx.Request) -> httpx.Response:
            service._store(json.loads(request.content))
            raise httpx.ReadTimeout("no answer", request=request)

        return step


@pytest.fixture
def tools() -> type[Tools]:
    """See `Tools`."""
    return Tools
