"""A service that shows its people in pages, its integration, an Onward around both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import httpx
import pytest
from sqlalchemy import select

from onward import (
    Account,
    Api,
    Integration,
    Item,
    Outcome,
    Page,
    RemoteContact,
    RemoteField,
    RemoteKey,
    RemoteSegment,
)
from onward.connections.state import State, named
from onward.models import Contact, RemoteContactRow, Suppression, table
from onward.sync.plan import Plan, read_plan
from onward.sync.run import Manner, Synced, sync
from onward.testing.app import TestApp

Step = Callable[[httpx.Request], httpx.Response | None]
Connect = Callable[..., TestApp]

TOML = """
[connections.shelf]
integration = "shelf"
segment = "News"
{options}
{more}
"""


class Shelf:
    """People by number, memberships by list; pages of `size` rows.

    `script` decides how the next requests go: a step answers, raises, or returns None
    to let it happen.
    """

    def __init__(self) -> None:
        self.people: dict[int, dict[str, str]] = {}
        self.on: dict[str, dict[int, str]] = {"1": {}, "2": {}}
        self.size = 3
        self.rows_show: tuple[str, ...] = ("email", "name", "city", "status", "made")
        self.account = "shelf/1"
        self.asked: list[str] = []
        self.script: list[Step] = []
        self.login = 200

    def add(self, *names: str, **fields: str) -> list[int]:
        """Make people, NAME@shop.example; return their numbers."""
        made: list[int] = []
        for name in names:
            id_ = max(self.people, default=0) + 1
            self.people[id_] = {
                "email": f"{name}@shop.example",
                "status": "normal",
                "made": "2026-03-01T00:00:00+00:00",
                **fields,
            }
            made.append(id_)
        return made

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        path = request.url.path.strip("/")
        self.asked.append(f"{request.method} {path}?{request.url.query.decode()}")
        if self.login != 200:
            return httpx.Response(self.login, json={"error": "bad key"})
        if path == "me":
            return httpx.Response(200, json={"account": self.account})
        if self.script and (answer := self.script.pop(0)(request)) is not None:
            return answer
        if path.startswith("people/"):
            return self._one(int(path.partition("/")[2]), request)
        if request.method == "POST":
            return self._store(json.loads(request.content))
        after = int(request.url.params.get("after", "0"))
        if path.startswith("lists/"):
            rows: list[Any] = sorted(self.on[path.partition("/")[2]].items())
        else:
            rows = [
                [id_, {name: row.get(name, "") for name in self.rows_show}]
                for id_, row in sorted(self.people.items())
            ]
        page = [row for row in rows if row[0] > after][: self.size]
        return httpx.Response(200, json={"rows": page, "total": len(rows)})

    def _one(self, id_: int, request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            self.people.pop(id_, None)
            return httpx.Response(200, json={})
        if id_ not in self.people:
            return httpx.Response(404)
        lists = {of: on.get(id_, "none") for of, on in self.on.items()}
        return httpx.Response(200, json={"row": self.people[id_], "lists": lists})

    def _store(self, body: dict[str, Any]) -> httpx.Response:
        ids: dict[str, int] = {}
        for row in body["people"]:
            email = row["email"]
            found = [i for i, one in self.people.items() if one["email"] == email]
            id_ = row.pop("id", None) or (found or self.add("x"))[0]
            self.people[int(id_)] |= row
            ids[email] = int(id_)
            if body["to"]:
                self.on[body["to"]].setdefault(int(id_), "normal")
        return httpx.Response(200, json=ids)


def shown(id_: int, row: dict[str, str], **more: Any) -> RemoteContact:
    """Return a row as Onward sees it."""
    fields = {n: text for n, text in row.items() if n not in ("status", "made")}
    return RemoteContact(
        str(id_),
        row["email"],
        fields,
        row["status"],
        created_at=datetime.fromisoformat(row["made"]) if row["made"] else None,
        **more,
    )


class Shelves(Integration):
    """Pulls by keyset pages, reads people singly, pushes by one POST."""

    key, title, hosts = "shelf", "Shelf", ("shelf.example",)
    batch_size = 10
    default_map: ClassVar[Mapping[str, str | Mapping[str, str]]] = {
        "email": "email",
        "name": {"value": "first_name", "direction": "both", "winner": "ours"},
        "city": {"value": "city", "direction": "pull"},
        "note": "company",
    }

    def verify(self, api: Api) -> Account:
        """Ask who we are."""
        account = api.get("me").json()["account"]
        return Account(account, account, f"Shelf {account}")

    def segments(self, api: Api) -> Iterator[RemoteSegment]:
        """Have two lists."""
        yield RemoteSegment("1", "News")
        yield RemoteSegment("2", "Old")

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Have some fields."""
        yield RemoteField("email", required=True)
        for name in ("name", "city", "note"):
            yield RemoteField(name)

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """POST all of them at once."""
        people = [
            {**item.fields, **({"id": item.remote_id} if item.remote_id else {})}
            for item in batch
        ]
        to = segment.id if segment else ""
        ids = api.post("people", {"to": to, "people": people}).json()
        for item in batch:
            yield item.delivered(str(ids[item.email]))

    def pull(
        self, api: Api, cursor: Any, segments: Sequence[RemoteSegment]
    ) -> Iterator[Page]:
        """Page through people, then through who left or is on each list."""
        stages: list[tuple[str, str]] = [("people", "people")]
        stages += [(f"opt-outs of {id_}", f"lists/{id_}") for id_ in ("1", "2")]
        start, after = cursor or (0, 0)
        for number, (stage, path) in enumerate(stages):
            if number < start:
                continue
            while True:
                answer = api.get(path, {"after": str(after)}).json()
                rows = answer["rows"]
                after = rows[-1][0] if rows else after
                yield self._page(number, stage, rows, answer["total"], after, segments)
                if not rows:
                    break
            after = 0

    @staticmethod
    def _page(
        number: int,
        stage: str,
        rows: Any,
        total: int,
        after: int,
        segments: Sequence[RemoteSegment],
    ) -> Page:
        cursor = [number, after] if rows else [number + 1, 0]
        if number == 0:
            people = [shown(id_, row) for id_, row in rows]
            return Page(people, cursor, stage, total, lists_everybody=True)
        id_ = str(number)
        members = [RemoteContact(str(who), segments={id_: how}) for who, how in rows]
        of = id_ if id_ in {one.id for one in segments} else ""
        last = number == 2 and not rows
        return Page(members, None if last else cursor, stage, total, members_of=of)

    def fetch(self, api: Api, keys: Sequence[RemoteKey]) -> Iterator[RemoteContact]:
        """GET each."""
        for key in keys:
            answer = api.get(f"people/{key.id}", ok={404})
            if answer.status == 404:
                yield RemoteContact(key.id, status="deleted")
                continue
            body = answer.json()
            lists = {id_: body["lists"][id_] for id_ in key.segments}
            yield shown(int(key.id), body["row"], segments=lists)


