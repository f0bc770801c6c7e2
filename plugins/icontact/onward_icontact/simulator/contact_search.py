"""Finding contacts: who belongs to the population, who matches, which page.

Source:
    icontact-api.md 5.3 to 5.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import query
from .exchange import Answer
from .records import CONTACT_STATUSES
from .wire import contact_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .exchange import Call
    from .folder import Folder
    from .query import Kind, Search, Term, Value
    from .records import Contact, Subscription
    from .switches import Switches

_KINDS: dict[str, Kind] = {
    "contactId": "number",
    "email": "text",
    "prefix": "text",
    "firstName": "text",
    "lastName": "text",
    "suffix": "text",
    "street": "text",
    "street2": "text",
    "city": "text",
    "state": "text",
    "postalCode": "text",
    "phone": "text",
    "fax": "text",
    "business": "text",
    "bounceCount": "number",
    "createDate": "moment",
    "status": "text",
    "listId": "number",
}
"""The terms a search may have; custom fields cannot be searched (5.3)."""


def search_contacts(call: Call) -> Answer:
    """Answer `GET contacts`."""
    folder, switches = call.folder, call.switches
    search = query.parse(call.query, _KINDS, switches)
    pool = _candidates(folder, search)
    status = search.terms.pop("status", None)
    lists = search.terms.pop("listId", None)
    if lists is not None:
        pool = [one for one in pool if _is_on(folder, one, lists, switches)]
    pool = _population(folder, pool, status, lists, switches)
    if search.order == [("contactId", False)]:
        # Ids are handed out in rising order, so the pool is sorted already.
        search.order = []
    found = query.narrow(pool, search, _KINDS, _value_of, switches)
    shown = found
    if not _shows_deleted(status, switches):
        shown = [one for one in found if one.status != "deleted"]
    custom = folder.custom_fields
    answer = query.paged(
        search, "contacts", shown, lambda one: contact_row(one, custom, switches)
    )
    if switches.stale_total == "yes":
        answer["total"] = len(found)
    return Answer(answer)


def _candidates(folder: Folder, search: Search) -> Iterable[Contact]:
    """Return the contacts an index leaves to look at, by rising id.

    Looking up 100 addresses must not cost a walk through 100,000 contacts.
    """
    terms = search.terms
    if "contactId" in terms and (ids := terms["contactId"].exact_values) is not None:
        del terms["contactId"]
        found = {one: folder.contacts[one] for one in ids if one in folder.contacts}
    elif "email" in terms and (emails := terms["email"].exact_values) is not None:
        known = [one for email in emails if (one := folder.find(email)) is not None]
        del terms["email"]
        found = {one.contact_id: one for one in known}
    elif "listId" in terms:
        found = {
            contact_id: folder.contacts[contact_id]
            for list_id in terms["listId"].values
            for contact_id in folder.rows_of_list(list_id)
        }
    else:
        return folder.contacts.values()
    return [found[one] for one in sorted(found, key=int)]


def _counts_as_listed(row: Subscription, switches: Switches) -> bool:
    return switches.listed_means == "any" or row.status != "unsubscribed"


def _is_listed(folder: Folder, contact: Contact, switches: Switches) -> bool:
    rows = folder.rows_of_contact(contact.contact_id).values()
    return any(_counts_as_listed(row, switches) for row in rows)


def _is_on(folder: Folder, contact: Contact, lists: Term, switches: Switches) -> bool:
    rows = folder.rows_of_contact(contact.contact_id)
    return any(
        list_id in rows and _counts_as_listed(rows[list_id], switches)
        for list_id in lists.values
    )


def _population(
    folder: Folder,
    pool: Iterable[Contact],
    status: Term | None,
    lists: Term | None,
    switches: Switches,
) -> Iterable[Contact]:
    if status is None:
        if switches.population == "all" or lists is not None:
            return pool
        return [one for one in pool if _is_listed(folder, one, switches)]
    if status.values == ("total",):
        return pool
    if status.values == ("unlisted",):
        return [one for one in pool if not _is_listed(folder, one, switches)]
    # A word that is no status finds nobody; whether it should warn is not known.
    statuses = set(status.values) & set(CONTACT_STATUSES)
    return [one for one in pool if one.status in statuses]


def _shows_deleted(status: Term | None, switches: Switches) -> bool:
    if status is None:
        return False
    if status.values == ("total",):
        return switches.total_includes_deleted == "yes"
    return "deleted" in status.values and switches.search_deleted == "yes"


def _value_of(contact: Contact, name: str) -> Value:
    match name:
        case "contactId":
            return int(contact.contact_id)
        case "email":
            return contact.email
        case "createDate":
            return contact.created
        case "bounceCount":
            return "" if contact.bounce_count is None else contact.bounce_count
        case "status":
            return contact.status
        case _:
            return contact.get(name)
