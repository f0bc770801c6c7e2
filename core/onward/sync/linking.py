"""Note whose each remote contact is, and which one of several is written to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from onward import remote
from onward.remote import DELETED, Snapshot
from onward.sync.terms import Page, Row


def after_merges(page: Page, found: Sequence[Row]) -> dict[int, Snapshot]:
    """Read once more what merging linked otherwise; return who is whose."""
    merged = {loser: survivor for survivor, loser in page.taken.recorded.merged}
    ids = [row.record.remote_id for row in found]
    there = remote.by_ids(page.transaction, page.of, ids)
    for row in found:
        while row.contact_id in merged:
            row.contact_id = merged[row.contact_id]
        if (now := there.get(row.record.remote_id)) is not None:
            row.snapshot.contact_id, row.snapshot.alias = now.contact_id, now.alias
    who = sorted({row.contact_id for row in found} - {0})
    return remote.ours(page.transaction, page.of, who)


def link_rows(
    page: Page, found: Sequence[Row], linked: dict[int, Snapshot]
) -> list[Snapshot]:
    """Note whose each row is; one remote contact of each is the one written to.

    Args:
        linked: contact id → the remote contact of it that is written to.

    Returns:
        Remote contacts of no row here that changed places with one that is.
    """
    # The same rows: what is noted of one must not be saved over by the other.
    here = {row.record.remote_id: row for row in found}
    for contact_id, known in linked.items():
        if known.remote_id in here:
            linked[contact_id] = here[known.remote_id].snapshot
    shown = {id_ for id_, row in here.items() if row.record.status != DELETED}
    gone = here.keys() - shown
    replaced: list[Snapshot] = []
    for row in found:
        snapshot = row.snapshot
        snapshot.contact_id = row.contact_id
        if row.was_ours:
            continue
        other = linked.get(row.contact_id)
        if other is None or other.remote_id == snapshot.remote_id:
            linked[row.contact_id] = snapshot
        elif other.remote_id in shown or (
            other.status != DELETED and other.remote_id not in gone
        ):
            snapshot.alias = True
            row.clash = f"{other.remote_id} is the same contact's already"
        else:
            # Deleted and made again there; what was noted of it stays with it.
            other.alias = True
            replaced.append(other)
            if other.status == DELETED:
                snapshot.status = remote.BACK
            linked[row.contact_id] = snapshot
    return replaced + _replace(page, here, gone)


def _replace(
    page: Page, here: Mapping[str, Row], gone: Collection[str]
) -> list[Snapshot]:
    """Let another remote contact of somebody take the place of one that went.

    Deleted and made again there is not deleted: the person is there.
    """
    main = [
        here[id_] for id_ in gone if here[id_].was_ours and not here[id_].snapshot.alias
    ]
    if not main:
        return []
    who = sorted({row.contact_id for row in main if row.snapshot.status != DELETED})
    alive = remote.living_aliases(page.transaction, page.of, who)
    replaced: list[Snapshot] = []
    for row in main:
        other = alive.get(row.contact_id)
        if other is None or other.remote_id in gone:
            continue
        if other.remote_id in here:
            other = here[other.remote_id].snapshot
        other.alias, row.snapshot.alias = False, True
        other.pulled = ""  # its fields were not taken over yet
        replaced.append(other)
    return replaced
