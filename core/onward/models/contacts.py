"""Tables of who we know and what they allowed."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from onward.models.columns import BigId, moment, moment_or_none, present, row_id


class Contact(SQLModel, table=True):
    """A person; without `email` a visitor.

    A merged contact stays as a pointer to its survivor, so that a row that
    still names it can be followed.
    """

    __tablename__ = "contact"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (present("contact_merged", "merged_into"),)

    id: int | None = row_id()
    email: str | None = Field(default=None, index=True)
    prefix: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    suffix: str | None = None
    company: str | None = None
    position: str | None = None
    phone: str | None = None
    mobile: str | None = None
    fax: str | None = None
    street: str | None = None
    street2: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    website: str | None = None
    points: int = Field(default=0, sa_type=BigId, index=True)
    custom: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: datetime = moment(index=True)
    updated_at: datetime = moment()
    merged_into: int | None = Field(default=None, sa_type=BigId)
    erased_at: datetime | None = moment_or_none()


class Identity(SQLModel, table=True):
    """How a contact is recognised: (kind, value), e.g. (email, ana@shop.example)."""

    __tablename__ = "identity"  # pyright: ignore[reportAssignmentType]

    kind: str = Field(primary_key=True)
    value: str = Field(primary_key=True)
    contact_id: int = Field(sa_type=BigId, index=True)


class ContactTag(SQLModel, table=True):
    """A word stuck on a contact."""

    __tablename__ = "contact_tag"  # pyright: ignore[reportAssignmentType]

    contact_id: int = Field(primary_key=True, sa_type=BigId)
    tag: str = Field(primary_key=True)


class Segment(SQLModel, table=True):
    """A static group of contacts, ours."""

    __tablename__ = "segment"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    name: str = Field(unique=True)


class ContactSegment(SQLModel, table=True):
    """Who is in which segment."""

    __tablename__ = "contact_segment"  # pyright: ignore[reportAssignmentType]

    segment_id: int = Field(primary_key=True, sa_type=BigId)
    contact_id: int = Field(primary_key=True, sa_type=BigId, index=True)


class CustomField(SQLModel, table=True):
    """A declared custom field."""

    __tablename__ = "custom_field"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    title: str
    type: str
    choices: list[str] = Field(default_factory=list, sa_type=JSON)


class Suppression(SQLModel, table=True):
    """Why somebody must not be pushed, and how far that reaches.

    Stored for the contact and for a keyed hash of the address, so that it
    survives deletion, merge and a change of e-mail. `contact_id` is 0 once the
    contact is gone; `identity` and `segment` are "" where the scope has none
    (never NULL: NULLs do not coalesce in a unique key).
    """

    __tablename__ = "suppression"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        UniqueConstraint(
            "contact_id", "address_hash", "scope", "identity", "segment", "code"
        ),
        Index("suppression_address", "address_hash"),
    )

    id: int | None = row_id()
    contact_id: int = Field(default=0, sa_type=BigId)
    address_hash: str = ""
    scope: str
    identity: str = ""
    segment: str = ""
    code: str
    reason: str = ""
    source: str = ""
    seen_at: datetime = moment()
    lifted_at: datetime | None = moment_or_none()
    lifted_by: int | None = Field(default=None, sa_type=BigId)


class Consent(SQLModel, table=True):
    """A recorded permission: who, when, how. The only thing that lifts."""

    __tablename__ = "consent"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    contact_id: int = Field(default=0, sa_type=BigId, index=True)
    address_hash: str = ""
    how: str
    who: str
    given_at: datetime = moment()


class ImportReport(SQLModel, table=True):
    """What one import did: counts and the lines it refused."""

    __tablename__ = "import_report"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    source: str
    started_at: datetime = moment(index=True)
    finished_at: datetime | None = moment_or_none()
    counts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    problems: list[Any] = Field(default_factory=list, sa_type=JSON)
