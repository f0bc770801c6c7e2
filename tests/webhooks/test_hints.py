"""Whom a report is about waits to be read again, once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, insert, select, update

from onward import PluginError, RemoteKey
from onward.models import Connection, Hint, SyncPlan, Webhook, table
from onward.webhooks.hints import MOST_WAITING, Pointed, store_hints, tidy

from .conftest import TOML, World

if TYPE_CHECKING:
    from tests.conftest import AtOnce, Blocked

hints = table(Hint)
plans = table(SyncPlan)


def point(world: World, **people: list[str]) -> Pointed:
    """Store hints of people and their lists, by the address there is."""
    [row] = world.webhooks()
    now = world.app.clock.now
    return world.runtime.database.run(
        lambda transaction: store_hints(transaction, row["digest"], people, now)
    )


def waiting(world: World) -> dict[str, tuple[list[str], Any]]:
    """Remote id → segments, due."""
    return {one["remote_id"]: (one["segments"], one["due_at"]) for one in world.hints()}


def test_a_repeat_changes_nothing_but_the_segments(stored: World) -> None:
    """Each waits once, since the first report, for all segments that were named."""
    stored.register()
    first = stored.app.clock.now
    point(stored, a=["1"], b=[])
    stored.app.clock.tick(60)

    point(stored, a=["2"], b=[], c=["1"])
    point(stored, a=[])

    later = stored.app.clock.now
    assert waiting(stored) == {
        "a": (["1", "2"], first),
        "b": ([], first),
        "c": (["1"], later),
    }


def test_whoever_is_read_just_now_is_read_once_more(stored: World) -> None:
    """What a read brings may be older than the report, so it does not end the hint."""
    stored.register()
    point(stored, a=["1"])
    reading_until = stored.app.clock.now + timedelta(minutes=5)
    taken = {"due_at": reading_until, "tries": 1}
    with stored.runtime.database.write() as transaction:
        transaction.execute(update(hints).values(taken))

    stored.app.clock.tick(1)
    point(stored, a=[])
    with stored.runtime.database.write() as transaction:
        # As whoever read them does, where nobody pointed at them meanwhile.
        transaction.execute(delete(hints).where(hints.c.due_at == reading_until))

    assert waiting(stored) == {"a": (["1"], stored.app.clock.now)}


def fill(world: World, count: int) -> None:
    """Let so many wait."""
    now = world.app.clock.now
    row = {"connection_id": 1, "segments": [], "tries": 0}
    rows = [
        {**row, "remote_id": f"r{n}", "due_at": now, "created_at": now}
        for n in range(count)
    ]
    with world.runtime.database.write() as transaction:
        transaction.execute(insert(hints), rows)


def test_ten_thousand_wait_at_most(stored: World) -> None:
    """One more and none is stored: a pull of everybody is due now, as the first."""
    stored.app.clock.tick(60)
    stored.register()
    fill(stored, MOST_WAITING - 1)

    last = point(stored, a=[])
    again = point(stored, a=["1"], r7=[])
    more = point(stored, a=[], b=[])

    assert (last, again, more) == (Pointed.STORED, Pointed.STORED, Pointed.EVERYBODY)
    found = waiting(stored)
    assert len(found) == MOST_WAITING
    assert "b" not in found
    [plan] = stored.rows(SyncPlan)
    assert (plan["due_at"], plan["why"]) == (stored.app.clock.now, "hints")
    assert plan["anchor_at"] == stored.rows(Connection)[0]["created_at"]


@pytest.mark.parametrize(
    ("due", "becomes"),
    [
        (timedelta(hours=3), (timedelta(0), "hints")),
        (None, (timedelta(0), "hints")),
        (timedelta(hours=-1), (timedelta(0), "schedule")),
    ],
)
def test_a_flood_asks_for_a_pull_where_none_is_due(
    stored: World, due: timedelta | None, becomes: tuple[timedelta, str]
) -> None:
    """One that is due already is due now: it may be running. All else stays."""
    stored.register()
    now = stored.app.clock.now
    kept = SyncPlan(
        connection_id=1,
        due_at=None if due is None else now + due,
        why="schedule",
        schedule="daily",
        anchor_at=now - timedelta(days=9),
        full=True,
        tries=2,
        offered=True,
    ).model_dump()
    with stored.runtime.database.write() as transaction:
        transaction.execute(insert(plans), kept)
    fill(stored, MOST_WAITING)

    assert point(stored, a=[]) is Pointed.EVERYBODY
    assert point(stored, a=[]) is Pointed.EVERYBODY

    [plan] = stored.rows(SyncPlan)
    at, why = becomes
    assert plan == {**kept, "due_at": now + at, "why": why}


def test_a_report_about_nobody(stored: World) -> None:
    """It was heard, and that is all."""
    stored.register()

    assert point(stored) is Pointed.STORED
    assert waiting(stored) == {}
    assert stored.webhooks()[0]["heard_at"] == stored.app.clock.now


def test_an_address_that_was_taken_away(stored: World) -> None:
    """Between its look and its end a report stores nothing."""
    stored.register()
    [row] = stored.webhooks()
    with stored.runtime.database.write() as transaction:
        transaction.execute(update(table(Webhook)).values(state="leaving"))

    assert point(stored, a=[]) is Pointed.UNKNOWN
    with stored.runtime.database.write() as transaction:
        transaction.execute(update(table(Webhook)).values(state=row["state"]))
    assert point(stored, a=[]) is Pointed.STORED


def test_reports_of_processes_at_once(
    make_world: Callable[..., World], tmp_path: Any, database_url: str, at_once: AtOnce
) -> None:
    """In any order of ids, nothing is lost and nobody waits for the other for ever."""
    world = make_world(database_url=database_url)
    world.register()
    (tmp_path / "onward.toml").write_text(
        f'[onward]\ndatabase_url = "{database_url}"\n{TOML}', "utf-8"
    )
    digest = world.webhooks()[0]["digest"]
    script = f"""
