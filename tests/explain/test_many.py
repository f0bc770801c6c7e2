"""Statements about hundreds of contacts at once look at those alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection as Transaction
from sqlalchemy import insert, text

from onward.contacts.addresses import read_pepper
from onward.contacts.elsewhere import ask_facts
from onward.contacts.suppress import find_suppressions
from onward.database import Database
from onward.models import Connection, table
from onward.testing.app import START

from .conftest import Statements, walks_on_postgres, walks_on_sqlite
from .rows import BIG, FIRST, count, fill

IDS = range(FIRST, FIRST + 500)


def connect(database: Database) -> None:
    """Have the connections that the rows are of."""
    made = [
        {"id": id_, "name": name, "integration": "x", "created_at": START}
        for id_, name in enumerate(("acme", "b", "c"), 1)
    ]
    with database.write() as transaction:
        transaction.execute(insert(table(Connection)), made)


def suppressions(transaction: Transaction) -> None:
    """Read who must not be pushed, and why."""
    find_suppressions(transaction, {id_: [f"p{id_}@shop.example"] for id_ in IDS})


def facts(transaction: Transaction) -> None:
    """Read what conditions can ask for."""
    asked = {"tags", "segments", "suppressions", "connections", "acme.segments"}
    ask_facts(transaction, list(IDS), frozenset(asked))


@pytest.mark.parametrize("read", [suppressions, facts])
def test_hundreds_are_found_by_an_index(
    statements: Statements, database: Database, read: Callable[[Transaction], None]
) -> None:
    """SQLite without statistics would rather go through all addresses there are."""
    fill(database)
    database.run(read_pepper)
    connect(database)
    database.close()
    with database.read() as transaction:
        statements.listening = True
        read(transaction)
        statements.listening = False
        assert len(statements.found) > 3
        assert walks(transaction, database, statements) == []
    count(database)
    with database.read() as transaction:
        assert walks(transaction, database, statements) == []


def walks(
    transaction: Transaction, database: Database, statements: Statements
) -> list[str]:
    """Return what goes through all of a big table."""
    big = [table(model).name for model in BIG]
    if not database.is_sqlite:
        # Its tables are small enough to be read whole; there is no other reason.
        transaction.execute(text("SET LOCAL enable_seqscan = off"))
    ask = walks_on_sqlite if database.is_sqlite else walks_on_postgres
    raw = transaction.connection.driver_connection
    return [
        f"{line}\n    {said}"
        for said, parameters in statements.found.values()
        for line in ask(raw, said, parameters, big)
    ]
