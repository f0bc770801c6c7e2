"""The job of a replay in bulk: where it stands, for whoever goes on with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, insert, select, update

from onward.delivery.listing import Wanted
from onward.models import Job, table

jobs = table(Job)

KIND = "replay"

_RUNNING = (
    select(jobs)
    .where(jobs.c.kind == KIND, jobs.c.state == "running")
    .order_by(jobs.c.id.desc())
    .limit(1)
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
    .where(jobs.c.kind == KIND, jobs.c.state == "running")
    .values(state=bindparam("next"), finished_at=bindparam("moment"))
)


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """A replay in bulk that began and did not end.

    Args:
        newest: number of the newest row when it began.
        cursor: number of the last row it looked at.
        done, total: rows it looked at, and is to look at.
    """

    id: int
    wanted: Wanted
    force: bool
    newest: int
    cursor: int
    done: int
    total: int


def running_job(transaction: Transaction) -> ReplayJob | None:
    """Return the replay that was begun and did not end."""
    row = transaction.execute(_RUNNING).mappings().first()
    if row is None:
        return None
    said: dict[str, Any] = orjson.loads(row["key"])
    wanted: dict[str, Any] = said["wanted"]
    for name in ("since", "until"):
        if wanted.get(name):
            wanted[name] = datetime.fromisoformat(wanted[name])
    return ReplayJob(
        row["id"],
        Wanted(**wanted),
        said["force"],
        said["newest"],
        row["cursor"],
        row["done"],
        row["total"],
    )


def begin_job(
    transaction: Transaction,
    wanted: Wanted,
    newest: int,
    total: int,
    now: datetime,
    *,
    force: bool,
) -> ReplayJob:
    """Write down that a replay begins."""
    filters = {name: value for name, value in asdict(wanted).items() if value}
    said = {"wanted": filters, "force": force, "newest": newest}
    row = {
        "kind": KIND,
        "key": orjson.dumps(said).decode(),
        "state": "running",
        "cursor": 0,
        "done": 0,
        "total": total,
        "created_at": now,
        "updated_at": now,
    }
    id_ = int(transaction.execute(_BEGIN, row).scalar_one())
    return ReplayJob(id_, wanted, force, newest, 0, 0, total)


def move_job(
    transaction: Transaction, job: ReplayJob, to: int, more: int, now: datetime
) -> bool:
    """Note how far it is; False when somebody else was there, or stopped it."""
    row = {"of": job.id, "from": job.cursor, "to": to, "more": more, "moment": now}
    return transaction.execute(_MOVE, row).rowcount == 1


def is_stopped(transaction: Transaction, job: ReplayJob) -> bool:
    """Tell whether somebody stopped it."""
    return transaction.execute(_STATE, {"of": job.id}).scalar() == "cancelled"


def finish_jobs(transaction: Transaction, state: str, now: datetime) -> bool:
    """End what runs, as `done` or `cancelled`; tell whether anything did."""
    given = {"next": state, "moment": now}
    return transaction.execute(_FINISH, given).rowcount > 0
