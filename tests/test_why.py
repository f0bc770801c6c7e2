"""Why somebody was pushed, or was not, and what it waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import pytest
from sqlalchemy import update

from onward import (
    Account,
    Api,
    InputError,
    Integration,
    Limit,
    Outcome,
    RemoteField,
    RemoteSegment,
    minute,
)
from onward.connections.state import pause, rest, resume
from onward.contacts.suppress import add_suppression
from onward.models import Connection, Push, table
from onward.testing.app import START, TestApp
from onward.why import Why, explain

if TYPE_CHECKING:
    from tests.conftest import MakeApp

pushes = table(Push)
connections = table(Connection)

CONFIG = """
[connections.acme]
integration = "acme"
segment = "News"

[[rules]]
key = "dutch-forms"
when = "form.submitted"
if = [["country", "is", "NL"]]
push_to = ["acme"]

[[rules]]
key = "visits"
when = "page.visited"
points = 10

[[point_triggers]]
key = "hot"
name = "Hot"
points = 30
push_to = ["acme"]

[[point_triggers]]
key = "off"
name = "Off"
points = 5
enabled = false
push_to = ["acme"]
"""


class Acme(Integration):
    """A service that fails when told to."""

    key, title = "acme", "Acme Mail"
    hosts = ("api.acme.example",)
    limits = (Limit(4, per=minute),)
    default_map: ClassVar = {"email": "email"}

    def verify(self, api: Api) -> Account:
        """Know the account."""
        return Account("acme/1", "acme/1", "Acme")

    def segments(self, api: Api) -> list[RemoteSegment]:
        """Have two lists."""
        return [RemoteSegment("37", "News"), RemoteSegment("38", "VIP")]

    def fields(self, api: Api, segment: RemoteSegment | None) -> list[RemoteField]:
        """Have one field."""
        return [RemoteField("email", required=True)]

    def push(
        self, api: Api, batch: Any, segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Do what the service says."""
        for item in batch:
            said = api.post("people", json=dict(item.fields)).json()
            if said.get("again"):
                yield item.retry("busy", "Acme is busy")
            else:
                yield item.delivered(item.email)


class Service:
    """Takes everything, or asks to come back."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer as told."""
        return httpx.Response(200, json=self.answer)


@pytest.fixture
def service() -> Service:
    """The fake service."""
    return Service()


@pytest.fixture
def app(make_app: MakeApp, service: Service) -> TestApp:
    """An app with a rule that has a condition, and two triggers."""
    return make_app(CONFIG, integrations=[Acme], fake=service)


def ask(app: TestApp, email: str = "ana@shop.example") -> Why:
    """Ask why."""
    return explain(app.runtime, email)


def pushed(app: TestApp) -> None:
    """Fire what pushes Ana."""
    app.record_action(
        "form.submitted", email="ana@shop.example", contact={"country": "NL"}
    )


def waits(app: TestApp) -> str:
    """Return what Ana's only push waits for."""
    [connection] = ask(app).connections
    [push] = connection.pushes
    return push.waits_for


def test_a_condition_that_was_false_is_named(app: TestApp) -> None:
    """Of a rule that did not run the false condition is told, in words."""
    app.record_action(
        "form.submitted", email="ana@shop.example", contact={"country": "BE"}
    )

    why = ask(app)

    assert why.answer == (
        'rule dutch-forms did not run: country is "BE", wanted "NL"',
        "trigger off: not fired: it is not enabled",
        "trigger hot: not fired: 0 of 30 points",
    )
    assert [
        [(look.rule, look.ran) for look in action.looked] for action in why.actions
    ] == [[("dutch-forms", False)], []]


def test_an_action_no_rule_is_for_explains_nothing(app: TestApp) -> None:
    """When no rule looked at anything, that is the answer."""
    app.record_action("order.paid", email="ana@shop.example")
    assert ask(app).answer[0] == "no rule matches any of its actions"

    app.upsert_contact({"email": "ben@shop.example"})
    assert (
        ask(app, "ben@shop.example").answer[0] == "no rule matches any of its actions"
    )


