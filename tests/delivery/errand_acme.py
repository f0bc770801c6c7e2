"""Acme with `unsubscribe` and `erase`, for tests of errands and of erasing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import httpx
from sqlalchemy import select, update

from onward import Api, RemoteKey
from onward.errands.listing import list_errands
from onward.models import RemoteContactRow, table
from onward.testing.app import TestApp

from .conftest import Acme, Service

remote_contacts = table(RemoteContactRow)


class ErrandService(Service):
    """Deletes people and takes them off all lists, by an id made of the address.

    `turns` decides how the next of these requests go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Any] = []
        self.gone: list[str] = []
        self.off: list[str] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; what is said of somebody holds their name."""
        verb, _, id_ = request.url.path.strip("/").rpartition("/")
        if verb not in ("erase", "off") or self.login != 200:
            return super().handle(request)
        self.asked.append(f"{verb} {id_}")
        answer: httpx.Response | None = None
        if self.turns:
            answer = self.turns.pop(0)(request)
        if answer is not None:
            return answer
        email = id_.removeprefix("id-")
        said = {"email": email, "name": self.people.get(email, {}).get("name", "")}
        if verb == "erase":
            self.people.pop(email, None)
            self.gone.append(id_)
        self.off.append(id_)
        for members in self.on.values():
            members.discard(email)
        return httpx.Response(200, json=said)


class Unsubscribing(Acme):
    """Takes people off their lists, one request each."""

    def unsubscribe(self, api: Api, keys: Sequence[RemoteKey]) -> Iterator[str]:
        """POST each."""
        for key in keys:
            api.post(f"off/{key.id}", {"id": key.id})
            yield key.id


class Erasing(Unsubscribing):
    """Deletes people as well."""

    def erase(self, api: Api, keys: Sequence[RemoteKey]) -> Iterator[str]:
        """DELETE each."""
        for key in keys:
            api.delete(f"erase/{key.id}")
            yield key.id


def errands(app: TestApp) -> list[dict[str, Any]]:
    """Return all errands."""
    with app.runtime.database.read() as transaction:
        return list(list_errands(transaction))


def states(app: TestApp) -> list[tuple[str, str, str]]:
    """Return (kind, state, code) of all errands."""
    return [(one["kind"], one["state"], one["code"]) for one in errands(app)]


def remote_rows(app: TestApp) -> dict[str, Any]:
    """Return remote id → what is known of it."""
    with app.runtime.database.read() as transaction:
        found = transaction.execute(select(remote_contacts)).mappings().all()
    return {row["remote_id"]: row for row in found}


def set_remote(app: TestApp, remote_id: str, **values: Any) -> None:
    """Change what is known of a remote contact."""
    with app.runtime.database.write() as transaction:
        transaction.execute(
            update(remote_contacts)
            .where(remote_contacts.c.remote_id == remote_id)
            .values(**values)
        )


def later(app: TestApp, moment: datetime | None) -> None:
    """Let the time be one at which an errand is due."""
    assert moment is not None
    app.clock.now = max(app.clock.now, moment)
