"""Erasing a person: nothing of them stays, and they are not pushed again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import pytest
from sqlalchemy import func, insert, select, update
from sqlmodel import SQLModel

from onward import (
    Account,
    Api,
    InputError,
    Integration,
    Outcome,
    RemoteField,
    RemoteSegment,
    signals,
)
from onward.contacts.erasing import Erased, erase_contact
from onward.contacts.importing import import_contacts
from onward.contacts.remotely import There
from onward.contacts.suppress import add_suppression
from onward.contacts.traces import MARK
from onward.models import (
    Attempt,
    Contact,
    Event,
    Ledger,
    Push,
    RemoteContactRow,
    Suppression,
    table,
)
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

attempts = table(Attempt)
contacts = table(Contact)
events = table(Event)
ledger = table(Ledger)
pushes = table(Push)
suppressions = table(Suppression)

CONFIG = """
[connections.acme]
integration = "acme"

[[rules]]
key = "forms"
when = "form.submitted"
if = [["data.city", "is not", "Ulm"]]
push_to = ["acme"]
points = 10
"""


class Acme(Integration):
    """A service with a request per contact."""

    key, title = "acme", "Acme Mail"
    hosts = ("api.acme.example",)
    default_map: ClassVar = {"email": "email", "name": "first_name", "city": "city"}

    def verify(self, api: Api) -> Account:
        """Know the account."""
        return Account("acme/1", "acme/1", "Acme")

    def fields(self, api: Api, segment: RemoteSegment | None) -> list[RemoteField]:
        """Have three fields."""
        return [RemoteField(name) for name in ("email", "name", "city")]

    def push(
        self, api: Api, batch: Any, segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Look, then write: the second request names only the remote id."""
        for item in batch:
            found = api.get("people", params={"email": item.email}).json()
            number = found["id"]
            fields = {key: text for key, text in item.changed.items() if key != "email"}
            api.post(f"people/{number}", json=fields)
            api.memory.put("last", {"seen": item.email})
            yield item.delivered(number)


class Service:
    """Answers with a number per address."""

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Number the address, or echo the body."""
        email = request.url.params.get("email", "")
        if email:
            number = "4711" if "ana" in email else "4712"
            return httpx.Response(200, json={"id": number, "email": email.upper()})
        return httpx.Response(200, content=request.content)


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> TestApp:
    """An app on each kind of database, with a service that answers."""
    return make_app(
        CONFIG, integrations=[Acme], database_url=database_url, fake=Service()
    )


def everything(app: TestApp) -> str:
    """Return all rows of all tables as text."""
    with app.runtime.database.read() as transaction:
        return "\n".join(
            f"{rows.name} {dict(row)!r}"
            for rows in SQLModel.metadata.sorted_tables
            for row in transaction.execute(select(rows)).mappings()
        )


def rows(app: TestApp, statement: Any) -> list[Any]:
    """Return what a query finds."""
    with app.runtime.database.read() as transaction:
        return list(transaction.execute(statement).all())


def fill(app: TestApp, tmp_path: Path) -> int:
    """Leave traces of Ana+ everywhere, and some of Ben; return Ana's number."""
    ana = {"email": "ana+x@shop.example", "identities": {"user": "u-ana"}}
    path = tmp_path / "contacts.csv"
    path.write_text(
        "email,first_name,points,do not contact\n"
        "ana+x@shop.example,Anastasia,many,\n"
        "ben@shop.example,Benjamin,1,\n"
    )
    import_contacts(app.runtime, path)
    app.upsert_contact(
        {
            **ana,
            "first_name": "Anastasia",
            "city": "Utrecht",
            "tags": ["Anastasias-tag"],
            "segments": ["Shop"],
        }
    )
    app.record_action("page.visited", identities={"visitor": "anas-browser"})
    for email in ("ana+x@shop.example", "ben@shop.example"):
        app.record_action(
            "form.submitted",
            email=email,
            data={"said": f"hello from {email}"},
            key=f"form of {email}",
        )
    of = app.record_action(
        "form.submitted",
        email="ana+x@shop.example",
        identities={"visitor": "anas-browser"},
        data={"city": "Ulm"},
    ).contact_id
    app.add_points(5, email="ana+x@shop.example", reason="Anastasia phoned")
    app.deliver()
    return of


