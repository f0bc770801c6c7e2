"""What people decided in a service, as a pull shows it: stops, each in its scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onward import remote
from onward.connections.state import State
from onward.contacts.suppress import OptOut, Stop
from onward.contract import RemoteContact, Scope
from onward.remote import AGAIN, BACK, DELETED, Snapshot

# Status of a remote contact → code and what is said of it. The codes are those that
# a push would learn: the same thing seen twice is one suppression.
ADDRESS_WORDS: Mapping[str, tuple[str, str]] = {
    "opted_out": ("do_not_contact", "do not contact"),
    "bounced": ("bounced", "bounced"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows come from, in words.

    Args:
        title: of the integration.
        segments: remote segment id → name.
    """

    state: State
    title: str
    segments: Mapping[str, str]

    def optout(
        self,
        contact_id: int,
        email: str,
        scope: Scope,
        code: str,
        words: str,
        segment: str = "",
    ) -> OptOut:
        """Return one opt-out learned here."""
        return OptOut(
            contact_id,
            email,
            scope,
            code,
            f"{words} in {self.title}",
            self.state.name,
            self.state.identity,
            segment,
        )


def learned(
    place: Place,
    snapshot: Snapshot,
    record: RemoteContact,
    stops: Sequence[Stop],
    email: str,
) -> list[OptOut]:
    """Return the opt-outs that a row says and that are not known yet.

    One that was noted of this remote contact and answered by a consent is no new one:
    whoever sends asks the service again and sees for itself.

    Args:
        snapshot: as it was known before; linked to the contact by now.
        stops: of the contact and its addresses, lifted ones included.
    """
    found: list[OptOut] = []
    contact_id = snapshot.contact_id
    words = ADDRESS_WORDS.get(record.status)
    if words is not None:
        known = any(stop.scope == "address" and stop.code == words[0] for stop in stops)
        if not known or snapshot.status != record.status:
            found.append(place.optout(contact_id, email, "address", *words))
    # A second contact there of one person may go; the person stays.
    is_gone = record.status == DELETED and snapshot.status != DELETED
    if is_gone and not snapshot.alias:
        found.append(place.optout(contact_id, email, "connection", DELETED, DELETED))
    for segment in left_segments(snapshot, record, stops, place.state.identity):
        name = place.segments.get(segment, segment)
        found.append(
            place.optout(
                contact_id,
                email,
                "segment",
                "unsubscribed",
                f"unsubscribed from {name}",
                segment,
            )
        )
    return found


def left_segments(
    snapshot: Snapshot, record: RemoteContact, stops: Sequence[Stop], identity: str
) -> list[str]:
    """Return the remote segments that somebody left, as far as that is news."""
    return [
        segment
        for segment, membership in record.segments.items()
        if membership == "unsubscribed"
        and (
            snapshot.segments.get(segment) != "unsubscribed"
            or not _is_known(stops, identity, segment)
        )
    ]


def _is_known(stops: Iterable[Stop], identity: str, segment: str) -> bool:
    return any(
        stop.scope == "segment"
        and stop.identity == identity
        and stop.segment == segment
        for stop in stops
    )


def note(snapshot: Snapshot, record: RemoteContact) -> None:
    """Take over a row's status and memberships, its opt-outs recorded by now."""
    status = record.status
    if status == DELETED:
        snapshot.segments = remote.left(snapshot.segments)
        snapshot.status = DELETED
    elif status:
        was_gone = snapshot.status in (DELETED, *AGAIN)
        snapshot.status = BACK if was_gone and status == "normal" else status
    if record.segments:
        known = {**snapshot.segments, **record.segments}
        snapshot.segments = {
            segment: membership
            for segment, membership in known.items()
            if membership != "none"
        }


def is_stopped_here(state: State, snapshot: Snapshot, stops: Iterable[Stop]) -> bool:
    """Tell whether the service says subscribed of somebody who must not be pushed."""
    for stop in stops:
        if stop.lifted_at is not None:
            continue
        if stop.scope == "address":
            subscribed = snapshot.status in ("normal", *AGAIN)
        elif stop.identity != state.identity:
            subscribed = False
        elif stop.scope == "segment":
            subscribed = snapshot.segments.get(stop.segment) == "normal"
        else:
            subscribed = stop.scope == "connection" and snapshot.status in AGAIN
        if subscribed:
            return True
    return False
