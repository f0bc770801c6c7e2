"""Messages about alerts that were not taken yet: at least once, by one at a time."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, delete, func, insert, select, update

from onward.alerts.words import body, told_of
from onward.models import AlertMessage, table

messages = table(AlertMessage)

# Whoever took a message and said nothing for so long is dead.
HOLD = timedelta(minutes=1)
# After the first, second, … refusal; the last one from then on.
PAUSES = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
)
GIVE_UP = timedelta(days=3)
# More than these that were refused become one.
MOST = 5

_ADD = insert(messages)
_FIRST = (
    select(messages.c.id)
    .where(messages.c.due_at <= bindparam("moment"))
    .order_by(messages.c.due_at, messages.c.id)
    .limit(1)
    .scalar_subquery()
)
_TAKE = (
    update(messages)
    # Whoever waited for another one to take it finds it taken.
    .where(messages.c.id == _FIRST, messages.c.due_at <= bindparam("moment"))
    .values(due_at=bindparam("to"))
    .returning(*messages.c)
)
_THIS = messages.c.id == bindparam("of")
_DROP = delete(messages).where(_THIS)
_LOGGED = update(messages).where(_THIS).values(logged=True)
_LATER = (
    update(messages)
    .where(_THIS)
    .values(tries=messages.c.tries + 1, due_at=bindparam("to"))
)
_REFUSED = (
    select(messages).where(messages.c.tries > 0).order_by(messages.c.id)
).with_for_update()
_COUNT = select(func.count()).where(messages.c.tries > 0)


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be told.

    Args:
        key: the same in every try.
        logged: it stands in a log already.
        tries: how often it was refused.
    """

    id: int
    key: str
    body: dict[str, Any]
    logged: bool
    tries: int
    created_at: datetime


def new_key() -> str:
    """Return a name for a message that no other has."""
    return f"msg_{uuid.uuid4().hex}"


def add(transaction: Transaction, said: dict[str, Any], now: datetime) -> None:
    """Store what is to be told."""
    row = {"key": new_key(), "body": said, "logged": False, "tries": 0}
    transaction.execute(_ADD, {**row, "due_at": now, "created_at": now})


def take(transaction: Transaction, now: datetime) -> Message | None:
    """Take the next message that is due; nobody else has it for a minute."""
    given = {"moment": now, "to": now + HOLD}
    row = transaction.execute(_TAKE, given).mappings().first()
    if row is None:
        return None
    return Message(*(row[name] for name in Message.__slots__))


def mark_logged(transaction: Transaction, message: Message) -> None:
    """Note that it stands in a log."""
    transaction.execute(_LOGGED, {"of": message.id})


def drop(transaction: Transaction, message: Message) -> bool:
    """Forget a message; tell whether none is left that was refused."""
    transaction.execute(_DROP, {"of": message.id})
    return count_refused(transaction) == 0


def postpone(transaction: Transaction, message: Message, now: datetime) -> bool:
    """Try again later; tell whether it is the first that is refused."""
    first = count_refused(transaction) == 0
    pause = PAUSES[min(message.tries, len(PAUSES) - 1)]
    transaction.execute(_LATER, {"of": message.id, "to": now + pause})
    return first


def count_refused(transaction: Transaction) -> int:
    """Return how many messages were refused, and are tried again."""
    return transaction.execute(_COUNT).scalar_one()


def fold_refused(transaction: Transaction, now: datetime) -> None:
    """Make one message of many that nobody took: no flood when somebody does."""
    refused: Sequence[Any] = transaction.execute(_REFUSED).mappings().all()
    if len(refused) <= MOST:
        return
    alerts = {one["id"]: one for row in refused for one in told_of(row["body"])}
    for row in refused:
        transaction.execute(_DROP, {"of": row["id"]})
    row = {
        "key": new_key(),
        "body": body(list(alerts.values()), now, "alert.digest"),
        "logged": True,
        "tries": max(row["tries"] for row in refused),
        "due_at": min(row["due_at"] for row in refused),
        "created_at": now,
    }
    transaction.execute(_ADD, row)
