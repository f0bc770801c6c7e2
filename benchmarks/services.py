"""Small integrations for the dummy server, and an Onward that uses them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from onward import (
    Account,
    Api,
    ConnectionSettings,
    Integration,
    Item,
    Limit,
    Onward,
    Outcome,
    RemoteField,
    RemoteSegment,
    minute,
    setting,
)
from onward.plugins import Plugins, add_plugin, load_plugins

IN_FLIGHT = 8
BATCH = 100
FIELDS = ("email", "firstName", "lastName", "business", "city", "postalCode", "phone")


class DummySettings(ConnectionSettings):
    """Where the dummy server is."""

    url: str = setting("URL")


class _ToDummy(Integration):
    # High enough never to wait; every call is counted all the same.
    limits = (Limit(100_000_000, per=minute),)
    batch_size = BATCH
    in_flight = IN_FLIGHT
    Settings = DummySettings
    default_map: ClassVar[dict[str, str]] = {
        "email": "email",
        "firstName": "first_name",
        "lastName": "last_name",
        "business": "company",
        "city": "city",
        "postalCode": "postal_code",
        "phone": "phone",
    }
    settings: DummySettings

    def allowed_hosts(self) -> Sequence[str]:
        """Return the dummy server's host."""
        # Asked for each request; reading an address takes as long as a statement.
        return (self.settings.url.split("/")[2],)

    def base_url(self) -> str:
        """Return the address it was given."""
        return self.settings.url

    def verify(self, api: Api) -> Account:
        """Believe everything."""
        return Account(self.settings.url, self.settings.url, self.title)

    def segments(self, api: Api) -> Iterator[RemoteSegment]:
        """Yield the only list."""
        yield RemoteSegment("1", "Newsletter")

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Yield the mapped fields."""
        for name in FIELDS:
            yield RemoteField(name, required=name == "email")


class OnePost(_ToDummy):
    """One POST of the whole batch, nothing else."""

    key = "onepost"
    title = "One POST"
    calls_per_batch = 1
    repeatable = True

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """POST the batch and believe the 200."""
        api.post("batch", [dict(item.fields) for item in batch])
        for item in batch:
            yield item.delivered(item.email)


class ThreeCalls(_ToDummy):
    """Search, create, subscribe: what iContact needs for new contacts."""

    key = "threecalls"
    title = "Three calls"
    calls_per_batch = 3

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Find nobody, create all, put them on the list; ids come from the answer."""
        asked = ",".join(quote(item.email, safe="") for item in batch)
        limit = len(batch) + 1
        api.get(f"contacts?status=total&limit={limit}&email={asked}").json()
        made = api.post("contacts", [dict(item.fields) for item in batch]).json()
        ids = [row["contactId"] for row in made["contacts"]]
        wished = [{"contactId": i, "listId": "1", "status": "normal"} for i in ids]
        answer = api.post("subscriptions", wished[: len(batch)]).json()
        on_list = {row["contactId"] for row in answer["subscriptions"]}
        for item, remote_id in zip(batch, ids, strict=False):
            # The dummy's ids are the same for every batch; a service's are not.
            own = f"{remote_id}-{item.push_id}"
            yield item.delivered(own, on_segment=remote_id in on_list)


class OneAtATime(OnePost):
    """The same, and never two batches of one connection at once."""

    key = "oneatatime"
    title = "One POST at a time"
    in_flight = 1
    # Small: whether workers add up is asked, not how much two cores can do.
    batch_size = 10


def plugins() -> Plugins:
    """Return the installed plugins and these three."""
    found = load_plugins()
    add_plugin(found, "benchmarks", "benchmarks", sys.modules[__name__])
    return found


TOML = """\
[onward]
database_url = "{database}"
durability = "{durability}"

[connections.dummy]
integration = "{integration}"
segment = "Newsletter"
settings = {{ url = "{url}" }}

[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["dummy"]
"""


def write_config(
    folder: Path,
    *,
    integration: str = OnePost.key,
    url: str = "http://127.0.0.1:9/0",
    database: str = "sqlite:///onward.db",
    durability: str = "normal",
) -> None:
    """Write an `onward.toml` with one connection and one rule that pushes to it."""
    text = TOML.format(
        integration=integration, url=url, database=database, durability=durability
    )
    (folder / "onward.toml").write_text(text, encoding="utf-8")


def open_app(folder: Path, **options: Any) -> Onward:
    """Return the Onward of a folder, its database open."""
    app = Onward.from_config(
        folder / "onward.toml", plugins=plugins(), env={}, **options
    )
    app.runtime.database.engine.connect().close()
    return app


def person(number: int) -> dict[str, str]:
    """Return the contact fields of a made-up person."""
    return {
        "first_name": "Ana",
        "last_name": f"Ruiz {number}",
        "company": "Mill Lane Bakery",
        "city": "Durham",
        "postal_code": f"{27_000 + number % 1000}",
        "phone": "+1 919 555 0100",
    }


def email(number: int) -> str:
    """Return the address of a made-up person."""
    return f"person{number:07d}@shop.example"
