"""Ended pushes go again, as their contacts and the map are now, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from onward import signals
from onward.connections.remove import remove_connection
from onward.connections.state import named
from onward.connections.verify import verify_connection
from onward.contacts.erasing import erase_contact
from onward.contacts.release import lock_contacts
from onward.delivery.listing import Wanted
from onward.errors import InputError
from onward.merge import merge_contacts
from onward.models import Cause, Connection, Contact, Push, RemoteSegmentRow, table
from onward.replay import preview_replay
from onward.testing.app import TestApp

if TYPE_CHECKING:
    from tests.conftest import Blocked

    from onward.replay import Replayed

    from .conftest import Connect, Service, Tools

pushes = table(Push)
causes = table(Cause)
contacts = table(Contact)
connections = table(Connection)
segments = table(RemoteSegmentRow)

ANA, BEN = "ana@shop.example", "ben@shop.example"


@pytest.fixture
def app(connect: Connect, database_url: str, service: Service, tools: Tools) -> TestApp:
    """An Onward on each database, with one push of Ana that Acme refused."""
    made = connect(database_url=database_url)
    service.script = [tools.answers(422)]
    tools.fire(made, "ana")
    made.deliver()
    assert tools.ended(made)["ana"] == ("failed", "http_422")
    return made


def only(app: TestApp, push_id: int) -> dict[str, Any]:
    """Return one row."""
    [row] = [row for row in app.deliveries() if row["id"] == push_id]
    return row


def change(app: TestApp, statement: Any) -> None:
    """Change something as another process would."""
    with app.runtime.database.write() as transaction:
        transaction.execute(statement)


def fail(app: TestApp) -> None:
    """Let everything that waits end as failed."""
    waiting = update(pushes).where(pushes.c.state == "waiting")
    ended = {"state": "failed", "code": "refused", "finished_at": app.clock()}
    change(app, waiting.values(due_at=None, **ended))


def whole(app: TestApp, push_id: int) -> dict[str, Any]:
    """Return one row with all its columns."""
    with app.runtime.database.read() as transaction:
        found = transaction.execute(select(pushes).where(pushes.c.id == push_id))
        return dict(found.mappings().one())


# -- again


def test_a_refused_push_goes_again_as_things_are_now(
    app: TestApp, service: Service
) -> None:
    """A new row is made, before back-fills; the old one stays as it was."""
    before = whole(app, 1)
    app.upsert_contact({"email": ANA, "first_name": "Ana"})

    done = app.replay([1])
    queued = whole(app, 2)
    app.deliver()

    assert (done.count, done.refused.counts) == (1, {})
    assert (queued["state"], queued["priority"]) == ("waiting", 0)
    assert whole(app, 1) == before
    assert only(app, 2)["state"] == "delivered"
    assert service.people[ANA]["name"] == "Ana"


def test_the_cause_says_what_is_replayed_and_for_which_rule(app: TestApp) -> None:
    """So that maps find the event, and filters the rule."""
    app.replay([1])

    with app.runtime.database.read() as transaction:
        found = transaction.execute(select(causes).order_by(causes.c.id)).all()
    assert [(c.push_id, c.kind, c.key, c.replay_of) for c in found] == [
        (1, "rule", "forms", None),
        (2, "replay", "forms", 1),
    ]
    assert found[0].event_id == found[1].event_id is not None
    assert [row["id"] for row in listed(app, rule="forms")] == [1, 2]
    assert [row["id"] for row in listed(app, cause="replay")] == [2]


def listed(app: TestApp, **filters: Any) -> list[dict[str, Any]]:
    """Return what `onward deliveries` lists."""
    return super(TestApp, app).deliveries(Wanted(**filters))


def test_in_bulk_is_a_back_fill(app: TestApp, tools: Tools) -> None:
    """What a filter names goes behind live events, with force if that is wished."""
    done = app.replay(Wanted(state="failed"), force=True)

    assert (done.count, done.looked, done.total) == (1, 1, 1)
    assert (whole(app, 2)["priority"], whole(app, 2)["force"]) == (10, True)


def test_many_named_ones_are_a_back_fill_too(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """More than a hundred numbers are no errand of somebody who waits."""
    tools.fire(app, *(f"p{number}" for number in range(100)))
    fail(app)

    app.replay(range(1, 102))

    assert {row["priority"] for row in app.queued} == {10}
    assert len(app.queued) == 101


def test_rows_of_one_contact_become_one(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """Two failures of the same contact are one push with two causes."""
    service.script = [tools.answers(422)]
    tools.fire(app, "ana")
    app.deliver()

    done = app.replay(Wanted(code="http_422"))

    assert (done.count, len(app.queued)) == (2, 1)
    with app.runtime.database.read() as transaction:
        found = select(causes.c.replay_of).where(causes.c.push_id == 3)
        assert sorted(transaction.execute(found).scalars()) == [1, 2]


def test_rows_of_one_contact_become_one_over_batches(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """What the preview counts is what is replayed, however the batches fall."""
    from onward.replay import replay

    service.script = [tools.answers(422)]
    tools.fire(app, "ana")
    app.deliver()
    what = Wanted(state="failed")

    seen = preview_replay(app.runtime, what, batch=1)
    done = replay(app.runtime, what, batch=1)

    assert (seen.count, done.count, len(app.queued)) == (2, 2, 1)


def test_it_is_announced_and_wakes(app: TestApp) -> None:
    """Who listens to queued pushes hears of it once."""
    heard: list[signals.PushFact] = []

    def hear(_sender: object, event: signals.PushFact) -> None:
        heard.append(event)

    with signals.push_queued.connected_to(hear, app):
        app.replay([1])

    assert [(fact.push_id, fact.connection) for fact in heard] == [(2, "acme")]


def test_survivor_gets_what_its_merged_contact_missed(
    app: TestApp, service: Service
) -> None:
    """A row of somebody who was merged goes to whom they are now."""
    app.upsert_contact({"email": BEN, "first_name": "Ben"})
    with app.runtime.database.write() as transaction:
        merge_contacts(transaction, 2, 1, app.clock())

    assert app.replay([1]).count == 1
    app.deliver()

    assert (only(app, 2)["contact_id"], only(app, 2)["state"]) == (2, "delivered")
    assert list(service.people) == [BEN]


def test_a_cancelled_push_can_be_taken_up_again(app: TestApp, tools: Tools) -> None:
    """Whoever cancelled too much takes it back."""
    tools.fire(app, "ben")
    app.cancel([2], reason="too early")

    assert app.replay(Wanted(state="cancelled")).count == 1
    app.deliver()

    assert only(app, 3)["state"] == "delivered"


def test_a_list_that_was_not_known_yet_is_looked_for(
    app: TestApp, service: Service
) -> None:
    """A row that was queued before its list had an id goes to the list itself."""
    change(app, update(pushes).values(segment="?Old"))

    app.replay([1])
    app.deliver()

    assert whole(app, 2)["segment"] == "2"
    assert service.on == {"2": {ANA}}
    assert app.replay([1]).refused.counts == {"replayed_already": 1}


# -- refused


def nothing(app: TestApp, service: Service, tools: Tools) -> None:
    """Change nothing."""


def waits(app: TestApp, service: Service, tools: Tools) -> None:
    """Have the same queued by an event."""
    tools.fire(app, "ana")


def is_sent(app: TestApp, service: Service, tools: Tools) -> None:
    """Have the same on its way."""
    tools.fire(app, "ana")
    change(app, update(pushes).where(pushes.c.id == 2).values(state="sending"))


def delivered(app: TestApp, service: Service, tools: Tools) -> None:
    """Have the same delivered for another event."""
    tools.fire(app, "ana")
    app.deliver()


def unchanged(app: TestApp, service: Service, tools: Tools) -> None:
    """Have a later event find that nothing has to be sent."""
    delivered(app, service, tools)
    change(app, update(pushes).where(pushes.c.id == 2).values(state="unchanged"))


def replayed(app: TestApp, service: Service, tools: Tools) -> None:
    """Have it replayed before."""
    app.replay([1])


def replayed_and_delivered(app: TestApp, service: Service, tools: Tools) -> None:
    """Have its replay delivered."""
    app.replay([1])
    app.deliver()


def do_not_contact(app: TestApp, service: Service, tools: Tools) -> None:
    """Have Ana opt out of everything."""
    app.suppress(ANA)


def erased(app: TestApp, service: Service, tools: Tools) -> None:
    """Erase Ana."""
    erase_contact(app.runtime, ANA)


def off(app: TestApp, service: Service, tools: Tools) -> None:
    """Switch the connection off."""
    change(app, update(connections).values(enabled=False))


def pushes_off(app: TestApp, service: Service, tools: Tools) -> None:
    """Switch pushes off."""
    change(app, update(connections).values(push_contacts=False))


def removed(app: TestApp, service: Service, tools: Tools) -> None:
    """Remove the connection."""
    change(app, update(connections).values(declared=""))
    with app.runtime.database.read() as transaction:
        state = named(transaction, "acme")
    app.runtime.config = replace(app.config, rules=())
    remove_connection(app.runtime, state)


def list_gone(app: TestApp, service: Service, tools: Tools) -> None:
    """Have the list deleted in Acme, and read what is left."""
    service.lists = {"2": "Old", "3": "News"}
    app.verify("acme")


def list_held(app: TestApp, service: Service, tools: Tools) -> None:
    """Have the list found deleted by a push."""
    change(app, update(segments).values(paused_why="the list was deleted in Acme"))


def moved(app: TestApp, service: Service, tools: Tools) -> None:
    """Let the connection lead to another account with a list of the same id."""
    app.clock.tick(60)
    service.account = "acme/2"
    with app.runtime.database.read() as transaction:
        state = named(transaction, "acme")
    verify_connection(app.runtime, state, accept=True)


def merged(app: TestApp, service: Service, tools: Tools) -> None:
    """Have its row taken over in a merge."""
    values = {"state": "cancelled", "code": "merged", "reason": "merged into 2"}
    change(app, update(pushes).values(**values))


def cancelled_by_move(app: TestApp, service: Service, tools: Tools) -> None:
    """Have it cancelled because the account changed."""
    values = {"state": "cancelled", "code": "identity_changed", "reason": "moved"}
    change(app, update(pushes).values(**values))


def is_delivered(app: TestApp, service: Service, tools: Tools) -> None:
    """Have the row itself delivered."""
    change(app, update(pushes).values(state="delivered"))


def is_waiting(app: TestApp, service: Service, tools: Tools) -> None:
    """Have the row itself waiting."""
    change(app, update(pushes).values(state="waiting"))


def is_sending(app: TestApp, service: Service, tools: Tools) -> None:
    """Have the row itself on its way."""
    change(app, update(pushes).values(state="sending"))


@pytest.mark.parametrize(
    ("happens", "code", "words"),
    [
        (nothing, "", ""),
        (is_waiting, "waits_already", "push 1 is waiting already"),
        (is_sending, "waits_already", "push 1 is being sent"),
        (is_delivered, "delivered", "--force` sends it once more"),
        (waits, "waits_already", "push 1 is not needed: push 2 waits already"),
        (is_sent, "waits_already", "push 1 is not needed: push 2 is being sent"),
        (delivered, "delivered_since", "push 1 was made up for: push 2 delivered"),
        (unchanged, "delivered_since", "push 2 unchanged"),
        (replayed, "replayed_already", "push 1 was replayed: push 2 waiting"),
        (replayed_and_delivered, "replayed_already", "push 2 delivered"),
        (do_not_contact, "suppressed", "must not be sent: do not contact, seen 20"),
        (erased, "erased", "was erased"),
        (off, "connection_off", 'skipped again: the connection "acme" is switched'),
        (pushes_off, "pushes_off", "skipped again: pushes are switched off"),
        (removed, "connection_gone", 'the connection "acme", which was removed'),
        (list_gone, "segment_gone", "the remote segment 1, which acme does not have"),
        (list_held, "segment_gone", "is held: the list was deleted in Acme"),
        (moved, "identity_changed", "another account, which acme led to until 2026"),
        (cancelled_by_move, "identity_changed", "push 1 was cancelled: moved"),
        (merged, "merged", "push 1 was taken over: merged into 2"),
    ],
)
def test_what_stands_against_a_replay(
    app: TestApp,
    service: Service,
    tools: Tools,
    happens: Callable[[TestApp, Service, Tools], None],
    code: str,
    words: str,
) -> None:
    """Each reason has its code and sentence; the preview and the deed agree."""
    happens(app, service, tools)
    queued = len(app.queued)
    replayed = 0 if code else 1

    seen = app.replay([1], dry_run=True)
    done = app.replay([1])

    assert seen.count == done.count == replayed
    assert seen.refused == done.refused
    assert done.refused.counts == ({code: 1} if code else {})
    assert words in "".join(done.refused.reasons.values())
    assert len(app.queued) == queued + replayed


def test_what_was_delivered_later_counts_whatever_its_number(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """A row that waited longer, and went after this one failed, made up for it."""
    tools.fire(app, "ana")
    app.deliver()
    later = app.clock.tick(timedelta(hours=1))
    for number, values in (
        (2, {"id": 0, "finished_at": later}),
        (1, {"id": 7}),
    ):
        change(app, update(pushes).where(pushes.c.id == number).values(**values))

    assert app.replay([7]).refused.counts == {"delivered_since": 1}


def test_a_replay_that_failed_again_may_be_repeated(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """So may one that a person took back; one that waits or arrived may not."""
    app.replay([1])
    app.cancel([2])
    again = app.replay([1])
    service.script = [tools.answers(422)]
    app.deliver()

    third = app.replay([1])
    app.deliver()

    assert (again.count, third.count) == (1, 1)
    assert only(app, 4)["state"] == "delivered"
    assert app.replay([1, 3]).refused.counts == {
        "replayed_already": 1,
        "delivered_since": 1,
    }


def test_consent_lets_it_go_again(app: TestApp) -> None:
    """Who had opted out and comes back is replayed."""
    app.suppress(ANA)
    assert app.replay(Wanted(state="failed")).count == 0

    app.consent(ANA, how="on the phone", who="Joe")

    assert app.replay(Wanted(state="failed")).count == 1


def test_what_may_have_arrived_is_left_to_a_person(app: TestApp) -> None:
    """Where nobody can tell, a filter does not push twice, unless it names them."""
    change(app, update(pushes).values(code="unknown"))

    in_bulk = app.replay(Wanted(state="failed"))
    by_code = app.replay(Wanted(code="unknown"), dry_run=True)
    by_number = app.replay([1])

    assert in_bulk.refused.counts == {"may_have_arrived": 1}
    assert (by_code.count, by_number.count) == (1, 1)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (Wanted(), "say which pushes to replay: give their numbers, or a filter"),
        ([], "say which pushes to replay"),
        ([1, 99], "there is no delivery 99; `onward deliveries` lists them"),
        ([2**70], f"there is no delivery {2**70}"),
        (Wanted(state="waiting"), "waiting pushes are not replayed: they go out"),
        (Wanted(state="held"), "held pushes are not replayed"),
        (Wanted(state="delivered"), "the service has them; to send one once more"),
        (Wanted(state="failled"), 'there is no state "failled"; did you mean'),
        (Wanted(cause="reply"), 'there is no cause "reply"; did you mean "replay"'),
        (Wanted(connection="acne"), 'there is no connection "acne"'),
    ],
)
def test_what_cannot_be_replayed_at_all(app: TestApp, what: Any, words: str) -> None:
    """Nothing named, nothing there: one sentence, and nothing is queued."""
    for dry_run in (True, False):
        with pytest.raises(InputError) as refused:
            app.replay(what, dry_run=dry_run)
        assert words in refused.value.message

    assert app.queued == []
    assert app.replay([1]).count == 1


# -- the differences


def test_the_preview_shows_what_would_differ(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """Beside what was tried last, per field; it asks no service."""
    app.upsert_contact({"email": ANA, "first_name": "Ana"})
    asked = list(service.asked)

    seen = app.replay([1], dry_run=True)

    [sample] = seen.samples
    assert service.asked == asked
    assert (sample.id, sample.email, sample.code) == (1, ANA, "http_422")
    assert [(c.field, c.before, c.now) for c in sample.changes] == [
        ("name", None, "Ana")
    ]
    assert sample.document["changes"] == [
        {"field": "name", "before": None, "now": "Ana"}
    ]


def test_the_preview_compares_with_what_the_service_confirmed(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """What was tried last lies on top of what was confirmed before it."""
    app.upsert_contact({"email": ANA, "first_name": "Ana"})
    tools.fire(app, "ana")
    app.deliver()
    app.upsert_contact({"email": ANA, "first_name": "Anna"})
    service.script = [tools.answers(422)]
    tools.fire(app, "ana")
    app.deliver()
    same = app.replay([3], dry_run=True).samples[0]
    app.upsert_contact({"email": ANA, "first_name": "Anne"})

    [sample] = app.replay([3], dry_run=True).samples

    assert same.changes == ()
    assert [(c.before, c.now) for c in sample.changes] == [("Anna", "Anne")]


def test_the_preview_says_what_would_end_unsent(app: TestApp) -> None:
    """A visitor waits; the sample says so instead of fields."""
    change(app, update(contacts).values(email=None))

    [sample] = app.replay([1], dry_run=True).samples

    assert (sample.ends, sample.changes) == ("waiting (no_email)", ())
    assert "until the visitor has an e-mail" in sample.why


def test_the_preview_works_without_a_map(
    app: TestApp, connect: Connect, tmp_path: Any
) -> None:
    """A map that cannot be used costs the differences, not the count."""
    (tmp_path / "acme.toml").write_text('[fields]\nemail = "email"\nage = "city"\n')

    seen = app.replay([1], dry_run=True)

    assert seen.count == 1
    assert "the differences cannot be told: " in seen.samples[0].why
    assert "age" in seen.samples[0].why


def test_some_are_shown_and_the_rest_counted(
    app: TestApp, service: Service, tools: Tools
) -> None:
    """Of many, the first are shown in full."""
    tools.fire(app, *(f"p{number}" for number in range(12)))
    fail(app)

    seen = preview_replay(app.runtime, Wanted(state="failed"), show=3, batch=2)

    assert (seen.count, len(seen.samples), seen.more) == (13, 3, 10)
    assert [sample.id for sample in seen.samples] == [1, 2, 3]


def test_secrets_are_in_no_preview(app: TestApp) -> None:
    """What looks like a secret in a value is blanked."""
    app.upsert_contact({"email": ANA, "first_name": '"password": "fish7"'})

    [sample] = app.replay([1], dry_run=True).samples

    assert [(change.field, change.now) for change in sample.changes] == [
        ("name", '"password": "***"')
    ]


# -- at the same moment


@pytest.fixture
def shared(connect: Connect, postgres_url: str, tools: Tools) -> TestApp:
    """An Onward on PostgreSQL, with a failed push of Ana, and Ben."""
    made = connect(database_url=postgres_url)
    tools.fire(made, "ana")
    fail(made)
    made.upsert_contact({"email": BEN})
    return made


@pytest.mark.postgres
def test_a_replay_during_a_merge_reaches_the_survivor(
    shared: TestApp, blocked: Blocked
) -> None:
    """It waits for the merge, and sees who the contact is by then."""
    with shared.runtime.database.write() as transaction:
        merge_contacts(transaction, 2, 1, shared.clock())
        thread = blocked(shared.runtime.database, lambda: shared.replay([1]))
    thread.join()

    assert [row["contact_id"] for row in shared.queued] == [2]
    shared.deliver()
    assert only(shared, 2)["state"] == "delivered"


@pytest.mark.postgres
def test_two_who_replay_the_same_row_replay_it_once(
    shared: TestApp, blocked: Blocked
) -> None:
    """The second waits, and is told that it was replayed."""
    done: list[Replayed] = []

    with shared.runtime.database.write() as transaction:
        lock_contacts(transaction, [1])
        first = blocked(
            shared.runtime.database, lambda: done.append(shared.replay([1]))
        )
        second = Thread(target=lambda: done.append(shared.replay([1])))
        second.start()
    first.join()
    second.join()

    assert sorted(one.count for one in done) == [0, 1]
    assert [one.refused.total for one in sorted(done, key=lambda one: one.count)] == [
        1,
        0,
    ]
    assert len(shared.queued) == 1
