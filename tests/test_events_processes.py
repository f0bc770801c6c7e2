"""Exactly once, with real processes, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from onward.database import Database
from onward.models import Cause, Claim, Contact, Event, Identity, Ledger, Push, table

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from tests.conftest import AtOnce

TRIGGERS = (10, 25, 50, 100)
TOML = """
[onward]
database_url = "{url}"
[connections.news]
integration = "icontact"
[[rules]]
key = "welcome"
when = "form.submitted"
repeat = "once"
push_to = ["news"]
points = 10
[[rules]]
key = "daily"
when = "page.visited"
repeat = "1d"
points = 1
""" + "".join(
    f'[[point_triggers]]\nkey = "at-{points}"\npoints = {points}\npush_to = ["news"]\n'
    for points in TRIGGERS
)

contacts = table(Contact)
ledger = table(Ledger)
claims = table(Claim)
causes = table(Cause)
events = table(Event)
identities = table(Identity)
pushes = table(Push)

NOBODY = 0


@pytest.fixture
def configured(database_url: str, tmp_path: Path) -> None:
    """An onward.toml on a fresh database, for the processes."""
    (tmp_path / "onward.toml").write_text(TOML.format(url=database_url))


def ask(database: Database, *columns: ColumnElement[Any]) -> list[tuple[Any, ...]]:
    """All rows of some columns, in order."""
    with database.read() as transaction:
        found = transaction.execute(select(*columns).order_by(*columns))
        return [tuple(row) for row in found]


@pytest.mark.usefixtures("configured")
def test_points_of_several_processes_add_up(
    database: Database, at_once: AtOnce
) -> None:
    """Four processes award 100 points by ones: all count, each trigger fires once."""
    award = """
for _ in range(25):
    app.add_points(1, email="ana@shop.example", reason="click")
    app.add_points(-1, email="ben@shop.example")
result = [app.add_points(1, email=f"own{number}@shop.example").fired]
"""

    at_once([award] * 4)

    people = dict(ask(database, contacts.c.email, contacts.c.points))
    who = dict(ask(database, contacts.c.email, contacts.c.id))
    ana, ben = who["ana@shop.example"], who["ben@shop.example"]
    assert (people["ana@shop.example"], people["ben@shop.example"]) == (100, -100)
    sums = dict(
        ask(
            database,
            ledger.c.contact_id,
            func.sum(ledger.c.delta).over(partition_by=ledger.c.contact_id),
        )
    )
    assert (sums[ana], sums[ben]) == (100, -100)
    totals = [
        total
        for of, total in ask(database, ledger.c.contact_id, ledger.c.total)
        if of == ana
    ]
    assert totals == list(range(1, 101))
    expected = [(f"trigger:at-{points}", ana) for points in sorted(TRIGGERS, key=str)]
    assert ask(database, claims.c.key, claims.c.contact_id) == expected
    assert Counter(key for _, key in ask(database, causes.c.kind, causes.c.key)) == {
        f"at-{points}": 1 for points in TRIGGERS
    }
    assert len(ask(database, pushes.c.id)) == 1


@pytest.mark.usefixtures("configured")
def test_thresholds_jumped_by_several_processes(
    database: Database, at_once: AtOnce
) -> None:
    """Whoever comes first over a threshold fires it, and nobody else does."""
    jump = """
result = [app.add_points(30, email=f"p{n}@shop.example").fired for n in range(10)]
"""

    fired = at_once([jump] * 4)

    for place in range(10):
        everybody = Counter(key for process in fired for key in process[place])
        assert everybody == {f"at-{points}": 1 for points in TRIGGERS}
    assert len(ask(database, claims.c.key, claims.c.contact_id)) == 10 * len(TRIGGERS)


@pytest.mark.usefixtures("configured")
def test_same_key_takes_effect_once(database: Database, at_once: AtOnce) -> None:
    """Of four processes with the same keys each key takes effect in one of them."""
    fire = """
result = []
for n in range(10):
    done = app.record_action(
        "form.submitted", email=f"p{n}@shop.example", data={"n": n}, key=f"k{n}"
    )
    result.append([done.repeated, done.differs, done.event_id, done.points])
