"""The rows: in, claimed, settled; every statement on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from onward import remote
from onward.database import Database
from onward.delivery.claiming import (
    Claimed,
    adopt,
    claim,
    mark_sent,
    next_due,
    next_segment,
    use_try,
)
from onward.delivery.queue import BACKFILL, LIVE, Wish, enqueue
from onward.delivery.retry import Decision
from onward.delivery.settling import leave_waiting, put_back, settle
from onward.errors import Fenced
from onward.models import (
    Cause,
    Contact,
    OutcomeRow,
    Push,
    PushState,
    RemoteSegmentRow,
    table,
)
from onward.testing import Clock

NOW = Clock()()
SECOND = timedelta(seconds=1)
OF = 1
pushes = table(Push)

DELIVERED = Decision(PushState.DELIVERED, None, 0, "delivered", "")
LATER = Decision(PushState.WAITING, NOW + 300 * SECOND, 1, "busy", "Acme is busy")
UNKNOWN = Decision(PushState.WAITING, NOW, 0, "timeout", "no answer", unknown=True)


def wish(contact: int = 1, segment: str = "s", **more: Any) -> Wish:
    """Return a wish for a contact."""
    return Wish(more.pop("of", OF), contact, segment, "rule", **more)


def queued(database: Database, *wishes: Wish, now: datetime = NOW) -> list[int]:
    """Queue in one transaction; return the rows."""
    with database.write() as transaction:
        return list(enqueue(transaction, wishes, now).values())


def claimed(
    database: Database,
    fence: int = 1,
    *,
    size: int = 100,
    most: int = BACKFILL,
    now: datetime = NOW,
    segment: str = "s",
) -> list[Claimed]:
    """Claim in one transaction."""
    with database.write() as transaction:
        return claim(transaction, OF, segment, fence, now, size, most)


def row(database: Database, push_id: int = 1, *names: str) -> Any:
    """Return some columns of a row."""
    with database.read() as transaction:
        found = transaction.execute(select(pushes).where(pushes.c.id == push_id))
        whole = found.mappings().one()
    return tuple(whole[name] for name in names)


def settled(
    database: Database, decision: Decision, fence: int = 1, rows: Sequence[int] = (1,)
) -> None:
    """Settle in one transaction."""
    with database.write() as transaction:
        settle(transaction, dict.fromkeys(rows, decision), fence, NOW)


# -- in


def test_causes_join_the_open_row(database: Database) -> None:
    """Two causes in one transaction and one later are one row with three causes."""
    first = queued(database, wish(key="a"), wish(key="b"))
    again = queued(database, wish(key="c"), now=NOW + SECOND)

    with database.read() as transaction:
        found = transaction.execute(
            select(table(Cause).c.push_id, table(Cause).c.key)
        ).all()
    assert set(first + again) == {1}
    assert sorted(map(tuple, found)) == [(1, "a"), (1, "b"), (1, "c")]
    assert row(database, 1, "state", "due_at", "again") == ("waiting", NOW, False)


def test_other_contacts_connections_and_segments_have_their_own(
    database: Database,
) -> None:
    """One open row per connection, contact and remote segment."""
    rows = queued(
        database, wish(), wish(2), wish(segment=""), wish(segment="t"), wish(of=2)
    )

    assert len(set(rows)) == 5


def test_an_ended_row_is_not_joined(database: Database) -> None:
    """After its end a new cause makes a new row."""
    [first] = queued(database, wish())
    claimed(database)
    settled(database, DELIVERED)

    [second] = queued(database, wish())

    assert second != first


def test_a_cause_during_the_send_sends_once_more(database: Database) -> None:
    """The outcome is kept, and the row waits again with its tries forgotten."""
    queued(database, wish())
    claimed(database)
    queued(database, wish(key="late"))

    settled(database, Decision(PushState.FAILED, None, 8, "busy", "given up"))

    names = ("state", "due_at", "tries", "again", "code", "finished_at")
    assert row(database, 1, *names) == ("waiting", NOW, 0, False, "busy", None)
    with database.read() as transaction:
        kinds = transaction.execute(select(table(OutcomeRow).c.kind)).scalars().all()
    assert kinds == ["failed"]
    [again] = claimed(database, 2)
    assert again.id == 1
    settled(database, DELIVERED, 2)
    assert row(database, 1, "state") == ("delivered",)


def test_a_new_cause_never_shortens_a_retrys_wait(database: Database) -> None:
    """Neither while it waits, nor when it came during the try that failed."""
    queued(database, wish())
    claimed(database)
    queued(database, wish())
    settled(database, LATER)

    queued(database, wish(), now=NOW + SECOND)

    assert row(database, 1, "state", "due_at", "tries", "again") == (
        "waiting",
        LATER.due_at,
        1,
        False,
    )
    assert claimed(database, 2) == []
    assert len(claimed(database, 2, now=NOW + 300 * SECOND)) == 1


def test_a_live_cause_raises_a_backfill_row(database: Database) -> None:
    """And a back-fill does not lower a live one."""
    queued(database, wish(1, priority=BACKFILL), wish(2))

    queued(database, wish(1), wish(2, priority=BACKFILL))

    assert row(database, 1, "priority") == row(database, 2, "priority") == (LIVE,)


def test_force_holds_until_it_was_done(database: Database) -> None:
    """A wish to force ends with the send; one that came during it holds on."""
    queued(database, wish(force=True))
    [first] = claimed(database)
    settled(database, LATER)
    [second] = claimed(database, 2, now=NOW + 300 * SECOND)
    queued(database, wish(force=True))
    settled(database, DELIVERED, 2)
    [third] = claimed(database, 3)
    queued(database, wish())
    settled(database, DELIVERED, 3)

    [fourth] = claimed(database, 4)

    assert [one.force for one in (first, second, third, fourth)] == [
        True,
        True,
        True,
        True,
    ]
    settled(database, DELIVERED, 4)
    assert row(database, 1, "state", "force") == ("delivered", False)


# -- out


def test_live_goes_first_then_the_oldest(database: Database) -> None:
    """In batches of the wished size, and only what is due."""
    queued(database, wish(1, priority=BACKFILL))
    queued(database, wish(2), now=NOW + SECOND)
    queued(database, wish(3))
    queued(database, wish(4), now=NOW + 60 * SECOND)
    now = NOW + SECOND

    batches = [claimed(database, size=1, now=now) for _ in range(4)]

    contacts = [[one.contact_id for one in batch] for batch in batches]
    assert contacts == [[3], [2], [1], []]


def test_only_live_rows_can_be_asked_for(database: Database) -> None:
    """A batch of live events takes no back-fill along: others pay for that."""
    queued(database, wish(1, priority=BACKFILL), wish(2))

    assert [one.contact_id for one in claimed(database, most=LIVE)] == [2]
    assert [one.contact_id for one in claimed(database, most=BACKFILL)] == [1]


def test_a_paused_segment_holds_its_rows_only(database: Database) -> None:
    """What is next, and when, is asked of the others."""
    queued(database, wish(1, "gone"))
    queued(database, wish(2, "there"), now=NOW + SECOND)
    gone = {"connection_id": OF, "name": "Gone", "seen_at": NOW}
    with database.write() as transaction:
        transaction.execute(
            insert(table(RemoteSegmentRow)),
            {**gone, "id": "gone", "paused_why": "it was deleted"},
        )

    with database.read() as transaction:
        assert next_segment(transaction, OF, NOW) is None
        assert next_segment(transaction, OF, NOW + SECOND) == ("there", LIVE)
        assert next_due(transaction, OF) == NOW + SECOND
        assert next_due(transaction, OF + 1) is None


def test_what_a_dead_worker_held_comes_back_marked(database: Database) -> None:
    """Rows that left are to be read back; those that did not are as they were.

    What the service has of those who left is unsure, for other rows of theirs too.
    """
    queued(database, wish(1), wish(2), wish(3))
    claimed(database, 1, size=2)
    known = [
        replace(remote.Snapshot.unknown(f"r{number}"), contact_id=number)
        for number in (1, 2)
    ]
    with database.write() as transaction:
        remote.save(transaction, OF, known, NOW)
        mark_sent(transaction, [1], 1, NOW, "map 1")

    with database.write() as transaction:
        back = adopt(transaction, OF, 2, NOW)

    assert back == 2
    found = claimed(database, 2)
    assert [(one.contact_id, one.sent_at) for one in found] == [
        (1, NOW),
        (2, None),
        (3, None),
    ]
    with database.read() as transaction:
        there = remote.ours(transaction, OF, [1, 2])
    assert (there[1].unsure, there[2].unsure) == (True, False)


def test_who_was_merged_meanwhile_is_in_doubt_as_the_survivor(
    database: Database,
) -> None:
    """The row is the old contact's, what the service has is the new one's."""
    survivor = a_contact(database, "ana@x.example")
    old = a_contact(database, None, merged_into=survivor)
    queued(database, wish(old))
    claimed(database, 1)
    opted_out = {"s": "unsubscribed"}
    known = replace(
        remote.Snapshot.unknown("r1"), contact_id=survivor, segments=opted_out
    )
    with database.write() as transaction:
        mark_sent(transaction, [1], 1, NOW, "map 1")
        remote.save(transaction, OF, [known], NOW)

    with database.write() as transaction:
        adopt(transaction, OF, 2, NOW)

        found = remote.ours(transaction, OF, [survivor])[survivor]
    assert (found.unsure, found.segments) == (True, {})


def test_nobody_adopts_the_rows_of_a_living_worker(database: Database) -> None:
    """Only an older fence is a dead worker's."""
    queued(database, wish(1))
    claimed(database, 2)

    with database.write() as transaction:
        assert adopt(transaction, OF, 2, NOW) == 0
        assert adopt(transaction, OF + 1, 9, NOW) == 0


