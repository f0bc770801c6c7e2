"""The things a client folder holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from .exchange import JsonValue

STANDARD_FIELDS = (
    "prefix",
    "firstName",
    "lastName",
    "suffix",
    "street",
    "street2",
    "city",
    "state",
    "postalCode",
    "phone",
    "fax",
    "business",
)
"""The optional fields of every contact, in the order of POST answers.

Source:
    icontact-api.md 6.1 and 6.3.
"""

CONTACT_STATUSES = (
    "normal",
    "bounced",
    "donotcontact",
    "pending",
    "invitable",
    "deleted",
)
SUBSCRIPTION_STATUSES = ("normal", "pending", "unsubscribed")


@dataclass(slots=True)
class Contact:
    """A contact; status and values may be changed by hand, email by its folder.

    Attributes:
        values: standard and custom fields that are set, by their wire names.
    """

    contact_id: str
    email: str
    created: datetime
    status: str = "normal"
    bounce_count: int | None = None
    values: dict[str, str] = field(default_factory=dict[str, str])

    def get(self, name: str) -> str:
        """Return a field's text, '' when it is not set."""
        return self.values.get(name, "")


@dataclass(frozen=True, slots=True)
class Action:
    """Something that happened to a contact.

    Attributes:
        actor: `system`, `admin`, `contact`, or the id of a user.
    """

    kind: str
    at: datetime
    actor: str
    details: dict[str, JsonValue] = field(default_factory=dict[str, "JsonValue"])


@dataclass(slots=True)
class MailingList:
    """A list, with the flags 0 or 1."""

    list_id: str
    name: str
    publicname: str = ""
    description: str = ""
    email_owner_on_change: int = 1
    welcome_on_manual_add: int = 0
    welcome_on_signup_add: int = 0
    welcome_message_id: str = ""


@dataclass(slots=True)
class Subscription:
    """A contact on a list, or having left it."""

    list_id: str
    contact_id: str
    status: str
    added: datetime
    confirmation_message_id: str = ""

    @property
    def subscription_id(self) -> str:
        """The composite key, list first."""
        return f"{self.list_id}_{self.contact_id}"


@dataclass(slots=True)
class CustomField:
    """A custom field; its id is always its private name."""

    private_name: str
    public_name: str = ""
    field_type: str = "text"
    display_to_user: JsonValue = 0


@dataclass(slots=True)
class Webhook:
    """One registration: one event, one address."""

    webhook_id: str
    event_id: str
    url: str


@dataclass(slots=True)
class Segment:
    """A saved search over one list; its criteria are not simulated."""

    segment_id: str
    list_id: str
    name: str
    description: str = ""


@dataclass(slots=True)
class Upload:
    """A bulk import that advances by one state each time it is read."""

    upload_id: str
    action: str
    list_ids: str
    status: str = "receiving"
    warnings: list[str] = field(default_factory=list[str])
