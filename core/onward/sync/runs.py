"""One pull of a connection as its row: where it stands and what it did so far."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, delete, insert, select, text, update

from onward.errors import Fenced
from onward.models import Hint, SyncPage, SyncRun, table

runs = table(SyncRun)
pages = table(SyncPage)
hints = table(Hint)

RUNNING, ASKS, DONE, FAILED = "running", "asks", "done", "failed"
CANCELLED = "cancelled"
BEGUN_ANEW, HOPELESS = "begun_anew", "hopeless"
"""Why a pull was ended before its end, though nothing of it was wrong to keep."""
PULL, MISSING, FETCH = "pull", "missing", "fetch"
"""The stages of a run, in their order."""
NOTES = 100  # kept of a run; all are counted

# Literal, so that the partial index fits.
_IS_OPEN = text("state IN ('running', 'asks')")
_OPEN = select(runs).where(runs.c.connection_id == bindparam("of"), _IS_OPEN)
_LAST = (
    select(runs)
    .where(runs.c.connection_id == bindparam("of"))
    .order_by(runs.c.id.desc())
    .limit(bindparam("most"))
)
_BEGIN = insert(runs).returning(runs.c.id)
_SAVE = (
    update(runs)
    # One that was cancelled meanwhile does not come back.
    .where(runs.c.id == bindparam("run"), _IS_OPEN)
    .values(
        state=bindparam("now_is"),
        stage=bindparam("at_stage"),
        cursor=bindparam("place", type_=runs.c.cursor.type),
        pages=bindparam("read"),
        counts=bindparam("sums", type_=runs.c.counts.type),
        sample=bindparam("rows", type_=runs.c.sample.type),
        notes=bindparam("said", type_=runs.c.notes.type),
        code=bindparam("word"),
        reason=bindparam("why_not"),
        accepted=bindparam("allowed"),
        updated_at=bindparam("moment"),
        finished_at=bindparam("end"),
    )
)
_PAGE = insert(pages)
_FORGET_MISSING = delete(hints).where(
    hints.c.connection_id == bindparam("of"), hints.c.run_id == bindparam("run")
)
_FORGET = delete(pages).where(pages.c.run_id == bindparam("run"))


@dataclass(slots=True)
class Run:
    """One pull; see `SyncRun`.

    Args:
        cursor: the integration's own, of the last page that was stored.
        sample: [rank, remote id] of rows chosen by `seed`; what they are is looked up
            at the end, so that nobody's data waits here.
        notes: [kind, remote id, sentence].
    """

    id: int
    connection_id: int
    state: str
    why: str
    full: bool
    accepted: bool
    stage: str
    cursor: object
    pages: int
    counts: Counter[str]
    sample: list[Any]
    notes: list[Any]
    seed: int
    code: str
    reason: str
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more comes of it."""
        return self.state not in (RUNNING, ASKS)

    def note(self, notes: Sequence[tuple[str, str, str]]) -> None:
        """Keep what a person should look at, the first of it."""
        self.notes += [list(one) for one in notes[: max(NOTES - len(self.notes), 0)]]


def _run(row: Any) -> Run:
    given = dict(row)
    given["cursor"] = given["cursor"][0] if given["cursor"] else None
    given["counts"] = Counter(given["counts"])
    return Run(**given)


def open_run(transaction: Transaction, connection_id: int) -> Run | None:
    """Return the pull that was begun and is not over."""
    row = transaction.execute(_OPEN, {"of": connection_id}).mappings().first()
    return None if row is None else _run(row)


def last_runs(transaction: Transaction, connection_id: int, most: int) -> list[Run]:
    """Return the newest pulls of a connection, the newest first."""
    found = transaction.execute(_LAST, {"of": connection_id, "most": most})
    return [_run(row) for row in found.mappings()]


def begin_run(
    transaction: Transaction,
    connection_id: int,
    now: datetime,
    *,
    why: str,
    full: bool,
    known: int,
) -> Run:
    """Write down that a pull begins.

    Args:
        known: contacts linked to the account before; what changes are a share of.
    """
    seed = secrets.randbelow(2**31)
    run = replace(no_run(connection_id, now), why=why, full=full, seed=seed)
    run.accepted, run.stage, run.counts["known"] = False, PULL, known
    row: dict[str, Any] = {
        "connection_id": connection_id,
        "state": run.state,
        "why": why,
        "full": full,
        "accepted": False,
        "stage": PULL,
        "cursor": [],
        "pages": 0,
        "counts": dict(run.counts),
        "sample": [],
        "notes": [],
        "seed": seed,
        "code": "",
        "reason": "",
        "started_at": now,
        "updated_at": now,
    }
    run.id = int(transaction.execute(_BEGIN, row).scalar_one())
    return run


def no_run(connection_id: int, now: datetime) -> Run:
    """Return counts for what is read outside of any pull; it is never stored."""
    return Run(
        id=0,
        connection_id=connection_id,
        state=RUNNING,
        why="hints",
        full=False,
        accepted=True,
        stage="",
        cursor=None,
        pages=0,
        counts=Counter(),
        sample=[],
        notes=[],
        seed=0,
        code="",
        reason="",
        started_at=now,
        updated_at=now,
    )


def save_run(transaction: Transaction, run: Run, now: datetime) -> None:
    """Write down where a pull stands.

    Raises:
        Fenced: somebody ended it meanwhile.
    """
    run.updated_at = now
    saved = transaction.execute(
        _SAVE,
        {
            "run": run.id,
            "now_is": run.state,
            "at_stage": run.stage,
            "place": [] if run.cursor is None else [run.cursor],
            "read": run.pages,
            "sums": dict(run.counts),
            "rows": run.sample,
            "said": run.notes,
            "word": run.code,
            "why_not": run.reason,
            "allowed": run.accepted,
            "moment": now,
            "end": run.finished_at,
        },
    )
    if saved.rowcount != 1:
        raise Fenced


def forget_missing(transaction: Transaction, run: Run) -> None:
    """Let nobody be read by themselves any more because a page lacked them."""
    given = {"of": run.connection_id, "run": run.id}
    transaction.execute(_FORGET_MISSING, given)


def end_run(
    transaction: Transaction,
    run: Run,
    state: str,
    now: datetime,
    code: str = "",
    reason: str = "",
) -> None:
    """End a pull; who was on its pages is forgotten."""
    run.state, run.code, run.reason, run.finished_at = state, code, reason, now
    save_run(transaction, run, now)
    transaction.execute(_FORGET, {"run": run.id})
    forget_missing(transaction, run)


def add_page(
    transaction: Transaction, run: Run, ids: Sequence[str], members_of: str
) -> None:
    """Keep who was on a page, until the run is over."""
    row = {
        "run_id": run.id,
        "number": run.pages,
        "members_of": members_of,
        # PostgreSQL cannot unpack a text with a NUL in it.
        "ids": [id_ for id_ in ids if id_.isprintable()],
    }
    transaction.execute(_PAGE, row)


def cancel_runs(
    transaction: Transaction, connection_id: int, now: datetime, reason: str
) -> None:
    """End what is open of a connection that is gone, or another account by now."""
    run = open_run(transaction, connection_id)
    if run is not None:
        end_run(transaction, run, CANCELLED, now, "cancelled", reason)
