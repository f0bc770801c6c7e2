"""The service behind the wire: accounts, credentials, limits, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from . import texts
from .accounts import (
    Account,
    Login,
    account_record,
    folder_record,
    list_accounts,
    list_folders,
)
from .exchange import Answer, Call, RefusalError
from .folder import Folder, Ids
from .limits import RateLimit
from .routes import Route, check_formats, check_version, dispatch, path_of, route
from .strikes import Reply
from .switches import Switches
from .wire import iso_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

_HTML = "text/html; charset=utf-8"
_NOT_ICONTACT = b"<!DOCTYPE html><html><body>Not Found</body></html>"
_THROTTLED = b"<!DOCTYPE html><html><body>Service Unavailable</body></html>"
_EXAMPLE_LOGIN = (
    "AbCdEfGh1234IjKlMnOp5678QrStUvWx",
    "sam@bakery.example",
    "app-secret",
)

Clock = Callable[[], datetime]


class Service:
    """The state of everything, and the way from a request to its answer.

    Attributes:
        login: the main credentials, which open every account without its own.
    """

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock or (lambda: datetime.now(UTC))
        self._ids = Ids()
        self._limits: dict[str, RateLimit] = {}
        self.switches = Switches()
        self.login = Login(*_EXAMPLE_LOGIN)
        self.logins = [self.login]
        self.accounts: dict[str, Account] = {}

    def now(self) -> datetime:
        """Return the present in UTC."""
        return self._clock().astimezone(UTC)

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
        opened_by = login or self.login
        account = Account(account_id, opened_by.username, is_agency=is_agency)
        for index, folder_id in enumerate(folder_ids):
            name = names[index] if index < len(names) else ""
            account.folders[folder_id] = Folder(folder_id, self._ids, self.now, name)
        self.accounts[account_id] = account
        opened_by.accounts.append(account)
        if opened_by not in self.logins:
            self.logins.append(opened_by)
        return account

    def folders(self) -> list[Folder]:
        """Return every folder of every account."""
        return [
            folder
            for account in self.accounts.values()
            for folder in account.folders.values()
        ]

    def reply(self, request: httpx.Request) -> Reply:
        """Carry out a request."""
        is_html = self.switches.content_type == "html"
        kind = _HTML if is_html else "application/json; charset=utf-8"
        try:
            answer = self._answer(request)
        except RefusalError as refused:
            answer = refused.answer()
        except _PageError as page:
            return Reply(page.status, page.body, _HTML)
        return Reply(answer.status, orjson.dumps(answer.payload), kind)

    def _answer(self, request: httpx.Request) -> Answer:
        where = route(path_of(request))
        if where is None:
            raise _PageError(404, _NOT_ICONTACT)
        now = self.now()
        if where.resource == "time":
            _only_get(request)
            return Answer({"time": iso_time(now), "timestamp": int(now.timestamp())})
        check_version(request, is_known=False)
        login = next((one for one in self.logins if one.opens(request)), None)
        if login is None:
            raise RefusalError(401, texts.USERNAME_INVALID)
        check_version(request, is_known=True)
        limit = self._limits.setdefault(login.app_id + login.username, RateLimit())
        if not limit.admits(now, self.switches):
            if self.switches.throttle_body == "html":
                raise _PageError(503, _THROTTLED)
            raise RefusalError(503, texts.THROTTLED)
        check_formats(request, where)
        if self.switches.unpaid == "yes":
            raise RefusalError(402, texts.UNPAID)
        return self._below(request, where, login, now)

    def _below(
        self, request: httpx.Request, where: Route, login: Login, now: datetime
    ) -> Answer:
        text = request.url.query.decode("ascii")
        if where.account_id is None:
            _only_get(request)
            return list_accounts(login.accounts, text, self.switches)
        account = next(
            (one for one in login.accounts if one.account_id == where.account_id), None
        )
        if account is None:
            raise RefusalError(404, texts.UNKNOWN_ACCOUNT)
        if where.resource == "accounts":
            _only_get(request)
            return Answer({"account": account_record(account, self.switches)})
        if account.forbidden:
            raise RefusalError(403, texts.FORBIDDEN)
        if where.folder_id is None:
            _only_get(request)
            return list_folders(account, text, self.switches)
        if where.folder_id == "":
            raise RefusalError(501, texts.NOT_IMPLEMENTED)
        folder = account.folders.get(where.folder_id)
        if folder is None:
            raise RefusalError(404, texts.UNKNOWN_FOLDER)
        if where.resource == "clientfolders":
            _only_get(request)
            record = folder_record(account, folder, self.switches)
            return Answer({"clientfolder": record})
        address = str(request.url).partition("?")[0].rstrip("/")
        call = Call(
            request.method, text, request.content, folder, self.switches, now, address
        )
        return dispatch(where, call)


class _PageError(Exception):
    """The answer is a page of HTML, not the service's JSON."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def _only_get(request: httpx.Request) -> None:
    # iContact has POST and PUT for folders; a contact plugin has no use for them.
    if request.method != "GET":
        raise RefusalError(405, "Method Not Allowed")
