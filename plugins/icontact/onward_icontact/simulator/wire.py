"""How records look on the wire: types, blanks, dates, field order.

Source:
    icontact-api.md 4.3 and 5.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from .records import STANDARD_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from .exchange import JsonValue, Record
    from .records import (
        Action,
        Contact,
        CustomField,
        MailingList,
        Segment,
        Subscription,
        Upload,
        Webhook,
    )
    from .switches import Switches

EASTERN = ZoneInfo("America/New_York")

_ROW_FIELDS = (
    "firstName",
    "lastName",
    "prefix",
    "suffix",
    "fax",
    "phone",
    "street",
    "street2",
    "city",
    "state",
    "postalCode",
)


def identifier(value: str, switches: Switches) -> JsonValue:
    """Return an id as text, or as a number where the switch says so."""
    if switches.id_type == "int" and value.isdigit():
        return int(value)
    return value


def wall_time(at: datetime) -> str:
    """Return US Eastern wall time without offset, as `createDate` is written."""
    return at.astimezone(EASTERN).strftime("%Y-%m-%d %H:%M:%S")


def iso_time(at: datetime) -> str:
    """Return US Eastern time with its offset, as `addDate` is written."""
    return at.astimezone(EASTERN).replace(microsecond=0).isoformat()


def action_record(one: Action) -> Record:
    """Return an action; `details` is an array when there are none."""
    at = one.at.astimezone(EASTERN).strftime("%Y-%m-%dT%H:%M:%S%z")
    return {
        "actionType": one.kind,
        "actionTime": at,
        "actor": one.actor,
        "details": dict(one.details) or [],
    }


def contact_record(
    contact: Contact, custom: Iterable[str], switches: Switches
) -> Record:
    """Return a contact as POST, PUT and member GET answer it: all fields, ''."""
    record: Record = {"contactId": identifier(contact.contact_id, switches)}
    for name in STANDARD_FIELDS:
        record[name] = contact.get(name)
    record["email"] = contact.email
    record["createDate"] = wall_time(contact.created)
    count = contact.bounce_count
    record["bounceCount"] = "" if count is None else count
    record["status"] = contact.status
    for name in custom:
        record[name] = contact.get(name)
    return record


def contact_row(contact: Contact, custom: Iterable[str], switches: Switches) -> Record:
    """Return a contact as a collection GET answers it: fewer fields, null."""
    row: Record = {"email": contact.email}
    for name in _ROW_FIELDS:
        row[name] = contact.get(name) or None
    row["createDate"] = wall_time(contact.created)
    row["status"] = contact.status
    row["bounceCount"] = contact.bounce_count
    row["contactId"] = identifier(contact.contact_id, switches)
    if switches.search_rows == "full":
        row["business"] = contact.get("business") or None
        for name in custom:
            row[name] = contact.get(name) or None
    return row


def list_record(one: MailingList, switches: Switches, *, written: bool) -> Record:
    """Return a list; flags are numbers after a write and text after a read."""

    def flag(value: int) -> JsonValue:
        return value if written else str(value)

    return {
        "listId": identifier(one.list_id, switches),
        "name": one.name,
        "publicname": one.publicname,
        "description": one.description,
        "emailOwnerOnChange": flag(one.email_owner_on_change),
        "welcomeOnManualAdd": flag(one.welcome_on_manual_add),
        "welcomeOnSignupAdd": flag(one.welcome_on_signup_add),
        "welcomeMessageId": one.welcome_message_id,
    }


def subscription_record(row: Subscription, switches: Switches) -> Record:
    """Return a subscription, the same for reads and writes."""
    record: Record = {
        "addDate": iso_time(row.added),
        "contactId": identifier(row.contact_id, switches),
        "listId": identifier(row.list_id, switches),
        "status": row.status,
        "subscriptionId": row.subscription_id,
    }
    if row.confirmation_message_id:
        record["confirmationMessageId"] = row.confirmation_message_id
    return record


def custom_field_record(one: CustomField, *, written: bool) -> Record:
    """Return a custom field; `displayToUser` is as sent after a write, else text."""
    shown = one.display_to_user
    return {
        "customFieldId": one.private_name,
        "privateName": one.private_name,
        "publicName": one.public_name,
        "fieldType": one.field_type,
        "displayToUser": shown if written else str(shown),
    }


def segment_record(one: Segment, switches: Switches) -> Record:
    """Return a segment."""
    return {
        "segmentId": identifier(one.segment_id, switches),
        "listId": identifier(one.list_id, switches),
        "name": one.name,
        "description": one.description,
    }


def webhook_record(one: Webhook, switches: Switches) -> Record:
    """Return a webhook."""
    return {
        "webhookId": identifier(one.webhook_id, switches),
        "eventId": one.event_id,
        "url": one.url,
    }


def upload_record(one: Upload, switches: Switches) -> Record:
    """Return an upload."""
    record: Record = {
        "uploadId": identifier(one.upload_id, switches),
        "action": one.action,
        "listIds": one.list_ids,
        "status": one.status,
    }
    if one.warnings:
        record["warnings"] = list(one.warnings)
    return record
