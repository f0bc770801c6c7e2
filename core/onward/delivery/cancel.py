"""Take back what waits; what is being sent cannot be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import and_, bindparam, not_, select, update

from onward import remote
from onward.among import ForEach
from onward.contacts.suppress import find_survivors
from onward.delivery.claiming import WAITING, hold_rows
from onward.delivery.listing import HELD, STATES, Wanted, of_causes
from onward.delivery.picking import BATCH, Picked, Picker, What, check_named
from onward.delivery.refusing import Refusal, Refused
from onward.delivery.settling import add_outcomes
from onward.errors import InputError
from onward.failpoints import failpoint
from onward.models import OPEN_STATES, Cause, Push, table
from onward.runtime import Runtime

pushes = table(Push)
causes = table(Cause)

CODE = "by_hand"
ARRIVED = "it was sent before and may have arrived"

_OPEN = tuple(state.value for state in OPEN_STATES)
_ENDED = frozenset(STATES) - {HELD, *_OPEN}
_REFUSED = {
    "sending": "is being sent; cancel cannot take it back",
    "submitted": "the service works on it already; cancel cannot take it back",
}
_WAIT = ForEach(
    lambda among: (
        select(pushes.c.id, pushes.c.sent_at)
        .where(among(pushes.c.id, "rows"), WAITING)
        .order_by(pushes.c.id)
    )
)
_CANCEL = ForEach(
    lambda among: (
        update(pushes)
        .where(among(pushes.c.id, "rows"), WAITING)
        .values(
            state="cancelled",
            code=CODE,
            reason=bindparam("why"),
            due_at=None,
            finished_at=bindparam("moment"),
        )
    )
)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What cancelling did, or would do.

    Args:
        count: rows that were cancelled.
        arrived: of them, those whose last send may have arrived.
        refused: rows that were left alone, with the reasons.
    """

    count: int = 0
    arrived: int = 0
    refused: Refused = field(default_factory=Refused)
    dry_run: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """It as plain data."""
        return {
            "dry_run": self.dry_run,
            "cancelled": self.count,
            "may_have_arrived": self.arrived,
            "refused": self.refused.document,
        }


def cancel(
    runtime: Runtime,
    what: What,
    *,
    dry_run: bool = False,
    reason: str = "",
    actor: str = "",
    batch: int = BATCH,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Cancelled:
    """End waiting rows as `cancelled`, code `by_hand`.

    Commits batch by batch; interrupted, the same call does the rest. Rows that are
    queued meanwhile are not meant. With a rule or cause as the filter, rows that
    something else asked for as well are left alone.

    Args:
        what: a filter, or numbers of rows.
        reason: why, for the record.
        actor: who wanted it, for the record.
        on_progress: told how many rows were looked at.

    Raises:
        InputError: nothing is named, or what is named cannot be cancelled.
    """
    check_named(what, "cancel")
    if isinstance(what, Wanted) and what.state in _ENDED:
        raise InputError(
            f"{what.state} pushes have ended and cannot be cancelled; only what waits "
            "can"
        )
    with runtime.database.read() as transaction:
        picker = Picker(transaction, what, _OPEN)
        newest = picker.newest(transaction)
    because = f"cancelled by hand{f' by {actor}' if actor else ''}"
    because += f": {reason}" if reason else ""
    work = _Work(runtime, what, picker, newest, batch, because, dry_run)
    count = arrived = after = 0
    refused = Refused()
    while True:
        one_batch = partial(work.one_batch, after)
        if dry_run:
            with runtime.database.read() as transaction:
                done = one_batch(transaction)
        else:
            done = runtime.database.run(one_batch)
        if not done.rows:
            return Cancelled(count, arrived, refused, dry_run)
        failpoint("after_cancel_batch")
        after = done.rows[-1].id
        count += done.count
        arrived += done.arrived
        refused.add(done.refused)
        on_progress(len(done.rows))


@dataclass(slots=True)
class _Batch:
    rows: Sequence[Picked]
    count: int = 0
    arrived: int = 0
    refused: list[Refusal] = field(default_factory=list[Refusal])


@dataclass(frozen=True, slots=True)
class _Work:
    runtime: Runtime
    what: What
    picker: Picker
    newest: int
    size: int
    because: str
    dry_run: bool

    def one_batch(self, after: int, transaction: Transaction) -> _Batch:
        """Cancel what still waits of the next rows, or only tell how many that are."""
        rows = self.picker.next(transaction, after, self.newest, self.size)
        ids = [row.id for row in rows]
        if not self.dry_run:
            # A claim was before us, and is seen, or finds them cancelled.
            hold_rows(transaction, ids)
        waits = dict(_pairs(transaction, ids))
        done = _Batch(rows)
        others = self._others(transaction, waits)
        for row in rows:
            if row.id in others:
                why = f"push {row.id}: something else asked for it as well"
                done.refused.append(Refusal(row.id, "other_causes", why))
            elif row.id not in waits:
                done.refused.append(_refusal(row))
        mine = [one for one in ids if one in waits and one not in others]
        lost = [one for one in mine if waits[one]]
        done.count, done.arrived = len(mine), len(lost)
        if not self.dry_run:
            now = self.runtime.clock()
            self._end(transaction, [one for one in mine if not waits[one]], "", now)
            self._end(transaction, lost, f"; {ARRIVED}", now)
            _doubt(transaction, (row for row in rows if row.id in set(lost)), now)
        return done

    def _others(self, transaction: Transaction, ids: Iterable[int]) -> set[int]:
        """Return rows with a cause besides those that are asked for."""
        asked = of_causes(self.what) if isinstance(self.what, Wanted) else []
        if not asked:
            return set()
        # Of a merge and of rows that became one, the causes were taken over too.
        found = select(causes.c.push_id).where(
            causes.c.push_id.in_(list(ids)),
            causes.c.kind.not_in(("merge", "joined")),
            not_(and_(*asked)),
        )
        return set(transaction.execute(found).scalars())

    def _end(
        self, transaction: Transaction, ids: list[int], more: str, now: datetime
    ) -> None:
        if not ids:
            return
        why = f"{self.because}{more}"
        given = {"rows": ids, "why": why, "moment": now}
        transaction.execute(_CANCEL(transaction), given)
        add_outcomes(transaction, ids, None, "cancelled", CODE, why, now)


def _pairs(transaction: Transaction, ids: list[int]) -> Iterable[tuple[int, bool]]:
    """Yield waiting rows, and whether their last send may have arrived."""
    for row in transaction.execute(_WAIT(transaction), {"rows": ids}):
        yield row.id, row.sent_at is not None


def _refusal(row: Picked) -> Refusal:
    # Picked as waiting and not there any more: claimed at this very moment.
    state = "sending" if row.state == "waiting" else row.state
    if state in _REFUSED:
        return Refusal(row.id, state, f"push {row.id} {_REFUSED[state]}")
    code = f" ({row.code})" if row.code not in ("", state) else ""
    return Refusal(row.id, "ended", f"push {row.id} has ended already: {state}{code}")


def _doubt(transaction: Transaction, rows: Iterable[Picked], now: datetime) -> None:
    """Believe nothing of contacts whose cancelled push may have arrived."""
    left: dict[int, list[tuple[int, str]]] = {}
    for row in rows:
        left.setdefault(row.connection_id, []).append((row.contact_id, row.segment))
    for connection_id, wishes in sorted(left.items()):
        who = find_survivors(transaction, {contact for contact, _ in wishes})
        doubtful = [(who.get(one, one), segment) for one, segment in wishes]
        remote.doubt(transaction, connection_id, doubtful, now)
