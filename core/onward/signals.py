"""The facts Onward announces after they are committed.

Receivers get the app as sender and one `event`. They are held weakly, called
one at a time and in no order; what one raises is logged and stops nobody. A
signal is sent at most once, in the process that committed: who must not miss
one reads the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from blinker import NamedSignal, Namespace

log = logging.getLogger("onward.signals")

_signals = Namespace()

contact_created = _signals.signal("contact-created")
contact_changed = _signals.signal("contact-changed")
contact_merged = _signals.signal("contact-merged")
contact_erased = _signals.signal("contact-erased")
contact_action = _signals.signal("contact-action")
points_changed = _signals.signal("points-changed")
point_triggered = _signals.signal("point-triggered")
push_queued = _signals.signal("push-queued")
push_delivered = _signals.signal("push-delivered")
push_failed = _signals.signal("push-failed")
push_skipped = _signals.signal("push-skipped")
connection_verified = _signals.signal("connection-verified")
connection_paused = _signals.signal("connection-paused")
connection_resumed = _signals.signal("connection-resumed")
sync_finished = _signals.signal("sync-finished")


@dataclass(frozen=True, slots=True)
class ContactFact:
    """A contact was created, changed, merged (`other` into it) or erased."""

    contact_id: int
    changed: tuple[str, ...] = ()
    other: int | None = None


@dataclass(frozen=True, slots=True)
class ContactAction:
    """Something a contact did.

    Args:
        action: the name the caller chose, as `form.submitted`.
        data: what came with it.
        occurred_at: when it happened, aware.
    """

    contact_id: int
    action: str
    event_id: int
    occurred_at: datetime
    data: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class PointsChanged:
    """The points of a contact changed by `delta` to `total`."""

    contact_id: int
    delta: int
    total: int


@dataclass(frozen=True, slots=True)
class PointTriggered:
    """A point trigger fired for a contact."""

    contact_id: int
    key: str
    total: int


@dataclass(frozen=True, slots=True)
class PushFact:
    """A push was queued, delivered, failed or skipped."""

    push_id: int
    connection: str
    contact_id: int
    state: str
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionFact:
    """A connection was verified, paused or resumed."""

    connection: str
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SyncFact:
    """A pull of a connection ended.

    Args:
        run_id: of the pull.
        counts: `shown`, `created`, `changed`, `unchanged`, `unsubscribed`, … rows.
    """

    connection: str
    run_id: int
    counts: Mapping[str, int] = field(default_factory=dict[str, int])


Fact = (
    ContactFact
    | ContactAction
    | PointsChanged
    | PointTriggered
    | PushFact
    | ConnectionFact
    | SyncFact
)


def announce(signal: NamedSignal, sender: object, event: Fact) -> None:
    """Tell every receiver; log what one raises and go on."""
    if not signal.receivers:
        return
    for receiver in list(signal.receivers_for(sender)):
        try:
            receiver(sender, event=event)
        except Exception:
            name = getattr(receiver, "__qualname__", repr(receiver))
            log.exception("%s: the receiver %s failed", signal.name, name)
