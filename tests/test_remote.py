"""What a service is known to have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward import remote
from onward.contract import Membership, RemoteContact
from onward.database import Database
from onward.migrate import prepare_database
from onward.remote import Snapshot
from onward.testing import Clock

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from tests.conftest import Blocked

NOW = Clock()()
OF = 3


def a_snapshot(remote_id: str = "r1", contact_id: int = 7, **more: object) -> Snapshot:
    """Return one that is linked to a contact and has everything."""
    made = Snapshot(
        remote_id,
        contact_id,
        f"{remote_id}@shop.example",
        "normal",
        {"name": "Ana"},
        {"1": "normal"},
        "map 1",
        unsure=False,
        alias=False,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_what_is_saved_is_found_by_id_address_and_contact(database: Database) -> None:
    """Three ways to the same row, of this connection only."""
    ana, joe = a_snapshot(), a_snapshot("r2", 8)
    with database.write() as transaction:
        remote.save(transaction, OF, [ana, joe], NOW)
        remote.save(transaction, OF + 1, [a_snapshot("r1", 9)], NOW)

    with database.read() as transaction:
        assert remote.by_ids(transaction, OF, ["r1", "r9"]) == {"r1": ana}
        assert remote.by_emails(transaction, OF, ["r2@shop.example"]) == {
            "r2@shop.example": joe
        }
        assert remote.ours(transaction, OF, [7, 8, 9]) == {7: ana, 8: joe}
        assert remote.by_ids(transaction, OF, []) == {}


def test_aliases_and_the_deleted_are_nobody_to_push_to(database: Database) -> None:
    """An alias is no contact's remote contact; a deleted one holds no address."""
    alias = a_snapshot(alias=True)
    deleted = a_snapshot("r2", 8, status="deleted")
    with database.write() as transaction:
        remote.save(transaction, OF, [alias, deleted], NOW)

    with database.read() as transaction:
        emails = ["r1@shop.example", "r2@shop.example"]
        assert remote.by_emails(transaction, OF, emails) == {}
        assert remote.ours(transaction, OF, [7, 8]) == {8: deleted}


def test_learning_adds_and_forgets_nothing(database: Database) -> None:
    """What an answer does not show stays as it was, our link above all."""
    known = a_snapshot(unsure=True)
    shown = RemoteContact(
        "r1", "New@Shop.example", {"city": "Durham"}, "", {"2": "pending"}
    )
    with database.write() as transaction:
        remote.save(transaction, OF, [known], NOW)

        remote.learn(
            transaction, OF, [shown, RemoteContact("r5", "eve@shop.example")], NOW
        )

    with database.read() as transaction:
        found = remote.by_ids(transaction, OF, ["r1", "r5"])
    assert found["r1"] == replace(
        known,
        email="new@shop.example",
        values={"name": "Ana", "city": "Durham"},
        segments={"1": "normal", "2": "pending"},
    )
    assert found["r5"] == replace(Snapshot.unknown("r5"), email="eve@shop.example")


def test_an_opt_out_or_a_deletion_is_not_learned_by_reading(
    database: Database,
) -> None:
    """They count with their suppression; of nobody of ours, all is as it is shown."""
    ana = a_snapshot(segments={"1": "normal", "2": "unsubscribed", "3": "normal"})
    joe = a_snapshot("r2", 8, status="deleted")
    with database.write() as transaction:
        remote.save(transaction, OF, [ana, joe, a_snapshot("r3", 0)], NOW)
        memberships: dict[str, Membership] = {
            "1": "unsubscribed",
            "2": "unsubscribed",
            "4": "pending",
        }

        remote.learn(
            transaction,
            OF,
            [
                RemoteContact("r1", status="deleted", segments=memberships),
                RemoteContact("r2", status="normal"),
                RemoteContact("r3", status="deleted"),
            ],
            NOW,
        )

        found = remote.by_ids(transaction, OF, ["r1", "r2", "r3"])
        remote.learn(transaction, OF, [RemoteContact("r2", status="deleted")], NOW)
        again = remote.by_ids(transaction, OF, ["r2"])["r2"]
    assert again.status == "returned"
    assert found["r1"] == replace(
        ana, segments={"2": "unsubscribed", "3": "normal", "4": "pending"}
    )
    assert (found["r2"].status, found["r3"].status) == ("returned", "deleted")
    assert found["r2"].shown().status == ""


