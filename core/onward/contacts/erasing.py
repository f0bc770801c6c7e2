"""Erase somebody: the person goes, here and in services; opt-outs stay, as hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection as Transaction
from sqlalchemy import insert

from onward import signals
from onward.compact import Compacted, compact
from onward.contacts import unfinished
from onward.contacts.erased import erased_when, note_erased
from onward.contacts.forgetting import (
    all_values,
    describe,
    end_pushes,
    forget_rows,
    is_being_pushed,
    scrub_nobodys,
)
from onward.contacts.release import lock_contacts
from onward.contacts.remotely import There, erase_there
from onward.contacts.showing import find_contact, merged_into
from onward.contacts.traces import Person, clean_traces
from onward.contacts.unfinished import Unfinished
from onward.contacts.values import clean_email
from onward.errors import InputError, Repeat
from onward.failpoints import failpoint
from onward.models import Event, table
from onward.runtime import Runtime

events = table(Event)

ERASED = "contact.erased"

Value = TypeVar("Value", int, str)


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did.

    Args:
        contact_id: 0 when the address belonged to nobody (any more).
        cancelled: pushes that were waiting.
        cleaned: stored requests, answers, events and reports that named the person.
        sending: pushes that are on their way now; a worker cleans up after them.
        contacts: those that were one person.
        services: what is done in each.
        compacted: whether the file holds nothing of them any more; None = nobody
            asked for it, or it has to wait for `sending`.
    """

    contact_id: int
    cancelled: int
    cleaned: int
    sending: int
    contacts: int = 0
    services: tuple[There, ...] = ()
    compacted: Compacted | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class _Begun:
    done: Erased
    todo: Unfinished
    # Something was known of the address before.
    known: bool


def erase_contact(
    runtime: Runtime,
    email: str,
    actor: str = "",
    *,
    keep_remote: bool = False,
    compacting: bool = True,
) -> Erased:
    """Remove what is known of a person, here and in the services they are in.

    Removed are fields, identities, tags, segments, the data of events, what is known
    of them in services, and every stored request, answer, sample and refused import
    line that names them, of merged contacts and of all their addresses. The
    contact's row, points and the dates of what happened stay, about nobody.

    Of each address a keyed hash stays: no pull and no import brings the person back
    until a consent is recorded. Whoever must not be pushed is still not pushed.

    To erase again is harmless, and finishes what was killed.

    Args:
        actor: who wanted it, for the record.
        keep_remote: leave the services as they are.
        compacting: write the file anew, so that no old bytes stay in its free room.

    Raises:
        InputError: nothing is known of this address.
    """
    address = clean_email(email)

    def work(transaction: Transaction) -> _Begun:
        return _begin(runtime, transaction, address, actor, keep=keep_remote)

    begun = runtime.database.run(work)
    failpoint("after_erase")
    if begun.done.contact_id:
        fact = signals.ContactFact(begun.done.contact_id)
        signals.announce(signals.contact_erased, runtime.sender, fact)
    cleaned = clean_traces(runtime, begun.todo.person)
    if not begun.known:
        if not cleaned:
            raise InputError(f"nothing is known of the address {address}")
        now = runtime.clock()
        runtime.database.run(lambda t: note_erased(t, [address], now))
    done = replace(begun.done, cleaned=cleaned)
    failpoint("after_cleaning")
    if done.sending:
        return done
    _end(runtime, begun.todo.person)
    if not compacting:
        return done
    failpoint("before_compacting")
    return replace(done, compacted=compact_after_erasing(runtime))


def finish_erasures(runtime: Runtime) -> int:
    """Clean up after pushes that were on their way when somebody was erased.

    For a worker, which calls it again and again; the file is not written anew.

    Returns:
        How many erasures were finished.
    """
    with runtime.database.read() as transaction:
        todo = [
            one
            for one in unfinished.all_of_them(transaction)
            if not is_being_pushed(transaction, one.ids)
        ]
    finished = 0
    for one in todo:

        def work(transaction: Transaction, one: Unfinished = one) -> _Begun:
            return _go_on(runtime, transaction, one, "", "")

        if runtime.database.run(work).done.sending:
            continue
        clean_traces(runtime, one.person)
        _end(runtime, one.person)
        finished += 1
    return finished


def compact_after_erasing(runtime: Runtime) -> Compacted:
    """Write the database anew, and note that nothing erased lies in it any more."""
    compacted = compact(runtime.database)
    if compacted.is_done:
        runtime.database.run(unfinished.compacted)
    return compacted


