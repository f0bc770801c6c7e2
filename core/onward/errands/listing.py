"""Errands as rows for people and programs, and what people do about them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, bindparam, select, update

from onward.connections.remove import removed_names
from onward.errands.queue import OPEN
from onward.errors import InputError
from onward.models import Connection, Errand, table

errands = table(Errand)
connections = table(Connection)

COLUMNS = (
    "id",
    "connection",
    "kind",
    "state",
    "code",
    "reason",
    "contact_id",
    "remote_id",
    "tries",
    "asked_by",
    "due_at",
    "created_at",
    "finished_at",
)

_ALL = (
    select(errands, connections.c.name.label("connection"))
    .outerjoin(connections, connections.c.id == errands.c.connection_id)
    .order_by(errands.c.id)
)
_OF_CONTACTS = _ALL.where(errands.c.contact_id.in_(bindparam("ids", expanding=True)))
_others = errands.alias("others")


def list_errands(
    transaction: Transaction,
    *,
    state: str = "",
    connection: str = "",
    contacts: Collection[int] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield errands, the oldest first.

    Args:
        contacts: only theirs; None = everybody's.
    """
    wanted, given = _ALL, {}
    if contacts is not None:
        wanted, given = _OF_CONTACTS, {"ids": list(contacts)}
    if state:
        wanted = wanted.where(errands.c.state == state)
    gone = removed_names(transaction)
    for row in transaction.execute(wanted, given).mappings():
        found = _document(row, gone)
        if connection in ("", found["connection"]):
            yield found


def _document(row: RowMapping, gone: dict[int, str]) -> dict[str, Any]:
    found = {name: row[name] for name in COLUMNS}
    found["connection"] = row["connection"] or gone.get(row["connection_id"], "")
    if row["finished_at"] is not None:
        found["due_at"] = None
    return found


def words_for_errand(errand: dict[str, Any]) -> str:
    """Return an errand in words, without its connection."""
    what = f"{errand['kind']} {errand['state']}"
    why = errand["reason"] or (
        errand["code"] if errand["code"] != errand["state"] else ""
    )
    tries = f", {errand['tries']} failed" if errand["tries"] else ""
    return f"errand {errand['id']}: {what}{tries}{f': {why}' if why else ''}"


def try_again(transaction: Transaction, ids: Collection[int], now: datetime) -> None:
    """Let given-up errands begin anew.

    Raises:
        InputError: one of them was not given up, or there is another like it.
    """
    _check_failed(transaction, ids)
    same = (
        select(_others.c.id)
        .where(
            _others.c.connection_id == errands.c.connection_id,
            _others.c.remote_id == errands.c.remote_id,
            _others.c.kind == errands.c.kind,
            _others.c.state.in_(OPEN),
        )
        .exists()
    )
    changed = transaction.execute(
        update(errands)
        .where(errands.c.id.in_(ids), errands.c.state == "failed", ~same)
        .values(state="waiting", tries=0, due_at=now, finished_at=None)
    ).rowcount
    if changed != len(set(ids)):
        raise InputError(
            "the same is asked of the service anew already; `onward errands` lists it"
        )


def note_by_hand(
    transaction: Transaction, ids: Collection[int], who: str, now: datetime
) -> None:
    """Note that somebody did given-up errands by hand; the remote id is forgotten.

    Raises:
        InputError: one of them was not given up.
    """
    _check_failed(transaction, ids)
    transaction.execute(
        update(errands)
        .where(errands.c.id.in_(ids), errands.c.state == "failed")
        .values(
            state="done",
            code="by_hand",
            reason=f"done by hand, says {who}",
            remote_id="",
            finished_at=now,
        )
    )


def _check_failed(transaction: Transaction, ids: Collection[int]) -> None:
    found = transaction.execute(
        select(errands.c.id)
        .where(errands.c.id.in_(ids), errands.c.state == "failed")
        .with_for_update()
    )
    left = sorted(set(ids).difference(found.scalars()))
    if left:
        raise InputError(
            f"errand {left[0]} was not given up, so there is nothing to do about it; "
            "`onward errands` lists them"
        )
