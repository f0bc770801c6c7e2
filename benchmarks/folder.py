"""An iContact folder of many contacts as a plain server: see `dummy`, which it is.

`python -m benchmarks.folder CONTACTS`. Pages are made once and kept, so that what is
measured is who reads them and not who answers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import cache
from urllib.parse import parse_qs

from benchmarks.dummy import Connection, serve, whole_answer
from benchmarks.services import email, person

Row = dict[str, str | None]

ACCOUNT, FOLDER, LIST = "1", "2", "Newsletter"
# What there is besides contacts; of the list nobody left and nobody waits.
FEW: dict[str, list[Row]] = {
    "a": [{"accountId": ACCOUNT, "companyName": "Mill Lane Bakery"}],
    "c": [{"clientFolderId": FOLDER, "name": "Customers"}],
    "lists": [{"listId": "1", "name": LIST}],
    "customfields": [],
}
KEYS = {"a": "accounts", "c": "clientfolders"}
# Whoever is on the list: one is enough for a list that is known to be there.
MEMBER: Row = {
    "subscriptionId": "1_1000001",
    "contactId": "1000001",
    "listId": "1",
    "status": "normal",
    "addDate": "2026-03-04T05:06:07-04:00",
}


def contact(number: int) -> Row:
    """Return a contact as iContact writes it, its ids rising."""
    of = person(number)
    return {
        "contactId": str(1_000_000 + number),
        "prefix": "",
        "firstName": of["first_name"],
        "lastName": of["last_name"],
        "suffix": "",
        "street": "12 Mill Lane",
        "street2": "",
        "city": of["city"],
        "state": "NC",
        "postalCode": of["postal_code"],
        "phone": of["phone"],
        "fax": "",
        "business": of["company"],
        "email": email(number),
        "createDate": f"2026-03-04 {number // 3600 % 24:02}:{number // 60 % 60:02}:"
        f"{number % 60:02}",
        "bounceCount": None,
        "status": "normal",
    }


class Pages(Connection):
    """Answers with pages of `size` contacts."""

    size = 0

    def answer_to(self, method: bytes, target: bytes) -> bytes:
        """Return the page that was asked for."""
        return _page(target.decode(), self.size)


@cache
def _page(target: str, size: int) -> bytes:
    path, _, query = target.partition("?")
    asked = {name: found[0] for name, found in parse_qs(query).items()}
    name = path.rstrip("/").rpartition("/")[2]
    limit, offset = int(asked.get("limit", "20")), int(asked.get("offset", "0"))
    if name == "contacts":
        last = min(offset + limit, size)
        rows = [contact(n) for n in range(offset, last)]
        total = size
    elif name == "subscriptions":
        rows = [MEMBER] if asked["status"] == "normal" and not offset else []
        total = int(asked["status"] == "normal")
    else:
        rows = FEW[name][offset:]
        total = len(FEW[name])
    body = {KEYS.get(name, name): rows, "limit": limit, "offset": offset}
    written = json.dumps({**body, "total": total}, separators=(",", ":"))
    return whole_answer(written.encode())


if __name__ == "__main__":
    Pages.size = int(sys.argv[1])
    asyncio.run(serve(Pages))
