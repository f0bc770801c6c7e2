# ruff: noqa: D205, D209, D415 - a docstring here is one sentence, however long
"""What exactly happens when: each docstring is a line of `docs/semantics.md`.

The headings are the comments that begin with `# --`. After a change run
`python docs/make_semantics.py`.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

import onward.testing
from onward import (
    Account,
    Api,
    ConfigError,
    ConnectionSettings,
    InputError,
    Integration,
    Item,
    Outcome,
    RemoteField,
    RemoteSegment,
    Temporary,
    setting,
)
from onward.audiences.keeping import remove_audience, save_audience
from onward.audiences.listing import open_book
from onward.audiences.members import export_members
from onward.audiences.offered import offer
from onward.connections.state import named
from onward.contacts.suppress import add_suppression
from onward.delivery.queue import BACKFILL, LIVE
from onward.events.apply import apply_trigger
from onward.models import Event, Ledger, RemoteContactRow, table
from onward.testing.app import TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

# Whole lives of events and contacts, most of them.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
ANA = "ana@shop.example"

ledger = table(Ledger)
events = table(Event)


class Acme(Integration):
    """A service that has two lists and takes what it is sent, unless it is down."""

    key, title = "acme", "Acme Mail"
    hosts = ("api.acme.example",)
    default_map: ClassVar = {"email": "email", "name": "first_name"}
    repeatable = True

    class Settings(ConnectionSettings):
        """Which account."""

        account: str = setting("Account", default="1")

    def verify(self, api: Api) -> Account:
        """Know the account."""
        name = f"acme/{self.settings.account}"
        return Account(name, name, "Acme")

    def segments(self, api: Api) -> list[RemoteSegment]:
        """Have two."""
        return [RemoteSegment("1", "News"), RemoteSegment("2", "VIP")]

    def fields(self, api: Api, segment: RemoteSegment | None) -> list[RemoteField]:
        """Have two."""
        return [RemoteField("email", required=True), RemoteField("name")]

    def push(
        self, api: Api, batch: Any, segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Take everything, or nothing while the account called "down" is down."""
        items: list[Item] = list(batch)
        if self.settings.account == "down":
            raise Temporary("Acme is down")
        for item in items:
            if item.email.startswith("refused"):
                yield item.rejected("refused", "Acme refuses this contact")
            elif item.email.startswith("leaves") and not item.consent:
                id_ = f"r-{item.email}"
                yield item.opted_out("segment", "unsubscribed", "left News", id_)
            else:
                yield item.delivered(f"r-{item.email}")


ACME = """
[connections.acme]
integration = "acme"
segment = "News"
"""
OTHER = """
[connections.other]
integration = "acme"
segment = "News"
[connections.other.settings]
account = "down"
"""
OFF = """
[connections.off]
integration = "acme"
segment = "News"
push_contacts = false
[connections.off.settings]
account = "3"
"""


def rule(key: str, when: str, **does: object) -> str:
    """A rule as it stands in onward.toml."""
    return _table("rules", key=key, when=when, **does)


def trigger(key: str, points: int, **does: object) -> str:
    """A point trigger as it stands in onward.toml."""
    return _table("point_triggers", key=key, points=points, **does)


def _table(kind: str, **values: object) -> str:
    def toml(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dict):
            inner = ", ".join(f"{name} = {toml(one)}" for name, one in value.items())
            return f"{{ {inner} }}"
        if isinstance(value, list):
            return f"[{', '.join(toml(one) for one in value)}]"
        return f'"{value}"' if isinstance(value, str) else str(value)

    lines = [f"{name.rstrip('_')} = {toml(one)}" for name, one in values.items()]
    return "\n".join([f"[[{kind}]]", *lines, ""])


class Make:
    """Makes apps in memory, or several on one database."""

    def __init__(self, make_app: MakeApp, url: str) -> None:
        self._make_app = make_app
        self._url = url

    def __call__(self, *parts: str) -> TestApp:
        """Return an app of its own."""
        return self._make_app("\n".join((ACME, *parts)), integrations=[Acme])

    def edited(self, *parts: str) -> TestApp:
        """Return an app on the one database that all edited ones share."""
        text = "\n".join((ACME, *parts))
        return self._make_app(text, integrations=[Acme], database_url=self._url)


@pytest.fixture
def make(make_app: MakeApp, sqlite_url: str) -> Make:
    """A factory of apps with a connection to Acme."""
    return Make(make_app, sqlite_url)


def entries(app: TestApp, contact_id: int) -> list[tuple[int, int, str]]:
    """A contact's points ledger: (difference, total, reason)."""
    with app.runtime.database.read() as transaction:
        found = transaction.execute(
            select(ledger.c.delta, ledger.c.total, ledger.c.reason)
            .where(ledger.c.contact_id == contact_id)
            .order_by(ledger.c.id)
        )
        return [tuple(row) for row in found]


def history(app: TestApp) -> list[str]:
    """The names of all events."""
    with app.runtime.database.read() as transaction:
        found = transaction.execute(select(events.c.action).order_by(events.c.id))
        return list(found.scalars())


def contact(app: TestApp, email: str = ANA) -> dict[str, Any]:
    """One contact as the listing shows it."""
    [found] = [one for one in app.contacts() if one["email"] == email]
    return found


def causes(app: TestApp) -> list[list[tuple[str, str]]]:
    """Why each push row exists."""
    return [row["causes"] for row in app.deliveries()]


def states(app: TestApp) -> list[tuple[str, str]]:
    """What became of each push row: (state, code)."""
    return [(row["state"], row["code"]) for row in app.deliveries()]


# -- Actions and keys


def test_new_contact(make: Make) -> None:
    """An action of somebody unknown creates the contact, and `contact.created` comes
    first, as an action of its own."""
    app = make()

    done = app.record_action("form.submitted", email="  Ana@Shop.Example ")

    assert done.created is True
    assert history(app) == ["contact.created", "form.submitted"]
    assert contact(app)["email"] == ANA


def test_fields_that_change(make: Make) -> None:
    """An action that changes fields of a known contact is preceded by
    `contact.updated`, which names them; one that changes nothing is not."""
    app = make()
    app.upsert_contact({"email": ANA, "city": "Köln", "country": "DE"})

    done = app.record_action("x", email=ANA, contact={"city": "Bonn", "country": "DE"})
    app.record_action("x", email=ANA, contact={"city": "Bonn"})

    assert done.changed == ("city",)
    assert history(app) == ["contact.created", "contact.updated", "x", "x"]


