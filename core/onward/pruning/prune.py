"""Remove what is older than `[retention]` says, a batch at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection as Transaction

from onward.config.model import Retention
from onward.delivery.lease import Held, held_until, take
from onward.errors import Fenced
from onward.failpoints import failpoint
from onward.pruning.batches import Sort
from onward.pruning.deliveries import OLD_ATTEMPTS, OLD_DELIVERIES
from onward.pruning.events import OLD_EVENTS
from onward.pruning.horizon import LOOKED, note_moment, read_moment
from onward.pruning.removed import end_left_over, removed_connections
from onward.pruning.reports import OLD_REPORTS
from onward.runtime import Runtime

LEASE = "prune"
DAILY = timedelta(days=1)
# A little less than a day, so that "daily" does not move by a round each time.
SOON = timedelta(minutes=30)
# SQLite has one writer: for each moment that pruning has it, others have two. A
# server has disks and processors, which others want as well.
PAUSE = 2.0

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Pruned:
    """What was removed, or would be.

    Args:
        counts: `events`, `deliveries`, `causes`, `outcomes`, `attempts`,
            `import_reports`, `jobs`, `alerts`, `syncs`, `errands` → rows; `cancelled`:
            rows that waited for a connection that is gone.
        before: of `events`, `deliveries` and `reports`, what is older goes; None =
            it is kept for ever.
        busy_until: another process is pruning, and has until then.
        complete: False = it was stopped; the next one goes on.
    """

    before: dict[str, datetime | None]
    counts: Counter[str] = field(default_factory=Counter[str])
    busy_until: datetime | None = None
    complete: bool = True


def prune(
    runtime: Runtime,
    *,
    stopping: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Pruned:
    """Remove what is older than `[retention]` says, and end what waits for nobody.

    Each batch of at most 500 rows is a transaction of its own, so nobody waits
    longer than for one of them. Killed or stopped anywhere, the next one goes on:
    what is left is still old. One at a time over all processes.

    Args:
        stopping: asked between batches.
        on_progress: called after each batch with the rows it removed.
    """
    done = Pruned(_before(runtime))
    held = take(runtime.database, LEASE, runtime.config.lease, runtime.clock)
    if held is None:
        done.busy_until = held_until(runtime.database, LEASE)
        done.complete = False
        return done
    try:
        _Pruning(runtime, done, held, stopping, on_progress).run()
    except Fenced:
        done.complete = False  # another one goes on
    finally:
        held.release()
    return done


def prune_daily(
    runtime: Runtime, *, stopping: Callable[[], bool] = lambda: False
) -> Pruned | None:
    """Prune when that was last done to the end a day ago; else return None.

    For an engine that calls it more often than that, in any number of processes.
    """
    with runtime.database.read() as transaction:
        last = read_moment(transaction, LOOKED)
    if last is not None and runtime.clock() - last < DAILY - SOON:
        return None
    return prune(runtime, stopping=stopping)


def count_old(runtime: Runtime) -> Pruned:
    """Return what `prune` would remove; changes nothing."""
    done = Pruned(_before(runtime))
    with runtime.database.read() as transaction:
        for sort, before in _sorts(done):
            found = transaction.execute(sort.count, {"before": before}).scalar_one()
            done.counts[sort.name] += found
    return done


def _before(runtime: Runtime) -> dict[str, datetime | None]:
    kept: Retention = runtime.config.retention
    now = runtime.clock()
    lengths = {
        "events": kept.events,
        "deliveries": kept.deliveries,
        "reports": kept.reports,
    }
    return {
        name: None if length is None else now - length
        for name, length in lengths.items()
    }


def _sorts(done: Pruned) -> Iterator[tuple[Sort, datetime]]:
    """Yield what there is to remove, deliveries before what only they name."""
    sorts = {
        "deliveries": (OLD_DELIVERIES, OLD_ATTEMPTS),
        "events": (OLD_EVENTS,),
        "reports": OLD_REPORTS,
    }
    for name, some in sorts.items():
        before = done.before[name]
        if before is not None:
            yield from ((sort, before) for sort in some)


class _Pruning:
    def __init__(
        self,
        runtime: Runtime,
        done: Pruned,
        held: Held,
        stopping: Callable[[], bool],
        on_progress: Callable[[int], None],
    ) -> None:
        self.runtime = runtime
        self.done = done
        self.held = held
        self.stopping = stopping
        self.on_progress = on_progress

    def run(self) -> None:
        """Do all there is, or as much as there is time for."""
        self._end_left_over()
        for sort, before in _sorts(self.done):
            self._remove(sort, before)
        if self.done.complete:
            now = self.runtime.clock()
            self.runtime.database.run(lambda t: note_moment(t, LOOKED, now))

    def _may_go_on(self) -> bool:
        if self.stopping():
            self.done.complete = False
        else:
            self.held.renew()
        return self.done.complete

    def _end_left_over(self) -> None:
        with self.runtime.database.read() as transaction:
            gone = removed_connections(transaction)
        for of, name in gone.items():
            ended = 1
            while ended and self._may_go_on():
                now = self.runtime.clock()
                work = partial(end_left_over, gone=of, name=name, now=now)
                ended = self.runtime.database.run(work)
                self.done.counts["cancelled"] += ended

    def _remove(self, sort: Sort, before: datetime) -> None:
        place = {"after": _FIRST, "last": 0, "before": before, "size": sort.size}
        while self._may_go_on():
            with self.runtime.database.read() as transaction:
                found = transaction.execute(sort.find, place).all()
            if not found:
                return
            # On from here, also where a row has to stay.
            place |= {"after": found[-1].at, "last": found[-1].id}
            self._remove_batch(sort, [row.id for row in found], before)

    def _remove_batch(self, sort: Sort, ids: list[int], before: datetime) -> None:
        def work(transaction: Transaction) -> Counter[str]:
            counts = Counter(sort.remove(transaction, ids, before))
            if counts[sort.name]:
                note_moment(transaction, sort.horizon, before)
            return counts

        started = time.monotonic()
        counts = self.runtime.database.run(work)
        took = time.monotonic() - started
        self.done.counts += counts
        failpoint("after_prune_batch")
        self.on_progress(counts[sort.name])
        if not self.runtime.database.in_memory:
            self.runtime.sleep(PAUSE * took)
