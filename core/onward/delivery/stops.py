"""What an error means for the whole connection."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass, replace
from datetime import timedelta

from onward.errors import (
    AccountBlocked,
    ConfigError,
    CredentialsRefused,
    Lost,
    PluginError,
    Rejected,
    SegmentGone,
    ServiceError,
    Temporary,
)
from onward.logs.addresses import without_addresses
from onward.redact import Redactor

log = logging.getLogger("onward.delivery")

# Refused with these, a batch is halved until the bad contact is alone.
HALVED = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a drain must not go on with this connection now.

    Args:
        kind: `rest`, `credentials`, `account`, `settings`, `segment`, `limit` (out
            of calls) or `turn` (somebody else's turn).
        after: for `rest`: what the service asked for; for `limit`: how long to wait.
        throttled: the service said "too fast".
        lost: a request left and nothing came back.
    """

    kind: str
    code: str
    why: str
    after: timedelta | None = None
    throttled: bool = False
    lost: bool = False

    @property
    def is_ours(self) -> bool:
        """Tell whether it says nothing about the contacts: they use no try."""
        return self.throttled or self.kind != "rest"


def stop_for(error: Exception, integration: str, redactor: Redactor) -> Stop:
    """Return what an error means for the whole connection.

    Args:
        redactor: takes secrets out of what foreign code says.
    """
    match error:
        case SegmentGone():
            stop = Stop("segment", error.code, error.message)
        case AccountBlocked():
            stop = Stop("account", error.code, error.message)
        case CredentialsRefused():
            stop = Stop("credentials", "credentials", error.message)
        case ConfigError():
            stop = Stop("settings", "settings", error.message)
        case Lost(code="out_of_calls"):
            stop = Stop("limit", error.code, error.message, error.after, lost=True)
        case Temporary() | Rejected():
            stop = rest_for(error)
        case PluginError():
            stop = Stop("rest", "plugin_error", error.message)
        case _:
            # As text: whoever logs it need not know the secrets.
            trace = redactor.text("".join(traceback.format_exception(error)))
            words = without_addresses(trace)
            log.error("%s: the integration failed\n%s", integration, words)
            stop = Stop("rest", "plugin_error", f"{integration} failed: {error!r}")
    return replace(stop, why=redactor.text(stop.why))


def rest_for(error: ServiceError) -> Stop:
    """Return the rest that follows when the service could not be asked who we are."""
    if not isinstance(error, Temporary):
        return Stop("rest", error.code, error.message)
    return Stop(
        "rest",
        error.code,
        error.message,
        error.after,
        throttled=error.throttled,
        lost=isinstance(error, Lost),
    )


def is_crash(error: Exception) -> bool:
    """Tell whether the service answered 500: once may be chance."""
    return (
        isinstance(error, Temporary)
        and error.status == 500
        and not isinstance(error, Lost)
        and not error.throttled
    )
