"""The contacts resource: which call does what.

Source:
    icontact-api.md 6.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import texts
from .contact_search import search_contacts
from .contact_writes import merge, replace, upsert
from .exchange import Answer, RefusalError, allow
from .wire import contact_record

if TYPE_CHECKING:
    from .exchange import Call


def collection(call: Call) -> Answer:
    """Answer `contacts`."""
    allow(call, "GET", "POST")
    return upsert(call) if call.method == "POST" else search_contacts(call)


def member(call: Call, contact_id: str) -> Answer:
    """Answer `contacts/{id}`; a deleted contact is still there to be read."""
    allow(call, "GET", "POST", "PUT", "DELETE")
    contact = call.folder.contacts.get(contact_id)
    if contact is None:
        if call.switches.missing_contact == "500":
            raise RefusalError(500, texts.no_result(contact_id))
        raise RefusalError(404, texts.NOT_FOUND)
    if call.method == "POST":
        return merge(call, contact)
    if call.method == "PUT":
        return replace(call, contact)
    if call.method == "DELETE":
        call.folder.delete_contact(contact)
        return Answer([])
    record = contact_record(contact, call.folder.custom_fields, call.switches)
    if call.switches.member_blank == "null":
        record = {
            name: None if value == "" else value for name, value in record.items()
        }
    return Answer({"contact": record})
