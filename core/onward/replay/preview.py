"""Tell what a replay would do: the count, who is left out, and the differences."""

from __future__ import annotations

from collections.abc import Callable

from onward.delivery.picking import BATCH, Picker, What
from onward.delivery.refusing import Refused
from onward.replay.differences import differences
from onward.replay.judge import REPLAYABLE, Again, judge
from onward.replay.replayed import Replayed, check
from onward.runtime import Runtime

SHOWN = 10


def preview_replay(
    runtime: Runtime,
    what: What,
    *,
    show: int = SHOWN,
    batch: int = BATCH,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Replayed:
    """Tell what `replay` would do; writes nothing and asks no service.

    Args:
        what: a filter, or numbers of rows.
        show: of so many rows the differences are told.
        on_progress: told how many rows were looked at.

    Raises:
        InputError: see `replay`.
    """
    named = check(what)
    with runtime.database.read() as transaction:
        picker = Picker(transaction, what, REPLAYABLE)
        newest = picker.newest(transaction)
    chosen: list[Again] = []
    refused = Refused()
    count = looked = after = 0
    while True:
        with runtime.database.read() as transaction:
            rows = picker.next(transaction, after, newest, batch)
            verdicts = judge(transaction, rows, newest=newest, named=named)
        if not rows:
            break
        after = rows[-1].id
        looked += len(rows)
        count += len(verdicts.again)
        refused.add(verdicts.refused)
        chosen += verdicts.again[: show - len(chosen)]
        on_progress(len(rows))
    samples = differences(runtime, chosen)
    return Replayed(count, refused, samples, looked, looked, dry_run=True)
