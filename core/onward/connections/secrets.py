"""Every secret that could appear in a log, to take it out there."""

from __future__ import annotations

import base64

from pydantic import SecretStr
from sqlalchemy.engine import make_url

from onward.connections.open import parse_settings, read_settings, secrets_of
from onward.connections.state import read_all
from onward.errors import OnwardError
from onward.runtime import Runtime
from onward.webhooks.address import known_address_secrets


def known_secrets(runtime: Runtime) -> list[str]:
    """Return the secrets of all connections and webhooks and the database's password.

    What a variable holds counts as secret, whatever the setting is called. A
    connection that cannot be read has none that anybody could tell.
    """
    with runtime.database.read() as transaction:
        states = read_all(transaction)
    found = known_address_secrets(runtime)
    for state in states:
        try:
            raw = read_settings(runtime, state)
            kind = runtime.plugins.integration(state.integration)
            found += secrets_of(parse_settings(kind, raw, name=state.name))
        except OnwardError:
            raw = {}
        declared = runtime.config.connections.get(state.name)
        if declared is not None:
            raw = {**declared.settings, **raw}
            found += [str(raw[n]) for n in declared.variables if raw.get(n)]
            found += _named_secret(runtime, state.integration, raw)
    password = make_url(runtime.database.url).password
    if password:
        found.append(password)
    alerts = runtime.config.alerts
    if alerts.webhook:
        found.append(alerts.webhook)
    if alerts.key:
        found.append(base64.b64encode(alerts.key).decode())
    return found


def _named_secret(
    runtime: Runtime, integration: str, raw: dict[str, object]
) -> list[str]:
    """Return the secrets among settings that are not acceptable as a whole."""
    kind = runtime.plugins.integrations.get(integration)
    names = kind.Settings.secret_names() if kind is not None else frozenset[str]()
    values = [raw[name] for name in names if raw.get(name)]
    return [
        value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for value in values
    ]
