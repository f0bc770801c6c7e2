"""Replay rows: named ones at once, those of a filter as a job that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection as Transaction
from sqlalchemy import func, select

from onward.among import ForEach
from onward.delivery.lease import Held, end_within, held_until, take
from onward.delivery.listing import Wanted
from onward.delivery.picking import BATCH, Picked, Picker, What
from onward.delivery.queue import BACKFILL, LIVE, Wish, enqueue
from onward.delivery.refusing import Refused
from onward.errors import Fenced, InputError
from onward.events.action import Recorded
from onward.events.announce import announce_recorded
from onward.failpoints import failpoint
from onward.models import Cause, table
from onward.replay.job import (
    KIND,
    ReplayJob,
    begin_job,
    finish_jobs,
    is_stopped,
    move_job,
    running_job,
)
from onward.replay.judge import REPLAYABLE, Again, Verdicts, judge
from onward.replay.replayed import Replayed, check
from onward.runtime import Runtime

causes = table(Cause)

LEASE = timedelta(seconds=60)
# So many named rows go before back-fills; more are a back-fill themselves.
SINGLY = 100

# Of causes with the same key the latest event counts. What merges and rows that
# became one wrote has a row's number as its key.
_WHY = ForEach(
    lambda among: (
        select(
            causes.c.push_id,
            causes.c.key,
            func.max(causes.c.event_id).label("event_id"),
        )
        .where(
            among(causes.c.push_id, "rows"), causes.c.kind.not_in(("merge", "joined"))
        )
        .group_by(causes.c.push_id, causes.c.key)
        .order_by(causes.c.push_id, func.max(causes.c.id))
    )
)

Told = Callable[[int], None]
Queued = Callable[[Collection[int]], None]


@dataclass(frozen=True, slots=True)
class _Terms:
    """What is the same for all batches of one call; see `replay`."""

    runtime: Runtime
    named: bool
    force: bool
    size: int
    on_progress: Told
    on_queued: Queued


def replay(
    runtime: Runtime,
    what: What,
    *,
    force: bool = False,
    batch: int = BATCH,
    on_progress: Told = lambda rows: None,
    on_queued: Queued = lambda connections: None,
) -> Replayed:
    """Queue ended pushes again, to go as their contacts and maps are then.

    Named rows go before back-fills, those of a filter are a back-fill. A filter is
    worked on batch by batch: killed, the same call goes on where it stopped.

    Args:
        what: a filter, or numbers of rows.
        force: send even what seems unchanged. Opt-outs are obeyed all the same.
        on_progress: told how many rows were looked at.
        on_queued: told which connections have work now.

    Raises:
        InputError: nothing is named, or what is named cannot be replayed; another
            replay runs, or was interrupted.
    """
    named = check(what)
    terms = _Terms(runtime, named, force, batch, on_progress, on_queued)
    if isinstance(what, Wanted):
        return _in_bulk(terms, what)
    with runtime.database.read() as transaction:
        picker = Picker(transaction, what, REPLAYABLE)
        newest = picker.newest(transaction)
        total = picker.count(transaction, 0, newest)
    priority = LIVE if total <= SINGLY else BACKFILL
    return _Batches(terms, picker, newest, priority).run(total)


def interrupted(runtime: Runtime) -> ReplayJob | None:
    """Return the replay in bulk that runs, or was interrupted."""
    with runtime.database.read() as transaction:
        return running_job(transaction)


def stop_replay(runtime: Runtime) -> bool:
    """Stop a replay in bulk at the next batch; False when there is none.

    Afterwards another can begin at once, also when the process that did was killed:
    one that lives can queue nothing more. What was queued stays queued.
    """

    def work(transaction: Transaction) -> bool:
        now = runtime.clock()
        stopped = finish_jobs(transaction, "cancelled", now)
        end_within(transaction, KIND, now)
        return stopped

    return runtime.database.run(work)


def _in_bulk(terms: _Terms, wanted: Wanted) -> Replayed:
    runtime = terms.runtime
    held = take(runtime.database, KIND, LEASE, runtime.clock)
    if held is None:
        until = held_until(runtime.database, KIND)
        latest = f" at {until:%H:%M:%S} UTC at the latest" if until else ""
        raise InputError(
            "another process replays now; wait for it, or stop it with `onward "
            "deliveries replay --stop`. If that process was killed, this can go on"
            f"{latest}, and at once after the stop"
        )
    try:
        job, picker = runtime.database.run(partial(_job, terms, wanted))
        batches = _Batches(terms, picker, job.newest, BACKFILL, job, held)
        return batches.run(job.total)
    except Fenced:
        raise InputError(
            "another process goes on with this replay: this one was away for longer "
            "than its lease"
        ) from None
    finally:
        held.release()


def _job(
    terms: _Terms, wanted: Wanted, transaction: Transaction
) -> tuple[ReplayJob, Picker]:
    """Return the job that was interrupted, or a new one."""
    job = running_job(transaction)
    if job is not None and (job.wanted, job.force) != (wanted, terms.force):
        raise InputError(
            f"another replay was interrupted after {job.done:,} of {job.total:,} rows; "
            "`onward deliveries replay --resume` goes on with it, --stop forgets it"
        )
    picker = Picker(transaction, wanted, REPLAYABLE)
    if job is None:
        newest = picker.newest(transaction)
        total = picker.count(transaction, 0, newest)
        now = terms.runtime.clock()
        job = begin_job(transaction, wanted, newest, total, now, force=terms.force)
    return job, picker


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: list[Picked]
    verdicts: Verdicts
    queued: dict[Wish, int]


class _Batches:
    """One batch after the other; each a transaction of its own.

    Args:
        newest: rows with higher numbers are none of its business.
        job, held: of a replay in bulk.
    """

    def __init__(
        self,
        terms: _Terms,
        picker: Picker,
        newest: int,
        priority: int,
        job: ReplayJob | None = None,
        held: Held | None = None,
    ) -> None:
        self.terms = terms
        self.runtime = terms.runtime
        self.picker = picker
        self.newest = newest
        self.priority = priority
        self.job = job
        self.held = held
        self.after = job.cursor if job else 0
        self.looked = job.done if job else 0

    def run(self, total: int) -> Replayed:
        """Do all that are left."""
        count = 0
        refused = Refused()
        while True:
            if self.held is not None:
                self.held.renew()
            batch = self.runtime.database.run(self._one_batch)
            if batch is None or not batch.rows:
                break
            if self.job is not None:
                failpoint("after_replay_batch")
            self._went_on(batch)
            count += len(batch.verdicts.again)
            refused.add(batch.verdicts.refused)
        if batch is not None and self.job is not None:
            now = self.runtime.clock()
            self.runtime.database.run(lambda t: finish_jobs(t, "done", now))
        return Replayed(
            count, refused, looked=self.looked, total=total, stopped=batch is None
        )

    def _went_on(self, batch: _Batch) -> None:
        self.after = batch.rows[-1].id
        self.looked += len(batch.rows)
        if self.job is not None:
            self.job = replace(self.job, cursor=self.after)
        self.terms.on_queued({wish.connection_id for wish in batch.queued})
        announce_recorded(self.runtime, Recorded([], queued=batch.queued))
        self.terms.on_progress(len(batch.rows))

    def _one_batch(self, transaction: Transaction) -> _Batch | None:
        """Queue what may be replayed of the next rows; None = somebody stopped it.

        Raises:
            Fenced: another process went on with the job.
        """
        now, named = self.runtime.clock(), self.terms.named
        size, newest = self.terms.size, self.newest
        rows = self.picker.next(transaction, self.after, newest, size)
        verdicts = judge(transaction, rows, newest=newest, named=named, hold=True)
        if self.job is not None:
            place = rows[-1].id if rows else self.after
            if not move_job(transaction, self.job, place, len(rows), now):
                if is_stopped(transaction, self.job):
                    return None
                raise Fenced
        wishes = self._wishes(transaction, verdicts.again)
        return _Batch(rows, verdicts, enqueue(transaction, wishes, now))

    def _wishes(self, transaction: Transaction, again: Sequence[Again]) -> list[Wish]:
        """Return a wish per reason a row had: rules by their keys, and their events.

        A map that reads the causing event must still find it.
        """
        why: dict[int, list[tuple[str, int | None]]] = {}
        given = {"rows": [one.row.id for one in again]}
        for row in transaction.execute(_WHY(transaction), given):
            why.setdefault(row.push_id, []).append((row.key, row.event_id))
        return [
            Wish(
                one.state.id,
                one.contact_id,
                one.segment,
                KIND,
                key,
                event_id,
                replay_of=one.row.id,
                priority=self.priority,
                force=self.terms.force,
            )
            for one in again
            for key, event_id in why.get(one.row.id, [("", None)])
        ]
