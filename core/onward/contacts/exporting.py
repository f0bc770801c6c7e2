"""Every contact as rows, a page at a time, for CSV and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from sqlalchemy import BindParameter, RowMapping, bindparam, select
from sqlalchemy import Connection as Transaction

from onward.contacts.declared import custom_fields
from onward.contacts.facts import TEXT_NAMES
from onward.contacts.headers import IDENTITY, opt_out_word
from onward.contacts.suppress import Stop, find_suppressions
from onward.contacts.writing import write_csv
from onward.delivery.prepare import words_for
from onward.errors import InputError
from onward.models import (
    Contact,
    ContactSegment,
    ContactTag,
    Identity,
    Segment,
    table,
)
from onward.runtime import Runtime

contacts = table(Contact)
identities = table(Identity)
tags = table(ContactTag)
memberships = table(ContactSegment)
segments = table(Segment)

PAGE = 500

# A contact as `contacts export` and `contacts show` give it, in this order.
NAMES: tuple[str, ...] = (
    "id",
    "email",
    *TEXT_NAMES,
    "points",
    "tags",
    "segments",
    "do_not_contact",
    "suppressions",
    "identities",
    "custom",
    "created_at",
    "updated_at",
)
# The stricter word first: it is the one a file has room for.
_STRICT = ("complaint", "unsubscribed", "bounced", "manual")

_LIVE = (contacts.c.merged_into.is_(None), contacts.c.erased_at.is_(None))
_PAGE = (
    select(contacts)
    .where(contacts.c.id > bindparam("after"), *_LIVE)
    .order_by(contacts.c.id)
    .limit(PAGE)
)
_ONE = select(contacts).where(contacts.c.id == bindparam("of"), *_LIVE)
_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_SOME = select(contacts).where(contacts.c.id.in_(_IDS), *_LIVE).order_by(contacts.c.id)
_TAGS = (
    select(tags.c.contact_id, tags.c.tag)
    .where(tags.c.contact_id.in_(_IDS))
    .order_by(tags.c.contact_id, tags.c.tag)
)
_SEGMENTS = (
    select(memberships.c.contact_id, segments.c.name)
    .join(segments, segments.c.id == memberships.c.segment_id)
    .where(memberships.c.contact_id.in_(_IDS))
    .order_by(memberships.c.contact_id, segments.c.name)
)
_IDENTITIES = (
    select(identities)
    .where(identities.c.contact_id.in_(_IDS), identities.c.kind != "email")
    .order_by(identities.c.contact_id, identities.c.kind, identities.c.value)
)
_KINDS = (
    select(identities.c.kind)
    .where(identities.c.kind != "email")
    .distinct()
    .order_by(identities.c.kind)
)


def export_rows(
    runtime: Runtime, *, fields: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Give every contact that is neither merged nor erased, in the order of ids.

    Pages of 500 are read one by one, so that an export of any size holds little
    memory and blocks no writer; a contact changed meanwhile is given as it was
    when its page was read.

    Args:
        fields: names to leave in, of `NAMES`; None = all.

    Yields:
        `{"id": 1, "email": "ana@shop.example", "first_name": …, "points": 10,
        "tags": ["vip"], "segments": ["Newsletter"], "do_not_contact": "",
        "suppressions": [{"scope", "code", "reason", "seen_at", …}],
        "identities": {"visitor": "…"}, "custom": {…}, "created_at": …}`. Of
        several identities of one kind the first by alphabet; blank fields are
        None; moments are ISO 8601 text.

    Raises:
        InputError: there is no such field.
    """
    unknown = [name for name in fields or () if name not in NAMES]
    if unknown:
        raise InputError(
            f'a contact has no "{unknown[0]}" to export; there are: {", ".join(NAMES)}'
        )
    return _export(runtime, fields)


