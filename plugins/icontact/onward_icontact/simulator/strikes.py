"""What a fault does to the request it strikes.

Source:
    icontact-api.md 21.16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import orjson

from . import texts
from .faults import batch_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .exchange import JsonValue
    from .faults import Fault

_PAGE = b"<!DOCTYPE html><html><head><title>503</title></head><body>Sorry</body></html>"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as bytes, or the exception a client sees instead of one."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()
    error: httpx.TransportError | None = None


def strike(
    fault: Fault,
    request: httpx.Request,
    carry_out: Callable[[httpx.Request], Reply],
) -> Reply:
    """Answer a request as the fault has it."""
    reply = _strike(fault, request, carry_out)
    if fault.retry_after is None or reply.error is not None:
        return reply
    headers = (*reply.headers, ("Retry-After", fault.retry_after))
    return Reply(reply.status, reply.body, reply.content_type, headers)


def _strike(
    fault: Fault,
    request: httpx.Request,
    carry_out: Callable[[httpx.Request], Reply],
) -> Reply:
    match fault.kind:
        case "connect_error":
            return _lost(httpx.ConnectError("connection refused", request=request))
        case "timeout_before_write":
            return _lost(httpx.ReadTimeout("timed out", request=request))
        case "close_before_write":
            return _lost(_closed(request))
        case "timeout_after_write":
            timeout = httpx.ReadTimeout("timed out", request=request)
            return _lost(timeout, carry_out(request))
        case "close_after_write":
            return _lost(_closed(request), carry_out(request))
        case "html_503":
            return Reply(503, _PAGE, "text/html; charset=utf-8")
        case "html_200":
            return Reply(200, _PAGE, "text/html; charset=utf-8")
        case "json_503":
            return _json(503, {"errors": [texts.THROTTLED]})
        case "status":
            return _json(fault.status, {"errors": [*fault.errors]})
        case "truncated_json":
            whole = carry_out(request)
            cut = whole.body[: len(whole.body) // 2]
            return Reply(whole.status, cut, whole.content_type, whole.headers)
        case "empty_body":
            whole = carry_out(request)
            return Reply(whole.status, b"", whole.content_type, whole.headers)
        case "reject_emails":
            return _reject(fault, request, carry_out)
        case "crash_500":
            return _crash(fault, request, carry_out)
        case _:
            return carry_out(request)


def _closed(request: httpx.Request) -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError(
        "Server disconnected without sending a response.", request=request
    )


def _lost(error: httpx.TransportError, made: Reply | None = None) -> Reply:
    if made is None:
        return Reply(0, b"", "", error=error)
    return Reply(made.status, made.body, made.content_type, made.headers, error)


def _json(status: int, payload: JsonValue) -> Reply:
    return Reply(status, orjson.dumps(payload), "application/json")


def _with(request: httpx.Request, batch: list[JsonValue]) -> httpx.Request:
    headers = [
        (name, value)
        for name, value in request.headers.raw
        if name.lower() not in (b"content-length", b"transfer-encoding")
    ]
    return httpx.Request(
        request.method, request.url, headers=headers, content=orjson.dumps(batch)
    )


def _reject(
    fault: Fault,
    request: httpx.Request,
    carry_out: Callable[[httpx.Request], Reply],
) -> Reply:
    batch = batch_of(request)
    refused = [one for one in batch if fault.is_about(one)]
    # Invented texts: what the service says of a contact it dislikes is not known.
    said: list[JsonValue] = [
        texts.bad_email(str(one["email"])) for one in refused if isinstance(one, dict)
    ]
    if fault.how != "warning":
        return _json(400, {"errors": said})
    rest = carry_out(_with(request, [one for one in batch if one not in refused]))
    answer: JsonValue = orjson.loads(rest.body)
    if rest.status == 200 and isinstance(answer, dict):
        warnings = answer.get("warnings")
        answer["warnings"] = [*(warnings if isinstance(warnings, list) else []), *said]
    return Reply(rest.status, orjson.dumps(answer), rest.content_type, rest.headers)


def _crash(
    fault: Fault,
    request: httpx.Request,
    carry_out: Callable[[httpx.Request], Reply],
) -> Reply:
    if fault.stored == "before":
        batch = batch_of(request)
        first = next(i for i, one in enumerate(batch) if fault.is_about(one))
        carry_out(_with(request, batch[:first]))
    return _json(500, {"errors": [httpx.codes.get_reason_phrase(500)]})
