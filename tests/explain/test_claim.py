"""How many rows PostgreSQL looks at to claim a few, before it has counted any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert

from onward.database import Database
from onward.delivery.claiming import claim
from onward.delivery.queue import BACKFILL
from onward.models import Push, table

from .conftest import Statements

NOW = datetime(2026, 3, 4, 9, tzinfo=UTC)


def looked_at(plan: Mapping[str, Any]) -> Iterator[int]:
    """Yield how many rows each part of a plan that was run came across."""
    seen = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    yield round(seen * plan["Actual Loops"])
    for inner in plan.get("Plans", ()):
        yield from looked_at(inner)


@pytest.mark.parametrize("counted", [False, True])
def test_a_claim_looks_at_the_rows_it_takes(
    statements: Statements, postgres_url: str, counted: bool
) -> None:
    """Never at all that wait, with statistics or without."""
    database = Database(postgres_url)
    waiting = {
        "connection_id": 1,
        "segment": "1",
        "state": "waiting",
        "due_at": NOW,
        "created_at": NOW,
    }
    with database.write() as transaction:
        transaction.execute(
            insert(table(Push)),
            [{**waiting, "contact_id": number} for number in range(1, 3_001)],
        )
    if counted:
        with database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("ANALYZE push")
    statements.listening = True
    with database.write() as transaction:
        assert len(claim(transaction, 1, "1", 7, NOW, 100, BACKFILL)) == 100
        statements.listening = False
        [(said, parameters)] = [
            found for said, found in statements.found.items() if "UPDATE push" in said
        ]
        raw: Any = transaction.connection.driver_connection
        explained = raw.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {said}", parameters)
        [[[plan]]] = explained.fetchall()

    assert max(looked_at(plan["Plan"])) <= 100
    database.close()
