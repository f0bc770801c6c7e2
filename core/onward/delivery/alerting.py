"""What a drain meets that a person should know of."""

from __future__ import annotations

from sqlalchemy import Connection as Transaction

from onward.alerts.book import Kind, close_alerts, open_alert
from onward.connections.state import Rest, rest
from onward.delivery.stops import Stop
from onward.runtime import Runtime

PLUGIN_ERROR = "plugin_error"


def rest_or_alert(
    runtime: Runtime, connection_id: int, stop: Stop, *, again: bool
) -> Rest:
    """Let a connection rest; tell somebody when it does nothing else any more.

    Args:
        again: see `rest`.
    """
    now = runtime.clock()

    def work(transaction: Transaction) -> Rest:
        rested = rest(
            transaction,
            connection_id,
            now,
            stop.after,
            code=stop.code,
            why=stop.why,
            again=again,
        )
        if now - rested.since >= runtime.config.alerts.resting:
            open_alert(
                transaction,
                now,
                Kind.RESTING,
                connection_id=connection_id,
                code=stop.code,
                reason=stop.why,
            )
        return rested

    return runtime.database.run(work)


def alert_plugin(runtime: Runtime, connection_id: int, broken: str) -> None:
    """Note what a plugin did wrong, or with "" that it works again."""
    now = runtime.clock()

    def work(transaction: Transaction) -> None:
        of, kind = connection_id, Kind.PLUGIN_ERROR
        if broken:
            open_alert(
                transaction,
                now,
                kind,
                connection_id=of,
                code=PLUGIN_ERROR,
                reason=broken,
            )
        else:
            close_alerts(transaction, now, kind, connection_id=of)

    runtime.database.run(work)


def alert_outdated(runtime: Runtime, connection_id: int, why: str) -> None:
    """Note that this process has older settings than the others."""
    now = runtime.clock()
    runtime.database.run(
        lambda transaction: open_alert(
            transaction,
            now,
            Kind.OUTDATED,
            connection_id=connection_id,
            code="outdated",
            reason=why,
            again=False,
        )
    )
