"""Two contacts turn out to be one person: nothing is lost, nothing fires twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

import onward.testing
from onward import (
    Account,
    Api,
    Integration,
    Item,
    Outcome,
    RemoteField,
    RemoteSegment,
)
from onward.contacts.suppress import add_suppression, find_suppressions, record_consent
from onward.merge import merge_contacts
from onward.models import (
    Claim,
    Consent,
    Contact,
    Event,
    Identity,
    Ledger,
    Push,
    RemoteContactRow,
    table,
)
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import Blocked, MakeApp

contacts = table(Contact)
identities = table(Identity)
ledger = table(Ledger)
events = table(Event)
claims = table(Claim)
pushes = table(Push)
consents = table(Consent)
remote_contacts = table(RemoteContactRow)


class Acme(Integration):
    """A service that takes everything."""

    key, title = "acme", "Acme Mail"
    hosts = ("api.acme.example",)
    default_map: ClassVar = {"email": "email", "name": "first_name"}

    def verify(self, api: Api) -> Account:
        """Know the account."""
        return Account("acme/1", "acme/1", "Acme")

    def fields(self, api: Api, segment: RemoteSegment | None) -> list[RemoteField]:
        """Have two fields."""
        return [RemoteField("email", required=True), RemoteField("name")]

    def push(
        self, api: Api, batch: Any, segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Take everything."""
        items: list[Item] = list(batch)
        for item in items:
            yield item.delivered(f"r-{item.email}")


CONFIG = """
[connections.acme]
integration = "acme"

[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["acme"]
points = 10

[[point_triggers]]
key = "warm"
name = "Warm"
points = 20
push_to = ["acme"]

[[point_triggers]]
key = "hot"
name = "Hot"
points = 100
push_to = ["acme"]
"""


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> TestApp:
    """An app on each kind of database, with a rule and two triggers."""
    return make_app(CONFIG, integrations=[Acme], database_url=database_url)


def rows(app: TestApp, statement: Any) -> list[Any]:
    """Return what a query finds."""
    with app.runtime.database.read() as transaction:
        return list(transaction.execute(statement).all())


def contact(app: TestApp, contact_id: int) -> Any:
    """Return a contact's row."""
    [row] = rows(app, select(contacts).where(contacts.c.id == contact_id))
    return row


def merge(app: TestApp, survivor: int, loser: int) -> None:
    """Merge two contacts."""
    app.runtime.database.run(
        lambda transaction: merge_contacts(transaction, survivor, loser, app.clock())
    )


def test_the_visitor_s_past_becomes_the_person_s(app: TestApp) -> None:
    """Points, events, tags, segments and blank fields go over; the rest stays."""
    ana = app.upsert_contact(
        {
            "email": "ana@shop.example",
            "first_name": "Ana",
            "tags": ["a", "both"],
            "points": 5,
        }
    ).contact_id
    visitor = app.upsert_contact(
        {
            "identities": {"visitor": "v1"},
            "first_name": "?",
            "city": "Utrecht",
            "tags": ["b", "both"],
            "segments": ["Shop"],
            "points": 7,
        }
    ).contact_id
    app.record_action("page.visited", identities={"visitor": "v1"})

    merge(app, ana, visitor)

    kept, gone = contact(app, ana), contact(app, visitor)
    assert (kept.email, kept.first_name, kept.city, kept.points) == (
        "ana@shop.example",
        "Ana",
        "Utrecht",
        12,
    )
    assert (gone.email, gone.first_name, gone.city, gone.points, gone.merged_into) == (
        None,
        None,
        None,
        0,
        ana,
    )
    assert {row.contact_id for row in rows(app, select(events))} == {ana}
    assert {row.contact_id for row in rows(app, select(identities))} == {ana}
    [shown] = [row for row in app.contacts() if row["id"] == ana]
    assert (shown["tags"], shown["segments"]) == (["a", "b", "both"], ["Shop"])
    assert rows(app, select(func.sum(ledger.c.delta)))[0][0] == 12


