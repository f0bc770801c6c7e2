"""Apply a point trigger to the contacts that have the points already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, func, insert, select, update

from onward.config.model import PointTrigger
from onward.contacts.upsert import add_to_segments
from onward.delivery.lease import Held, end_within, held_until, take
from onward.delivery.queue import BACKFILL, Wish, enqueue
from onward.errors import Fenced, InputError
from onward.events.action import Recorded
from onward.events.announce import announce_recorded
from onward.events.points import Fired, claim_once, trigger_claim
from onward.events.rulebook import Targets
from onward.failpoints import failpoint
from onward.models import Claim, Contact, Job, table
from onward.runtime import Runtime
from onward.waking import wake

contacts = table(Contact)
claims = table(Claim)
jobs = table(Job)

KIND = "apply"
BATCH = 200

_CLAIMED = (
    select(claims.c.key)
    .where(claims.c.key == bindparam("claim"), claims.c.contact_id == contacts.c.id)
    .exists()
)
_REACHED = (
    contacts.c.points >= bindparam("least"),
    contacts.c.merged_into.is_(None),
    contacts.c.erased_at.is_(None),
    ~_CLAIMED,
)
_COUNT = select(func.count()).select_from(contacts).where(*_REACHED)
_NEXT = (
    select(contacts.c.id, contacts.c.points)
    .where(contacts.c.id > bindparam("after"), *_REACHED)
    .order_by(contacts.c.id)
    .limit(bindparam("size"))
    # Points that fall meanwhile wait until this batch is written.
    .with_for_update(of=contacts)
)
_RUNNING = (
    select(jobs)
    .where(jobs.c.kind == KIND, jobs.c.key == bindparam("named"))
    .where(jobs.c.state == "running")
    .order_by(jobs.c.id.desc())
    .limit(1)
)
_START = insert(jobs).returning(jobs.c.id)
_GO_ON = (
    update(jobs)
    .where(jobs.c.id == bindparam("of"), jobs.c.state == "running")
    .values(
        cursor=bindparam("place"),
        done=jobs.c.done + bindparam("more"),
        updated_at=bindparam("moment"),
    )
    .returning(jobs.c.done)
)
_END = (
    update(jobs)
    .where(jobs.c.id == bindparam("of"), jobs.c.state == "running")
    .values(state="done", finished_at=bindparam("moment"))
)
_CANCEL = (
    update(jobs)
    .where(jobs.c.kind == KIND, jobs.c.key == bindparam("named"))
    .where(jobs.c.state == "running")
    .values(state="cancelled", finished_at=bindparam("moment"))
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a trigger did, or would do.

    Args:
        total: contacts it was to fire for when the job began.
        done: of them so far, by earlier calls too.
        fired: contacts it fired for by this call.
        cancelled: somebody stopped it before the end.
        stopped: this process was told to stop; the next call goes on.
    """

    key: str
    total: int
    done: int = 0
    fired: int = 0
    cancelled: bool = False
    dry_run: bool = False
    stopped: bool = False

    def __str__(self) -> str:
        """Say it in a sentence."""
        if self.dry_run:
            return f"{self.key} would fire for {_contacts(self.total)}"
        if self.cancelled:
            return (
                f"{self.key} was cancelled after {self.done} of "
                f"{_contacts(self.total)}; what was queued stays queued"
            )
        if self.stopped:
            return (
                f"{self.key} was stopped after {self.done} of {_contacts(self.total)}; "
                "the same command goes on there"
            )
        return f"{self.key} fired for {_contacts(self.fired)}"


