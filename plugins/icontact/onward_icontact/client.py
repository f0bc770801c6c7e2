"""iContact's REST API 2.2, one method per call.

Every fact here has its source in the plugin's README, section "What we know".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast
from urllib.parse import quote

from onward import Lost, Membership, Rejected, RemoteContact
from onward_icontact.answers import not_shown, rows_of, words_of
from onward_icontact.calls import PAGE, Calls, Gone
from onward_icontact.rows import (
    Page,
    Row,
    Standing,
    count_of,
    membership,
    record,
    standing,
    text_of,
)


def _number(id_: str) -> int | str:
    """Return an id as the recorded subscriptions were sent: as a number."""
    number = count_of(id_)
    return id_ if number is None else number


def _is_of(row: Row, list_id: str, contact_id: str) -> bool:
    """Tell whether a subscription row is the one of a contact on a list."""
    ids = {"listId": list_id, "contactId": contact_id}
    return all(text_of(row.get(name)) == id_ for name, id_ in ids.items())


class Client(Calls):
    """What can be asked of one account and folder, one method per call."""

    def accounts(self) -> Iterator[Row]:
        """GET every account these credentials can see."""
        return self.rows("a/", "accounts")

    def folders(self) -> Iterator[Row]:
        """GET every client folder of the account."""
        return self.rows(f"{self.account}/c/", "clientfolders")

    def lists(self) -> Iterator[Row]:
        """GET every list."""
        return self.rows(f"{self.folder}/lists", "lists")

    def custom_fields(self) -> Iterator[Row]:
        """GET every custom field."""
        return self.rows(f"{self.folder}/customfields", "customfields")

    def contacts(self, query: Mapping[str, str], limit: int = PAGE) -> Iterator[Page]:
        """GET contacts of the whole folder, on lists or not."""
        terms = {"status": "total", **query}
        return self.pages(f"{self.folder}/contacts", "contacts", terms, limit)

    def contacts_page(self, limit: int, offset: int) -> Page:
        """GET one page of everybody in the folder, by rising id."""
        terms = {"status": "total", "orderby": "contactId"}
        path = f"{self.folder}/contacts"
        return self.sure_page(path, "contacts", terms, limit, offset)

    def subscriptions(self, list_id: str, status: str) -> Iterator[Page]:
        """GET the memberships of a list that have this status.

        Rows of other lists, as a filter that is ignored shows them, are left out.
        """
        for page in self._subscriptions({"listId": list_id, "status": status}):
            rows = [r for r in page.rows if text_of(r.get("listId")) == list_id]
            yield Page(rows, page.total)

    def subscriptions_of(self, contact_id: str, status: str) -> Iterator[Page]:
        """GET the memberships of a contact that have this status."""
        return self._subscriptions({"contactId": contact_id, "status": status})

    def _subscriptions(self, terms: Mapping[str, str]) -> Iterator[Page]:
        written = {name: quote(text, safe="") for name, text in terms.items()}
        return self.pages(f"{self.folder}/subscriptions", "subscriptions", written)

    def subscriptions_page(
        self, list_id: str, status: str, limit: int, offset: int
    ) -> Page:
        """GET one page of the memberships of a list that have this status.

        Raises:
            Gone: perhaps the list was deleted.
        """
        terms = {"listId": quote(list_id, safe=""), "status": status}
        path = f"{self.folder}/subscriptions"
        return self.sure_page(path, "subscriptions", terms, limit, offset)

    def actions(self, contact_id: str) -> Iterator[Page]:
        """GET what happened to a contact, newest first as far as is known.

        Raises:
            Gone: there is no such contact.
        """
        path = f"{self.folder}/contacts/{quote(contact_id, safe='')}/actions"
        return self.pages(path, "actions", {})

    def webhooks(self) -> Iterator[Row]:
        """GET every registration for events."""
        return self.rows(f"{self.folder}/webhooks", "webhooks")

    # -- one thing

    def _get(self, collection: str, id_: str, key: str) -> Row | None:
        path = f"{self.folder}/{collection}/{quote(id_, safe='')}"
        try:
            row = self.call("GET", path).get(key)
        except Gone:
            return None
        if not isinstance(row, dict):
            raise not_shown(key)
        return cast("Row", row)

    def list_exists(self, list_id: str) -> bool:
        """Tell whether a list is still there."""
        return self._get("lists", list_id, "list") is not None

    def contact(self, contact_id: str) -> RemoteContact | None:
        """GET one contact with all its fields; None when it does not exist.

        Raises:
            Temporary: it answered with a contact without an id.
        """
        row = self._get("contacts", contact_id, "contact")
        if row is not None and not text_of(row.get("contactId")):
            raise not_shown("contact")
        return None if row is None else record(row)

    def membership(self, list_id: str, contact_id: str) -> Membership:
        """GET the membership of one contact on one list."""
        row = self.subscription(list_id, contact_id)
        return "none" if row is None else membership(row)

    def standing(
        self, list_id: str, contact_id: str, *, once: bool = False
    ) -> Standing:
        """GET the membership of one contact on one list, whatever its status.

        Args:
            once: one answer that there is none is enough.
        """
        row = self.subscription(list_id, contact_id, once=once)
        return "none" if row is None else standing(row)

    def subscription(
        self, list_id: str, contact_id: str, *, once: bool = False
    ) -> Row | None:
        """GET the row of one contact on one list; None when there is none.

        Asked twice: one stray 404 takes nobody off a list, and puts nobody back on
        it; nor does one row without a status.

        Raises:
            Temporary: it answered with another row, or with none.
        """
        row = self._subscription(list_id, contact_id)
        if not (row and text_of(row.get("status"))) and not (once and row is None):
            row = self._subscription(list_id, contact_id)
        if row is not None and not _is_of(row, list_id, contact_id):
            raise not_shown("subscription")
        return row

    def _subscription(self, list_id: str, contact_id: str) -> Row | None:
        return self._get("subscriptions", f"{list_id}_{contact_id}", "subscription")

    # -- writing

    def create(
        self, contacts: Sequence[Mapping[str, str]]
    ) -> tuple[list[RemoteContact], str]:
        """POST new contacts; return those that came back, and the warnings.

        Only for addresses the folder does not have: fields left out of an
        existing contact would be blanked.
        """
        body = self.call("POST", f"{self.folder}/contacts", list(contacts))
        return [record(row) for row in rows_of(body, "contacts")], words_of(body)

    def update(
        self, contact_id: str, fields: Mapping[str, str]
    ) -> tuple[RemoteContact, str]:
        """POST changed fields of one contact; the others stay as they are.

        Raises:
            Gone: there is no such contact.
            Rejected: it answered without the contact, and says why.
            Lost: it answered without the contact and a word.
        """
        path = f"{self.folder}/contacts/{quote(contact_id, safe='')}"
        body = self.call("POST", path, dict(fields))
        row, words = body.get("contact"), words_of(body)
        if not isinstance(row, dict) or not row:
            if words:
                raise Rejected(words)
            why = "iContact did not show the contact it changed"
            raise Lost(why, code="not_shown")
        return record(cast("Row", row)), words

    def subscribe(
        self, list_id: str, contact_ids: Iterable[str], status: str
    ) -> tuple[dict[str, Standing], str]:
        """POST memberships; return contact id → what came back, and the words.

        An empty answer is no success: it may be a duplicate or a refusal.
        """
        wished = [
            {"contactId": _number(id_), "listId": _number(list_id), "status": status}
            for id_ in contact_ids
        ]
        body = self.call("POST", f"{self.folder}/subscriptions", wished)
        found: dict[str, Standing] = {
            text_of(row.get("contactId")): standing(row)
            for row in rows_of(body, "subscriptions")
            if text_of(row.get("listId")) == list_id
        }
        return found, words_of(body)

    def leave(self, list_id: str, contact_id: str) -> None:
        """POST that a contact left a list; what came of it must be read.

        Raises:
            Gone: it never was on that list.
        """
        id_ = quote(f"{list_id}_{contact_id}", safe="")
        path = f"{self.folder}/subscriptions/{id_}"
        self.call("POST", path, {"status": "unsubscribed"})

    def delete(self, contact_id: str) -> None:
        """DELETE one contact; what came of it must be read.

        Raises:
            Gone: there is no such contact.
        """
        self.call("DELETE", f"{self.folder}/contacts/{quote(contact_id, safe='')}")

    def add_webhook(self, event: str, url: str) -> str:
        """POST a registration for one event; return what iContact says besides."""
        hook = {"eventId": event, "url": url}
        return words_of(self.call("POST", f"{self.folder}/webhooks", [hook]))

    def remove_webhook(self, webhook_id: str) -> None:
        """DELETE a registration.

        Raises:
            Gone: it is not there any more.
        """
        self.call("DELETE", f"{self.folder}/webhooks/{quote(webhook_id, safe='')}")
