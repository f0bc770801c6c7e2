"""Tables of the accounts we push to and what we know of them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, Index, text
from sqlmodel import Field, SQLModel

from onward.models.columns import (
    BigId,
    json_or_none,
    later,
    moment,
    moment_or_none,
    row_id,
)


class Connection(SQLModel, table=True):
    """A configured account of an integration.

    `version` rises with every change that a running drain must notice;
    `declared` is the fingerprint of its table in `onward.toml`, "" when it
    lives in the database only. `tried_at`: when it was last tried while paused.
    """

    __tablename__ = "connection"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    name: str = Field(unique=True)
    integration: str
    version: int = 1
    declared: str = ""
    enabled: bool = True
    push_contacts: bool = True
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    secrets: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    field_map: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    identity: str = ""
    rate_key: str = ""
    title: str = ""
    segment_id: str = ""
    remote_fields: list[Any] = Field(default_factory=list, sa_type=JSON)
    verified_at: datetime | None = moment_or_none()
    paused_code: str = ""
    paused_why: str = ""
    paused_at: datetime | None = moment_or_none()
    rest_until: datetime | None = moment_or_none()
    rest_step: int = 0
    rest_code: str = later("")
    rest_why: str = later("")
    rest_since: datetime | None = moment_or_none()
    tried_at: datetime | None = moment_or_none()
    created_at: datetime = moment()


class Memory(SQLModel, table=True):
    """A small fact an integration keeps about one connection."""

    __tablename__ = "memory"  # pyright: ignore[reportAssignmentType]

    connection_id: int = Field(primary_key=True, sa_type=BigId)
    name: str = Field(primary_key=True)
    value: Any = Field(default=None, sa_type=JSON)
    until: datetime | None = moment_or_none()


class RemoteContactRow(SQLModel, table=True):
    """What the service is known to have: remote index and snapshot in one.

    `contact_id` is 0 for somebody we do not know. `values` are the field
    values last confirmed, `segments` remote segment id → membership.
    `unsure`: a late answer was refused, so read before the next write.
    `alias`: a second remote contact of a merged one; never written.
    `seen_at`: when what is known of it was last written.

    `written`: the field values we last wrote, as confirmed; `differs`: how the
    service differs from them, a sum of `onward.sync.drift`'s flags. `pulled`:
    fingerprint of what a pull last took from it. `created_at` is the service's own
    word, `first_seen_at` ours, `fetched_at` when it was last read by itself, whole.
    """

    __tablename__ = "remote_contact"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("remote_contact_email", "connection_id", "email"),
        Index("remote_contact_ours", "connection_id", "contact_id"),
        Index(
            "remote_contact_differs",
            "connection_id",
            "remote_id",
            sqlite_where=text("differs <> 0 OR alias"),
            postgresql_where=text("differs <> 0 OR alias"),
        ),
    )

    connection_id: int = Field(primary_key=True, sa_type=BigId)
    remote_id: str = Field(primary_key=True)
    contact_id: int = Field(default=0, sa_type=BigId)
    email: str = ""
    status: str = ""
    values: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    segments: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    map_version: str = ""
    unsure: bool = False
    alias: bool = False
    seen_at: datetime = moment()
    written: dict[str, Any] | None = json_or_none()
    differs: int = later(0)
    pulled: str = later("")
    created_at: datetime | None = moment_or_none()
    first_seen_at: datetime | None = moment_or_none()
    fetched_at: datetime | None = moment_or_none()


class RemoteSegmentRow(SQLModel, table=True):
    """A list, group or tag of the service, as last read."""

    __tablename__ = "remote_segment"  # pyright: ignore[reportAssignmentType]

    connection_id: int = Field(primary_key=True, sa_type=BigId)
    id: str = Field(primary_key=True)
    name: str
    paused_why: str = ""
    seen_at: datetime = moment()


class Limiter(SQLModel, table=True):
    """One window of one rate key; `tat` in Unix seconds (GCRA).

    `used`: calls since `since` (Unix seconds), for forecasts. `speed`: the share of
    the limit that the service bears, last changed at `changed` (Unix seconds).
    """

    __tablename__ = "limiter"  # pyright: ignore[reportAssignmentType]

    key: str = Field(primary_key=True)
    tat: float = Field(default=0.0, sa_type=Float)
    used: int = later(0, sa_type=BigId)
    since: float = later(0, sa_type=Float)
    speed: float = later(1, sa_type=Float)
    changed: float = later(0, sa_type=Float)
