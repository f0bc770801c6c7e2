"""What waits can be taken back; what is being sent cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from onward import remote
from onward.connections.state import pause
from onward.delivery.cancel import cancel
from onward.delivery.claiming import claim
from onward.delivery.listing import Wanted
from onward.errors import InputError
from onward.models import OutcomeRow, Push, table
from onward.testing.app import TestApp

if TYPE_CHECKING:
    from tests.conftest import AtOnce, Blocked

    from .conftest import Connect, Service, Tools

pushes = table(Push)
outcomes = table(OutcomeRow)

MORE = """
[[rules]]
key = "visits"
when = "page.visited"
push_to = ["acme"]
"""


@pytest.fixture
def app(connect: Connect, database_url: str, tools: Tools) -> TestApp:
    """An Onward on each database, with a push that waits for each of three people."""
    made = connect(database_url=database_url, more=MORE)
    tools.fire(made, "ana", "ben", "cy")
    return made


def change(app: TestApp, push_id: int, **values: Any) -> None:
    """Change a row as another process would."""
    with app.runtime.database.write() as transaction:
        statement = update(pushes).where(pushes.c.id == push_id)
        transaction.execute(statement.values(**values))


def states(app: TestApp) -> list[tuple[str, str]]:
    """Return (state, code) of every row."""
    return [(row["state"], row["code"]) for row in app.deliveries()]


WAITS = ("waiting", "")
CANCELLED = ("cancelled", "by_hand")


def test_a_waiting_push_is_cancelled_with_who_and_why(
    app: TestApp, service: Service
) -> None:
    """It is not sent, its end is written down; the others go."""
    done = app.cancel([2], reason="wrong form", actor="Joe")
    app.deliver()

    assert (done.count, done.arrived, done.refused.counts) == (1, 0, {})
    row = app.deliveries()[1]
    why = "cancelled by hand by Joe: wrong form"
    assert (row["state"], row["code"], row["reason"]) == (*CANCELLED, why)
    assert (row["due_at"], row["finished_at"]) == (None, app.clock())
    with app.runtime.database.read() as transaction:
        found = select(outcomes).where(outcomes.c.push_id == 2)
        [outcome] = transaction.execute(found)
    assert (outcome.kind, outcome.code, outcome.reason) == (*CANCELLED, why)
    assert sorted(service.people) == ["ana@shop.example", "cy@shop.example"]


def test_a_later_event_queues_it_anew(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """Cancelling takes back what waited, nothing that comes later."""
    app.cancel([1, 2, 3])

    tools.fire(app, "ana")
    app.deliver()

    assert states(app) == [CANCELLED] * 3 + [("delivered", "delivered")]


@pytest.mark.parametrize(
    "values",
    [{"due_at": None, "code": "no_email"}, {"tries": 3}, {"priority": 10}],
    ids=["visitor", "retry", "back-fill"],
)
def test_whatever_it_waits_for(app: TestApp, values: dict[str, Any]) -> None:
    """For an address, for the next try, behind others: all of it can be cancelled."""
    change(app, 1, **values)

    assert app.cancel([1]).count == 1
    assert states(app) == [CANCELLED, WAITS, WAITS]


def test_what_is_held_is_cancelled_by_that_word(app: TestApp) -> None:
    """Rows of a paused connection wait for a person, who may not want them."""
    assert app.cancel(Wanted(state="held")).count == 0
    pause(app.runtime, 1, "manual", "audit")

    assert app.cancel(Wanted(state="held")).count == 3


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        ("sending", "sending", "push 1 is being sent; cancel cannot take it back"),
        ("submitted", "submitted", "push 1 the service works on it already"),
        ("delivered", "ended", "push 1 has ended already: delivered"),
        ("failed", "ended", "push 1 has ended already: failed (gone)"),
    ],
)
def test_what_cannot_be_taken_back_is_said(
    app: TestApp, state: str, code: str, words: str
) -> None:
    """It stays as it is; the others that were named are cancelled."""
    change(app, 1, state=state, code="gone" if state == "failed" else state)

    seen = app.cancel([1, 2], dry_run=True)
    done = app.cancel([1, 2])

    assert (seen.count, seen.refused) == (done.count, done.refused)
    assert (done.count, done.refused.counts) == (1, {code: 1})
    assert words in done.refused.reasons[code]
    assert states(app)[0][0] == state
    assert states(app)[1:] == [CANCELLED, WAITS]


def test_what_may_have_arrived_is_said_and_read_before_the_next_push(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """The contact's snapshot becomes unsure: nothing is believed of it."""
    app.deliver()
    app.upsert_contact({"email": "ana@shop.example", "first_name": "Ana"})
    service.script = [tools.is_kept(service)]
    service.reads = [tools.answers(503)] * 5
    tools.fire(app, "ana")
    app.deliver()
    with app.runtime.database.write() as transaction:
        snapshot = remote.ours(transaction, 1, [1])[1]
        snapshot.unsure = False
        remote.save(transaction, 1, [snapshot], app.clock())

    done = app.cancel([4])

    assert (done.count, done.arrived) == (1, 1)
    assert app.deliveries()[3]["reason"] == (
        "cancelled by hand; it was sent before and may have arrived"
    )
    with app.runtime.database.read() as transaction:
        assert remote.ours(transaction, 1, [1])[1].unsure


