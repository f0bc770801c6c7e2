"""Alerts as sentences and as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from onward.alerts.book import Kind

Document = dict[str, Any]
"""An alert as plain data, moments as text; docs/alerts.md names its keys."""

_OPENED: dict[str, Callable[[Document], str]] = {
    Kind.PAUSED: lambda a: f"{a['connection']} is paused: {a['reason']}",
    Kind.SEGMENT_PAUSED: lambda a: (
        f"{a['connection']}: what waits for a remote segment is held: {a['reason']}"
    ),
    Kind.RESTING: lambda a: f"{a['connection']} rests again and again: {a['reason']}",
    Kind.LATE: lambda a: f"{a['connection']}: {a['reason']}",
    Kind.FAILING: lambda a: f"{a['connection']}: {a['reason']}",
    Kind.PLUGIN_ERROR: lambda a: f"{a['connection']}: its plugin fails: {a['reason']}",
    Kind.PLUGIN: lambda a: f"the plugin {a['subject']} is not loaded: {a['reason']}",
    Kind.OUTDATED: lambda a: f"{a['connection']}: {a['reason']}",
    Kind.SYNC: lambda a: f"{a['connection']}: its pull stopped: {a['reason']}",
    Kind.ERRAND: lambda a: f"{a['connection']}: {a['reason']}",
    Kind.CLOCK: lambda a: f"the clock of {a['subject']} is off: {a['reason']}",
}
_CLOSED: dict[str, Callable[[Document], str]] = {
    Kind.PAUSED: lambda a: f"{a['connection']} is not paused any more",
    Kind.SEGMENT_PAUSED: lambda a: (
        f"{a['connection']}: what waited for a remote segment is not held any more"
    ),
    Kind.RESTING: lambda a: f"{a['connection']} does not rest any more",
    Kind.LATE: lambda a: f"{a['connection']}: no push is late any more",
    Kind.FAILING: lambda a: (
        f"{a['connection']}: pushes do not fail that often any more"
    ),
    Kind.PLUGIN_ERROR: lambda a: f"{a['connection']}: its plugin works again",
    Kind.PLUGIN: lambda a: f"the plugin {a['subject']} is loaded again",
    Kind.OUTDATED: lambda a: (
        f"{a['connection']}: no process works with an older onward.toml any more"
    ),
    Kind.SYNC: lambda a: f"{a['connection']}: its pull works again",
    Kind.ERRAND: lambda a: (
        f"{a['connection']}: nobody is left to be erased or unsubscribed by hand"
    ),
    Kind.CLOCK: lambda a: f"the clock of {a['subject']} is right again",
}


def document(row: Mapping[str, Any]) -> Document:
    """Return an alert as the outside sees it; its keys are a promise."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "connection": row["connection"],
        "subject": row["subject"],
        "code": row["code"],
        "reason": row["reason"],
        "count": row["count"],
        "opened_at": _text(row["opened_at"]),
        "last_at": _text(row["last_at"]),
        "closed_at": _text(row["closed_at"]),
    }


def sentence(alert: Document) -> str:
    """Return what is wrong, or that it is over."""
    known = _CLOSED if alert["closed_at"] else _OPENED
    if (say := known.get(alert["kind"])) is not None:
        return say(alert)
    what = ", ".join(filter(None, (alert["connection"], alert["subject"])))
    end = "is over" if alert["closed_at"] else alert["reason"] or alert["code"]
    return f"{what or 'onward'}: {alert['kind']}: {end}"


def body(alerts: list[Document], now: datetime, kind: str = "") -> Document:
    """Return a message about one alert, or a digest of several.

    Args:
        kind: of the message, where it is not told by the alerts.
    """
    if not kind and len(alerts) == 1 and "times" not in alerts[0]:
        kind = "alert.closed" if alerts[0]["closed_at"] else "alert.opened"
    if kind in ("alert.opened", "alert.closed"):
        data, text = alerts[0], sentence(alerts[0])
    else:
        kind = kind or "alert.digest"
        data, text = {"alerts": alerts}, "\n".join(map(_counted, alerts))
    return {"type": kind, "timestamp": _text(now), "text": text, "data": data}


def told_of(message: Document) -> list[Document]:
    """Return the alerts that a message is about."""
    data: Document = message["data"]
    found: list[Document] = data.get("alerts", [data])
    return found


def _counted(alert: Document) -> str:
    times = alert.get("times", 1)
    return sentence(alert) + (f" (began {times} times)" if times > 1 else "")


def _text(moment: datetime | None) -> str | None:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None
