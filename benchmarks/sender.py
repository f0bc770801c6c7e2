"""The requests of `OnePost` and `ThreeCalls`, as a peer's own function makes them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson

# Imports nothing of Onward: a peer's process holds what the peer needs, no more.

Batch = Sequence[Mapping[str, Any]]

JSON = {"content-type": "application/json"}
# What the integrations' default map makes of a contact.
MAPPED = """\
SELECT email, first_name AS "firstName", last_name AS "lastName",
  company AS business, city, postal_code AS "postalCode", phone
FROM contact ORDER BY id LIMIT ?
"""


class Sender:
    """Sends batches by one client; counts what was answered.

    Args:
        integration: `onepost` or `threecalls`.
        url: the dummy server's base address.
        parallel: requests in flight; as many connections as Onward allows itself.
    """

    def __init__(self, integration: str, url: str, parallel: int) -> None:
        pushes = {"onepost": self._one_post, "threecalls": self._three_calls}
        self._url = url
        self._push = pushes[integration]
        most = parallel + 2
        limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
        self._client = httpx.Client(timeout=30, trust_env=False, limits=limits)
        self._lock = threading.Lock()
        self.contacts = 0
        self.requests = 0

    def send(self, batch: Batch) -> None:
        """Send one batch, `[{"email": str, "firstName": str, ...}, ...]`."""
        contacts, requests = self._push(batch)
        with self._lock:
            self.contacts += contacts
            self.requests += requests

    def _one_post(self, batch: Batch) -> tuple[int, int]:
        self._post("batch", batch)
        return len(batch), 1

    def _three_calls(self, batch: Batch) -> tuple[int, int]:
        asked = ",".join(quote(row["email"], safe="") for row in batch)
        found = f"contacts?status=total&limit={len(batch) + 1}&email={asked}"
        self._call("GET", found)
        made = self._post("contacts", batch)
        ids = [row["contactId"] for row in made["contacts"]][: len(batch)]
        wished = [{"contactId": i, "listId": "1", "status": "normal"} for i in ids]
        answer = self._post("subscriptions", wished)
        on_list = {row["contactId"] for row in answer["subscriptions"]}
        return sum(i in on_list for i in ids), 3

    def _post(self, path: str, rows: Batch) -> Any:
        return self._call("POST", path, content=orjson.dumps(rows), headers=JSON)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        address = f"{self._url}/{path}"
        try:
            answer = self._client.request(method, address, **options)
        except httpx.TransportError:
            # encode/httpcore issue 1110, as in the bare loop.
            answer = self._client.request(method, address, **options)
        assert answer.status_code == 200
        return orjson.loads(answer.content)


def mapped(database: Path, rows: int, page: int) -> Iterator[tuple[list[str], Any]]:
    """Read the contacts of Onward's database, each column under its remote name.

    Yields:
        The names, and at most `page` tuples of values.
    """
    connection = sqlite3.connect(database)
    cursor = connection.execute(MAPPED, (rows,))
    names = [column[0] for column in cursor.description]
    while values := cursor.fetchmany(page):
        yield names, values
    connection.close()
