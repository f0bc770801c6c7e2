"""Reading one contact from a body, and what is wrong with it.

Source:
    icontact-api.md 6.1, 6.2, 21.18 and 23.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from . import texts
from .bodies import number_text, text_of
from .exchange import ItemRejectedError, RefusalError
from .records import STANDARD_FIELDS

if TYPE_CHECKING:
    from .exchange import Call, Record
    from .records import Contact, CustomField

_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>.]+(\.[^@\s,;<>.]+)+")
_STATE_LENGTH = 10
_WRITABLE = ("normal", "donotcontact")
_LOCKED = frozenset({"donotcontact", "pending", "invitable"})


@dataclass(slots=True)
class ContactInput:
    """What a body says about a contact; '' where it says nothing."""

    email: str = ""
    contact_id: str = ""
    status: str = ""
    values: dict[str, str] = field(default_factory=dict[str, str])
    warnings: list[str] = field(default_factory=list[str])


def email_of(item: Record) -> str:
    """Return the address of a body, '' when it has none."""
    return text_of(item.get("email")) or ""


def read(call: Call, item: Record, contact: Contact | None) -> ContactInput:
    """Return what an item says about a contact that exists, or not yet.

    Raises:
        RefusalError: 400, where a switch lets one value refuse the whole call.
        ItemRejectedError: where it makes this item a warning.
    """
    given = ContactInput(contact_id=number_text(item.get("contactId")))
    custom = call.folder.custom_fields
    for name, value in item.items():
        if name in ("contactId", "email", "status"):
            continue
        text = text_of(value)
        # createDate and bounceCount are receive-only; that sending them earns this
        # warning is inferred, and so is it for an array or an object as a value.
        if (name not in STANDARD_FIELDS and name not in custom) or text is None:
            given.warnings.append(texts.invalid_field(name))
        elif name in custom and not _fits(call, custom[name], text):
            given.warnings.append(texts.bad_value(name))
        else:
            given.values[name] = _cut(call, name, text)
    given.email = _email(call, email_of(item), contact)
    given.status = _status(call, text_of(item.get("status")) or "", contact)
    return given


def _refuse(how: Literal["error400", "warning"], text: str) -> None:
    if how == "error400":
        raise RefusalError(400, text)
    raise ItemRejectedError(text)


def _cut(call: Call, name: str, text: str) -> str:
    if name == "state" and len(text) > _STATE_LENGTH:
        if call.switches.state_too_long != "truncate":
            _refuse(call.switches.state_too_long, texts.STATE_TOO_LONG)
        return text[:_STATE_LENGTH]
    longest = call.switches.max_length
    return text[:longest] if longest else text


def _email(call: Call, email: str, contact: Contact | None) -> str:
    if not email:
        return ""
    if _EMAIL.fullmatch(email) is None:
        _refuse(call.switches.invalid_email, texts.bad_email(email))
    owner = call.folder.find(email)
    if owner is None or contact is None or owner is contact:
        return email
    if call.switches.email_clash == "silent_ignore":
        return ""
    _refuse(call.switches.email_clash, texts.EMAIL_TAKEN)
    return ""


def _status(call: Call, status: str, contact: Contact | None) -> str:
    if not status or (contact is not None and status == contact.status):
        return ""
    if status not in _WRITABLE:
        if call.switches.unwritable_status != "silent":
            _refuse(call.switches.unwritable_status, texts.BAD_STATUS)
        return ""
    is_locked = contact is not None and contact.status in _LOCKED
    if is_locked and call.switches.locked_status == "error400":
        raise RefusalError(400, texts.STATUS_LOCKED)
    return status


def _fits(call: Call, custom: CustomField, text: str) -> bool:
    if call.switches.custom_values == "any" or text == "":
        return True
    match custom.field_type:
        case "number":
            return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
        case "date":
            return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None
        case "checkbox":
            return text in ("0", "1")
        case _:
            return True