def test_a_rule_that_ran_and_a_trigger_not_reached(app: TestApp) -> None:
    """Points N of M are told as long as a trigger has not fired, then when it did."""
    app.record_action("page.visited", email="ana@shop.example")
    why = ask(app)
    assert why.answer == (
        "the rules that ran push nowhere",
        "trigger off: not fired: it is not enabled",
        "trigger hot: not fired: 10 of 30 points",
    )

    app.clock.tick(timedelta(hours=1))
    app.add_points(20, email="ana@shop.example")
    why = ask(app)
    assert [trigger.sentence for trigger in why.triggers] == [
        "not fired: it is not enabled",
        "fired on 2026-03-04 10:00",
    ]
    assert why.connections[0].pushes[0].causes == ("trigger hot",)


def test_a_threshold_that_an_import_passed_says_how_it_fires(app: TestApp) -> None:
    """Points above a trigger that did not fire yet say what makes it fire."""
    app.upsert_contact({"email": "ana@shop.example"})
    with app.runtime.database.write() as transaction:
        from onward.models import Contact

        transaction.execute(update(table(Contact)).values(points=40))

    assert ask(app).triggers[1].sentence == (
        "reached with 40 of 30 points, not fired yet: it fires at the next change of "
        "points, or by `onward triggers apply hot`"
    )


def test_a_delivered_push_says_so_with_its_attempt(app: TestApp) -> None:
    """The latest push of a connection is the answer; its tries name attempts."""
    pushed(app)
    app.deliver()

    why = ask(app)

    [connection] = why.connections
    [push] = connection.pushes
    assert connection.rules == ("dutch-forms", "hot")
    assert why.answer == (
        'acme: push 1 for "News" of 2026-03-04 09:00, asked for by rule dutch-forms: '
        "delivered",
    )
    [tried] = push.tries
    assert (tried.kind, tried.code, tried.attempt_id) == ("delivered", "delivered", 1)


def test_what_a_push_waits_for_is_told(app: TestApp, service: Service) -> None:
    """Verification, a worker, a retry, a rest, a pause, a list, a switch: each."""
    pushed(app)
    assert waits(app) == (
        "until the connection is verified and knows its remote segment (its own)"
    )
    app.verify("acme")
    assert waits(app) == "for a worker; it is due now (`onward deliver` sends it)"

    service.answer = {"again": True}
    app.deliver(until_empty=False)
    assert waits(app).startswith("due 2026-03-04 09:00:")
    assert waits(app).endswith(", after 1 failed try: Acme is busy")
    app.clock.tick(timedelta(minutes=10))

    with app.runtime.database.write() as transaction:
        rest(transaction, 1, app.clock(), timedelta(seconds=60))
    assert waits(app) == "the connection rests until 2026-03-04 09:11:00 UTC"
    pause(app.runtime, 1, "credentials", "Acme refuses the password")
    assert waits(app) == (
        "held since 2026-03-04 09:10:00 UTC, the connection is paused: "
        "Acme refuses the password"
    )
    assert ask(app).connections[0].status == "paused"
    resume(app.runtime, 1)

    with app.runtime.database.write() as transaction:
        transaction.execute(update(connections).values(push_contacts=False))
    assert waits(app).startswith("nothing leaves this connection")
    assert ask(app).connections[0].blocks == (
        "pushes are switched off: nothing leaves it"
    )
    with app.runtime.database.write() as transaction:
        transaction.execute(update(connections).values(push_contacts=True))

    service.answer = {}
    app.deliver()
    assert ask(app).connections[0].pushes[0].state == "delivered"


def test_a_limit_that_is_used_up_is_told(app: TestApp) -> None:
    """A row that waits for calls says until when, and that moment is right."""
    pushed(app)
    app.deliver()
    app.push(to="acme", email="ana@shop.example", force=True)
    assert waits_of_last(app) == (
        "the limit of calls is used up until 2026-03-04 09:00:15 UTC"
    )

    app.clock.tick(timedelta(seconds=16))
    assert waits_of_last(app).startswith("for a worker")
    app.deliver(until_empty=False)
    assert ask(app).connections[0].pushes[0].state == "delivered"


def waits_of_last(app: TestApp) -> str:
    """Return what Ana's latest push waits for."""
    return ask(app).connections[0].pushes[0].waits_for


