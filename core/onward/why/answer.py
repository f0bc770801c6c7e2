"""The answer to "why": as values, as JSON, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Try:
    """What one try of a push led to; without attempt nothing was sent."""

    at: datetime
    kind: str
    code: str
    reason: str
    attempt_id: int | None


@dataclass(frozen=True, slots=True)
class PushWhy:
    """One push.

    Args:
        segment: the remote segment's name, "" for none.
        waits_for: a sentence; "" when it waits for nothing.
        causes: what asked for it, as `rule forms`.
        tries: the latest, oldest first.
    """

    id: int
    segment: str
    state: str
    code: str
    reason: str
    created_at: datetime
    waits_for: str
    due_at: datetime | None
    causes: tuple[str, ...]
    tries: tuple[Try, ...]

    @property
    def sentence(self) -> str:
        """What became of it."""
        to = f' for "{self.segment}"' if self.segment else ""
        by = f", asked for by {', '.join(self.causes)}" if self.causes else ""
        because = f": {self.reason}" if self.reason else ""
        what = f"waits: {self.waits_for}" if self.waits_for else self.state + because
        return f"push {self.id}{to} of {self.created_at:%Y-%m-%d %H:%M}{by}: {what}"


@dataclass(frozen=True, slots=True)
class ConnectionWhy:
    """One connection.

    Args:
        status: `active`, `paused` or `switched off`.
        blocks: why it must or can not push this contact now; "" when it can.
        rules: keys of the rules and triggers that push to it.
        pushes: the latest, newest first.
        errands: what else is asked of it, in words.
    """

    connection: str
    status: str
    blocks: str
    rules: tuple[str, ...]
    pushes: tuple[PushWhy, ...]
    errands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleLook:
    """A rule looked at an action; `why` says which condition was false."""

    rule: str
    ran: bool
    why: str


@dataclass(frozen=True, slots=True)
class ActionWhy:
    """One action of the contact and the rules that looked at it."""

    event_id: int
    action: str
    at: datetime
    looked: tuple[RuleLook, ...]


@dataclass(frozen=True, slots=True)
class TriggerWhy:
    """One point trigger: fired when, or what is missing."""

    key: str
    points: int
    has: int
    fired_at: datetime | None
    enabled: bool

    @property
    def sentence(self) -> str:
        """Whether it fired."""
        if self.fired_at is not None:
            return f"fired on {self.fired_at:%Y-%m-%d %H:%M}"
        if not self.enabled:
            return "not fired: it is not enabled"
        if self.has < self.points:
            return f"not fired: {self.has} of {self.points} points"
        return (
            f"reached with {self.has} of {self.points} points, not fired yet: it fires "
            f"at the next change of points, or by `onward triggers apply {self.key}`"
        )


@dataclass(frozen=True, slots=True)
class Since:
    """From when on everything about the contact is still there; None = all of it.

    What is older was removed, as `[retention]` says.
    """

    events: datetime | None = None
    deliveries: datetime | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """Everything that explains one contact.

    Args:
        contact_id: 0 when there is no such contact.
        answer: the short answer, a sentence each.
        suppressions: in words, those in force.
        lifted: in words, those a consent answered.
        actions: the latest, newest first.
        since: what is older than that was removed, and is in none of the others.
    """

    email: str
    contact_id: int
    answer: tuple[str, ...]
    suppressions: tuple[str, ...] = ()
    lifted: tuple[str, ...] = ()
    connections: tuple[ConnectionWhy, ...] = ()
    actions: tuple[ActionWhy, ...] = ()
    triggers: tuple[TriggerWhy, ...] = field(default=())
    since: Since = field(default=Since())

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; moments as ISO 8601 text."""
        plain: dict[str, Any] = _plain(asdict(self))
        for made, one in zip(plain["triggers"], self.triggers, strict=True):
            made["sentence"] = one.sentence
        return plain

    def lines(self) -> list[str]:
        """Return it for people, two blanks deep where one explains another."""
        return [*self.answer, *self._details()]

    def _details(self) -> Iterator[str]:
        for words in self.suppressions:
            yield f"suppressed: {words}"
        for words in self.lifted:
            yield f"suppressed once, lifted by a consent: {words}"
        for one in self.connections:
            yield f"connection {one.connection} ({one.status})"
            if one.blocks:
                yield f"  {one.blocks}"
            if not one.pushes:
                yield f"  nothing was {_ever(self.since.deliveries)} queued for it"
            for push in one.pushes:
                yield f"  {push.sentence}"
                for tried in push.tries:
                    said = f"{tried.kind} ({tried.code})" if tried.code else tried.kind
                    of = f", attempt {tried.attempt_id}" if tried.attempt_id else ""
                    because = f": {tried.reason}" if tried.reason else ""
                    yield f"    {tried.at:%Y-%m-%d %H:%M} {said}{of}{because}"
            for words in one.errands:
                yield f"  {words}"
        for action in self.actions:
            yield f"action {action.action} on {action.at:%Y-%m-%d %H:%M}"
            if not action.looked:
                yield "  no rule is for it"
            for look in action.looked:
                why = "ran" if look.ran else f"did not run: {look.why}"
                yield f"  rule {look.rule} {why}"
        for trigger in self.triggers:
            yield f"trigger {trigger.key}: {trigger.sentence}"
        for what, moment in (
            ("events", self.since.events),
            ("deliveries that ended", self.since.deliveries),
        ):
            if moment is not None:
                yield f"{what} before {moment:%Y-%m-%d %H:%M} were removed"


def _ever(since: datetime | None) -> str:
    return "ever" if since is None else f"since {since:%Y-%m-%d %H:%M}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        return {name: _plain(one) for name, one in named.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in cast("list[Any]", value)]
    return value.isoformat() if isinstance(value, datetime) else value
