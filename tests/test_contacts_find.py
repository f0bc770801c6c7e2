"""Who some identities are: found, created, identified, told apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from onward.contacts.find import Finder, Found
from onward.database import Database
from onward.errors import Repeat
from onward.merge import merge_contacts
from onward.models import Contact, Identity, Push, table
from onward.testing.app import START

if TYPE_CHECKING:
    from tests.conftest import AtOnce

contacts = table(Contact)
identities = table(Identity)
pushes = table(Push)


def find(database: Database, *wanted: dict[str, str]) -> list[Found]:
    """Find them in one transaction, as recording an action does."""

    def work(transaction: Any) -> list[Found]:
        def merge(survivor: int, loser: int) -> None:
            merge_contacts(transaction, survivor, loser, START)

        return Finder(transaction, START, merge).find_all(wanted)

    return database.run(work)


def ids(found: list[Found]) -> list[int]:
    """Return who they are."""
    return [one.contact_id for one in found]


def emails(database: Database) -> dict[int, str | None]:
    """Return contact id → address, of those that were not merged."""
    with database.read() as transaction:
        living = contacts.c.merged_into.is_(None)
        rows = transaction.execute(select(contacts).where(living))
        return {row.id: row.email for row in rows}


def owners(database: Database) -> dict[tuple[str, str], int]:
    """Return every identity and whose it is."""
    with database.read() as transaction:
        rows = transaction.execute(select(identities))
        return {(row.kind, row.value): row.contact_id for row in rows}


def test_a_new_address_makes_a_contact_and_is_found_again(database: Database) -> None:
    """An address that nobody has makes a contact, and finds it from then on."""
    [new] = find(database, {"email": "ana@shop.example"})
    [again] = find(database, {"email": "ana@shop.example"})

    assert (new.created, again.created) == (True, False)
    assert again.contact_id == new.contact_id
    assert emails(database) == {new.contact_id: "ana@shop.example"}


def test_the_same_person_twice_in_a_batch_is_created_once(database: Database) -> None:
    """Entries that share an identity are one contact, created by the first."""
    found = find(
        database,
        {"email": "ana@shop.example"},
        {"email": "ben@shop.example", "user": "7"},
        {"email": "ana@shop.example", "visitor": "v1"},
        {"user": "7"},
        {"visitor": "v1"},
    )

    ana, ben = found[0].contact_id, found[1].contact_id
    assert ids(found) == [ana, ben, ana, ben, ana]
    assert [one.created for one in found] == [True, True, False, False, False]


def test_a_visitor_gets_the_address_it_gives(database: Database) -> None:
    """A visitor that gives a new address becomes that person, and stays itself."""
    [visitor] = find(database, {"visitor": "v1"})
    [person] = find(database, {"visitor": "v1", "email": "ana@shop.example"})

    assert person.contact_id == visitor.contact_id
    assert person.identified
    assert emails(database) == {visitor.contact_id: "ana@shop.example"}


def test_a_visitor_that_is_somebody_known_is_merged(database: Database) -> None:
    """A visitor that gives a known address is merged into who has it."""
    [ana] = find(database, {"email": "ana@shop.example"})
    find(database, {"visitor": "v1"})
    [found] = find(database, {"visitor": "v1", "email": "ana@shop.example"})

    assert found.contact_id == ana.contact_id
    assert owners(database) == {
        ("email", "ana@shop.example"): ana.contact_id,
        ("visitor", "v1"): ana.contact_id,
    }
    assert emails(database) == {ana.contact_id: "ana@shop.example"}


def test_two_people_on_one_browser_stay_two(database: Database) -> None:
    """A browser that shows another address moves on; nobody is merged by it."""
    [ana] = find(database, {"visitor": "v1", "email": "ana@shop.example"})
    [ben] = find(database, {"visitor": "v1", "email": "ben@shop.example"})
    [last] = find(database, {"visitor": "v1"})
    [back] = find(database, {"visitor": "v1", "email": "ana@shop.example"})

    assert ben.contact_id != ana.contact_id
    assert last.contact_id == ben.contact_id
    assert back.contact_id == ana.contact_id
    assert emails(database) == {
        ana.contact_id: "ana@shop.example",
        ben.contact_id: "ben@shop.example",
    }


def test_another_user_on_the_same_browser_is_another_person(
    database: Database,
) -> None:
    """A user id that is new on the browser of another user makes a contact."""
    [first] = find(database, {"visitor": "v1", "user": "1"})
    [second] = find(database, {"visitor": "v1", "user": "2"})

    assert second.contact_id != first.contact_id
    assert owners(database)["visitor", "v1"] == second.contact_id


def test_a_user_without_address_is_not_merged_into_another_user(
    database: Database,
) -> None:
    """A browser does not make one of two people with a user id each."""
    [first] = find(database, {"visitor": "v1", "user": "1"})
    [ana] = find(database, {"email": "ana@shop.example", "user": "2"})
    [found] = find(database, {"email": "ana@shop.example", "visitor": "v1"})

    assert found.contact_id == ana.contact_id
    assert owners(database)["user", "1"] == first.contact_id


def test_a_user_with_a_new_address_moved_house(database: Database) -> None:
    """A user id with a new address changes the address; the old one finds them."""
    [ana] = find(database, {"user": "7", "email": "ana@old.example"})
    [moved] = find(database, {"user": "7", "email": "ana@new.example"})
    [by_old] = find(database, {"email": "ana@old.example"})

    assert ids([moved, by_old]) == [ana.contact_id, ana.contact_id]
    assert not moved.identified
    assert emails(database) == {ana.contact_id: "ana@new.example"}


@pytest.mark.parametrize("kind", ["user", "mautic"])
def test_a_name_of_one_with_the_address_of_another_makes_them_one(
    database: Database, kind: str
) -> None:
    """Whoever has a name and uses another's address is one person with them."""
    [old] = find(database, {kind: "7", "email": "ana@old.example"})
    [ana] = find(database, {"email": "ana@new.example"})
    [found] = find(database, {kind: "7", "email": "ana@new.example"})

    assert found.contact_id == ana.contact_id
    assert set(owners(database).values()) == {ana.contact_id}
    assert emails(database) == {ana.contact_id: "ana@new.example"}
    assert old.contact_id != ana.contact_id