def test_points_tags_segments_are_no_update(make: Make) -> None:
    """`contact.updated` is about contact fields: points, tags and segments are none."""
    app = make(rule("all", "contact.updated", points=1))
    app.upsert_contact({"email": ANA})

    app.upsert_contact({"email": ANA, "points": 5, "tags": ["a"], "segments": ["b"]})

    assert history(app) == ["contact.created"]
    assert contact(app)["points"] == 5


def test_same_key(make: Make) -> None:
    """The same key again changes nothing and returns the first result, marked as
    repeated."""
    app = make(
        rule("forms", "form.submitted", points=10, push_to=["acme"]),
        rule("hello", "contact.created", push_to=["acme"]),
        trigger("hot", 10, push_to=[{"to": "acme", "segment": "VIP"}]),
    )
    given: dict[str, Any] = {"email": ANA, "data": {"form": "a"}, "key": "k1"}

    first = app.record_action("form.submitted", **given)
    second = app.record_action("form.submitted", **given)

    assert (first.repeated, second.repeated, second.differs) == (False, True, False)
    same = ("event_id", "contact_id", "created", "changed", "points", "fired")
    for name in (*same, "pushes", "looked"):
        assert getattr(second, name) == getattr(first, name)
    assert len(first.pushes) == 2
    assert contact(app)["points"] == 10
    assert history(app) == ["contact.created", "form.submitted"]


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"form": "b"}},
        {"email": "ben@shop.example"},
        {"contact": {"city": "Bonn"}},
        {"action": "form.opened"},
    ],
)
def test_same_key_with_another_body(make: Make, other: dict[str, Any]) -> None:
    """Another body under the same key changes nothing and says that it differs."""
    app = make()
    body = {
        "action": "form.submitted",
        "email": ANA,
        "data": {"form": "a"},
        "key": "k1",
    }
    app.record_actions([body])

    [done] = app.record_actions([{**body, **other}])

    assert (done.repeated, done.differs) == (True, True)
    assert history(app) == ["contact.created", "form.submitted"]
    assert not contact(app)["city"]


def test_same_key_of_another_source(make: Make) -> None:
    """A key is unique per source: another source may use the same one."""
    app = make()

    app.record_action("x", email=ANA, key="k1", source="shop")
    done = app.record_action("x", email=ANA, key="k1", source="crm")

    assert done.repeated is False
    assert history(app) == ["contact.created", "x", "x"]


def test_same_key_twice_in_a_batch(make: Make) -> None:
    """The same key twice in one batch is a repeat like any other."""
    app = make(rule("x", "x", points=1))
    one = {"action": "x", "email": ANA, "key": "k1"}

    first, second = app.record_actions([one, {**one, "data": {"n": 2}}])

    assert (first.repeated, second.repeated, second.differs) == (False, True, True)
    assert second.event_id == first.event_id
    assert contact(app)["points"] == 1


def test_key_of_something_refused(make: Make) -> None:
    """An action that was refused has not used its key."""
    app = make()
    with pytest.raises(InputError):
        app.record_action("x", email="no address", key="k1")

    assert app.record_action("x", email=ANA, key="k1").repeated is False


def test_batch_is_whole(make: Make) -> None:
    """A batch is one transaction: one entry that is refused refuses all."""
    app = make()

    with pytest.raises(InputError):
        app.record_actions(
            [{"action": "x", "email": ANA}, {"action": "x", "email": "no address"}]
        )

    assert history(app) == []
    assert app.record_action("x", email=ANA).created is True


def test_events_of_one_contact_in_a_batch(make: Make) -> None:
    """The points of one contact in a batch are summed, and triggers evaluated once;
    the last event is named as their cause."""
    app = make(rule("x", "x", points=10), trigger("hot", 20, push_to=["acme"]))

    first, second = app.record_actions([{"action": "x", "email": ANA}] * 2)

    assert (first.points, second.points) == (20, 20)
    assert (first.fired, second.fired) == ((), ("hot",))
    assert causes(app) == [[("trigger", "hot")]]


def test_own_actions_are_reserved(make: Make) -> None:
    """`contact.created`, `contact.updated` and `points.added` are recorded by Onward
    itself and refused from callers."""
    app = make()

    for name in ("contact.created", "contact.updated", "points.added"):
        with pytest.raises(InputError, match="recorded by Onward itself"):
            app.record_action(name, email=ANA)

    assert app.record_action("contact.created.ours", email=ANA).created is True


# -- Rules


def test_rule_runs(make: Make) -> None:
    """A rule whose action matches and whose filter holds pushes, adds points and adds
    to segments, all in the event's own transaction."""
    app = make(
        rule("forms", "form.submitted", push_to=["acme"], points=5, add_to=["Leads"])
    )

    done = app.record_action("form.submitted", email=ANA)

    assert done.looked == (("forms", True, ""),)
    assert (done.points, causes(app)) == (5, [[("rule", "forms")]])
    assert contact(app)["segments"] == ["Leads"]


def test_rule_by_pattern(make: Make) -> None:
    """`when` may be a pattern: `form.*` matches every form."""
    app = make(rule("forms", "form.*", points=1))

    assert app.record_action("form.submitted", email=ANA).points == 1
    assert app.record_action("form.opened", email=ANA).points == 2
    assert app.record_action("page.visited", email=ANA).points is None


def test_rule_whose_filter_does_not_hold(make: Make) -> None:
    """A rule whose filter does not hold does nothing and says which condition was
    false."""
    app = make(
        rule("nl", "order", if_=[["country", "is", "NL"], ["data.n", ">", 5]], points=1)
    )
    app.upsert_contact({"email": ANA, "country": "NL"})

    done = app.record_action("order", email=ANA, data={"n": 5})

    assert done.points is None
    assert done.looked == (("nl", False, "data.n is 5, wanted more than 5"),)


def test_filter_sees_the_contact_as_the_event_leaves_it(make: Make) -> None:
    """Filters see the contact with the fields this event brought, and with the points
    it had before."""
    app = make(
        rule("nl", "order", if_=[["country", "is", "NL"]], points=50),
        rule("rich", "order", if_=[["points", ">", 49]], add_to=["Rich"]),
    )

    first = app.record_action("order", email=ANA, contact={"country": "NL"})
    second = app.record_action("order", email=ANA)

    assert [ran for _, ran, _ in first.looked] == [True, False]
    assert [ran for _, ran, _ in second.looked] == [True, True]


