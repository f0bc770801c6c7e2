"""An Onward in memory, with a clock that tests move and a fake service."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx
from sqlalchemy import select

from onward.app import Onward
from onward.config import load_config
from onward.delivery.listing import Wanted
from onward.errors import ConfigError
from onward.integrations import Integration
from onward.models import Cause, Contact, Push, table
from onward.plugins import Plugins, add_plugin, load_plugins, new_manager

START = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)

pushes = table(Push)
causes = table(Cause)
contacts = table(Contact)


class FakeService(Protocol):
    """A fake of a service: answers like it, keeps what it was given."""

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        ...


class Clock:
    """The time, standing still until told otherwise; sleeping moves it.

    Args:
        now: aware.
    """

    def __init__(self, now: datetime = START) -> None:
        self.now = now
        self.slept = 0.0

    def __call__(self) -> datetime:
        """Return the current moment."""
        return self.now

    def tick(self, by: timedelta | float) -> datetime:
        """Move on, by a timedelta or by seconds."""
        self.now += by if isinstance(by, timedelta) else timedelta(seconds=by)
        return self.now

    def sleep(self, seconds: float) -> None:
        """Do what `time.sleep` would, at once."""
        self.slept += seconds
        self.tick(seconds)


class TestApp(Onward):
    """An Onward whose time and network belong to the test."""

    __test__ = False  # it is no test, whatever pytest makes of its name

    clock: Clock
    folder: tempfile.TemporaryDirectory[str]

    @property
    def queued(self) -> list[dict[str, Any]]:
        """Every open row: id, connection_id, contact_id, email, segment, causes."""
        return [row for row in self.deliveries() if row["state"] in _OPEN]

    def deliveries(self, wanted: Wanted | None = None) -> list[dict[str, Any]]:
        """Every push row as a dict, with the contact's e-mail and its causes."""
        with self.runtime.database.read() as transaction:
            rows = (
                transaction.execute(
                    select(pushes, contacts.c.email)
                    .join(contacts, contacts.c.id == pushes.c.contact_id)
                    .order_by(pushes.c.id)
                )
                .mappings()
                .all()
            )
            why: dict[int, list[tuple[str, str]]] = {}
            for cause in transaction.execute(select(causes).order_by(causes.c.id)):
                why.setdefault(cause.push_id, []).append((cause.kind, cause.key))
        return [{**row, "causes": why.get(row["id"], [])} for row in rows]

    def close(self) -> None:
        """Close it and remove its folder."""
        super().close()
        self.folder.cleanup()


_OPEN = ("waiting", "sending", "submitted")


def app(
    config: str = "",
    *,
    fake: FakeService | None = None,
    transport: httpx.BaseTransport | None = None,
    integrations: Iterable[type[Integration]] = (),
    plugins: str | Path | None = None,
    database_url: str = "sqlite://",
    clock: Clock | None = None,
    env: Mapping[str, str] | None = None,
) -> TestApp:
    """Return an Onward for a test; nothing of it touches network or real time.

    Args:
        config: text of an `onward.toml`.
        fake: answers all requests in process.
        transport: instead of `fake`, any httpx transport.
        integrations: classes to register besides the installed plugins.
        plugins: folder of drop-ins to load, as `plugins/` beside an `onward.toml`.
        database_url: in memory by default.
        env: environment variables that the config may use.

    Example:
        `app = onward.testing.app(TOML, fake=Simulator())`, then
        `app.record_action("form.submitted", email="ana@shop.example")`,
        `app.queued`, `app.deliver()`.
    """
    folder = tempfile.TemporaryDirectory(prefix="onward-test-")
    path = Path(folder.name) / "onward.toml"
    path.write_text(config, encoding="utf-8")
    variables = {**(env or {}), "ONWARD_DATABASE_URL": database_url}
    clock = clock or Clock()
    if transport is None and fake is not None:
        transport = httpx.MockTransport(fake.handle)
    found = load_plugins(folder=None if plugins is None else Path(plugins))
    for place, integration in enumerate(integrations):
        add_plugin(found, f"test-{place}", "a test", _announcing(integration))
    try:
        read = load_config(path, variables)
    except ConfigError:
        folder.cleanup()
        raise
    made = TestApp(
        read,
        plugins=found,
        env=variables,
        transport=transport,
        clock=clock,
        sleep=clock.sleep,
        simulated=True,
    )
    made.clock = clock
    made.folder = folder
    return made


def _announcing(integration: type[Integration]) -> object:
    from onward.hookspecs import hookimpl

    class Plugin:
        """Registers one class."""

        @hookimpl
        def register_integrations(self, register: Any) -> None:
            """Announce it."""
            register(integration)

    return Plugin()


def no_plugins() -> Plugins:
    """Return an empty set of plugins."""
    return Plugins(new_manager())