def test_what_fired_for_either_does_not_fire_again(app: TestApp) -> None:
    """Claims are united before triggers are evaluated; what is new fires once."""
    ana = app.add_points(30, email="ana@shop.example")
    visitor = app.add_points(90, identities={"visitor": "v1"})

    result = app.record_action(
        "page.visited", email="ana@shop.example", identities={"visitor": "v1"}
    )

    assert (ana.fired, visitor.fired) == (("warm",), ("warm",))
    assert result.fired == ("hot",)
    assert sorted(row.key for row in rows(app, select(claims))) == [
        "trigger:hot",
        "trigger:warm",
    ]
    assert contact(app, ana.contact_id).points == 120


def test_a_visitor_s_push_goes_to_the_person(app: TestApp) -> None:
    """An open row is queued for the survivor with its causes; the old one ends."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    fired = app.record_action(
        "form.submitted", identities={"visitor": "v1"}, data={"form": "signup"}
    )
    app.deliver()
    assert [row["due_at"] for row in app.queued] == [None]

    app.record_action(
        "page.visited", email="ana@shop.example", identities={"visitor": "v1"}
    )

    old, new = app.deliveries()
    assert (old["state"], old["code"], old["reason"]) == (
        "cancelled",
        "merged",
        f"the contact was merged into {ana}",
    )
    assert (new["contact_id"], new["state"]) == (ana, "waiting")
    assert new["causes"] == [("merge", str(old["id"])), ("rule", "forms")]
    app.deliver()
    assert [row["state"] for row in app.deliveries()] == ["cancelled", "delivered"]
    assert fired.contact_id == old["contact_id"]


def test_a_row_being_sent_ends_by_itself_and_goes_once_more(app: TestApp) -> None:
    """A sending row is left to its worker; the survivor gets a row of its own."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    loser = app.record_action("form.submitted", email="old@shop.example").contact_id
    with app.runtime.database.write() as transaction:
        transaction.execute(update(pushes).values(state="sending", fence=0))

    merge(app, ana, loser)

    assert [(row["contact_id"], row["state"]) for row in app.deliveries()] == [
        (loser, "sending"),
        (ana, "waiting"),
    ]
    app.deliver()
    assert [(row["state"], row["code"]) for row in app.deliveries()] == [
        ("cancelled", "merged"),
        ("delivered", "delivered"),
    ]


def test_rows_of_both_become_one(app: TestApp) -> None:
    """A survivor that has an open row keeps it; the loser's causes join it."""
    app.record_action("form.submitted", email="ana@shop.example")
    app.record_action("form.submitted", identities={"visitor": "v1"})

    app.record_action(
        "page.visited", email="ana@shop.example", identities={"visitor": "v1"}
    )

    [row] = app.queued
    assert [kind for kind, _ in row["causes"]] == ["rule", "merge", "rule", "trigger"]


def remote(app: TestApp, remote_id: str, of: int, email: str, *, alias: bool) -> None:
    """Remember a contact of the service."""
    with app.runtime.database.write() as transaction:
        transaction.execute(
            insert(remote_contacts),
            {
                "connection_id": 1,
                "remote_id": remote_id,
                "contact_id": of,
                "email": email,
                "status": "",
                "values": {},
                "segments": {},
                "map_version": "",
                "unsure": False,
                "alias": alias,
                "seen_at": START,
            },
        )


def links(app: TestApp) -> dict[str, tuple[int, bool]]:
    """Return remote id → (contact, whether it is an alias)."""
    found = rows(app, select(remote_contacts))
    return {row.remote_id: (row.contact_id, row.alias) for row in found}


