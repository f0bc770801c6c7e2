"""Old reports of imports, jobs that ended, alerts that are over, errands done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, delete
from sqlalchemy import Connection as Transaction

from onward.among import ForEach
from onward.models import Alert, Errand, ImportReport, Job, SyncRun, table
from onward.pruning.batches import (
    Counts,
    Sort,
    count_rows,
    free_rows,
    not_newest,
    old_rows,
    older,
)
from onward.pruning.horizon import REPORTS


def _over(name: str, at: Column[Any], size: int) -> Sort:
    """Return the sort whose rows were over at a moment that is NULL before."""
    rows = at.table
    may_go = (older(at), not_newest(rows))
    free = free_rows(rows, *may_go)
    gone = ForEach(lambda among: delete(rows).where(among(rows.c.id, "ids")))

    def remove(
        transaction: Transaction, ids: Sequence[int], before: datetime
    ) -> Counts:
        given = {"ids": list(ids), "before": before}
        found = transaction.execute(free(transaction), given).scalars().all()
        transaction.execute(gone(transaction), {"ids": found})
        return {name: len(found)}

    return Sort(name, REPORTS, old_rows(at), count_rows(rows, *may_go), remove, size)


OLD_REPORTS = (
    # By its start: one that was killed has no end. Each may hold refused lines.
    _over("import_reports", table(ImportReport).c.started_at, 50),
    _over("jobs", table(Job).c.finished_at, 500),
    _over("alerts", table(Alert).c.closed_at, 500),
    # Each may hold rows to spot-check.
    _over("syncs", table(SyncRun).c.finished_at, 50),
    _over("errands", table(Errand).c.finished_at, 500),
)
