"""Rows of a service as a pull takes them: each contact once, in texts, comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import orjson

from onward.contacts.values import clean_email
from onward.contract import Membership, RemoteContact
from onward.errors import InputError, PluginError
from onward.plain import without_control


def each_once(records: Iterable[RemoteContact]) -> Collection[RemoteContact]:
    """Return one row for each remote contact; what cannot be an id is left out.

    Raises:
        PluginError: a field is no text.
    """
    # An id with a NUL in it is none, and no text for PostgreSQL.
    given = [one for one in records if one.remote_id and one.remote_id.isprintable()]
    try:
        # Nearly always all are texts: one look at all of a page.
        "".join(chain.from_iterable([one.fields.values() for one in given]))
    except TypeError:
        given = list(map(_readable, given))
    latest = {one.remote_id: one for one in given}
    if len(latest) == len(given):
        return given
    latest.clear()
    for one in given:
        before = latest.get(one.remote_id)
        latest[one.remote_id] = one if before is None else _united(before, one)
    return latest.values()


def is_person(record: RemoteContact) -> bool:
    """Tell whether a row shows a contact, and not memberships alone."""
    return bool(record.email or record.status or record.fields)


def fingerprint(record: RemoteContact, version: str) -> str:
    """Return what tells a row from the same one shown otherwise.

    Args:
        version: of the map: another one looks at the row anew.
    """
    fields = record.fields
    shown = fields if isinstance(fields, dict) else {**fields}
    plain = (record.email, record.status, shown, version)
    return hashlib.blake2b(orjson.dumps(plain), digest_size=9).hexdigest()


def _readable(record: RemoteContact) -> RemoteContact:
    """Return a row with texts alone: null is what JSON says of blank fields.

    Raises:
        PluginError: a value is neither.
    """
    given: Any = record.fields
    for name, value in given.items():
        if not isinstance(value, str) and value is not None:
            raise PluginError(
                f"pull() must yield fields as texts: {name} of {record.remote_id} "
                f"is {type(value).__name__}"
            )
    return replace(record, fields={name: given[name] or "" for name in given})


def _united(before: RemoteContact, one: RemoteContact) -> RemoteContact:
    """Return two rows of one remote contact as one; the later counts for the person.

    Pages may show a row for each membership, or people and memberships together.
    """
    segments: dict[str, Membership] = {**before.segments, **one.segments}
    for name, membership in before.segments.items():
        if membership == "unsubscribed":
            segments[name] = membership
    return replace(one if is_person(one) else before, segments=segments)


def address_of(record: RemoteContact) -> str:
    """Return the address of a row as ours are written, "" when it is none."""
    email = record.email
    if not email:
        return ""
    try:
        is_plain = email.isascii() and email.isprintable()
        return clean_email(email if is_plain else without_control(email))
    except InputError:
        return ""