"""

    answers = at_once([fire] * 4)

    for place in range(10):
        told = [process[place] for process in answers]
        assert sorted(repeated for repeated, *_ in told) == [False, True, True, True]
        assert {differs for _, differs, *_ in told} == {False}
        assert len({event_id for _, _, event_id, _ in told}) == 1
        assert {points for *_, points in told} == {10}
    submitted = [key for (key,) in ask(database, events.c.key) if key is not None]
    assert sorted(submitted) == sorted(f"k{n}" for n in range(10))
    assert {points for (points,) in ask(database, contacts.c.points)} == {10}


@pytest.mark.usefixtures("configured")
def test_same_new_person_is_one_contact(database: Database, at_once: AtOnce) -> None:
    """Somebody four processes meet for the first time at once is one contact."""
    meet = """
result = []
for n in range(15):
    done = app.record_action("page.visited", email=f"p{n}@shop.example",
                             identities={"visitor": f"v{n}"})
    result.append([done.contact_id, done.created])
"""

    met = at_once([meet] * 4)

    for place in range(15):
        told = [process[place] for process in met]
        assert len({contact_id for contact_id, _ in told}) == 1
        assert sorted(created for _, created in told) == [False, False, False, True]
    assert len(ask(database, contacts.c.id)) == 15
    assert len(ask(database, identities.c.kind, identities.c.value)) == 30
    created = [n for (n,) in ask(database, events.c.action) if n == "contact.created"]
    assert len(created) == 15


@pytest.mark.usefixtures("configured")
def test_rule_that_runs_once_runs_in_one_process(
    database: Database, at_once: AtOnce
) -> None:
    """Claims of rules hold across processes: once is once, a cool-down is one."""
    fire = """
result = [0, 0]
for n in range(10):
    done = app.record_action("form.submitted", email=f"p{n}@shop.example")
    result[0] += done.looked[-1][1]
    done = app.record_action("page.visited", email=f"p{n}@shop.example")
    result[1] += done.looked[-1][1]
"""

    ran = at_once([fire] * 4)

    assert [sum(process[place] for process in ran) for place in (0, 1)] == [10, 10]
    assert {points for (points,) in ask(database, contacts.c.points)} == {11}


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_batches_in_opposite_orders_all_get_through(
    known: bool, database: Database, at_once: AtOnce
) -> None:
    """Processes whose batches name the same people in opposite orders do not fail."""
    if known:
        at_once(
            [
                'app.record_actions([{"action": "x", "email": f"p{n}@shop.example"}'
                " for n in range(20)])"
            ]
        )
    fire = """
for turn in range(5):
    people = range(20) if number % 2 else range(19, -1, -1)
    app.record_actions([
        {"action": "form.submitted", "email": f"p{n}@shop.example",
         "key": f"{number}-{turn}-{n}", "contact": {"city": f"city {number} {turn}"}}
        for n in people
    ])
    app.add_points(1, email=f"p{turn}@shop.example")
"""

    at_once([fire] * 4)

    points = dict(ask(database, contacts.c.email, contacts.c.points))
    expected = {f"p{n}@shop.example": 10 + (4 if n < 5 else 0) for n in range(20)}
    assert points == expected
    keyed = [key for (key,) in ask(database, events.c.key) if key is not None]
    assert len(set(keyed)) == 4 * 5 * 20


@pytest.mark.usefixtures("configured")
def test_visitors_identified_by_several_processes(
    database: Database, at_once: AtOnce
) -> None:
    """Visitors whom four processes identify at once are merged once, points summed."""
    at_once(
        [
            """
for n in range(8):
    app.add_points(20, identities={"visitor": f"a{n}"})
    app.add_points(20, identities={"visitor": f"b{n}"})
"""
        ]
    )
    identify = """
for n in range(8):
    app.record_action("seen", email=f"p{n}@shop.example",
                      identities={"visitor": f"{'ab'[number % 2]}{n}"})
"""

    at_once([identify] * 4)

    alive = [
        row
        for row in ask(
            database, contacts.c.email, contacts.c.points, contacts.c.merged_into
        )
        if row[2] is None
    ]
    assert [(email, points) for email, points, _ in alive] == [
        (f"p{n}@shop.example", 40) for n in range(8)
    ]
    fired = ask(database, claims.c.contact_id, claims.c.key)
    assert Counter(key for _, key in fired) == {"trigger:at-10": 8, "trigger:at-25": 8}
