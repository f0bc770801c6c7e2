"""What an integration is: plain data and a few synchronous methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from onward.api import Api
from onward.contract import (
    Account,
    Item,
    Limit,
    Outcome,
    RemoteContact,
    RemoteField,
    RemoteSegment,
)

CONTRACT = 1


class Secret(SecretStr):
    """A setting that never appears in a repr, log, error, page or bundle."""

    def reveal(self) -> str:
        """Return the text itself, to authenticate with and for nothing else."""
        return self.get_secret_value()


def setting(
    title: str,
    *,
    help: str = "",
    link: str = "",
    default: object = ...,
) -> Any:
    """Declare one setting of a connection.

    Args:
        title: what people call it.
        help: what it is and where to find it.
        link: address of the page where the service shows it.
        default: makes the setting optional.
    """
    extra: JsonDict = {"help": help, "link": link}
    if default is ...:
        return Field(title=title, json_schema_extra=extra)
    return Field(default=default, title=title, json_schema_extra=extra)


class ConnectionSettings(BaseModel):
    """Base of an integration's `Settings`: one field per thing to enter.

    Drives `onward.toml`, the prompts of the command line, the web form,
    redaction and the help texts. Blanks around texts are removed.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        str_strip_whitespace=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def described(cls) -> Mapping[str, FieldInfo]:
        """Return name → title, help and link of every setting, in order."""
        return cls.model_fields

    @classmethod
    def secret_names(cls) -> frozenset[str]:
        """Return the names of the settings that are secret."""
        return frozenset(
            name
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type)
            and issubclass(field.annotation, SecretStr)
        )


class Integration:
    """A service Onward can push contacts to; subclass it and register the class.

    Capabilities are which of the optional methods exist: `read`, `poll`, `pull`,
    `fetch`, `unsubscribe`, `erase`, `history`, `watch`, `receive`, `migrate`. An
    instance belongs to one connection and one drain; keep facts in `api.memory`, not
    on the instance.
    """

    key: ClassVar[str] = ""
    """Lower case: entry point, field map's file name, word on the command line."""
    title: ClassVar[str] = ""
    """What people call the service."""
    contract: ClassVar[int] = CONTRACT
    """The version of this contract the class was written for."""
    hosts: ClassVar[Sequence[str]] = ()
    """The only hosts requests may go to; see also `allowed_hosts`."""
    limits: ClassVar[Sequence[Limit]] = ()
    """What the service allows; all of them hold at once."""
    batch_size: ClassVar[int] = 100
    """Contacts per call of `push`."""
    batch_bytes: ClassVar[int] = 1_000_000
    """Bytes of mapped values per call of `push`, about."""
    in_flight: ClassVar[int] = 1
    """Requests at the same time."""
    calls_per_batch: ClassVar[int] = 1
    """Requests one call of `push` usually makes."""
    throttled: ClassVar[frozenset[int] | set[int]] = frozenset({429})
    """Statuses that mean "too fast": the whole connection rests."""
    email_field: ClassVar[str] = "email"
    """The remote field that carries the address."""
    repeatable: ClassVar[bool] = False
    """Pushing a contact twice does no harm, so an unknown outcome may be resent
    without `read`."""
    default_map: ClassVar[Mapping[str, str | Mapping[str, str]]] = {}
    """Remote field → contact field, template or table, as `[fields]` of a map; used
    unless the connection has another map or there is a `field_maps/KEY.toml`."""
    simulator: ClassVar[str] = ""
    """`package.module:function` that makes a fake of the service; see the guide."""
    demo: ClassVar[str] = ""
    """`package.module:function` that shows the integration at work: called with a
    function that prints a line, returns whether all was as it must be."""

    Settings: ClassVar[type[ConnectionSettings]] = ConnectionSettings

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings: Any = settings

    def allowed_hosts(self) -> Sequence[str]:
        """Return the hosts requests may go to, when they follow from settings."""
        return self.hosts

    def base_url(self) -> str:
        """Return what the paths of requests are joined to."""
        return f"https://{self.allowed_hosts()[0]}/"

    def authenticate(self, request: httpx.Request) -> None:
        """Add the credential to a request that is about to leave."""

    def verify(self, api: Api) -> Account:
        """Ask the service who we are; called before anything is saved.

        Raises:
            CredentialsRefused: with `field` naming the setting to correct.
        """
        raise NotImplementedError

    def segments(self, api: Api) -> Iterable[RemoteSegment]:
        """Yield every place contacts can be put, all pages."""
        return ()

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterable[RemoteField]:
        """Yield every field a contact can have there, all pages."""
        raise NotImplementedError

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Create or update contacts and put them on the segment.

        Args:
            batch: different contacts; values are text under remote names.
            segment: where they are wished; None = nowhere.

        Yields:
            Exactly one outcome per item, in any order, as soon as it is known.

        Raises:
            ServiceError: as `api` raises them; the core decides what follows.
        """
        raise NotImplementedError

    def same(self, field: str, one: str, other: str) -> bool:
        """Tell whether two texts of a field mean the same to the service.

        What it writes otherwise than it was sent, as `0` for blank, is no difference.
        """
        return one.strip() == other.strip()

    # Optional, found by name: see `can`.
    #   read(api, batch, segment) -> Iterable[RemoteContact]
    #   poll(api, job, batch) -> Iterator[Outcome]; one per item as in push, and
    #     `item.submitted(job, after)` again for what the job has not decided yet
    #   pull(api, cursor, segments) -> Iterable[Page]; every contact, every opt-out and
    #     the members of `segments`, in an order that stays; `cursor` is None at the
    #     start, else that of the page after which to go on
    #   fetch(api, keys) -> Iterable[RemoteContact]; each by itself with all fields, as
    #     `RemoteContact(id, status="deleted")` when it is not there
    #   unsubscribe(api, keys) -> Iterable[str]; ids that are on none of the segments
    #     any more, as the service confirmed
    #   erase(api, keys) -> Iterable[str]; ids that are gone there, as it confirmed
    #   history(api, key) -> Iterable[RemoteChange]; newest first
    #   watch(api, url) · unwatch(api, url); let the service report changes to an
    #     address, and no longer; one it does not know is no error, and all it was told
    #     of one goes at once. The end of the address is a secret
    #   receive(body) -> Iterable[RemoteKey]; whom such a report is about, all that is
    #     believed of it; raises ValueError when it is none
    #   migrate(settings, from_version)


Capability = Literal[
    "read",
    "poll",
    "pull",
    "fetch",
    "unsubscribe",
    "erase",
    "history",
    "watch",
    "unwatch",
    "receive",
    "migrate",
]


def can(integration: Integration | type[Integration], name: Capability) -> bool:
    """Tell whether an integration has an optional method."""
    return callable(getattr(integration, name, None))


def read_back(
    integration: Integration,
    api: Api,
    batch: Sequence[Item],
    segment: RemoteSegment | None,
) -> Iterable[RemoteContact]:
    """Call `read`: what does the service have of these people now?"""
    method = getattr(integration, "read", None)
    if method is None:
        return ()
    found: Iterable[RemoteContact] = method(api, batch, segment)
    return found
