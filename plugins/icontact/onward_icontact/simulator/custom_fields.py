"""The customfields resource.

Source:
    icontact-api.md 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import query, texts
from .bodies import answered, bare, collection_answer, items, text_of, unknown_fields
from .exchange import Answer, ItemRejectedError, RefusalError, allow
from .records import CustomField
from .wire import custom_field_record

if TYPE_CHECKING:
    from .exchange import Call, Record
    from .query import Kind, Value

_KINDS: dict[str, Kind] = {
    "customFieldId": "text",
    "privateName": "text",
    "publicName": "text",
    "fieldType": "text",
    "displayToUser": "text",
}
_REQUIRED = ("privateName", "displayToUser", "fieldType")
_FORBIDDEN = frozenset(" \"'/\\[]")


def collection(call: Call) -> Answer:
    """Answer `customfields`; a POST only creates."""
    allow(call, "GET", "POST")
    return _create(call) if call.method == "POST" else _search(call)


def member(call: Call, name: str) -> Answer:
    """Answer `customfields/{privateName}`."""
    allow(call, "GET", "POST", "PUT", "DELETE")
    one = call.folder.custom_fields.get(name)
    if one is None:
        raise RefusalError(404, texts.NOT_FOUND)
    if call.method == "GET":
        return Answer({"customfield": custom_field_record(one, written=False)})
    if call.method == "DELETE":
        _rename_values(call, name, None)
        del call.folder.custom_fields[name]
        return Answer([])
    body = bare(call)
    if call.method == "PUT":
        if missing := _missing(body):
            raise RefusalError(400, texts.missing_field(missing))
        one.public_name = ""
    new_name = _named(call, text_of(body.get("privateName")) or name)
    if new_name != name:
        _rename(call, one, new_name)
    _assign(one, body)
    record = custom_field_record(one, written=True)
    return answered(call, "customfield", record, unknown_fields(body, _KINDS))


def _search(call: Call) -> Answer:
    search = query.parse(call.query, _KINDS, call.switches)
    rows = call.folder.custom_fields.values()
    found = query.narrow(rows, search, _KINDS, _value_of, call.switches)
    # Only `total` here, no `limit` and no `offset`, though the page is 20 as ever.
    return Answer(
        query.paged(
            search,
            "customfields",
            found,
            lambda one: custom_field_record(one, written=False),
            ("total",),
        )
    )


def _value_of(one: CustomField, name: str) -> Value:
    match name:
        case "publicName":
            return one.public_name
        case "fieldType":
            return one.field_type
        case "displayToUser":
            return str(one.display_to_user)
        case _:
            return one.private_name


def _create(call: Call) -> Answer:
    records: list[Record] = []
    warnings: list[str] = []
    for item in items(call, "customfield"):
        try:
            one = _store(call, item)
        except ItemRejectedError as rejected:
            warnings.append(str(rejected))
        else:
            warnings.extend(unknown_fields(item, _KINDS))
            records.append(custom_field_record(one, written=True))
    return collection_answer(call, "customfields", records, warnings, "customFieldId")


def _store(call: Call, item: Record) -> CustomField:
    if missing := _missing(item):
        raise ItemRejectedError(texts.missing_field(missing))
    given = text_of(item["privateName"]) or ""
    if _FORBIDDEN & set(given):
        raise ItemRejectedError(texts.bad_field_name(given))
    name = _named(call, given)
    if name in call.folder.custom_fields:
        raise ItemRejectedError(texts.field_exists(name))
    one = call.folder.add_custom_field(name)
    _assign(one, item)
    return one


def _missing(item: Record) -> str:
    return next((name for name in _REQUIRED if item.get(name) in (None, "")), "")


def _named(call: Call, name: str) -> str:
    return name.lower() if call.switches.custom_field_case == "lower" else name


def _assign(one: CustomField, body: Record) -> None:
    if "publicName" in body:
        one.public_name = text_of(body["publicName"]) or ""
    if "fieldType" in body:
        one.field_type = text_of(body["fieldType"]) or "text"
    if "displayToUser" in body:
        one.display_to_user = body["displayToUser"]


def _rename(call: Call, one: CustomField, name: str) -> None:
    if _FORBIDDEN & set(name):
        raise RefusalError(400, texts.bad_field_name(name))
    if name in call.folder.custom_fields:
        raise RefusalError(400, texts.field_exists(name))
    _rename_values(call, one.private_name, name)
    del call.folder.custom_fields[one.private_name]
    one.private_name = name
    call.folder.custom_fields[name] = one


def _rename_values(call: Call, old: str, new: str | None) -> None:
    for contact in call.folder.contacts.values():
        value = contact.values.pop(old, None)
        if value is not None and new is not None:
            contact.values[new] = value