from onward.webhooks.hints import store_hints
for turn in range(20):
    ids = [f"{{n}}" for n in range(turn, turn + 8)]
    people = {{one: [str(number)] for one in (ids if number % 2 else ids[::-1])}}
    app.runtime.database.run(
        lambda t: store_hints(t, {digest!r}, people, app.runtime.clock())
    )
"""

    at_once([script] * 4)

    found = waiting(world)
    assert sorted(found, key=int) == [str(n) for n in range(27)]
    assert {tuple(lists) for lists, _ in found.values()} == {("0", "1", "2", "3")}


@pytest.mark.postgres
def test_a_hint_that_is_ended_meanwhile_is_one_again(
    make_world: Callable[..., World], postgres_url: str, blocked: Blocked
) -> None:
    """Whoever ends it at this moment does not take the new report with it."""
    world = make_world(database_url=postgres_url)
    world.register()
    point(world, a=["1"])
    with world.runtime.database.write() as transaction:
        transaction.execute(select(hints).with_for_update())
        transaction.execute(delete(hints))
        thread: Thread = blocked(world.runtime.database, lambda: point(world, a=["2"]))
    thread.join()

    assert waiting(world) == {"a": (["2"], world.app.clock.now)}


def test_ids_are_tidied() -> None:
    """What can be neither id nor list is left out; a flood is not read to its end."""
    keys = [
        RemoteKey("1", ("a", "", "b\x00", "x" * 201)),
        RemoteKey("1", ("c",)),
        RemoteKey("\ud800"),
        RemoteKey(""),
    ]

    def flood() -> Any:
        number = 0
        while True:
            number += 1
            yield RemoteKey(str(number))

    assert tidy(keys) == {"1": {"a", "c"}}
    assert len(tidy(flood())) == MOST_WAITING + 1
    with pytest.raises(PluginError, match="texts"):
        tidy([RemoteKey(7)])  # type: ignore[arg-type]