def test_unsure_marks_only_those_named(database: Database) -> None:
    """The others are believed as before; saving makes sure again."""
    ana, joe = a_snapshot(), a_snapshot("r2", 8)
    with database.write() as transaction:
        remote.save(transaction, OF, [ana, joe], NOW)

        remote.mark_unsure(transaction, OF, [7, 99])

    with database.read() as transaction:
        found = remote.ours(transaction, OF, [7, 8])
    assert (found[7].unsure, found[8].unsure) == (True, False)
    with database.write() as transaction:
        remote.save(transaction, OF, [ana], NOW)
        assert remote.ours(transaction, OF, [7]) == {7: ana}


@pytest.fixture
def shared(postgres_url: str) -> Iterator[Database]:
    """A database with several writers, where one remote contact is known."""
    opened = Database(postgres_url)
    with opened.write() as transaction:
        remote.save(transaction, OF, [a_snapshot()], NOW)
    yield opened
    opened.close()


def learn(transaction: Connection) -> None:
    """Learn what a read of two remote contacts shows."""
    shown = [
        RemoteContact(one, f"{one}@shop.example", {"city": "Durham"}, "normal")
        for one in ("r1", "r2")
    ]
    remote.learn(transaction, OF, shown, NOW)


def doubt(transaction: Connection) -> None:
    """Doubt what was sent to the contact's second segment."""
    remote.doubt(transaction, OF, [(7, "2")], NOW)


@pytest.mark.postgres
@pytest.mark.parametrize("change", [learn, doubt])
def test_what_is_noted_while_others_read_stays(
    shared: Database, blocked: Blocked, change: Callable[[Connection], None]
) -> None:
    """An opt-out noted or a link made meanwhile is not undone by what they save."""
    with shared.write() as first:
        remote.by_ids(first, OF, ["r1"], hold=True)
        noted = a_snapshot(segments={"1": "unsubscribed"}, map_version="map 2")
        remote.save(first, OF, [noted], NOW)
        thread = blocked(shared, lambda: shared.run(change))
    thread.join()

    with shared.read() as transaction:
        found = remote.by_ids(transaction, OF, ["r1"])["r1"]
    assert (found.segments, found.map_version) == ({"1": "unsubscribed"}, "map 2")
    assert (found.unsure, found.values.get("city")) == (
        (False, "Durham") if change is learn else (True, None)
    )


@pytest.mark.postgres
def test_link_made_while_others_find_somebody_new_stays(
    shared: Database, blocked: Blocked
) -> None:
    """What two transactions see for the first time is written by one, then added to."""
    linked = replace(
        remote.Snapshot.unknown("r2"), contact_id=8, segments={"1": "unsubscribed"}
    )
    with shared.write() as first:
        remote.save(first, OF, [linked], NOW)
        thread = blocked(shared, lambda: shared.run(learn))
    thread.join()

    with shared.read() as transaction:
        found = remote.by_ids(transaction, OF, ["r1", "r2"])
    assert (found["r2"].contact_id, found["r2"].segments) == (8, linked.segments)
    assert {one.values["city"] for one in found.values()} == {"Durham"}


texts = st.text(max_size=8)


@given(
    st.lists(
        st.builds(
            RemoteContact,
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["", "x@shop.example", "Y@shop.example"]),
            st.dictionaries(texts, texts, max_size=3),
            st.sampled_from(["", "normal", "bounced"]),
        ),
        max_size=6,
    )
)
def test_learning_twice_is_learning_once(records: list[RemoteContact]) -> None:
    """A page that is read again changes nothing; the latest record of an id wins."""
    database = Database("sqlite://")
    prepare_database(database)
    with database.write() as transaction:
        remote.learn(transaction, OF, records, NOW)
        once = remote.by_ids(transaction, OF, ["a", "b", "c"])

        remote.learn(transaction, OF, records, NOW)

        assert remote.by_ids(transaction, OF, ["a", "b", "c"]) == once
    latest = {record.remote_id: record for record in records}
    assert {key: one.values for key, one in once.items()} == {
        key: dict(record.fields) for key, record in latest.items()
    }
    database.close()
