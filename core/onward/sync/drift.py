"""What differs in a service from what we last wrote there, field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import bindparam, select, text

from onward.api import Api
from onward.connections.open import Opened, open_connection
from onward.connections.state import State
from onward.contract import RemoteChange, RemoteKey
from onward.delivery.queue import BACKFILL, Wish, enqueue
from onward.errors import InputError
from onward.integrations import can
from onward.models import Contact, RemoteContactRow, table
from onward.remote import Snapshot
from onward.runtime import Runtime
from onward.sync.differing import CLASH, FIELDS, GONE, STOPPED, differing_fields
from onward.sync.values import Same
from onward.waking import wake

rows = table(RemoteContactRow)
contacts = table(Contact)

BATCH = 500
# Whoever asks who changed something pays a call for each.
MOST_HISTORIES = 20
CAUSE = "drift"
KINDS: Mapping[int, str] = {
    FIELDS: "fields",
    GONE: "gone",
    STOPPED: "subscribed",
    CLASH: "clash",
}
"""Flag → word: fields differ · not there any more · the service says subscribed of
whom we must not push · an address, or the remote contact, is another contact's."""
ALIAS = "alias"

_DIFFERING = (
    select(rows, contacts.c.email.label("ours"))
    .outerjoin(contacts, contacts.c.id == rows.c.contact_id)
    .where(
        rows.c.connection_id == bindparam("of"),
        rows.c.remote_id > bindparam("after"),
        # As its partial index has it.
        text("(differs <> 0 OR alias)"),
    )
    .order_by(rows.c.remote_id)
    .limit(BATCH)
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One remote contact that is not as it should be.

    Args:
        kinds: words of `KINDS`, and `alias`: the second of a merged one, never written.
        fields: remote name → (what we wrote last, what is there).
        changes: what the service remembers, newest first; only when asked for.
    """

    remote_id: str
    contact_id: int
    email: str
    kinds: tuple[str, ...]
    fields: Mapping[str, tuple[str, str]]
    changes: tuple[RemoteChange, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """Plain data, for `--json`."""
        return {
            "remote_id": self.remote_id,
            "contact_id": self.contact_id or None,
            "email": self.email,
            "kinds": list(self.kinds),
            "fields": {
                name: {"written": ours, "there": theirs}
                for name, (ours, theirs) in self.fields.items()
            },
            "changes": [
                {"at": one.at, "who": one.who, "fields": list(one.fields)}
                for one in self.changes
            ],
        }

    def who_changed(self, name: str) -> tuple[datetime, str] | None:
        """Return when a field was last changed there and by whom, if that is known."""
        for change in self.changes:
            if not change.fields or name.lower() in map(str.lower, change.fields):
                return change.at, change.who
        return None


@dataclass(slots=True)
class Drift:
    """All differences of a connection, counted by kind and by field."""

    kinds: Counter[str] = field(default_factory=Counter[str])
    fields: Counter[str] = field(default_factory=Counter[str])

    def add(self, one: Difference) -> None:
        """Count one."""
        self.kinds.update(one.kinds)
        self.fields.update(one.fields)


def read_drift(runtime: Runtime, state: State, name: str = "") -> Iterator[Difference]:
    """Yield what differs, as of the last pull, by remote id.

    Args:
        name: only where this remote field differs.
    """
    opened = open_connection(runtime, state)
    after: str | None = ""
    while after is not None:
        with runtime.database.read() as transaction:
            given = {"of": state.id, "after": after}
            found = transaction.execute(_DIFFERING, given).mappings().all()
        for row in found:
            one = _difference(row, opened)
            if not name or name in one.fields:
                yield one
        after = found[-1]["remote_id"] if len(found) == BATCH else None


def _difference(row: Mapping[Any, Any], opened: Opened) -> Difference:
    email_field = opened.integration.email_field
    same: Same = opened.integration.same
    snapshot = Snapshot(
        row["remote_id"],
        row["contact_id"],
        row["email"],
        row["status"],
        row["values"],
        row["segments"],
        row["map_version"],
        row["unsure"],
        row["alias"],
        row["written"],
    )
    written = snapshot.written or {}
    there = {email_field: snapshot.email, **snapshot.values}
    fields: dict[str, tuple[str, str]] = {}
    if row["differs"] & FIELDS:
        fields = {
            name: (written[name], there[name])
            for name in differing_fields(snapshot, same, email_field)
        }
    kinds = [word for flag, word in KINDS.items() if row["differs"] & flag]
    kinds += [ALIAS] if row["alias"] else []
    return Difference(
        row["remote_id"],
        row["contact_id"],
        row["ours"] or row["email"],
        tuple(kinds),
        fields,
    )


def read_history(runtime: Runtime, state: State, remote_id: str) -> list[RemoteChange]:
    """Ask the service who changed somebody, newest first.

    Raises:
        InputError: it does not tell.
        ServiceError: it could not be asked.
    """
    opened = open_connection(runtime, state)
    if not can(opened.integration, "history"):
        title = opened.integration.title or state.integration
        raise InputError(f"{title} does not tell who changed a contact")
    api: Api = opened.api(runtime)
    integration: Any = opened.integration
    return list(integration.history(api, RemoteKey(remote_id)))


def push_drift(
    runtime: Runtime,
    state: State,
    name: str = "",
    *,
    dry_run: bool = False,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Queue those whose fields differ, so that ours are written again; return how many.

    A back-fill. Killed, the same call queues the rest: who is queued already is not
    queued twice.

    Args:
        name: only where this remote field differs.
        dry_run: only count.
    """
    count = 0
    batch: list[int] = []
    for one in read_drift(runtime, state, name):
        if one.fields and one.contact_id and not {"gone", ALIAS} & set(one.kinds):
            count += 1
            batch.append(one.contact_id)
        if len(batch) == BATCH and not dry_run:
            _queue(runtime, state, batch)
            on_progress(len(batch))
            batch = []
    if batch and not dry_run:
        _queue(runtime, state, batch)
        on_progress(len(batch))
    return count


def _queue(runtime: Runtime, state: State, ids: list[int]) -> None:
    wishes = [
        Wish(state.id, one, state.segment_id, CAUSE, priority=BACKFILL)
        for one in dict.fromkeys(ids)
    ]
    now = runtime.clock()
    runtime.database.run(partial(enqueue, wishes=wishes, now=now))
    wake(runtime, {state.id})
