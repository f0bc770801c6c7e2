"""`[alerts]`: what is worth an alert, and who is told."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import httpx

from onward.config.problems import Table
from onward.config.values import as_duration, as_number, as_text, fill_in

# Of Standard Webhooks: what a key's text begins with, and how many bytes it has.
_PREFIX = "whsec_"
_LEAST, _MOST = 24, 64


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    """When somebody is told, and how.

    Args:
        webhook: address that messages are sent to; "" = alerts are only logged. It
            may hold a secret, so it is in no repr.
        key: messages are signed with; empty = they are not.
        digest: what changes again within that time is gathered in one message.
        resting: a connection that rests for so long is told.
        late: a push that is due for so long is told.
        failing_percent: a share of failed pushes within an hour that is told,
        failing_least: if there were so many.
    """

    webhook: str = field(default="", repr=False)
    key: bytes = field(default=b"", repr=False)
    digest: timedelta = timedelta(minutes=15)
    resting: timedelta = timedelta(minutes=15)
    late: timedelta = timedelta(hours=1)
    failing_percent: int = 20
    failing_least: int = 20

    @property
    def place(self) -> str:
        """The webhook for people: without path and query, which may be secret."""
        url = httpx.URL(self.webhook)
        return f"{url.scheme}://{url.netloc.decode()}"


_DEFAULT = AlertsConfig()


def read_alerts(table: Table, env: Mapping[str, str]) -> AlertsConfig:
    """Read `[alerts]`; a missing `${VAR}` leaves out the webhook, nothing else."""
    webhook = _filled(table, "webhook", env)
    secret = _filled(table, "secret", env)
    if secret and not webhook and not table.has("webhook"):
        table.add("secret", "there is no webhook to sign for; set `webhook` as well")
    return AlertsConfig(
        # Better no message than one that cannot be told from a forged one.
        webhook=_address(table, webhook) if secret is not None else "",
        key=_key(table, secret),
        digest=table.read("digest", _DEFAULT.digest, as_duration),
        resting=table.read("resting", _DEFAULT.resting, as_duration),
        late=table.read("late", _DEFAULT.late, as_duration),
        failing_percent=table.read("failing_percent", 20, as_number(1, 100)),
        failing_least=table.read("failing_least", 20, as_number(1, 1_000_000)),
    )


def _filled(table: Table, key: str, env: Mapping[str, str]) -> str | None:
    """Return a text with its variables replaced, "" = not given, None = not known."""
    text = table.read(key, "", as_text)
    missing: list[str] = []
    filled = str(fill_in(text, env, [], missing))
    for variable in missing:
        table.add(
            key,
            f"the environment variable {variable} is not set; alerts are only logged"
            " until it is",
            stops=False,
        )
    return None if missing else filled.strip()


def _address(table: Table, webhook: str | None) -> str:
    if not webhook:
        return ""
    try:
        url = httpx.URL(webhook)
    except httpx.InvalidURL:
        url = httpx.URL()
    real = url.scheme in ("http", "https") and url.host and (url.port or 0) < 65_536
    if real and " " not in webhook:
        return webhook
    table.add(
        "webhook",
        "is no web address; write it as https://host/path, or as ${NAME} from the"
        " environment",
    )
    return ""


def _key(table: Table, secret: str | None) -> bytes:
    if not secret:
        return b""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if _LEAST <= len(key) <= _MOST:
        return key
    table.add(
        "secret",
        f'must be "{_PREFIX}" and {_LEAST} to {_MOST} bytes in base64, as'
        " `openssl rand -base64 32` makes them",
    )
    return b""
