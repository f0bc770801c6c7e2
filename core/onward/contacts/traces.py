"""Where a person's address lies besides their own rows, and its removal."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import (
    ColumnElement,
    String,
    UpdateBase,
    cast,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy import Connection as Transaction

from onward.models import (
    Attempt,
    Event,
    ImportReport,
    Memory,
    OutcomeRow,
    Push,
    RemoteContactRow,
    Suppression,
    table,
)
from onward.runtime import Runtime

attempts = table(Attempt)
events = table(Event)
reports = table(ImportReport)
memory = table(Memory)
remote_contacts = table(RemoteContactRow)

MARK = "[erased]"
PART = 50  # attempts per transaction: their bodies are large
CHANGES = 200  # other places per transaction

# Sentences that may quote an address, of whoever they are.
_SENTENCES = tuple(
    table(model).c["reason"] for model in (Push, OutcomeRow, Suppression)
)


@dataclass(frozen=True, slots=True)
class Person:
    """What tells somebody in stored requests.

    Args:
        remote_ids: in the services; looked for only in `attempts`, elsewhere
            the same number may be somebody else's.
        attempts: those that sent this person.
    """

    addresses: tuple[str, ...]
    remote_ids: tuple[str, ...] = ()
    attempts: frozenset[int] = frozenset()


def clean_traces(runtime: Runtime, person: Person) -> int:
    """Take a person out of requests, answers, sentences and reports.

    Done in small transactions, so that no worker is held up; doing it again is
    harmless.

    Returns:
        How many places were changed.
    """
    finder = _Finder(person)
    with runtime.database.read() as transaction:
        holding = transaction.execute(
            select(attempts.c.id).where(
                or_(
                    finder.may_be_in(attempts.c.exchanges),
                    finder.may_be_in(attempts.c.error),
                )
            )
        ).scalars()
        todo = sorted({*holding, *person.attempts})
    cleaned = 0
    for start in range(0, len(todo), PART):
        part = todo[start : start + PART]

        def work(transaction: Transaction, part: Sequence[int] = part) -> int:
            return finder.clean_attempts(transaction, part)

        cleaned += runtime.database.run(work)
    # Looked for by reading alone: that takes as long as there are rows.
    with runtime.database.read() as transaction:
        changes = list(finder.changes(transaction))
    for start in range(0, len(changes), CHANGES):
        some = changes[start : start + CHANGES]

        def change(transaction: Transaction, some: Sequence[UpdateBase] = some) -> int:
            return sum(transaction.execute(one).rowcount for one in some)

        cleaned += runtime.database.run(change)
    return cleaned


class _Finder:
    def __init__(self, person: Person) -> None:
        self.person = person
        spellings = [re.escape(text) for text in _spellings(person.addresses)]
        numbers = [
            rf"(?<![\w-]){re.escape(number)}(?![\w-])" for number in person.remote_ids
        ]
        self.address = re.compile("|".join(spellings), re.IGNORECASE)
        self.either = re.compile("|".join(spellings + numbers), re.IGNORECASE)

    def may_be_in(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return a condition that holds at least where an address occurs."""
        text = cast(column, String)
        probes = {_probe(address) for address in self.person.addresses}
        return or_(*(text.icontains(probe, autoescape=True) for probe in probes))

    def clean_attempts(self, transaction: Transaction, ids: Sequence[int]) -> int:
        """Blank the bodies that hold the person; return how many attempts had."""
        cleaned = 0
        found = transaction.execute(select(attempts).where(attempts.c.id.in_(ids)))
        for row in found.mappings().all():
            pattern = self.either if row["id"] in self.person.attempts else self.address
            exchanges = [
                _clean_exchange(exchange, pattern) for exchange in row["exchanges"]
            ]
            error = self.address.sub(MARK, row["error"])
            if exchanges == row["exchanges"] and error == row["error"]:
                continue
            cleaned += 1
            transaction.execute(
                update(attempts)
                .where(attempts.c.id == row["id"])
                .values(exchanges=exchanges, error=error)
            )
        return cleaned

    def changes(self, transaction: Transaction) -> Iterator[UpdateBase]:
        """Yield what cleans the rest: one statement for each place, by its key."""
        for address in self.person.addresses:
            for column in _SENTENCES:
                rows = column.table
                quoted = column.contains(address, autoescape=True)
                found = select(rows.c.id).where(quoted).order_by(rows.c.id)
                for id_ in transaction.execute(found).scalars():
                    yield (
                        update(rows)
                        .where(rows.c.id == id_, quoted)
                        .values({column: func.replace(column, address, MARK)})
                    )
        for column in (memory.c.value, remote_contacts.c.email):
            yield from self._deletions(transaction, column)
        yield from self._keys(transaction)
        yield from self._reports(transaction)

    def _deletions(self, transaction: Transaction, column: Any) -> Iterator[UpdateBase]:
        """Drop rows that are learned anew when they are needed."""
        rows = column.table
        keys = list(rows.primary_key.columns)
        found = transaction.execute(
            select(*keys, column).where(self.may_be_in(column))
        ).all()
        for row in found:
            text = row[-1] if isinstance(row[-1], str) else json.dumps(row[-1])
            if self.address.search(text):
                same = [key == value for key, value in zip(keys, row, strict=False)]
                yield delete(rows).where(*same)

    def _keys(self, transaction: Transaction) -> Iterator[UpdateBase]:
        """Replace keys of events that hold the address.

        A repeat of such an event is then taken for a new one.
        """
        found = transaction.execute(
            select(events.c.id, events.c.key).where(self.may_be_in(events.c.key))
        ).all()
        for row in found:
            if self.address.search(row.key):
                mine = update(events).where(events.c.id == row.id)
                yield mine.values(key=f"{MARK} {row.id}")

    def _reports(self, transaction: Transaction) -> Iterator[UpdateBase]:
        for row in transaction.execute(
            select(reports.c.id, reports.c.problems).where(
                self.may_be_in(reports.c.problems)
            )
        ).all():
            problems = [
                [number, *(self._blank(text) for text in texts)]
                for number, *texts in row.problems
            ]
            if problems != row.problems:
                mine = update(reports).where(reports.c.id == row.id)
                yield mine.values(problems=problems)

    def _blank(self, text: str) -> str:
        # A refused line holds more of the person than the address.
        return MARK if self.address.search(text) else text