def test_filter_by_time(make: Make) -> None:
    """A filter about time is measured at the moment the event is recorded."""
    app = make(rule("new", "x", if_=[["created_at", "within", "7d"]], points=1))
    app.upsert_contact({"email": ANA})

    app.clock.tick(timedelta(days=6))
    assert app.record_action("x", email=ANA).points == 1
    app.clock.tick(timedelta(days=2))
    assert app.record_action("x", email=ANA).points is None


def test_rule_repeats_every_time(make: Make) -> None:
    """A rule runs every time unless told otherwise."""
    app = make(rule("x", "x", points=1))

    totals = [app.record_action("x", email=ANA).points for _ in range(3)]

    assert totals == [1, 2, 3]


def test_rule_once_per_contact(make: Make) -> None:
    """`repeat = "once"` runs once per contact, and says so afterwards."""
    app = make(rule("x", "x", points=1, repeat="once"))

    app.record_action("x", email=ANA)
    again = app.record_action("x", email=ANA)
    other = app.record_action("x", email="ben@shop.example")

    assert again.looked == (
        ("x", False, "it ran for this contact before, and runs once"),
    )
    assert (contact(app)["points"], other.points) == (1, 1)


def test_rule_once_in_a_batch(make: Make) -> None:
    """`repeat = "once"` holds within one batch too."""
    app = make(rule("x", "x", points=1, repeat="once"))

    done = app.record_actions([{"action": "x", "email": ANA}] * 3)

    assert [one.looked[0][1] for one in done] == [True, False, False]
    assert contact(app)["points"] == 1


def test_rule_with_a_cool_down(make: Make) -> None:
    """A cool-down lets a rule run again when that long has passed since it last ran;
    what it refused does not prolong it."""
    app = make(rule("x", "x", points=1, repeat="1h"))

    ran = []
    for minutes in (0, 30, 29, 1, 59, 1):
        app.clock.tick(timedelta(minutes=minutes))
        ran.append(app.record_action("x", email=ANA).looked[0][1])

    assert ran == [True, False, False, True, False, True]


def test_rule_that_did_not_hold_keeps_its_turn(make: Make) -> None:
    """A rule whose filter did not hold has not used up its one time."""
    app = make(rule("x", "x", points=1, repeat="once", if_=[["data.go", "is", "yes"]]))

    app.record_action("x", email=ANA)

    assert app.record_action("x", email=ANA, data={"go": "yes"}).points == 1


def test_rule_that_is_switched_off(make: Make) -> None:
    """A rule with `enabled = false` is not looked at."""
    app = make(rule("x", "x", points=1, enabled=False))

    assert app.record_action("x", email=ANA).looked == ()


def test_edited_rule_does_not_run_again(make: Make) -> None:
    """Editing a rule that runs once does not make it run again; a new key does."""
    make.edited(rule("x", "x", points=1, repeat="once")).record_action("x", email=ANA)

    edited = make.edited(rule("x", "x", points=5, repeat="once"))
    assert edited.record_action("x", email=ANA).points is None
    renamed = make.edited(rule("x2", "x", points=5, repeat="once"))
    assert renamed.record_action("x", email=ANA).points == 6


def test_rules_of_new_and_changed_contacts(make: Make) -> None:
    """Rules may wait for `contact.created` and `contact.updated`; the latter can ask
    which fields changed."""
    app = make(
        rule("hello", "contact.created", points=1),
        rule(
            "moved", "contact.updated", if_=[["data.changed", "is", "city"]], points=9
        ),
    )

    assert app.upsert_contact({"email": ANA}).points == 1
    assert app.upsert_contact({"email": ANA, "company": "Shop"}).points is None
    assert app.upsert_contact({"email": ANA, "city": "Bonn"}).points == 10


def test_points_lead_to_no_rule(make: Make) -> None:
    """Points lead to triggers, never to rules: no pattern matches `points.added`."""
    app = make(rule("all", "*", points=1))
    app.upsert_contact({"email": ANA})

    done = app.add_points(5, email=ANA)

    assert (done.points, done.looked) == (6, ())


def test_unknown_connection(make: Make) -> None:
    """A rule or trigger that names an unknown connection is an error at start, not
    when something happens."""
    for part in (rule("x", "x", push_to=["acmee"]), trigger("t", 1, push_to=["acmee"])):
        with pytest.raises(ConfigError, match='no connection "acmee"; did you mean'):
            make(part)

    assert make().record_action("x", email=ANA).created is True


# -- Points


def test_points_are_added(make: Make) -> None:
    """Points change only through the ledger, which says by how much, to which total and
    why."""
    app = make(rule("x", "x", points=3))

    app.add_points(10, email=ANA, reason="fair")
    app.add_points(-4, email=ANA)
    done = app.record_action("x", email=ANA)

    assert entries(app, done.contact_id) == [
        (10, 10, "fair"),
        (-4, 6, ""),
        (3, 9, "rule x"),
    ]


def test_points_of_one_event_are_summed(make: Make) -> None:
    """All points of one event, from all its rules, are one entry, and triggers look at
    the result once."""
    app = make(
        rule("a", "x", points=60),
        rule("b", "x", points=60),
        rule("c", "x", points=-50),
        trigger("hot", 100, push_to=["acme"]),
    )

    done = app.record_action("x", email=ANA)

    assert entries(app, done.contact_id) == [(70, 70, "rule a, rule b, rule c")]
    assert done.fired == ()


def test_points_may_be_negative(make: Make) -> None:
    """Points may fall below zero and come back."""
    app = make()

    assert app.add_points(-5, email=ANA).points == -5
    assert app.add_points(10, email=ANA).points == 5


