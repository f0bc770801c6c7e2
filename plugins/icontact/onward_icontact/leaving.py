"""Take people off lists, and remove them; believed when it was read back.

A contact's own status is never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta

from onward import Rejected, RemoteKey, Temporary
from onward_icontact.calls import CONTRADICTION, IGNORED_FILTER, Gone
from onward_icontact.client import Client
from onward_icontact.fetching import find_member
from onward_icontact.rows import membership, text_of

# How long "on no list" may follow from a search that was seen to work.
PROVEN_FOR = timedelta(days=1)
PROOF = "searched_by_contact"
ON_A_LIST = ("normal", "pending")


def unsubscribe(client: Client, keys: Sequence[RemoteKey]) -> Iterator[str]:
    """Yield the ids of those who are on none of their lists any more.

    Raises:
        Rejected: iContact refused one; the others were done before.
    """
    yield from _each(client, lambda key: _leave(client, key), keys)


def erase(client: Client, keys: Sequence[RemoteKey]) -> Iterator[str]:
    """Yield the ids of those who are deleted or gone.

    They leave their lists first: whoever creates a deleted contact again revives it,
    with the opt-outs it had.

    Raises:
        Rejected: iContact refused one; the others were done before.
    """
    yield from _each(client, lambda key: _erase(client, key.id), keys)


def _each(
    client: Client, do: Callable[[RemoteKey], bool], keys: Sequence[RemoteKey]
) -> Iterator[str]:
    refusals: list[Rejected] = []

    def attempt(key: RemoteKey) -> str:
        try:
            return key.id if do(key) else ""
        except Rejected as error:
            refusals.append(error)
            return ""

    yield from filter(None, client.api.each(attempt, keys))
    if refusals:
        raise refusals[0]


def _leave(client: Client, key: RemoteKey) -> bool:
    refusals: list[Rejected] = []
    has_left = True
    for list_id in key.segments or _lists_of(client, key.id):
        try:
            has_left &= _leave_one(client, list_id, key.id)
        except Rejected as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    return has_left


def _leave_one(client: Client, list_id: str, contact_id: str) -> bool:
    """Say that somebody left a list; return whether it was read back.

    Raises:
        Rejected: it was refused, and they are on it still.
    """
    refusal: Rejected | None = None
    try:
        client.leave(list_id, contact_id)
    except Rejected as error:
        refusal = error
    if client.standing(list_id, contact_id) in ("none", "unsubscribed"):
        return True
    if refusal is not None and not isinstance(refusal, Gone):
        raise refusal
    return False


def _erase(client: Client, contact_id: str) -> bool:
    if find_member(client, contact_id) is None:
        return True
    with suppress(Rejected):  # to be gone matters more
        _leave(client, RemoteKey(contact_id))
    with suppress(Gone):
        client.delete(contact_id)
    return find_member(client, contact_id) is None


# -- which lists somebody is on


def _lists_of(client: Client, contact_id: str) -> list[str]:
    """Return the lists somebody is on, or shall confirm to be on.

    That nobody is found may mean that such a search finds nobody ever: then each list
    is asked, unless the search was seen to work.
    """
    found: list[str] = []
    try:
        for status in ON_A_LIST:
            found += _search(client, contact_id, status)
        shown = found or _search(client, contact_id, "unsubscribed")
    except Temporary as error:
        if error.code not in (IGNORED_FILTER, CONTRADICTION):
            raise
        return _ask_each(client, contact_id)
    memory = client.api.memory
    with memory.lock:
        is_proven = bool(memory.get(PROOF))
        if shown and not is_proven:
            memory.put(PROOF, True, PROVEN_FOR)
    return found if shown or is_proven else _ask_each(client, contact_id)


def _search(client: Client, contact_id: str, status: str) -> list[str]:
    """Return the lists of somebody's memberships with a status.

    Raises:
        Temporary: the answer holds other rows than were asked for.
    """
    found: list[str] = []
    for page in client.subscriptions_of(contact_id, status):
        for row in page.rows:
            whose, list_id = text_of(row.get("contactId")), text_of(row.get("listId"))
            if whose != contact_id or membership(row) != status or not list_id:
                raise Temporary(
                    "iContact answered a search for one contact's memberships with "
                    "others",
                    code=IGNORED_FILTER,
                )
            found.append(list_id)
    return found


def _ask_each(client: Client, contact_id: str) -> list[str]:
    lists = [text_of(row.get("listId")) for row in client.lists()]
    return [one for one in lists if client.membership(one, contact_id) in ON_A_LIST]
