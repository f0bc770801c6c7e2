"""Rows in: what is to be done to remote contacts, in the transaction that wants it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ColumnElement, bindparam, case, select, text, update
from sqlalchemy import Connection as Transaction

from onward.among import ForEach
from onward.errands.attempts import scrub_attempts
from onward.models import Errand, table
from onward.models.sync import OPEN_ERRAND_SQL
from onward.sql import Rows, unindexed

errands = table(Errand)

UNSUBSCRIBE = "unsubscribe"
ERASE = "erase"
OPEN = ("waiting", "sending")

_COLUMNS = [column for column in errands.c if column.key != "id"]


def _add(insert: Any) -> Any:
    statement = insert(errands).on_conflict_do_nothing(
        index_elements=["connection_id", "remote_id", "kind"],
        index_where=text(OPEN_ERRAND_SQL),
    )
    return statement.returning(
        errands.c.connection_id,
        errands.c.contact_id,
        errands.c.remote_id,
        errands.c.kind,
    )


_ADD = Rows(_add, _COLUMNS)
_HOLD = ForEach(
    lambda among: (
        select(errands.c.id, errands.c.remote_id, errands.c.attempts)
        .where(among(errands.c.id, "ids"), errands.c.state.in_(OPEN))
        .order_by(errands.c.id)
        .with_for_update()
    )
)
_END = ForEach(
    lambda among: (
        update(errands)
        .where(among(errands.c.id, "ids"))
        .values(
            state=bindparam("next"),
            remote_id=case(
                (bindparam("kept", type_=Boolean()), errands.c.remote_id), else_=""
            ),
            code=bindparam("word"),
            reason=bindparam("why"),
            tries=errands.c.tries + bindparam("more"),
            finished_at=bindparam("moment"),
        )
    )
)


@dataclass(frozen=True, slots=True)
class Order:
    """Something to be done to one remote contact.

    Args:
        contact_id: whose it is; 0 = of nobody we know.
        kind: `unsubscribe` or `erase`.
    """

    connection_id: int
    contact_id: int
    remote_id: str
    kind: str


def queue_errands(
    transaction: Transaction, orders: Iterable[Order], asked_by: str, now: datetime
) -> list[Order]:
    """Write down what is to be done; return what was not on the list already."""
    wanted = {(o.connection_id, o.remote_id, o.kind): o for o in orders}
    # In key order: two transactions that want the same ones do not deadlock.
    rows: list[tuple[object, ...]] = [
        (
            one.connection_id,
            one.contact_id,
            one.remote_id,
            one.kind,
            "waiting",
            0,
            now,
            "",
            "",
            asked_by,
            [],
            now,
            None,
        )
        for _, one in sorted(wanted.items())
    ]
    return [Order(*row) for row in _ADD(transaction, rows)] if rows else []


def end_errands(
    transaction: Transaction,
    ids: Collection[int],
    state: str,
    now: datetime,
    *,
    code: str,
    reason: str = "",
    tries: int = 0,
    keep_id: bool = False,
) -> dict[int, str]:
    """End open errands; nothing that was said about these people stays.

    Args:
        tries: failed ones to be counted.
        keep_id: keep the remote id, for somebody who has to do it by hand.

    Returns:
        Those that were open: id → remote id.
    """
    held = transaction.execute(_HOLD(transaction), {"ids": list(ids)}).all()
    if not held:
        return {}
    found: dict[int, str] = {row.id: row.remote_id for row in held}
    given = {
        "ids": list(found),
        "next": state,
        "kept": keep_id,
        "word": code,
        "why": reason,
        "more": tries,
        "moment": now,
    }
    transaction.execute(_END(transaction), given)
    attempts = {attempt for row in held for attempt in row.attempts}
    scrub_attempts(transaction, attempts, found.values())
    return found


def given_up_words(kind: str, why: str) -> str:
    """Return what a person has to know of an errand that nobody does any more."""
    what = {ERASE: "erased", UNSUBSCRIBE: "unsubscribed"}.get(kind, kind)
    return f"somebody could not be {what} there and must be by hand: {why}"


def cancel_for_connection(
    transaction: Transaction,
    connection_id: int,
    code: str,
    reason: str,
    now: datetime,
) -> int:
    """Cancel all of a connection that leads elsewhere now, or is gone."""
    mine = unindexed(errands.c.connection_id) == connection_id
    return _cancel(transaction, (mine,), OPEN, code, reason, now)


def cancel_opt_outs(
    transaction: Transaction, contact_id: int, reason: str, now: datetime
) -> int:
    """Cancel unsubscribing somebody who allows it again, if it has not left yet."""
    wanted = (
        errands.c.contact_id == contact_id,
        errands.c.kind == UNSUBSCRIBE,
    )
    return _cancel(transaction, wanted, ("waiting",), "consent", reason, now)


def supersede(transaction: Transaction, erased: Sequence[Order], now: datetime) -> int:
    """Cancel unsubscribing where somebody is erased altogether."""
    ended = 0
    for one in erased:
        if one.kind != ERASE:
            continue
        same = (
            errands.c.connection_id == one.connection_id,
            errands.c.remote_id == one.remote_id,
            errands.c.kind == UNSUBSCRIBE,
        )
        why = "they are erased there altogether"
        ended += _cancel(transaction, same, ("waiting",), "erased", why, now)
    return ended


def _cancel(
    transaction: Transaction,
    which: Sequence[ColumnElement[bool]],
    states: Sequence[str],
    code: str,
    reason: str,
    now: datetime,
) -> int:
    found = transaction.execute(
        select(errands.c.id)
        .where(*which, errands.c.state.in_(states), text(OPEN_ERRAND_SQL))
        .order_by(errands.c.id)
        .with_for_update()
    ).scalars()
    ids = list(found)
    if ids:
        end_errands(transaction, ids, "cancelled", now, code=code, reason=reason)
    return len(ids)