@pytest.fixture
def shelf() -> Shelf:
    """A fresh service."""
    return Shelf()


@pytest.fixture
def connect(make_app: Callable[..., TestApp], shelf: Shelf) -> Connect:
    """A factory of an Onward connected to `shelf`; `options` are lines of it."""

    def make(options: str = "", *, more: str = "", **given: Any) -> TestApp:
        made = type("Made", (Shelves,), given.pop("traits", {}))
        given.setdefault("fake", shelf)
        return make_app(
            TOML.format(options=options, more=more), integrations=[made], **given
        )

    return make


class Tools:
    """What the tests do again and again."""

    @staticmethod
    def state(app: TestApp) -> State:
        """Return the connection."""
        with app.runtime.database.read() as transaction:
            return named(transaction, "shelf")

    @classmethod
    def sync(
        cls, app: TestApp, *, full: bool = False, accept: bool = False, **manner: Any
    ) -> Synced:
        """Pull it."""
        of, how = cls.state(app).id, Manner(**manner)
        return sync(app.runtime, of, full=full, accept=accept, manner=how)

    @classmethod
    def plan(cls, app: TestApp) -> Plan:
        """Return when it is pulled next."""
        of = cls.state(app).id
        with app.runtime.database.read() as transaction:
            plan = read_plan(transaction, of)
        assert plan is not None
        return plan

    @staticmethod
    def people(app: TestApp) -> dict[str, dict[str, Any]]:
        """Return the contacts there are: first part of the address → fields."""
        with app.runtime.database.read() as transaction:
            rows = transaction.execute(select(table(Contact))).mappings()
            return {
                (row["email"] or str(row["id"])).partition("@")[0]: dict(row)
                for row in rows
                if row["merged_into"] is None and row["erased_at"] is None
            }

    @staticmethod
    def remote(app: TestApp) -> dict[str, dict[str, Any]]:
        """Return what is known of the service: remote id → row."""
        with app.runtime.database.read() as transaction:
            rows = transaction.execute(select(table(RemoteContactRow))).mappings()
            return {row["remote_id"]: dict(row) for row in rows}

    @staticmethod
    def stops(app: TestApp) -> set[tuple[str, str, str]]:
        """Return the active suppressions: (scope, segment, code)."""
        with app.runtime.database.read() as transaction:
            rows = transaction.execute(select(table(Suppression))).mappings()
            return {
                (row["scope"], row["segment"], row["code"])
                for row in rows
                if row["lifted_at"] is None
            }


@pytest.fixture
def tools() -> type[Tools]:
    """See `Tools`."""
    return Tools
