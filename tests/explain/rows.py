"""A few thousand rows in every table, spread as those of a real installation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, text
from sqlmodel import SQLModel

from onward.database import Database
from onward.models import (
    Attempt,
    Cause,
    Claim,
    Consent,
    Contact,
    ContactSegment,
    ContactTag,
    Event,
    Hint,
    Identity,
    Ledger,
    OutcomeRow,
    Push,
    RemoteContactRow,
    Suppression,
    SyncPage,
    SyncRun,
    table,
)
from onward.testing.app import START

BIG = (
    Contact,
    Identity,
    Event,
    Ledger,
    Claim,
    Push,
    Cause,
    Attempt,
    OutcomeRow,
    RemoteContactRow,
    Suppression,
    Consent,
    ContactTag,
    ContactSegment,
    Hint,
    SyncRun,
    SyncPage,
)
MANY = 3_000
# What the journey left is below.
FIRST = 100_000
Row = dict[str, Any]


def fill(database: Database) -> None:
    """Write the rows."""
    made: dict[type[SQLModel], list[Row]] = {model: [] for model in BIG}
    for number in range(FIRST, FIRST + MANY):
        for model, row in _rows(number):
            made[model].append(row)
    with database.write() as transaction:
        for model, rows in made.items():
            transaction.execute(insert(table(model)), rows)


def count(database: Database) -> None:
    """Let the database know how many there are of what."""
    with database.engine.connect() as connection:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        alone.execute(text("ANALYZE"))


def _rows(number: int) -> Iterator[tuple[type[SQLModel], Row]]:
    at = START + timedelta(seconds=number)
    person = {"contact_id": number}
    email = f"p{number}@shop.example"
    merged = number - 1 if number % 50 == 49 else None
    yield (
        Contact,
        {
            "id": number,
            "email": None if merged or number % 10 == 0 else email,
            "points": number % 200,
            "created_at": at,
            "updated_at": at,
            "merged_into": merged,
        },
    )
    yield Identity, {**person, "kind": "email", "value": email}
    yield Identity, {**person, "kind": "visitor", "value": f"v{number}"}
    yield ContactTag, {**person, "tag": f"tag {number % 20}"}
    yield ContactSegment, {**person, "segment_id": number % 20}
    yield Claim, {**person, "key": f"rule:r{number % 20}", "at": at}
    yield Consent, {**person, "how": "form", "who": "web", "given_at": at}
    yield (
        Suppression,
        {
            **person,
            "address_hash": f"{number:064}",
            "scope": "segment",
            "code": "unsubscribed",
            "seen_at": at,
        },
    )
    yield (
        RemoteContactRow,
        {
            **person,
            "connection_id": 1 + number % 3,
            "remote_id": str(number),
            "email": email,
            "seen_at": at,
        },
    )
    for part in range(2):
        event_id = 2 * number + part
        yield (
            Event,
            {
                "id": event_id,
                "key": f"k{number}" if part else None,
                "action": "seen",
                "contact_id": number,
                "occurred_at": at,
                "created_at": at,
            },
        )
    pointed = {"remote_id": f"h{number}", "due_at": at, "created_at": at}
    yield Hint, {"connection_id": 1 + number % 3, **pointed}
    yield (
        SyncRun,
        {
            "id": number,
            "connection_id": 1 + number % 3,
            "state": "done",
            "started_at": at,
            "updated_at": at,
        },
    )
    yield SyncPage, {"run_id": number, "number": 0, "ids": [str(number)]}
    entry = {"delta": 1, "total": 1, "event_id": 2 * number, "at": at}
    yield Ledger, {**person, **entry}
    yield from _push(number, at)


def _push(number: int, at: Any) -> Iterator[tuple[type[SQLModel], Row]]:
    state = "waiting" if number % 10 == 0 else "delivered"
    later = {"waiting": {"due_at": at}}.get(state, {"finished_at": at})
    yield (
        Push,
        {
            "id": number,
            "connection_id": 1 + number % 3,
            "contact_id": number,
            "segment": "1",
            "state": state,
            "code": "" if state == "waiting" else f"code {number % 30}",
            "created_at": at,
            "due_at": None,
            "finished_at": None,
            **later,
        },
    )
    named = {"key": "forms", "event_id": 2 * number, "at": at}
    yield Cause, {"push_id": number, "kind": "rule", **named}
    sent = {"push_id": number, "attempt_id": number // 2, "at": at}
    yield OutcomeRow, {**sent, "kind": "delivered", "code": "delivered"}
    if not number % 2:
        of = {"id": number // 2, "connection_id": 1 + number % 3, "exchanges": []}
        yield Attempt, {**of, "started_at": at, "finished_at": at}
