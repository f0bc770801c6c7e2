"""What an older release left behind is all there after the upgrade, and goes on.

`tests/fixtures/STEP.sql` holds the rows of a database at that step: every table,
work that waits, a worker that was killed. Each is upgraded through all later steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, select, text
from sqlmodel import SQLModel

from onward.copying.rows import number_on
from onward.database import Database
from onward.delivery.listing import Wanted, list_deliveries, show_delivery
from onward.migrate import SCRIPTS, upgrade
from onward.models import Connection as ConnectionRow
from onward.models import Contact, Lease, Limiter, RemoteContactRow, table
from onward.why import explain

if TYPE_CHECKING:
    from tests.conftest import MakeApp, PostgresServer
    from tests.delivery.conftest import Acme, Service

FIXTURES = Path(__file__).parents[1] / "fixtures"
STEPS = sorted(path.stem for path in FIXTURES.glob("0*.sql"))
CONFIG = """
[connections.acme]
integration = "acme"
segment = "News"
[[rules]]
key = "forms"
when = "form.sent"
push_to = ["acme"]
points = 10
[[rules]]
key = "once"
when = "seen"
repeat = "once"
push_to = ["acme"]
[[point_triggers]]
key = "hot"
points = 20
push_to = ["acme"]
"""
NEW: tuple[tuple[type[SQLModel], tuple[str, ...]], ...] = (
    (ConnectionRow, ("rest_code", "rest_why")),
    (Lease, ("holder",)),
    (Limiter, ("used", "since", "speed", "changed")),
    (RemoteContactRow, ("differs", "pulled", "created_at")),
)
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/onward.db")
        yield database
        database.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create()
    database = Database(server.url(name))
    yield database
    database.close()
    server.drop(name)


def restore(database: Database, step: str) -> None:
    """Make the database that a release left at a step."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with database.write() as transaction:
        config.attributes["connection"] = transaction
        command.upgrade(config, step)
        if not database.is_sqlite:
            transaction.execute(text("SET LOCAL TIME ZONE 'UTC'"))
        cursor = transaction.connection.cursor()
        for line in (FIXTURES / f"{step}.sql").read_text("utf-8").splitlines():
            if line.startswith("INSERT"):
                cursor.execute(line)
        cursor.close()
        if not database.is_sqlite:
            for one in Contact.metadata.sorted_tables:
                if f'INTO "{one.name}" ("id"' in (FIXTURES / f"{step}.sql").read_text():
                    number_on(transaction, one)


def kept(database: Database) -> Rows:
    """Every row of every table, by the columns there are."""
    found = MetaData()
    with database.read() as transaction:
        found.reflect(transaction)
        return {
            one.name: [
                dict(row)
                for row in transaction.execute(
                    select(one).order_by(*one.primary_key)
                ).mappings()
            ]
            for one in found.sorted_tables
            if one.name not in ("alembic_version", "schema_step")
        }


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_lost_by_an_upgrade(empty: Database, step: str) -> None:
    """Each value of each row of each table is there; what is new has its default."""
    restore(empty, step)
    before = kept(empty)
    assert min(map(len, before.values())) > 0

    assert upgrade(empty) is True

    after = kept(empty)
    same = {
        name: [
            {column: row[column] for column in old}
            for row, old in zip(after[name], rows, strict=True)
        ]
        for name, rows in before.items()
    }
    assert same == before
    with empty.read() as transaction:
        fresh = {
            model.__name__: [
                tuple(row)
                for row in transaction.execute(
                    select(*(table(model).c[name] for name in names)).distinct()
                )
            ]
            for model, names in NEW
        }
    assert fresh == {
        "Connection": [("", "")],
        "Lease": [("",)],
        "Limiter": [(0, 0.0, 1.0, 0.0)],
        "RemoteContactRow": [(0, "", None)],
    }


@pytest.mark.parametrize("step", STEPS)
def test_what_waited_is_delivered_after_an_upgrade(
    empty: Database, step: str, make_app: MakeApp, service: Service, acme: type[Acme]
) -> None:
    """A whole delivery, listings and `why` work on what the older release left."""
    restore(empty, step)
    upgrade(empty)
    # It arrived; the worker was killed before it knew.
    service.people["dee@shop.example"] = {"email": "dee@shop.example"}
    service.on["1"] = {"dee@shop.example"}
    app = make_app(CONFIG, fake=service, integrations=[acme], database_url=empty.url)

    assert len(app.queued) == 5
    app.deliver()

    sent = [email for batch in service.pushes for email in batch]
    assert sorted(sent) == ["bea@shop.example", "eve@shop.example"]
    by_state: dict[str, list[str]] = {}
    with app.runtime.database.read() as transaction:
        for row in list_deliveries(transaction, Wanted()):
            who = (row["email"] or "nobody").partition("@")[0]
            by_state.setdefault(row["state"], []).append(who)
            assert show_delivery(transaction, row["id"]).causes
    assert by_state == {
        "delivered": ["bea", "ana", "bea", "dee", "eve"],
        "cancelled": ["nobody"],
        "waiting": ["nobody"],
        "skipped": ["cy"],
    }
    told = "\n".join(explain(app.runtime, "cy@shop.example").lines())
    assert "suppressed" in told
    again = app.record_action("form.sent", email="dee@shop.example", key="k2")
    assert again.repeated
    seen = app.record_action("seen", email="ana@shop.example")
    assert (seen.pushes, seen.event_id) == ((), 19)
