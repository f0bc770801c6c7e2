"""Connections with what is queued for them, for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import func, select, text

from onward.connections.state import UNRESOLVED, State, read_all, read_segments
from onward.models import Push, Webhook, table
from onward.models.delivery import WAITING_SQL

pushes = table(Push)
webhooks = table(Webhook)

_WAITING = (
    select(pushes.c.connection_id, pushes.c.segment, func.count())
    .where(text(WAITING_SQL))
    .group_by(pushes.c.connection_id, pushes.c.segment)
)
_REPORTING = select(webhooks.c.connection_id, webhooks.c.created_at).where(
    webhooks.c.state == "registered"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """One connection.

    Args:
        segment: name of its remote segment; what was asked for when that is not
            known yet; "" = on none.
        waiting: rows that go when they are due.
        held: rows that wait for a person.
        paused_segments: name of a remote segment → why its rows are held.
        webhook_since: since when the service reports changes; None = it does not.
    """

    state: State
    segment: str = ""
    waiting: int = 0
    held: int = 0
    paused_segments: dict[str, str] = field(default_factory=dict[str, str])
    webhook_since: datetime | None = None

    @property
    def document(self) -> dict[str, object]:
        """The connection as plain data, without its settings."""
        state = self.state
        return {
            "name": state.name,
            "integration": state.integration,
            "status": state.status,
            "paused_code": state.paused_code,
            "paused_why": state.paused_why,
            "paused_at": state.paused_at,
            "push_contacts": state.push_contacts,
            "account": state.title,
            "identity": state.identity,
            "segment_id": state.segment_id,
            "segment": self.segment,
            "paused_segments": self.paused_segments,
            "waiting": self.waiting,
            "held": self.held,
            "rests_until": state.rest_until,
            "rest_code": state.rest_code,
            "rest_why": state.rest_why,
            "verified_at": state.verified_at,
            "declared": bool(state.declared),
            "webhook": self.webhook_since is not None,
            "webhook_since": self.webhook_since,
        }


def list_connections(transaction: Transaction) -> list[Listed]:
    """Return every connection by name, with its queue."""
    counts: dict[int, dict[str, int]] = {}
    for of, segment, number in transaction.execute(_WAITING):
        counts.setdefault(of, {})[segment] = number
    reporting = {
        row.connection_id: row.created_at for row in transaction.execute(_REPORTING)
    }
    listed: list[Listed] = []
    for state in read_all(transaction):
        known = read_segments(transaction, state.id)
        names = {id_: name for id_, name, _ in known}
        paused = {id_: why for id_, _, why in known if why}
        queued = counts.get(state.id, {})
        stopped = bool(state.paused_code) and state.enabled
        held = sum(n for id_, n in queued.items() if stopped or id_ in paused)
        listed.append(
            Listed(
                state,
                segment_name(state, names),
                sum(queued.values()) - held,
                held,
                {names[id_]: why for id_, why in paused.items()},
                reporting.get(state.id),
            )
        )
    return listed


def segment_name(state: State, names: dict[str, str]) -> str:
    """Return what people call the remote segment of a connection."""
    if state.segment_id:
        return names.get(state.segment_id, state.segment_id)
    return state.segment.removeprefix(UNRESOLVED) if state.segment else ""
