"""Who was on no page: asked for one by one before anything is believed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, func, select, text

from onward import remote
from onward.models import Hint, RemoteContactRow, table
from onward.remote import DELETED
from onward.sync.runs import Run

rows = table(RemoteContactRow)
hints = table(Hint)

BATCH = 500

_KNOWN = (
    select(func.count())
    .select_from(rows)
    .where(
        rows.c.connection_id == bindparam("of"),
        rows.c.contact_id != 0,
        rows.c.status != DELETED,
    )
)
_SEEN = (
    select(func.count())
    .select_from(rows)
    .where(rows.c.connection_id == bindparam("of"))
)
# The pages of a run as rows: ids that were shown. Written out, because each database
# unpacks a list in its own words; neither needs them all in memory.
_LISTED = {
    "sqlite": "SELECT j.value AS id FROM sync_page p, json_each(p.ids) j",
    "postgresql": "SELECT json_array_elements_text(p.ids) AS id FROM sync_page p",
}
_FROM = (
    "FROM remote_contact r LEFT JOIN ({listed} WHERE p.run_id = :run AND"
    " p.members_of = :part) l ON l.id = r.remote_id"
    " WHERE r.connection_id = :of AND l.id IS NULL"
)
# Linked, not known to be gone, and there before the pull began.
_GONE = (
    f" AND r.contact_id <> 0 AND r.status <> '{DELETED}'"
    " AND (r.first_seen_at IS NULL OR r.first_seen_at <= :before)"
)
_COUNT = "SELECT count(*) " + _FROM + _GONE
_ASK = (
    "INSERT INTO hint (connection_id, remote_id, segments, run_id, tries, due_at,"
    " created_at) SELECT r.connection_id, r.remote_id, '[]', :run, 0, :now, :now "
    + _FROM
    + _GONE
    + " ON CONFLICT DO NOTHING"
)
# Believed to be members; written since the pull began is newer than its pages.
_LEFT = (
    "SELECT r.remote_id "
    + _FROM
    + " AND r.seen_at <= :before AND CAST(r.segments AS TEXT) LIKE :named"
    " AND r.remote_id > :after ORDER BY r.remote_id LIMIT :size"
)


def _statement(transaction: Transaction, words: str) -> Any:
    listed = _LISTED[transaction.dialect.name]
    moment = rows.c.seen_at.type
    made = text(words.format(listed=listed))
    named = [name for name in ("before", "now") if f":{name}" in words]
    return made.bindparams(*(bindparam(name, type_=moment) for name in named))


def count_known(transaction: Transaction, connection_id: int) -> int:
    """Count the contacts of ours that the service is believed to have."""
    return int(transaction.execute(_KNOWN, {"of": connection_id}).scalar_one())


def count_seen(transaction: Transaction, connection_id: int) -> int:
    """Count the remote contacts that were ever shown, whoever they are."""
    return int(transaction.execute(_SEEN, {"of": connection_id}).scalar_one())


def count_missing(transaction: Transaction, run: Run) -> int:
    """Count those of them that were on no page of a pull."""
    given = _given(run, "")
    return int(transaction.execute(_statement(transaction, _COUNT), given).scalar_one())


def ask_for_missing(transaction: Transaction, run: Run, now: datetime) -> int:
    """Have each of them read by itself; return how many."""
    given = {**_given(run, ""), "now": now}
    return transaction.execute(_statement(transaction, _ASK), given).rowcount


def forget_members(
    transaction: Transaction, run: Run, segment: str, after: str, now: datetime
) -> str | None:
    """Believe no longer that they are members who were not listed, some at a time.

    Nothing is concluded from it: whoever pushes them asks the service.

    Args:
        after: remote id the last call ended with; "" for the first.

    Returns:
        The remote id it ended with; None when there are no more.
    """
    given = {
        **_given(run, segment),
        "named": f'%"{segment}"%',
        "after": after,
        "size": BATCH,
    }
    found = transaction.execute(_statement(transaction, _LEFT), given).scalars().all()
    known = remote.by_ids(transaction, run.connection_id, found, hold=True)
    wrong = [
        one
        for one in known.values()
        if one.segments.get(segment) in ("normal", "pending")
    ]
    for one in wrong:
        one.segments = {
            name: membership
            for name, membership in one.segments.items()
            if name != segment
        }
    remote.save(transaction, run.connection_id, wrong, now)
    return found[-1] if len(found) == BATCH else None


def _given(run: Run, part: str) -> Mapping[str, Any]:
    return {
        "run": run.id,
        "part": part,
        "of": run.connection_id,
        "before": run.started_at,
    }