# -- what became of them


@pytest.mark.parametrize("state", [s for s in PushState if s != PushState.SENDING])
def test_an_outcome_is_written_down(database: Database, state: PushState) -> None:
    """The row has its last code and sentence, the outcome its attempt and moment."""
    due = NOW + SECOND if state in (PushState.WAITING, PushState.SUBMITTED) else None
    queued(database, wish())
    claimed(database)
    with database.write() as transaction:
        settle(
            transaction,
            {1: Decision(state, due, 3, "a_code", "a sentence", job="j7")},
            1,
            NOW,
            attempt_id=5,
            kinds={1: "a kind"},
        )

    ended = None if due else NOW
    names = ("state", "due_at", "finished_at", "tries", "code", "reason", "job")
    assert row(database, 1, *names) == (
        state.value,
        due,
        ended,
        3,
        "a_code",
        "a sentence",
        "j7",
    )
    with database.read() as transaction:
        [outcome] = transaction.execute(select(table(OutcomeRow))).mappings()
    assert dict(outcome) == {
        "id": 1,
        "push_id": 1,
        "attempt_id": 5,
        "kind": "a kind",
        "code": "a_code",
        "reason": "a sentence",
        "at": NOW,
    }


def test_different_ends_in_one_transaction(database: Database) -> None:
    """Rows that ended alike are stored together, the others each for itself."""
    queued(database, *(wish(contact) for contact in range(1, 6)))
    claimed(database)

    with database.write() as transaction:
        settle(
            transaction,
            {1: DELIVERED, 2: LATER, 3: DELIVERED, 4: UNKNOWN, 5: LATER},
            1,
            NOW,
        )

    found = [row(database, id_, "state", "sent_at", "code") for id_ in range(1, 6)]
    assert found == [
        ("delivered", None, "delivered"),
        ("waiting", None, "busy"),
        ("delivered", None, "delivered"),
        ("waiting", NOW, "timeout"),
        ("waiting", None, "busy"),
    ]


