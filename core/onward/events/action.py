"""What callers hand in to be recorded, and what they get back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import orjson

from onward.contacts.fields import ContactField
from onward.contacts.given import MAX_POINTS, ContactData
from onward.contacts.input import contact_data, who
from onward.contacts.values import clean_email, clean_text
from onward.delivery.queue import Wish
from onward.errors import InputError
from onward.events.points import Fired

CREATED = "contact.created"
UPDATED = "contact.updated"
POINTS = "points.added"
OWN = frozenset((CREATED, UPDATED, POINTS))
"""Actions that only Onward itself records."""

_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,255}")


# Not frozen, these two: that alone would take a twentieth of the time of a batch.
@dataclass(slots=True)
class Action:
    """One contact action to be recorded, checked and cleaned.

    Args:
        name: of the action; "" = only write the contact.
        contact: who, and what is to be written about them.
        data: plain JSON values.
        key: unique per source; a repeat changes nothing.
        points: awarded directly, as by `add_points`.
        actor: who did it, when that is not the source.
        quiet: write the contact without any event, rule or trigger (an import).
        about: id of the contact it is about, where that is known; identities that
            are given belong to it from now on. 0 = they say who it is.
        origin: connection it came from: nothing that follows is pushed back there.
    """

    name: str
    contact: ContactData
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    key: str | None = None
    source: str = "api"
    occurred_at: datetime | None = None
    points: int = 0
    reason: str = ""
    actor: str = ""
    quiet: bool = False
    about: int = 0
    origin: int = 0

    @property
    def identities(self) -> dict[str, str]:
        """Every identity that was given, kind → value."""
        email = {"email": self.contact.email} if self.contact.email else {}
        return {**email, **self.contact.identities}

    def body_hash(self) -> str:
        """Return what tells another body under the same key.

        When it happened is left out: callers that retry often say "now" anew.
        """
        body = {
            "name": self.name,
            "contact": self.contact,
            "data": self.data,
            "points": self.points,
        }
        options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        return hashlib.sha256(orjson.dumps(body, option=options)).hexdigest()[:32]


@dataclass(slots=True)
class ActionResult:
    """What recording an action led to.

    Args:
        event_id: in the ledger; 0 when no event was written.
        repeated: the key was used before; this is the first result.
        differs: repeated, and with another body, which was not looked at.
        created: the contact is new.
        changed: names of the contact's fields that changed.
        points: the total afterwards; None when points were not touched.
        fired: keys of the triggers that fired.
        pushes: rows queued or joined.
        looked: per rule that matched the action: key, ran, why not.
    """

    event_id: int
    contact_id: int
    repeated: bool = False
    differs: bool = False
    created: bool = False
    changed: tuple[str, ...] = ()
    points: int | None = None
    fired: tuple[str, ...] = ()
    pushes: tuple[int, ...] = ()
    looked: tuple[tuple[str, bool, str], ...] = ()


@dataclass(slots=True)
class Recorded:
    """Everything one transaction did, to be announced after its commit.

    Args:
        changed: contact id → names of fields; new contacts are not in it.
        touched: contacts whose tags, segments or identities grew.
        merged: (survivor, loser).
        actions: (event id, contact id, name, data, when).
        points: (contact id, difference, total).
    """

    results: list[ActionResult]
    created: list[int] = field(default_factory=list[int])
    changed: dict[int, tuple[str, ...]] = field(
        default_factory=dict[int, tuple[str, ...]]
    )
    touched: set[int] = field(default_factory=set[int])
    merged: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    actions: list[tuple[int, int, str, Mapping[str, Any], datetime]] = field(
        default_factory=list[tuple[int, int, str, Mapping[str, Any], datetime]]
    )
    points: list[tuple[int, int, int]] = field(
        default_factory=list[tuple[int, int, int]]
    )
    fired: list[Fired] = field(default_factory=list[Fired])
    queued: dict[Wish, int] = field(default_factory=dict[Wish, int])


def read_action(one: Mapping[str, Any], fields: Mapping[str, ContactField]) -> Action:
    """Check the arguments of `Onward.record_action`, given as a mapping.

    Args:
        fields: the declared custom fields.

    Raises:
        InputError: they cannot be used; one sentence.
    """
    name = one.get("action")
    if not isinstance(name, str) or not name:
        raise InputError("an action needs a name, as form.submitted")
    if not _NAME.fullmatch(name):
        raise InputError(
            f'the action name "{name[:40]}" must be one word of at most 200 characters'
        )
    if name in OWN:
        raise InputError(
            f"the action {name} is recorded by Onward itself; give yours another name"
        )
    moment = one.get("occurred_at")
    if moment is not None and (not isinstance(moment, datetime) or not moment.tzinfo):
        raise InputError("occurred_at must be a moment with a time zone")
    person = _person(one)
    given = one.get("contact")
    if given:
        if not isinstance(given, Mapping):
            raise InputError("contact must be a mapping of contact fields")
        extra = contact_data({**given, "email": person.email}, fields, named=False)
        extra.identities = {**extra.identities, **person.identities}
        person = extra
    return Action(
        name,
        person,
        _data(one.get("data")),
        key=_key(one.get("key")),
        source=_source(one.get("source")),
        occurred_at=moment,
    )


def _person(one: Mapping[str, Any]) -> ContactData:
    email, others = one.get("email"), one.get("identities")
    if others or not isinstance(email, str) or not email:
        return who(str(email or ""), others)
    # As nearly all are. Spelled out: calling the five factories takes longer
    # than everything else here.
    return ContactData(clean_email(email), {}, {}, [], [], None, {}, "", "")


def read_points(
    points: object,
    person: ContactData,
    *,
    reason: str = "",
    key: str | None = None,
    source: str = "api",
    actor: str = "",
) -> Action:
    """Check the arguments of `Onward.add_points`.

    Raises:
        InputError: they cannot be used; one sentence.
    """
    if isinstance(points, bool) or not isinstance(points, int):
        raise InputError(f"points are a whole number, not {points!r}")
    if not points:
        raise InputError("points of 0 change nothing; give +N or -N")
    if abs(points) > MAX_POINTS:
        raise InputError(f"at most {MAX_POINTS} points can be given or taken at once")
    return Action(
        POINTS,
        person,
        {"points": points, "reason": clean_text(reason)},
        key=_key(key),
        source=_source(source),
        points=points,
        reason=clean_text(reason),
        actor=clean_text(actor),
    )


def _data(given: object) -> Mapping[str, Any]:
    """Return the data as rules, templates and the database will all see it."""
    if not given:
        return {}
    if not isinstance(given, Mapping):
        raise InputError("the data of an action must be a mapping (a JSON object)")
    values = dict(cast("Mapping[object, object]", given))
    try:
        text = orjson.dumps(values, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise InputError(f"the data of an action must be JSON: {error}") from None
    return cast("Mapping[str, Any]", orjson.loads(text))


def _key(given: object) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or not _KEY.fullmatch(given):
        raise InputError("a key must be text of 1 to 255 printable characters")
    return given


def _source(given: object) -> str:
    if not given:
        return "api"
    if not isinstance(given, str) or not _KEY.fullmatch(given):
        raise InputError("a source must be text of at most 255 printable characters")
    return given
