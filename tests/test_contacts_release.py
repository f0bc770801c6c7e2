"""Rows that wait until a visitor has an address: none of them is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from onward import (
    Account,
    Api,
    Draft,
    Integration,
    Outcome,
    RemoteField,
    RemoteSegment,
    hookimpl,
)
from onward.contacts.find import Finder
from onward.contacts.release import release
from onward.database import Database
from onward.models import Push, table
from onward.plugins import add_plugin
from onward.testing.app import START

if TYPE_CHECKING:
    from tests.conftest import MakeApp

pushes = table(Push)


def find(database: Database, who: dict[str, str]) -> int:
    """Return whose identities these are, made where they are new."""

    def work(transaction: Any) -> int:
        finder = Finder(transaction, START, lambda survivor, loser: None)
        [found] = finder.find_all([who])
        return found.contact_id

    return database.run(work)


def waiting(database: Database, contact_id: int) -> int:
    """Put a row there that waits for an address; return its id."""
    row = {
        "connection_id": 1,
        "contact_id": contact_id,
        "segment": "",
        "state": "waiting",
        "due_at": None,
        "created_at": START,
        **dict.fromkeys(("code", "reason", "map_version", "remote_id", "job"), ""),
        **dict.fromkeys(("priority", "tries", "fence"), 0),
        **dict.fromkeys(("again", "force"), False),
    }
    with database.write() as transaction:
        return int(
            transaction.execute(
                pushes.insert().returning(pushes.c.id), row
            ).scalar_one()
        )


def test_rows_that_wait_for_an_address_go_when_it_comes(database: Database) -> None:
    """A visitor's waiting row is due from the moment of its identification."""
    visitor = find(database, {"visitor": "v1"})
    other = find(database, {"visitor": "v2"})
    row, others = (
        waiting(database, visitor),
        waiting(database, other),
    )

    find(database, {"visitor": "v1", "email": "ana@shop.example"})

    with database.read() as transaction:
        due = transaction.execute(select(pushes.c.id, pushes.c.due_at)).all()
    assert dict(map(tuple, due)) == {row: START, others: None}


def test_a_row_put_back_after_the_identification_is_not_forgotten(
    database: Database,
) -> None:
    """A row that was put back too late is released; a visitor's stays."""
    ana = find(database, {"email": "ana@shop.example"})
    visitor = find(database, {"visitor": "v1"})
    late = waiting(database, ana)
    rightly = waiting(database, visitor)

    later = START + timedelta(minutes=1)
    with database.write() as transaction:
        release(transaction, [ana, visitor], later)

    with database.read() as transaction:
        due = transaction.execute(select(pushes.c.id, pushes.c.due_at)).all()
    assert dict(map(tuple, due)) == {late: later, rightly: None}


class Acme(Integration):
    """A service that takes everything."""

    key, title = "acme", "Acme Mail"
    hosts = ("api.acme.example",)
    default_map: ClassVar = {"email": "email"}

    def verify(self, api: Api) -> Account:
        """Know the account."""
        return Account("acme/1", "acme/1", "Acme")

    def fields(self, api: Api, segment: RemoteSegment | None) -> list[RemoteField]:
        """Have one field."""
        return [RemoteField("email", required=True)]

    def push(
        self, api: Api, batch: Any, segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Take everything."""
        for item in batch:
            yield item.delivered(f"r-{item.email}")


CONFIG = """
[connections.acme]
integration = "acme"

[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["acme"]
"""


def test_a_visitor_identified_while_a_worker_looks_at_it_is_delivered(
    make_app: MakeApp, database_url: str
) -> None:
    """Between looking at a visitor and putting it back nothing gets lost."""
    app = make_app(CONFIG, integrations=[Acme], database_url=database_url)
    app.record_action("form.submitted", identities={"visitor": "v1"})

    class Late:
        """Gives the visitor an address after the worker has read it."""

        @hookimpl
        def before_push(self, draft: Draft) -> None:
            """Identify it, once."""
            who = {"visitor": "v1"}
            if not draft.fields.get("email"):
                app.record_action("seen", email="ana@shop.example", identities=who)

    add_plugin(app.runtime.plugins, "late", "a test", Late())
    app.deliver()

    assert [(row["email"], row["state"]) for row in app.deliveries()] == [
        ("ana@shop.example", "delivered")
    ]
