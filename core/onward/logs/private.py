"""What a log may show: no secret, no address; the last defence, on the handler."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from onward.logs.addresses import without_addresses
from onward.logs.context import ContextFilter
from onward.redact import RedactingFilter, Redactor


class Private(Redactor):
    """Takes out addresses besides secrets."""

    def text(self, text: str) -> str:
        """Return a text without secrets, addresses and control characters."""
        return without_addresses(super().text(text))


def protect(handler: logging.Handler, secrets: Iterable[str] = ()) -> RedactingFilter:
    """Let a handler show who and where, and neither secrets nor addresses.

    Args:
        secrets: their values, as `onward.connections.secrets.known_secrets` finds
            them.

    Returns:
        The filter; give it another `Private` when the secrets change.
    """
    handler.addFilter(ContextFilter())
    found = RedactingFilter(Private(secrets))
    handler.addFilter(found)
    return found