def test_the_remote_contact_with_the_surviving_address_stays_linked(
    app: TestApp,
) -> None:
    """Of two remote contacts one stays linked, the other is kept as an alias."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    old = app.upsert_contact({"email": "old@shop.example"}).contact_id
    remote(app, "1", ana, "ana@shop.example", alias=False)
    remote(app, "2", old, "old@shop.example", alias=False)
    remote(app, "3", old, "older@shop.example", alias=True)

    merge(app, ana, old)

    assert links(app) == {"1": (ana, False), "2": (ana, True), "3": (ana, True)}


def test_a_link_under_another_address_yields_to_the_right_one(app: TestApp) -> None:
    """The loser's remote contact is linked when it has the surviving address."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    old = app.upsert_contact({"email": "old@shop.example"}).contact_id
    remote(app, "1", ana, "ana@before.example", alias=False)
    remote(app, "2", old, "ana@shop.example", alias=False)

    merge(app, ana, old)

    assert links(app) == {"1": (ana, True), "2": (ana, False)}


@pytest.mark.postgres
@pytest.mark.parametrize("is_known", [False, True])
def test_an_outcome_waits_for_a_merge_that_is_under_way(
    postgres_url: str, make_app: MakeApp, blocked: Blocked, *, is_known: bool
) -> None:
    """What left for a contact that is being merged belongs to the survivor."""
    sent, may_answer = threading.Event(), threading.Event()

    class Slow(Acme):
        """Answers when it is told to."""

        def push(
            self, api: Api, batch: Any, segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Take everything later, and nothing more."""
            if may_answer.is_set():
                yield from (item.skipped("enough") for item in batch)
                return
            sent.set()
            may_answer.wait()
            yield from super().push(api, batch, segment)

    app = make_app(CONFIG, integrations=[Slow], database_url=postgres_url)
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    old = app.upsert_contact({"email": "old@shop.example"}).contact_id
    if is_known:
        remote(app, "r-old@shop.example", old, "old@shop.example", alias=False)
    app.push(to="acme", email="old@shop.example")
    worker = threading.Thread(target=app.deliver)
    worker.start()
    sent.wait()

    def ends() -> None:
        may_answer.set()
        worker.join()

    with app.runtime.database.write() as transaction:
        merge_contacts(transaction, ana, old, app.clock())
        thread = blocked(app.runtime.database, ends)
    thread.join()

    app.deliver()
    assert links(app) == {"r-old@shop.example": (ana, False)}
    assert sorted(row["state"] for row in app.deliveries()) == ["delivered", "skipped"]


@pytest.mark.postgres
def test_outcomes_do_not_wait_for_a_host_that_touched_the_contact(
    postgres_url: str, make_app: MakeApp
) -> None:
    """A transaction that another application keeps open holds up no delivery."""
    app = make_app(CONFIG, integrations=[Acme], database_url=postgres_url)
    app.upsert_contact({"email": "ana@shop.example"})
    app.push(to="acme", email="ana@shop.example")

    with Session(app.runtime.database.engine) as session:
        app.add_points(1, email="ana@shop.example", session=session)
        worker = threading.Thread(target=app.deliver)
        worker.start()
        worker.join(20)
        states = [row["state"] for row in app.deliveries()]
        session.commit()
    worker.join()

    assert states == ["delivered"]


def test_a_remote_contact_of_the_loser_alone_is_linked(app: TestApp) -> None:
    """Where only the loser is in the service, it is now the survivor there."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    old = app.upsert_contact({"email": "old@shop.example"}).contact_id
    remote(app, "2", old, "old@shop.example", alias=False)

    merge(app, ana, old)

    assert links(app) == {"2": (ana, False)}


def active(app: TestApp, contact_id: int) -> list[tuple[str, str]]:
    """Return (scope, code) of the suppressions in force."""
    with app.runtime.database.read() as transaction:
        found = find_suppressions(transaction, {contact_id: []}).get(contact_id, [])
    return sorted((one.scope, one.code) for one in found if one.lifted_at is None)


def test_the_stricter_suppression_wins(app: TestApp) -> None:
    """What forbids a push to either forbids it to the survivor, lifted or not."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    old = app.upsert_contact({"email": "old@shop.example"}).contact_id

    def stop(transaction: Any, of: int, scope: str, code: str) -> None:
        add_suppression(
            transaction,
            contact_id=of,
            email="",
            scope=scope,
            code=code,
            reason="said so",
            source="test",
            now=START,
            identity="acme/1",
            segment="37",
        )

    with app.runtime.database.write() as transaction:
        stop(transaction, ana, "segment", "unsubscribed")
        record_consent(
            transaction, contact_id=ana, email="", how="form", who="me", now=START
        )
        stop(transaction, old, "segment", "unsubscribed")
        stop(transaction, old, "connection", "deleted")
    assert active(app, ana) == []

    merge(app, ana, old)

    assert active(app, ana) == [("connection", "deleted"), ("segment", "unsubscribed")]
    assert {row.contact_id for row in rows(app, select(consents))} == {ana}


def test_an_opt_out_that_arrives_under_the_old_number_holds(app: TestApp) -> None:
    """A service that reports on a merged contact speaks of its survivor."""
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    old = app.upsert_contact({"identities": {"visitor": "v1"}}).contact_id
    merge(app, ana, old)

    with app.runtime.database.write() as transaction:
        add_suppression(
            transaction,
            contact_id=old,
            email="",
            scope="address",
            code="unsubscribed",
            reason="",
            source="test",
            now=START,
        )

    assert active(app, ana) == [("address", "unsubscribed")]


EMAIL = st.sampled_from(["", "a@shop.example", "b@shop.example", "c@shop.example"])
OTHERS = st.dictionaries(
    st.sampled_from(["user", "visitor"]), st.sampled_from(["1", "2", "3"])
)
STEP = st.tuples(
    EMAIL,
    OTHERS,
    st.sampled_from(["form.submitted", "page.visited"]),
    st.sampled_from([0, -5, 15, 100]),
    st.booleans(),
).filter(lambda step: bool(step[0] or step[1]))


@settings(max_examples=settings().max_examples // 3, deadline=None)
@given(st.lists(STEP, max_size=12))
def test_no_sequence_of_namings_loses_anything(steps: list[Any]) -> None:
    """Points add up, claims are unique, open rows belong to the living."""
    app = onward.testing.app(CONFIG, integrations=[Acme])
    given_points = 0
    fired: list[tuple[int, str]] = []
    for email, others, action, points, deliver in steps:
        result = app.record_action(action, email=email, identities=others)
        given_points += 10 if action == "form.submitted" else 0
        fired += [(result.contact_id, key) for key in result.fired]
        if points:
            more = app.add_points(points, email=email, identities=others)
            given_points += points
            fired += [(more.contact_id, key) for key in more.fired]
        if deliver:
            app.deliver()

        people = {row.id: row for row in rows(app, select(contacts))}
        living = {of for of, row in people.items() if row.merged_into is None}
        assert {row.contact_id for row in rows(app, select(identities))} <= living
        assert {row["contact_id"] for row in app.queued} <= living
        # One step, no chain: a pointer leads to who lives.
        assert {row.merged_into for row in people.values()} - {None} <= living
        totals = dict.fromkeys(people, 0)
        for row in rows(app, select(ledger)):
            totals[row.contact_id] += row.delta
        assert totals == {of: row.points for of, row in people.items()}
        assert sum(totals.values()) == given_points
        for of in living:
            reached = {
                f"trigger:{key}"
                for key, at in (("warm", 20), ("hot", 100))
                if people[of].points >= at
            }
            taken = {r.key for r in rows(app, select(claims)) if r.contact_id == of}
            assert reached <= taken
    app.deliver()
    assert {row["due_at"] for row in app.queued} <= {None}
    assert not [
        row
        for row in app.queued
        if rows(app, select(contacts).where(contacts.c.id == row["contact_id"]))[
            0
        ].email
    ]
    app.close()
