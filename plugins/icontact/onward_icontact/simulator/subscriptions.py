"""The subscriptions resource: who is on which list.

Source:
    icontact-api.md 7.
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
from .records import SUBSCRIPTION_STATUSES, Subscription
from .wire import subscription_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .exchange import Call, Record
    from .query import Kind, Search, Value
    from .switches import Switches

_KINDS: dict[str, Kind] = {
    "subscriptionId": "text",
    "listId": "number",
    "contactId": "number",
    "status": "text",
    "addDate": "moment",
}


def collection(call: Call) -> Answer:
    """Answer `subscriptions`."""
    allow(call, "GET", "POST")
    return _create(call) if call.method == "POST" else _search(call)


def member(call: Call, subscription_id: str) -> Answer:
    """Answer `subscriptions/{listId}_{contactId}`; DELETE is not supported."""
    allow(call, "GET", "POST", "PUT")
    row = call.folder.subscriptions.get(subscription_id)
    if row is None:
        raise RefusalError(404, texts.NOT_FOUND)
    if call.method == "POST":
        return _change(call, row)
    if call.method == "PUT":
        return _move(call, row)
    return Answer({"subscription": subscription_record(row, call.switches)})


def _search(call: Call) -> Answer:
    search = query.parse(call.query, _KINDS, call.switches)
    _drop_terms(call.switches, search)
    rows = _candidates(call, search)
    found = query.narrow(rows, search, _KINDS, _value_of, call.switches)
    return Answer(
        query.paged(
            search,
            "subscriptions",
            found,
            lambda row: subscription_record(row, call.switches),
        )
    )


def _drop_terms(switches: Switches, search: Search) -> None:
    """Drop the terms this service does not know."""
    if switches.subscriptions_filter == "no_status":
        search.terms.pop("status", None)
    elif switches.subscriptions_filter == "no_list":
        search.terms.pop("listId", None)
    if "contactId" in search.terms:
        match switches.subscriptions_by_contact:
            case "warning":
                del search.terms["contactId"]
                search.unknown.append("contactId")
            case "dropped":
                del search.terms["contactId"]
            case "no_rows":
                search.terms["contactId"] = query.Term("contactId", ())
            case _:
                pass


def _candidates(call: Call, search: Search) -> Iterable[Subscription]:
    """Return the rows an index leaves; lists of 100,000 people must page fast."""
    folder, terms = call.folder, search.terms
    rows: Iterable[Subscription] = folder.subscriptions.values()
    # People are on few lists and lists hold many people: look by contact first.
    if "contactId" in terms and (ids := terms["contactId"].exact_values) is not None:
        del terms["contactId"]
        rows = [row for one in ids for row in folder.rows_of_contact(one).values()]
    elif "listId" in terms and (ids := terms["listId"].exact_values) is not None:
        del terms["listId"]
        rows = [row for one in ids for row in folder.rows_of_list(one).values()]
    if "status" in terms and (wanted := terms["status"].exact_values) is not None:
        del terms["status"]
        rows = [row for row in rows if row.status in wanted]
    if search.order == [("contactId", False)]:
        search.order = []
        rows = sorted(rows, key=lambda row: int(row.contact_id))
    return rows


def _value_of(row: Subscription, name: str) -> Value:
    match name:
        case "listId":
            return int(row.list_id)
        case "contactId":
            return int(row.contact_id)
        case "addDate":
            return row.added
        case "status":
            return row.status
        case _:
            return row.subscription_id


def _create(call: Call) -> Answer:
    batch = items(call, "subscription")
    for index, item in enumerate(batch):
        # Before anything is stored, so that a refused call changes nothing.
        _refuse_for(call, index, item)
    records: list[Record] = []
    warnings: list[str] = []
    notices: list[str] = []
    for index, item in enumerate(batch):
        try:
            record = _store(call, index, item, notices)
        except ItemRejectedError as rejected:
            warnings.append(str(rejected))
        else:
            if record is not None:
                records.append(record)
    answer = collection_answer(
        call, "subscriptions", records, warnings, "subscriptionId"
    )
    if notices and isinstance(answer.payload, dict):
        answer.payload["notices"] = [*notices]
    return answer


def _refuse_for(call: Call, index: int, item: Record) -> None:
    """Raise what refuses the whole call because of one item."""
    switches, folder = call.switches, call.folder
    list_id = number_text(item.get("listId"))
    contact_id = number_text(item.get("contactId"))
    if not list_id or not contact_id or not item.get("status"):
        return
    if list_id not in folder.lists and switches.deleted_list_subscribe != "warning":
        _refuse_list(call, list_id)
    row = folder.membership(list_id, contact_id)
    status = item.get("status")
    if row is not None and row.status == status:
        if switches.duplicate_subscription == "error400":
            raise RefusalError(400, texts.already_subscribed(index))
    elif (
        status != "unsubscribed"
        and _opted_out(call, row, contact_id)
        and switches.opt_out_subscribe == "error400"
    ):
        raise RefusalError(400, texts.opted_out(index))


def _refuse_list(call: Call, list_id: str) -> None:
    if call.switches.deleted_list_subscribe == "error500":
        raise RefusalError(500, texts.no_result(list_id))
    raise RefusalError(404, texts.NOT_FOUND)


def _opted_out(call: Call, row: Subscription | None, contact_id: str) -> bool:
    contact = call.folder.contacts.get(contact_id)
    blocked = contact is not None and contact.status in ("donotcontact", "bounced")
    return blocked or (row is not None and row.status == "unsubscribed")


def _store(call: Call, index: int, item: Record, notices: list[str]) -> Record | None:
    folder, switches = call.folder, call.switches
    for name in ("contactId", "listId", "status"):
        if item.get(name) in (None, ""):
            raise ItemRejectedError(texts.subscription_field_missing(index, name))
    list_id = number_text(item["listId"])
    contact_id = number_text(item["contactId"])
    status = text_of(item["status"]) or ""
    if status not in SUBSCRIPTION_STATUSES:
        raise ItemRejectedError(texts.BAD_SUBSCRIPTION_STATUS)
    contact = folder.contacts.get(contact_id)
    if contact is None or contact.status == "deleted":
        raise ItemRejectedError(texts.no_such_contact(index))
    if list_id not in folder.lists:
        raise ItemRejectedError(texts.no_such_list(index))
    row = folder.membership(list_id, contact_id)
    if row is not None and row.status == status:
        match switches.duplicate_subscription:
            case "record":
                return subscription_record(row, switches)
            case "warning":
                raise ItemRejectedError(texts.already_subscribed(index))
            case "notices":
                notices.append(texts.already_subscribed(index))
            case _:
                pass
        return None
    if status != "unsubscribed" and _opted_out(call, row, contact_id):
        match switches.opt_out_subscribe:
            case "warning":
                raise ItemRejectedError(texts.opted_out(index))
            case "echo_unchanged":
                shown = row or Subscription(
                    list_id, contact_id, "unsubscribed", call.now
                )
                return subscription_record(shown, switches)
            case "resubscribes":
                pass
            case _:
                return None
    elif row is not None and row.status == "pending" and status == "normal":
        # Only the person can confirm; that the API may not is inferred (6.2).
        return subscription_record(row, switches)
    return _put(call, list_id, contact_id, status, item)


def _put(
    call: Call, list_id: str, contact_id: str, status: str, item: Record
) -> Record:
    row = call.folder.subscribe(list_id, contact_id, status, call.now)
    row.confirmation_message_id = number_text(item.get("confirmationMessageId"))
    _announce(call, row)
    return subscription_record(row, call.switches)


def _announce(call: Call, row: Subscription) -> None:
    names = {"normal": "contact_subscribed", "unsubscribed": "contact_unsubscribed"}
    details: Record = {"listId": row.list_id, "newStatus": row.status}
    call.folder.note_action(row.contact_id, "EditSubscription", details)
    if row.status in names:
        contact = call.folder.contacts[row.contact_id]
        call.announce(names[row.status], contact, call.folder.lists[row.list_id])


def _change(call: Call, row: Subscription) -> Answer:
    body = bare(call)
    warnings = unknown_fields(body, ("status", "confirmationMessageId"))
    status = text_of(body.get("status")) or row.status
    if status not in SUBSCRIPTION_STATUSES:
        raise RefusalError(400, texts.BAD_SUBSCRIPTION_STATUS)
    is_allowed = status == "unsubscribed" or not _opted_out(call, row, row.contact_id)
    if row.status == "pending" and status == "normal":
        is_allowed = False
    elif not is_allowed and status != row.status:
        match call.switches.opt_out_subscribe:
            case "error400":
                raise RefusalError(400, texts.opted_out(0))
            case "warning":
                warnings.append(texts.opted_out(0))
            case "resubscribes":
                is_allowed = True
            case _:
                pass
    if is_allowed and status != row.status:
        row.status = status
        _announce(call, row)
    record = subscription_record(row, call.switches)
    return answered(call, "subscription", record, warnings)


def _move(call: Call, row: Subscription) -> Answer:
    body = bare(call)
    warnings = unknown_fields(body, ("listId",))
    list_id = number_text(body.get("listId"))
    if not list_id:
        if "listId" in body or not warnings:
            raise RefusalError(400, texts.MOVE_NEEDS_LIST)
        record = subscription_record(row, call.switches)
        return answered(call, "subscription", record, warnings)
    if list_id not in call.folder.lists:
        _refuse_list(call, list_id)
    if list_id != row.list_id:
        if call.folder.membership(list_id, row.contact_id) is not None:
            raise RefusalError(400, texts.MOVE_TAKEN)
        call.folder.drop_subscription(row)
        row = call.folder.subscribe(list_id, row.contact_id, row.status, call.now)
        _announce(call, row)
    record = subscription_record(row, call.switches)
    return answered(call, "subscription", record, warnings)
