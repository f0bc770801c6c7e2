"""What a push would send, without sending it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from onward.answer import SAFE, Answer
from onward.api import Api, join
from onward.config.model import PushTo
from onward.connections.open import bind_map, open_connection
from onward.connections.rename import resolve_segment
from onward.connections.state import (
    UNRESOLVED,
    State,
    named,
    read_segments,
)
from onward.connections.verify import is_fresh, verify_connection
from onward.contacts.input import find_contacts
from onward.contacts.values import clean_email
from onward.contract import RemoteSegment
from onward.delivery.claiming import Claimed
from onward.delivery.prepare import Rules, prepare
from onward.delivery.queue import LIVE
from onward.delivery.settling import NO_EMAIL
from onward.errors import InputError
from onward.events.rulebook import Targets
from onward.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it would leave; `body` is parsed JSON, or text."""

    method: str
    url: str
    body: Any = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of pushing a contact now.

    Args:
        segment: name of the remote segment, "" for none.
        fields: what the map makes of the contact; empty when `code` says why.
        code, reason: why nothing would be sent, "" when something would.
        warnings: what the map leaves out.
        asked: requests that were really made to find out; they change nothing.
        request: the first one that would change something; what follows it
            depends on its answer.
    """

    email: str
    connection: str
    segment: str
    fields: dict[str, str] = field(default_factory=dict[str, str])
    changed: dict[str, str] = field(default_factory=dict[str, str])
    code: str = ""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    asked: tuple[Request, ...] = ()
    request: Request | None = None


class _Stopped(Exception):
    """The first writing request was reached."""


class _LookingApi(Api):
    """Asks what reads only; stops before the first write."""

    asked: list[Request]
    stopped_at: Request | None = None

    def request(self, method: str, path: str, **options: Any) -> Answer:
        """Send reads, keep the first write."""
        url = self._wire.redactor.url(join(self._wire.authenticator.base_url(), path))
        body = options.get("json")
        if body is None and options.get("content") is not None:
            body = options["content"].decode("utf-8", "replace")
        if method in SAFE:
            self.asked.append(Request(method, url))
            return super().request(method, path, **options)
        if self.stopped_at is None:
            written = self._wire.redactor.text(orjson.dumps(body).decode())
            self.stopped_at = Request(method, url, orjson.loads(written))
        raise _Stopped


def preview(
    runtime: Runtime, connection: str, email: str, *, segment: str | None = None
) -> Preview:
    """Return the exact request that pushing a contact would send now.

    Args:
        segment: remote segment by name or id; None = the connection's own.

    Raises:
        InputError: nobody has this address, or there is no such connection.
        ConfigError, ServiceError: the connection cannot be used.
    """
    address = clean_email(email)
    with runtime.database.read() as transaction:
        state = named(transaction, connection)
    if not is_fresh(runtime, state):
        state = verify_connection(runtime, state, asked_for=False)
    opened = open_connection(runtime, state)
    read, bound = bind_map(runtime, state)
    with runtime.database.read() as transaction:
        contact_id = find_contacts(transaction, [address])[address]
        target = PushTo(connection, segment)
        _, segment_id = Targets(transaction).resolve(target)
        remote_segment = _named_segment(
            state, segment_id, read_segments(transaction, state.id)
        )
        rules = Rules(
            state,
            runtime.plugins,
            bound,
            read.sources(),
            read.version,
            segment_id,
            runtime.clock(),
            opened.integration.email_field,
        )
    row = Claimed(0, contact_id, None, 0, force=False, priority=LIVE)
    prepared = prepare(runtime.database, rules, [row])
    name = remote_segment.name if remote_segment else ""
    decision = prepared.decided.get(0)
    if decision is not None:
        return Preview(
            address, connection, name, code=decision.code, reason=decision.reason
        )
    if prepared.waiting:
        return Preview(address, connection, name, code="no_email", reason=NO_EMAIL)
    ready = prepared.ready[0]
    api = _LookingApi(opened.wire(runtime, live=True), opened.memory, opened.index)
    api.asked = []
    code = reason = ""
    try:
        for outcome in opened.integration.push(api, [ready.item], remote_segment):
            code, reason = outcome.code, outcome.reason
    except _Stopped:
        code = reason = ""
    return Preview(
        address,
        connection,
        name,
        fields=dict(ready.item.fields),
        changed=dict(ready.item.changed),
        code=code,
        reason=reason,
        warnings=ready.warnings,
        asked=tuple(api.asked),
        request=api.stopped_at,
    )


def _named_segment(
    state: State, segment_id: str, known: Sequence[tuple[str, str, str]]
) -> RemoteSegment | None:
    if segment_id.startswith(UNRESOLVED):
        wished = segment_id.removeprefix(UNRESOLVED)
        segments = [RemoteSegment(id_, name) for id_, name, _ in known]
        segment_id, problem = resolve_segment(state.name, wished, segments)
        if problem:
            raise InputError(problem)
    names = {id_: name for id_, name, _ in known}
    if not segment_id:
        return None
    return RemoteSegment(segment_id, names.get(segment_id, segment_id))