def test_a_cause_during_a_job_waits_for_the_jobs_end(database: Database) -> None:
    """A row handed to a job keeps the mark of its further cause."""
    queued(database, wish())
    claimed(database)
    queued(database, wish())

    settled(database, Decision(PushState.SUBMITTED, NOW, 0, "submitted", "", job="j7"))

    assert row(database, 1, "state", "again", "job") == ("submitted", True, "j7")


def test_a_late_worker_stores_nothing(database: Database) -> None:
    """Whatever it tries under an older fence is refused, and nothing of it stays."""
    queued(database, wish(1), wish(2))
    claimed(database, 1)
    with database.write() as transaction:
        adopt(transaction, OF, 2, NOW)
    claimed(database, 2)
    before = row(database, 1, *pushes.c.keys())

    def refused(act: Any) -> None:
        with pytest.raises(Fenced), database.write() as transaction:
            act(transaction)

    refused(lambda t: settle(t, {1: DELIVERED, 2: DELIVERED}, 1, NOW))
    refused(lambda t: mark_sent(t, [1, 2], 1, NOW, "map"))
    refused(lambda t: use_try(t, [1, 2], 1))
    refused(lambda t: put_back(t, [1, 2], 1))
    refused(lambda t: leave_waiting(t, [1, 2], 1, NOW))

    assert row(database, 1, *pushes.c.keys()) == before
    with database.read() as transaction:
        assert transaction.execute(select(table(OutcomeRow))).all() == []
    settled(database, DELIVERED, 2, [1, 2])
    assert row(database, 1, "state") == row(database, 2, "state") == ("delivered",)


