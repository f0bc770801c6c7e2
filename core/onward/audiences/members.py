"""Who is in an audience: a chunk at a time, counted, a few of them shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.audiences.narrow import narrow
from onward.audiences.resolve import Question
from onward.contacts.elsewhere import ask_facts
from onward.contacts.exporting import contacts_as_dicts
from onward.contacts.facts import CHUNK, Facts, contacts
from onward.runtime import Runtime

Told = Callable[[int], None]

PREVIEWED = 10


def next_members(
    transaction: Transaction, question: Question, after: int, runtime: Runtime
) -> tuple[int, dict[int, Facts]]:
    """Look at the next contacts; return where that ended and the members among them.

    Merged and erased contacts are none.

    Returns:
        Number of the last contact that was looked at, 0 when there was none; and
        contact id → the facts the filter asks for.
    """
    now = runtime.clock()
    chunk = (
        select(contacts.c.id)
        .where(contacts.c.id > bindparam("after"), *narrow(transaction, question, now))
        .order_by(contacts.c.id)
        .limit(CHUNK)
    )
    ids = list(transaction.execute(chunk, {"after": after}).scalars())
    found = ask_facts(transaction, ids, question.asks)
    return (ids[-1] if ids else 0), keep_members(question, found, now)


def keep_members(
    question: Question, found: Mapping[int, Facts], now: datetime
) -> dict[int, Facts]:
    """Return who of these contacts is a member; merged and erased ones are none.

    Args:
        found: as `ask_facts` returns them, in any order.
    """
    return {
        id_: facts
        for id_, facts in sorted(found.items())
        # Not asked in SQL: a server that has not counted its rows yet believes that
        # nearly nobody is themselves, and goes through all for each chunk.
        if facts["merged_into"] is None
        and facts["erased_at"] is None
        and question.holds(facts, now)
    }


def chunks(
    runtime: Runtime, question: Question, *, on_progress: Told = lambda contacts: None
) -> Iterator[dict[int, Facts]]:
    """Yield the members of each chunk, in the order of ids; flat in memory.

    Each chunk is read in a transaction of its own: contacts are as they were then.

    Args:
        on_progress: told how many members were found.
    """
    after = 0
    while True:
        with runtime.database.read() as transaction:
            after, members = next_members(transaction, question, after, runtime)
        if not after:
            return
        on_progress(len(members))
        if members:
            yield members


def count_members(
    runtime: Runtime,
    question: Question,
    *,
    most: int | None = None,
    on_progress: Told = lambda contacts: None,
) -> int:
    """Return how many members there are.

    Args:
        most: stop when there are more; the answer then is `most + 1`.
    """
    count = 0
    for members in chunks(runtime, question, on_progress=on_progress):
        count += len(members)
        if most is not None and count > most:
            return most + 1
    return count


def preview_members(
    runtime: Runtime, question: Question, most: int = PREVIEWED
) -> list[dict[str, Any]]:
    """Return the first members: who they are, and what the filter asks of them."""
    asks = question.asks | {"first_name", "last_name"}
    wider = Question(question.conditions, question.behind, asks)
    shown = ["id", "email", "first_name", "last_name"]
    shown += sorted(question.asks.difference(shown, {"audience"}))
    found: list[dict[str, Any]] = []
    for members in chunks(runtime, wider) if most else ():
        for facts in members.values():
            found.append({name: facts.get(name) for name in shown})
            if len(found) == most:
                return found
    return found


def export_members(
    runtime: Runtime, question: Question, *, on_progress: Told = lambda contacts: None
) -> Iterator[dict[str, Any]]:
    """Yield every member as `export_rows` gives contacts; flat in memory."""
    for members in chunks(runtime, question, on_progress=on_progress):
        with runtime.database.read() as transaction:
            found = contacts_as_dicts(transaction, list(members))
        yield from found
