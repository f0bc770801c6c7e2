"""The first stage of a pull: every page, each stored with the place to go on from."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

from sqlalchemy import Connection as Transaction

from onward.contacts.suppress import lifted_segments
from onward.contract import Page, RemoteContact, RemoteSegment
from onward.delivery.stops import Stop
from onward.sync.ahead import Ahead
from onward.sync.report import fetch_lines
from onward.sync.runs import MISSING, Run, add_page
from onward.sync.terms import Taken
from onward.sync.work import Work

log = logging.getLogger("onward.sync")

SAMPLE = 10


def read_pages(work: Work) -> Stop | None:
    """Read and store page after page; return why it stopped before the last."""
    integration: Any = work.ready.opened.integration
    pull = partial(
        integration.pull, work.api, work.run.cursor, _segments_pushed_to(work)
    )
    may_stop = True
    with Ahead(cast("Callable[[], Iterable[Page]]", pull)) as pages:
        work.api.last_word = pages.is_on_its_way
        while True:
            # A page that was asked for already is stored.
            stop = work.wait() if may_stop and not pages.is_reading else None
            if stop is not None:
                return stop
            page = pages.take()
            if page is None:
                break
            # Where nobody says where to go on, there is no place to go on from but
            # the start; after the last page there is the next stage.
            may_stop = page.cursor is not None
            if may_stop and work.wait() is None:
                pages.ask()
            _store(work, page, is_last=not may_stop and pages.is_over())
    if work.run.stage != MISSING:
        work.next_stage(MISSING)
    return None


def _segments_pushed_to(work: Work) -> list[RemoteSegment]:
    """Return the remote segments whose members matter."""
    state, config = work.state, work.runtime.config
    names = work.ready.terms.place.segments
    lifted = partial(lifted_segments, identity=state.identity)
    with work.runtime.database.read() as transaction:
        # Where a consent answered an opt-out, the next one must be seen as a new one.
        wished = {state.segment_id, *lifted(transaction)}
    targets = [to for rule in config.rules for to in rule.push_to]
    targets += [to for one in config.point_triggers for to in one.push_to]
    for to in targets:
        if to.connection == state.name and to.segment:
            wished |= {id_ for id_, name in names.items() if to.segment in (id_, name)}
    return [RemoteSegment(id_, names[id_]) for id_ in sorted(wished) if id_ in names]


def _store(work: Work, page: Page, *, is_last: bool) -> None:
    lacked = work.run.counts["lacking"]

    def also(transaction: Transaction, run: Run, taken: Taken) -> None:
        if page.lists_everybody or page.members_of:
            ids = [one.remote_id for one in page.contacts]
            add_page(transaction, run, ids, page.members_of)
        if page.members_of:
            run.counts[f"members:{page.members_of}"] += len(page.contacts)
        _look_at(work, run, page)
        run.pages += 1
        run.cursor = page.cursor
        if is_last:
            run.stage = MISSING

    work.store(page.contacts, also)
    work.tell(page.stage, page.total or 0, len(page.contacts))
    if work.run.counts["lacking"] and not lacked and work.can_fetch:
        people = max(page.total or 0, len(page.contacts))
        for line in fetch_lines(work.runtime, work.state, people):
            work.manner.on_remark(f"{work.state.name}: {line}")
            log.info("%s: %s", work.state.name, line)


def _look_at(work: Work, run: Run, page: Page) -> None:
    """Note what a page shows, and what it does not; choose rows to spot-check."""
    shown = [one for one in page.contacts if one.email]
    if not shown:
        return
    run.counts["shown"] += len(shown)
    if not page.lists_everybody:
        run.counts["unordered"] += 1
        run.counts["told"] = max(run.counts["told"], page.total or 0)
    if work.ready.terms.pull.wanted - {name.lower() for name in shown[0].fields}:
        run.counts["lacking"] += len(shown)
    run.sample = sampled(run, shown)


def sampled(run: Run, shown: Sequence[RemoteContact]) -> list[Any]:
    """Return the rows to spot-check: those of the lowest rank by the run's seed."""
    sample = run.sample
    highest = sample[-1][0] if len(sample) == SAMPLE else 2**32
    there = {one[1] for one in sample}
    start = zlib.crc32(str(run.seed).encode())
    fresh = [
        [rank, one.remote_id]
        for one in shown
        if (rank := zlib.crc32(one.remote_id.encode(), start)) < highest
        and one.remote_id not in there
    ]
    if not fresh:
        return sample
    return sorted([*sample, *fresh])[:SAMPLE]
