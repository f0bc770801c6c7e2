"""`onward diagnose`: what support needs, and nothing of anybody."""

from __future__ import annotations

import json
from typing import Any

import pytest

import onward.testing
from onward.diagnose import collect
from onward.diagnose.anonymous import Anonymous
from onward.redact import Redactor
from onward_icontact.simulator import Simulator

from .conftest import PASSWORD, Place

ADDRESSES = (
    "ana@shop.example",
    "zoë.o'neil+x@shop.example",
    "sam@bakery.example",
)


@pytest.fixture
def used(place: Place) -> Place:
    """A folder where things went well and badly."""
    place.good("init")
    for address in ADDRESSES[:2]:
        place.good(
            "fire", "seen", "--email", address, "--data", json.dumps({"from": address})
        )
    place.good("push", *ADDRESSES[:2], "--to", "icontact")
    place.sim.fail(
        "status", status=400, method="POST", errors=["ana@shop.example is not welcome"]
    )
    place.good("deliver", "--until-empty")
    place.good("connections", "pause", "icontact", "--why", "asked bo@mail.example")
    return place


def bundle(place: Place) -> tuple[str, dict[str, Any]]:
    """Write the bundle; return its text, and what it says."""
    place.good("diagnose", "--output", "bundle.json")
    text = (place.path / "bundle.json").read_text("utf-8")
    return text, json.loads(text)


def test_the_bundle_says_what_support_asks(used: Place) -> None:
    """Versions, counts, settings, and the last attempts with exact errors."""
    _, made = bundle(used)

    assert made["versions"]["onward"]
    assert made["database"]["rows"]["contact"] == 2
    [connection] = made["connections"]
    assert connection["status"] == "paused"
    assert connection["settings"]["account_id"] == used.sim.account_id
    assert connection["settings"]["password"] == "***"
    errors = [
        (exchange["status"], exchange["answer"])
        for attempt in made["last_attempts"]
        for exchange in attempt["exchanges"]
        if exchange["answer"]
    ]
    assert errors[0][0] == 400
    assert "is not welcome" in errors[0][1]
    assert all(attempt["started_at"] for attempt in made["last_attempts"])
    assert {check["level"] for check in made["checks"]} >= {"ok", "problem"}


def test_the_bundle_holds_no_secret_and_nobody(used: Place) -> None:
    """No password, no key and no address, in whatever way it is written."""
    text, made = bundle(used)

    key = (used.path / "onward.key").read_text().strip()
    escaped = [json.dumps(address)[1:-1] for address in ADDRESSES]
    encoded = [address.replace("@", "%40") for address in ADDRESSES]
    for hidden in (PASSWORD, json.dumps(PASSWORD)[1:-1], key, "shop.example"):
        assert hidden not in text
    for hidden in (*ADDRESSES, *escaped, *encoded, "bo@mail.example"):
        assert hidden not in text
    assert "@" not in text
    refused = made["last_attempts"][-1]["exchanges"]
    assert any("contact-1 is not welcome" in str(e["answer"]) for e in refused)


def test_a_bundle_that_cannot_be_written_is_said(used: Place) -> None:
    """A folder that is not there is one sentence."""
    ran = used.run("diagnose", "--output", "nowhere/bundle.json")

    assert (ran.status, ran.out) == (1, "")
    assert (
        ran.err == "nowhere/bundle.json cannot be written: No such file or directory\n"
    )
    used.good("diagnose")
    assert len(list(used.path.glob("onward-diagnose-*.json"))) == 1


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("to ana@shop.example.", "to contact-1."),
        ("email=ANA%40shop.example&x=1", "email=contact-1&x=1"),
        ('{"email": "ana@shop.example"}', '{"email": "contact-1"}'),
        ("a@x.example,b@x.example,a@x.example", "address-1,address-2,address-1"),
        ("<zo\\u00eb@x.example>", "<address-1>"),
        ("zo\\u00eb\\u0040x.example", "address-1"),
        ("https://***@host/path", "https://***@host/path"),
        ("5 @ 3 and @home", "5 @ 3 and @home"),
        ("password: hunter22", "password: ***"),
        ("x@y.example hunter\\u0032\\u0032", "address-1 ***"),
    ],
)
def test_addresses_become_ids(text: str, clean: str) -> None:
    """A known address becomes its contact's id, others are numbered."""
    app = onward.testing.app("", fake=Simulator())
    app.upsert_contact({"email": "ana@shop.example"})

    cleaned = Anonymous(app.runtime, Redactor(["hunter22"])).clean([text])

    app.close()
    assert cleaned == [clean]


def test_every_part_of_the_bundle_is_plain_data() -> None:
    """An installation with nothing in it has a bundle too."""
    app = onward.testing.app("", fake=Simulator())

    made = collect(app.runtime)

    app.close()
    assert made["connections"] == []
    assert made["last_attempts"] == []
    assert sum(made["database"]["rows"].values()) == 0
