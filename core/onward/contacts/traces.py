"""Where somebody is named besides their own rows, and the removal of it."""

from __future__ import annotations

import html
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    String,
    Table,
    TypeDecorator,
    UpdateBase,
    case,
    cast,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy import Connection as Transaction
from sqlmodel import SQLModel

from onward.failpoints import failpoint
from onward.models import (
    Alert,
    AlertMessage,
    Attempt,
    Connection,
    Contact,
    Errand,
    Event,
    ImportReport,
    Job,
    Memory,
    RemoteContactRow,
    RemoteSegmentRow,
    SyncRun,
    table,
)
from onward.runtime import Runtime

attempts = table(Attempt)
events = table(Event)
reports = table(ImportReport)
memory = table(Memory)
contacts = table(Contact)
remote_contacts = table(RemoteContactRow)
jobs = table(Job)
runs = table(SyncRun)

MARK = "[erased]"
PART = 50  # attempts per transaction: their bodies are large
CHANGES = 200  # other places per transaction

# Whose texts name no person, or only who works here; those handled by themselves.
_PASSED_OVER = frozenset(
    {
        "attempt",
        "claim",
        "connection",
        "custom_field",
        "identity",
        "import_report",
        "lease",
        "limiter",
        "memory",
        "remote_segment",
        "schema_step",
        "segment",
        "setting",
    }
)
# What a service or a plugin said, and is shown as it is.
_SENTENCES = (
    table(Connection).c.rest_why,
    table(Connection).c.paused_why,
    table(RemoteSegmentRow).c.paused_why,
)
# Where names stand without an address: looked for by the words as well.
_WORDY = {
    *_SENTENCES,
    table(Alert).c.reason,
    table(AlertMessage).c.body,
    jobs.c.key,
    runs.c.reason,
    runs.c.sample,
    runs.c.notes,
}
_CANCELLED = {
    jobs.c.state: case((jobs.c.state == "running", "cancelled"), else_=jobs.c.state),
    jobs.c.finished_at: func.coalesce(jobs.c.finished_at, jobs.c.updated_at),
}


@dataclass(frozen=True, slots=True)
class Person:
    """What tells somebody in stored texts.

    Args:
        remote_ids: in the services; looked for only in `attempts` and in the samples
            of pulls, elsewhere the same number may be somebody else's.
        attempts: those that sent this person.
        words: names, numbers and the like; looked for where an address need not
            stand beside them.
    """

    addresses: tuple[str, ...]
    remote_ids: tuple[str, ...] = ()
    attempts: frozenset[int] = frozenset()
    words: tuple[str, ...] = ()


