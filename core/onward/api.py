"""The HTTP client an integration is given: it already carries everything.

Credentials, limits, deadlines, the host allow-list, the lease and redaction are
here, once; an integration only says what to ask.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, ClassVar, Protocol, TypeVar

import httpx

from onward.answer import Answer, error_of, error_without_answer
from onward.contract import RemoteContact
from onward.errors import Lost, PluginError
from onward.limiter import Limiter, Window, applies
from onward.memory import Memory
from onward.redact import Redactor

Thing = TypeVar("Thing")
Made = TypeVar("Made")

TIMEOUT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(seconds=60)
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
        renew: prolongs the lease; raises Fenced when it is lost.
        sleep: waits that many seconds (tests move their clock instead).
    """

    client: httpx.Client
    authenticator: Authenticator
    limiter: Limiter
    windows: Sequence[Window]
    in_flight: int
    redactor: Redactor
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    renew: Callable[[], None] = field(default=lambda: None)
    slots: AbstractContextManager[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.slots = threading.BoundedSemaphore(self.in_flight)


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
        self._purse = 0
        self._counting = threading.Lock()
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
        body: dict[str, Any] = {}
        if json is not None:
            body["json"] = json
        if content is not None:
            body["content"] = content
        request = wire.client.build_request(
            method,
            join(wire.authenticator.base_url(), path),
            params=dict(params) if params else None,
            headers=dict(headers or {}),
            **body,
        )
        check_address(request.url, wire.authenticator.allowed_hosts())
        wire.authenticator.authenticate(request)
        self.before_request()
        with wire.slots:
            self._pay(request.url.path)
            wire.renew()
            answer = self._send(request)
        if answer.status not in ok:
            error = error_of(
                answer,
                wire.authenticator.title,
                wire.authenticator.throttled,
                self.now(),
            )
            if error is not None:
                raise error
        return answer

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
                    started = [pool.submit(function, t) for t in islice(waiting, 1)]
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

    # -- what the core calls

    def reserve(self, calls: int) -> timedelta | None:
        """Take calls for a whole batch at once; return how long to wait."""
        windows = [w for w in self._wire.windows if not w.path]
        granted = min([calls, *(w.burst for w in windows)])
        if granted < 1:
            return None
        wait_for = self._wire.limiter.take(windows, granted, self.now())
        if wait_for is None:
            self._purse += granted
        return wait_for

    def close(self) -> None:
        """Give back the calls that were reserved and not made."""
        unused, self._purse = self._purse, 0
        windows = [w for w in self._wire.windows if not w.path]
        self._wire.limiter.give_back(windows, unused)

    def _pay(self, path: str) -> None:
        with self._counting:
            paid = self._purse > 0
            self._purse -= paid
        windows = [
            w
            for w in self._wire.windows
            if applies(w, path) and not (paid and not w.path)
        ]
        waited = timedelta()
        while (pause := self._wire.limiter.take(windows, 1, self.now())) is not None:
            waited += pause
            if waited > LONGEST_WAIT:
                raise Lost(
                    "the limit of calls is used up in the middle of a batch",
                    pause,
                    code="out_of_calls",
                )
            self._wire.renew()
            self._wire.sleep(pause.total_seconds())

    def _send(self, request: httpx.Request) -> Answer:
        wire = self._wire
        started = time.monotonic()
        seen: dict[str, Any] = {
            "method": request.method,
            "url": wire.redactor.url(str(request.url)),
            "request": wire.redactor.text(request.content.decode("utf-8", "replace")),
        }
        title = wire.authenticator.title
        try:
            response = wire.client.send(request, stream=True)
            try:
                body = _read(response, started)
            finally:
                response.close()
        except httpx.HTTPError as error:
            failure = error_without_answer(error, request.method, title)
            seen["error"] = failure.message
            raise failure from error
        except httpx.InvalidURL as error:
            raise PluginError(
                f"{title}: the address cannot be used: {error}"
            ) from error
        else:
            seen["status"] = response.status_code
            seen["answer"] = wire.redactor.text(body.decode("utf-8", "replace"))
        finally:
            seen["ms"] = round((time.monotonic() - started) * 1000)
            self.exchanges.append(seen)
        return Answer(request.method, response.status_code, response.headers, body)


def _read(response: httpx.Response, started: float) -> bytes:
    """Read a body within the deadline and a sane size."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if time.monotonic() - started > TIMEOUT.total_seconds():
            raise httpx.ReadTimeout("the answer takes too long")
        if size > MOST_BYTES:
            raise httpx.ReadError("the answer is too large")
    return b"".join(parts)


def join(base: str, path: str) -> str:
    """Return the address of a path under a base address."""
    if path.startswith(("https://", "http://")):
        return path
    return f"{base.rstrip('/')}/{path.lstrip('/')}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(url: httpx.URL, allowed: Sequence[str]) -> None:
    """Refuse what is not https (loopback apart) or not on an allowed host.

    Raises:
        PluginError: naming the host.
    """
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.host)):
        raise PluginError(
            f"a request to {url.host} would go over {url.scheme or 'no scheme'}; "
            "only https is allowed (http on this machine only)"
        )
    place = f"{url.host}:{url.port}" if url.port else url.host
    if place not in allowed:
        raise PluginError(
            f"a request to {place} was refused: the integration declares only "
            f"{', '.join(allowed) or 'no host'}"
        )