def test_nothing_of_the_person_stays(app: TestApp, tmp_path: Path) -> None:
    """No table holds the address, a name, an identity or a value any more."""
    of = fill(app, tmp_path)
    before = everything(app)
    for trace in ("ana+x@", "ana%2Bx", "Anastasia", "Utrecht", "anas-browser", "u-ana"):
        assert trace in before, trace

    done = erase_contact(app.runtime, "Ana+X@shop.example", "Sam")

    after = everything(app).casefold()
    for trace in ("ana+x", "ana%2bx", "anastasia", "utrecht", "browser", "u-ana"):
        assert trace not in after, [
            line for line in after.splitlines() if trace in line
        ]
    assert (done.contact_id, done.sending) == (of, 0)
    assert done.cleaned >= 2
    # Of Ben everything is there.
    assert "benjamin" in after
    [ben] = app.contacts()
    assert (ben["email"], ben["points"]) == ("ben@shop.example", 11)


def test_the_accounts_stay_and_add_up(app: TestApp, tmp_path: Path) -> None:
    """Points, the dates of events and the ends of pushes stay, about nobody."""
    of = fill(app, tmp_path)
    erase_contact(app.runtime, "ana+x@shop.example", "Sam")

    [gone] = rows(app, select(contacts).where(contacts.c.id == of))
    sums = rows(app, select(func.sum(ledger.c.delta)).where(ledger.c.contact_id == of))
    assert (gone.points, gone.erased_at, gone.email) == (15, START, None)
    assert sums == [(15,)]
    mine = events.c.contact_id == of
    found = rows(app, select(events).where(mine).order_by(events.c.id))
    assert found[-1].action == "contact.erased"
    assert found[-1].data == {"by": "Sam"}
    assert [row.data for row in found[:-1]] == [{}] * (len(found) - 1)
    [push] = rows(app, select(pushes).where(pushes.c.contact_id == of))
    assert (push.state, push.code, push.reason) == (
        "delivered",
        "delivered",
        "the contact was erased",
    )


def test_only_bodies_that_hold_the_person_are_blanked(
    app: TestApp, tmp_path: Path
) -> None:
    """Requests about others keep their bodies; status and time stay everywhere."""
    fill(app, tmp_path)
    erase_contact(app.runtime, "ana+x@shop.example")

    exchanges = [
        one for (kept,) in rows(app, select(attempts.c.exchanges)) for one in kept
    ]
    blanked = [one for one in exchanges if one["answer"] == MARK]
    kept = [one for one in exchanges if one["answer"] != MARK]
    assert len(blanked) == len(kept) == 2
    assert {one["status"] for one in exchanges} == {200}
    assert json.loads(kept[-1]["request"]) == {"name": "Benjamin"}


def test_waiting_pushes_are_cancelled_and_the_fact_is_announced(app: TestApp) -> None:
    """What was to be sent is not; receivers hear it once."""
    of = app.record_action("form.submitted", email="ana@shop.example").contact_id
    heard: list[Any] = []

    def hear(sender: object, event: Any) -> None:
        heard.append(event)

    signals.contact_erased.connect(hear, sender=app)
    done = erase_contact(app.runtime, "ana@shop.example")
    app.deliver()

    assert (done.contact_id, done.cancelled) == (of, 1)
    assert [(row["state"], row["code"]) for row in app.deliveries()] == [
        ("cancelled", "erased")
    ]
    assert heard == [signals.ContactFact(of)]


def stop(app: TestApp, of: int, email: str, code: str = "unsubscribed") -> None:
    """Remember an opt-out."""
    with app.runtime.database.write() as transaction:
        add_suppression(
            transaction,
            contact_id=of,
            email=email,
            scope="address",
            code=code,
            reason=f"{email} wrote a letter",
            source="test",
            now=START,
        )


