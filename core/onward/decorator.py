"""The trivial integration: a function that turns one contact into a JSON body."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import httpx

from onward.api import Api
from onward.contacts.fields import STANDARD_FIELDS
from onward.contract import (
    Account,
    Item,
    Limit,
    Outcome,
    RemoteField,
    RemoteSegment,
    minute,
)
from onward.integrations import ConnectionSettings, Integration, Secret, setting

Body = Callable[[Item], object]

# The address may know POST only. Whoever answers a GET with one of these has
# not refused the credential, and nothing more can be learned without a write.
NOT_REFUSED = frozenset(range(300, 500)) - {401, 402, 403, 407, 408, 423, 425, 429}


class TokenSettings(ConnectionSettings):
    """What a service of one address needs: a token, or nothing."""

    token: Secret = setting(
        "API token",
        help="Sent as `Authorization: Bearer …`; leave it out if the address needs "
        "none.",
        default=Secret(""),
    )


class PostEach(Integration):
    """One POST per contact to one address; made by `integration`.

    One contact per batch, so that whatever happens to a request happens to one
    contact only.
    """

    batch_size = 1
    url: ClassVar[str]
    body: ClassVar[Body]
    Settings = TokenSettings

    def base_url(self) -> str:
        """Return the address; requests name it whole."""
        return self.url

    def authenticate(self, request: httpx.Request) -> None:
        """Add the token, if there is one."""
        token: Secret = self.settings.token
        if token.reveal():
            request.headers["Authorization"] = f"Bearer {token.reveal()}"

    def verify(self, api: Api) -> Account:
        """GET the address: 401, 402 and 403 refuse, any other answer will do."""
        api.get(self.url, ok=NOT_REFUSED)
        return Account(self.url, httpx.URL(self.url).host, self.title)

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Yield what the map names; the function may be given more."""
        for name in self.default_map:
            yield RemoteField(name, required=name == self.email_field)
        yield RemoteField("*")

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """POST what the function makes of each contact; None leaves it out."""
        for item in batch:
            body = type(self).body(item)
            if body is None:
                yield item.skipped("left_out", f"{self.title} does not take it")
                continue
            api.post(self.url, body)
            # Such a service knows people by their address.
            yield item.delivered(item.email)


def integration(
    key: str,
    *,
    url: str,
    title: str = "",
    fields: Mapping[str, str] | None = None,
    limits: Iterable[Limit] = (Limit(60, per=minute),),
    in_flight: int = 1,
    repeatable: bool = False,
) -> Callable[[Body], type[Integration]]:
    """Make an integration of a function that turns one item into a JSON body.

    Args:
        key: lower case; what `integration = "…"` in `onward.toml` names.
        url: every contact is POSTed there; 2xx means delivered, another 4xx than
            401, 402, 403, 408 and 429 that this contact is rejected.
        title: what people call the service.
        fields: name in `item.fields` → contact field or template; without it the
            contact fields under their own names.
        limits: what the service allows.
        in_flight: requests at the same time.
        repeatable: a second POST of the same contact does no harm. Without it a
            POST that got no answer is not repeated but ends as failed.

    Returns:
        The integration's class, under the function's name: leave it in the
        module and the module is a plugin.

    Example:
        `@onward.integration("acme", url="https://api.acme.example/contacts")`
        above `def acme(item): return {"email": item.email}`.
    """
    address = httpx.URL(url)
    place = f"{address.host}:{address.port}" if address.port else address.host
    default_map = {name: name for name in STANDARD_FIELDS} if fields is None else fields

    def make(body: Body) -> type[Integration]:
        name = str(getattr(body, "__name__", key))
        contents: dict[str, Any] = {
            "__module__": body.__module__,
            "__doc__": body.__doc__ or f"POSTs each contact to {place}.",
            "key": key,
            "title": title or key.replace("_", " ").title(),
            "hosts": (place,),
            "url": url,
            "body": staticmethod(body),
            "limits": tuple(limits),
            "in_flight": in_flight,
            "repeatable": repeatable,
            "default_map": dict(default_map),
        }
        return cast("type[Integration]", type(name, (PostEach,), contents))

    return make
