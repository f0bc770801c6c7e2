"""A database that is away: said once, and once when it is back."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import DBAPIError

log = logging.getLogger("onward.engine")

# Classes of SQLSTATE: no connection, insufficient resources, the server stops.
_AWAY = ("08", "53", "57P")

# This process was stopped in the middle of a transaction, longer than is waited for.
_STOPPED = "25P03"


class Outage:
    """Says that the database is away when it begins, and when it is over.

    For all threads of an engine: an outage of an hour is two lines, not thousands.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    def begins(self, error: Exception) -> bool:
        """Tell whether an error means that the database is away, and say so once."""
        if not is_outage(error):
            return False
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                why = (str(getattr(error, "orig", error)).splitlines() or [""])[0]
                log.error(
                    "the database is away: %s; nothing is lost, and it is tried again "
                    "until it is back",
                    why,
                )
        return True

    def over(self) -> None:
        """Say that it is back, if it was away."""
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            away_s = time.monotonic() - since
            log.warning("the database is back after %.0f s", away_s)


def is_outage(error: Exception) -> bool:
    """Tell whether an error means that the database cannot be reached now."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if getattr(origin, "sqlstate", None) == _STOPPED:
        return False
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if not type(origin).__module__.startswith("psycopg"):
        return False
    state = getattr(origin, "sqlstate", None)
    if state is None:  # no server answered at all
        return type(origin).__name__ in ("OperationalError", "InterfaceError")
    return str(state).startswith(_AWAY)
