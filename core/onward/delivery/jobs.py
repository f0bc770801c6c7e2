"""The row of a long piece of work: where it stands, for whoever goes on with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, insert, select, update

from onward.models import Job, table

jobs = table(Job)

_RUNNING = (
    select(jobs)
    .where(jobs.c.kind == bindparam("of"), jobs.c.state == "running")
    .order_by(jobs.c.id.desc())
)
_BEGIN = insert(jobs).returning(jobs.c.id)
_MOVE = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("of"),
        jobs.c.state == "running",
        jobs.c.cursor == bindparam("from"),
    )
    .values(
        cursor=bindparam("to"),
        done=jobs.c.done + bindparam("more"),
        updated_at=bindparam("moment"),
    )
)
_STATE = select(jobs.c.state).where(jobs.c.id == bindparam("of"))
_FINISH = (
    update(jobs)
    .where(jobs.c.id == bindparam("of"), jobs.c.state == "running")
    .values(state=bindparam("next"), finished_at=bindparam("moment"))
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job that began and did not end.

    Args:
        key: what it does; the same call finds it again by this.
        cursor: number of the last row it looked at.
    """

    id: int
    key: str
    cursor: int
    done: int
    total: int


def running(transaction: Transaction, kind: str) -> list[JobRow]:
    """Return the jobs that were begun and did not end, the latest first."""
    found = transaction.execute(_RUNNING, {"of": kind})
    return [JobRow(row.id, row.key, row.cursor, row.done, row.total) for row in found]


def begin(
    transaction: Transaction, kind: str, key: str, total: int, now: datetime
) -> JobRow:
    """Write down that one begins."""
    row = {
        "kind": kind,
        "key": key,
        "state": "running",
        "cursor": 0,
        "done": 0,
        "total": total,
        "created_at": now,
        "updated_at": now,
    }
    id_ = int(transaction.execute(_BEGIN, row).scalar_one())
    return JobRow(id_, key, 0, 0, total)


def move(
    transaction: Transaction, of: int, start: int, to: int, more: int, now: datetime
) -> bool:
    """Note how far one is; False when somebody else was there, or stopped it.

    Args:
        start: where it was.
        more: rows that were done since.
    """
    row = {"of": of, "from": start, "to": to, "more": more, "moment": now}
    return transaction.execute(_MOVE, row).rowcount == 1


def is_stopped(transaction: Transaction, of: int) -> bool:
    """Tell whether somebody stopped it."""
    return transaction.execute(_STATE, {"of": of}).scalar() == "cancelled"


def finish(transaction: Transaction, of: int, state: str, now: datetime) -> bool:
    """End one that runs, as `done` or `cancelled`; tell whether it did."""
    given = {"of": of, "next": state, "moment": now}
    return transaction.execute(_FINISH, given).rowcount > 0
