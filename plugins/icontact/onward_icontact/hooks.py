"""Let iContact report changes to an address, and read whom a report is about.

Reports are not signed: whoever knows the address can send one. So nothing of it is
believed but that somebody is worth a look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

import orjson

from onward import Rejected, RemoteKey
from onward_icontact.calls import Gone
from onward_icontact.client import Client
from onward_icontact.rows import DIGITS, Row, text_of

# There is none for a contact that becomes "do not contact": pulling finds those.
EVENTS = (
    "contact_created",
    "contact_updated",
    "contact_subscribed",
    "contact_unsubscribed",
)


def watch(client: Client, url: str) -> None:
    """Register an address for the events it is not registered for yet.

    Raises:
        Rejected: iContact did not register one.
    """
    there = _events_of(client, url)
    said = [client.add_webhook(one, url) for one in EVENTS if one not in there]
    if said and (
        missing := [one for one in EVENTS if one not in _events_of(client, url)]
    ):
        # Who knows the address can send reports, so it stands in no sentence.
        words = "; ".join(filter(None, said)).replace(url, "the address")
        words = words or "it gives no reason"
        raise Rejected(
            f"iContact did not register the address for {', '.join(missing)}: {words}"
        )


def unwatch(client: Client, url: str) -> None:
    """Remove what is registered for an address, whatever stands behind its path.

    Raises:
        Rejected: iContact did not remove one.
    """
    for row in _of(client, url):
        try:
            client.remove_webhook(text_of(row.get("webhookId")))
        except Gone:
            continue
    if left := _of(client, url):
        raise Rejected(f"iContact kept {len(left)} registrations of the address")


def _events_of(client: Client, url: str) -> set[str]:
    return {
        text_of(row.get("eventId"))
        for row in client.webhooks()
        if text_of(row.get("url")) == url
    }


def _of(client: Client, url: str) -> list[Row]:
    """Return the registrations of an address, all of them before one is removed."""
    place = _place(url)
    rows = {text_of(row.get("webhookId")): row for row in client.webhooks()}
    return [row for row in rows.values() if _place(text_of(row.get("url"))) == place]


def _place(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", url
    return parts.netloc.lower(), parts.path.rstrip("/")


def receive(body: bytes) -> Sequence[RemoteKey]:
    """Return whom a report is about, and on which lists.

    Takes `[{"contact": {"contactId": …}, "list": {"listId": …}}]`, several of them,
    or one without the array.

    Raises:
        ValueError: it is no such report, or a part of it is not.
    """
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ValueError("the report is no JSON") from None
    events = cast("list[object]", found) if isinstance(found, list) else [found]
    lists: dict[str, dict[str, None]] = {}
    for event in events:
        contact_id, list_id = _ids(event)
        lists.setdefault(contact_id, {}).update({list_id: None} if list_id else {})
    if not lists:
        raise ValueError("the report names no contact")
    return [RemoteKey(id_, tuple(of)) for id_, of in lists.items()]


def _ids(event: object) -> tuple[str, str]:
    if not isinstance(event, dict):
        raise ValueError("the report is no list of events")  # noqa: TRY004 - as promised
    parts = cast("Row", event)
    contact_id = _id(parts.get("contact"), "contactId")
    of = parts.get("list")
    return contact_id, "" if of is None else _id(of, "listId")


def _id(thing: object, name: str) -> str:
    value: object = cast("Row", thing).get(name) if isinstance(thing, dict) else None
    text = str(value) if isinstance(value, str | int) else ""
    if not DIGITS.fullmatch(text):
        raise ValueError(f"the report has no {name} that is a number")
    return text
