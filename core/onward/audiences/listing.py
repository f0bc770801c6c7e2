"""Audiences for people: what they ask, how many they are, what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onward.audiences.book import Audience, Book, read_book
from onward.audiences.check import unknown_connection
from onward.audiences.members import Told, count_members
from onward.connections.state import read_all
from onward.errors import InputError
from onward.runtime import Runtime

COUNTED = 10_000


def open_book(runtime: Runtime) -> Book:
    """Return all audiences there are now."""
    with runtime.database.read() as transaction:
        return read_book(transaction, runtime.config.audiences)


def list_audiences(
    runtime: Runtime,
    *,
    keys: frozenset[str] | None = None,
    most: int | None = COUNTED,
    on_progress: Told = lambda contacts: None,
) -> Iterator[dict[str, Any]]:
    """Yield audiences as plain data, in the order of their keys.

    Args:
        keys: of those that are wanted; None = all.
        most: count so many members at most; None = all.

    Yields:
        `{"key", "name", "source", "if", "members", "more", "problem"}`. `more`: there
        are more members than were counted. `problem`: why they cannot be counted.
    """
    book = open_book(runtime)
    with runtime.database.read() as transaction:
        names = {state.name for state in read_all(transaction)}
    for key, one in book.audiences.items():
        if keys is not None and key not in keys:
            continue
        members, problem = None, _problem(book, one, names)
        if not problem:
            question = book.question(key)
            members = count_members(
                runtime, question, most=most, on_progress=on_progress
            )
        more = most is not None and members is not None and members > most
        yield {
            **one.document,
            "members": most if more else members,
            "more": more,
            "problem": problem,
        }


def _problem(book: Book, one: Audience, connections: set[str]) -> str:
    problem = one.problem or unknown_connection(one.conditions, connections)
    try:
        if not problem:
            book.question(one.key)
    except InputError as error:
        return error.message
    return problem