def test_one_lost_row_refuses_the_whole_settle(database: Database) -> None:
    """A batch of which one row is gone is not stored by half."""
    queued(database, wish(1), wish(2))
    claimed(database, 1)
    with database.write() as transaction:
        transaction.execute(update(pushes).where(pushes.c.id == 2).values(fence=9))

    with pytest.raises(Fenced):
        settled(database, DELIVERED, 1, [1, 2])

    assert row(database, 1, "state") == ("sending",)


def test_what_was_not_sent_is_put_back_in_its_place(database: Database) -> None:
    """Due as before, no try used, what was doubtful still doubtful."""
    queued(database, wish(1))
    queued(database, wish(2), now=NOW + SECOND)
    claimed(database)
    settled(database, UNKNOWN)
    claimed(database, 2, now=NOW + SECOND)

    with database.write() as transaction:
        put_back(transaction, [1], 2)
        put_back(transaction, [2], 2, code="throttled", reason="slow down", sent=True)

    names = ("state", "due_at", "tries", "sent_at", "code", "reason")
    assert row(database, 1, *names) == (
        "waiting",
        NOW,
        0,
        NOW,
        "timeout",
        "no answer",
    )
    assert row(database, 2, *names) == (
        "waiting",
        NOW + SECOND,
        0,
        None,
        "throttled",
        "slow down",
    )


def test_a_lost_send_is_counted(database: Database) -> None:
    """The try is stored before the contact is sent again."""
    queued(database, wish())
    claimed(database)

    with database.write() as transaction:
        use_try(transaction, [1], 1)

    assert row(database, 1, "state", "tries") == ("sending", 1)


def a_contact(database: Database, email: str | None, **more: object) -> int:
    """Add a person."""
    values = {"email": email, "created_at": NOW, "updated_at": NOW, "points": 0, **more}
    with database.write() as transaction:
        return int(
            transaction.execute(
                insert(table(Contact))
                .values(custom={}, **values)
                .returning(table(Contact).c.id)
            ).scalar_one()
        )


def test_visitors_wait_without_due_time(database: Database) -> None:
    """Unless somebody identified them, or came with a further cause, meanwhile."""
    visitor, known, busy = (a_contact(database, e) for e in (None, "a@x.example", None))
    queued(database, wish(visitor), wish(known), wish(busy))
    claimed(database)
    queued(database, wish(busy))

    with database.write() as transaction:
        leave_waiting(transaction, [1, 2, 3], 1, NOW + SECOND)

    due = [row(database, id_, "state", "due_at", "again") for id_ in (1, 2, 3)]
    assert due == [
        ("waiting", None, False),
        ("waiting", NOW + SECOND, False),
        ("waiting", NOW + SECOND, False),
    ]
