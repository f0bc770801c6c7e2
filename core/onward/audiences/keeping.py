"""Save an audience, and forget one."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, delete, select

from onward.audiences.book import FILE, Audience, Book, read_book
from onward.audiences.check import unknown_connection
from onward.audiences.resolve import resolve
from onward.config.sections import NO_EVENT
from onward.config.values import as_key
from onward.contacts.declared import custom_fields, read_fields
from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS
from onward.errors import InputError
from onward.filters import Filter
from onward.filters.names import audiences_of, is_of_event
from onward.models import Audience as AudienceRow
from onward.models import Connection, table
from onward.runtime import Runtime
from onward.sql import PerDialect

rows = table(AudienceRow)
connections = table(Connection)

_NAMES = select(connections.c.name)
_DELETE = delete(rows).where(rows.c.key == bindparam("of"))
_PUT = PerDialect(
    lambda insert: insert(rows).on_conflict_do_update(
        index_elements=["key"],
        set_={
            "name": insert(rows).excluded.name,
            "conditions": insert(rows).excluded.conditions,
        },
    )
)


def read_conditions(
    runtime: Runtime, transaction: Transaction, raw: object, book: Book, key: str = ""
) -> Filter:
    """Return a filter over contacts, with every name in it looked up.

    Args:
        raw: `[[field, operator, wanted], …]`.
        key: of the audience they are for; "" = of none.

    Raises:
        ConfigError: it is no filter.
        InputError: it names what is not there, or itself.
    """
    custom = custom_fields(runtime, read_fields(transaction))
    known = {*STANDARD_FIELDS, *DERIVED_FIELDS, *custom}
    found = Filter.parse(raw, source="", known=known)
    for field in filter(is_of_event, sorted(found.fields())):
        raise InputError(NO_EVENT.format(field))
    problem = unknown_connection(found, set(transaction.execute(_NAMES).scalars()))
    if problem:
        raise InputError(problem)
    resolve(found, book.filters, key=key)
    return found


def save_audience(
    runtime: Runtime, key: str, name: str, raw: object, *, replace: bool = False
) -> Audience:
    """Save a filter under a key.

    Args:
        name: what people call it; "" = as before, or as the key.
        raw: its conditions, as plain data.
        replace: one with this key may be there, and is changed.

    Raises:
        ConfigError, InputError: the key or a condition cannot be used; see
            `read_conditions`.
    """
    try:
        as_key(key)
    except ValueError as error:
        raise InputError(f'the key "{key}" {error}') from None

    def work(transaction: Transaction) -> None:
        book = read_book(transaction, runtime.config.audiences)
        there = book.audiences.get(key)
        if there is not None and there.source == FILE:
            raise InputError(f"{key} is written in onward.toml; change it there")
        if there is not None and not replace:
            raise InputError(
                f"there is an audience {key} already; --replace changes its conditions"
            )
        conditions = read_conditions(runtime, transaction, raw, book, key)
        row = {
            "key": key,
            "name": name or (there.name if there else key),
            "conditions": conditions.plain(),
            "connection_id": 0,
            "created_at": runtime.clock(),
        }
        transaction.execute(_PUT(transaction), row)

    runtime.database.run(work)
    with runtime.database.read() as transaction:
        return read_book(transaction, runtime.config.audiences).named(key)


def remove_audience(runtime: Runtime, key: str) -> bool:
    """Forget a stored audience; tell whether the file's of the same key remains.

    Raises:
        InputError: there is none, only the file has it, or something asks for it.
    """

    def work(transaction: Transaction) -> bool:
        book = read_book(transaction, runtime.config.audiences)
        remains = key in book.hidden
        found = book.audiences.get(key)
        if found is None:
            book.named(key)  # says which there are
        if found is not None and found.source == FILE and not remains:
            raise InputError(
                f"{key} is written in onward.toml, which no command changes; take its "
                "[[audiences]] out there"
            )
        users = () if remains else _users(runtime, book, key)
        if users:
            raise InputError(
                f"{key} is in use: {', '.join(users)} would ask for nothing; change "
                "that first"
            )
        transaction.execute(_DELETE, {"of": key})
        return remains

    return runtime.database.run(work)


def _users(runtime: Runtime, book: Book, key: str) -> list[str]:
    asked: Iterable[tuple[str, Filter]] = (
        *((f"the rule {one.key}", one.conditions) for one in runtime.config.rules),
        *((f"the audience {of}", one) for of, one in book.filters.items()),
    )
    return [what for what, conditions in asked if key in audiences_of(conditions)]
