"""Accounts, their folders and who may use them; the calls that list them.

Source:
    icontact-api.md 2.1, 2.3 and 3.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import query
from .exchange import Answer
from .wire import identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from .exchange import Record
    from .folder import Folder
    from .switches import Switches


@dataclass(slots=True)
class Account:
    """One iContact account; an agency has many folders, with names.

    Attributes:
        forbidden: True answers 403 to everything below the account, as an agency
            does to a user who is not its admin.
    """

    account_id: str
    email: str
    company: str = ""
    is_agency: bool = False
    is_enabled: bool = True
    forbidden: bool = False
    subscriber_limit: int = 250000
    folders: dict[str, Folder] = field(default_factory=dict[str, "Folder"])


@dataclass(slots=True)
class Login:
    """One set of credentials and the accounts it opens."""

    app_id: str
    username: str
    password: str = field(repr=False)
    accounts: list[Account] = field(default_factory=list[Account])

    def opens(self, request: httpx.Request) -> bool:
        """Say whether a request carries exactly these credentials."""
        return all(
            _same(_header(request, name), secret)
            for name, secret in (
                (b"api-appid", self.app_id),
                (b"api-username", self.username),
                (b"api-password", self.password),
            )
        )


def _header(request: httpx.Request, name: bytes) -> bytes | None:
    for key, value in request.headers.raw:
        if key.lower() == name:
            return value.strip(b" \t")
    return None


def _same(given: bytes | None, secret: str) -> bool:
    """Compare as bytes: a header has no encoding, so UTF-8 and Latin-1 both count."""
    if given is None or not secret:
        return False
    wanted = {secret.strip(" \t").encode("utf-8")}
    if all(ord(letter) < 256 for letter in secret):
        wanted.add(secret.strip(" \t").encode("latin-1"))
    return any(hmac.compare_digest(given, one) for one in wanted)


def account_record(account: Account, switches: Switches) -> Record:
    """Return an account; every value is text."""
    several = "1" if account.is_agency else "0"
    return {
        "billingStreet": "",
        "billingCity": "",
        "billingState": "",
        "billingPostalCode": "",
        "billingCountry": "",
        "city": "Durham",
        "accountId": identifier(account.account_id, switches),
        "companyName": account.company,
        "country": "United States",
        "email": account.email,
        "enabled": "1" if account.is_enabled else "0",
        "fax": "",
        "firstName": "Sam",
        "lastName": "Baker",
        "multiClientFolder": several,
        "multiUser": several,
        "phone": "555-0100",
        "postalCode": "27701",
        "state": "NC",
        "street": "1 Mill Lane",
        "title": "",
        "accountType": "0",
        "subscriberLimit": str(account.subscriber_limit),
    }


def folder_record(account: Account, folder: Folder, switches: Switches) -> Record:
    """Return a folder; `name` and `enabled` are for agencies only."""
    record: Record = {
        "clientFolderId": identifier(folder.folder_id, switches),
        "logoId": None,
        "emailRecipient": account.email,
    }
    if account.is_agency:
        record["name"] = folder.name
        record["enabled"] = "1" if folder.is_enabled else "0"
    return record


def list_accounts(accounts: Sequence[Account], text: str, switches: Switches) -> Answer:
    """Answer `GET a`."""
    search = query.parse(text, {}, switches)
    return Answer(
        query.paged(
            search, "accounts", accounts, lambda one: account_record(one, switches)
        )
    )


def list_folders(account: Account, text: str, switches: Switches) -> Answer:
    """Answer `GET a/{id}/c`: only `total`, no `limit` and no `offset`."""
    search = query.parse(text, {}, switches)
    folders = list(account.folders.values())
    return Answer(
        query.paged(
            search,
            "clientfolders",
            folders,
            lambda one: folder_record(account, one, switches),
            ("total",),
        )
    )
