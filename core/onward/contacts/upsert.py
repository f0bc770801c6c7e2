"""Write what is known of contacts: fields, custom fields, tags, segments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select, update

from onward.contacts.facts import CHUNK, TEXT_NAMES
from onward.contacts.given import ContactData
from onward.models import Contact, ContactSegment, ContactTag, Segment, table
from onward.sql import PerDialect

contacts = table(Contact)
tags = table(ContactTag)
segments = table(Segment)
memberships = table(ContactSegment)

_READ = select(
    contacts.c.id, contacts.c.custom, *(contacts.c[name] for name in TEXT_NAMES)
).where(contacts.c.id.in_(bindparam("ids", expanding=True)))
_WRITE = (
    update(contacts)
    .where(contacts.c.id == bindparam("of"))
    .values(
        custom=bindparam("new_custom", type_=contacts.c.custom.type),
        updated_at=bindparam("moment"),
        **{name: bindparam(f"new_{name}") for name in TEXT_NAMES},
    )
)
_BLANK: dict[str, Any] = {"custom": {}, **dict.fromkeys(TEXT_NAMES)}
_TAG = PerDialect(
    lambda insert: insert(tags).on_conflict_do_nothing().returning(tags.c.contact_id)
)
_NAME_SEGMENT = PerDialect(lambda insert: insert(segments).on_conflict_do_nothing())
_SEGMENT_IDS = select(segments.c.name, segments.c.id).where(
    segments.c.name.in_(bindparam("names", expanding=True))
)
_JOIN = PerDialect(
    lambda insert: (
        insert(memberships).on_conflict_do_nothing().returning(memberships.c.contact_id)
    )
)


def write_fields(
    transaction: Transaction,
    given: Sequence[tuple[int, ContactData]],
    now: datetime,
    *,
    blank: Collection[int] = (),
) -> dict[int, tuple[str, ...]]:
    """Set the fields that were given; return contact id → names that changed.

    Args:
        given: contact id and data; a text field given as "" and a custom field
            given as None are emptied, what is not given stays. Several entries
            for one contact: the later wins.
        blank: contacts of this transaction that have no field yet.
    """
    ids = sorted({contact_id for contact_id, _ in given}.difference(blank))
    now_known = {
        row["id"]: dict(row)
        for start in range(0, len(ids), CHUNK)
        for row in transaction.execute(
            _READ, {"ids": ids[start : start + CHUNK]}
        ).mappings()
    }
    for contact_id in blank:
        now_known[contact_id] = dict(_BLANK)
    changed: dict[int, dict[str, None]] = {}
    for contact_id, data in given:
        row = now_known.get(contact_id)
        if row is None:
            continue
        names = changed.setdefault(contact_id, {})
        for name, text in data.fields.items():
            if (row[name] or "") != text:
                row[name] = text or None
                names[name] = None
        if data.custom:
            custom = dict(row["custom"] or {})
            for name, value in data.custom.items():
                if custom.get(name) != value:
                    custom[name] = value
                    if value is None:
                        del custom[name]
                    names[name] = None
            row["custom"] = custom
    rows: list[dict[str, Any]] = [
        {
            "of": contact_id,
            "moment": now,
            "new_custom": now_known[contact_id]["custom"] or {},
            **{f"new_{name}": now_known[contact_id][name] for name in TEXT_NAMES},
        }
        for contact_id, names in changed.items()
        if names
    ]
    if rows:
        transaction.execute(_WRITE, rows)
    return {contact_id: tuple(names) for contact_id, names in changed.items() if names}


def add_tags(transaction: Transaction, pairs: Iterable[tuple[int, str]]) -> set[int]:
    """Stick tags on contacts; return who had one of theirs not yet."""
    rows = [{"contact_id": c, "tag": tag} for c, tag in dict.fromkeys(pairs)]
    if not rows:
        return set()
    return set(transaction.execute(_TAG(transaction), rows).scalars())


def add_to_segments(
    transaction: Transaction, pairs: Iterable[tuple[int, str]]
) -> set[int]:
    """Put contacts into our segments by name; return who was not in yet.

    A segment is made on first use.
    """
    wanted = list(dict.fromkeys(pairs))
    if not wanted:
        return set()
    ids = segment_ids(transaction, sorted({name for _, name in wanted}))
    rows = [
        {"segment_id": ids[name], "contact_id": contact} for contact, name in wanted
    ]
    return set(transaction.execute(_JOIN(transaction), rows).scalars())


def segment_ids(transaction: Transaction, names: Sequence[str]) -> dict[str, int]:
    """Return our segments' ids by name, made where missing."""
    found = _read_segment_ids(transaction, names)
    missing = [{"name": name} for name in names if name not in found]
    if missing:
        transaction.execute(_NAME_SEGMENT(transaction), missing)
        found = _read_segment_ids(transaction, names)
    return found


def _read_segment_ids(transaction: Transaction, names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(names), CHUNK):
        part = {"names": names[start : start + CHUNK]}
        found.update(
            {row.name: row.id for row in transaction.execute(_SEGMENT_IDS, part)}
        )
    return found
