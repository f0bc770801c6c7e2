"""Faults armed for the next matching requests.

Source:
    icontact-api.md 21.16 and 23.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import orjson

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .exchange import JsonValue

FOREVER = math.inf

KINDS: Mapping[str, str] = {
    "connect_error": "the connection is never made",
    "timeout_before_write": "nothing is stored, and no answer comes",
    "timeout_after_write": "the request is carried out, and no answer comes",
    "close_before_write": "the connection is closed, nothing is stored",
    "close_after_write": "the request is carried out, the connection closed",
    "html_503": "a proxy answers 503 with a page of HTML",
    "json_503": "the service answers 503 as it does over the rate limit",
    "status": "any `status` with an `errors` array (option `errors`)",
    "html_200": "a proxy answers 200 with a page of HTML",
    "truncated_json": "the request is carried out, its answer cut in half",
    "empty_body": "the request is carried out, the answer has no body",
    "slow": "the answer takes `seconds`",
    "shift": "before it is answered, `rows` of the first contacts are deleted (below "
    "0: that many come back)",
    "emptied": "before it is answered, all contacts are deleted",
    "reject_emails": "contacts with one of `emails` are refused, by 400 for the whole "
    "POST or (`how='warning'`) a warning for the item",
    "crash_500": "a POST of contacts holding `email` is a 500; `stored='before'` "
    "keeps the items before it",
}
_BY_CONTENT = frozenset({"reject_emails", "crash_500"})


@dataclass(slots=True)
class Fault:
    """One armed fault.

    Attributes:
        times: how often it still strikes.
        after: how many matching requests it still lets pass.
        emails: lower-cased; what a fault by content looks for.
        rows: how many contacts `shift` is about.
    """

    kind: str
    times: float
    method: str | None = None
    resource: str | None = None
    after: int = 0
    status: int = 500
    errors: tuple[str, ...] = ("Internal Server Error",)
    retry_after: str | None = None
    seconds: float = 0.0
    emails: frozenset[str] = field(default_factory=frozenset[str])
    how: str = "error400"
    stored: str = "nothing"
    rows: int = 0

    def matches(self, request: httpx.Request, resource: str) -> bool:
        """Say whether the fault is about this request."""
        if self.method not in (None, request.method):
            return False
        if self.resource not in (None, resource):
            return False
        if self.kind not in _BY_CONTENT:
            return True
        is_upsert = request.method == "POST" and resource == "contacts"
        return is_upsert and any(self.is_about(one) for one in batch_of(request))

    def is_about(self, item: JsonValue) -> bool:
        """Say whether a contact of a batch is one the fault looks for."""
        email = item.get("email") if isinstance(item, dict) else None
        return isinstance(email, str) and email.lower() in self.emails


class Faults:
    """The armed faults, oldest first."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def arm(
        self,
        kind: str,
        times: float | None,
        method: str | None,
        resource: str | None,
        after: int,
        status: int,
        errors: Collection[str] | None,
        retry_after: int | str | None,
        seconds: float,
        emails: Collection[str],
        how: str,
        stored: str,
        rows: int,
    ) -> None:
        """Add a fault.

        Raises:
            ValueError: no such kind; names the known ones.
        """
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(f"no fault is called {kind!r}; known: {known}")
        if times is None:
            times = FOREVER if kind in _BY_CONTENT else 1
        self._armed.append(
            Fault(
                kind,
                times,
                method,
                resource,
                after,
                status,
                tuple(errors) if errors else (httpx.codes.get_reason_phrase(status),),
                None if retry_after is None else str(retry_after),
                seconds,
                frozenset(one.lower() for one in emails),
                how,
                stored,
                rows,
            )
        )

    def take(self, request: httpx.Request, resource: str) -> Fault | None:
        """Return the fault that strikes this request and count it down."""
        for fault in self._armed:
            if not fault.matches(request, resource):
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            if fault.times <= 0:
                self._armed.remove(fault)
            return fault
        return None

    def clear(self) -> None:
        """Disarm everything."""
        self._armed.clear()


def batch_of(request: httpx.Request) -> list[JsonValue]:
    """Return the items of a collection POST, as far as they can be read."""
    try:
        body: JsonValue = orjson.loads(request.content)
    except orjson.JSONDecodeError:
        return []
    if isinstance(body, dict):
        return [body.get("contact")]
    return body if isinstance(body, list) else []
