"""Sending webhook events to those who registered.

Source:
    icontact-api.md 12; one event for each POST and one retry are assumed (23).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import httpx
import orjson

from onward import is_loopback

from .wire import contact_record, list_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .exchange import Record
    from .folder import Folder
    from .records import Contact, MailingList
    from .switches import Switches

WebhookSend: TypeAlias = Callable[[str, bytes], int]

_TRIES = 2


def send_events(
    send: WebhookSend,
    folder: Folder,
    events: Iterable[tuple[str, Contact, MailingList | None]],
    switches: Switches,
) -> None:
    """Send each event to each of its addresses: an array of one, without signature."""
    for event_id, contact, one in events:
        record: Record = {
            "contact": contact_record(contact, folder.custom_fields, switches)
        }
        if one is not None:
            record["list"] = list_record(one, switches, written=True)
        body = orjson.dumps([record])
        for hook in list(folder.webhooks.values()):
            if hook.event_id == event_id:
                _send(send, hook.url, body)


def over_http() -> WebhookSend:
    """Return what POSTs events in a thread of its own, in their order.

    Whoever made the change is not kept waiting, and may be the receiver itself. Only
    addresses of this machine are called: a fake calls nobody else.
    """
    pool = ThreadPoolExecutor(1, "webhooks")

    def post(url: str, body: bytes) -> None:
        for _ in range(_TRIES):
            with suppress(httpx.HTTPError):
                kind = {"Content-Type": "application/json"}
                if httpx.post(url, content=body, headers=kind).status_code < 300:
                    return

    def send(url: str, body: bytes) -> int:
        if is_loopback(httpx.URL(url).host):
            pool.submit(post, url, body)
        return 200

    return send


def _send(send: WebhookSend, url: str, body: bytes) -> None:
    for _ in range(_TRIES):
        try:
            if send(url, body) < 300:
                return
        except httpx.HTTPError:
            continue
