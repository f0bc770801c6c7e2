"""A client folder: its contacts, lists and subscriptions, with their indexes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .records import (
    CONTACT_STATUSES,
    Action,
    Contact,
    CustomField,
    MailingList,
    Segment,
    Subscription,
    Upload,
    Webhook,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from .exchange import Record

API_USER = "407118"
"""Whom the history names for what came by the API: the login's own id."""

_FIRST_IDS = {
    "contact": 70012345,
    "list": 4410,
    "segment": 9001,
    "upload": 3301,
    "webhook": 5,
}


class Ids:
    """Numbers for new things, never used twice in one simulator."""

    def __init__(self) -> None:
        self._next = dict(_FIRST_IDS)

    def new(self, kind: str) -> str:
        """Return the next free id of a kind, as text."""
        number = self._next[kind]
        self._next[kind] = number + 1
        return str(number)


class Folder:
    """The state of one client folder, and the door by which tests change it.

    Attributes:
        contacts: by contactId, in the order of their ids.
        subscriptions: by subscriptionId, `list_contact`.
        events: webhook events not sent yet, as (eventId, contact, list or None).
        actions: what happened to contacts, by contactId, oldest first.
    """

    def __init__(
        self, folder_id: str, ids: Ids, now: Callable[[], datetime], name: str = ""
    ) -> None:
        self.folder_id = folder_id
        self.name = name
        self.is_enabled = True
        self.contacts: dict[str, Contact] = {}
        self.lists: dict[str, MailingList] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.custom_fields: dict[str, CustomField] = {}
        self.segments: dict[str, Segment] = {}
        self.webhooks: dict[str, Webhook] = {}
        self.uploads: dict[str, Upload] = {}
        self.events: list[tuple[str, Contact, MailingList | None]] = []
        self.actions: dict[str, list[Action]] = {}
        self._ids = ids
        self._now = now
        self._by_email: dict[str, str] = {}
        self._of_list: dict[str, dict[str, Subscription]] = {}
        self._of_contact: dict[str, dict[str, Subscription]] = {}

    def __repr__(self) -> str:
        return f"<Folder {self.folder_id} {self.name!r}>"

    # --- seeding and looking, for tests and demos ---

    def add_contact(
        self,
        email: str,
        status: str = "normal",
        lists: Iterable[str] = (),
        *,
        created: datetime | None = None,
        **fields: str,
    ) -> Contact:
        """Put a contact there without a request.

        `lists` are names or ids, and the contact is subscribed as `normal`; `fields`
        are standard and custom fields by their wire names.

        Raises:
            ValueError: the address is taken, or the status is none.
            KeyError: there is no such list.
        """
        if email.lower() in self._by_email:
            raise ValueError(f"{email} is in the folder already")
        if status not in CONTACT_STATUSES:
            raise ValueError(f"a contact cannot be {status!r}")
        on = [self.list_named(one) for one in lists]
        contact = self.create_contact(email, created or self._now())
        contact.status = status
        contact.bounce_count = 3 if status == "bounced" else None
        contact.values.update(fields)
        for one in on:
            self.subscribe(one.list_id, contact.contact_id, "normal")
        return contact

    def add_list(
        self, name: str, publicname: str = "", description: str = ""
    ) -> MailingList:
        """Create a list."""
        new = MailingList(self._ids.new("list"), name, publicname, description)
        self.lists[new.list_id] = new
        return new

    def delete_list(self, list_id: str) -> None:
        """Remove a list with its subscriptions.

        Source:
            icontact-api.md 8 does not say what becomes of the subscriptions.
        """
        del self.lists[list_id]
        for row in list(self._of_list.get(list_id, {}).values()):
            self.drop_subscription(row)

    def add_custom_field(
        self, name: str, type: str = "text", label: str = ""
    ) -> CustomField:
        """Create a custom field under exactly this name."""
        new = CustomField(name, label, type)
        self.custom_fields[name] = new
        return new

    def find(self, email: str) -> Contact | None:
        """Return the contact with this address, deleted or not."""
        contact_id = self._by_email.get(email.lower())
        return None if contact_id is None else self.contacts[contact_id]

    def list_named(self, name_or_id: str) -> MailingList:
        """Return a list by its id, else the first with that name.

        Raises:
            KeyError: there is none.
        """
        if name_or_id in self.lists:
            return self.lists[name_or_id]
        for one in self.lists.values():
            if one.name == name_or_id:
                return one
        raise KeyError(name_or_id)

    def on_list(self, list_name_or_id: str) -> set[str]:
        """Return the addresses with a `normal` subscription to a list."""
        list_id = self.list_named(list_name_or_id).list_id
        return {
            self.contacts[row.contact_id].email
            for row in self._of_list.get(list_id, {}).values()
            if row.status == "normal"
            and self.contacts[row.contact_id].status != "deleted"
        }

    def subscription(self, list_name_or_id: str, email: str) -> str | None:
        """Return the status of an address on a list, None when it never was on it."""
        contact = self.find(email)
        if contact is None:
            return None
        list_id = self.list_named(list_name_or_id).list_id
        row = self.membership(list_id, contact.contact_id)
        return None if row is None else row.status

    def unsubscribe(self, list_name_or_id: str, email: str) -> None:
        """Let somebody leave a list, as by the link in a mail.

        Raises:
            KeyError: no such list, or no such contact.
        """
        contact = self.find(email)
        if contact is None:
            raise KeyError(email)
        one = self.list_named(list_name_or_id)
        self.subscribe(one.list_id, contact.contact_id, "unsubscribed")
        details: Record = {"listId": one.list_id, "newStatus": "unsubscribed"}
        self.note_action(contact.contact_id, "EditSubscription", details, "contact")
        self.note_event("contact_unsubscribed", contact, one)

    def counts(self) -> dict[str, int]:
        """Return how many there are of each; `contacts` leaves deleted ones out."""
        by_status = Counter(contact.status for contact in self.contacts.values())
        return {
            "contacts": len(self.contacts) - by_status["deleted"],
            **{status: by_status[status] for status in CONTACT_STATUSES},
            "lists": len(self.lists),
            "subscriptions": len(self.subscriptions),
            "custom_fields": len(self.custom_fields),
        }

    # --- the primitives the resources are made of ---

    def note_event(
        self, event_id: str, contact: Contact, one: MailingList | None = None
    ) -> None:
        """Keep an event for those who registered for it."""
        if any(hook.event_id == event_id for hook in self.webhooks.values()):
            self.events.append((event_id, contact, one))

    def note_action(
        self,
        contact_id: str,
        kind: str,
        details: Record,
        actor: str = API_USER,
        at: datetime | None = None,
    ) -> None:
        """Write something into a contact's history."""
        made = Action(kind, at or self._now(), actor, details)
        self.actions.setdefault(contact_id, []).append(made)

    def take_events(self) -> list[tuple[str, Contact, MailingList | None]]:
        """Return the events that wait, and forget them."""
        events, self.events = self.events, []
        return events

    def new_id(self, kind: str) -> str:
        """Return a fresh id."""
        return self._ids.new(kind)

    def create_contact(self, email: str, at: datetime) -> Contact:
        """Add a blank contact; the address must be free."""
        contact = Contact(self._ids.new("contact"), email, at)
        self.contacts[contact.contact_id] = contact
        self._by_email[email.lower()] = contact.contact_id
        return contact

    def change_email(self, contact: Contact, email: str) -> None:
        """Give a contact another address; it must be free or its own."""
        del self._by_email[contact.email.lower()]
        contact.email = email
        self._by_email[email.lower()] = contact.contact_id

    def delete_contact(self, contact: Contact) -> None:
        """Mark a contact deleted and take it off its lists.

        Opt-outs stay on record, so that a revived contact has not lost them.

        Source:
            icontact-api.md 6.3 (soft delete); what becomes of the subscriptions
            is not known.
        """
        contact.status = "deleted"
        for row in list(self._of_contact.get(contact.contact_id, {}).values()):
            if row.status != "unsubscribed":
                self.drop_subscription(row)

    def shift(self, rows: int) -> None:
        """Delete so many of the first contacts; below 0, let so many come back."""
        is_back = rows < 0
        everybody = self.contacts.values()
        whom = [one for one in everybody if (one.status == "deleted") == is_back]
        for contact in whom[: abs(rows)]:
            if is_back:
                contact.status = "normal"
            else:
                self.delete_contact(contact)

    def membership(self, list_id: str, contact_id: str) -> Subscription | None:
        """Return the row of a contact on a list."""
        return self.subscriptions.get(f"{list_id}_{contact_id}")

    def rows_of_list(self, list_id: str) -> dict[str, Subscription]:
        """Return the rows of a list by contactId."""
        return self._of_list.get(list_id, {})

    def rows_of_contact(self, contact_id: str) -> dict[str, Subscription]:
        """Return the rows of a contact by listId."""
        return self._of_contact.get(contact_id, {})

    def subscribe(
        self, list_id: str, contact_id: str, status: str, at: datetime | None = None
    ) -> Subscription:
        """Create a row, or set the status of the one that is there."""
        row = self.membership(list_id, contact_id)
        if row is not None:
            row.status = status
            return row
        row = Subscription(list_id, contact_id, status, at or self._now())
        self.subscriptions[row.subscription_id] = row
        self._of_list.setdefault(list_id, {})[contact_id] = row
        self._of_contact.setdefault(contact_id, {})[list_id] = row
        return row

    def drop_subscription(self, row: Subscription) -> None:
        """Forget a row."""
        del self.subscriptions[row.subscription_id]
        del self._of_list[row.list_id][row.contact_id]
        del self._of_contact[row.contact_id][row.list_id]