def test_a_visitor_waits_for_an_address(app: TestApp) -> None:
    """A visitor's push says what is missing, by its number."""
    result = app.record_action(
        "form.submitted", identities={"visitor": "v1"}, contact={"country": "NL"}
    )
    app.deliver()

    why = ask(app, str(result.contact_id))

    assert why.connections[0].blocks == (
        "it waits: this visitor has no e-mail address yet"
    )
    assert why.connections[0].pushes[0].waits_for == "for the visitor's e-mail address"


def test_a_suppression_is_told_in_words(app: TestApp) -> None:
    """What, where, since when: of the list it concerns, and of no other."""
    app.verify("acme")
    pushed(app)
    with app.runtime.database.write() as transaction:
        for segment, name in (("37", "News"), ("38", "VIP")):
            add_suppression(
                transaction,
                contact_id=1,
                email="ana@shop.example",
                scope="segment",
                code="unsubscribed",
                reason=f"unsubscribed from {name} in Acme Mail",
                source="acme",
                now=START - timedelta(days=9),
                identity="acme/1",
                segment=segment,
            )
    app.deliver()

    why = ask(app)

    words = "unsubscribed from News in Acme Mail, seen 2026-02-23"
    assert why.suppressions == (
        words,
        "unsubscribed from VIP in Acme Mail, seen 2026-02-23",
    )
    assert why.connections[0].blocks == f"it must not push this contact: {words}"
    assert why.answer[0].endswith(f"skipped: {words}")
    app.consent("ana@shop.example", how="form", who="Sam")
    assert ask(app).suppressions == ()
    assert ask(app).lifted[0] == words
    assert ask(app).connections[0].blocks == ""


def test_somebody_unknown_may_be_suppressed_all_the_same(app: TestApp) -> None:
    """Without a contact the answer says so, and what is known of the address."""
    assert ask(app).answer == (
        "there is no contact with the address ana@shop.example; import it, or fire an "
        "action with it",
    )
    app.suppress("ana@shop.example", reason="wrote a letter")
    why = ask(app)
    assert why.answer[1:] == ("it would not be pushed if there were: it is suppressed",)
    assert why.suppressions == ("wrote a letter, seen 2026-03-04",)
    with pytest.raises(InputError, match="no e-mail address"):
        ask(app, "ana")


def test_without_connections_and_rules_that_is_the_answer(make_app: MakeApp) -> None:
    """Where nothing is configured, nothing is blamed on the contact."""
    app = make_app()
    app.record_action("seen", email="ana@shop.example")
    assert ask(app).answer == (
        "there is no connection to push to; see `onward connections add`",
    )

    app = make_app('[connections.acme]\nintegration = "acme"', integrations=[Acme])
    app.record_action("seen", email="ana@shop.example")
    assert ask(app).answer == ("no rule and no trigger pushes anywhere",)


def test_lines_and_json_say_the_same(app: TestApp) -> None:
    """People get indented lines, programs one JSON document."""
    app.record_action("page.visited", identities={"visitor": "v1"})
    pushed(app)
    app.record_action(
        "page.visited", email="ana@shop.example", identities={"visitor": "v1"}
    )
    app.suppress("ana@shop.example")
    app.deliver()

    why = ask(app)

    assert why.lines()[1:] == [
        "suppressed: do not contact, seen 2026-03-04",
        "connection acme (active)",
        "  it must not push this contact: do not contact, seen 2026-03-04",
        '  push 1 for "News" of 2026-03-04 09:00, asked for by rule dutch-forms: '
        "skipped: do not contact, seen 2026-03-04",
        "    2026-03-04 09:00 skipped (suppressed): do not contact, seen 2026-03-04",
        "action page.visited on 2026-03-04 09:00",
        "  rule visits ran",
        "action form.submitted on 2026-03-04 09:00",
        "  rule dutch-forms ran",
        "action contact.created on 2026-03-04 09:00",
        "  no rule is for it",
        "action page.visited on 2026-03-04 09:00",
        "  rule visits ran",
        "action contact.created on 2026-03-04 09:00",
        "  no rule is for it",
        "trigger off: not fired: it is not enabled",
        "trigger hot: not fired: 20 of 30 points",
    ]
    plain = json.loads(json.dumps(why.as_dict()))
    assert plain["contact_id"] == why.contact_id
    assert plain["connections"][0]["pushes"][0]["code"] == "suppressed"
    assert plain["triggers"][1]["sentence"] == "not fired: 20 of 30 points"
