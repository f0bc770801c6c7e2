"""One contact, with everything known about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from onward import (
    Account,
    Api,
    InputError,
    Integration,
    Outcome,
    RemoteField,
    RemoteSegment,
)
from onward.contacts.showing import TAIL, show_contact
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

CONFIG = """
[connections.acme]
integration = "acme"

[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["acme"]
points = 10
"""


class Acme(Integration):
    """A service that takes everybody but Ben."""

    key, title = "acme", "Acme Mail"
    hosts = ("api.acme.example",)
    default_map: ClassVar = {"email": "email"}

    def verify(self, api: Api) -> Account:
        """Know the account."""
        return Account("acme/1", "acme/1", "Acme")

    def fields(self, api: Api, segment: RemoteSegment | None) -> list[RemoteField]:
        """Have one field."""
        return [RemoteField("email", required=True)]

    def push(
        self, api: Api, batch: Any, segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Refuse Ben."""
        for item in batch:
            if item.email.startswith("ben"):
                yield item.rejected("no_ben", "Acme takes no Ben")
            else:
                yield item.delivered(f"r-{item.email}")


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> TestApp:
    """An app on each kind of database."""
    return make_app(CONFIG, integrations=[Acme], database_url=database_url)


def test_everything_known_of_a_contact_is_shown(app: TestApp) -> None:
    """Identities, histories, suppressions lifted or not, consents, remote contacts."""
    app.record_action("page.visited", identities={"visitor": "v1"})
    app.record_action("form.submitted", email="ana@shop.example", data={"a": 1})
    app.record_action(
        "form.submitted", email="ana@shop.example", identities={"visitor": "v1"}
    )
    app.deliver()
    app.suppress("ana@shop.example", reason="a letter", actor="Sam")
    app.clock.tick(timedelta(days=1))
    app.consent("ana@shop.example", how="on the phone", who="Sam")

    shown = show_contact(app.runtime, "Ana@Shop.example")

    assert (shown["email"], shown["points"]) == ("ana@shop.example", 20)
    assert shown["identities"] == [["email", "ana@shop.example"], ["visitor", "v1"]]
    assert [(row["delta"], row["total"], row["reason"]) for row in shown["ledger"]] == [
        (10, 20, "rule forms"),
        (10, 10, "rule forms"),
    ]
    assert shown["events"][0]["action"] == "form.submitted"
    assert {row["action"] for row in shown["events"]} >= {"page.visited"}
    [push] = shown["pushes"]
    assert (push["connection"], push["state"], push["code"]) == (
        "acme",
        "delivered",
        "delivered",
    )
    assert [(one["reason"], one["lifted_at"]) for one in shown["suppressions"]] == [
        ("a letter, seen 2026-03-04", (START + timedelta(days=1)).isoformat())
    ]
    assert [(one["how"], one["who"]) for one in shown["consents"]] == [
        ("on the phone", "Sam")
    ]
    assert [(one["connection"], one["remote_id"]) for one in shown["remote"]] == [
        ("acme", "r-ana@shop.example")
    ]
    assert json.loads(json.dumps(shown)) == shown


def test_a_push_that_failed_says_why(app: TestApp) -> None:
    """A refused push is shown with its code and the service's words."""
    app.record_action("form.submitted", email="ben@shop.example")
    app.deliver()

    [push] = show_contact(app.runtime, "ben@shop.example")["pushes"]

    assert (push["state"], push["code"], push["reason"]) == (
        "failed",
        "no_ben",
        "Acme takes no Ben",
    )


def test_a_number_and_an_old_address_lead_to_the_same_contact(app: TestApp) -> None:
    """A contact is found by its id, a merged id, and an address it gave up."""
    visitor = app.record_action("seen", identities={"visitor": "v1"}).contact_id
    user = {"user": "7"}
    ana = app.upsert_contact({"email": "ana@old.example", "identities": user})
    app.upsert_contact({"email": "ana@new.example", "identities": user})
    app.record_action("seen", email="ana@new.example", identities={"visitor": "v1"})

    shown = [
        show_contact(app.runtime, who)["id"]
        for who in (ana.contact_id, str(visitor), "ana@old.example")
    ]

    assert shown == [ana.contact_id] * 3


def test_histories_are_cut_to_the_latest(app: TestApp) -> None:
    """Of a long history the newest part is shown, newest first."""
    app.record_actions(
        {"action": f"seen.{n}", "email": "ana@shop.example"} for n in range(TAIL + 5)
    )

    found = show_contact(app.runtime, "ana@shop.example")["events"]

    assert len(found) == TAIL
    assert found[0]["action"] == f"seen.{TAIL + 4}"


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("ana@shop.example", "no contact with the address ana@shop.example"),
        ("99", "no contact with the number 99"),
        (str(10**30), "no contact with the number"),
        ("ana", "is no e-mail address"),
    ],
)
def test_nobody_is_said_to_be_nobody(app: TestApp, who: str, words: str) -> None:
    """Whoever is not there is refused in one sentence."""
    with pytest.raises(InputError, match=words):
        show_contact(app.runtime, who)
