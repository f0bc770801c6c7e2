"""What a contact is now, ready for maps, filters and listings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, select

from onward.among import ForEach
from onward.contacts.fields import TEXT_FIELDS
from onward.contacts.suppress import find_suppressions
from onward.models import (
    Contact,
    ContactSegment,
    ContactTag,
    Segment,
    table,
)

contacts = table(Contact)
tags = table(ContactTag)
memberships = table(ContactSegment)
segments = table(Segment)

CHUNK = 500  # stays below every database's limit of parameters

_TAGS = ForEach(
    lambda among: (
        select(tags.c.contact_id, tags.c.tag)
        .where(among(tags.c.contact_id, "ids"))
        .order_by(tags.c.contact_id, tags.c.tag)
    )
)
_SEGMENTS = ForEach(
    lambda among: (
        select(memberships.c.contact_id, segments.c.name)
        .join(segments, segments.c.id == memberships.c.segment_id)
        .where(among(memberships.c.contact_id, "ids"))
        .order_by(memberships.c.contact_id, segments.c.name)
    )
)
TEXT_NAMES = tuple(field.name for field in TEXT_FIELDS)

Facts = dict[str, Any]


# What every reader of facts relies on.
_ALWAYS = frozenset({"id", "email", "merged_into", "erased_at"})
_OF_STOPS = frozenset({"do_not_contact", "suppressions"})
_LISTS = frozenset({"tags", "segments", *_OF_STOPS})


@lru_cache(maxsize=64)
def _select(only: frozenset[str] | None) -> ForEach:
    columns = list(contacts.c)
    if only is not None:
        wanted = _ALWAYS | only
        if not only <= {*contacts.c.keys(), *_LISTS}:
            wanted |= {"custom"}
        columns = [column for column in columns if column.key in wanted]
    return ForEach(lambda among: select(*columns).where(among(contacts.c.id, "ids")))


def load_facts(
    connection: Connection,
    ids: Sequence[int],
    *,
    lists: bool = True,
    only: frozenset[str] | None = None,
) -> dict[int, Facts]:
    """Return contact id → its fields, custom fields beside the standard ones.

    Args:
        ids: of contacts; unknown ones are left out.
        lists: also read tags, segments, and what must not be sent to whom.
        only: the fields somebody will look at, lists too; None = all.

    Returns:
        Per contact `{"id", "email", "first_name", …, "points", "created_at",
        "merged_into", "erased_at", "tags", "segments", "do_not_contact",
        "suppressions"}` and each custom field under its own name.
    """
    found: dict[int, Facts] = {}
    for start in range(0, len(ids), CHUNK):
        part = list(ids[start : start + CHUNK])
        result = connection.execute(_select(only)(connection), {"ids": part})
        names = tuple(result.keys())
        for row in result:
            facts = dict(zip(names, row, strict=True))
            custom = facts.pop("custom", None)
            if custom:
                # Own names win: a custom field cannot pose as one of them.
                facts = {**custom, **facts}
            facts["tags"] = []
            facts["segments"] = []
            facts["do_not_contact"] = False
            facts["suppressions"] = []
            found[facts["id"]] = facts
        if lists:
            wanted = _LISTS if only is None else only & _LISTS
            _add_lists(connection, found, [i for i in part if i in found], wanted)
    return found


def _add_lists(
    connection: Connection,
    found: dict[int, Facts],
    ids: Sequence[int],
    wanted: frozenset[str],
) -> None:
    if "tags" in wanted:
        for row in connection.execute(_TAGS(connection), {"ids": ids}):
            found[row.contact_id]["tags"].append(row.tag)
    if "segments" in wanted:
        for row in connection.execute(_SEGMENTS(connection), {"ids": ids}):
            found[row.contact_id]["segments"].append(row.name)
    if wanted.isdisjoint(_OF_STOPS):
        return
    people = {contact_id: [found[contact_id]["email"] or ""] for contact_id in ids}
    for contact_id, stops in find_suppressions(connection, people).items():
        active = [stop for stop in stops if stop.lifted_at is None]
        found[contact_id] |= {
            "do_not_contact": any(stop.scope == "address" for stop in active),
            "suppressions": sorted({stop.code for stop in active}),
        }


def needs_lists(names: Iterable[str]) -> bool:
    """Tell whether any of these fields needs `lists=True`."""
    return not _LISTS.isdisjoint(names)