def test_points_that_are_set(make: Make) -> None:
    """Points that are set enter the ledger as the difference; rules of the same event
    add to it."""
    app = make(rule("x", "x", points=1))
    app.add_points(10, email=ANA)

    done = app.record_action("x", email=ANA, contact={"points": 7})
    app.upsert_contact({"email": ANA, "points": 8})

    assert done.points == 8
    assert entries(app, done.contact_id) == [
        (10, 10, ""),
        (-3, 7, "set"),
        (1, 8, "rule x"),
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-50, 50)), max_size=12))
def test_ledger_adds_up(steps: list[tuple[bool, int]]) -> None:
    """Whatever is awarded, taken and set, the entries of the ledger add up to the
    points."""
    app = onward.testing.app()
    app.upsert_contact({"email": ANA})

    for is_set, points in steps:
        if is_set:
            app.upsert_contact({"email": ANA, "points": points})
        elif points:
            app.add_points(points, email=ANA)

    found = contact(app)
    rows = entries(app, found["id"])
    assert sum(delta for delta, _, _ in rows) == found["points"]
    assert [total for _, total, _ in rows] == [
        sum(delta for delta, _, _ in rows[: place + 1]) for place in range(len(rows))
    ]
    app.close()


# -- Point triggers


def test_trigger_fires_at_or_above(make: Make) -> None:
    """A trigger fires when the total is at or above its points, once per contact."""
    app = make(trigger("hot", 10, push_to=["acme"]))

    fired = [app.add_points(points, email=ANA).fired for points in (9, 1, 1, 50)]
    other = app.add_points(11, email="ben@shop.example").fired

    assert fired == [(), ("hot",), (), ()]
    assert other == ("hot",)
    assert causes(app) == [[("trigger", "hot")]] * 2


def test_new_contact_with_points(make: Make) -> None:
    """A contact that is new and has the points already fires at once."""
    app = make(trigger("hot", 10, push_to=["acme"]))

    assert app.upsert_contact({"email": ANA, "points": 10}).fired == ("hot",)


def test_re_arm_within_one_event(make: Make) -> None:
    """Points that fall and rise within one event have not fallen: only the sum
    counts."""
    app = make(
        rule("down", "x", points=-10),
        rule("up", "x", points=10),
        trigger("again", 10, re_arm=True),
    )
    app.add_points(10, email=ANA)

    assert app.record_action("x", email=ANA).fired == ()


def test_re_arm_in_the_same_transaction(make: Make) -> None:
    """A re-armed trigger's claim goes in the transaction in which points fall: if that
    is undone, it has not been re-armed."""
    app = make(trigger("again", 10, re_arm=True))
    app.add_points(10, email=ANA)

    with pytest.raises(InputError):
        app.record_actions(
            [
                {"action": "x", "email": ANA, "contact": {"points": 0}},
                {"action": "no good", "email": ANA},
            ]
        )

    assert app.add_points(1, email=ANA).fired == ()


def test_trigger_adds_to_segments(make: Make) -> None:
    """A trigger can add to segments as well as push."""
    app = make(trigger("hot", 10, add_to=["Hot"]))

    app.add_points(10, email=ANA)

    assert contact(app)["segments"] == ["Hot"]


def test_apply_to_existing(make: Make) -> None:
    """A new or lowered trigger reaches contacts that have the points already at their
    next change of points, or at once by `onward triggers apply`."""
    before = make.edited()
    for name in ("ana", "ben", "cem"):
        before.add_points(50, email=f"{name}@shop.example")

    app = make.edited(trigger("hot", 50, push_to=["acme"]))
    looked = app.record_action("x", email=ANA).fired
    changed = app.add_points(1, email=ANA).fired
    applied = apply_trigger(app.runtime, "hot").fired

    assert (looked, changed, applied) == ((), ("hot",), 2)


# -- Merging


def test_visitor_becomes_a_person(make: Make) -> None:
    """A visitor who gives an e-mail address becomes that contact, and what waited for
    an address goes out."""
    app = make(rule("x", "x", push_to=["acme"]))
    visitor = app.record_action("x", identities={"visitor": "v1"})
    app.deliver()
    waiting = app.queued

    named = app.record_action("seen", email=ANA, identities={"visitor": "v1"})
    app.deliver()

    assert [row["due_at"] for row in waiting] == [None]
    assert named.contact_id == visitor.contact_id
    assert states(app) == [("delivered", "delivered")]


def test_merged_points_fire(make: Make) -> None:
    """When a visitor turns out to be a known contact, points are summed and triggers
    look at the sum once."""
    app = make(trigger("warm", 50), trigger("hot", 100), trigger("top", 200))
    app.add_points(60, identities={"visitor": "v1"})
    app.add_points(60, email=ANA)

    done = app.record_action("seen", email=ANA, identities={"visitor": "v1"})

    assert done.fired == ("hot",)
    assert contact(app)["points"] == 120


def test_what_ran_for_either_ran_for_both(make: Make) -> None:
    """A rule that ran once for either of two merged contacts ran for the one they
    become."""
    app = make(rule("x", "x", points=1, repeat="once"))
    app.record_action("x", identities={"visitor": "v1"})
    app.upsert_contact({"email": ANA})

    app.record_action("seen", email=ANA, identities={"visitor": "v1"})

    assert app.record_action("x", email=ANA).points is None
    assert contact(app)["points"] == 1


def test_open_rows_of_a_merged_contact(make: Make) -> None:
    """What was queued for the contact that is merged away is queued for the one that
    stays; the old row ends cancelled."""
    app = make(rule("x", "x", push_to=["acme"]))
    app.record_action("x", identities={"visitor": "v1"})
    ana = app.upsert_contact({"email": ANA})

    app.record_action("seen", email=ANA, identities={"visitor": "v1"})

    assert states(app)[0] == ("cancelled", "merged")
    assert [row["contact_id"] for row in app.queued] == [ana.contact_id]


# -- Importing


LINES = "email,points,city\nana@shop.example,100,Köln\nben@shop.example,5,Bonn\n"


def test_import_is_quiet(make: Make, tmp_path: Path) -> None:
    """An import writes contacts and records no action: no rule runs, no trigger fires,
    nothing is pushed."""
    app = make(
        rule("all", "*", push_to=["acme"]), trigger("hot", 100, push_to=["acme"])
    )
    (tmp_path / "people.csv").write_text(LINES)

    app.import_contacts(tmp_path / "people.csv")

    assert (history(app), app.queued) == ([], [])
    assert contact(app)["points"] == 100