def test_an_answer_given_before_a_merge_names_the_survivor(
    database: Database,
) -> None:
    """Entries of one batch that turn out to be one person get one answer."""
    [ana] = find(database, {"email": "ana@shop.example"})
    find(database, {"visitor": "v1"})
    found = find(
        database,
        {"visitor": "v1"},
        {"visitor": "v2"},
        {"email": "ana@shop.example", "visitor": "v1"},
        {"email": "ana@shop.example", "visitor": "v2"},
    )

    assert ids(found) == [ana.contact_id] * 4
    assert [one.created for one in found] == [False] * 4


def test_a_chain_of_merges_ends_at_the_living_one(database: Database) -> None:
    """Contacts merged one into the next are all found as the last."""
    find(database, {"user": "1", "email": "a@shop.example"})
    find(database, {"user": "2", "email": "b@shop.example"})
    find(database, {"user": "3", "email": "c@shop.example"})
    [b] = find(database, {"user": "1", "email": "b@shop.example"})
    [c] = find(database, {"user": "2", "email": "c@shop.example"})

    assert b.contact_id != c.contact_id
    assert set(owners(database).values()) == {c.contact_id}
    with database.read() as transaction:
        merged = transaction.execute(select(contacts.c.merged_into)).scalars().all()
    assert sorted(merged, key=str) == [c.contact_id, c.contact_id, None]


@pytest.mark.slow
def test_more_entries_than_a_statement_takes_parameters(sqlite_url: str) -> None:
    """More identities than SQLite takes parameters are found in one transaction."""
    database = Database(sqlite_url)
    wanted = [{"email": f"p{number}@shop.example"} for number in range(33_000)]

    created = find(database, *wanted)
    again = find(database, *wanted)

    assert ids(again) == ids(created)
    database.close()


CREATE = """
found = set()
for place in range(30):
    result = app.record_actions([
        {"action": "seen", "email": f"p{place % 20}@shop.example",
         "identities": {"user": str(place % 20)}},
        {"action": "seen", "identities": {"visitor": f"v{(place * 7 + number) % 20}"},
         "email": f"p{(place * 7 + number) % 20}@shop.example"},
    ])
    found.update(one.contact_id for one in result)
result = sorted(found)
"""


def test_processes_that_create_the_same_contacts_at_once_agree(
    database_url: str, tmp_path: Path, at_once: AtOnce
) -> None:
    """Three processes that name the same people at the same time make each once."""
    (tmp_path / "onward.toml").write_text(f'[onward]\ndatabase_url = "{database_url}"')

    found = at_once([CREATE] * 3)

    database = Database(database_url)
    assert len(emails(database)) == 20
    assert sorted(set().union(*found)) == sorted(emails(database))
    assert len(owners(database)) == 60
    database.close()


@pytest.mark.postgres
def test_a_contact_merged_while_we_waited_for_it_is_looked_up_again(
    postgres_url: str,
) -> None:
    """Whoever waited for a lock and got a merged contact does it all again."""
    database = Database(postgres_url)
    find(database, {"user": "7", "email": "ana@old.example"})
    find(database, {"email": "ana@new.example"})

    class Late(Finder):
        """Reads who they are, and is overtaken before it has the lock."""

        def _look_up(self, by_kind: Any) -> Any:
            known = super()._look_up(by_kind)
            if not self.emails:
                self.emails[0] = None
                find(database, {"user": "7", "email": "ana@new.example"})
            return known

    with pytest.raises(Repeat), database.write() as transaction:
        Late(transaction, START, lambda survivor, loser: None).find_all([{"user": "7"}])

    [again] = find(database, {"user": "7"})
    assert emails(database) == {again.contact_id: "ana@new.example"}
    database.close()


WHO = st.dictionaries(
    st.sampled_from(["email", "user", "visitor", "crm"]),
    st.sampled_from(["1", "2", "3"]),
    min_size=1,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(WHO, min_size=1, max_size=4), max_size=8))
def test_every_identity_leads_to_a_living_contact(
    batches: list[list[dict[str, str]]],
) -> None:
    """After any naming of people, all that was named together is found alive."""
    database = Database("sqlite://")
    from onward.migrate import prepare_database

    prepare_database(database)
    named: set[tuple[str, str]] = set()
    for batch in batches:
        found = find(database, *batch)
        named.update(key for entry in batch for key in entry.items())

        living = emails(database)
        assert len(found) == len(batch)
        assert {one.contact_id for one in found} <= set(living)
        for one, entry in zip(found, batch, strict=True):
            if "email" in entry:
                by_email = owners(database)["email", entry["email"]]
                assert one.contact_id == by_email

    assert set(owners(database)) == named
    assert set(owners(database).values()) <= set(emails(database))
    with database.read() as transaction:
        count = transaction.execute(select(func.count(contacts.c.id))).scalar_one()
        with_address = {
            row.contact_id: True
            for row in transaction.execute(
                select(identities).where(identities.c.kind == "email")
            )
        }
    assert count >= len(emails(database))
    # The address a contact goes by is one of its own.
    for contact_id, email in emails(database).items():
        assert (email is not None) == (contact_id in with_address)
        if email is not None:
            assert owners(database)["email", email] == contact_id
    database.close()
