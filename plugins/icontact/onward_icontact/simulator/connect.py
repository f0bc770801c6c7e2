"""A ready HTTP client for a simulator in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from .simulator import Simulator


def connect(sim: Simulator, url: str = "https://app.icontact.com/icp") -> httpx.Client:
    """Return a client with the right headers, based at the main folder."""
    headers = {
        "API-Version": "2.2",
        "API-AppId": sim.app_id,
        "API-Username": sim.username,
        "API-Password": sim.password,
        "Accept": "application/json",
    }
    return httpx.Client(
        transport=httpx.MockTransport(sim.handle),
        base_url=f"{url}/a/{sim.account_id}/c/{sim.client_folder_id}/",
        headers=[(name.encode(), text.encode()) for name, text in headers.items()],
    )
