"""Webhook registrations, segments and uploads: what a contact plugin may touch.

Source:
    icontact-api.md 10, 11 and 12.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from . import query, texts
from .bodies import answered, bare, collection_answer, items, number_text, text_of
from .exchange import Answer, RefusalError, allow
from .records import Segment, Upload, Webhook
from .wire import segment_record, upload_record, webhook_record

if TYPE_CHECKING:
    from .exchange import Call, Record
    from .folder import Folder

EVENTS = (
    "contact_created",
    "contact_updated",
    "contact_subscribed",
    "contact_unsubscribed",
)

# The states between `receiving` and `complete` are in no source; one is invented.
_NEXT_STATE = {"received": "processing", "processing": "complete"}
_COLUMNS = {"fname": "firstName", "lname": "lastName"}


def webhooks(call: Call) -> Answer:
    """Answer `webhooks`."""
    allow(call, "GET", "POST")
    hooks = call.folder.webhooks
    if call.method == "GET":
        rows = [webhook_record(one, call.switches) for one in hooks.values()]
        return _page(call, "webhooks", rows)
    records: list[Record] = []
    warnings: list[str] = []
    for item in items(call, "webhook"):
        event, url = text_of(item.get("eventId")), text_of(item.get("url"))
        if event not in EVENTS:
            warnings.append(texts.missing_field("eventId"))
        elif not url:
            warnings.append(texts.missing_field("url"))
        else:
            one = Webhook(call.folder.new_id("webhook"), event, url)
            hooks[one.webhook_id] = one
            records.append(webhook_record(one, call.switches))
    return collection_answer(call, "webhooks", records, warnings)


def webhook(call: Call, webhook_id: str) -> Answer:
    """Answer `webhooks/{id}`; there is no update."""
    allow(call, "GET", "DELETE")
    one = call.folder.webhooks.get(webhook_id)
    if one is None:
        raise RefusalError(404, texts.NOT_FOUND)
    if call.method == "DELETE":
        del call.folder.webhooks[webhook_id]
        return Answer([])
    return Answer({"webhook": webhook_record(one, call.switches)})


def segments(call: Call) -> Answer:
    """Answer `segments`; their criteria are not simulated."""
    allow(call, "GET", "POST")
    if call.method == "GET":
        known = call.folder.segments.values()
        return _page(
            call, "segments", [segment_record(one, call.switches) for one in known]
        )
    records: list[Record] = []
    warnings: list[str] = []
    for item in items(call, "segment"):
        name, list_id = text_of(item.get("name")), number_text(item.get("listId"))
        if not name:
            warnings.append(texts.missing_field("name"))
        elif list_id not in call.folder.lists:
            warnings.append(texts.missing_field("listId"))
        else:
            note = text_of(item.get("description")) or ""
            one = Segment(call.folder.new_id("segment"), list_id, name, note)
            call.folder.segments[one.segment_id] = one
            records.append(segment_record(one, call.switches))
    return collection_answer(call, "segments", records, warnings, "segmentId")


def segment(call: Call, segment_id: str) -> Answer:
    """Answer `segments/{id}`; PUT is not supported."""
    allow(call, "GET", "POST", "DELETE")
    one = call.folder.segments.get(segment_id)
    if one is None:
        raise RefusalError(404, texts.NOT_FOUND)
    if call.method == "DELETE":
        del call.folder.segments[segment_id]
        return Answer([])
    warnings: list[str] = []
    if call.method == "POST":
        for name, value in bare(call).items():
            if name == "name":
                one.name = text_of(value) or one.name
            elif name == "description":
                one.description = text_of(value) or ""
            else:
                warnings.append(texts.invalid_field(name))
    record = segment_record(one, call.switches)
    return answered(call, "segment", record, warnings)


def uploads(call: Call) -> Answer:
    """Answer `uploads`."""
    allow(call, "GET", "POST")
    known = call.folder.uploads
    if call.method == "GET":
        rows = [upload_record(one, call.switches) for one in known.values()]
        return _page(call, "uploads", rows)
    records: list[Record] = []
    warnings: list[str] = []
    for item in items(call, "upload"):
        lists = text_of(item.get("listIds")) or ""
        if text_of(item.get("action")) != "add":
            # Only `add` is known; the value for updating is not in any source.
            warnings.append(texts.missing_field("action"))
        elif set(filter(None, lists.split(","))) - set(call.folder.lists):
            warnings.append(texts.missing_field("listIds"))
        else:
            one = Upload(call.folder.new_id("upload"), "add", lists)
            known[one.upload_id] = one
            records.append(upload_record(one, call.switches))
    return collection_answer(call, "uploads", records, warnings)


def upload(call: Call, upload_id: str) -> Answer:
    """Answer `uploads/{id}`; each read shows the next state."""
    allow(call, "GET", "DELETE")
    one = _upload(call, upload_id)
    if call.method == "DELETE":
        del call.folder.uploads[upload_id]
        return Answer([])
    one.status = _NEXT_STATE.get(one.status, one.status)
    return Answer({"upload": upload_record(one, call.switches)})


def upload_data(call: Call, upload_id: str) -> Answer:
    """Answer `uploads/{id}/data`: the file itself, CSV with `[email]` columns."""
    allow(call, "PUT")
    one = _upload(call, upload_id)
    try:
        rows = list(csv.reader(io.StringIO(call.body.decode("utf-8"))))
    except UnicodeDecodeError:
        raise RefusalError(400, texts.MALFORMED) from None
    header = [cell.strip().strip("[]") for cell in rows[0]] if rows else []
    if "email" not in header:
        raise RefusalError(400, texts.MALFORMED)
    for row in rows[1:]:
        fields = {
            _COLUMNS.get(name, name): cell
            for name, cell in zip(header, row, strict=False)
        }
        _import(call.folder, one, fields.pop("email", ""), fields)
    one.status = "received"
    return Answer({"uploadId": upload_record(one, call.switches)["uploadId"]})


def _upload(call: Call, upload_id: str) -> Upload:
    one = call.folder.uploads.get(upload_id)
    if one is None:
        raise RefusalError(404, texts.NOT_FOUND)
    return one


def _import(folder: Folder, one: Upload, email: str, fields: dict[str, str]) -> None:
    if "@" not in email:
        one.warnings.append(texts.bad_email(email))
        return
    contact = folder.find(email)
    if contact is None:
        contact = folder.add_contact(email)
        contact.values.update({name: text for name, text in fields.items() if text})
    # `add` leaves known contacts as they are, and opted-out ones off the lists.
    for list_id in filter(None, one.list_ids.split(",")):
        if folder.membership(list_id, contact.contact_id) is None:
            folder.subscribe(list_id, contact.contact_id, "normal")


def _page(call: Call, plural: str, rows: list[Record]) -> Answer:
    search = query.parse(call.query, {}, call.switches)
    answer = query.paged(search, plural, rows, lambda row: row)
    return Answer(answer)
