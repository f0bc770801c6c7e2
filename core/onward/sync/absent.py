"""The second stage of a pull: those who were on no page."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection as Transaction

from onward.delivery.stops import Stop
from onward.sync.fetching import read_hints
from onward.sync.limit import check_missing
from onward.sync.missing import (
    ask_for_missing,
    count_missing,
    count_seen,
    forget_members,
)
from onward.sync.runs import FETCH, Run, save_run
from onward.sync.terms import ERASED, UNFIT
from onward.sync.work import Work

ASKED = "asked"
MEMBERS = "members:"


def look_for_missing(work: Work) -> Stop | None:
    """Ask for them one by one; what the service says then is believed.

    Raises:
        Asks: more are missing than one would expect, and nobody said that it may be.
    """
    counts = work.run.counts
    # Pages in no order may have lost somebody: nobody can be told to be missing.
    if counts["unordered"]:
        _say_who_is_lost(work)
    else:
        if not counts[ASKED]:
            _ask(work)
        stop = read_hints(work) if counts["missing"] and work.can_fetch else None
        if stop is not None:
            return stop
    for name in [one for one in work.run.counts if one.startswith(MEMBERS)]:
        _forget_members(work, name.removeprefix(MEMBERS))
    work.next_stage(FETCH if work.run.counts["lacking"] and work.can_fetch else "")
    return None


def _say_who_is_lost(work: Work) -> None:
    """Say how many at least pages in no order did not show, if their total is right."""

    def say(transaction: Transaction) -> None:
        run = work.run
        here = count_seen(transaction, run.connection_id)
        here += run.counts[UNFIT] + run.counts[ERASED]
        run.counts["lost"] = max(run.counts["told"] - here, 0)
        save_run(transaction, run, work.runtime.clock())

    work.keep(say)


def _ask(work: Work) -> None:
    run, state = work.run, work.state
    with work.runtime.database.read() as transaction:
        count = count_missing(transaction, run)
    if work.can_fetch:  # else nothing is concluded anyway
        check_missing(run, count, state.pull.limit, work.ready.terms.place.title)

    def ask(transaction: Transaction) -> None:
        now = work.runtime.clock()
        if count and work.can_fetch:
            ask_for_missing(transaction, run, now)
        run.counts["missing"], run.counts[ASKED] = count, 1
        save_run(transaction, run, now)

    work.keep(ask)


def _forget_members(work: Work, segment: str) -> None:
    after: str | None = ""
    run: Run = work.run
    while after is not None:
        now = work.runtime.clock()
        some = partial(forget_members, run=run, segment=segment, after=after, now=now)
        after = work.keep(some)
        work.held.renew()
