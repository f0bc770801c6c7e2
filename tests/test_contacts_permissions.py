"""Opt-outs and consents in files: the no counts, and a yes only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from sqlalchemy import select

from onward import Account, Api, Integration, Outcome, RemoteField, RemoteSegment
from onward.contacts.importing import ImportSummary, import_contacts
from onward.models import Consent, table
from onward.testing.app import TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

consents = table(Consent)

CONFIG = """
[connections.acme]
integration = "acme"
"""


class Acme(Integration):
    """A service nobody calls here."""

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


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> TestApp:
    """An app on each kind of database."""
    return make_app(CONFIG, integrations=[Acme], database_url=database_url)


Take = Callable[..., ImportSummary]


@pytest.fixture
def take(app: TestApp, tmp_path: Path) -> Take:
    """Write a file and import it."""

    def write_and_import(
        content: str, name: str = "contacts.csv", **options: Any
    ) -> ImportSummary:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return import_contacts(app.runtime, path, **options)

    return write_and_import


def rows(app: TestApp, statement: Any) -> list[Any]:
    """Return what a query finds."""
    with app.runtime.database.read() as transaction:
        return list(transaction.execute(statement).all())


def counts(summary: ImportSummary) -> dict[str, int]:
    """Return the counts that are not zero."""
    return {name: number for name, number in summary.counts.items() if number}


def stops(app: TestApp) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return who is suppressed, with code and words."""
    return [
        (row["email"], [(one["code"], one["reason"]) for one in row["suppressions"]])
        for row in app.contacts()
        if row["suppressions"]
    ]


def test_opt_outs_hold_everywhere_and_say_where_they_are_from(
    app: TestApp, take: Take
) -> None:
    """An opt-out is stored for the address, in words, and stops a push."""
    summary = take(
        "email,do not contact\n"
        "ana@shop.example,unsubscribed\n"
        "ana@shop.example,bounced\n"
        "ben@shop.example,\n"
        "carl@shop.example,perhaps\n"
    )

    assert counts(summary) == {
        "taken": 3,
        "created": 2,
        "unchanged": 1,
        "refused": 1,
    }
    assert stops(app) == [
        (
            "ana@shop.example",
            [
                (
                    "unsubscribed",
                    "unsubscribed, according to contacts.csv, seen 2026-03-04",
                ),
                (
                    "bounced",
                    "the address bounced, according to contacts.csv, seen 2026-03-04",
                ),
            ],
        )
    ]
    app.push(to="acme", emails=["ana@shop.example", "ben@shop.example"])
    app.deliver()
    assert [(row["state"], row["code"]) for row in app.deliveries()] == [
        ("skipped", "suppressed"),
        ("delivered", "delivered"),
    ]


def test_consent_counts_only_where_it_was_mapped(app: TestApp, take: Take) -> None:
    """A column that is called consent lifts nothing; one mapped to it does, once."""
    app.suppress("ana@shop.example")
    content = "email,consent\nana@shop.example,web form\n"

    unmapped = take(content)
    assert len(stops(app)) == 1
    assert "taken only when this column is mapped" in unmapped.ignored["consent"]

    mapped = {"consent": "consent"}
    assert counts(take(content, mapping=mapped)) == {"taken": 1, "changed": 1}
    assert stops(app) == []
    assert [(row.how, row.who) for row in rows(app, select(consents))] == [
        ("web form", "import contacts.csv")
    ]

    # The same file again is no new consent, so it lifts no later opt-out.
    app.clock.tick(timedelta(days=1))
    app.suppress("ana@shop.example")
    assert counts(take(content, mapping=mapped)) == {"taken": 1, "unchanged": 1}
    assert len(stops(app)) == 1

    other = content.replace("web form", "on the phone")
    take(other, mapping=mapped)
    assert stops(app) == []


def test_an_opt_out_wins_over_a_consent_on_its_line(app: TestApp, take: Take) -> None:
    """Of two words on one line the no counts; on two lines the later one does."""
    take(
        "email,do not contact,ok\n"
        "ana@shop.example,yes,form\n"
        "ben@shop.example,yes,\n"
        "ben@shop.example,,form\n"
        "carl@shop.example,,form\n"
        "carl@shop.example,yes,\n",
        mapping={"ok": "consent"},
    )

    assert [email for email, _ in stops(app)] == [
        "ana@shop.example",
        "carl@shop.example",
    ]
