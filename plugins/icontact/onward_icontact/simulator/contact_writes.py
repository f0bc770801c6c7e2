"""Writing contacts: upsert of many, merge and replacement of one.

Source:
    icontact-api.md 4.4, 6.2 and 6.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import texts
from .bodies import answered, bare, collection_answer, items
from .contact_input import ContactInput, email_of, read
from .exchange import Answer, ItemRejectedError, RefusalError
from .wire import contact_record

if TYPE_CHECKING:
    from .exchange import Call, Record
    from .records import Contact

_LOCKED = frozenset({"donotcontact", "pending", "invitable"})


def upsert(call: Call) -> Answer:
    """Answer `POST contacts`: each item on its own, rejected ones as warnings."""
    batch = items(call, "contact")
    is_atomic = call.switches.batch_atomic == "yes"
    if is_atomic or call.switches.refused_batch == "nothing":
        rejected_texts = _refuse_all_or_none(call, batch)
        if rejected_texts and is_atomic:
            return answered(call, "contacts", None, rejected_texts)
    records: list[Record] = []
    warnings: list[str] = []
    for item in batch:
        try:
            contact = _store(call, item, warnings)
        except ItemRejectedError as rejected:
            warnings.append(str(rejected))
        else:
            records.append(_record(call, contact))
    if not records:
        # Recorded: `null` here, where lists and subscriptions have `[]` (19.1).
        return answered(call, "contacts", None, warnings)
    return collection_answer(call, "contacts", records, warnings)


def merge(call: Call, contact: Contact) -> Answer:
    """Answer `POST contacts/{id}`: only the given fields change."""
    return _write_member(call, contact, blanks_the_rest=False)


def replace(call: Call, contact: Contact) -> Answer:
    """Answer `PUT contacts/{id}`: what is left out becomes blank."""
    return _write_member(call, contact, blanks_the_rest=True)


def _write_member(call: Call, contact: Contact, *, blanks_the_rest: bool) -> Answer:
    body = bare(call)
    if contact.status == "deleted":
        if call.switches.deleted_member_post == "error404":
            raise RefusalError(404, texts.NOT_FOUND)
        if call.switches.deleted_member_post == "stays_deleted":
            return answered(call, "contact", _record(call, contact), [])
    if email_of(body) == "" and ("email" in body or blanks_the_rest):
        # The text is recorded as a warning on a collection; 400 is inferred.
        raise RefusalError(400, texts.NO_EMAIL)
    try:
        given = read(call, body, contact)
        if given.contact_id not in ("", contact.contact_id):
            raise RefusalError(400, texts.ID_MISMATCH)
        warnings = [*given.warnings]
        is_revived = contact.status == "deleted"
        if is_revived:
            _revive(call, contact)
        _apply(call, contact, given, warnings, blanks_the_rest=blanks_the_rest)
    except ItemRejectedError as rejected:
        return answered(call, "contact", _record(call, contact), [str(rejected)])
    event = "contact_created" if is_revived else "contact_updated"
    call.announce(event, contact)
    return answered(call, "contact", _record(call, contact), warnings)


def _store(call: Call, item: Record, warnings: list[str]) -> Contact:
    given, contact = _matched(call, item)
    warnings.extend(given.warnings)
    if contact is None or contact.status == "deleted":
        _refuse_above(call, 1)
    is_new = contact is None or contact.status == "deleted"
    if contact is None:
        contact = call.folder.create_contact(given.email, call.now)
        call.folder.note_action(contact.contact_id, "AddContact", {})
    elif contact.status == "deleted":
        _revive(call, contact)
    elif call.switches.omitted_status == "reset" and given.status == "":
        contact.status = "normal"
    overwrites = call.switches.collection_post == "overwrite"
    _apply(call, contact, given, warnings, blanks_the_rest=overwrites)
    call.announce("contact_created" if is_new else "contact_updated", contact)
    return contact


def _matched(call: Call, item: Record) -> tuple[ContactInput, Contact | None]:
    """Read an item and find whom it is about: by contactId, else by email."""
    folder = call.folder
    if email_of(item) == "" and not item.get("contactId"):
        raise ItemRejectedError(texts.NO_EMAIL)
    contact = folder.find(email_of(item))
    if contact_id := str(item.get("contactId") or ""):
        contact = folder.contacts.get(contact_id)
        if contact is None:
            raise ItemRejectedError(texts.NOT_FOUND)
    return read(call, item, contact), contact


def _refuse_all_or_none(call: Call, batch: list[Record]) -> list[str]:
    """Raise what refuses the whole call before anything of it is stored.

    Returns:
        The texts of the items that will be rejected one by one.
    """
    new: set[str] = set()
    rejected_texts: list[str] = []
    for item in batch:
        try:
            given, contact = _matched(call, item)
        except ItemRejectedError as rejected:
            rejected_texts.append(str(rejected))
            continue
        if contact is None or contact.status == "deleted":
            new.add(given.email.lower())
    _refuse_above(call, len(new))
    return rejected_texts


def _refuse_above(call: Call, new: int) -> None:
    limit = call.switches.subscriber_limit
    if limit and new and call.folder.counts()["contacts"] + new > limit:
        raise RefusalError(402, texts.FULL)


def _revive(call: Call, contact: Contact) -> None:
    contact.status = "normal"
    contact.bounce_count = None
    if call.switches.revive_create_date == "new":
        contact.created = call.now


def _apply(
    call: Call,
    contact: Contact,
    given: ContactInput,
    warnings: list[str],
    *,
    blanks_the_rest: bool,
) -> None:
    before, old_email, old_status = dict(contact.values), contact.email, contact.status
    if blanks_the_rest:
        contact.values.clear()
    for name, value in given.values.items():
        if value:
            contact.values[name] = value
        else:
            contact.values.pop(name, None)
    if given.email and given.email != contact.email:
        call.folder.change_email(contact, given.email)
    if given.status and given.status != contact.status:
        if contact.status not in _LOCKED:
            contact.status = given.status
        elif call.switches.locked_status == "warning":
            warnings.append(texts.STATUS_LOCKED)
    changed: Record = {
        name: contact.get(name)
        for name in {**before, **contact.values}
        if before.get(name, "") != contact.get(name)
    }
    if contact.email != old_email:
        changed["email"] = contact.email
    if changed:
        call.folder.note_action(contact.contact_id, "EditFields", changed)
    if contact.status != old_status:
        # What the details of this one look like is not known.
        status: Record = {"newStatus": contact.status}
        call.folder.note_action(contact.contact_id, "EditStatus", status)


def _record(call: Call, contact: Contact) -> Record:
    return contact_record(contact, call.folder.custom_fields, call.switches)
