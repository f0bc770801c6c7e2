"""What a service is known to have: remote index and snapshots in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from onward.contract import RemoteContact
from onward.models import RemoteContactRow, table
from onward.sql import PerDialect

rows = table(RemoteContactRow)

CHUNK = 500  # stays below every database's limit of parameters

_OF = rows.c.connection_id == bindparam("of")
_BY_ID = select(rows).where(_OF, rows.c.remote_id.in_(bindparam("ids", expanding=True)))
_BY_EMAIL = select(rows).where(
    _OF, rows.c.email.in_(bindparam("emails", expanding=True))
)
_OURS = select(rows).where(_OF, rows.c.contact_id.in_(bindparam("ids", expanding=True)))
_PUT = PerDialect(
    lambda insert: insert(rows).on_conflict_do_update(
        index_elements=["connection_id", "remote_id"],
        set_={
            name: insert(rows).excluded[name]
            for name in (
                "contact_id",
                "email",
                "status",
                "values",
                "segments",
                "map_version",
                "unsure",
                "alias",
                "seen_at",
            )
        },
    )
)
_MARK_UNSURE = (
    update(rows)
    .where(_OF, rows.c.contact_id.in_(bindparam("ids", expanding=True)))
    .values(unsure=True)
)


@dataclass(slots=True)
class Snapshot:
    """One remote contact as we last knew it; `contact_id` 0 = nobody of ours."""

    remote_id: str
    contact_id: int
    email: str
    status: str
    values: dict[str, str]
    segments: dict[str, str]
    map_version: str
    unsure: bool
    alias: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Snapshot:
        """Build it from a table row."""
        return cls(
            row["remote_id"],
            row["contact_id"],
            row["email"],
            row["status"],
            dict(row["values"]),
            dict(row["segments"]),
            row["map_version"],
            row["unsure"],
            row["alias"],
        )

    def shown(self) -> RemoteContact:
        """Return it as integrations see remote contacts."""
        segments: dict[str, Any] = self.segments
        return RemoteContact(
            self.remote_id, self.email, self.values, self.status, segments
        )


def _load(
    connection: Connection, statement: Any, of: int, name: str, keys: Sequence[Any]
) -> list[Snapshot]:
    found: list[Snapshot] = []
    for start in range(0, len(keys), CHUNK):
        part = {"of": of, name: keys[start : start + CHUNK]}
        found += [
            Snapshot.of({str(key): value for key, value in row.items()})
            for row in connection.execute(statement, part).mappings()
        ]
    return found


def by_ids(
    connection: Connection, connection_id: int, ids: Sequence[str]
) -> dict[str, Snapshot]:
    """Return remote id → snapshot."""
    found = _load(connection, _BY_ID, connection_id, "ids", ids)
    return {snapshot.remote_id: snapshot for snapshot in found}


def by_emails(
    connection: Connection, connection_id: int, emails: Sequence[str]
) -> dict[str, Snapshot]:
    """Return lower-cased address → snapshot; deleted ones and aliases left out."""
    found = _load(connection, _BY_EMAIL, connection_id, "emails", emails)
    return {
        snapshot.email: snapshot
        for snapshot in found
        if not snapshot.alias and snapshot.status != "deleted"
    }


def ours(
    connection: Connection, connection_id: int, contact_ids: Sequence[int]
) -> dict[int, Snapshot]:
    """Return contact id → its remote contact; aliases left out."""
    found = _load(connection, _OURS, connection_id, "ids", contact_ids)
    return {snapshot.contact_id: snapshot for snapshot in found if not snapshot.alias}


def learn(
    connection: Connection,
    connection_id: int,
    records: Iterable[RemoteContact],
    now: datetime,
) -> None:
    """Add what a service showed to what is known; what it did not show stays."""
    latest = {record.remote_id: record for record in records}
    known = by_ids(connection, connection_id, list(latest))
    fresh: list[dict[str, Any]] = []
    for remote_id, record in latest.items():
        old = known.get(remote_id)
        fresh.append(
            {
                "connection_id": connection_id,
                "remote_id": remote_id,
                "contact_id": old.contact_id if old else 0,
                "email": record.email.lower() or (old.email if old else ""),
                "status": record.status or (old.status if old else ""),
                "values": {**(old.values if old else {}), **record.fields},
                "segments": {**(old.segments if old else {}), **record.segments},
                "map_version": old.map_version if old else "",
                "unsure": old.unsure if old else False,
                "alias": old.alias if old else False,
                "seen_at": now,
            }
        )
    if fresh:
        connection.execute(_PUT(connection), fresh)


def save(
    connection: Connection,
    connection_id: int,
    snapshots: Iterable[Snapshot],
    now: datetime,
) -> None:
    """Write snapshots as they are given, whole."""
    fresh = [
        {
            "connection_id": connection_id,
            "remote_id": snapshot.remote_id,
            "contact_id": snapshot.contact_id,
            "email": snapshot.email,
            "status": snapshot.status,
            "values": snapshot.values,
            "segments": snapshot.segments,
            "map_version": snapshot.map_version,
            "unsure": snapshot.unsure,
            "alias": snapshot.alias,
            "seen_at": now,
        }
        for snapshot in snapshots
    ]
    if fresh:
        connection.execute(_PUT(connection), fresh)


def mark_unsure(
    connection: Connection, connection_id: int, contact_ids: Sequence[int]
) -> None:
    """Note that a late answer was refused: read before the next write."""
    if contact_ids:
        connection.execute(_MARK_UNSURE, {"of": connection_id, "ids": contact_ids})
