"""Push everybody in an audience: a back-fill that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

import orjson
from sqlalchemy import Connection as Transaction

from onward.audiences.aim import (
    KIND,
    Aim,
    What,
    name_of,
    read_aim,
    read_place,
    sort_out,
)
from onward.audiences.members import Told, count_members, keep_members, next_members
from onward.audiences.pushed import Pushed
from onward.contacts.elsewhere import ask_facts
from onward.contacts.release import lock_contacts
from onward.delivery import jobs
from onward.delivery.lease import Held, end_within, held_until, take
from onward.delivery.queue import BACKFILL, Wish, enqueue
from onward.delivery.refusing import Refusal, Refused
from onward.errors import Fenced, InputError
from onward.events.action import Recorded
from onward.events.announce import announce_recorded
from onward.failpoints import failpoint
from onward.runtime import Runtime

Queued = Callable[[Collection[int]], None]


def push_members(
    runtime: Runtime,
    what: What,
    *,
    to: str,
    segment: str | None = None,
    force: bool = False,
    on_progress: Told = lambda members: None,
    on_queued: Queued = lambda connections: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Pushed:
    """Queue a push of every member who can be pushed there.

    Commits batch by batch; killed, the same call goes on where it stopped. Its pushes
    wait behind those of live events. Who becomes a member behind that place is not
    looked at again.

    Args:
        what: key of an audience, or conditions that are not saved.
        to: name of the connection.
        segment: remote segment by name or id; None = the connection's own.
        force: send even what seems unchanged. Opt-outs are obeyed all the same.
        on_progress: told how many members were looked at.
        on_queued: told which connections have work now.
        stopping: asked before each batch.

    Raises:
        ConfigError: a condition cannot be read.
        InputError: there is no such audience, connection or segment; it is switched
            off; another process does it now, or a different one was interrupted.
    """
    with runtime.database.read() as transaction:
        aim = read_aim(runtime, transaction, what, to, segment, force=force)
        read_place(transaction, aim)
    lease, length = _lease(aim.name), runtime.config.lease
    held = take(runtime.database, lease, length, runtime.clock)
    if held is None:
        raise InputError(_busy(runtime, aim))
    try:
        job = _job(runtime, aim, held)
        work = _Work(runtime, aim, held, job, on_progress, on_queued, stopping)
        return work.run()
    except Fenced:
        raise InputError(
            f"another process goes on with the push of {aim.words}: this one was away "
            "for longer than its lease"
        ) from None
    finally:
        held.release()


def cancel_push(
    runtime: Runtime, what: What, *, to: str, segment: str | None = None
) -> bool:
    """Stop a push of an audience at its next batch; False when there is none.

    Afterwards it can begin anew at once, also when the process that did it was
    killed: one that lives can queue nothing more. What was queued stays queued.

    Raises:
        ConfigError, InputError: there is none, and no such audience or connection.
    """

    def work(transaction: Transaction) -> bool:
        # One that was taken out of the file meanwhile is stopped all the same.
        if isinstance(what, str):
            name = name_of(what, to, segment)
        else:
            name = read_aim(runtime, transaction, what, to, segment).name
        now = runtime.clock()
        found = _interrupted(transaction, name)
        cancelled = found is not None and jobs.finish(
            transaction, found.id, "cancelled", now
        )
        if end_within(transaction, _lease(name), now) or cancelled:
            return True
        read_aim(runtime, transaction, what, to, segment)
        return False

    return runtime.database.run(work)


def _lease(name: str) -> str:
    return f"{KIND}:{name}"


def _busy(runtime: Runtime, aim: Aim) -> str:
    until = held_until(runtime.database, _lease(aim.name))
    latest = f" at {until:%H:%M:%S} UTC at the latest" if until else ""
    return (
        f"another process pushes {aim.words} to {aim.to} now; wait for it, or stop it: "
        "the same command with --cancel. If that process was killed, this can go on"
        f"{latest}, and at once after the cancel"
    )


def _interrupted(transaction: Transaction, name: str) -> jobs.JobRow | None:
    """Return the job of the same people and place that did not end."""
    for row in jobs.running(transaction, KIND):
        if orjson.loads(row.key)[0] == name:
            return row
    return None


def _job(runtime: Runtime, aim: Aim, held: Held) -> jobs.JobRow:
    """Return the job that was interrupted, or a new one."""
    with runtime.database.read() as transaction:
        found = _interrupted(transaction, aim.name)
    if found is not None and found.key != aim.job:
        raise InputError(
            f"a push of {aim.words} to {aim.to} was interrupted after {found.done:,} "
            f"of {found.total:,} members, and its conditions or --force were others "
            "then; the same command with --cancel forgets it"
        )
    if found is not None:
        return found
    total = count_members(
        runtime, aim.question, on_progress=lambda members: held.renew()
    )
    now = runtime.clock()
    return runtime.database.run(lambda t: jobs.begin(t, KIND, aim.job, total, now))


@dataclass(slots=True)
class _Batch:
    refused: list[Refusal]
    queued: dict[Wish, int]


@dataclass(slots=True)
class _Work:
    """One batch after the other; each a transaction of its own."""

    runtime: Runtime
    aim: Aim
    held: Held
    job: jobs.JobRow
    on_progress: Told
    on_queued: Queued
    stopping: Callable[[], bool]
    after: int = field(init=False)
    done: int = field(init=False)

    def __post_init__(self) -> None:
        self.after, self.done = self.job.cursor, self.job.done

    def run(self) -> Pushed:
        """Do all that are left."""
        count, refused = 0, Refused()

        def so_far(*, cancelled: bool = False, stopped: bool = False) -> Pushed:
            return Pushed(
                self.aim.key,
                self.aim.to,
                self.done,
                max(self.job.total, self.done),
                count,
                refused,
                cancelled=cancelled,
                stopped=stopped,
            )

        place = self.after
        while True:
            if self.stopping():
                return so_far(stopped=True)
            self.held.renew()
            # Looked for by reading alone: a rare member is found after many others.
            with self.runtime.database.read() as transaction:
                place, members = next_members(
                    transaction, self.aim.question, place, self.runtime
                )
            if not place:
                break
            if not members:
                continue
            ids = list(members)
            queue = partial(self._queue, place, ids)
            batch = self.runtime.database.run(queue)
            if batch is None:
                return so_far(cancelled=True)
            self.after = place
            self.done += len(ids)
            count += len(batch.queued)
            refused.add(batch.refused)
            failpoint("after_audience_batch")
            self.on_queued({wish.connection_id for wish in batch.queued})
            announce_recorded(self.runtime, Recorded([], queued=batch.queued))
            self.on_progress(len(ids))
        now = self.runtime.clock()
        self.runtime.database.run(lambda t: jobs.finish(t, self.job.id, "done", now))
        return so_far()

    def _queue(
        self, place: int, ids: Sequence[int], transaction: Transaction
    ) -> _Batch | None:
        """Queue those who still are members and can be pushed; None = cancelled.

        Raises:
            Fenced: another process went on with the job.
        """
        now, question = self.runtime.clock(), self.aim.question
        lock_contacts(transaction, ids)
        found = ask_facts(transaction, ids, question.asks)
        members = keep_members(question, found, now)
        state, segment = read_place(transaction, self.aim)
        may, refused = sort_out(transaction, state, segment, members)
        if not jobs.move(transaction, self.job.id, self.after, place, len(ids), now):
            if jobs.is_stopped(transaction, self.job.id):
                return None
            raise Fenced
        wishes = [
            Wish(
                state.id,
                id_,
                segment,
                KIND,
                self.aim.key,
                priority=BACKFILL,
                force=self.aim.force,
            )
            for id_ in may
        ]
        queued = enqueue(transaction, wishes, now)
        failpoint("during_backfill")
        return _Batch(refused, queued)
