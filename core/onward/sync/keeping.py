"""Keep what a service shows of its contacts, and the opt-outs it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

from onward import remote
from onward.contacts.suppress import OptOut, Stop, add_suppressions, find_suppressions
from onward.contract import Membership
from onward.remote import Snapshot
from onward.sync.differing import CLASH, differences
from onward.sync.optouts import learned, note
from onward.sync.terms import CLASHES, OPT_OUTS, STOPPED, Page, Row


def keep_rows(
    page: Page, found: Sequence[Row], replaced: Iterable[Snapshot] = ()
) -> None:
    """Save what rows of known contacts show; store the opt-outs among it.

    Args:
        replaced: other remote contacts to save with them.
    """
    terms = page.terms
    stops = _stops(page, found)
    optouts: list[OptOut] = []
    saved: dict[str, Snapshot] = {}
    for row in found:
        snapshot, record = row.snapshot, row.record
        if not snapshot.contact_id:
            continue
        if not row.was_ours and snapshot.segments:
            # What was learned before anybody knew whose it is.
            before = cast("dict[str, Membership]", snapshot.segments)
            record = replace(record, segments={**before, **record.segments})
        mine = stops.get(snapshot.contact_id, ())
        # A permission answered what was noted of this contact, not of another.
        noted = snapshot if row.was_ours else snapshot.forgotten
        email = row.email or snapshot.email
        news = learned(terms.place, noted, record, mine, email)
        _count_opt_outs(page, news, row)
        optouts += news
        looked = snapshot.looks if page.whole else ()
        note(snapshot, record)
        _show(page, row)
        if page.whole:
            snapshot.compare(looked)
        if row.clash:
            snapshot.pulled = ""  # looked at again, until it is over
            page.taken.counts[CLASHES] += 1
            page.note(CLASHES, record.remote_id, row.clash)
        snapshot.differs = differences(
            terms.state, snapshot, [*mine], terms.same, terms.email_field
        ) | (CLASH if row.clash else 0)
        saved[snapshot.remote_id] = snapshot
    add_suppressions(page.transaction, optouts, page.now)
    for other in replaced:
        saved.setdefault(other.remote_id, other)
    remote.save(page.transaction, page.of, saved.values(), page.now)


def _stops(page: Page, found: Sequence[Row]) -> dict[int, list[Stop]]:
    who: dict[int, Sequence[str]] = {
        row.contact_id: [row.email] for row in found if row.contact_id
    }
    return find_suppressions(page.transaction, who)


def _count_opt_outs(page: Page, news: Sequence[OptOut], row: Row) -> None:
    for one in news:
        page.taken.counts[OPT_OUTS[one.code]] += 1
    if news and row.was_known:
        page.taken.counts[STOPPED] += 1


def _show(page: Page, row: Row) -> None:
    """Keep what the service shows; another way of writing the same is the same."""
    snapshot, record, same = row.snapshot, row.record, page.terms.same
    values = {**record.fields}
    for name, old in snapshot.values.items():
        text = values.get(name)
        if text is None or (old != text and same(name, old, text)):
            values[name] = old
    snapshot.values = values
    if snapshot.written is not None:
        agreed = {n: values[n] for n in row.agreed if n in snapshot.written}
        snapshot.written = {**snapshot.written, **agreed}
    snapshot.email = row.email or snapshot.email
    snapshot.created_at = record.created_at or snapshot.created_at
    snapshot.first_seen_at = snapshot.first_seen_at or page.now
    if page.whole:
        snapshot.fetched_at = page.now
    else:
        snapshot.pulled = row.mark
