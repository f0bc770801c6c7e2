"""Who is told of alerts, and which are open."""

from __future__ import annotations

import httpx

from onward.address import is_loopback
from onward.alerts.listing import list_alerts
from onward.alerts.outbox import count_refused
from onward.alerts.words import sentence
from onward.config import Config
from onward.database import Database
from onward.doctor.check import Check, ok, warning

NAME = "alerts"


def check_alerts(config: Config, database: Database) -> list[Check]:
    """Check the webhook's settings, and list what is open."""
    with database.read() as transaction:
        found = [sentence(one) for one in list_alerts(transaction, only_open=True)]
        refused = count_refused(transaction)
    checks = [_webhook(config, refused)]
    if found:
        listed = "; ".join(found)
        advice = "`onward alerts` lists them; each ends when it is repaired"
        checks.append(warning(NAME, f"{len(found)} open: {listed}", advice))
    return checks


def _webhook(config: Config, refused: int) -> Check:
    alerts = config.alerts
    if not alerts.webhook:
        return ok(NAME, "they are logged; there is no webhook")
    place = alerts.place
    if refused:
        return warning(
            NAME,
            f"{place} has not taken {refused} message{'' if refused == 1 else 's'} yet",
            "`onward alerts test` says what it answers",
        )
    url = httpx.URL(alerts.webhook)
    if url.scheme == "http" and not is_loopback(url.host):
        return warning(
            NAME,
            f"{place} is not encrypted: whoever is on the way reads them",
            "use an https address",
        )
    signed = "signed" if alerts.key else "not signed, as there is no `secret`"
    return ok(NAME, f"they are logged and sent to {place}, {signed}")
