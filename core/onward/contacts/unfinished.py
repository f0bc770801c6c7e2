"""What an erasure still has to look for: kept only until it is finished.

Once the person's own rows are gone nothing else knows how to tell them in requests,
reports and samples. So that a killed erasure can be finished, that stands in a
setting, under the hash of each address; emptied when nothing of them is left to be
found, and removed when the file was written anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, select, update

from onward.contacts.addresses import hash_address, read_pepper
from onward.contacts.traces import Person
from onward.models import Setting, table
from onward.sql import Insert, PerDialect

settings = table(Setting)

_PREFIX = "erasing:"


def _put(insert: Insert) -> Insert:
    statement = insert(settings)
    return statement.on_conflict_do_update(
        index_elements=["name"], set_={"value": statement.excluded.value}
    )


_PUT = PerDialect(_put)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An erasure that was begun.

    Args:
        ids: of the contacts it was, and of those merged into it.
        keep_remote: it is left in the services.
    """

    person: Person
    ids: tuple[int, ...] = ()
    keep_remote: bool = False


def begin(transaction: Transaction, one: Unfinished) -> None:
    """Write down what is to be looked for."""
    person = one.person
    said = {
        "addresses": person.addresses,
        "remote_ids": person.remote_ids,
        "attempts": sorted(person.attempts),
        "words": person.words,
        "ids": one.ids,
        "keep_remote": one.keep_remote,
    }
    value = json.dumps(said)
    rows = [
        {"name": name, "value": value} for name in _names(transaction, person.addresses)
    ]
    transaction.execute(_PUT(transaction), rows)


def found(transaction: Transaction, address: str) -> Unfinished | None:
    """Return what was begun for an address and is not finished."""
    [name] = _names(transaction, [address])
    value = transaction.execute(
        select(settings.c.value).where(settings.c.name == name)
    ).scalar()
    return _read(value) if value else None


def all_of_them(transaction: Transaction) -> Iterator[Unfinished]:
    """Yield every erasure that is not finished."""
    values = transaction.execute(
        select(settings.c.value)
        # Between the prefix and what comes after it: found by the key.
        .where(
            settings.c.name >= _PREFIX,
            settings.c.name < _PREFIX[:-1] + ";",
            settings.c.value != "",
        )
        .distinct()
    ).scalars()
    yield from map(_read, values.all())


def end(transaction: Transaction, addresses: Iterable[str]) -> None:
    """Forget what was looked for; that there was something is kept."""
    transaction.execute(
        update(settings)
        .where(settings.c.name.in_(_names(transaction, addresses)))
        .values(value="")
    )


def is_to_be_compacted(transaction: Transaction) -> bool:
    """Tell whether what was erased may still lie in the file's free room."""
    mine = settings.c.name.startswith(_PREFIX, autoescape=True)
    found = select(settings.c.name).where(mine).limit(1)
    return transaction.execute(found).first() is not None


def compacted(transaction: Transaction) -> None:
    """Note that nothing lies there any more."""
    mine = settings.c.name.startswith(_PREFIX, autoescape=True)
    transaction.execute(delete(settings).where(mine, settings.c.value == ""))


def _names(transaction: Transaction, addresses: Iterable[str]) -> Collection[str]:
    pepper = read_pepper(transaction)
    return sorted({_PREFIX + hash_address(pepper, one) for one in addresses})


def _read(value: str) -> Unfinished:
    said = json.loads(value)
    person = Person(
        tuple(said["addresses"]),
        tuple(said["remote_ids"]),
        frozenset(said["attempts"]),
        tuple(said["words"]),
    )
    return Unfinished(person, tuple(said["ids"]), said["keep_remote"])
