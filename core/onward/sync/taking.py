"""Take what a service shows of its contacts over into ours, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward import remote
from onward.contacts.erased import erased_addresses
from onward.contacts.facts import Facts, load_facts
from onward.contacts.suppress import add_suppressions
from onward.contract import RemoteContact
from onward.events.action import Action, Recorded
from onward.models import RemoteContactRow, table
from onward.sql import Among
from onward.sync.keeping import keep_rows
from onward.sync.linking import after_merges, link_rows
from onward.sync.members import note_members
from onward.sync.optouts import learned
from onward.sync.shown import each_once, fingerprint, is_person
from onward.sync.terms import (
    ALTERED,
    CHANGED,
    CREATED,
    ERASED,
    UNCHANGED,
    UNFIT,
    Page,
    Row,
    Taken,
    Terms,
)
from onward.sync.values import for_known, for_new
from onward.sync.whose import find_rows, new_address

SOURCE = "pull"

rows = table(RemoteContactRow)

_PULLED = Among(
    select(rows.c.remote_id, rows.c.pulled).where(
        rows.c.connection_id == bindparam("of"),
        rows.c.remote_id.in_(bindparam("among", expanding=True)),
    )
)


def take(
    transaction: Transaction,
    terms: Terms,
    records: Iterable[RemoteContact],
    now: datetime,
    *,
    whole: bool = False,
) -> Taken:
    """Bring rows of a service into our contacts, in the caller's transaction.

    Who a row is: by its remote id, else by address, else somebody new. Blanks never
    erase, an opt-out is stored in its scope, an address that is another contact's is
    reported and never taken.

    Args:
        whole: each was read by itself, with all its fields.

    Raises:
        Repeat: somebody else changed one of them; run the transaction again.
    """
    people: list[RemoteContact] = []
    members: list[RemoteContact] = []
    for one in each_once(records):
        (people if is_person(one) else members).append(one)
    page = Page(transaction, terms, now, whole)
    _take_people(page, people)
    note_members(page, members)
    return page.taken


def _take_people(page: Page, records: Sequence[RemoteContact]) -> None:
    """Bring in everybody whose row is not as it was pulled last."""
    version = page.terms.pull.version
    marks = {one.remote_id: fingerprint(one, version) for one in records}
    if not page.terms.full and not page.whole:
        seen = _PULLED(page.transaction, list(marks), page.of)
        same = {id_ for id_, pulled in seen if pulled == marks[id_]}
        page.taken.counts[UNCHANGED] += len(same)
        # A push may have changed since what is noted of their memberships.
        known = [one for one in records if one.segments and one.remote_id in same]
        note_members(
            page, [replace(one, email="", status="", fields={}) for one in known]
        )
        records = [one for one in records if one.remote_id not in same]
    if records:
        _bring(page, find_rows(page, records, marks))


def _bring(page: Page, found: Sequence[Row]) -> None:
    found = _without_erased(page, found)
    ids = sorted({row.contact_id for row in found} - {0})
    facts = load_facts(page.transaction, ids, lists=False)
    linked = remote.ours(page.transaction, page.of, ids, hold=True)
    for row in found:
        row.was_known = row.was_ours or row.contact_id in linked
    actions = [_action(page, row, facts) for row in found]
    todo = [(row, one) for row, one in zip(found, actions, strict=True) if one]
    if todo:
        recorded = page.terms.recorder.record(
            page.transaction, [one for _, one in todo], page.now
        )
        _count(page, todo, recorded)
        page.taken.recorded = recorded
        if recorded.merged:
            linked = after_merges(page, found)
    keep_rows(page, found, link_rows(page, found, linked))


def _without_erased(page: Page, found: Sequence[Row]) -> Sequence[Row]:
    """Leave out whom the pull must not bring back."""
    new = [row.email for row in found if not row.contact_id]
    blocked = erased_addresses(page.transaction, new) if new else set[str]()
    if not blocked:
        return found
    kept = [row for row in found if row.contact_id or row.email not in blocked]
    page.taken.counts[ERASED] += len(found) - len(kept)
    # If they come back by themselves, it is as if they had never been here: what
    # they decided there is known.
    place = page.terms.place
    optouts = [
        one
        for row in found
        if not row.contact_id and row.email in blocked
        for one in learned(place, row.snapshot, row.record, (), row.email)
    ]
    add_suppressions(page.transaction, optouts, page.now)
    return kept


def _action(page: Page, row: Row, facts: Mapping[int, Facts]) -> Action | None:
    """Return what is to be written of a contact, None when nothing is."""
    terms, record = page.terms, row.record
    if row.snapshot.alias:
        return None
    if not row.contact_id:
        choice = for_new(terms.pull, record.fields)
        choice.data.email = row.email
    elif (ours := facts.get(row.contact_id)) is None:
        return None
    else:
        choice = for_known(terms.pull, record.fields, row.base, ours, terms.same)
        choice.data.email = new_address(page, row, ours)
    row.agreed = choice.taken
    for why in choice.unfit:
        page.taken.counts[UNFIT] += 1
        page.note(UNFIT, record.remote_id, why)
    if row.contact_id and choice.is_empty and not choice.data.email:
        return None
    return Action(
        "",
        choice.data,
        source=SOURCE,
        actor=terms.state.name,
        quiet=not terms.fire,
        about=row.contact_id,
        origin=page.of,
    )


def _count(page: Page, todo: Sequence[tuple[Row, Action]], recorded: Recorded) -> None:
    counts = page.taken.counts
    changed = {*recorded.changed, *recorded.touched}
    for (row, _), result in zip(todo, recorded.results, strict=True):
        if not row.contact_id and result.created:
            counts[CREATED] += 1
        elif result.contact_id in changed:
            counts[CHANGED] += 1
            # What is read by itself for the first time was so before.
            is_first = page.whole and row.snapshot.fetched_at is None
            counts[ALTERED] += row.was_known and not is_first
        row.contact_id = result.contact_id
