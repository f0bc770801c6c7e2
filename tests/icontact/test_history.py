"""Who changed a contact, and when."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from onward import RemoteChange, RemoteKey, Temporary
from onward_icontact.client import Client
from onward_icontact.history import history
from onward_icontact.simulator import Simulator

ClientOf = Callable[[Callable[[httpx.Request], httpx.Response]], Client]

START = datetime(2026, 3, 4, 14, 15, tzinfo=UTC)


def answering(actions: object) -> Callable[[httpx.Request], httpx.Response]:
    """Return a handler with one page of actions."""
    return lambda _: httpx.Response(200, json={"actions": actions, "total": 1})


def test_what_was_recorded(client_of: ClientOf) -> None:
    """The quoted answer: a change of fields, one of a membership, no more."""
    text = (Path(__file__).parent / "fixtures/actions.json").read_text("utf-8")
    exchange: dict[str, Any] = json.loads(text)
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=exchange["response"]["body"])

    changes = list(history(client_of(handle), RemoteKey("70012345")))

    assert changes == [
        RemoteChange(
            datetime(2026, 3, 5, 15, 2, 44, tzinfo=UTC), "user 407118", ("email",)
        ),
        RemoteChange(
            datetime(2026, 3, 4, 14, 16, tzinfo=UTC), "user 407118", ("subscription",)
        ),
    ]
    assert asked == [exchange["request"]["path"]]


def test_newest_first_over_all_pages(client_of: ClientOf) -> None:
    """A long history comes whole, without what was mailed and opened."""
    sim = Simulator()
    ana = sim.folder().add_contact("ana@shop.example")
    for number in range(130):
        at, details = START + timedelta(minutes=number), {"city": "Durham"}
        kind = "EditFields" if number % 3 == 0 else "Open"
        sim.folder().note_action(ana.contact_id, kind, dict(details), "contact", at)

    changes = list(history(client_of(sim.handle), RemoteKey(ana.contact_id)))

    assert [one.at for one in changes] == [
        START + timedelta(minutes=number) for number in range(129, -1, -3)
    ]
    assert {(one.who, one.fields) for one in changes} == {("contact", ("city",))}
    assert len(sim.requests) == 3


@pytest.mark.parametrize(
    ("action", "change"),
    [
        ({"actionType": "EditFields", "actor": "admin", "details": []}, ("admin", ())),
        (
            {
                "actionType": "EditFields",
                "actor": 7,
                "details": {"city": "", "fax": "1"},
            },
            ("user 7", ("city", "fax")),
        ),
        ({"actionType": "EditStatus", "actor": "system"}, ("system", ("status",))),
        ({"actionType": "EditSubscription"}, ("", ("subscription",))),
        ({"actionType": "AddContact", "actor": "user"}, None),
        ({"actionType": "Bounce", "actor": "system"}, None),
        ({"actionType": "EditFields", "actionTime": "long ago"}, None),
        ({}, None),
    ],
)
def test_sorts_of_actions(
    action: dict[str, object],
    change: tuple[str, tuple[str, ...]] | None,
    client_of: ClientOf,
) -> None:
    """Who is named as iContact does; what is no change, or has no time, is left out."""
    row = {"actionTime": "2026-03-04T09:15:00-0500", **action}

    changes = list(history(client_of(answering([row])), RemoteKey("1")))

    assert changes == ([] if change is None else [RemoteChange(START, *change)])


def test_of_nobody_nothing(client_of: ClientOf) -> None:
    """Who is not there has no history; a service that is away is raised."""
    sim = Simulator()
    client = client_of(sim.handle)

    assert list(history(client, RemoteKey("1"))) == []
    sim.fail("json_503")
    with pytest.raises(Temporary):
        list(history(client, RemoteKey("1")))
    assert list(history(client, RemoteKey("1"))) == []
