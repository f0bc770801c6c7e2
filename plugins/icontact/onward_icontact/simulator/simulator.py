"""The simulator: one `handle` from request to answer, and the handles of tests."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx

from .demo import fill_demo, fill_plain
from .exchange import Exchange
from .faults import Faults
from .routes import resource_of
from .service import Clock, Service
from .strikes import Reply, strike
from .switches import SWITCHES
from .webhook_sender import WebhookSend, over_http, send_events

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    from .accounts import Account, Login
    from .folder import Folder
    from .switches import Switches

_REASONS = {401: b"Authorization Required", 501: b"Method Not Implemented"}
"""The recorded reason phrases that differ from the usual ones (18.1)."""


class Simulator:
    """A stateful stand-in for iContact's API, for tests and demonstrations.

    Give `handle` to `httpx.MockTransport`. A client sees faults of the connection
    as httpx exceptions.

    Attributes:
        account_id: the main account.
        client_folder_id: the main folder.
        requests: every request that arrived, without its headers.
        webhook_send: called with (url, body) for each webhook event and returns
            the receiver's status; None drops the events.

    Source:
        icontact-api.md, section 21 above all.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        seed: int = 1,
        demo: bool = False,
        *,
        sleep: Callable[[float], None] = time.sleep,
        webhook_send: WebhookSend | None = None,
        log_limit: int | None = None,
        **switches: object,
    ) -> None:
        """Build the state.

        Args:
            clock: returns the present as an aware datetime; the system's by default.
            seed: the demo data follows from it.
            demo: two accounts full of data, or one folder with two lists.
            sleep: waits, for the fault `slow`.
            webhook_send: see above; without it events are dropped.
            log_limit: how many requests are kept; all by default.
            switches: by their names in `SWITCHES`.

        Raises:
            ValueError: an unknown switch or value.
        """
        self._service = Service(clock)
        self._sleep = sleep
        self._lock = threading.RLock()
        self._faults = Faults()
        self._log_limit = log_limit
        self.webhook_send = webhook_send
        self.requests: list[Exchange] = []
        self.set(**switches)
        main = fill_demo(self._service, seed) if demo else fill_plain(self._service)
        self.account_id = main.account_id
        self.client_folder_id = next(iter(main.folders))

    @property
    def app_id(self) -> str:
        """The application id of the main login."""
        return self._service.login.app_id

    @property
    def username(self) -> str:
        """The username of the main login."""
        return self._service.login.username

    @property
    def password(self) -> str:
        """The application password of the main login; may be set."""
        return self._service.login.password

    @password.setter
    def password(self, value: str) -> None:
        self._service.login.password = value

    def now(self) -> datetime:
        """Return the present in UTC."""
        return self._service.now()

    @property
    def switches(self) -> Switches:
        """The switches as they are."""
        return self._service.switches

    # --- state ---

    def add_account(
        self,
        account_id: str,
        folder_ids: Sequence[str] = ("8802",),
        *,
        login: Login | None = None,
        is_agency: bool = False,
        names: Sequence[str] = (),
    ) -> Account:
        """Add an account; the main login opens it unless it gets its own."""
        return self._service.add_account(
            account_id, folder_ids, login=login, is_agency=is_agency, names=names
        )

    def folder(
        self, account_id: str | None = None, folder_id: str | None = None
    ) -> Folder:
        """Return a folder: the main one, or the first of another account.

        Raises:
            KeyError: there is none.
        """
        account = self._service.accounts[account_id or self.account_id]
        if folder_id is None and account.account_id == self.account_id:
            folder_id = self.client_folder_id
        return account.folders[folder_id or next(iter(account.folders))]

    def set(self, **switches: object) -> None:
        """Turn switches.

        Raises:
            ValueError: an unknown switch or value; names the known ones.
        """
        for name, value in switches.items():
            self.switches.set(name, value)

    def described(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield every switch: name, its setting now, known values, what it is."""
        for one in SWITCHES.values():
            values = one.values if isinstance(one.values, tuple) else ("a number",)
            now = str(getattr(self.switches, one.name))
            yield one.name, now, ", ".join(values), one.what

    def credentials(self, server: str) -> dict[str, str]:
        """Return what a client needs when this is served at `server`."""
        return {
            "url": f"{server}/icp",
            "app_id": self.app_id,
            "username": self.username,
            "password": self.password,
            "account_id": self.account_id,
            "client_folder_id": self.client_folder_id,
        }

    # --- faults ---

    def fail(
        self,
        kind: str,
        times: float | None = None,
        method: str | None = None,
        resource: str | None = None,
        after: int = 0,
        status: int = 500,
        *,
        errors: Collection[str] | None = None,
        retry_after: int | str | None = None,
        seconds: float = 0.0,
        email: str | None = None,
        emails: Collection[str] = (),
        how: str = "error400",
        stored: str = "nothing",
        rows: int = 0,
    ) -> None:
        """Arm a fault for the next matching requests; `faults.KINDS` lists the kinds.

        Args:
            kind: one of `KINDS`.
            times: None is once, or for ever for `reject_emails` and `crash_500`.
            method: only these requests; None is any.
            resource: `contacts`, `accounts`, `clientfolders`, `time`, ...
            after: how many matching requests pass before it strikes.
            status: of the kind `status`.
            errors: the texts of the kind `status`; the status title by default.
            retry_after: the header of that name, on any kind that answers.
            seconds: how long `slow` takes.
            email: for `crash_500` and `reject_emails`: whom the fault is about.
            emails: several of them.
            how: `error400` or `warning`, of `reject_emails`.
            stored: `nothing` or `before`, of `crash_500`.
            rows: how many contacts of the main folder go, of `shift`.

        Raises:
            ValueError: no such kind.
        """
        wanted = [*emails, *([email] if email else [])]
        with self._lock:
            self._faults.arm(
                kind,
                times,
                method,
                resource,
                after,
                status,
                errors,
                retry_after,
                seconds,
                wanted,
                how,
                stored,
                rows,
            )

    def clear_faults(self) -> None:
        """Disarm all faults."""
        with self._lock:
            self._faults.clear()

    # --- the log ---

    def calls(
        self, method: str | None = None, resource: str | None = None
    ) -> list[Exchange]:
        """Return the logged requests of a method and a resource."""
        return [
            one
            for one in self.requests
            if method in (None, one.method) and resource in (None, one.resource)
        ]

    # --- answering ---

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer a request.

        Raises:
            httpx.TransportError: where a fault of the connection is armed.
        """
        request.read()
        resource = resource_of(request)
        with self._lock:
            fault = self._faults.take(request, resource)
        if fault is not None and fault.kind == "slow":
            # Outside the lock, so that one slow answer does not hold up the others.
            self._sleep(fault.seconds)
        with self._lock:
            if fault is not None and fault.kind == "shift":
                self.folder().shift(fault.rows)
            elif fault is not None and fault.kind == "emptied":
                self.folder().shift(len(self.folder().contacts))
            if fault is None:
                reply = self._service.reply(request)
            else:
                reply = strike(fault, request, self._service.reply)
            if fault is None or fault.kind != "connect_error":
                self._log(request, resource, reply, fault.kind if fault else "")
        self.send_webhooks()
        if reply.error is not None:
            raise reply.error
        return _response(reply, request)

    def served(self) -> None:
        """Send webhooks over HTTP from now on, to addresses of this machine."""
        if self.webhook_send is None:
            self.webhook_send = over_http()

    def send_webhooks(self) -> None:
        """Send the events that wait; done after each request."""
        with self._lock:
            waiting = [one for one in self._service.folders() if one.events]
            events = [(one, one.take_events()) for one in waiting]
        if self.webhook_send is not None:
            for folder, noted in events:
                send_events(self.webhook_send, folder, noted, self.switches)

    def _log(
        self, request: httpx.Request, resource: str, reply: Reply, fault: str
    ) -> None:
        path, _, text = request.url.raw_path.decode("ascii").partition("?")
        self.requests.append(
            Exchange(
                method=request.method,
                path=path,
                query=text,
                raw_body=request.content,
                status=reply.status or None,
                raw_answer=reply.body,
                at=self.now(),
                resource=resource,
                fault=fault,
            )
        )
        if self._log_limit is not None:
            del self.requests[: -self._log_limit]


def _response(reply: Reply, request: httpx.Request) -> httpx.Response:
    headers = [("Content-Type", reply.content_type), *reply.headers]
    phrase = _REASONS.get(reply.status)
    return httpx.Response(
        reply.status,
        headers=headers,
        content=reply.body,
        request=request,
        extensions={"reason_phrase": phrase} if phrase else {},
    )