def test_who_opted_out_is_not_pushed_after_coming_back(app: TestApp) -> None:
    """An opt-out outlives the contact under each address the person had."""
    user = {"user": "7"}
    of = app.upsert_contact({"email": "ana@old.example", "identities": user}).contact_id
    stop(app, of, "ana@old.example")
    app.upsert_contact({"email": "ana@new.example", "identities": user})

    erase_contact(app.runtime, "ana@old.example")

    found = rows(app, select(suppressions))
    assert {(row.contact_id, row.scope, row.reason) for row in found} == {
        (0, "address", f"{MARK} wrote a letter"),
        (0, "erased", ""),
    }
    for email in ("ana@old.example", "ana@new.example"):
        again = app.upsert_contact({"email": email}).contact_id
        assert again != of
        app.push(to="acme", email=email)
    app.deliver()
    assert [row["code"] for row in app.deliveries()] == ["suppressed", "suppressed"]


def test_a_lifted_opt_out_stays_lifted_and_the_stricter_word_wins(
    app: TestApp,
) -> None:
    """What a consent answered is kept so, unless the address is known to say no."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    ben = app.upsert_contact({"email": "ben@shop.example"}).contact_id
    stop(app, ana, "ana@shop.example")
    app.consent("ana@shop.example", how="form", who="Sam")
    stop(app, 0, "ben@shop.example")
    app.consent("ben@shop.example", how="form", who="Sam")
    stop(app, ben, "ben@shop.example")

    erase_contact(app.runtime, "ana@shop.example")
    erase_contact(app.runtime, "ben@shop.example")

    for email in ("ana@shop.example", "ben@shop.example"):
        app.upsert_contact({"email": email})
        app.push(to="acme", email=email)
    app.deliver()
    assert [(row["email"], row["state"]) for row in app.deliveries()] == [
        ("ana@shop.example", "delivered"),
        ("ben@shop.example", "skipped"),
    ]


def test_merged_contacts_are_erased_with_their_survivor(app: TestApp) -> None:
    """What was written under a merged number goes too."""
    app.record_action(
        "form.submitted", identities={"visitor": "v1"}, data={"name": "Anastasia"}
    )
    app.upsert_contact({"email": "ana@shop.example"})
    app.record_action("seen", email="ana@shop.example", identities={"visitor": "v1"})

    done = erase_contact(app.runtime, "ana@shop.example")

    assert done.cancelled == 1
    assert "Anastasia" not in everything(app)
    assert not [row for row in rows(app, select(contacts)) if row.erased_at is None]


def test_what_is_on_its_way_is_said_and_cleaned_by_erasing_again(
    app: TestApp,
) -> None:
    """A push that is being sent is counted; erasing again removes its traces."""
    app.record_action("form.submitted", email="ana@shop.example")
    with app.runtime.database.write() as transaction:
        transaction.execute(update(pushes).values(state="sending", fence=1))

    first = erase_contact(app.runtime, "ana@shop.example")
    with app.runtime.database.write() as transaction:
        # What its worker writes when the answer comes.
        transaction.execute(
            insert(attempts),
            {
                "connection_id": 1,
                "started_at": START,
                "exchanges": [{"url": "x", "request": '{"email":"ana@shop.example"}'}],
                "error": "no outcome for ana@shop.example",
            },
        )
        transaction.execute(
            insert(table(RemoteContactRow)),
            {
                "connection_id": 1,
                "remote_id": "4711",
                "contact_id": first.contact_id,
                "email": "ana@shop.example",
                "values": {"name": "Anastasia"},
                "segments": {},
                "seen_at": START,
            },
        )
        transaction.execute(update(pushes).values(state="delivered"))
    assert (first.sending, first.compacted) == (1, None)
    again = erase_contact(app.runtime, "ana@shop.example")

    why = "nothing can be asked of Acme Mail: delete 4711 there by hand"
    left = There("acme", 0, "", ("4711",), why)
    assert again == Erased(0, 0, 1, 0, services=(left,))
    assert "ana" not in everything(app).replace("analyz", "")
    assert erase_contact(app.runtime, "ana@shop.example") == Erased(0, 0, 0, 0)
    with pytest.raises(InputError, match="nothing is known of the address"):
        erase_contact(app.runtime, "nobody@shop.example")
