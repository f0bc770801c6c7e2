"""Contacts as callers of the API describe them: checked, or refused whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.contacts.fields import STANDARD_FIELDS, ContactField
from onward.contacts.given import MAX_IDENTITY, MAX_POINTS, ContactData
from onward.contacts.headers import closest, is_kind
from onward.contacts.release import lock_contacts
from onward.contacts.values import clean_email, parse_value, shown, to_text
from onward.errors import InputError, Repeat
from onward.models import Identity, table
from onward.sql import Among

identities = table(Identity)

_BY_EMAIL = Among(
    select(identities.c.value, identities.c.contact_id).where(
        identities.c.kind == bindparam("kind"),
        identities.c.value.in_(bindparam("among", expanding=True)),
    )
)

LISTS = ("tags", "segments")
OTHERS = ("points", "custom", "identities", *LISTS)


def who(email: str, others: Mapping[str, str] | None) -> ContactData:
    """Return who is meant.

    Raises:
        InputError: nobody is named, or not in a way that can be used.
    """
    given: dict[str, str] = {}
    for kind, value in (others or {}).items():
        name = str(kind).strip().lower()
        if text := _text(f"identity {name}", value):
            given[name] = text
    typed = given.pop("email", "")
    address = clean_email(email) if email.strip() else ""
    if typed and address and clean_email(typed) != address:
        raise InputError(
            f"two addresses are given, {address} and {typed}; whose action is it?"
        )
    data = ContactData(
        email=address or (clean_email(typed) if typed else ""), identities=given
    )
    for kind, text in given.items():
        if not is_kind(kind):
            raise InputError(
                f'"{shown(kind)}" is no kind of identity; it is one word in lower '
                'case, as in {"visitor": "…"}'
            )
        _check_length(f"identity {kind}", text)
    if not data.email and not given:
        raise InputError(
            "nobody is named: give an e-mail address or another identity, "
            'as {"visitor": "…"}'
        )
    return data


def contact_data(
    contact: Mapping[str, Any],
    custom_fields: Mapping[str, ContactField],
    *,
    named: bool = True,
) -> ContactData:
    """Check a contact that was given as a mapping.

    Args:
        contact: see `Onward.upsert_contact`.
        custom_fields: declared ones.
        named: it must name who it is.

    Raises:
        InputError: a field is unknown, or a value does not fit it.
    """
    given = dict(contact)
    others = given.get("identities")
    if others is not None and not isinstance(others, Mapping):
        raise InputError('identities must be a mapping, as {"visitor": "…"}')
    email = str(given.pop("email", "") or "")
    if named or email or others:
        data = who(email, cast("Mapping[str, str] | None", others))
    else:
        data = ContactData()
    for name, value in given.items():
        if name in STANDARD_FIELDS:
            data.fields[name] = _text(name, value)
        elif name in LISTS:
            listed = data.tags if name == "tags" else data.segments
            listed += _words(name, value)
        elif name == "points":
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f'points are a whole number, not "{shown(value)}"')
            if abs(value) > MAX_POINTS:
                raise InputError(f"points are at most {MAX_POINTS:,}")
            data.points = value
        elif name == "custom":
            if not isinstance(value, Mapping):
                raise InputError("custom must be a mapping of custom fields")
            _take_custom(data, cast("Mapping[str, Any]", value), custom_fields)
        elif name in custom_fields:
            _take_custom(data, {name: value}, custom_fields)
        elif name != "identities":
            known = [*STANDARD_FIELDS, *OTHERS, *custom_fields]
            raise InputError(
                f'there is no contact field "{name}"; {_meant(name, known)}declare '
                "it under [contact_fields] in onward.toml, or leave it out"
            )
    return data


def _text(name: str, value: object) -> str:
    try:
        return to_text(value)
    except InputError as error:
        raise InputError(f"{name}: {error.message}") from None


def _meant(name: str, known: Iterable[str]) -> str:
    near = closest(name, known)
    return f"{near} Or " if near else ""


def _take_custom(
    data: ContactData, given: Mapping[str, Any], known: Mapping[str, ContactField]
) -> None:
    for name, value in given.items():
        field = known.get(name)
        if field is None:
            raise InputError(
                f'there is no custom field "{name}"; {_meant(name, known)}declare it '
                "under [contact_fields] in onward.toml"
            )
        blank = value is None or value == ""
        data.custom[name] = None if blank else parse_value(field, value)


def _words(name: str, value: object) -> list[str]:
    if value is None or isinstance(value, str):
        words = [_text(name, value)]
    elif isinstance(value, (list, tuple, set, frozenset)):
        words = [_text(name, word) for word in cast("Iterable[object]", value)]
    else:
        raise InputError(f"{name} must be a list of words")
    for word in words:
        _check_length(name, word)
    return [word for word in words if word]


def _check_length(name: str, text: str) -> None:
    # Longer ones do not fit into an index of PostgreSQL.
    if len(text) > MAX_IDENTITY:
        raise InputError(
            f'{name}: "{shown(text)}" is longer than {MAX_IDENTITY} characters'
        )


def _by_email(transaction: Transaction, emails: Sequence[str]) -> dict[str, int]:
    return dict(_BY_EMAIL(transaction, emails, "email"))


def find_contacts(
    transaction: Transaction,
    emails: Sequence[str],
    *,
    missing_ok: bool = False,
    hold: bool = False,
) -> dict[str, int]:
    """Return address → contact id.

    Args:
        hold: nobody else merges or erases them until the transaction ends.

    Raises:
        InputError: an address is nobody's.
        Repeat: they were merged while they were waited for.
    """
    found = _by_email(transaction, emails)
    if hold:
        lock_contacts(transaction, set(found.values()))
        if _by_email(transaction, emails) != found:
            raise Repeat
    missing = [email for email in emails if email not in found]
    if missing and not missing_ok:
        raise InputError(
            f"there is no contact with the address {missing[0]}; "
            "import it, or fire an action with it"
        )
    return found
