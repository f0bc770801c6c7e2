"""The wire: nothing takes longer than it may, nothing is larger than it may be."""

from __future__ import annotations

import gzip
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from onward.transport import Transport, deadline, make_transport, read_body

Talk = Callable[[socket.socket], None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def serving(talk: Talk) -> Iterator[str]:
    """Serve a conversation on a raw socket; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closing = threading.Event()

        def run() -> None:
            while not closing.is_set():
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                # The client goes away, as it should.
                with peer, suppress(OSError):
                    talk(peer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        closing.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def drip(peer: socket.socket, text: bytes) -> None:
    """Send a byte every few milliseconds, for ever."""
    pause = threading.Event()
    for place in range(10_000):
        peer.sendall(text[place % len(text) :][:1])
        pause.wait(0.02)


def slow_headers(peer: socket.socket) -> None:
    """Never come to the end of the headers."""
    peer.recv(65536)
    peer.sendall(HEAD)
    drip(peer, b"X-Slow: and slower\r\n")


def slow_body(peer: socket.socket) -> None:
    """Never come to the end of the body."""
    peer.recv(65536)
    peer.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    drip(peer, b"[1, 2, 3, ")


@pytest.mark.parametrize("talk", [slow_headers, slow_body], ids=["headers", "body"])
def test_dripping_answers_end_at_the_deadline(talk: Talk) -> None:
    """Each byte comes in time and the whole does not: that is a time-out.

    Without the deadline it would be no time-out, and come after minutes.
    """
    with (
        serving(talk) as url,
        httpx.Client(transport=local()) as client,
        pytest.raises(httpx.ReadTimeout),
        deadline(0.3),
        client.stream("GET", url, timeout=30) as response,
    ):
        read_body(response, 10_000_000)


def test_a_request_after_a_deadline_has_its_own_time() -> None:
    """A deadline that passed binds nobody later, on an old connection or a new one."""

    def friendly(peer: socket.socket) -> None:
        while peer.recv(65536):
            peer.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    with serving(friendly) as url, httpx.Client(transport=local()) as client:
        with pytest.raises(httpx.TimeoutException), deadline(0.0):
            client.get(url)

        assert client.get(url).json() == {}
        with deadline(20):
            assert client.get(url).json() == {}


def local() -> Transport:
    """Return a transport to this machine."""
    return make_transport(httpx.URL("http://127.0.0.1/"), 2)


def answered(raw: bytes, **headers: str) -> httpx.Response:
    """Return an answer whose body is still on the wire."""
    given = {name.replace("_", "-"): text for name, text in headers.items()}

    def parts() -> Iterator[bytes]:
        for start in range(0, len(raw), 1000):
            yield raw[start : start + 1000]

    return httpx.Response(200, headers=given, content=parts())


def bare_deflate(body: bytes) -> bytes:
    """Compress without any header, as some servers do."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("pack", "encoding"),
    [
        (bytes, ""),
        (bytes, "identity"),
        (gzip.compress, "gzip"),
        (gzip.compress, "X-GZIP"),
        (zlib.compress, "deflate"),
        (bare_deflate, "deflate"),
    ],
)
def test_bodies_are_unpacked(pack: Callable[[bytes], bytes], encoding: str) -> None:
    """What was asked for is understood, and nothing else is asked for."""
    body = b'{"people": []}' * 500

    got = read_body(answered(pack(body), content_encoding=encoding), 10_000)

    assert got == body


@pytest.mark.parametrize(
    "response",
    [
        answered(b"x" * 10_001),
        answered(gzip.compress(b"x" * 10_001), content_encoding="gzip"),
        answered(gzip.compress(bytes(50_000_000)), content_encoding="gzip"),
        answered(
            gzip.compress(gzip.compress(bytes(10**7))), content_encoding="gzip, gzip"
        ),
        answered(gzip.compress(b"half")[:-9], content_encoding="gzip"),
        answered(b"not packed at all", content_encoding="gzip"),
        answered(b"\x00\x01", content_encoding="br"),
    ],
    ids=["large", "large packed", "bomb", "bomb in a bomb", "cut", "no gzip", "brotli"],
)
def test_what_is_too_large_or_cannot_be_unpacked_is_no_answer(
    response: httpx.Response,
) -> None:
    """It is refused without being written out, as if nothing had come."""
    with pytest.raises(httpx.HTTPError):
        read_body(response, 10_000)


def test_an_empty_body_is_empty_however_it_is_packed() -> None:
    """A 204 that claims to be gzip is nothing."""
    assert read_body(answered(b"", content_encoding="gzip"), 10) == b""


def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`HTTPS_PROXY` and `NO_PROXY` count; a fake on 127.0.0.1 is asked directly."""
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")

    kinds = [
        type(make_transport(httpx.URL(address), 1)._pool).__name__
        for address in (
            "https://far.example/",
            "https://near.example/",
            "https://127.0.0.1/",
        )
    ]

    assert kinds == ["HTTPProxy", "ConnectionPool", "ConnectionPool"]
