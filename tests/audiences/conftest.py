"""People of every kind, written down as imports, pulls and opt-outs leave them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from onward.config.model import AudienceConfig
from onward.contacts.suppress import add_suppression
from onward.filters import Filter
from onward.models import Connection, RemoteContactRow, RemoteSegmentRow, table
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

TOML = """
[connections.acme]
integration = "icontact"
[connections."shop.eu-1"]
integration = "icontact"
[contact_fields]
tier = "text"
"""
ACME, SHOP = "acme", "shop.eu-1"


def conditions(*rows: object) -> Filter:
    """Return a filter of these conditions."""
    return Filter.parse([list(row) for row in rows], source="test")  # type: ignore[call-overload]


def audience(key: str, *rows: object) -> AudienceConfig:
    """Return an audience as the file declares one."""
    return AudienceConfig(key, key, conditions(*rows))


class People:
    """An app, and what may be known of the people in it.

    Args:
        again: another app had this database before.
    """

    def __init__(self, app: TestApp, *, again: bool = False) -> None:
        self.app = app
        self.runtime = app.runtime
        with self.runtime.database.read() as transaction:
            rows = transaction.execute(
                table(Connection).select().order_by(table(Connection).c.id)
            )
            self.connections = {row.name: row.id for row in rows}
        self._seen = 0
        if again:
            return
        self.write(
            RemoteSegmentRow,
            connection_id=self.connections[ACME],
            id="1",
            name="News",
            seen_at=START,
        )

    def write(self, model: type[Any], **values: object) -> None:
        """Write one row."""
        with self.runtime.database.write() as transaction:
            transaction.execute(insert(table(model)), values)

    def add(self, email: str = "", **values: Any) -> int:
        """Make a contact, a visitor without `email`; return its number."""
        self._seen += 1
        who: dict[str, Any] = {"identities": {"visitor": f"v{self._seen}"}}
        if email:
            who["email"] = email
        return self.app.upsert_contact({**who, **values}).contact_id

    def known(self, contact_id: int, connection: str = ACME, **values: Any) -> None:
        """Let a service have a contact."""
        self._seen += 1
        self.write(
            RemoteContactRow,
            **{
                "connection_id": self.connections[connection],
                "remote_id": str(self._seen),
                "contact_id": contact_id,
                "status": "normal",
                "seen_at": START,
                "first_seen_at": START,
                **values,
            },
        )

    def suppress(self, email: str, code: str, scope: str = "segment") -> None:
        """Note an opt-out that is known of an address."""
        with self.runtime.database.write() as transaction:
            add_suppression(
                transaction,
                contact_id=0,
                email=email,
                scope=scope,
                code=code,
                reason="",
                source="test",
                identity="acme",
                segment="1",
                now=START,
            )


def a_crowd(people: People) -> None:
    """Make some dozens of contacts, each different in what conditions can ask."""
    spellings = ("Hot", "hot", "HOT", "\u017fhop", "Shop", "İx", "Straße", "cold")
    clock, start = people.app.clock, people.app.clock.now
    for number in range(48):
        clock.now = start - timedelta(hours=5 * number)
        email = f"p{number}@shop.example" if number % 7 else ""
        given: dict[str, Any] = {"points": number % 9 * 10 - 19}
        if number % 3:
            given["tags"] = [spellings[number % 8], spellings[number // 8]]
        if number % 4 == 1:
            given["segments"] = ["Club" if number % 8 == 1 else "club"]
        if number % 5 == 2:
            given["tier"] = ("gold", "12", "true")[number % 3]
        of = people.add(email, **given)
        status = ("normal", "pending", "", "opted_out", "deleted", "bounced")
        if number % 2:
            people.known(
                of,
                status=status[number // 2 % 6],
                created_at=start - timedelta(hours=7 * number),
                differs=number % 3,
                segments={"1": "normal", "9": "unsubscribed"} if number % 4 else {},
                alias=number % 11 == 0,
            )
        if number % 6 == 0:
            people.known(of, SHOP, created_at=None, segments={"5": "pending"})
        if number % 13 == 1:
            people.known(of, status="deleted", differs=1)
        if number % 8 == 3:
            people.suppress(email, "unsubscribed")
        if number % 8 == 5:
            people.suppress(email, "do_not_contact", "address")
    clock.now = start
    merged = people.app
    merged.record_action("seen", email="p1@shop.example", identities={"visitor": "v15"})


@pytest.fixture
def people(make_app: MakeApp, database_url: str) -> People:
    """An app with two connections, and nobody in it."""
    return People(make_app(TOML, database_url=database_url))
