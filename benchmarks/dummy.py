"""A plain HTTP server that waits and answers the same; `python -m benchmarks.dummy`.

It checks nothing and keeps nothing, so that what is measured is the client. The
first part of a path is how many milliseconds an answer takes: `/50/contacts`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

BATCH = 100


def _contacts() -> bytes:
    rows = [
        {
            "contactId": str(700_000 + number),
            "prefix": "",
            "firstName": "Ana",
            "lastName": "Ruiz",
            "suffix": "",
            "street": "",
            "street2": "",
            "city": "Durham",
            "state": "NC",
            "postalCode": "27701",
            "phone": "",
            "fax": "",
            "business": "Mill Lane Bakery",
            "email": f"person{number:05d}@shop.example",
            "createDate": "2026-03-04 05:06:07",
            "bounceCount": None,
            "status": "normal",
        }
        for number in range(BATCH)
    ]
    return json.dumps({"contacts": rows}).encode()


def _subscriptions() -> bytes:
    rows = [
        {
            "subscriptionId": f"1_{700_000 + number}",
            "contactId": str(700_000 + number),
            "listId": "1",
            "status": "normal",
            "addDate": "2026-03-04T05:06:07-04:00",
        }
        for number in range(BATCH)
    ]
    return json.dumps({"subscriptions": rows}).encode()


# Method and last word of the path -> body. Anything else is `{"ok": true}`.
BODIES = {
    (b"GET", b"contacts"): b'{"contacts": [], "limit": 101, "offset": 0, "total": 0}',
    (b"POST", b"contacts"): _contacts(),
    (b"POST", b"subscriptions"): _subscriptions(),
}
PLAIN = b'{"ok": true}'


def whole_answer(body: bytes) -> bytes:
    """Return an answer with its head."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


ANSWERS = {key: whole_answer(body) for key, body in BODIES.items()}
OTHER = whole_answer(PLAIN)


class Connection(asyncio.Protocol):
    """One connection: requests in, answers out, kept alive."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (size := self._size()) is not None:
            request = bytes(self._buffer[:size])
            del self._buffer[:size]
            self._reply(request)

    def _size(self) -> int | None:
        """Return how long the first request is, None while it is incomplete."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[:end]).lower()
        _, found, rest = head.partition(b"\r\ncontent-length:")
        length = int(rest.partition(b"\r\n")[0]) if found else 0
        size = end + 4 + length
        return size if len(self._buffer) >= size else None

    def _reply(self, request: bytes) -> None:
        method, _, rest = request.partition(b" ")
        target = rest.partition(b" ")[0]
        answer = self.answer_to(method, target)
        delay = target.split(b"/")[1]
        if delay.isdigit() and int(delay):
            self._loop.call_later(int(delay) / 1000, self._write, answer)
        else:
            self._write(answer)

    def answer_to(self, method: bytes, target: bytes) -> bytes:
        """Return a whole answer, head and body."""
        path = target.partition(b"?")[0]
        return ANSWERS.get((method, path.rpartition(b"/")[2]), OTHER)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def serve(connection: Callable[[], Connection]) -> None:
    """Answer until the parent is gone; print the port first."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent holds the other end; when it goes, whatever the reason, so do we.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


class Dummy:
    """The server in a process of its own, for the time of a block.

    Args:
        module: of it, if it is another one.
        words: its arguments.
    """

    def __init__(self, module: str = "benchmarks.dummy", *words: str) -> None:
        self._command = [sys.executable, "-m", module, *words]

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(  # noqa: S603  # ours
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def url(self, milliseconds: int) -> str:
        """Return the base address under which every answer takes this long."""
        return f"http://127.0.0.1:{self.port}/{milliseconds}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self._process.communicate(timeout=10)


if __name__ == "__main__":
    asyncio.run(serve(Connection))
