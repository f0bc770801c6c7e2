"""What a service is known to have: remote index and snapshots in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from onward.among import ForEach
from onward.contract import RemoteContact
from onward.errors import Repeat
from onward.models import Connection as ConnectionRow
from onward.models import Contact, RemoteContactRow, table
from onward.plain import without_control
from onward.sql import Rows, unindexed

rows = table(RemoteContactRow)
contacts = table(Contact)

# A remote contact in another state does not have what we last sent.
ALIVE = frozenset({"", "normal", "pending"})
# Nobody in these may be written to, in any service.
STOPPED = frozenset({"opted_out", "bounced"})
# Noted with its suppression; seen there again since, by reading only; and by a pull,
# which shows all that was left since.
DELETED = "deleted"
RETURNED = "returned"
BACK = "back"
AGAIN = frozenset({RETURNED, BACK})

# For "of this contact, in any service": the index begins with the connection.
ANYWHERE = rows.c.connection_id.in_(select(table(ConnectionRow).c.id))
_OF = rows.c.connection_id == bindparam("of")
# As `Snapshot` takes them.
_SHOWN = [
    rows.c[name]
    for name in (
        "remote_id",
        "contact_id",
        "email",
        "status",
        "values",
        "segments",
        "map_version",
        "unsure",
        "alias",
        "written",
        "differs",
        "pulled",
        "created_at",
        "first_seen_at",
        "fetched_at",
    )
]
_BY_ID = ForEach(
    lambda among: select(*_SHOWN).where(_OF, among(rows.c.remote_id, "keys"))
)
_BY_EMAIL = ForEach(
    lambda among: select(*_SHOWN).where(_OF, among(rows.c.email, "keys"))
)
_OURS = ForEach(
    lambda among: select(*_SHOWN).where(_OF, among(rows.c.contact_id, "keys"))
)
# Nobody else writes what was read so until the transaction ends. In id order: two
# that hold the same ones do not deadlock. SQLite's one writer holds everything.
_HOLD_BY_ID = ForEach(
    lambda among: (
        select(*_SHOWN)
        .where(_OF, among(rows.c.remote_id, "keys"))
        .order_by(rows.c.remote_id)
        .with_for_update()
    )
)
_HOLD_OURS = ForEach(
    lambda among: (
        select(*_SHOWN)
        .where(_OF, among(rows.c.contact_id, "keys"))
        # For the order SQLite would walk through the whole connection.
        .order_by(unindexed(rows.c.remote_id))
        .with_for_update()
    )
)
_OWNERS = ForEach(
    lambda among: (
        select(rows.c.email, rows.c.contact_id)
        .join(contacts, contacts.c.id == rows.c.contact_id)
        .where(
            _OF,
            among(rows.c.email, "keys"),
            ~rows.c.alias,
            rows.c.status != DELETED,
            contacts.c.merged_into.is_(None),
            contacts.c.erased_at.is_(None),
        )
    )
)
# In the order the table has them.
_COLUMNS = [rows.c.connection_id, *_SHOWN[:9], rows.c.seen_at, *_SHOWN[9:]]
_ADD = Rows(lambda insert: insert(rows).on_conflict_do_nothing(), _COLUMNS)
_PUT = Rows(
    lambda insert: insert(rows).on_conflict_do_update(
        index_elements=["connection_id", "remote_id"],
        set_={c.key: insert(rows).excluded[c.key] for c in _COLUMNS[2:]},
    ),
    _COLUMNS,
)
_MARK_UNSURE = ForEach(
    lambda among: (
        update(rows).where(_OF, among(rows.c.contact_id, "keys")).values(unsure=True)
    )
)


@dataclass(slots=True)
class Snapshot:
    """One remote contact as we last knew it; `contact_id` 0 = nobody of ours.

    See `RemoteContactRow`. `is_new`: there is no row of it yet, as far as was read.
    """

    remote_id: str
    contact_id: int
    email: str
    status: str
    values: dict[str, str]
    segments: dict[str, str]
    map_version: str
    unsure: bool
    alias: bool
    written: dict[str, str] | None = None
    differs: int = 0
    pulled: str = ""
    created_at: datetime | None = None
    first_seen_at: datetime | None = field(default=None, compare=False)
    fetched_at: datetime | None = None
    is_new: bool = field(default=False, compare=False)

    @property
    def is_alive(self) -> bool:
        """Tell whether it is there, as far as we know, and has what we last sent."""
        return self.status in ALIVE

    @classmethod
    def unknown(cls, remote_id: str) -> Snapshot:
        """Return what is known of a remote contact before anything is."""
        made = cls(remote_id, 0, "", "", {}, {}, "", unsure=False, alias=False)
        made.is_new = True
        return made

    @property
    def looks(self) -> tuple[object, ...]:
        """What a page of a pull shows of it."""
        return self.email, self.status, dict(self.values)

    def compare(self, before: tuple[object, ...]) -> None:
        """Let the next page count as news, even one that was pulled before.

        Args:
            before: its `looks` before something else than a page was learned.
        """
        if self.looks != before:
            self.pulled = ""

    @property
    def forgotten(self) -> Snapshot:
        """Return it as if no opt-out of it were noted: it becomes somebody else's."""
        if not self.status and not self.segments:
            return self  # nearly all: nothing is noted of them
        return replace(self, status="", segments={})

    def shown(self) -> RemoteContact:
        """Return it as integrations see remote contacts."""
        segments: dict[str, Any] = self.segments
        status = "" if self.status in AGAIN else self.status
        return RemoteContact(self.remote_id, self.email, self.values, status, segments)