def test_import_that_fires(make: Make, tmp_path: Path) -> None:
    """With `--fire` each line is an action `contact.imported`, with rules and
    triggers."""
    app = make(
        rule("in", "contact.imported", points=1), trigger("hot", 101, push_to=["acme"])
    )
    (tmp_path / "people.csv").write_text(LINES)

    app.import_contacts(tmp_path / "people.csv", fire=True)

    assert history(app).count("contact.imported") == 2
    assert [contact(app, who)["points"] for who in (ANA, "ben@shop.example")] == [
        101,
        6,
    ]
    assert causes(app) == [[("trigger", "hot")]]


def test_import_sets_points(make: Make, tmp_path: Path) -> None:
    """An import sets points, it does not add them; the ledger gets the difference."""
    app = make()
    done = app.add_points(30, email=ANA)
    (tmp_path / "people.csv").write_text(LINES)

    for _ in range(2):
        app.import_contacts(tmp_path / "people.csv")

    assert entries(app, done.contact_id) == [(30, 30, ""), (70, 100, "set")]


def test_import_that_lowers_points_re_arms(make: Make, tmp_path: Path) -> None:
    """Points that an import lowers re-arm a trigger like any others that fall."""
    app = make(trigger("again", 10, re_arm=True))
    app.add_points(10, email="ben@shop.example")
    (tmp_path / "people.csv").write_text(LINES)

    app.import_contacts(tmp_path / "people.csv")

    assert app.add_points(5, email="ben@shop.example").fired == ("again",)


# -- Suppressions


def test_suppressed_when_it_happens(make: Make) -> None:
    """Opting out stops pushes, not events: points are counted and triggers fire, and
    the push ends as skipped, with the reason."""
    app = make(trigger("hot", 10, push_to=["acme"]))
    app.suppress(ANA, reason="asked on the phone")

    done = app.add_points(10, email=ANA)
    app.deliver()

    assert done.fired == ("hot",)
    assert states(app) == [("skipped", "suppressed")]
    [row] = app.deliveries()
    assert row["reason"] == "asked on the phone, seen 2026-03-04"


def test_suppressed_after_it_was_queued(make: Make) -> None:
    """Somebody who opts out after a push was queued and before it is sent is not
    pushed."""
    app = make()
    app.upsert_contact({"email": ANA})
    app.push(to="acme", email=ANA)

    app.suppress(ANA)
    app.deliver()

    assert states(app) == [("skipped", "suppressed")]


@pytest.mark.parametrize(
    ("scope", "segment", "expected"),
    [
        ("address", "", {"News": "skipped", "VIP": "skipped", "elsewhere": "skipped"}),
        (
            "segment",
            "1",
            {"News": "skipped", "VIP": "delivered", "elsewhere": "delivered"},
        ),
        (
            "connection",
            "",
            {"News": "skipped", "VIP": "skipped", "elsewhere": "delivered"},
        ),
    ],
)
def test_scope(make: Make, scope: str, segment: str, expected: dict[str, str]) -> None:
    """An opt-out reaches as far as its scope: an address everywhere, a remote segment
    only there, a connection all of it and no other."""
    app = make(OTHER.replace("down", "2"))
    done = app.upsert_contact({"email": ANA})
    with app.runtime.database.write() as transaction:
        add_suppression(
            transaction,
            contact_id=done.contact_id,
            email=ANA,
            scope=scope,
            code="unsubscribed",
            reason="unsubscribed",
            source="Acme",
            now=app.clock(),
            identity="acme/1",
            segment=segment,
        )

    for name in ("News", "VIP"):
        app.push(to="acme", email=ANA, segment=name)
    app.push(to="other", email=ANA)
    app.deliver()

    found = [row["state"] for row in app.deliveries()]
    assert dict(zip(expected, found, strict=True)) == expected


def test_only_a_consent_lifts(make: Make) -> None:
    """Only a recorded consent lifts an opt-out; forcing a push does not."""
    app = make()
    app.upsert_contact({"email": ANA})
    app.suppress(ANA)

    app.push(to="acme", email=ANA, force=True)
    app.deliver()
    app.consent(ANA, how="form newsletter", who="ben")
    app.push(to="acme", email=ANA)
    app.deliver()

    assert states(app) == [("skipped", "suppressed"), ("delivered", "delivered")]


def test_consent_answers_once(make: Make) -> None:
    """A consent answers the opt-outs known when it was given, once: who leaves a remote
    segment after it is left alone until the next."""
    app = make()
    app.upsert_contact({"email": "leaves@shop.example"})

    for is_given in (False, True, False):
        if is_given:
            app.consent("leaves@shop.example", how="form newsletter", who="ben")
        app.push(to="acme", email="leaves@shop.example", force=True)
        app.deliver()

    assert states(app) == [
        ("skipped", "unsubscribed"),
        ("delivered", "delivered"),
        ("skipped", "unsubscribed"),
    ]


def test_opt_out_outlives_the_contact(make: Make) -> None:
    """An opt-out belongs to the address too: whoever comes with it later is not
    pushed."""
    app = make()
    app.suppress(ANA)

    app.record_action("x", email=ANA)
    app.push(to="acme", email=ANA)
    app.deliver()

    assert states(app) == [("skipped", "suppressed")]


# -- Audiences


def audience(key: str, *if_: list[object]) -> str:
    """An audience as it stands in onward.toml."""
    return _table("audiences", key=key, if_=list(if_))


def ask(app: TestApp, key: str) -> list[str]:
    """Return the addresses of the members."""
    found = export_members(app.runtime, open_book(app.runtime).question(key))
    return [one["email"] for one in found]


def test_audience_is_who_fulfils_its_conditions_now(make: Make) -> None:
    """An audience is whoever fulfils its conditions now; nobody is put into it, and
    merged and erased contacts are in none."""
    app = make(audience("rich", ["points", ">=", 10]), audience("all"))
    app.add_points(10, email=ANA)
    app.record_action("seen", identities={"visitor": "v"}, contact={"points": 20})

    assert ask(app, "rich") == [ANA, None]
    app.record_action("seen", email=ANA, identities={"visitor": "v"})
    app.add_points(-25, email=ANA)
    assert (ask(app, "rich"), ask(app, "all")) == ([], [ANA])


