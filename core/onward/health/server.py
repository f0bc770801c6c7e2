"""A small HTTP server: probes and metrics for your machines, reports of services."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import orjson

from onward import __version__
from onward.errors import ConfigError
from onward.health.probes import Health
from onward.webhooks.address import PATH
from onward.webhooks.receive import Receiver

# Whoever asks more at the same moment is sent away.
MOST_AT_ONCE = 8
# And so many reports besides: they never keep a probe out.
MOST_REPORTS = 8
# For the whole request up to its body, and then for the body, however slow it comes.
TIMEOUT_S = 5.0
BODY_S = 10.0
JSON = "application/json"
SOON = {"Retry-After": "1"}

Page = Callable[[], tuple[int, str, bytes]]
"""Returns status, content type, body."""


@dataclass(frozen=True, slots=True)
class Routes:
    """What is answered where.

    Args:
        pages: path → what answers GET and HEAD.
        reports: takes what is posted below `/hooks/`; None = nothing is there.
    """

    pages: Mapping[str, Page]
    reports: Receiver | None = None


class Probes:
    """Answers `/livez`, `/readyz` and `/metrics`, and takes reports of services.

    It tells nothing private.

    Args:
        listen: HOST:PORT; port 0 = any free one.
        metrics: makes the page of metrics.
        reports: see `Routes`.

    Raises:
        ConfigError: it cannot listen there.
    """

    def __init__(
        self,
        health: Health,
        listen: str,
        metrics: Page,
        reports: Receiver | None = None,
    ) -> None:
        host, _, port = listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        pages: dict[str, Page] = {
            "/livez": lambda: _verdict("live", health.not_live()),
            "/readyz": lambda: _verdict("ready", health.not_ready()),
            "/metrics": metrics,
        }
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind((host, int(port)), Routes(pages, reports))
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

    def __init__(self, place: tuple[str, int], routes: Routes) -> None:
        self.routes = routes
        most = MOST_AT_ONCE + (MOST_REPORTS if routes.reports else 0)
        self._room = threading.BoundedSemaphore(most)
        self.room_for_reports = threading.BoundedSemaphore(MOST_REPORTS)
        super().__init__(place, _Handler)

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


class _Hurried(io.RawIOBase):
    """What comes through a socket until some moment, by the monotonic clock.

    A time-out of the socket alone begins anew with each byte.
    """

    def __init__(self, source: socket.socket, seconds: float) -> None:
        self._source = source
        self.until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._source.settimeout(left)
        return self._source.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def setup(self) -> None:
        """Read with one time limit for all there is to read."""
        super().setup()
        self.rfile.close()
        self._hurried = _Hurried(self.connection, TIMEOUT_S)
        self.rfile = io.BufferedReader(self._hurried)

    def version_string(self) -> str:
        """Name us, and not Python's version."""
        return "onward"

    def _place(self) -> str:
        return self.path.partition("?")[0]

    def _is_report(self) -> bool:
        # As it came: nothing is decoded, and no ".." leads anywhere.
        return self.server.routes.reports is not None and self.path.startswith(PATH)

    def _read(self) -> None:
        pages = self.server.routes.pages
        page = pages.get(self._place())
        if self._is_report():
            self._refuse()
        elif page is None:
            known = " ".join(pages)
            self._answer(404, "text/plain", f"there are: {known}\n".encode())
        else:
            self._answer(*page())

    do_GET = do_HEAD = _read  # noqa: N815 - theirs

    def _refuse(self) -> None:
        if self._is_report():
            self._answer(405, "text/plain", b"only POST\n", Allow="POST")
        else:
            self._answer(405, "text/plain", b"only GET and HEAD\n", Allow="GET, HEAD")

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def do_POST(self) -> None:
        """Take a report."""
        reports = self.server.routes.reports
        if reports is None or not self._is_report():
            self._refuse()
            return
        status = HTTPStatus.SERVICE_UNAVAILABLE
        if self.server.room_for_reports.acquire(blocking=False):
            try:
                secret = self._place().removeprefix(PATH)
                status = reports.answer(secret, self.headers, self._body)
            finally:
                self.server.room_for_reports.release()
        more = SOON if status in (429, 503) else {}
        self._answer(status, "text/plain", f"{status.phrase}\n".encode(), **more)

    def _body(self, size: int) -> bytes:
        self._hurried.until = time.monotonic() + BODY_S
        return self.rfile.read(size)

    def _answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.connection.settimeout(TIMEOUT_S)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """Refuse what is no request; theirs repeats what was asked."""
        self.close_connection = True
        phrase = HTTPStatus(code).phrase
        self._answer(code, "text/plain", f"{phrase}\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: probes come every few seconds, and reports by secret paths."""