def left(segments: Mapping[str, str]) -> dict[str, str]:
    """Return of memberships what a deletion in the service does not end: opt-outs."""
    return {name: how for name, how in segments.items() if how == "unsubscribed"}


def _load(
    connection: Connection, statement: ForEach, of: int, keys: Iterable[Any]
) -> list[Snapshot]:
    given = {"of": of, "keys": list(keys)}
    if not given["keys"]:
        return []
    return [Snapshot(*row) for row in connection.execute(statement(connection), given)]


def by_ids(
    connection: Connection,
    connection_id: int,
    ids: Iterable[str],
    *,
    hold: bool = False,
) -> dict[str, Snapshot]:
    """Return remote id → snapshot.

    Args:
        hold: nobody else writes them until the transaction ends. Whoever saves
            what was read needs it, or what others wrote in between is lost.
    """
    found = _load(connection, _HOLD_BY_ID if hold else _BY_ID, connection_id, ids)
    return {snapshot.remote_id: snapshot for snapshot in found}


def by_emails(
    connection: Connection, connection_id: int, emails: Iterable[str]
) -> dict[str, Snapshot]:
    """Return lower-cased address → snapshot; deleted ones and aliases left out."""
    found = _load(connection, _BY_EMAIL, connection_id, emails)
    return {
        snapshot.email: snapshot
        for snapshot in found
        if not snapshot.alias and snapshot.status != DELETED
    }


def ours(
    connection: Connection,
    connection_id: int,
    contact_ids: Iterable[int],
    *,
    hold: bool = False,
) -> dict[int, Snapshot]:
    """Return contact id → its remote contact; aliases left out.

    Args:
        hold: see `by_ids`.
    """
    of = connection_id
    found = _load(connection, _HOLD_OURS if hold else _OURS, of, contact_ids)
    return {snapshot.contact_id: snapshot for snapshot in found if not snapshot.alias}


def living_aliases(
    connection: Connection, connection_id: int, contact_ids: Iterable[int]
) -> dict[int, Snapshot]:
    """Return contact id → another remote contact of it that is alive; held."""
    found = _load(connection, _HOLD_OURS, connection_id, contact_ids)
    return {one.contact_id: one for one in found if one.alias and one.is_alive}


def owners(
    connection: Connection, connection_id: int, emails: Iterable[str]
) -> dict[str, int]:
    """Return address → the contact of ours whose remote contact has it."""
    given = {"of": connection_id, "keys": list(emails)}
    if not given["keys"]:
        return {}
    found = connection.execute(_OWNERS(connection), given)
    return {row.email: row.contact_id for row in found}


