"""A fake of Template: answers like it, keeps what it was given.

Not a mock: tests look at what it *holds* in the end, not at calls that were made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx

FIELDS = (
    {"name": "email", "title": "E-mail", "max_length": 254},
    {"name": "name", "title": "Name", "max_length": 80},
    {"name": "company", "title": "Company", "max_length": None},
    {"name": "city", "title": "City", "max_length": 40},
)
GROUPS_PER_PAGE = 2


@dataclass
class Person:
    """Somebody Template knows."""

    id: str
    email: str
    fields: dict[str, str]
    groups: set[str] = field(default_factory=set[str])
    opted_out: bool = False


class Fake:
    """Template's service in a dict.

    Args:
        token: the only one it accepts.
    """

    def __init__(self, token: str = "right-token") -> None:  # noqa: S107
        self.token = token
        self.groups = {"g1": "Newsletter", "g2": "Customers", "g3": "Press"}
        self.people: dict[str, Person] = {}
        self.requests: list[str] = []
        # Statuses to answer with instead, first one first; 0 = do the work, then
        # lose the answer.
        self.failures: list[int] = []

    def add(self, email: str, *, opted_out: bool = False, **fields: str) -> Person:
        """Add somebody as if entered in Template itself."""
        person = Person(f"p{len(self.people) + 1}", email, fields, set(), opted_out)
        self.people[email] = person
        return person

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        path = request.url.path.removeprefix("/v1/")
        self.requests.append(f"{request.method} {path}")
        if self.failures:
            status = self.failures.pop(0)
            if status:
                return httpx.Response(status, json={"error": "out of order"})
            self._answer(request, path)
            raise httpx.ReadTimeout("the answer got lost", request=request)
        return self._answer(request, path)

    def _answer(self, request: httpx.Request, path: str) -> httpx.Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return httpx.Response(401, json={"error": "unknown token"})
        query = {k: v[0] for k, v in parse_qs(request.url.query.decode()).items()}
        match request.method, path:
            case "GET", "account":
                return httpx.Response(200, json={"id": "a1", "name": "The Bakery"})
            case "GET", "groups":
                return self._groups(int(query["page"]))
            case "GET", "fields":
                return httpx.Response(200, json=FIELDS)
            case "GET", "people":
                found = [self.people.get(email) for email in query["emails"].split(",")]
                return httpx.Response(200, json=[_shown(p) for p in found if p])
            case "POST", "people":
                return self._save(json.loads(request.content))
            case _:
                return httpx.Response(405, json={"error": "no such call"})

    def _groups(self, page: int) -> httpx.Response:
        rows = [{"id": id_, "name": name} for id_, name in self.groups.items()]
        end = page * GROUPS_PER_PAGE
        following = page + 1 if end < len(rows) else None
        shown = rows[end - GROUPS_PER_PAGE : end]
        return httpx.Response(200, json={"groups": shown, "next": following})

    def _save(self, body: dict[str, Any]) -> httpx.Response:
        if body["group"] is not None and body["group"] not in self.groups:
            return httpx.Response(404, json={"error": "no such group"})
        results = [self._save_one(person, body["group"]) for person in body["people"]]
        return httpx.Response(200, json={"results": results})

    def _save_one(self, given: dict[str, str], group: str | None) -> dict[str, str]:
        email = given["email"]
        if given.get("name", "").startswith("!"):
            return {"email": email, "status": "refused", "error": "not a name"}
        person = self.people.get(email) or self.add(email)
        if person.opted_out:
            return {"email": email, "status": "opted_out", "id": person.id}
        person.fields.update(given)
        if group is not None:
            person.groups.add(group)
        return {"email": email, "status": "saved", "id": person.id}


def _shown(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "email": person.email,
        "fields": person.fields,
        "groups": sorted(person.groups),
        "opted_out": person.opted_out,
    }