def _clean_exchange(
    exchange: Mapping[str, Any], pattern: re.Pattern[str]
) -> dict[str, Any]:
    """Blank request and answer when either of them is about the person.

    A whole body goes: around the address stand the name and the rest.
    """
    clean = dict(exchange)
    texts = [str(exchange.get(name, "")) for name in ("url", "request", "answer")]
    if any(map(pattern.search, texts)):
        clean["url"] = pattern.sub(MARK, texts[0])
        clean.update({name: MARK for name in ("request", "answer") if clean.get(name)})
    if "error" in clean:
        clean["error"] = pattern.sub(MARK, str(clean["error"]))
    return clean


def _spellings(addresses: Sequence[str]) -> list[str]:
    """Return addresses as they look in text, URLs, forms, JSON and HTML."""
    found: dict[str, None] = {}
    for address in addresses:
        found[address] = None
        found[quote(address, safe="")] = None
        found[quote(address, safe="@")] = None
        found[quote_plus(address, safe="@")] = None
        found[json.dumps(address)[1:-1]] = None
        found[html.escape(address)] = None
    return list(found)


def _probe(address: str) -> str:
    """Return letters and digits that stand in every spelling of an address."""
    local, _, domain = address.partition("@")
    runs = re.findall("[a-z0-9]+", local) or re.findall("[a-z0-9]+", domain)
    return max(runs, key=len, default="")
