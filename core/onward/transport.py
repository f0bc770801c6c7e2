"""The wire itself: no request takes longer than it may, no answer is too large."""

from __future__ import annotations

import ssl
import threading
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from onward.address import is_loopback

# What `_read` can decode without trusting the answer's claims about its size.
ENCODINGS = "gzip, deflate"

_until = threading.local()


@contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Let everything that this thread sends and reads be over by then.

    httpx counts time-outs per read: a service that sends a byte every few seconds
    would never run into one.
    """
    _until.moment = time.monotonic() + seconds
    try:
        yield
    finally:
        _until.moment = None


def _left(timeout: float | None, error: Callable[[str], Exception]) -> float | None:
    moment = getattr(_until, "moment", None)
    if moment is None:
        return timeout
    left: float = moment - time.monotonic()
    if left <= 0:
        raise error("it takes too long as a whole")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    """A connection that knows the deadline of the thread that uses it."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: Any,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(
            self._inner.connect_tcp(host, port, left, local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


@cache
def _certificates() -> ssl.SSLContext:
    """Return what certificates are checked by: read once, it takes 50 ms a time."""
    return httpx.create_ssl_context()


class Transport(httpx.HTTPTransport):
    """httpx's own transport, under `deadline`."""

    def __init__(self, *, proxy: str | None, limits: httpx.Limits) -> None:
        super().__init__(verify=_certificates(), proxy=proxy, limits=limits)
        # httpx hands no backend through to its pool; both are pinned below 1.x.
        pool: Any = self._pool
        pool._network_backend = _Backend(pool._network_backend)


def make_transport(base: httpx.URL, connections: int) -> Transport:
    """Return a transport to a service, through the proxy the environment names.

    Args:
        connections: at most so many at the same time.
    """
    proxy: str | None = None
    # A proxy has no business on this machine.
    if not is_loopback(base.host) and not proxy_bypass(base.host):
        found = getproxies()
        proxy = found.get(base.scheme) or found.get("all")
        if proxy is not None and "://" not in proxy:
            proxy = f"http://{proxy}"
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections
    )
    return Transport(proxy=proxy, limits=limits)


def read_body(response: httpx.Response, most: int) -> bytes:
    """Read and unpack a body of a sane size.

    Raises:
        httpx.HTTPError: it is larger than `most` bytes, packed or unpacked, or
            cannot be unpacked.
    """
    if response.is_stream_consumed:  # a fake's answer, in memory already
        return response.content
    parts: list[bytes] = []
    size = 0
    for part in response.iter_raw():
        parts.append(part)
        size += len(part)
        if size > most:
            raise httpx.ReadError("the answer is too large")
    return _unpacked(b"".join(parts), response, most)


def _unpacked(raw: bytes, response: httpx.Response, most: int) -> bytes:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if not raw or encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(f"the answer is packed as {encoding}, not asked for")
    # 47: gzip or zlib by its header; bare deflate has none.
    bare = encoding == "deflate" and raw[0] & 0x0F != 8
    unpack = zlib.decompressobj(-15 if bare else 47)
    try:
        body = unpack.decompress(raw, most + 1)
    except zlib.error as error:
        raise httpx.DecodingError("the answer cannot be unpacked") from error
    if len(body) > most:
        raise httpx.ReadError("the answer is too large")
    if not unpack.eof:
        raise httpx.DecodingError("the answer is cut off")
    return body