def test_audience_asks_for_another(make: Make) -> None:
    """A condition may ask for another audience; a circle of them is an error at
    start, with the keys in it."""
    rich = audience("rich", ["points", ">=", 10])
    app = make(rich, audience("poor", ["audience", "is not", "rich"]))
    app.add_points(10, email=ANA)
    app.upsert_contact({"email": "ben@shop.example"})

    assert ask(app, "poor") == ["ben@shop.example"]
    with pytest.raises(ConfigError, match="the audience a, which names b, which names"):
        make(
            audience("a", ["audience", "is", "b"]),
            audience("b", ["audience", "is not", "a"]),
        ).contacts()


def test_rule_asks_for_an_audience(make: Make) -> None:
    """A rule may ask whether the contact is in an audience; fields the event writes
    count, its points come after. One that names an audience or a connection that is not
    there is an error at start."""
    rich = audience("rich", ["points", ">=", 10])
    app = make(rich, rule("r", "bought", if_=[["audience", "is", "rich"]], points=1))

    assert app.record_action("bought", email=ANA).points is None
    bought = app.record_action("bought", email=ANA, contact={"points": 10})
    assert bought.looked == (("r", False, 'audience is blank, wanted "rich"'),)
    assert app.record_action("bought", email=ANA).points == 11
    for condition in (["audience", "is", "ritch"], ["acmee.status", "is", "normal"]):
        with pytest.raises(ConfigError, match="did you mean"):
            make(rich, rule("r", "bought", if_=[condition], points=1)).contacts()


def test_audience_that_went_away_stops_the_rule(make: Make) -> None:
    """When an audience is removed later, a rule that asks for it does not run, whether
    it wants the contact in it or not in it; the event is recorded all the same."""
    first = make.edited()
    save_audience(first.runtime, "staff", "", [["company", "is", "Shop"]])
    not_staff = rule("r", "seen", if_=[["audience", "is not", "staff"]], points=1)
    app = make.edited(not_staff)
    assert app.record_action("seen", email=ANA).points == 1

    remove_audience(first.runtime, "staff")

    done = app.record_action("seen", email=ANA)
    assert done.looked == (("r", False, 'there is no audience "staff"'),)
    assert history(app).count("seen") == 2


def test_audience_of_the_file_wins(make: Make) -> None:
    """Of two audiences with one key the one in onward.toml counts; the stored one is
    hidden, not lost."""
    save_audience(make.edited().runtime, "rich", "", [["points", ">=", 10]])
    app = make.edited(audience("rich", ["points", ">=", 99]))
    app.add_points(10, email=ANA)

    assert ask(app, "rich") == []
    assert ask(make.edited(), "rich") == [ANA]


def test_connections_are_those_that_have_the_contact_now(make: Make) -> None:
    """`connections` names the services that have the contact, opted out there or not:
    not one that deleted them, and not before a push or a pull showed them there."""
    app = make(audience("known", ["connections", "has", "acme"]))
    app.record_action("seen", email=ANA)
    app.push(to="acme", email=ANA)
    assert ask(app, "known") == []
    app.deliver()
    assert ask(app, "known") == [ANA]

    with app.runtime.database.write() as transaction:
        transaction.execute(update(table(RemoteContactRow)).values(status="deleted"))

    assert ask(app, "known") == []


def test_facts_of_a_service_are_blank_for_strangers(make: Make) -> None:
    """What a service knows is blank for whom it does not have: `is` is false, `is not`
    is true."""
    app = make(
        audience("same", ["acme.differs", "is", False]),
        audience("other", ["acme.status", "is not", "normal"]),
    )
    app.record_action("seen", email=ANA)

    assert (ask(app, "same"), ask(app, "other")) == ([], [ANA])


def test_audience_is_pushed_as_a_back_fill(make: Make) -> None:
    """A push of an audience is a back-fill of those who can be pushed: who has no
    address or must not be pushed there is left out, and counted by reason."""
    app = make(audience("all"))
    app.upsert_contact({"email": ANA})
    app.upsert_contact({"email": "out@shop.example"})
    app.upsert_contact({"identities": {"visitor": "v"}})
    app.suppress("out@shop.example")

    would = app.push_audience("all", to="acme", dry_run=True)
    done = app.push_audience("all", to="acme")

    assert (would.count, done.count) == (1, 1)
    assert done.refused.counts == {"suppressed": 1, "no_email": 1}
    assert causes(app) == [[("audience", "all")]]
    assert [row["priority"] for row in app.queued] == [BACKFILL]


