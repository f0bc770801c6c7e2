"""Tables of what is still to be done and what became of it."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Index, text
from sqlmodel import Field, SQLModel

from onward.models.columns import (
    BigId,
    later,
    moment,
    moment_or_none,
    present,
    row_id,
)


class PushState(StrEnum):
    """Where a push is in its life."""

    WAITING = "waiting"
    """To be sent when due; without due time until the visitor has an e-mail."""
    SENDING = "sending"
    """Claimed by the worker that holds the connection's lease."""
    SUBMITTED = "submitted"
    """Handed to a job of the service."""
    DELIVERED = "delivered"
    """The service has it and confirmed it."""
    UNCHANGED = "unchanged"
    """Nothing had to be sent."""
    SKIPPED = "skipped"
    """Must not or need not be sent."""
    FAILED = "failed"
    """Refused for good, or out of tries."""
    CANCELLED = "cancelled"
    """Taken back before it was sent."""


OPEN_STATES = (PushState.WAITING, PushState.SENDING, PushState.SUBMITTED)
# Literal text: as parameters PostgreSQL's generic plan no longer matches the
# partial index to ON CONFLICT (seen after the tenth execution).
OPEN_SQL = "state IN ('waiting', 'sending', 'submitted')"
WAITING_SQL = "state = 'waiting'"
SENDING_SQL = "state = 'sending'"
# What nearly all pushes end with; only the others are looked for by it.
COMMON_CODES = ("", "delivered", "unchanged")
RARE_SQL = "code NOT IN ('', 'delivered', 'unchanged')"


class Push(SQLModel, table=True):
    """This contact to this connection: at most one open row per segment.

    `sent_at` on a waiting row means its last send may have arrived: read back
    before anything is sent again.
    """

    __tablename__ = "push"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index(
            "push_open",
            "connection_id",
            "contact_id",
            "segment",
            unique=True,
            sqlite_where=text(OPEN_SQL),
            postgresql_where=text(OPEN_SQL),
        ),
        Index(
            "push_due",
            "connection_id",
            "priority",
            "due_at",
            "id",
            sqlite_where=text(WAITING_SQL),
            postgresql_where=text(WAITING_SQL),
        ),
        # What a dead worker had: few at any time.
        Index(
            "push_sending",
            "connection_id",
            "fence",
            sqlite_where=text(SENDING_SQL),
            postgresql_where=text(SENDING_SQL),
        ),
        Index("push_contact", "contact_id", "id"),
        Index("push_state", "state", "id"),
        Index("push_connection", "connection_id", "id"),
        present("push_finished", "finished_at"),
        Index(
            "push_failed",
            "finished_at",
            sqlite_where=text("state = 'failed'"),
            postgresql_where=text("state = 'failed'"),
        ),
        Index(
            "push_code",
            "code",
            "id",
            sqlite_where=text(RARE_SQL),
            postgresql_where=text(RARE_SQL),
        ),
    )

    id: int | None = row_id()
    connection_id: int = Field(sa_type=BigId)
    contact_id: int = Field(sa_type=BigId)
    segment: str = ""
    state: str = PushState.WAITING.value
    priority: int = 0
    due_at: datetime | None = moment_or_none()
    tries: int = 0
    again: bool = False
    force: bool = False
    fence: int = Field(default=0, sa_type=BigId)
    sent_at: datetime | None = moment_or_none()
    code: str = ""
    reason: str = ""
    map_version: str = ""
    remote_id: str = ""
    job: str = ""
    created_at: datetime = moment(index=True)
    finished_at: datetime | None = moment_or_none()


class Cause(SQLModel, table=True):
    """Why a push exists; many per push."""

    __tablename__ = "cause"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (present("cause_replay", "replay_of"),)

    id: int | None = row_id()
    push_id: int = Field(sa_type=BigId, index=True)
    kind: str
    key: str = ""
    event_id: int | None = Field(default=None, sa_type=BigId, index=True)
    replay_of: int | None = Field(default=None, sa_type=BigId)
    at: datetime = moment()


class Attempt(SQLModel, table=True):
    """One batch that was sent: its requests and answers once, redacted."""

    __tablename__ = "attempt"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    connection_id: int = Field(sa_type=BigId, index=True)
    segment: str = ""
    kind: str = "push"
    size: int = 0
    fence: int = Field(default=0, sa_type=BigId)
    started_at: datetime = moment(index=True)
    finished_at: datetime | None = moment_or_none()
    exchanges: list[Any] = Field(default_factory=list, sa_type=JSON)
    error: str = ""


class OutcomeRow(SQLModel, table=True):
    """What one try of one push led to; the last one is also on the push."""

    __tablename__ = "outcome"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    push_id: int = Field(sa_type=BigId, index=True)
    attempt_id: int | None = Field(default=None, sa_type=BigId, index=True)
    kind: str
    code: str = ""
    reason: str = ""
    at: datetime = moment()


class Lease(SQLModel, table=True):
    """Who may work on something now: the highest fence, until then.

    `holder`: host and process, for people.
    """

    __tablename__ = "lease"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    fence: int = Field(default=1, sa_type=BigId)
    until: datetime = moment()
    holder: str = later("")


UNTOLD_SQL = "told_at IS NULL OR (closed_at IS NOT NULL AND told_closed_at IS NULL)"


class Alert(SQLModel, table=True):
    """Something a person should know of: from its first time until it is over.

    `told_at`, `told_closed_at`: when a message about it was made; None = not yet.
    """

    __tablename__ = "alert"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index(
            "alert_open",
            "connection_id",
            "kind",
            "subject",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index(
            "alert_untold",
            "id",
            sqlite_where=text(UNTOLD_SQL),
            postgresql_where=text(UNTOLD_SQL),
        ),
        Index("alert_subject", "connection_id", "kind", "subject", "id"),
    )

    id: int | None = row_id()
    connection_id: int = Field(default=0, sa_type=BigId)
    connection: str = ""
    kind: str
    subject: str = ""
    code: str = ""
    reason: str = ""
    count: int = 1
    opened_at: datetime = moment(index=True)
    last_at: datetime = moment()
    closed_at: datetime | None = moment_or_none()
    told_at: datetime | None = moment_or_none()
    told_closed_at: datetime | None = moment_or_none()


class AlertMessage(SQLModel, table=True):
    """What is to be told of alerts; gone when it was.

    Whoever tells it sets `due_at` ahead, so that another one takes over when they
    die. `key`: the same in every try, for receivers that drop repeats.
    """

    __tablename__ = "alert_message"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    key: str
    body: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    logged: bool = False
    tries: int = 0
    due_at: datetime = moment()
    created_at: datetime = moment()
