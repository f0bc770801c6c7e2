"""A small HTTP server for probes and metrics, for machines of your own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import orjson

from onward import __version__
from onward.errors import ConfigError
from onward.health.probes import Health

# Whoever asks more at the same moment is sent away.
MOST_AT_ONCE = 8
TIMEOUT_S = 5.0
JSON = "application/json"

Page = Callable[[], tuple[int, str, bytes]]
"""Returns status, content type, body."""


class Probes:
    """Answers `/livez`, `/readyz` and `/metrics`; only reads, tells nothing private.

    Args:
        listen: HOST:PORT; port 0 = any free one.
        metrics: makes the page of metrics.

    Raises:
        ConfigError: it cannot listen there.
    """

    def __init__(self, health: Health, listen: str, metrics: Page) -> None:
        host, _, port = listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        pages: dict[str, Page] = {
            "/livez": lambda: _verdict("live", health.not_live()),
            "/readyz": lambda: _verdict("ready", health.not_ready()),
            "/metrics": metrics,
        }
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind((host, int(port)), _handler(pages))
        except OSError as error:
            raise ConfigError(
                f"nothing can listen on {listen}: {error.strerror or error}; give "
                "another address with --listen or `listen` in onward.toml"
            ) from error
        self.port: int = self._server.server_address[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}"

    def __enter__(self) -> Self:
        """Answer in a thread of its own for the time of the block."""
        threading.Thread(
            target=self._server.serve_forever,
            args=(0.1,),
            name="onward-probes",
            daemon=True,
        ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop answering; who is being answered is not waited for."""
        self._server.shutdown()
        self._server.server_close()


def _verdict(word: str, reasons: list[str]) -> tuple[int, str, bytes]:
    body = {word: not reasons, "reasons": reasons, "version": __version__}
    return 503 if reasons else 200, JSON, orjson.dumps(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if not too many are being answered."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _handler(pages: dict[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S

        def version_string(self) -> str:
            """Name us, and not Python's version."""
            return "onward"

        def _read(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                known = " ".join(pages)
                self._answer(404, "text/plain", f"there are: {known}\n".encode())
            else:
                self._answer(*page())

        do_GET = do_HEAD = _read  # noqa: N815 - theirs

        def _refuse(self) -> None:
            self._answer(405, "text/plain", b"only GET and HEAD\n", Allow="GET, HEAD")

        do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

        def _answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Handler
