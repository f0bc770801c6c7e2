"""How a remote contact differs from what we last wrote, as flags of its row."""

from __future__ import annotations

from collections.abc import Iterable

from onward.connections.state import State
from onward.contacts.suppress import Stop
from onward.remote import DELETED, Snapshot
from onward.sync.optouts import is_stopped_here
from onward.sync.values import Same

FIELDS = 1
"""A field has another value than we last wrote."""
GONE = 2
"""It is not there any more."""
STOPPED = 4
"""The service says subscribed, and we know that it must not be pushed."""
CLASH = 8
"""Its address, or it, is another contact's."""


def differing_fields(snapshot: Snapshot, same: Same, email_field: str) -> list[str]:
    """Return the remote fields that are not as we last wrote them."""
    written = snapshot.written
    if not written:
        return []
    there = {email_field: snapshot.email, **snapshot.values}
    return [
        name
        for name, text in written.items()
        if name in there and there[name] != text and not same(name, text, there[name])
    ]


def differences(
    state: State,
    snapshot: Snapshot,
    stops: Iterable[Stop],
    same: Same,
    email_field: str,
) -> int:
    """Return all flags that are so, a clash apart.

    Args:
        stops: of the contact, lifted ones included.
    """
    flags = 0
    if snapshot.status == DELETED:
        flags |= GONE
    elif differing_fields(snapshot, same, email_field):
        flags |= FIELDS
    if is_stopped_here(state, snapshot, stops):
        flags |= STOPPED
    return flags
