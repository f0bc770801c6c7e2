"""Take over rows that say of which lists somebody is, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from onward import remote
from onward.contacts.release import lock_contacts
from onward.contract import RemoteContact
from onward.remote import Snapshot
from onward.sync.keeping import keep_rows
from onward.sync.optouts import note
from onward.sync.terms import Page, Row


def note_members(page: Page, records: Sequence[RemoteContact]) -> None:
    """Note memberships; of those who left, also the opt-out."""
    if not records:
        return
    ids = [one.remote_id for one in records]
    known = remote.by_ids(page.transaction, page.of, ids)
    news = [one for one in records if _is_news(one, known.get(one.remote_id))]
    if not news:
        return
    ids = [one.remote_id for one in news]
    mine = {known[id_].contact_id for id_ in ids if id_ in known}
    lock_contacts(page.transaction, mine - {0})
    known = remote.by_ids(page.transaction, page.of, ids, hold=True)
    keep_rows(page, [_membership(one, known.get(one.remote_id)) for one in news])
    strangers: list[Snapshot] = []
    for one in news:
        snapshot = known.get(one.remote_id) or Snapshot.unknown(one.remote_id)
        if not snapshot.contact_id:
            note(snapshot, one)
            strangers.append(snapshot)
    remote.save(page.transaction, page.of, strangers, page.now)


def _membership(record: RemoteContact, known: Snapshot | None) -> Row:
    snapshot = known or Snapshot.unknown(record.remote_id)
    row = Row(record, snapshot, snapshot.email, snapshot.pulled)
    row.contact_id, row.was_ours = snapshot.contact_id, True
    row.was_known = True
    return row


def _is_news(record: RemoteContact, known: Snapshot | None) -> bool:
    if known is None:
        return True
    return any(
        known.segments.get(segment, "none") != membership
        for segment, membership in record.segments.items()
    )