def _end(runtime: Runtime, person: Person) -> None:
    runtime.database.run(lambda t: unfinished.end(t, person.addresses))


def _begin(
    runtime: Runtime, transaction: Transaction, address: str, actor: str, *, keep: bool
) -> _Begun:
    """Do all that must be done at once; say what is to be looked for afterwards."""
    before = unfinished.found(transaction, address)
    try:
        contact_id = find_contact(transaction, address)
    except InputError:
        if before is not None:
            return _go_on(runtime, transaction, before, address, actor)
        return _erase_nobody(runtime, transaction, address, actor, keep=keep)
    ids = [contact_id, *merged_into(transaction, contact_id)]
    lock_contacts(transaction, ids)
    # Whoever held them before us may have merged them.
    survivor = find_contact(transaction, address)
    if [survivor, *merged_into(transaction, survivor)] != ids:
        raise Repeat
    now = runtime.clock()
    person = describe(transaction, ids, address)
    values = all_values(transaction, ids, person)
    todo = Unfinished(person, tuple(ids), keep)
    if before is not None:
        todo = _united(before, todo)
    cancelled, sending = end_pushes(transaction, ids, now)
    services, todo = _erase_there(runtime, transaction, todo, actor, now)
    forget_rows(transaction, ids, person, values, now)
    unfinished.begin(transaction, todo)
    transaction.execute(
        insert(events),
        {
            "source": "erase",
            "action": ERASED,
            "contact_id": contact_id,
            "data": {"by": actor},
            "occurred_at": now,
            "created_at": now,
        },
    )
    failpoint("during_erase")
    done = Erased(contact_id, cancelled, 0, sending, len(ids), tuple(services))
    return _Begun(done, todo, known=True)


def _go_on(
    runtime: Runtime,
    transaction: Transaction,
    before: Unfinished,
    address: str,
    actor: str,
) -> _Begun:
    """Find what was written since, by pushes that were on their way."""
    now, ids = runtime.clock(), before.ids
    first = address or before.person.addresses[0]
    later = Unfinished(describe(transaction, ids, first), ids, before.keep_remote)
    todo = _united(before, later)
    cancelled, sending = end_pushes(transaction, ids, now)
    services, todo = _erase_there(runtime, transaction, todo, actor, now)
    unfinished.begin(transaction, todo)
    done = Erased(0, cancelled, 0, sending, services=tuple(services))
    return _Begun(done, todo, known=True)


def _erase_nobody(
    runtime: Runtime, transaction: Transaction, address: str, actor: str, *, keep: bool
) -> _Begun:
    """Erase an address that is no contact's, where a service has shown it."""
    now = runtime.clock()
    todo = Unfinished(Person((address,)), (), keep)
    services, todo = _erase_there(runtime, transaction, todo, actor, now)
    values = all_values(transaction, (), todo.person)
    scrub_nobodys(transaction, [address], values)
    known = bool(todo.person.remote_ids)
    if known:
        note_erased(transaction, [address], now)
        unfinished.begin(transaction, todo)
    known = known or bool(erased_when(transaction, [address]))
    return _Begun(Erased(0, 0, 0, 0, services=tuple(services)), todo, known)


def _erase_there(
    runtime: Runtime,
    transaction: Transaction,
    todo: Unfinished,
    actor: str,
    now: datetime,
) -> tuple[list[There], Unfinished]:
    person = todo.person
    services, remote_ids = erase_there(
        runtime,
        transaction,
        todo.ids,
        person.addresses,
        now,
        asked_by=actor or "an erasure",
        keep=todo.keep_remote,
    )
    ids = tuple(dict.fromkeys([*person.remote_ids, *remote_ids]))
    return services, replace(todo, person=replace(person, remote_ids=ids))


def _united(one: Unfinished, other: Unfinished) -> Unfinished:
    person = Person(
        _both(one.person.addresses, other.person.addresses),
        _both(one.person.remote_ids, other.person.remote_ids),
        one.person.attempts | other.person.attempts,
        _both(one.person.words, other.person.words),
    )
    return Unfinished(person, _both(one.ids, other.ids), other.keep_remote)


def _both(some: Sequence[Value], others: Sequence[Value]) -> tuple[Value, ...]:
    found: dict[Value, None] = dict.fromkeys(some)
    found.update(dict.fromkeys(others))
    return tuple(found)
