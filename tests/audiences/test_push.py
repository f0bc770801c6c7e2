"""Everybody in an audience is pushed once, as a back-fill that can be resumed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, event, select, update

from onward import InputError
from onward.audiences.push import cancel_push, push_members
from onward.database import Database
from onward.delivery.lease import take
from onward.delivery.listing import Wanted, list_deliveries
from onward.delivery.queue import BACKFILL
from onward.models import Audience as AudienceRow
from onward.models import Cause, Connection, Contact, Job, Push, RemoteSegmentRow, table
from onward.testing.app import START, TestApp

from .conftest import TOML, People, conditions

if TYPE_CHECKING:
    from tests.conftest import AtOnce, MakeApp

AUDIENCES = """
[[audiences]]
key = "rich"
if = [["points", ">=", 10]]
"""
CROWD = 1_100
RICH = CROWD - CROWD // 10

contacts = table(Contact)
jobs = table(Job)


def fill(database: Database, count: int) -> None:
    """Write contacts as another system left them; each tenth has no points."""
    rows: list[dict[str, object]] = [
        {
            "email": f"p{number}@shop.example",
            "points": 10 if number % 10 else 0,
            "custom": {},
            "created_at": START,
            "updated_at": START,
        }
        for number in range(count)
    ]
    with database.write() as transaction:
        transaction.execute(contacts.insert(), rows)


def queued(database: Database) -> Counter[int]:
    """How often each contact was asked for by an audience."""
    pushes, causes = table(Push), table(Cause)
    with database.read() as transaction:
        found = transaction.execute(
            select(pushes.c.contact_id)
            .join(causes, causes.c.push_id == pushes.c.id)
            .where(causes.c.kind == "audience")
        )
        return Counter(found.scalars())


@pytest.fixture
def people(make_app: MakeApp, database_url: str) -> People:
    """An app with an audience of whoever has ten points."""
    return People(make_app(TOML + AUDIENCES, database_url=database_url))


@pytest.fixture
def crowd(people: People) -> TestApp:
    """The app with more contacts than one batch takes."""
    fill(people.runtime.database, CROWD)
    return people.app


def test_members_are_pushed_behind_live_events(people: People) -> None:
    """Each with the audience as its cause; others are left alone."""
    ana = people.add("ana@shop.example", points=10)
    people.add("ben@shop.example", points=9)

    done = people.app.push_audience("rich", to="acme")

    assert (done.members, done.total, done.count) == (1, 1, 1)
    [row] = people.app.queued
    assert (row["contact_id"], row["priority"], row["causes"]) == (
        ana,
        BACKFILL,
        [("audience", "rich")],
    )
    with people.runtime.database.read() as transaction:
        for wanted in (Wanted(cause="audience"), Wanted(rule="rich")):
            found = list(list_deliveries(transaction, wanted))
            assert [one["id"] for one in found] == [row["id"]]


def test_who_cannot_be_pushed_is_counted_by_reason(people: People) -> None:
    """No address, opted out everywhere or there: said before and after, not queued."""
    people.add("ana@shop.example")
    people.add()
    for number in range(2):
        people.add(f"out{number}@shop.example")
        people.suppress(f"out{number}@shop.example", "do_not_contact", "address")
    everybody = conditions()

    would = people.app.push_audience(everybody, to="acme", dry_run=True)
    assert people.app.queued == []
    done = people.app.push_audience(everybody, to="acme")

    assert (would.members, would.count) == (done.members, done.count) == (4, 1)
    assert would.refused.counts == done.refused.counts
    assert done.refused.counts == {"suppressed": 2, "no_email": 1}
    why = "contact 3 must not be sent: do not contact, seen 2026-03-04"
    assert done.refused.reasons["suppressed"] == why
    assert [row["email"] for row in people.app.queued] == ["ana@shop.example"]


def test_conditions_need_not_be_saved(people: People) -> None:
    """Plain data will do: those the service differs of, once more."""
    ana = people.add("ana@shop.example")
    people.known(ana, differs=1)
    people.known(people.add("ben@shop.example"))
    drift = [["acme.differs", "is", True]]

    done = people.app.push_audience(drift, to="acme", force=True)

    assert (done.key, done.count) == ("", 1)
    [row] = people.app.queued
    assert (row["contact_id"], row["force"], row["causes"]) == (
        ana,
        True,
        [("audience", "")],
    )


def test_batches_are_told_and_announced(crowd: TestApp) -> None:
    """Progress counts members; a second push joins what waits."""
    told: list[int] = []
    done = crowd.push_audience("rich", to="acme", on_progress=told.append)
    again = crowd.push_audience("rich", to="acme")

    assert (done.members, done.total, done.count) == (RICH, RICH, RICH)
    assert (sum(told), len(told)) == (RICH, 2)
    assert again.count == RICH
    assert len(crowd.queued) == RICH


def test_an_interrupted_push_goes_on_where_it_stopped(crowd: TestApp) -> None:
    """Stopped or broken off, the same call does the rest; nobody is asked for twice."""

    def fail(_members: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crowd.push_audience("rich", to="acme", on_progress=fail)
    first = len(queued(crowd.runtime.database))
    stopped = crowd.push_audience("rich", to="acme", stopping=lambda: True)
    with crowd.runtime.database.write() as transaction:
        transaction.execute(
            update(contacts).where(contacts.c.id > 1000).values(points=0)
        )
    resumed = crowd.push_audience("rich", to="acme")

    assert 0 < first < RICH
    assert (stopped.stopped, stopped.count) == (True, 0)
    assert resumed.members == first + resumed.count == 900
    assert resumed.total == RICH
    assert set(queued(crowd.runtime.database).values()) == {1}


def test_another_push_of_the_same_audience_is_refused_until_it_is_cancelled(
    crowd: TestApp, make_app: MakeApp, database_url: str
) -> None:
    """Changed conditions or another --force would be half of each."""

    def cancelled(_members: int) -> None:
        assert cancel_push(crowd.runtime, "rich", to="acme") is True

    def fail(_members: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crowd.push_audience("rich", to="acme", on_progress=fail)
    other = make_app(TOML + AUDIENCES.replace("10", "5"), database_url=database_url)
    refused = r"was interrupted after 500 of 990 members, and its conditions or --force"
    for app, force in ((other, False), (crowd, True)):
        with pytest.raises(InputError, match=refused):
            app.push_audience("rich", to="acme", force=force)

    assert cancel_push(other.runtime, "rich", to="acme") is True
    assert cancel_push(other.runtime, "rich", to="acme") is False
    done = other.push_audience("rich", to="acme", on_progress=cancelled)
    assert (done.cancelled, done.members, done.count) == (True, 500, 500)
    assert other.push_audience("rich", to="acme").count == RICH


def test_two_at_once_are_refused_and_a_cancel_frees_it(crowd: TestApp) -> None:
    """Another process that does the same is named; the lease of a dead one ends."""
    lease = crowd.runtime.config.lease
    assert take(crowd.runtime.database, "audience:rich:acme:", lease, crowd.clock)

    with pytest.raises(
        InputError, match="another process pushes audience rich to acme"
    ):
        crowd.push_audience("rich", to="acme")
    assert crowd.push_audience("rich", to="shop.eu-1").count == RICH
    assert cancel_push(crowd.runtime, "rich", to="acme") is True
    assert crowd.push_audience("rich", to="acme").count == RICH


def test_who_left_the_audience_meanwhile_is_not_pushed(
    crowd: TestApp, database_url: str
) -> None:
    """Somebody who is found and changes before their batch is written is left out."""
    other = Database(database_url)
    engine = crowd.runtime.database.engine
    looked = Counter[str]()

    def change(_a: object, _b: object, statement: str, *_: object) -> None:
        looked["at"] += "contact.points" in statement and "LIMIT" not in statement
        if looked["at"] == 3 and not looked["changed"]:  # two to count them
            looked["changed"] += 1
            with other.write() as transaction:
                transaction.execute(update(contacts).values(points=0))

    event.listen(engine, "after_cursor_execute", change)
    done = crowd.push_audience("rich", to="acme")
    event.remove(engine, "after_cursor_execute", change)
    other.close()

    assert looked["changed"] == 1
    assert (done.total, done.count) == (RICH, 0)
    assert crowd.queued == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"enabled": False}, 'would skip them all: the connection "acme" is switched'),
        ({"push_contacts": False}, "would skip them all: pushes are switched off"),
    ],
)
def test_a_place_nobody_would_get_to_is_refused(
    people: People, change: dict[str, bool], why: str
) -> None:
    """Before anything is queued, and in a dry run too."""
    rows = table(Connection)
    people.add("ana@shop.example", points=10)
    with people.runtime.database.write() as transaction:
        mine = update(rows).where(rows.c.name == "acme")
        transaction.execute(mine.values(**change))

    for dry_run in (True, False):
        with pytest.raises(InputError, match=why):
            people.app.push_audience("rich", to="acme", dry_run=dry_run)
    with people.runtime.database.write() as transaction:
        transaction.execute(mine.values(enabled=True, push_contacts=True))
    assert people.app.push_audience("rich", to="acme").count == 1


def test_a_segment_that_is_not_there_is_refused(people: People) -> None:
    """Of an account that was read; one that is held is said as well."""
    rows, segments = table(Connection), table(RemoteSegmentRow)
    people.add("ana@shop.example", points=10)
    with people.runtime.database.write() as transaction:
        transaction.execute(
            update(rows).where(rows.c.name == "acme").values(verified_at=START)
        )

    def push(segment: str | None) -> int:
        return people.app.push_audience("rich", to="acme", segment=segment).count

    with pytest.raises(
        InputError, match=r'no remote segment "Nwes"; did you mean "News"'
    ):
        push("Nwes")
    with pytest.raises(InputError, match="acme: no remote segment is chosen; name one"):
        push(None)
    assert push("News") == 1
    with people.runtime.database.write() as transaction:
        transaction.execute(update(segments).values(paused_why="it was deleted"))
    with pytest.raises(InputError, match="that remote segment is held: it was deleted"):
        push("News")


def test_what_is_not_there_is_said(people: People) -> None:
    """An audience, a connection, a condition; also to a cancel."""
    app = people.app
    stored = {"conditions": [["connections", "has", "gone"]], "created_at": START}
    people.write(AudienceRow, key="old", name="Old", **stored)

    with pytest.raises(InputError, match='no audience "ritch"; did you mean "rich"'):
        app.push_audience("ritch", to="acme")
    with pytest.raises(InputError, match='there is no connection "acmee"'):
        app.push_audience("rich", to="acmee")
    with pytest.raises(InputError, match='audience old: there is no connection "gone"'):
        app.push_audience("old", to="acme")
    with pytest.raises(InputError, match='"action" is of an event'):
        app.push_audience([["action", "is", "x"]], to="acme")
    with pytest.raises(InputError, match='no audience "ritch"'):
        cancel_push(app.runtime, "ritch", to="acme")


def test_a_push_of_an_audience_that_is_gone_can_be_cancelled(people: People) -> None:
    """What was interrupted is forgotten, though nobody knows its conditions."""
    stored = {"conditions": [], "created_at": START}
    people.write(AudienceRow, key="old", name="Old", **stored)
    people.add("ana@shop.example")

    def fail(_members: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        people.app.push_audience("old", to="acme", on_progress=fail)
    with people.runtime.database.write() as transaction:
        transaction.execute(delete(table(AudienceRow)))

    assert cancel_push(people.runtime, "old", to="acme") is True
    with people.runtime.database.read() as transaction:
        assert transaction.execute(select(jobs.c.state)).scalars().all() == [
            "cancelled"
        ]


def test_no_address_stands_in_its_job(people: People) -> None:
    """Conditions may name a person; the job, which metrics show, does not."""
    people.add("ana@shop.example")
    push_members(people.runtime, [["email", "is", "ana@shop.example"]], to="acme")

    with people.runtime.database.read() as transaction:
        [key] = transaction.execute(select(jobs.c.key)).scalars()
    assert "shop.example" not in key


@pytest.mark.parametrize("place", ["during_backfill", "after_audience_batch"])
def test_killed_in_a_real_process_it_goes_on(
    database_url: str, database: Database, tmp_path: Path, at_once: AtOnce, place: str
) -> None:
    """Killed inside a batch and after one; the next process does the rest, once."""
    text = f'[onward]\ndatabase_url = "{database_url}"\nlease = "1s"\n{TOML}{AUDIENCES}'
    (tmp_path / "onward.toml").write_text(text.replace("+psycopg", ""))
    fill(database, CROWD)
    push = """
from datetime import datetime, timedelta, UTC
app.runtime.clock = lambda: datetime.now(UTC) + timedelta(seconds={later})
result = app.push_audience("rich", to="acme").document
"""
    arm = f"import os\nos.environ['ONWARD_FAILPOINT'] = '{place}'\n"

    [killed] = at_once([arm + push.format(later=0)])
    before = len(queued(database))
    [done] = at_once([push.format(later=60)])

    assert killed == {"ended": -9}
    assert before == (0 if place == "during_backfill" else 500)
    assert (done["pushed"], done["members"]) == (RICH - before, RICH)
    assert queued(database) == Counter(list(queued(database)))
    assert len(queued(database)) == RICH
