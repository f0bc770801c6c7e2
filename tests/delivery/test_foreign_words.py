"""What a service or a plugin says, kept and shown without harm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest

from onward import (
    Account,
    Api,
    ConnectionSettings,
    CredentialsRefused,
    Integration,
    Item,
    Outcome,
    RemoteSegment,
    Secret,
    setting,
)
from onward.connections.state import resume
from onward.testing.app import TestApp

pytestmark = pytest.mark.slow

Connect = Callable[..., TestApp]

BAD = "bad \0 \x1b[31m value"
SECRET = "t0psecret!"


class WithSecret(ConnectionSettings):
    """Settings with a secret."""

    token: Secret = setting("Token")


@pytest.fixture
def chatty(acme: type[Integration]) -> type[Integration]:
    """An integration that tells its secret whenever `says` is set."""

    class Chatty(acme):  # type: ignore[misc, valid-type]
        Settings = WithSecret
        says: dict[str, Exception] = {}  # noqa: RUF012 - changed by the tests

        def verify(self, api: Api) -> Account:
            """Raise what is to be said."""
            if "verify" in self.says:
                raise self.says["verify"]
            account: Account = super().verify(api)
            return account

        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Raise what is to be said."""
            if "push" in self.says:
                raise self.says["push"]
            yield from super().push(api, batch, segment)

    return Chatty


def secretive(connect: Connect, kind: type[Integration]) -> TestApp:
    """Connect an integration that has a secret."""
    settings = f'[connections.acme.settings]\ntoken = "{SECRET}"'
    return connect(f'segment = "News"\n{settings}', kind=kind)


def test_control_characters_break_nothing(
    connect: Connect, service: Any, tools: Any, database_url: str
) -> None:
    """NUL and escapes in an answer or a name are blanks, on every database."""
    service.lists = {"1": "News\0\x1b]0;x\x07\nletter"}
    service.account = "acme/1\0"
    app = connect('segment = "1"', database_url=database_url)
    service.script = [lambda _: httpx.Response(400, json={"error": BAD})]

    tools.fire(app, "ana")
    app.deliver()

    [row] = app.deliveries()
    assert (row["state"], row["code"]) == ("failed", "http_400")
    assert row["reason"].endswith("bad [31m value")
    tools.fire(app, "ben")
    app.deliver()
    assert tools.ended(app)["ben"] == ("delivered", "delivered")


def test_verifying_tells_no_secret(connect: Connect, chatty: Any, tools: Any) -> None:
    """A refusal that holds a secret loses it before anybody sees or stores it."""
    chatty.says = {"verify": CredentialsRefused(f"no: {SECRET}", f"try {SECRET}")}
    app = secretive(connect, chatty)
    tools.fire(app, "ana")

    report = app.deliver()
    with pytest.raises(CredentialsRefused) as raised:
        app.verify("acme")

    assert (raised.value.message, raised.value.hint) == ("no: ***", "try ***")
    assert SECRET not in report.held["acme"] + tools.state(app).paused_why
    chatty.says = {}
    resume(app.runtime, tools.state(app).id)
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


def test_failing_plugin_logs_no_secret(
    connect: Connect, chatty: Any, tools: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The trace of a plugin's own failure is logged without the secret in it."""
    app = secretive(connect, chatty)
    tools.fire(app, "ana")
    chatty.says = {"push": ValueError(f"cannot parse {SECRET}")}

    with caplog.at_level(logging.WARNING):
        app.deliver()

    handler = logging.Formatter()
    written = "\n".join(handler.format(record) for record in caplog.records)
    assert "ValueError: cannot parse ***" in written
    assert SECRET not in written + str(app.queued)
    chatty.says = {}
    app.clock.tick(1_000)
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")
