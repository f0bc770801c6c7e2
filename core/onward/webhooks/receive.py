"""Answer what services report, at once: who it is about is stored, and no more."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from email.message import Message
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError

from onward.connections.open import make_integration, read_settings
from onward.connections.state import read_state
from onward.contract import RemoteKey
from onward.errors import OnwardError, PluginError
from onward.integrations import Integration
from onward.runtime import Runtime
from onward.webhooks.address import whose
from onward.webhooks.hints import Pointed, store_hints, tidy

log = logging.getLogger("onward.webhooks")

MOST_BYTES = 1_000_000
# Reports of one connection within any second, in each process.
MOST_A_SECOND = 50

_NUMBER = re.compile(r"[0-9]{1,10}")
_PLAIN = ("", "identity")

Headers = Message
Read = Callable[[int], bytes]
"""Reads so many bytes of the body, fewer at its end; raises TimeoutError."""


class Receiver:
    """Takes reports for all connections of a worker.

    Nothing but ids comes of a report, and nothing of it is logged or said again:
    anybody may write to an address, and the secret in it is all that tells the service
    from others.

    Args:
        told: called with the connection when some of its people are to be read again.
        ticks: seconds by any clock that never goes back.
    """

    def __init__(
        self,
        runtime: Runtime,
        told: Callable[[int], None] = lambda connection_id: None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._told = told
        self._rate = _Rate(ticks)
        self._made: dict[int, tuple[int, Integration]] = {}

    def answer(self, secret: str, headers: Headers, read: Read) -> HTTPStatus:
        """Take one report; return how it is answered.

        Args:
            secret: what the address ends in, as it came.
        """
        try:
            return self._answer(secret, headers, read)
        except SQLAlchemyError as error:
            # Its words may name people. Services come again after a 503.
            log.warning("a report could not be stored: %s", type(error).__name__)
            return HTTPStatus.SERVICE_UNAVAILABLE

    def _answer(self, secret: str, headers: Headers, read: Read) -> HTTPStatus:
        with self._runtime.database.read() as transaction:
            known = whose(transaction, secret)
        if known is None:
            return HTTPStatus.NOT_FOUND
        digest, connection_id = known
        if not self._rate.take(connection_id):
            return HTTPStatus.TOO_MANY_REQUESTS
        length = _length(headers)
        if isinstance(length, HTTPStatus):
            return length
        try:
            body = read(length)
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT
        if len(body) < length:
            return HTTPStatus.BAD_REQUEST
        return self._take(digest, connection_id, body)

    def _take(self, digest: str, connection_id: int, body: bytes) -> HTTPStatus:
        try:
            integration = self._integration(connection_id)
        except OnwardError as error:
            log.warning("no report can be read: %s", error.message)
            return HTTPStatus.SERVICE_UNAVAILABLE
        if integration is None:
            return HTTPStatus.NOT_FOUND
        try:
            people = tidy(_receive(integration, body))
        except (ValueError, RecursionError):
            return HTTPStatus.BAD_REQUEST
        except Exception as error:  # the integration is foreign code
            # What it says may be what was sent.
            why = error.message if isinstance(error, PluginError) else type(error)
            log.error("%s failed to read a report: %s", integration.key, why)  # noqa: TRY400
            return HTTPStatus.INTERNAL_SERVER_ERROR
        now = self._runtime.clock()
        pointed = self._runtime.database.run(
            lambda transaction: store_hints(transaction, digest, people, now)
        )
        if pointed is Pointed.UNKNOWN:
            return HTTPStatus.NOT_FOUND
        if pointed is not Pointed.OFF and people:
            self._told(connection_id)
        return HTTPStatus.OK

    def _integration(self, connection_id: int) -> Integration | None:
        """Return one of our own, for this thread and others: it keeps nothing."""
        with self._runtime.database.read() as transaction:
            state = read_state(transaction, connection_id)
        if state is None:
            return None
        version, made = self._made.get(connection_id, (0, None))
        if made is None or version != state.version:
            settings = read_settings(self._runtime, state)
            made = make_integration(
                self._runtime, state.integration, settings, name=state.name
            )
            self._made[connection_id] = state.version, made
        return made


def _receive(integration: Integration, body: bytes) -> Iterable[RemoteKey]:
    method = getattr(integration, "receive", None)
    if method is None:
        raise PluginError("it has no receive() any more")
    found: Iterable[RemoteKey] = method(body)
    return found


def _length(headers: Headers) -> int | HTTPStatus:
    """Return how long a body is that may be read, else why it may not."""
    said = headers.get_all("content-length") or []
    if headers.get_all("transfer-encoding") or not said:
        return HTTPStatus.LENGTH_REQUIRED
    if len(set(said)) > 1 or not _NUMBER.fullmatch(said[0].strip()):
        return HTTPStatus.BAD_REQUEST
    if int(said[0]) > MOST_BYTES:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    encodings = headers.get_all("content-encoding") or []
    if any(one.strip().lower() not in _PLAIN for one in encodings):
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    return int(said[0])


class _Rate:
    """Lets so many through within any second, for each connection."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self._lock = threading.Lock()
        self._last: dict[int, deque[float]] = {}

    def take(self, connection_id: int) -> bool:
        with self._lock:
            now = self._ticks()
            last = self._last.setdefault(connection_id, deque(maxlen=MOST_A_SECOND))
            if len(last) == MOST_A_SECOND and now - last[0] < 1:
                return False
            last.append(now)
            return True
