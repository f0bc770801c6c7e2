"""What a push of an audience is: whom, where to, and the name it is known by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection as Transaction

from onward.audiences.book import read_book
from onward.audiences.check import unknown_connection
from onward.audiences.keeping import read_conditions
from onward.audiences.resolve import Question, resolve
from onward.config.model import PushTo
from onward.connections.rename import resolve_segment
from onward.connections.state import UNRESOLVED, State, named, read_all, read_segments
from onward.contacts.facts import Facts
from onward.contacts.suppress import find_suppressions
from onward.contract import RemoteSegment
from onward.delivery.prepare import blocking, switched_off, words_for
from onward.delivery.refusing import Refusal
from onward.errors import InputError
from onward.events.rulebook import Targets
from onward.filters import Filter
from onward.runtime import Runtime

KIND = "audience"

What = str | Filter | Sequence[object]
"""Key of an audience, or conditions: read already, or as plain data."""


@dataclass(frozen=True, slots=True)
class Aim:
    """Whom to push, and where to.

    Args:
        key: of the audience; "" = a filter that is not saved.
        fingerprint: of the filter and all it leads to.
        segment: remote segment by name or id; None = the connection's own.
    """

    key: str
    question: Question
    fingerprint: str
    to: str
    segment: str | None
    force: bool = False

    @property
    def name(self) -> str:
        """What it is called: the same for the same people and place."""
        return name_of(self.key or self.fingerprint, self.to, self.segment)

    @property
    def job(self) -> str:
        """How its job is kept; no condition is in it, since one may hold an address."""
        said = [self.name, {"force": self.force, "filter": self.fingerprint}]
        return orjson.dumps(said).decode()

    @property
    def words(self) -> str:
        """What it is called in sentences."""
        return f"audience {self.key}" if self.key else "these contacts"


def name_of(key: str, to: str, segment: str | None) -> str:
    """Return what a push of these people to this place is called."""
    return f"{key}:{to}:{segment or ''}"


def read_aim(
    runtime: Runtime,
    transaction: Transaction,
    what: What,
    to: str,
    segment: str | None,
    *,
    force: bool = False,
) -> Aim:
    """Return what a call means.

    Raises:
        ConfigError, InputError: there is no such audience or connection, or a
            condition cannot be used.
    """
    book = read_book(transaction, runtime.config.audiences)
    key = what if isinstance(what, str) else ""
    if isinstance(what, str):
        question = book.question(what)
        conditions = question.conditions
        known = {state.name for state in read_all(transaction)}
        problem = unknown_connection(conditions, known)
        if problem:
            raise InputError(f"audience {key}: {problem}")
    else:
        raw = what.plain() if isinstance(what, Filter) else what
        conditions = read_conditions(runtime, transaction, raw, book)
        question = resolve(conditions, book.filters)
    asked = [conditions.plain(), {k: c.plain() for k, c in question.behind.items()}]
    fingerprint = hashlib.sha256(orjson.dumps(asked)).hexdigest()[:16]
    named(transaction, to)  # says which there are
    return Aim(key, question, fingerprint, to, segment or None, force)


def read_place(transaction: Transaction, aim: Aim) -> tuple[State, str]:
    """Return the connection and the id of the remote segment, as they are now.

    Raises:
        InputError: nobody would get there: it is switched off, or has no such
            segment.
    """
    state = named(transaction, aim.to)
    off = switched_off(state)
    if off is not None:
        raise InputError(f"{aim.to} would skip them all: {off.reason}")
    _, segment = Targets(transaction).resolve(PushTo(aim.to, aim.segment))
    known = read_segments(transaction, state.id)
    if segment.startswith(UNRESOLVED) and state.verified_at is not None:
        wished = segment.removeprefix(UNRESOLVED)
        if not wished:
            raise InputError(f"{aim.to}: no remote segment is chosen; name one")
        there = [RemoteSegment(id_, name) for id_, name, _ in known]
        segment, problem = resolve_segment(aim.to, wished, there)
        if problem:
            raise InputError(problem)
    held = next((why for id_, _, why in known if id_ == segment), "")
    if held:
        raise InputError(f"{aim.to}: that remote segment is held: {held}")
    return state, segment


def sort_out(
    transaction: Transaction,
    state: State,
    segment: str,
    members: Mapping[int, Facts],
) -> tuple[list[int], list[Refusal]]:
    """Return the members who can be pushed there, and why the others cannot."""
    people = {id_: [facts["email"] or ""] for id_, facts in members.items()}
    stops = find_suppressions(transaction, people)
    may: list[int] = []
    refused: list[Refusal] = []
    for id_, facts in members.items():
        stop = blocking(state, segment, stops.get(id_, ()))
        if stop is not None:
            why = f"contact {id_} must not be sent: {words_for(stop)}"
            refused.append(Refusal(id_, "suppressed", why))
        elif not facts["email"]:
            why = f"contact {id_} has no e-mail address"
            refused.append(Refusal(id_, "no_email", why))
        else:
            may.append(id_)
    return may, refused
