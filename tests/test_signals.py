"""Facts are announced once, after their commit, and nobody can spoil it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from blinker import NamedSignal

from onward import signals
from onward.signals import (
    ContactAction,
    ContactFact,
    PointsChanged,
    PointTriggered,
    PushFact,
    announce,
)

if TYPE_CHECKING:
    from tests.conftest import MakeApp

RULES = """
[connections.news]
integration = "icontact"
[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["news"]
points = 10
[[point_triggers]]
key = "hot"
points = 10
push_to = ["news"]
"""

Heard = list[tuple[str, object]]

EVERY = [value for value in vars(signals).values() if isinstance(value, NamedSignal)]


@contextmanager
def listening(sender: object) -> Iterator[Heard]:
    """Collect everything one app announces: (signal, fact)."""
    heard: Heard = []
    receivers = []
    for signal in EVERY:

        def hear(_sender: object, event: object, name: str = signal.name) -> None:
            heard.append((name, event))

        receivers.append((signal, hear))
        signal.connect(hear, sender)
    try:
        yield heard
    finally:
        for signal, receiver in receivers:
            signal.disconnect(receiver, sender)


def test_one_action_announces_each_fact_once(make_app: MakeApp) -> None:
    """A new contact's first form is announced as everything that it was."""
    app = make_app(RULES)

    with listening(app) as heard:
        done = app.record_action(
            "form.submitted", email="ana@shop.example", data={"form": "x"}
        )

    who, now = done.contact_id, app.clock.now
    [created, submitted] = [event for name, event in heard if name == "contact-action"]
    assert isinstance(created, ContactAction)
    assert heard == [
        ("contact-created", ContactFact(who)),
        ("contact-action", created),
        ("contact-action", submitted),
        ("points-changed", PointsChanged(who, 10, 10)),
        ("point-triggered", PointTriggered(who, "hot", 10)),
        ("push-queued", PushFact(done.pushes[0], "news", who, "waiting")),
    ]
    assert created.action == "contact.created"
    assert submitted == ContactAction(
        who, "form.submitted", done.event_id, now, {"form": "x"}
    )


def test_change_and_merge_are_announced(make_app: MakeApp) -> None:
    """A changed contact names its fields, a merged one who became whom."""
    app = make_app()
    visitor = app.record_action("page.visited", identities={"visitor": "v1"})
    ana = app.upsert_contact({"email": "ana@shop.example", "city": "Köln"})

    with listening(app) as heard:
        app.upsert_contact({"email": "ana@shop.example", "city": "Bonn"})
        app.upsert_contact(
            {"email": "ana@shop.example", "identities": {"visitor": "v1"}}
        )

    facts = [fact for name, fact in heard if name != "contact-action"]
    assert facts == [
        ContactFact(ana.contact_id, ("city",)),
        ContactFact(ana.contact_id, other=visitor.contact_id),
    ]


def test_a_repeat_is_not_announced(make_app: MakeApp) -> None:
    """An action whose key was used announces nothing, for nothing happened."""
    app = make_app(RULES)
    app.record_action("form.submitted", email="ana@shop.example", key="k")

    with listening(app) as heard:
        app.record_action("form.submitted", email="ana@shop.example", key="k")

    assert heard == []


def test_what_is_announced_is_committed(make_app: MakeApp) -> None:
    """A receiver that looks into the database finds what it is told of."""
    app = make_app(RULES)
    seen: list[int] = []

    def look(_sender: object, event: PointTriggered) -> None:
        again = app.add_points(1, email="ana@shop.example")
        seen.append(again.contact_id - event.contact_id)

    with signals.point_triggered.connected_to(look, app):
        done = app.record_action("form.submitted", email="ana@shop.example")

    assert seen == [0]
    assert done.points == 10
    assert app.add_points(1, email="ana@shop.example").points == 12


def test_a_failing_receiver_stops_nobody(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """What one receiver raises is logged with its name; all others are told."""
    app = make_app()
    heard: list[object] = []

    def spoil(_sender: object, event: object) -> None:
        raise RuntimeError("spoilt")

    def hear(_sender: object, event: object) -> None:
        heard.append(event)

    with (
        caplog.at_level(logging.ERROR),
        signals.contact_created.connected_to(spoil, app),
        signals.contact_created.connected_to(hear, app),
    ):
        done = app.upsert_contact({"email": "ana@shop.example"})

    assert heard == [ContactFact(done.contact_id)]
    assert "spoil failed" in caplog.text
    assert app.upsert_contact({"email": "ana@shop.example"}).created is False


def test_apps_do_not_hear_each_other(make_app: MakeApp) -> None:
    """A receiver connected to one app hears nothing of another."""
    one, other = make_app(), make_app()

    with listening(one) as heard:
        other.upsert_contact({"email": "ana@shop.example"})

    assert heard == []


def test_receivers_are_held_weakly(make_app: MakeApp) -> None:
    """A receiver nobody else keeps is forgotten; it does not keep its owner alive."""
    app = make_app()
    heard: list[object] = []

    def connect() -> None:
        def hear(_sender: object, event: object) -> None:
            heard.append(event)

        signals.contact_created.connect(hear, app)

    connect()
    gc.collect()
    app.upsert_contact({"email": "ana@shop.example"})

    assert heard == []


def test_announcing_to_nobody_costs_nothing() -> None:
    """Without receivers a fact is not even looked at."""
    announce(signals.sync_finished, object(), None)  # type: ignore[arg-type]


def test_every_signal_has_a_name_of_its_own() -> None:
    """Signals are named after their variables, and are unlike each other."""
    named = {
        name.replace("_", "-"): value
        for name, value in vars(signals).items()
        if isinstance(value, NamedSignal)
    }

    assert {name: signal.name for name, signal in named.items()} == {
        name: name for name in named
    }


@pytest.mark.parametrize(
    "fact", [ContactFact, ContactAction, PointsChanged, PointTriggered, PushFact]
)
def test_facts_name_no_addresses(fact: type) -> None:
    """Facts name contacts by their id, so that nobody logs an address by mistake."""
    assert "email" not in {field.name for field in fields(fact)}
