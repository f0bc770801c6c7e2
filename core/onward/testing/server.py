"""A fake service over real HTTP, on this machine only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import httpx

Handle = Callable[[httpx.Request], httpx.Response]
OWN_HEADERS = frozenset(
    {"content-length", "transfer-encoding", "connection", "content-encoding"}
)


class Server:
    """Serves a `handle(request) -> response` on 127.0.0.1.

    What the handler raises as an httpx error becomes what a client would see: the
    connection is closed without an answer.

    Args:
        port: 0 = any free one.
    """

    def __init__(self, handle: Handle, port: int = 0) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(handle))
        self._server.daemon_threads = True
        self._thread: threading.Thread | None = None
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Serve in a thread."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def run(self) -> None:
        """Serve in this thread until interrupted."""
        self._server.serve_forever(0.2)

    def close(self) -> None:
        """Stop serving."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        """Serve for the time of the block."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self.close()


def serve(handle: Handle, port: int = 0) -> Server:
    """Return a server for a fake; use it as a context manager."""
    return Server(handle, port)


def _handler(handle: Handle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body in one segment: small answers need no second packet.
        wbufsize = -1
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = httpx.Request(
                self.command,
                f"http://{self.headers.get('Host', '127.0.0.1')}{self.path}",
                headers=[
                    (name.encode("latin-1"), value.encode("latin-1"))
                    for name, value in self.headers.items()
                ],
                content=self.rfile.read(length),
            )
            try:
                response = handle(request)
            except httpx.HTTPError:
                self.close_connection = True
                return
            body = response.content
            self.send_response(response.status_code, response.reason_phrase or None)
            for name, value in response.headers.items():
                if name.lower() not in OWN_HEADERS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing; the fake keeps its own log."""

    return Handler
