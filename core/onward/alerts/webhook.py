"""Send a message to the webhook of `[alerts]`, signed as Standard Webhooks are."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
import orjson

from onward.config.alerts import AlertsConfig
from onward.runtime import Runtime
from onward.transport import deadline, make_transport

# All in all, in seconds.
TIMEOUT = 10.0


def sign(key: bytes, id_: str, timestamp: str, content: bytes) -> str:
    """Return the signature of a message.

    Source:
        Standard Webhooks, https://www.standardwebhooks.com, symmetric signatures (v1).
    """
    signed = b".".join([id_.encode(), timestamp.encode(), content])
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def headers(
    config: AlertsConfig, id_: str, content: bytes, now: datetime
) -> dict[str, str]:
    """Return the headers of a message."""
    timestamp = str(int(now.timestamp()))
    found = {
        "content-type": "application/json",
        "user-agent": "onward",
        "webhook-id": id_,
        "webhook-timestamp": timestamp,
    }
    if config.key:
        found["webhook-signature"] = sign(config.key, id_, timestamp, content)
    return found


def post(runtime: Runtime, id_: str, body: Mapping[str, Any]) -> str:
    """Send a message once; return why it was not taken, "" when it was.

    Nothing of the address but its host is in what comes back: the rest of it is
    often a secret. Redirects are not followed, for the same reason.
    """
    config = runtime.config.alerts
    content = orjson.dumps(body)
    address = httpx.URL(config.webhook)
    # By the transport itself: httpx's client logs every address.
    transport = runtime.transport or make_transport(address, 1)
    request = httpx.Request(
        "POST",
        address,
        headers=headers(config, id_, content, runtime.clock()),
        content=content,
        extensions={"timeout": httpx.Timeout(TIMEOUT).as_dict()},
    )
    if address.userinfo:
        request.headers["authorization"] = _basic(address)
    try:
        with deadline(TIMEOUT):
            response = transport.handle_request(request)
            response.close()
    except httpx.TimeoutException:
        return f"it did not answer within {TIMEOUT:.0f} s"
    except httpx.HTTPError as error:
        return f"it could not be reached ({type(error).__name__})"
    finally:
        if runtime.transport is None:
            transport.close()
    if response.is_success:
        return ""
    if response.is_redirect:
        return f"it answered {response.status_code}; redirects are not followed"
    return f"it answered {response.status_code}"


def _basic(address: httpx.URL) -> str:
    pair = f"{address.username}:{address.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
