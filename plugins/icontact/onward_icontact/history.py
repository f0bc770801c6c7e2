"""Who changed a contact, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import cast

from onward import RemoteChange, RemoteKey
from onward_icontact.calls import Gone
from onward_icontact.client import Client
from onward_icontact.rows import Row, moment_of, text_of

# A contact that was mailed for years has many more actions than changes.
MOST_PAGES = 40
ACTORS = ("system", "admin", "contact", "user")
FIELDS_OF: Mapping[str, tuple[str, ...]] = {
    "EditStatus": ("status",),
    "EditSubscription": ("subscription",),
}


def history(client: Client, key: RemoteKey) -> Iterator[RemoteChange]:
    """Yield what iContact remembers of changes, newest first; of who is gone, nothing.

    What was mailed, opened and clicked is left out.
    """
    try:
        pages = islice(client.actions(key.id), MOST_PAGES)
        rows = [row for page in pages for row in page.rows]
    except Gone:
        return
    # Pages overlap, so a row may come twice.
    changes = dict.fromkeys(one for row in rows if (one := _change(row)) is not None)
    yield from sorted(changes, key=lambda change: change.at, reverse=True)


def _change(row: Row) -> RemoteChange | None:
    sort, at = text_of(row.get("actionType")), moment_of(row.get("actionTime"))
    if at is None:
        return None
    if sort == "EditFields":
        details: object = row.get("details")  # [] when there are none
        names = cast("Row", details) if isinstance(details, dict) else {}
        return RemoteChange(at, _who(row), tuple(names))
    if sort in FIELDS_OF:
        return RemoteChange(at, _who(row), FIELDS_OF[sort])
    return None


def _who(row: Row) -> str:
    actor = text_of(row.get("actor"))
    return f"user {actor}" if actor and actor not in ACTORS else actor
