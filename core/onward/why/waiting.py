"""What a waiting push waits for, as a sentence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, select

from onward.connections.state import UNRESOLVED, State
from onward.contract import Limit
from onward.delivery.queue import LIVE
from onward.limiter import missing_s, windows_for
from onward.models import Limiter, OutcomeRow, table

limiters = table(Limiter)
outcomes = table(OutcomeRow)


def what_it_waits_for(
    row: RowMapping,
    state: State,
    paused_segments: Mapping[str, str],
    limited: Mapping[str, datetime],
    now: datetime,
) -> str:
    """Return the first reason that holds a waiting row, in the drain's order.

    Args:
        row: of the push, in state `waiting`.
        paused_segments: remote segment id → why it is paused, "" when it is not.
        limited: as `limited_until` returns it.
    """
    due: datetime | None = row["due_at"]
    if not state.enabled or not state.push_contacts:
        return "nothing leaves this connection; the next delivery ends it as skipped"
    if state.paused_code:
        since = f" since {_when(state.paused_at)}" if state.paused_at else ""
        return f"held{since}, the connection is paused: {state.paused_why}"
    if paused_segments.get(row["segment"]):
        return f"held, its remote segment is paused: {paused_segments[row['segment']]}"
    if due is None:
        return "for the visitor's e-mail address"
    if row["segment"].startswith(UNRESOLVED):
        wished = row["segment"].removeprefix(UNRESOLVED) or "its own"
        return (
            f"until the connection is verified and knows its remote segment ({wished})"
        )
    if state.rest_until is not None and state.rest_until > now:
        because = f": {state.rest_why}" if state.rest_why else ""
        return f"the connection rests until {_when(state.rest_until)}{because}"
    if due > now:
        word = "try" if row["tries"] == 1 else "tries"
        tries = f", after {row['tries']} failed {word}" if row["tries"] else ""
        because = f": {row['reason']}" if row["reason"] else ""
        return f"due {_when(due)}{tries}{because}"
    shares = ("all",) if row["priority"] <= LIVE else ("all", "backfill")
    full = [limited[share] for share in shares if share in limited]
    if full:
        return f"the limit of calls is used up until {_when(max(full))}"
    return "for a worker; it is due now (`onward deliver` sends it)"


def tried_since(
    transaction: Transaction, ids: Collection[int], moment: datetime
) -> frozenset[int]:
    """Return those of these pushes that something became of since then."""
    found = transaction.execute(
        select(outcomes.c.push_id).where(
            outcomes.c.push_id.in_(ids), outcomes.c.at >= moment
        )
    )
    return frozenset(found.scalars())


def limited_until(
    transaction: Transaction, rate_key: str, calls: int, now: datetime
) -> dict[str, datetime]:
    """Return until when a batch does not fit the limits: share → moment.

    Args:
        calls: that a batch asks for before it starts.

    Returns:
        Empty when it fits. Live rows wait for `all` only, rows of a back-fill
        for `backfill` too.
    """
    found = transaction.execute(
        select(
            limiters.c.key, limiters.c.tat, limiters.c.speed, limiters.c.changed
        ).where(limiters.c.key.startswith(f"{rate_key}|", autoescape=True))
    )
    latest: dict[str, datetime] = {}
    for key, *stored in found:
        name, _, share = key.removeprefix(f"{rate_key}|").rpartition("|")
        limit = _limit_of(name)
        for window in windows_for(rate_key, [limit] if limit else [], live=False):
            if window.key == key and not window.path:
                wait_s = missing_s(window, calls, now.timestamp(), *stored)
                moment = now + timedelta(seconds=wait_s)
                if moment > max(now, latest.get(share, now)):
                    latest[share] = moment
    return latest


def _limit_of(name: str) -> Limit | None:
    """Return the limit that the limiter calls by this name: 60/60, 5/1/import*."""
    calls, _, rest = name.partition("/")
    seconds, slash, path = rest.partition("/")
    try:
        per = timedelta(seconds=float(seconds))
        return Limit(int(calls), per, f"{slash}{path}")
    except ValueError:
        return None


def shown_segment(segment: str, names: Sequence[tuple[str, str, str]]) -> str:
    """Return a remote segment's name as people know it."""
    if segment.startswith(UNRESOLVED):
        return segment.removeprefix(UNRESOLVED)
    return next((name for id_, name, _ in names if id_ == segment), segment)


def _when(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""
