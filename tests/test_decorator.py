"""The trivial integration: a function and an address."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

import onward
import onward.testing
from onward import Integration, Item, Limit, minute
from onward.connections.state import resume

URL = "https://api.acme.example/contacts"
CONFIG = """
[connections.acme]
integration = "acme"
[connections.acme.settings]
token = "right"
"""


@onward.integration("acme", url=URL, limits=[Limit(6_000, per=minute)])
def acme(item: Item) -> object:
    """Send address and first name; leave out robots."""
    if item.email.startswith("robot"):
        return None
    return {"email": item.email, "name": item.fields.get("first_name", "")}


class Service:
    """Takes JSON at one address; knows POST only."""

    def __init__(self) -> None:
        self.token = "right"
        self.bodies: list[object] = []
        self.losing = 0

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return httpx.Response(401, json={"error": "unknown token"})
        if request.method != "POST":
            return httpx.Response(405)
        body = json.loads(request.content)
        if body.get("name") == "!":
            return httpx.Response(422, json={"error": "no name"})
        self.bodies.append(body)
        if self.losing:
            self.losing -= 1
            raise httpx.ReadTimeout("gone", request=request)
        return httpx.Response(201)


@pytest.fixture
def service() -> Service:
    """A service that accepts the token `right`."""
    return Service()


@pytest.fixture
def app(service: Service) -> Iterator[onward.testing.TestApp]:
    """An app connected to the service, with two people and a robot."""
    app = onward.testing.app(CONFIG, fake=service, integrations=[acme])
    for name in ("ana", "ben", "robot"):
        app.upsert_contact({"email": f"{name}@shop.example", "first_name": name})
    yield app
    app.close()


def test_decorated_function_is_an_integration() -> None:
    """The class has the function's module and words, so that it can be found."""
    assert issubclass(acme, Integration)
    assert (acme.__name__, acme.__module__) == ("acme", __name__)
    assert acme.__doc__ == "Send address and first name; leave out robots."
    assert (acme.key, acme.title, acme.hosts) == ("acme", "Acme", ("api.acme.example",))


def test_each_contact_is_posted(app: onward.testing.TestApp, service: Service) -> None:
    """What the function returns is sent; None leaves the contact out."""
    app.push(
        emails=["ana@shop.example", "ben@shop.example", "robot@shop.example"],
        to="acme",
    )

    app.deliver()

    assert service.bodies == [
        {"email": "ana@shop.example", "name": "ana"},
        {"email": "ben@shop.example", "name": "ben"},
    ]
    assert [(row["state"], row["code"]) for row in app.deliveries()] == [
        ("delivered", "delivered"),
        ("delivered", "delivered"),
        ("skipped", "left_out"),
    ]


def test_unchanged_contact_is_not_posted_again(
    app: onward.testing.TestApp, service: Service
) -> None:
    """A second push of the same contact sends nothing, a changed one does."""
    for name in ("ana", "ana", "Anna"):
        app.upsert_contact({"email": "ana@shop.example", "first_name": name})
        app.push(email="ana@shop.example", to="acme")
        app.deliver()

    assert [row["state"] for row in app.deliveries()] == [
        "delivered",
        "unchanged",
        "delivered",
    ]
    assert [body["name"] for body in service.bodies if isinstance(body, dict)] == [
        "ana",
        "Anna",
    ]


def test_refused_contact_fails_alone(
    app: onward.testing.TestApp, service: Service
) -> None:
    """A 422 fails that contact with the service's words; corrected, it arrives."""
    app.upsert_contact({"email": "ana@shop.example", "first_name": "!"})
    app.push(emails=["ana@shop.example", "ben@shop.example"], to="acme")

    app.deliver()

    assert [(row["state"], row["code"]) for row in app.deliveries()] == [
        ("failed", "http_422"),
        ("delivered", "delivered"),
    ]
    assert app.deliveries()[0]["reason"] == "Acme refuses this (422): no name"
    app.upsert_contact({"email": "ana@shop.example", "first_name": "Ana"})
    app.push(email="ana@shop.example", to="acme")
    app.deliver()
    assert app.deliveries()[-1]["state"] == "delivered"