def test_interrupted_push_of_an_audience_goes_on(make: Make) -> None:
    """A push of an audience that was interrupted goes on where it stopped; when its
    conditions were changed since, it is refused until it is cancelled."""
    app = make.edited(audience("rich", ["points", ">=", 0]))
    app.upsert_contact({"email": ANA})

    def fail(_members: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app.push_audience("rich", to="acme", on_progress=fail)
    changed = make.edited(audience("rich", ["points", ">=", 1]))
    with pytest.raises(InputError, match="was interrupted after 1 of 1 members"):
        changed.push_audience("rich", to="acme")

    done = app.push_audience("rich", to="acme")
    assert (done.members, done.count) == (1, 0)
    assert changed.push_audience("rich", to="acme").members == 0


def test_new_connection_brings_two_audiences(make: Make) -> None:
    """A connection brings two audiences after its first pull: all it has, and who was
    created there within 7 days and 2 hours by the service's own date."""
    app = make()
    with app.runtime.database.write() as transaction:
        state = named(transaction, "acme")
        offer(transaction, state, app.clock.now, title="Acme Mail")

    assert [(one["key"], one["if"]) for one in app.audiences()] == [
        ("acme-all-contacts", [["connections", "has", "acme"]]),
        (
            "acme-new-this-week",
            [["connections", "has", "acme"], ["acme.created_at", "within", "170h"]],
        ),
    ]


# -- Pushes


def test_one_open_row(make: Make) -> None:
    """There is one open push per contact, connection and remote segment; a further
    cause joins it."""
    app = make(
        rule("a", "x", push_to=["acme"]),
        rule("b", "x", push_to=["acme", {"to": "acme", "segment": "VIP"}]),
    )
    app.verify("acme")

    first = app.record_action("x", email=ANA)
    second = app.record_action("x", email=ANA)

    assert first.pushes == second.pushes
    assert [row["segment"] for row in app.queued] == ["1", "2"]
    assert [len(found) for found in causes(app)] == [4, 2]


def test_cause_does_not_shorten_a_wait(make: Make) -> None:
    """A new cause never shortens the wait of a push that is to be tried again."""
    app = make(OTHER, rule("x", "x", push_to=["other"]))
    app.record_action("x", email=ANA)
    app.deliver()
    [before] = app.queued

    app.record_action("x", email=ANA)

    [after] = app.queued
    assert before["due_at"] > app.clock.now
    assert (after["due_at"], after["tries"]) == (before["due_at"], before["tries"])
    assert len(after["causes"]) == 2


def test_live_cause_raises_a_back_fill(make: Make) -> None:
    """Live pushes go before those of a back-fill; a live cause takes its row along."""
    app = make(rule("x", "x", push_to=["acme"]))
    people = [ANA, "ben@shop.example"]
    for email in people:
        app.upsert_contact({"email": email})
        app.push(to="acme", email=email, priority=BACKFILL)

    app.record_action("x", email=people[1])

    assert [row["priority"] for row in app.queued] == [BACKFILL, LIVE]


def test_contact_as_it_is_when_sent(make: Make) -> None:
    """What is sent is the contact as it is when it is sent, not when it was queued."""
    app = make()
    app.upsert_contact({"email": ANA, "first_name": "Anna"})
    app.push(to="acme", email=ANA)
    app.upsert_contact({"email": ANA, "first_name": "Ana"})

    app.deliver()
    app.push(to="acme", email=ANA)
    app.deliver()

    assert states(app) == [("delivered", "delivered"), ("unchanged", "unchanged")]


def test_visitor_waits(make: Make) -> None:
    """A push of a visitor waits for an e-mail address; it is not failed, and its
    trigger is not burnt."""
    app = make(trigger("hot", 10, push_to=["acme"]))
    app.add_points(10, identities={"visitor": "v1"})

    app.deliver()
    app.clock.tick(timedelta(days=3))
    app.deliver()
    [waiting] = app.queued
    app.upsert_contact({"email": ANA, "identities": {"visitor": "v1"}})
    app.deliver()

    assert (waiting["state"], waiting["tries"]) == ("waiting", 0)
    assert states(app) == [("delivered", "delivered")]


def test_pushes_that_are_switched_off(make: Make) -> None:
    """With `push_contacts = false` nothing leaves: what is queued ends as skipped."""
    app = make(rule("x", "x", push_to=["off"]), OFF)

    app.record_action("x", email=ANA)
    app.deliver()

    assert states(app) == [("skipped", "pushes_off")]


# -- Mautic's traps


def test_p1(make: Make) -> None:
    """P1. Several thresholds jumped at once all fire, lowest first, as in Mautic."""
    app = make(
        trigger("c", 30, push_to=["acme"]),
        trigger("a", 10, push_to=["acme"]),
        trigger("b", 20, push_to=["acme"]),
        trigger("d", 40, push_to=["acme"]),
    )

    done = app.add_points(30, email=ANA)

    assert done.fired == ("a", "b", "c")
    assert causes(app) == [[("trigger", "a"), ("trigger", "b"), ("trigger", "c")]]


def test_p2(make: Make) -> None:
    """P2. Points that fall below and rise again fire a trigger again if it has
    `re_arm = true`, and otherwise not; Mautic never does."""
    app = make(trigger("once", 10), trigger("again", 10, re_arm=True))

    fired = [app.add_points(points, email=ANA).fired for points in (10, -1, 1, -10, 20)]

    assert fired == [("again", "once"), (), ("again",), (), ("again",)]


def test_p3(make: Make) -> None:
    """P3. Points that fall but stay at or above a trigger that has not fired yet fire
    it, as in Mautic: the total counts, not the crossing."""
    before = make.edited()
    before.add_points(100, email=ANA)
    app = make.edited(trigger("hot", 50))

    assert app.add_points(-10, email=ANA).fired == ("hot",)


def test_p4(make: Make) -> None:
    """P4. A threshold below 1, which Mautic accepts and then mostly ignores, is refused
    at start."""
    for points in (0, -5):
        with pytest.raises(ConfigError, match=r"point_triggers.t.points"):
            make(trigger("t", points))

    assert make(trigger("t", 1)).add_points(1, email=ANA).fired == ("t",)


def test_p5(make: Make) -> None:
    """P5. A push that fails does not leave its trigger unfired to be tried at every
    change of points: the row is retried by itself, and says why."""
    app = make(OTHER, trigger("hot", 10, push_to=["other"]))

    app.add_points(10, email=ANA)
    app.deliver()
    again = app.add_points(1, email=ANA)

    assert again.fired == ()
    [row] = app.queued
    assert row["causes"] == [("trigger", "hot")]
    assert row["reason"] == "Acme is down"


def test_p6(make: Make) -> None:
    """P6. Adding to a segment is done when the trigger fires and never repeated: who is
    taken out stays out."""
    app = make(trigger("hot", 10, add_to=["Hot"]))
    app.add_points(10, email=ANA)
    with app.runtime.database.write() as transaction:
        transaction.exec_driver_sql("DELETE FROM contact_segment")

    app.add_points(10, email=ANA)

    assert contact(app)["segments"] == []


def test_p7(make: Make) -> None:
    """P7. A trigger that finds nothing to change has fired all the same and is not
    evaluated again."""
    app = make(trigger("hot", 10, add_to=["Hot"]))
    app.upsert_contact({"email": ANA, "segments": ["Hot"]})

    assert app.add_points(10, email=ANA).fired == ("hot",)
    assert app.add_points(10, email=ANA).fired == ()


def test_p8(make: Make) -> None:
    """P8. When one of several targets fails, only that one is tried again."""
    app = make(OTHER, trigger("hot", 10, push_to=["acme", "other"]))
    app.add_points(10, email=ANA)
    app.deliver()

    app.add_points(10, email=ANA)
    app.clock.tick(timedelta(hours=1))
    app.deliver()

    assert [(row["state"], row["causes"]) for row in app.deliveries()] == [
        ("delivered", [("trigger", "hot")]),
        ("waiting", [("trigger", "hot")]),
    ]


def test_p9(make: Make) -> None:
    """P9. Switching a trigger on does nothing at that moment, as in Mautic; whoever is
    above fires at the next change of points or by `onward triggers apply`."""
    off = make.edited(trigger("hot", 10, enabled=False))
    assert off.add_points(10, email=ANA).fired == ()

    on = make.edited(trigger("hot", 10))

    assert on.record_action("x", email=ANA).fired == ()
    assert on.add_points(1, email=ANA).fired == ("hot",)


def test_p10(make: Make) -> None:
    """P10. A trigger that is switched off fires for nobody; who it fired for is
    remembered when it is switched on again."""
    make.edited(trigger("hot", 10)).add_points(10, email=ANA)
    off = make.edited(trigger("hot", 10, enabled=False))
    assert off.add_points(10, email="ben@shop.example").fired == ()

    on = make.edited(trigger("hot", 10))

    assert on.add_points(1, email=ANA).fired == ()
    assert on.add_points(1, email="ben@shop.example").fired == ("hot",)


def test_p11(make: Make) -> None:
    """P11. A target added to an old trigger does not go out for everybody above it:
    editing never fires a trigger again."""
    make.edited(trigger("hot", 10)).add_points(10, email=ANA)

    app = make.edited(trigger("hot", 10, push_to=["acme"]))

    assert app.add_points(1, email=ANA).fired == ()
    assert app.queued == []


def test_p12(make: Make) -> None:
    """P12. A trigger that is taken away and put back under its key is the same one and
    does not fire again; under a new key it is a new one."""
    make.edited(trigger("hot", 10)).add_points(10, email=ANA)
    make.edited().add_points(1, email=ANA)

    assert make.edited(trigger("hot", 10)).add_points(1, email=ANA).fired == ()
    assert make.edited(trigger("hot-2", 10)).add_points(1, email=ANA).fired == (
        "hot-2",
    )


def test_p13(make: Make) -> None:
    """P13. A trigger that now pushes somewhere else does so for those who reach it from
    now on; to reach the earlier ones as well, give it a new key and apply it."""
    make.edited(trigger("hot", 10)).add_points(10, email=ANA)

    app = make.edited(trigger("hot", 10, push_to=["acme"]))
    app.add_points(1, email=ANA)
    app.add_points(10, email="ben@shop.example")
    assert [row["email"] for row in app.queued] == ["ben@shop.example"]

    renamed = make.edited(trigger("hot-2", 10, push_to=["acme"]))
    assert apply_trigger(renamed.runtime, "hot-2").fired == 2


def test_p14(make: Make) -> None:
    """P14. Two requests that add points to one contact at the same moment both count,
    and the trigger fires once; nobody's request dies of it. (Held to with real
    processes, on SQLite and PostgreSQL, in `test_events_processes.py`.)"""
    app = make.edited(trigger("hot", 10, push_to=["acme"]))
    other = make.edited(trigger("hot", 10, push_to=["acme"]))

    fired = [one.add_points(6, email=ANA).fired for one in (app, other, app)]

    assert fired == [(), ("hot",), ()]
    assert contact(app)["points"] == 18


def test_p15(make: Make) -> None:
    """P15. What a trigger does leads to no further rule or trigger: it gives no points
    and is no action, so nothing runs twice."""
    app = make(
        rule("all", "*", points=1),
        trigger("hot", 10, push_to=["acme"], add_to=["Hot"]),
        trigger("hotter", 11),
    )
    app.upsert_contact({"email": ANA})

    done = app.add_points(9, email=ANA)

    assert (done.points, done.fired) == (10, ("hot",))
    assert history(app) == ["contact.created", "points.added"]
    with pytest.raises(ConfigError, match="points_too"):
        make(trigger("more", 5, points_too=5))


def test_p16(make: Make) -> None:
    """P16. A merge unites what fired before it looks at the sum: what fired for either
    does not fire again."""
    app = make(trigger("warm", 50, push_to=["acme"]))
    app.add_points(60, identities={"visitor": "v1"})
    app.upsert_contact({"email": ANA})

    done = app.record_action("seen", email=ANA, identities={"visitor": "v1"})

    assert (done.fired, contact(app)["points"]) == ((), 60)
    assert app.add_points(1, email=ANA).fired == ()


def test_p17(make: Make, tmp_path: Path) -> None:
    """P17. An import treats new and known contacts alike: without `--fire` it fires for
    nobody, and `onward triggers apply` or the next change of points reaches them."""
    app = make(trigger("hot", 5))
    app.upsert_contact({"email": ANA})
    (tmp_path / "people.csv").write_text(LINES)
    app.import_contacts(tmp_path / "people.csv")

    assert app.add_points(1, email=ANA).fired == ("hot",)
    assert apply_trigger(app.runtime, "hot").fired == 1


def test_p18(make: Make) -> None:
    """P18. The same change repeated in one process counts each time."""
    app = make(trigger("again", 5, re_arm=True))

    done = [app.add_points(points, email=ANA) for points in (5, -5, 5)]

    assert [one.points for one in done] == [5, 0, 5]
    assert [one.fired for one in done] == [("again",), (), ("again",)]


def test_p19(make: Make) -> None:
    """P19. No trigger stands for the contact: every one that was reached has its own
    claim and its own cause, and triggers have no colours to get wrong."""
    app = make(
        trigger("low", 10, push_to=["acme"]), trigger("high", 20, push_to=["acme"])
    )

    app.add_points(20, email=ANA)

    assert causes(app) == [[("trigger", "low"), ("trigger", "high")]]
    with pytest.raises(ConfigError, match="color"):
        make(trigger("red", 5, color="a0acb8"))


def test_p20(make_app: MakeApp) -> None:
    """P20. Nothing is sent in the caller's request: firing writes rows, and a worker
    sends them."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(500)

    app = make_app(
        '[connections.news]\nintegration = "icontact"\n'
        + trigger("hot", 10, push_to=["news"]),
        transport=httpx.MockTransport(answer),
    )

    done = app.add_points(10, email=ANA)

    assert (done.fired, len(app.queued), asked) == (("hot",), 1, [])


def test_p21(make: Make) -> None:
    """P21. Executing a trigger never changes it."""
    app = make(trigger("hot", 10, push_to=["acme"]))
    before = app.config.point_triggers

    app.add_points(10, email=ANA)
    app.deliver()

    assert app.config.point_triggers == before
    assert app.add_points(10, email="ben@shop.example").fired == ("hot",)


# --


def test_the_page_is_up_to_date() -> None:
    """`docs/semantics.md` says what these tests say."""
    made = runpy.run_path(str(ROOT / "docs" / "make_semantics.py"))["page"]()

    assert (ROOT / "docs" / "semantics.md").read_text() == made
