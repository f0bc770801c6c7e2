"""One call to the simulator and its answer, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import orjson

from .texts import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .folder import Folder
    from .records import Contact, MailingList
    from .switches import Switches

JsonValue: TypeAlias = (
    "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
)
Record: TypeAlias = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answers; `payload` becomes the JSON body."""

    payload: JsonValue
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class RefusalError(Exception):
    """The whole request is refused with a status and an `errors` array."""

    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status, *errors)
        self.status = status
        self.errors = errors

    def answer(self) -> Answer:
        """Return the refusal as the answer that goes out."""
        return Answer({"errors": list(self.errors)}, self.status)


class ItemRejectedError(Exception):
    """One item of a batch is not stored; the text goes into `warnings`."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed routing, credentials and the account's existence."""

    method: str
    query: str
    body: bytes
    folder: Folder
    switches: Switches
    now: datetime
    address: str

    def json(self) -> JsonValue:
        """Return the parsed body.

        Raises:
            RefusalError: 400, it is not JSON.
        """
        try:
            parsed: JsonValue = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise RefusalError(400, MALFORMED) from None
        return parsed

    def announce(
        self, event_id: str, contact: Contact, one: MailingList | None = None
    ) -> None:
        """Note a change for the webhooks, unless own changes raise none."""
        if self.switches.webhook_own_changes == "yes":
            self.folder.note_event(event_id, contact, one)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One logged request; the headers, and so the credentials, are not kept.

    Attributes:
        path: as sent, without the query.
        query: as sent, still encoded.
        status: None when no answer was made (a fault before the request was read).
        fault: the kind of the fault that struck, or ''. With `timeout_after_write`
            and `close_after_write` the answer below was made but never sent.
    """

    method: str
    path: str
    query: str
    raw_body: bytes
    status: int | None
    raw_answer: bytes
    at: datetime
    resource: str = ""
    fault: str = ""

    @property
    def body(self) -> JsonValue:
        """The request's body, parsed; text when it is not JSON; None when empty."""
        return _read(self.raw_body)

    @property
    def answer(self) -> JsonValue:
        """The answer's body, parsed; text when it is not JSON; None when empty."""
        return _read(self.raw_answer)


def _read(raw: bytes) -> JsonValue:
    if not raw:
        return None
    try:
        parsed: JsonValue = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")
    return parsed


def allow(call: Call, *methods: str) -> None:
    """Refuse a method the resource does not support.

    Raises:
        RefusalError: 405.
    """
    if call.method not in methods:
        raise RefusalError(405, "Method Not Allowed")
