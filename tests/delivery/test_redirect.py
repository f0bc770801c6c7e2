"""Rows that wait for one remote segment are sent to another, many at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Engine, event, select

from onward.connections.rename import redirect
from onward.delivery.listing import show_delivery
from onward.delivery.queue import Wish, enqueue, joined_rows
from onward.delivery.settling import add_outcomes
from onward.models import OutcomeRow, table
from onward.testing.app import START

if TYPE_CHECKING:
    from tests.delivery.conftest import Connect, Tools

outcomes = table(OutcomeRow)


def test_rows_that_join_others_bring_what_they_met(
    connect: Connect, tools: type[Tools], database_url: str
) -> None:
    """Causes and outcomes go to the row that was there; nobody else has one more."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana", "bea", "cy")
    app.deliver()
    state = tools.state(app)
    who = [row["contact_id"] for row in app.deliveries()]
    database = app.runtime.database

    def wish(contact_id: int, to: str, key: str) -> Wish:
        return Wish(state.id, contact_id, to, "manual", key=key)

    old = [wish(contact_id, "?Old", "old") for contact_id in who]
    new = [wish(contact_id, "2", "new") for contact_id in who[1:]]
    was = list(database.run(lambda t: enqueue(t, old, START)).values())
    database.run(lambda t: enqueue(t, new, START))
    database.run(lambda t: add_outcomes(t, was, None, "retry", "lost", "", START))

    moved = database.run(lambda t: redirect(t, state, "?Old", "2", START))

    assert moved == 3
    assert [(row["segment"], row["contact_id"]) for row in app.queued] == [
        ("2", contact_id) for contact_id in who
    ]
    with database.read() as transaction:
        rows = joined_rows(transaction, was)
        shown = [show_delivery(transaction, row) for row in rows]
        named = set(transaction.execute(select(outcomes.c.push_id)).scalars())
    assert len(rows) == 3
    assert {one.outcomes[0]["code"] for one in shown} == {"lost"}
    asked = [sorted(cause["key"] for cause in one.causes) for one in shown]
    assert asked[0] == ["old"]
    assert asked[1:] == [sorted(["new", "old", str(row)]) for row in was[1:]]
    assert named <= {row["id"] for row in app.deliveries()}


def test_many_rows_join_in_a_few_statements(
    connect: Connect, tools: type[Tools]
) -> None:
    """How many statements it takes does not depend on how many rows there are."""
    app = connect()
    tools.fire(app, "ana")
    app.deliver()  # from here on its segment is known
    counts: list[int] = []
    for size in (2, 300):
        names = [f"p{size}-{number}" for number in range(size)]
        tools.fire(app, *names)
        who = [row["contact_id"] for row in app.queued]
        state = tools.state(app)
        more = [Wish(state.id, one, f"?{size}", "manual") for one in who]
        app.runtime.database.run(partial(enqueue, wishes=more, now=START))
        said: list[str] = []

        def hear(*given: object, said: list[str] = said) -> None:
            said.append(str(given[2]))

        event.listen(Engine, "before_cursor_execute", hear)
        go = partial(redirect, state=state, queued=f"?{size}", real="1", now=START)
        app.runtime.database.run(go)
        event.remove(Engine, "before_cursor_execute", hear)
        counts.append(len(said))
        app.deliver()

    assert counts[0] == counts[1]
