"""The HTTP client an integration is given: it already carries everything.

Credentials, limits, deadlines, the host allow-list, the lease and redaction are
here, once; an integration only says what to ask.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, ClassVar, Protocol, TypeVar

import httpx
import orjson
from sqlalchemy import Connection

from onward.address import check_address, is_loopback, join
from onward.answer import Answer, error_of, error_without_answer
from onward.contract import RemoteContact
from onward.errors import Lost, PluginError
from onward.failpoints import failpoint
from onward.instrument import Call, Instrument, Nobody, path_template
from onward.limiter import Limiter, Window, applies
from onward.memory import Memory
from onward.redact import Redactor
from onward.transport import ENCODINGS, deadline, read_body

log = logging.getLogger("onward.api")

__all__ = ["Api", "Wire", "check_address", "is_loopback", "join"]

Thing = TypeVar("Thing")
Made = TypeVar("Made")

TIMEOUT = timedelta(seconds=30)
# A request may take this share of what is left of the lease, not more: its
# answer must be stored while the connection is still ours.
LEASE_SHARE = 0.9
# A batch that was begun rather waits for each of its calls than breaks off: what it
# left open would have to be read back, by calls of the same limit.
LONGEST_WAIT = timedelta(minutes=15)
NAP = timedelta(seconds=1)
MOST_BYTES = 20_000_000


class Index(Protocol):
    """What is known of a service's contacts; see `onward.remote`."""

    def learn(self, records: Iterable[RemoteContact]) -> None:
        """Add what the service showed."""
        ...

    def known_ids(self, ids: Sequence[str]) -> dict[str, RemoteContact]:
        """Return remote id → contact."""
        ...

    def known_emails(self, emails: Sequence[str]) -> dict[str, RemoteContact]:
        """Return lower-cased address → contact."""
        ...


class Authenticator(Protocol):
    """The parts of an integration that the client needs."""

    title: ClassVar[str]
    throttled: ClassVar[frozenset[int] | set[int]]

    def allowed_hosts(self) -> Sequence[str]:
        """Return the hosts requests may go to."""
        ...

    def base_url(self) -> str:
        """Return what paths are joined to."""
        ...

    def authenticate(self, request: httpx.Request) -> None:
        """Add the credential."""
        ...