def _export(runtime: Runtime, fields: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        with runtime.database.read() as transaction:
            page = transaction.execute(_PAGE, {"after": after}).mappings().all()
            rows = _rows(transaction, page)
        for row in rows:
            yield row if fields is None else {name: row[name] for name in fields}
        if len(page) < PAGE:
            return
        after = page[-1]["id"]


def contact_as_dict(transaction: Transaction, contact_id: int) -> dict[str, Any] | None:
    """Return one contact as `export_rows` gives it, None when it is gone."""
    found = transaction.execute(_ONE, {"of": contact_id}).mappings().all()
    return next(iter(_rows(transaction, found)), None)


def contacts_as_dicts(
    transaction: Transaction, ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Return these contacts as `export_rows` gives them; those that are gone left out.

    Args:
        ids: at most a page of them.
    """
    found = transaction.execute(_SOME, {"ids": list(ids)}).mappings().all()
    return _rows(transaction, found)


def _rows(transaction: Transaction, page: Sequence[RowMapping]) -> list[dict[str, Any]]:
    if not page:
        return []
    ids = [row["id"] for row in page]
    stops = find_suppressions(
        transaction, {row["id"]: [row["email"] or ""] for row in page}
    )
    made: dict[int, dict[str, Any]] = {}
    for row in page:
        active = [stop for stop in stops.get(row["id"], []) if not stop.lifted_at]
        made[row["id"]] = {
            "id": row["id"],
            "email": row["email"],
            **{name: row[name] for name in TEXT_NAMES},
            "points": row["points"],
            "tags": [],
            "segments": [],
            "do_not_contact": _word(active),
            "suppressions": [suppression_as_dict(stop) for stop in active],
            "identities": {},
            "custom": row["custom"] or {},
            "created_at": row["created_at"].isoformat(),
            "updated_at": row["updated_at"].isoformat(),
        }
    for contact_id, tag in transaction.execute(_TAGS, {"ids": ids}):
        made[contact_id]["tags"].append(tag)
    for contact_id, name in transaction.execute(_SEGMENTS, {"ids": ids}):
        made[contact_id]["segments"].append(name)
    for one in transaction.execute(_IDENTITIES, {"ids": ids}):
        made[one.contact_id]["identities"].setdefault(one.kind, one.value)
    return list(made.values())


def suppression_as_dict(stop: Stop) -> dict[str, Any]:
    """Return a suppression with its words, as `contacts show` gives it."""
    return {
        "scope": stop.scope,
        "code": stop.code,
        "reason": words_for(stop),
        "source": stop.source,
        "identity": stop.identity,
        "segment": stop.segment,
        "seen_at": stop.seen_at.isoformat(),
        "lifted_at": stop.lifted_at.isoformat() if stop.lifted_at else None,
    }


def _word(stops: Sequence[Stop]) -> str:
    """Return the word an import takes for these suppressions, "" for none.

    Only what holds everywhere: an opt-out of one remote segment must not come
    back as an opt-out of all.
    """
    words = {
        opt_out_word(stop.code) or "manual" for stop in stops if stop.scope == "address"
    }
    return next((word for word in _STRICT if word in words), "")


def csv_columns(runtime: Runtime) -> list[str]:
    """Return the columns of a CSV of all contacts, which an import knows."""
    with runtime.database.read() as transaction:
        kinds = transaction.execute(_KINDS).scalars().all()
    return [
        "id",
        "email",
        *TEXT_NAMES,
        "points",
        "tags",
        "segments",
        "do_not_contact",
        *(f"{IDENTITY}{kind}" for kind in kinds),
        *sorted(custom_fields(runtime)),
    ]


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `export_rows` with one value per CSV column."""
    custom: Mapping[str, Any] = row.get("custom") or {}
    known: Mapping[str, str] = row.get("identities") or {}
    return {
        **custom,
        **{name: value for name, value in row.items() if name not in _NESTED},
        **{f"{IDENTITY}{kind}": value for kind, value in known.items()},
    }


_NESTED = frozenset({"custom", "identities", "suppressions"})


def export_csv(
    runtime: Runtime,
    stream: TextIO,
    *,
    rows: Iterable[Mapping[str, Any]] | None = None,
    columns: Sequence[str] | None = None,
    bom: bool = False,
) -> int:
    """Write contacts as CSV, formulas neutralised; return how many.

    Args:
        stream: opened with newline="".
        rows: as `export_rows` gives them; None = every contact.
        columns: of `csv_columns`; None = all of them.
        bom: begin with a byte order mark, for Excel.

    Raises:
        InputError: there is no such column.
    """
    known = csv_columns(runtime)
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise InputError(
            f'there is no column "{unknown[0]}" to export; there are: '
            f"{', '.join(known)}"
        )
    flat = map(flat_row, export_rows(runtime) if rows is None else rows)
    return write_csv(stream, flat, columns or known, bom=bom)
