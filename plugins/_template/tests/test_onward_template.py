"""Contacts reach Template, in process: no network, no waiting."""

from __future__ import annotations

import onward.testing
from onward_template import Template
from onward_template.fake import Fake

CONFIG = """
[connections.template]
integration = "template"
segment = "Newsletter"
[connections.template.settings]
token = "${TOKEN}"
"""


def an_app(fake: Fake) -> onward.testing.TestApp:
    """Return an Onward that is connected to a fake of Template."""
    return onward.testing.app(
        CONFIG, fake=fake, integrations=[Template], env={"TOKEN": "right-token"}
    )


def test_contact_arrives() -> None:
    """A pushed contact is in the group, with its mapped fields."""
    fake = Fake()
    app = an_app(fake)
    app.upsert_contact(
        {"email": "Ana@Shop.example", "first_name": "Ana", "last_name": "Ruiz"}
    )
    app.push(email="ana@shop.example", to="template")

    app.deliver()

    ana = fake.people["ana@shop.example"]
    assert ana.fields == {"email": "ana@shop.example", "name": "Ana Ruiz", "city": ""}
    assert ana.groups == {"g1"}
    app.close()


def test_refused_contact_stops_nobody() -> None:
    """Of two contacts one is refused with the service's reason; corrected, it goes."""
    fake = Fake()
    app = an_app(fake)
    app.upsert_contact({"email": "bad@shop.example", "first_name": "!"})
    app.upsert_contact({"email": "good@shop.example", "first_name": "Good"})
    app.push(emails=["bad@shop.example", "good@shop.example"], to="template")

    app.deliver()

    assert [(row["state"], row["reason"]) for row in app.deliveries()] == [
        ("failed", "Template refuses it: not a name"),
        ("delivered", ""),
    ]
    app.upsert_contact({"email": "bad@shop.example", "first_name": "Bea"})
    app.push(email="bad@shop.example", to="template")
    app.deliver()
    assert app.deliveries()[-1]["state"] == "delivered"
    app.close()


def test_opt_out_is_obeyed() -> None:
    """Who opted out in Template stays out, and is not asked for again."""
    fake = Fake()
    fake.add("out@shop.example", opted_out=True)
    app = an_app(fake)
    app.upsert_contact({"email": "out@shop.example"})
    for _ in range(2):
        app.push(email="out@shop.example", to="template")
        app.deliver()

    assert [row["code"] for row in app.deliveries()] == ["unsubscribed", "suppressed"]
    assert fake.people["out@shop.example"].groups == set()
    assert fake.requests.count("POST people") == 1
    app.close()


def test_lost_answer_is_read_back() -> None:
    """A push whose answer got lost is read back and not sent a second time."""
    fake = Fake()
    app = an_app(fake)
    app.upsert_contact({"email": "ana@shop.example"})
    app.push(email="ana@shop.example", to="template")
    app.deliver(until_empty=False)
    app.push(email="ana@shop.example", to="template", force=True)
    fake.failures = [0]

    app.deliver()
    app.clock.tick(10)
    app.deliver()

    assert [row["code"] for row in app.deliveries()] == ["delivered", "read_back"]
    assert fake.requests.count("POST people") == 2
    app.close()
