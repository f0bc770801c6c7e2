"""Some contacts by their ids, each by itself and whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onward import RemoteContact, RemoteKey, Temporary
from onward_icontact.client import Client


def fetch(client: Client, keys: Sequence[RemoteKey]) -> Iterator[RemoteContact]:
    """Yield each contact with all its fields, as `deleted` when it is not there."""

    def read(key: RemoteKey) -> RemoteContact:
        contact = find_member(client, key.id)
        if contact is None:
            return RemoteContact(key.id, status="deleted")
        return replace(
            contact,
            segments={one: client.membership(one, key.id) for one in key.segments},
        )

    yield from client.api.each(read, keys)


def find_member(client: Client, contact_id: str) -> RemoteContact | None:
    """Return a contact that is there; None when it is deleted or gone.

    Asked twice: one stray 404 deletes nobody.

    Raises:
        Temporary: it answered with somebody else.
    """
    contact = client.contact(contact_id) or client.contact(contact_id)
    if contact is None:
        return None
    if contact.remote_id != contact_id:
        raise Temporary(
            "iContact answered with another contact than was asked for",
            code="not_understood",
        )
    return None if contact.status == "deleted" else contact
