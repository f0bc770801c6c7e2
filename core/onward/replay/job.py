"""The job of a replay in bulk: where it stands, for whoever goes on with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection as Transaction

from onward.delivery import jobs
from onward.delivery.listing import Wanted

KIND = "replay"


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
    row = next(iter(jobs.running(transaction, KIND)), None)
    if row is None:
        return None
    said: dict[str, Any] = orjson.loads(row.key)
    wanted: dict[str, Any] = said["wanted"]
    for name in ("since", "until"):
        if wanted.get(name):
            wanted[name] = datetime.fromisoformat(wanted[name])
    return ReplayJob(
        row.id,
        Wanted(**wanted),
        said["force"],
        said["newest"],
        row.cursor,
        row.done,
        row.total,
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
    row = jobs.begin(transaction, KIND, orjson.dumps(said).decode(), total, now)
    return ReplayJob(row.id, wanted, force, newest, 0, 0, total)


def move_job(
    transaction: Transaction, job: ReplayJob, to: int, more: int, now: datetime
) -> bool:
    """Note how far it is; False when somebody else was there, or stopped it."""
    return jobs.move(transaction, job.id, job.cursor, to, more, now)


def is_stopped(transaction: Transaction, job: ReplayJob) -> bool:
    """Tell whether somebody stopped it."""
    return jobs.is_stopped(transaction, job.id)


def finish_jobs(transaction: Transaction, state: str, now: datetime) -> bool:
    """End what runs, as `done` or `cancelled`; tell whether anything did."""
    ids = [row.id for row in jobs.running(transaction, KIND)]
    return sum(jobs.finish(transaction, of, state, now) for of in ids) > 0
