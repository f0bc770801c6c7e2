"""The custom fields there are: of `onward.toml`, and those imports declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from sqlalchemy import Connection as Transaction
from sqlalchemy import select

from onward.contacts.fields import ContactField
from onward.contract import FieldType
from onward.database import Database
from onward.models import CustomField, table
from onward.runtime import Runtime
from onward.sql import PerDialect

rows = table(CustomField)

_ALL = select(rows).order_by(rows.c.name)
_ADD = PerDialect(lambda insert: insert(rows).on_conflict_do_nothing())


class CustomFields(Mapping[str, ContactField]):
    """Custom fields by name; the table is read only for what the file lacks.

    An action that writes declared fields costs no query; one that was declared
    by an import, in this process or another, is found at its first use.
    """

    def __init__(
        self,
        configured: Mapping[str, ContactField],
        database: Database,
        stored: Mapping[str, ContactField] | None = None,
    ) -> None:
        self._configured = configured
        self._database = database
        self._stored = stored

    def __getitem__(self, name: str) -> ContactField:
        found = self._configured.get(name)
        return found if found is not None else self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._load(), **self._configured})

    def __len__(self) -> int:
        return len({**self._load(), **self._configured})

    def _load(self) -> Mapping[str, ContactField]:
        if self._stored is None:
            with self._database.read() as transaction:
                self._stored = read_fields(transaction)
        return self._stored


def custom_fields(
    runtime: Runtime, stored: Mapping[str, ContactField] | None = None
) -> CustomFields:
    """Return the custom fields of now; where both declare one, the file wins.

    Args:
        stored: what `read_fields` found, where it was asked already.
    """
    return CustomFields(runtime.config.contact_fields, runtime.database, stored)


def read_fields(transaction: Transaction) -> dict[str, ContactField]:
    """Return the fields that imports declared."""
    return {
        row.name: ContactField(
            row.name, row.title, cast("FieldType", row.type), tuple(row.choices)
        )
        for row in transaction.execute(_ALL)
    }


def declare_fields(transaction: Transaction, fields: Iterable[ContactField]) -> None:
    """Add custom fields; one that is there already stays as it is."""
    new = [
        {
            "name": field.name,
            "title": field.title,
            "type": field.type,
            "choices": list(field.choices),
        }
        for field in fields
    ]
    if new:
        transaction.execute(_ADD(transaction), new)
