"""An address is found in stored requests, however it is written there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, select

from onward.contacts.traces import MARK, Person, clean_traces
from onward.models import Attempt, ImportReport, Memory, table
from onward.testing.app import START, TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

attempts = table(Attempt)
reports = table(ImportReport)


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> TestApp:
    """An app on each kind of database."""
    return make_app(database_url=database_url)


def rows(app: TestApp, statement: Any) -> list[Any]:
    """Return what a query finds."""
    with app.runtime.database.read() as transaction:
        return list(transaction.execute(statement).all())


@pytest.mark.parametrize(
    "body",
    [
        '{"email": "jörg.o\'neil+x@shop.example"}',
        '{"email": "j\\u00f6rg.o\'neil+x@shop.example"}',
        "email=j%C3%B6rg.o%27neil%2Bx%40shop.example&city=Ulm",
        "email=j%c3%b6rg.o%27neil%2bx%40shop.example",
        "<td>JÖRG.O&#x27;NEIL+X@SHOP.EXAMPLE</td>",
    ],
)
def test_an_address_is_found_however_it_is_spelled(app: TestApp, body: str) -> None:
    """In JSON, forms, URLs and HTML, in any case, the body that holds it goes."""
    row = {"connection_id": 1, "started_at": START, "error": ""}
    other = {"url": "y", "request": "jorg.oneil@shop.example", "answer": "ok"}
    with app.runtime.database.write() as transaction:
        transaction.execute(
            insert(attempts),
            [
                {**row, "exchanges": [{"url": "x", "request": "", "answer": body}]},
                {**row, "exchanges": [other]},
            ],
        )
        transaction.execute(
            insert(table(Memory)),
            [
                {
                    "connection_id": 1,
                    "name": "a",
                    "value": ["jörg.o'neil+x@shop.example"],
                },
                {"connection_id": 1, "name": "b", "value": ["ben@shop.example"]},
            ],
        )

    cleaned = clean_traces(app.runtime, Person(("jörg.o'neil+x@shop.example",)))

    found = rows(app, select(attempts.c.exchanges).order_by(attempts.c.id))
    assert [kept for (kept,) in found] == [
        [{"url": "x", "request": "", "answer": MARK}],
        [other],
    ]
    assert cleaned == 2
    assert [row.name for row in rows(app, select(table(Memory)))] == ["b"]


def test_remote_numbers_count_only_where_the_person_was_sent(app: TestApp) -> None:
    """A number is blanked in the person's own attempts, whole, and nowhere else."""
    row = {"connection_id": 1, "started_at": START, "error": ""}
    bodies = ('{"id":"47"}', '{"id":"471"}')
    seen = [{"url": "people/1", "request": "", "answer": body} for body in bodies]
    with app.runtime.database.write() as transaction:
        transaction.execute(
            insert(attempts),
            [{**row, "exchanges": seen}, {**row, "exchanges": seen}],
        )

    person = Person(("ana@shop.example",), ("47",), frozenset({1}))
    assert clean_traces(app.runtime, person) == 1
    assert clean_traces(app.runtime, person) == 0

    own, other = rows(app, select(attempts.c.exchanges).order_by(attempts.c.id))
    assert [one["answer"] for one in own[0]] == [MARK, bodies[1]]
    assert other[0] == seen


def test_refused_lines_of_the_person_leave_the_reports(app: TestApp) -> None:
    """A refused line that holds the address goes whole; its number stays."""
    kept = [7, "it has 2 cells", "ben@shop.example,Ben"]
    with app.runtime.database.write() as transaction:
        transaction.execute(
            insert(reports),
            {
                "source": "a.csv",
                "started_at": START,
                "counts": {},
                "problems": [[3, "it has 2 cells", "ANA@shop.example,Ana"], kept],
            },
        )

    assert clean_traces(app.runtime, Person(("ana@shop.example",))) == 1

    [found] = rows(app, select(reports.c.problems))
    assert found.problems == [[3, "it has 2 cells", MARK], kept]