def test_wrong_token_pauses_before_anything_is_sent(
    app: onward.testing.TestApp, service: Service
) -> None:
    """A refused token holds the rows; accepted and resumed, they go."""
    service.token = "another"
    app.push(email="ana@shop.example", to="acme")

    held = app.deliver().held

    assert held == {"acme": "Acme refuses the credentials (401): unknown token"}
    assert service.bodies == []
    assert [row["state"] for row in app.deliveries()] == ["waiting"]
    service.token = "right"
    resume(app.runtime, app.deliveries()[0]["connection_id"])
    app.deliver()
    assert [row["state"] for row in app.deliveries()] == ["delivered"]


def test_lost_answer_is_not_repeated(
    app: onward.testing.TestApp, service: Service
) -> None:
    """Without `repeatable` a POST that got no answer ends as failed, sent once."""
    service.losing = 1
    app.push(email="ana@shop.example", to="acme")

    app.deliver()
    app.clock.tick(minute)
    app.deliver()

    assert len(service.bodies) == 1
    assert [(row["state"], row["code"]) for row in app.deliveries()] == [
        ("failed", "unknown")
    ]
    app.push(email="ana@shop.example", to="acme")
    app.deliver()
    assert app.deliveries()[-1]["state"] == "delivered"


def test_lost_answer_is_repeated_where_that_does_no_harm(service: Service) -> None:
    """With `repeatable` the POST is made again and the contact delivered."""

    @onward.integration("acme", url=URL, repeatable=True)
    def again(item: Item) -> object:
        return dict(item.fields)

    app = onward.testing.app(CONFIG, fake=service, integrations=[again])
    app.upsert_contact({"email": "ana@shop.example"})
    service.losing = 1
    app.push(email="ana@shop.example", to="acme")

    app.deliver()
    app.clock.tick(minute)
    app.deliver()

    assert service.bodies == [{"email": "ana@shop.example"}] * 2
    assert [row["state"] for row in app.deliveries()] == ["delivered"]
    app.close()


def test_own_fields_become_the_default_map(service: Service) -> None:
    """`fields` names what the function is given, and from which contact fields."""

    @onward.integration(
        "acme",
        url=URL,
        title="Acme Mail",
        fields={"email": "email", "greeting": "Dear {{ first_name }}"},
    )
    def greeted(item: Item) -> object:
        return dict(item.fields)

    app = onward.testing.app(CONFIG, fake=service, integrations=[greeted])
    app.upsert_contact({"email": "ana@shop.example", "first_name": "Ana"})
    app.push(email="ana@shop.example", to="acme")

    app.deliver()

    assert greeted.title == "Acme Mail"
    assert service.bodies == [{"email": "ana@shop.example", "greeting": "Dear Ana"}]
    app.close()


def test_function_that_fails_names_itself(service: Service) -> None:
    """What the function raises is a plugin error that names the integration."""
    broken = [True]

    @onward.integration("acme", url=URL)
    def clumsy(item: Item) -> object:
        return {"email": item.email, "shoe": item.fields["shoe"]} if broken else {}

    app = onward.testing.app(CONFIG, fake=service, integrations=[clumsy])
    app.upsert_contact({"email": "ana@shop.example"})
    app.push(email="ana@shop.example", to="acme")

    app.deliver(until_empty=False)

    waiting = app.deliveries()[0]
    assert (waiting["state"], waiting["code"]) == ("waiting", "plugin_error")
    assert "KeyError('shoe')" in waiting["reason"]
    broken.clear()
    app.clock.tick(10 * minute)
    app.deliver()
    assert app.deliveries()[0]["state"] == "delivered"
    app.close()