def clean_traces(runtime: Runtime, person: Person) -> int:
    """Take a person out of requests, answers, sentences, events and reports.

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
        failpoint("during_cleaning")
    # Looked for by reading alone: that takes as long as there are rows.
    with runtime.database.read() as transaction:
        changes = list(finder.changes(transaction))
    for start in range(0, len(changes), CHANGES):
        some = changes[start : start + CHANGES]

        def change(transaction: Transaction, some: Sequence[UpdateBase] = some) -> int:
            return sum(transaction.execute(one).rowcount for one in some)

        cleaned += runtime.database.run(change)
        failpoint("during_cleaning")
    return cleaned


class _Finder:
    def __init__(self, person: Person) -> None:
        self.person = person
        spellings = [_alone(text) for text in _spellings(person.addresses)]
        words = [rf"(?<!\w){re.escape(word)}(?!\w)" for word in person.words]
        numbers = [
            rf"(?<![\w-]){re.escape(number)}(?![\w-])" for number in person.remote_ids
        ]
        self.address = re.compile("|".join(spellings), re.IGNORECASE)
        # A name can be a word as well: only as it is written.
        self.named = re.compile("|".join([*(f"(?i:{s})" for s in spellings), *words]))
        self.any = re.compile("|".join([*spellings, *words, *numbers]), re.IGNORECASE)

    def may_be_in(
        self, column: ColumnElement[Any], *, words: bool = False
    ) -> ColumnElement[bool]:
        """Return a condition that holds at least where the person occurs."""
        text = cast(column, String)
        probes = {_probe(address) for address in self.person.addresses}
        if words:
            probes.update(_longest(word) for word in self.person.words)
        return or_(*(text.icontains(probe, autoescape=True) for probe in probes))

    def clean_attempts(self, transaction: Transaction, ids: Sequence[int]) -> int:
        """Blank the bodies that hold the person; return how many attempts had."""
        cleaned = 0
        found = transaction.execute(select(attempts).where(attempts.c.id.in_(ids)))
        for row in found.mappings().all():
            pattern = self.any if row["id"] in self.person.attempts else self.address
            exchanges = [
                _clean_exchange(exchange, pattern) for exchange in row["exchanges"]
            ]
            error = pattern.sub(MARK, row["error"])
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
        for column in (memory.c.value, memory.c.name, remote_contacts.c.email):
            yield from self._deletions(transaction, column)
        yield from self._keys(transaction)
        yield from self._reports(transaction)
        for rows, columns in _texts():
            yield from self._replacements(transaction, rows, columns)

    def _deletions(
        self, transaction: Transaction, column: Column[Any]
    ) -> Iterator[UpdateBase]:
        """Drop rows that are learned anew when they are needed."""
        words = column.table is memory
        pattern = self.named if words else self.address
        for row in self._found(transaction, column, words=words):
            if pattern.search(_text(row[-1])):
                yield delete(column.table).where(*_same(column.table, row))

    def _keys(self, transaction: Transaction) -> Iterator[UpdateBase]:
        """Replace keys of events that hold the address.

        A repeat of such an event is then taken for a new one.
        """
        for row in self._found(transaction, events.c.key):
            if self.address.search(row[-1]):
                mine = update(events).where(events.c.id == row[0])
                yield mine.values(key=f"{MARK} {row[0]}")

    def _reports(self, transaction: Transaction) -> Iterator[UpdateBase]:
        for row in self._found(transaction, reports.c.problems, words=True):
            problems = [
                [number, *(self._blank(text) for text in texts)]
                for number, *texts in row[-1]
            ]
            if problems != row[-1]:
                mine = update(reports).where(reports.c.id == row[0])
                yield mine.values(problems=problems)
        for row in self._found(transaction, reports.c.source):
            if self.address.search(row[-1]):
                mine = update(reports).where(reports.c.id == row[0])
                yield mine.values(source=self.address.sub(MARK, row[-1]))

    def _blank(self, text: str) -> str:
        # A refused line holds more of the person than what tells them.
        return MARK if self.named.search(text) or self._is_cut(text) else text

    def _is_cut(self, text: str) -> bool:
        """Tell whether a clipped line ends in the beginning of an address."""
        end = re.split(r"[\s,;|\"']", text)[-1].lower()
        return "@" in end and any(one.startswith(end) for one in self.person.addresses)

    def _replacements(
        self, transaction: Transaction, rows: Table, columns: Sequence[Column[Any]]
    ) -> Iterator[UpdateBase]:
        keys = list(rows.primary_key.columns)
        condition = or_(*(self.may_be_in(one, words=one in _WORDY) for one in columns))
        found = select(*keys, *columns).where(condition).order_by(*keys)
        for row in transaction.execute(found).all():
            held = zip(columns, row[len(keys) :], strict=True)
            changed: dict[Any, Any] = {
                column: new
                for column, value in held
                if (new := self._clean(column, value)) != value
            }
            if changed and rows is jobs:
                # What it was to look for is gone.
                changed |= _CANCELLED
            if changed:
                yield update(rows).where(*_same(rows, row)).values(changed)

    def _clean(self, column: Column[Any], value: Any) -> Any:
        pattern = self.named if column in _WORDY else self.address
        if column.table is contacts:
            return _without(value, pattern)
        if column.table is runs and isinstance(value, (list, tuple)):
            rows = typing.cast("list[Any]", value)
            return [one for one in rows if not self.any.search(_text(one))]
        return _replaced(value, pattern)

    def _found(
        self, transaction: Transaction, column: Column[Any], *, words: bool = False
    ) -> Sequence[Any]:
        """Return (key …, value) of the rows in which the person may occur."""
        keys = list(column.table.primary_key.columns)
        condition = self.may_be_in(column, words=words)
        order = [key for key in keys if key is not column]
        found = select(*keys, column.label("held")).where(condition).order_by(*order)
        return transaction.execute(found).all()


def _texts() -> Iterator[tuple[Table, Sequence[Column[Any]]]]:
    """Yield what may hold what somebody wrote, of tables that are yet to come too."""
    # Their own address is no trace: who came back has it again. The others are
    # handled by themselves.
    apart = {contacts.c.email, events.c.key, remote_contacts.c.email}
    # Needed until it is done, and gone then; some services number people so.
    apart.add(table(Errand).c.remote_id)
    for rows in SQLModel.metadata.sorted_tables:
        found = [
            column
            for column in rows.c
            if rows.name not in _PASSED_OVER
            and not column.primary_key
            and column not in apart
            and is_text(column)
        ]
        found += [column for column in _SENTENCES if column.table is rows]
        if found:
            yield rows, found


def is_text(column: Column[Any]) -> bool:
    """Tell whether a column may hold words."""
    kind = column.type
    inner = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
    return isinstance(inner, (JSON, String))


def _same(rows: Table, row: Sequence[Any]) -> list[ColumnElement[bool]]:
    keys = rows.primary_key.columns
    return [key == value for key, value in zip(keys, row, strict=False)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _replaced(value: Any, pattern: re.Pattern[str]) -> Any:
    """Return a text, or plain data, with a mark in place of the person."""
    if isinstance(value, str):
        return pattern.sub(MARK, value)
    if isinstance(value, (list, tuple)):
        listed = typing.cast("list[Any]", value)
        return [_replaced(one, pattern) for one in listed]
    if isinstance(value, dict):
        named = typing.cast("dict[str, Any]", value)
        return {
            pattern.sub(MARK, name): _replaced(one, pattern)
            for name, one in named.items()
        }
    return value


def _without(value: Any, pattern: re.Pattern[str]) -> Any:
    """Return what another contact has, without fields that name the person.

    A mark would be pushed to services as a value.
    """
    if isinstance(value, dict):
        named = typing.cast("dict[str, Any]", value)
        return {
            name: one for name, one in named.items() if not pattern.search(_text(one))
        }
    return None if isinstance(value, str) and pattern.search(value) else value


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


def _alone(text: str) -> str:
    """Return a pattern of an address that is not the end or beginning of another.

    What is escaped before it, in a URL or in JSON, is no part of it.
    """
    begins = r"(?:(?<![\w.+-])|(?<=%[0-9a-f][0-9a-f])|(?<=\\[nrt])|(?<=\\u[0-9a-f]{4}))"
    return rf"{begins}{re.escape(text)}(?![\w-]|\.\w)"


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


def _longest(word: str) -> str:
    """Return a run of plain letters of a word; JSON may escape the others."""
    return max(re.findall("[A-Za-z0-9]+", word), key=len, default="")