def apply_trigger(
    runtime: Runtime,
    key: str,
    *,
    dry_run: bool = False,
    batch: int = BATCH,
    on_progress: Callable[[int], None] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Applied:
    """Fire a trigger once for everybody who is at or above it and was not fired.

    Commits batch by batch; killed, the next call goes on where it stopped. Its
    pushes wait behind those of live events.

    Args:
        dry_run: only count.
        on_progress: called after each batch with the contacts in it.
        stopping: asked before each batch.

    Raises:
        InputError: there is no such trigger, it is switched off, or another
            process is applying it now.
    """
    trigger = _trigger(runtime, key)
    if dry_run:
        return Applied(key, _count(runtime, trigger), dry_run=True)
    length = runtime.config.lease
    held = take(runtime.database, _lease(key), length, runtime.clock)
    if held is None:
        raise InputError(_busy(runtime, key))
    try:
        return _Work(runtime, trigger, held, batch, on_progress, stopping).run()
    except Fenced:
        raise InputError(
            f"another process goes on with the trigger {key}: this one was away for "
            "longer than its lease"
        ) from None
    finally:
        held.release()


def cancel_trigger(runtime: Runtime, key: str) -> bool:
    """Stop applying a trigger at the next batch; False when nobody does.

    Afterwards it can be applied at once, also when the process that did was
    killed: one that lives can write nothing more for its cancelled job.

    Raises:
        InputError: there is no such trigger.
    """

    def work(transaction: Transaction) -> bool:
        now = runtime.clock()
        row = {"named": key, "moment": now}
        cancelled = transaction.execute(_CANCEL, row).rowcount > 0
        return end_within(transaction, _lease(key), now) or cancelled

    cancelled = runtime.database.run(work)
    if not cancelled:
        # One that was taken out of the file meanwhile is stopped all the same.
        _known(runtime, key)
    return cancelled


def _busy(runtime: Runtime, key: str) -> str:
    until = held_until(runtime.database, _lease(key))
    latest = f" at {until:%H:%M:%S} UTC at the latest" if until else ""
    return (
        f"the trigger {key} is being applied by another process; wait for it, or stop "
        f"it with `onward triggers cancel {key}`. If that process was killed, this can "
        f"go on{latest}, and at once after the cancel"
    )


def _lease(key: str) -> str:
    return f"{KIND}:{key}"


class _Work:
    def __init__(
        self,
        runtime: Runtime,
        trigger: PointTrigger,
        held: Held,
        batch: int,
        on_progress: Callable[[int], None] | None,
        stopping: Callable[[], bool],
    ) -> None:
        self.runtime = runtime
        self.trigger = trigger
        self.held = held
        self.batch = batch
        self.on_progress = on_progress
        self.stopping = stopping
        self.job_id, self.cursor, self.done, self.total = self._job()

    def _job(self) -> tuple[int, int, int, int]:
        """Return the job that was interrupted, or a new one."""
        total = _count(self.runtime, self.trigger)

        def work(transaction: Transaction) -> tuple[int, int, int, int]:
            row = transaction.execute(_RUNNING, {"named": self.trigger.key}).first()
            if row is not None:
                return row.id, row.cursor, row.done, row.total
            now = self.runtime.clock()
            new = {
                "kind": KIND,
                "key": self.trigger.key,
                "state": "running",
                "cursor": 0,
                "done": 0,
                "total": total,
                "created_at": now,
                "updated_at": now,
            }
            return int(transaction.execute(_START, new).scalar_one()), 0, 0, total

        return self.runtime.database.run(work)

    def run(self) -> Applied:
        """Do batch after batch until nobody is left."""
        fired = 0
        # Who was passed over by an interrupted job may have been reached since,
        # when the threshold was lowered: after its rest, once more from the start.
        again = self.cursor > 0
        while True:
            if self.stopping():
                return Applied(
                    self.trigger.key, self.total, self.done, fired, stopped=True
                )
            self.held.renew()
            batch = self.runtime.database.run(self._one_batch)
            if batch is None:
                return Applied(
                    self.trigger.key, self.total, self.done, fired, cancelled=True
                )
            seen, recorded = batch
            if not seen and again:
                self.cursor, again = 0, False
                continue
            if not seen:
                break
            self.cursor = seen[-1]
            self.done += len(seen)
            fired += len(recorded.fired)
            failpoint("after_apply_batch")
            wake(self.runtime, {wish.connection_id for wish in recorded.queued})
            announce_recorded(self.runtime, recorded)
            if self.on_progress is not None:
                self.on_progress(len(seen))
        row = {"of": self.job_id, "moment": self.runtime.clock()}
        self.runtime.database.run(lambda t: t.execute(_END, row).rowcount)
        return Applied(self.trigger.key, self.total, self.done, fired)

    def _one_batch(self, transaction: Transaction) -> tuple[list[int], Recorded] | None:
        """Return whom it looked at and what followed; None when it was cancelled."""
        now = self.runtime.clock()
        trigger, name = self.trigger, trigger_claim(self.trigger.key)
        wanted = {
            "after": self.cursor,
            "least": trigger.points,
            "claim": name,
            "size": self.batch,
        }
        totals = {row[0]: row[1] for row in transaction.execute(_NEXT, wanted)}
        seen = list(totals)
        place = seen[-1] if seen else self.cursor
        row = {"of": self.job_id, "place": place, "more": len(seen), "moment": now}
        if transaction.execute(_GO_ON, row).first() is None:
            return None
        # A live event may have fired it since the SELECT looked: the claim decides.
        taken = claim_once(
            transaction, [(name, contact_id) for contact_id in seen], now
        )
        fired = [Fired(c, trigger, totals[c]) for c in seen if (name, c) in taken]
        joined = [(f.contact_id, segment) for f in fired for segment in trigger.add_to]
        add_to_segments(transaction, joined)
        targets = Targets(transaction)
        aims = [targets.resolve(to) for to in trigger.push_to]
        wishes = [
            Wish(of, f.contact_id, segment, KIND, trigger.key, priority=BACKFILL)
            for f in fired
            for of, segment in aims
        ]
        queued = enqueue(transaction, wishes, now)
        failpoint("during_backfill")
        return seen, Recorded([], fired=fired, queued=queued)


def _known(runtime: Runtime, key: str) -> PointTrigger:
    known = {trigger.key: trigger for trigger in runtime.config.point_triggers}
    if key not in known:
        there_are = ", ".join(sorted(known)) or "none"
        raise InputError(f'there is no point trigger "{key}"; there are: {there_are}')
    return known[key]


def _trigger(runtime: Runtime, key: str) -> PointTrigger:
    trigger = _known(runtime, key)
    if not trigger.enabled:
        raise InputError(
            f"the trigger {key} is switched off; set enabled = true to apply it"
        )
    return trigger


def _count(runtime: Runtime, trigger: PointTrigger) -> int:
    with runtime.database.read() as transaction:
        row = {"least": trigger.points, "claim": trigger_claim(trigger.key)}
        return int(transaction.execute(_COUNT, row).scalar_one())


def _contacts(count: int) -> str:
    return "1 contact" if count == 1 else f"{count:,} contacts"