def test_a_rule_is_taken_back_where_nothing_else_asked(app: TestApp) -> None:
    """A push that another rule asked for as well is left to that rule."""
    for name in ("ben", "dan"):
        app.record_action("page.visited", email=f"{name}@shop.example")

    done = app.cancel(Wanted(rule="forms"))

    assert (done.count, done.refused.counts) == (2, {"other_causes": 1})
    assert "something else asked for it as well" in str(done.refused.reasons)
    assert states(app) == [CANCELLED, WAITS, CANCELLED, WAITS]
    assert app.cancel([2]).count == 1


def test_a_replay_is_taken_back_by_its_cause(app: TestApp) -> None:
    """What a replay queued, and nothing that waits anyway."""
    app.cancel([1, 2])
    app.replay([1, 2])

    assert app.cancel(Wanted(cause="replay")).count == 2
    assert states(app) == [CANCELLED, CANCELLED, WAITS, CANCELLED, CANCELLED]


def test_a_dry_run_changes_nothing(app: TestApp) -> None:
    """It counts, batch by batch."""
    told: list[int] = []

    seen = cancel(
        app.runtime,
        Wanted(state="waiting"),
        dry_run=True,
        batch=2,
        on_progress=told.append,
    )

    assert (seen.count, seen.dry_run, told) == (3, True, [2, 1])
    assert states(app) == [WAITS] * 3


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (Wanted(), "say which pushes to cancel: give their numbers, or a filter"),
        ([], "say which pushes to cancel"),
        ([1, 99], "there is no delivery 99"),
        (Wanted(state="failed"), "failed pushes have ended and cannot be cancelled"),
        (Wanted(state="waitng"), 'there is no state "waitng"; did you mean'),
    ],
)
def test_what_cannot_be_cancelled_at_all(app: TestApp, what: Any, words: str) -> None:
    """Nothing named, nothing there: one sentence, and all goes on waiting."""
    for dry_run in (True, False):
        with pytest.raises(InputError) as refused:
            app.cancel(what, dry_run=dry_run)
        assert words in refused.value.message

    assert states(app) == [WAITS] * 3
    assert app.cancel(Wanted(state="waiting")).count == 3


@pytest.mark.postgres
def test_a_claim_at_the_same_moment_wins(
    connect: Connect, postgres_url: str, tools: Tools, blocked: Blocked
) -> None:
    """What a worker claims while cancel waits for the row is sent, and said."""
    app = connect(database_url=postgres_url)
    tools.fire(app, "ana", "ben")
    done: list[Any] = []
    change(app, 1, segment="1")
    change(app, 2, segment="2")

    with app.runtime.database.write() as transaction:
        assert len(claim(transaction, 1, "1", 7, app.clock(), 9, 10)) == 1
        thread = blocked(
            app.runtime.database,
            lambda: done.append(app.cancel(Wanted(state="waiting"))),
        )
    thread.join()

    assert (done[0].count, done[0].refused.counts) == (1, {"sending": 1})
    assert [row["state"] for row in app.deliveries()] == ["sending", "cancelled"]


@pytest.mark.postgres
def test_an_event_at_the_same_moment_is_not_lost(
    connect: Connect, postgres_url: str, tools: Tools, blocked: Blocked
) -> None:
    """It joined before the cancel, and goes with it, or it is queued anew."""
    app = connect(database_url=postgres_url)
    tools.fire(app, "ana")

    with Session(app.runtime.database.engine) as session:
        app.record_action("form.sent", email="ana@shop.example", session=session)
        thread = blocked(app.runtime.database, lambda: app.cancel([1]))
        session.commit()
    thread.join()
    tools.fire(app, "ana")

    assert [row["state"] for row in app.deliveries()] == ["cancelled", "waiting"]


def test_killed_in_the_middle_the_same_call_does_the_rest(
    database_url: str, tmp_path: Any, make_app: Any, at_once: AtOnce
) -> None:
    """Batches that were committed stay cancelled; nothing is cancelled twice."""
    head = f'[onward]\ndatabase_url = "{database_url}"\n'
    config = '[connections.news]\nintegration = "icontact"\n'
    (tmp_path / "onward.toml").write_text(head + config)
    app = make_app(config, database_url=database_url)
    emails = [f"p{number}@shop.example" for number in range(20)]
    for email in emails:
        app.upsert_contact({"email": email})
    app.push(to="news", emails=emails)
    cancelling = (
        "from onward.delivery.cancel import cancel\n"
        "from onward.delivery.listing import Wanted\n"
        'result = cancel(app.runtime, Wanted(state="waiting"), batch=5).count\n'
    )
    armed = 'import os\nos.environ["ONWARD_FAILPOINT"] = "after_cancel_batch:2"\n'

    assert at_once([armed + cancelling]) == [{"ended": -9}]
    assert [row["state"] for row in app.deliveries()].count("cancelled") == 10
    assert at_once([cancelling]) == [10]

    with app.runtime.database.read() as transaction:
        ended = transaction.execute(select(outcomes.c.push_id)).scalars().all()
    assert sorted(ended) == list(range(1, 21))
