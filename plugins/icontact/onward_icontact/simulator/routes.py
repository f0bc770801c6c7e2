"""From a path to its resource, and the checks every call must pass.

The order is routing (501), credentials (401), then everything else.

Source:
    icontact-api.md 2.3, 2.4, 3.2 and 21.1 to 21.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from . import (
    contacts,
    custom_fields,
    history,
    lists,
    small_resources,
    subscriptions,
    texts,
)
from .exchange import Answer, Call, RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

_VERSIONS = ("2.0", "2.1", "2.2")
_JSON = "application/json"

COLLECTIONS: dict[str, Callable[[Call], Answer]] = {
    "contacts": contacts.collection,
    "customfields": custom_fields.collection,
    "lists": lists.collection,
    "segments": small_resources.segments,
    "subscriptions": subscriptions.collection,
    "uploads": small_resources.uploads,
    "webhooks": small_resources.webhooks,
}
MEMBERS: dict[str, Callable[[Call, str], Answer]] = {
    "contacts": contacts.member,
    "customfields": custom_fields.member,
    "lists": lists.member,
    "segments": small_resources.segment,
    "subscriptions": subscriptions.member,
    "uploads": small_resources.upload,
    "webhooks": small_resources.webhook,
}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path names; None where the path is too short to name it.

    Attributes:
        resource: `time`, `accounts`, `clientfolders`, `actions` or a word of
            `COLLECTIONS`.
    """

    resource: str
    account_id: str | None = None
    folder_id: str | None = None
    member_id: str | None = None
    is_data: bool = False


def route(path: str) -> Route | None:
    """Return what a path below `.../icp` names.

    Returns:
        None when the path has no `/icp` in it, and so is not the service's.

    Raises:
        RefusalError: 501, it names nothing that exists (or is simulated).
    """
    before, found, rest = f"{path}/".partition("/icp/")
    del before
    if not found:
        return None
    rest = rest.removesuffix("/")  # the one that was added
    parts = [unquote(part) for part in rest.removesuffix("/").split("/")]
    match parts:
        case ["time"]:
            return Route("time")
        case ["a"]:
            return Route("accounts")
        case ["a", account]:
            return Route("accounts", account, member_id=account)
        case ["a", account, "c"]:
            return Route("clientfolders", account)
        case ["a", account, "c", folder]:
            return Route("clientfolders", account, folder, member_id=folder)
        case ["a", account, "c", folder, word] if word in COLLECTIONS:
            named = Route(word, account, folder)
        case ["a", account, "c", folder, word, one] if word in MEMBERS:
            named = Route(word, account, folder, one)
        case ["a", account, "c", folder, "contacts", one, "actions"]:
            named = Route("actions", account, folder, one)
        case ["a", account, "c", folder, "uploads", one, "data"]:
            named = Route("uploads", account, folder, one, is_data=True)
        case _:
            raise RefusalError(501, texts.NOT_IMPLEMENTED)
    if not named.account_id and not named.folder_id:
        # Recorded: `/a//c//contacts` is a 501 even with bad credentials.
        raise RefusalError(501, texts.NOT_IMPLEMENTED)
    return named


def resource_of(request: httpx.Request) -> str:
    """Return the resource a request is about, for the log and the faults."""
    try:
        where = route(path_of(request))
    except RefusalError:
        return ""
    return "" if where is None else where.resource


def path_of(request: httpx.Request) -> str:
    """Return a request's path as sent, still encoded."""
    return request.url.raw_path.split(b"?")[0].decode("ascii")


def check_version(request: httpx.Request, *, is_known: bool) -> None:
    """Refuse a version the service does not have.

    A missing one counts only once the credentials are right: a probe with no
    headers at all was answered 401.

    Raises:
        RefusalError: 501.
    """
    version = request.headers.get("api-version")
    if version is None and not is_known:
        return
    if version is None or version.strip() not in _VERSIONS:
        raise RefusalError(501, texts.NOT_IMPLEMENTED)


def check_formats(request: httpx.Request, where: Route) -> None:
    """Refuse formats other than JSON; XML exists at iContact but is not simulated.

    Raises:
        RefusalError: 406 or 415; their texts are not known.
    """
    accepted = request.headers.get("accept")
    # A missing Accept means JSON; whether it means XML there is an open question.
    if accepted is not None and _JSON not in _types(accepted):
        raise RefusalError(406, "Not Acceptable")
    if where.is_data or request.method not in ("POST", "PUT"):
        # What is checked on a file is unknown; one client sends `{}` with GETs.
        return
    if _types(request.headers.get("content-type", "")) != [_JSON]:
        raise RefusalError(415, "Unsupported Media Type")


def _types(header: str) -> list[str]:
    return [part.partition(";")[0].strip().lower() for part in header.split(",")]


def dispatch(where: Route, call: Call) -> Answer:
    """Let the resource answer.

    Raises:
        RefusalError: as the resource refuses.
    """
    if where.resource == "actions":
        return history.actions(call, where.member_id or "")
    if where.is_data:
        return small_resources.upload_data(call, where.member_id or "")
    if where.member_id is None:
        return COLLECTIONS[where.resource](call)
    if where.member_id == "":
        raise RefusalError(501, texts.NOT_IMPLEMENTED)
    return MEMBERS[where.resource](call, where.member_id)