@dataclass(slots=True)
class Wire:
    """What all requests of one connection share, for the time of one drain.

    Args:
        windows: limiter rows every request must pass.
        in_flight: as many requests at the same time.
        renew: prolongs the lease when it is due; raises Fenced when it is lost.
        left: how long the lease still runs; None where there is none.
        sleep: waits that many seconds (tests move their clock instead).
        stopping: asked while waiting; when it says so, no turn is waited for.
        instrument: listens; `connection` and `integration` say whose calls these are.
        keeps: what is asked and answered is kept for an attempt; False for what comes
            in pages without an end.
        slots: what counts those in flight; wires of one drain share it.
    """

    client: httpx.Client
    authenticator: Authenticator
    limiter: Limiter
    windows: Sequence[Window]
    in_flight: int
    redactor: Redactor
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    renew: Callable[[], None] = lambda: None
    left: Callable[[], timedelta | None] = lambda: None
    stopping: Callable[[], bool] = lambda: False
    instrument: Instrument = field(default_factory=Nobody)
    connection: str = ""
    integration: str = ""
    keeps: bool = True
    slots: AbstractContextManager[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.slots = threading.BoundedSemaphore(self.in_flight)

    def room_for(self, connection: Connection, calls: int) -> timedelta | None:
        """Tell whether the limits leave room for so many calls; else how long to wait.

        Those of single paths are not looked at.
        """
        windows = [window for window in self.windows if not window.path]
        return self.limiter.look(connection, windows, calls, self.clock())

    def wait_for_turn(self, path: str) -> None:
        """Take one call, waiting for it if it is not long.

        Raises:
            Lost: it would take longer than a quarter of an hour, or is to stop.
            Fenced: the lease was lost meanwhile.
        """
        windows = [window for window in self.windows if applies(window, path)]
        while (pause := self.limiter.take(windows, 1, self.clock())) is not None:
            if pause > LONGEST_WAIT:
                why = "the limit of calls is used up in the middle of a batch"
                raise Lost(why, pause, code="out_of_calls")
            while pause > timedelta():
                self.renew()
                if self.stopping():
                    why = "stopped while waiting for the limit of calls"
                    raise Lost(why, pause, code="out_of_calls")
                left = self.left()
                nap = min(pause, NAP, left / 4 if left is not None else NAP)
                self.sleep(max(nap.total_seconds(), 0.001))
                self.instrument.waited(self.connection, nap.total_seconds())
                pause -= max(nap, timedelta(milliseconds=1))

    def seconds_left(self) -> float:
        """Return how long the next request may take."""
        left = self.left()
        if left is None:
            return TIMEOUT.total_seconds()
        return min(TIMEOUT.total_seconds(), left.total_seconds() * LEASE_SHARE)


class Api:
    """Requests of one batch.

    `memory` keeps small facts per connection. Paths are relative to the
    service's base address; an absolute address must be on an allowed host.
    """

    def __init__(
        self,
        wire: Wire,
        memory: Memory,
        index: Index,
    ) -> None:
        self._wire = wire
        self.memory = memory
        self._index = index
        # The core stores the outcomes yielded so far before anything more leaves.
        self.before_request: Callable[[], None] = lambda: None
        # And may stop a request whose turn has come at last.
        self.last_word: Callable[[], None] = lambda: None
        self.exchanges: list[dict[str, Any]] = []

    # -- what an integration calls

    def now(self) -> datetime:
        """Return the current moment, aware, in UTC."""
        return self._wire.clock()

    def learn(self, records: Iterable[RemoteContact]) -> None:
        """Keep what the service showed of its contacts."""
        self._index.learn(records)

    def known_ids(self, ids: Sequence[str]) -> dict[str, RemoteContact]:
        """Return what is known of these remote ids."""
        return self._index.known_ids(ids)

    def known_emails(self, emails: Sequence[str]) -> dict[str, RemoteContact]:
        """Return what is known of these addresses, deleted ones left out."""
        return self._index.known_emails(emails)

    def get(
        self, path: str, params: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Send a GET; see `request`."""
        return self.request("GET", path, params=params, **options)

    def post(self, path: str, json: object = None, **options: Any) -> Answer:
        """Send a POST with a JSON body; see `request`."""
        return self.request("POST", path, json=json, **options)

    def put(self, path: str, json: object = None, **options: Any) -> Answer:
        """Send a PUT with a JSON body; see `request`."""
        return self.request("PUT", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        """Send a DELETE; see `request`."""
        return self.request("DELETE", path, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        ok: Collection[int] = (),
    ) -> Answer:
        """Send one request, within the limits, and return its answer.

        Args:
            path: relative, without leading slash; may carry a query already.
            ok: statuses besides 2xx to be returned instead of raised.

        Raises:
            Temporary: throttled, unreachable, 5xx, time-out of a read.
            Lost: a write left and nothing came back.
            CredentialsRefused, AccountBlocked, Rejected: by status.
            PluginError: the address is not on an allowed host.
        """
        wire = self._wire
        request = self._build(method, path, params, json, content, headers)
        check_address(request.url, wire.authenticator.allowed_hosts())
        self.before_request()
        with wire.slots:
            wire.wait_for_turn(request.url.path)
            wire.renew()
            self.last_word()
            # Last, because a signature may hold the time; and looked at again,
            # because it may have changed more than headers.
            wire.authenticator.authenticate(request)
            check_address(request.url, wire.authenticator.allowed_hosts())
            failpoint("before_request")
            answer = self._send(request)
            failpoint("after_request")
        if answer.status not in ok:
            error = error_of(
                answer,
                wire.authenticator.title,
                wire.authenticator.throttled,
                self.now(),
                wire.redactor.text,
            )
            if error is not None:
                raise error
        return answer

    def _build(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        json: object,
        content: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> httpx.Request:
        given = {"Accept-Encoding": ENCODINGS, **(headers or {})}
        if json is not None:
            content = orjson.dumps(json, option=orjson.OPT_NON_STR_KEYS)
            given = {"Content-Type": "application/json", **given}
        wire = self._wire
        return wire.client.build_request(
            method,
            join(wire.authenticator.base_url(), path),
            params=dict(params) if params else None,
            headers=given,
            content=content,
        )

    def each(
        self, function: Callable[[Thing], Made], things: Iterable[Thing]
    ) -> Iterator[Made]:
        """Call `function` for each thing, `in_flight` at a time; yield results.

        Results come as they are ready. After an exception nothing new is
        started, what is running is waited for and yielded, then it is raised.
        """
        todo = list(things)
        if self._wire.in_flight == 1 or len(todo) < 2:
            for thing in todo:
                yield function(thing)
            return
        failure: BaseException | None = None
        with ThreadPoolExecutor(self._wire.in_flight, "onward-request") as pool:
            waiting = iter(todo)
            running: set[Future[Made]] = set()
            while True:
                while failure is None and len(running) < self._wire.in_flight:
                    started = [
                        pool.submit(copy_context().run, function, t)
                        for t in islice(waiting, 1)
                    ]
                    if not started:
                        break
                    running.update(started)
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    error = future.exception()
                    if error is None:
                        yield future.result()
                    else:
                        failure = failure or error
        if failure is not None:
            raise failure

    def _asked(self, request: httpx.Request) -> dict[str, Any]:
        redactor = self._wire.redactor
        return {
            "method": request.method,
            "url": redactor.url(str(request.url)),
            "request": redactor.body(request.content.decode("utf-8", "replace")),
        }

    def _send(self, request: httpx.Request) -> Answer:
        wire = self._wire
        started = time.monotonic()
        seen: dict[str, Any] = {}
        if wire.keeps:
            seen = self._asked(request)
        title, code = wire.authenticator.title, ""
        call = Call(
            wire.connection,
            wire.integration,
            request.method,
            path_template(request.url.path),
        )
        try:
            with wire.instrument.watch(call), deadline(wire.seconds_left()):
                response = wire.client.send(request, stream=True)
                try:
                    body = read_body(response, MOST_BYTES)
                finally:
                    response.close()
                call.status = response.status_code
        except httpx.HTTPError as error:
            failure = error_without_answer(error, request.method, title)
            seen["error"], code = failure.message, failure.code
            raise failure from error
        except httpx.InvalidURL as error:
            raise PluginError(
                f"{title}: the address cannot be used: {error}"
            ) from error
        else:
            seen["status"] = response.status_code
            if wire.keeps:
                text = body.decode("utf-8", "replace")
                seen["answer"] = wire.redactor.body(text)
        finally:
            seen["ms"] = round((time.monotonic() - started) * 1000)
            if wire.keeps:
                self.exchanges.append(seen)
            _tell(call, seen["ms"], code)
        return Answer(request.method, response.status_code, response.headers, body)


def _tell(call: Call, ms: int, code: str) -> None:
    log.debug(
        "%s %s: %s",
        call.method,
        call.path,
        call.status or code or "no answer",
        extra={
            "method": call.method,
            "path": call.path,
            "status": call.status,
            "code": code or None,
            "ms": ms,
        },
    )
