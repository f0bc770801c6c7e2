"""The lists resource.

Source:
    icontact-api.md 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import query, texts
from .bodies import (
    answered,
    bare,
    collection_answer,
    items,
    number_text,
    text_of,
    unknown_fields,
)
from .exchange import Answer, ItemRejectedError, RefusalError, allow
from .records import MailingList
from .wire import list_record

if TYPE_CHECKING:
    from .exchange import Call, JsonValue, Record
    from .query import Kind, Value

_KINDS: dict[str, Kind] = {
    "listId": "number",
    "name": "text",
    "publicname": "text",
    "description": "text",
}
_FIELDS = (
    "listId",
    "name",
    "publicname",
    "description",
    "emailOwnerOnChange",
    "welcomeOnManualAdd",
    "welcomeOnSignupAdd",
    "welcomeMessageId",
)


def collection(call: Call) -> Answer:
    """Answer `lists`."""
    allow(call, "GET", "POST")
    return _save(call) if call.method == "POST" else _search(call)


def member(call: Call, list_id: str) -> Answer:
    """Answer `lists/{id}`; a deleted list is a 500, unlike anything else."""
    allow(call, "GET", "POST", "PUT", "DELETE")
    one = call.folder.lists.get(list_id)
    if one is None:
        raise RefusalError(500, texts.no_result(list_id))
    if call.method == "DELETE":
        call.folder.delete_list(list_id)
        return Answer([])
    if call.method == "GET":
        return Answer({"list": list_record(one, call.switches, written=False)})
    body = bare(call)
    if call.method == "PUT" or "name" in body:
        _require_name(body)
    if call.method == "PUT":
        # Tested: omitted flags become 0, also the one that is 1 by default.
        blank = MailingList(list_id, one.name, email_owner_on_change=0)
        one = call.folder.lists[list_id] = blank
    _assign(one, body)
    record = list_record(one, call.switches, written=True)
    return answered(call, "list", record, unknown_fields(body, _FIELDS))


def _search(call: Call) -> Answer:
    search = query.parse(call.query, _KINDS, call.switches)
    rows = call.folder.lists.values()
    found = query.narrow(rows, search, _KINDS, _value_of, call.switches)
    return Answer(
        query.paged(
            search,
            "lists",
            found,
            lambda one: list_record(one, call.switches, written=False),
        )
    )


def _value_of(one: MailingList, name: str) -> Value:
    match name:
        case "listId":
            return int(one.list_id)
        case "publicname":
            return one.publicname
        case "description":
            return one.description
        case _:
            return one.name


def _save(call: Call) -> Answer:
    records: list[Record] = []
    warnings: list[str] = []
    for item in items(call, "list"):
        try:
            one = _store(call, item)
        except ItemRejectedError as rejected:
            warnings.append(str(rejected))
        else:
            warnings.extend(unknown_fields(item, _FIELDS))
            records.append(list_record(one, call.switches, written=True))
    return collection_answer(call, "lists", records, warnings, "listId")


def _store(call: Call, item: Record) -> MailingList:
    if list_id := number_text(item.get("listId")):
        known = call.folder.lists.get(list_id)
        if known is None:
            raise ItemRejectedError(texts.no_result(list_id))
        _assign(known, item)
        return known
    name = text_of(item.get("name")) or ""
    if not name:
        # Recorded with a final full stop here, without one for contacts (4.4).
        raise ItemRejectedError(texts.missing_field("name"))
    one = call.folder.add_list(name)
    _assign(one, item)
    return one


def _require_name(body: Record) -> None:
    if not text_of(body.get("name")):
        raise RefusalError(400, texts.missing_field("name"))


def _assign(one: MailingList, body: Record) -> None:
    one.name = _text(body, "name", one.name)
    one.publicname = _text(body, "publicname", one.publicname)
    one.description = _text(body, "description", one.description)
    one.welcome_message_id = _text(body, "welcomeMessageId", one.welcome_message_id)
    one.email_owner_on_change = _flag(
        body.get("emailOwnerOnChange"), one.email_owner_on_change
    )
    one.welcome_on_manual_add = _flag(
        body.get("welcomeOnManualAdd"), one.welcome_on_manual_add
    )
    one.welcome_on_signup_add = _flag(
        body.get("welcomeOnSignupAdd"), one.welcome_on_signup_add
    )


def _text(body: Record, name: str, present: str) -> str:
    return (text_of(body[name]) or "") if name in body else present


def _flag(value: JsonValue, present: int) -> int:
    return present if value is None else int(str(value) in ("1", "True"))
