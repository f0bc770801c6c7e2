"""One answer of a service, and what its status or its absence means."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx
import orjson

from onward.errors import (
    AccountBlocked,
    CredentialsRefused,
    Lost,
    Rejected,
    ServiceError,
    Temporary,
)
from onward.plain import one_line

TEXT_LIMIT = 300
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Before anything left this machine.
NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body; the body is read as JSON whatever its type says."""

    method: str
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the parsed body.

        Raises:
            Lost: a write answered something else (it may have worked).
            Temporary: a read answered something else.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            sort = "a web page" if b"<" in self.body[:200] else "no JSON"
            message = f"the service answered {sort} instead of data"
            if self.method in SAFE:
                raise Temporary(message, status=self.status, code="not_json") from None
            raise Lost(message, status=self.status, code="not_json") from None


def said(answer: Answer) -> str:
    """Return the service's own words for an error, one line, bounded."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return ""
    words = _words(body)
    return one_line(words)[:TEXT_LIMIT]


def _words(body: object, depth: int = 6) -> str:
    if isinstance(body, str):
        return body
    if not depth:
        return ""
    if isinstance(body, list):
        entries = cast("list[object]", body)
        return "; ".join(filter(None, (_words(one, depth - 1) for one in entries[:5])))
    if isinstance(body, dict):
        fields = cast("dict[str, object]", body)
        for name in ("errors", "error", "message", "detail", "title", "warnings"):
            if fields.get(name):
                return _words(fields[name], depth - 1)
    return ""


def retry_after(answer: Answer, now: datetime) -> timedelta | None:
    """Return what Retry-After asks for, seconds or a date; at most a day."""
    value = answer.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        wait = timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        try:
            moment = parsedate_to_datetime(value)
        except (TypeError, ValueError):
            return None
        wait = moment.replace(tzinfo=moment.tzinfo or UTC) - now
    return min(max(wait, timedelta()), timedelta(days=1))


def error_of(
    answer: Answer,
    title: str,
    throttled: Collection[int],
    now: datetime,
    redact: Callable[[str], str] = str,
) -> ServiceError | CredentialsRefused | None:
    """Return what an answer's status means; None when it is a success.

    Args:
        title: the service's name, for the sentence.
        throttled: statuses by which this service says "too fast".
        redact: takes secrets out of the service's own words.
    """
    status = answer.status
    if 200 <= status < 300:
        return None
    words = redact(said(answer))
    says = f": {words}" if words else ""
    after = retry_after(answer, now)
    if status in throttled:
        return Temporary(
            f"{title} asks to slow down ({status}){says}",
            after,
            status=status,
            code="throttled",
            throttled=True,
        )
    if status in (401, 403):
        refused = CredentialsRefused(
            f"{title} refuses the credentials ({status}){says}"
        )
        refused.status = status
        return refused
    if status in (402, 501, 507):
        return AccountBlocked(
            f"{title} does not work for this account ({status}){says}", status=status
        )
    if 300 <= status < 400:
        return Temporary(
            f"{title} sends us elsewhere ({status}); redirects are not followed, "
            "because the credentials would go along",
            after,
            status=status,
        )
    if status in (408, 423, 425) or status >= 500 or status < 200:
        sort = Lost if status in (502, 504) and answer.method not in SAFE else Temporary
        return sort(f"{title} failed ({status}){says}", after, status=status)
    return Rejected(f"{title} refuses this ({status}){says}", status=status)


def error_without_answer(
    error: httpx.HTTPError, method: str, title: str
) -> ServiceError:
    """Return what a request without answer means."""
    slow = isinstance(error, httpx.TimeoutException)
    if isinstance(error, NOT_SENT):
        return Temporary(
            f"{title} could not be reached ({type(error).__name__})",
            code="unreachable",
        )
    why = "did not answer in time" if slow else "closed the connection"
    code = "timeout" if slow else "connection_lost"
    if method in SAFE:
        return Temporary(f"{title} {why}", code=code)
    return Lost(f"{title} {why}; it may or may not have arrived", code=code)