def learn(
    connection: Connection,
    connection_id: int,
    records: Iterable[RemoteContact],
    now: datetime,
) -> None:
    """Add what a service showed to what is known; what it did not show stays.

    Of our contacts an opt-out, a deletion and their end count from the moment a
    push's outcome records them, with the suppression: an older consent would answer
    what was only read.

    Raises:
        Repeat: see `save`.
    """
    # An id with a NUL in it is none, and no text for PostgreSQL.
    latest = {
        record.remote_id: record for record in records if record.remote_id.isprintable()
    }
    known = by_ids(connection, connection_id, latest, hold=True)
    fresh: list[Snapshot] = []
    for remote_id, record in latest.items():
        snapshot = known.get(remote_id) or Snapshot.unknown(remote_id)
        before = snapshot.looks
        snapshot.email = without_control(record.email.lower()) or snapshot.email
        # Only its own push, or a pull, notes that: until then it is asked for.
        snapshot.unsure |= _is_new_stop(snapshot, record)
        snapshot.status = _learned_status(snapshot, record)
        snapshot.values = {**snapshot.values, **record.fields}
        _learn_segments(snapshot, record)
        snapshot.compare(before)
        fresh.append(snapshot)
    save(connection, connection_id, fresh, now)


def _learned_status(snapshot: Snapshot, record: RemoteContact) -> str:
    """Return the status after reading; of ours no opt-out, no deletion nor its end."""
    status = without_control(record.status) or snapshot.status
    if not snapshot.contact_id:
        return status
    if _is_new_stop(snapshot, record):
        return snapshot.status
    if snapshot.status in AGAIN:
        return snapshot.status
    if snapshot.status == DELETED:
        return RETURNED if record.status not in ("", DELETED) else DELETED
    return snapshot.status if status == DELETED else status


def _is_new_stop(snapshot: Snapshot, record: RemoteContact) -> bool:
    """Tell whether a contact of ours is seen as opted out that was not known to be."""
    is_ours = bool(snapshot.contact_id)
    return is_ours and record.status in STOPPED and record.status != snapshot.status


def _learn_segments(snapshot: Snapshot, record: RemoteContact) -> None:
    """Take over memberships; of a new opt-out only that it is no member any more."""
    known = dict(snapshot.segments)
    for segment, membership in record.segments.items():
        if membership != "unsubscribed":
            known[segment] = membership
        elif known.get(segment) != "unsubscribed":
            known.pop(segment, None)
    snapshot.segments = known


def save(
    connection: Connection,
    connection_id: int,
    snapshots: Iterable[Snapshot],
    now: datetime,
) -> None:
    """Write snapshots as they are given, whole; the last of each remote id wins.

    Whoever read them before had to `hold` them.

    Raises:
        Repeat: somebody else wrote one that was new.
    """
    latest = {snapshot.remote_id: snapshot for snapshot in snapshots}
    # In key order: two transactions that write the same ones do not deadlock.
    ordered = [one for _, one in sorted(latest.items())]
    new = _as_rows(connection_id, (one for one in ordered if one.is_new), now)
    if new and _ADD.count(connection, new) != len(new):
        raise Repeat
    known = _as_rows(connection_id, (one for one in ordered if not one.is_new), now)
    if known:
        _PUT.count(connection, known)


def _as_rows(
    connection_id: int, snapshots: Iterable[Snapshot], now: datetime
) -> list[tuple[object, ...]]:
    return [
        (
            connection_id,
            one.remote_id,
            one.contact_id,
            one.email,
            one.status,
            one.values,
            one.segments,
            one.map_version,
            one.unsure,
            one.alias,
            now,
            one.written,
            one.differs,
            one.pulled,
            one.created_at,
            one.first_seen_at or now,
            one.fetched_at,
        )
        for one in snapshots
    ]


def doubt(
    connection: Connection,
    connection_id: int,
    left: Iterable[tuple[int, str]],
    now: datetime,
) -> None:
    """Believe nothing of contacts whose push may or may not have arrived.

    A permission that it may have used counts as used: an opt-out noted of that
    segment, or a deletion, is not taken for answered again.

    Args:
        left: (contact, remote segment) of each.
    """
    wishes = list(left)
    who = {contact for contact, _ in wishes}
    known = ours(connection, connection_id, who, hold=True)
    for contact_id, segment in wishes:
        snapshot = known.get(contact_id)
        if snapshot is None:
            continue
        snapshot.unsure, snapshot.pulled = True, ""
        if snapshot.segments.get(segment) == "unsubscribed":
            del snapshot.segments[segment]
        if snapshot.status in (DELETED, *AGAIN):
            snapshot.status = ""
    save(connection, connection_id, known.values(), now)


def mark_unsure(
    connection: Connection, connection_id: int, contact_ids: Iterable[int]
) -> None:
    """Note that a late answer was refused: read before the next write."""
    given = {"of": connection_id, "keys": list(contact_ids)}
    connection.execute(_MARK_UNSURE(connection), given)
