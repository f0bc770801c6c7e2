"""What a pull did, in sentences and as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as Transaction

from onward.connections.open import limits_of, make_integration, read_settings
from onward.connections.state import State, read_all
from onward.errors import OnwardError
from onward.integrations import can
from onward.limiter import windows_for
from onward.runtime import Runtime
from onward.sync.finish import schedule_of
from onward.sync.plan import Plan, read_plans
from onward.sync.runs import DONE, Run, last_runs
from onward.sync.stopped import Synced

DAY = timedelta(days=1)

# Counts that are said, in this order, each with its words for one and for many.
_SAID: tuple[tuple[str, str], ...] = (
    ("created", "created"),
    ("changed", "changed"),
    ("linked", "linked for the first time"),
    ("unchanged", "unchanged"),
    ("unsubscribed", "unsubscribed"),
    ("do_not_contact", "do not contact"),
    ("bounced", "bounced"),
    ("deleted", "deleted there"),
    ("clashes", "clashes"),
    ("erased", "erased here and left out"),
    ("unfit", "values that do not fit"),
    ("missing", "missing in the pages"),
    ("fetched", "read one by one"),
    ("unread", "that could not be read"),
    ("lost", "that no page showed, although they are said to be there"),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the pull of one connection stands.

    Args:
        plan: None when it was never connected, or cannot pull.
        last: its newest pull; None when there was none.
        done: its newest pull that ended well.
    """

    state: State
    plan: Plan | None
    schedule: str
    last: Run | None
    done: Run | None

    @property
    def document(self) -> dict[str, Any]:
        """Plain data, for listings."""
        last = self.last
        return {
            "connection": self.state.name,
            "integration": self.state.integration,
            "schedule": self.schedule,
            "next_at": self.plan.due_at if self.plan else None,
            "why": self.plan.why if self.plan else "",
            "tries": self.plan.tries if self.plan else 0,
            "last_at": self.done.finished_at if self.done else None,
            "last": None if last is None else run_document(last),
        }


def standings(runtime: Runtime, transaction: Transaction) -> list[Standing]:
    """Return how the pull of each connection stands, by name."""
    plans = read_plans(transaction)
    found: list[Standing] = []
    for state in read_all(transaction):
        plan = plans.get(state.id)
        runs = last_runs(transaction, state.id, 10)
        schedule = schedule_of(runtime, state, plan) if plan else ""
        done = next((run for run in runs if run.state == DONE), None)
        found.append(Standing(state, plan, schedule, runs[0] if runs else None, done))
    return found


def run_document(run: Run, *, whole: bool = False) -> dict[str, Any]:
    """Return a pull as plain data.

    Args:
        whole: with the rows to spot-check and what a person should look at.
    """
    counts = {name: n for name, n in run.counts.items() if ":" not in name}
    document: dict[str, Any] = {
        "id": run.id,
        "state": run.state,
        "why": run.why,
        "full": run.full,
        "stage": run.stage,
        "pages": run.pages,
        "counts": counts,
        "code": run.code,
        "reason": run.reason,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }
    if whole:
        document["sample"] = run.sample if run.state == DONE else []
        document["notes"] = [
            {"kind": kind, "remote_id": remote_id, "why": why}
            for kind, remote_id, why in run.notes
        ]
    return document


def synced_document(synced: Synced) -> dict[str, Any]:
    """Return for `--json` what became of one call of `sync`."""
    return {
        "connection": synced.name,
        "stopped": synced.stopped,
        "why": synced.why,
        "code": synced.code,
        "again_at": synced.again_at,
        "run": None if synced.run is None else run_document(synced.run),
    }


def summary(run: Run) -> str:
    """Say in one line what a pull did so far."""
    counts = run.counts
    parts = [f"{counts[name]:,} {words}" for name, words in _SAID if counts[name]]
    pages = "1 page" if run.pages == 1 else f"{run.pages:,} pages"
    if not run.pages and not parts:
        return "no page was read"
    said = ", ".join(parts) or "nobody is there"
    return f"{counts['shown']:,} contacts in {pages}: {said}"


def fetch_lines(runtime: Runtime, state: State, people: int) -> Iterator[str]:
    """Say how long it takes to read so many contacts one by one."""
    seconds = _seconds_for(runtime, state, people)
    each = "1 call" if people == 1 else f"{people:,} calls"
    if seconds is None:
        yield f"fields that no page shows are read one by one: {each}"
        return
    if seconds > DAY.total_seconds():
        days = math.ceil(seconds / DAY.total_seconds())
        length = f"about {days} days"
    elif seconds > 90:
        length = f"about {math.ceil(seconds / 60)} minutes"
    else:
        length = "a minute or so"
    yield (
        f"fields that no page shows are read one by one: {each}, {length} within the "
        "limits; what pages show comes first, and each day goes on where the last "
        "stopped"
    )


def _seconds_for(runtime: Runtime, state: State, calls: int) -> float | None:
    """Return what so many calls of a back-fill take; None = there is no limit."""
    try:
        raw = read_settings(runtime, state)
        made = make_integration(runtime, state.integration, raw, name=state.name)
    except OnwardError:
        return None
    limits = limits_of(runtime, state, made)
    windows = windows_for(state.counted_as, limits, live=False)
    paces = [window.per_s / window.calls for window in windows if not window.path]
    return calls * max(paces) if paces else None


def can_fetch(runtime: Runtime, state: State) -> bool:
    """Tell whether contacts can be read one by one."""
    return can(runtime.plugins.integration(state.integration), "fetch")


def when_said(moment: datetime | None, now: datetime) -> str:
    """Say when something is due."""
    if moment is None:
        return "only when asked"
    return "now" if moment <= now else f"{moment:%Y-%m-%d %H:%M} UTC"
