"""Tables of what comes from services, and is asked of them besides pushes."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, text
from sqlmodel import Field, SQLModel

from onward.models.columns import BigId, moment, moment_or_none, row_id


class SyncPlan(SQLModel, table=True):
    """When a connection is pulled next, and why then.

    `anchor_at`: when it was first connected; the time of day follows from it where
    none is set. `schedule`: the schedule `due_at` was computed by. `tries`: failed
    ones since the last pull that worked. `offered`: its audiences were made once.
    `place`: remote id after which contacts are fetched one by one.
    """

    __tablename__ = "sync_plan"  # pyright: ignore[reportAssignmentType]

    connection_id: int = Field(primary_key=True, sa_type=BigId)
    due_at: datetime | None = moment_or_none()
    why: str = ""
    schedule: str = ""
    anchor_at: datetime = moment()
    full: bool = False
    tries: int = 0
    offered: bool = False
    place: str = ""


class SyncRun(SQLModel, table=True):
    """One pull of a connection: where it stands, and what it did.

    `state`: `running`, `asks` (stopped by the share-of-change limit until somebody
    accepts), `done`, `failed` or `cancelled`. `cursor`: the integration's own, saved
    with each page, in a list. `sample`: rows to spot-check, chosen by `seed`.
    """

    __tablename__ = "sync_run"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("sync_run_connection", "connection_id", "id"),
        Index(
            "sync_run_open",
            "connection_id",
            unique=True,
            sqlite_where=text("state IN ('running', 'asks')"),
            postgresql_where=text("state IN ('running', 'asks')"),
        ),
    )

    id: int | None = row_id()
    connection_id: int = Field(sa_type=BigId)
    state: str = "running"
    why: str = ""
    full: bool = False
    accepted: bool = False
    stage: str = ""
    cursor: list[Any] = Field(default_factory=list, sa_type=JSON)
    pages: int = 0
    counts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    sample: list[Any] = Field(default_factory=list, sa_type=JSON)
    notes: list[Any] = Field(default_factory=list, sa_type=JSON)
    seed: int = 0
    code: str = ""
    reason: str = ""
    started_at: datetime = moment()
    updated_at: datetime = moment()
    finished_at: datetime | None = moment_or_none(index=True)


class SyncPage(SQLModel, table=True):
    """Who was on one page of a running pull; gone when it ends.

    `members_of`: the remote segment whose members the page lists; "" = everybody.
    """

    __tablename__ = "sync_page"  # pyright: ignore[reportAssignmentType]

    run_id: int = Field(primary_key=True, sa_type=BigId)
    number: int = Field(primary_key=True)
    members_of: str = ""
    ids: list[str] = Field(default_factory=list, sa_type=JSON)


class Hint(SQLModel, table=True):
    """Somebody in a service to be read again: a webhook said so, or they are missing.

    What a hint says of them is never believed. `segments`: remote segments whose
    membership is read as well. `run_id`: of the pull whose pages lacked them, which
    alone reads them; 0 = somebody pointed at them.
    """

    __tablename__ = "hint"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("hint_due", "connection_id", "due_at"),)

    connection_id: int = Field(primary_key=True, sa_type=BigId)
    remote_id: str = Field(primary_key=True)
    segments: list[str] = Field(default_factory=list, sa_type=JSON)
    run_id: int = Field(default=0, sa_type=BigId)
    tries: int = 0
    due_at: datetime = moment()
    created_at: datetime = moment()


class Webhook(SQLModel, table=True):
    """A secret address at which a service reports changes.

    `digest`: SHA-256 of the secret, by which it is known again. `sealed`: the secret,
    sealed like a password: the service is told by it what to forget. `state`:
    `registering` (the service may know it already), `registered`, or `leaving`
    (answers nobody any more, and the service is to forget it). `place`: the address
    without the secret. `heard_at`: when it last brought a report.
    """

    __tablename__ = "webhook"  # pyright: ignore[reportAssignmentType]

    digest: str = Field(primary_key=True)
    connection_id: int = Field(sa_type=BigId, index=True)
    place: str
    sealed: str
    state: str = "registering"
    created_at: datetime = moment()
    heard_at: datetime | None = moment_or_none()


OPEN_ERRAND_SQL = "state IN ('waiting', 'sending')"


class Errand(SQLModel, table=True):
    """Something to be done to one remote contact: unsubscribe or erase it there.

    `state`: `waiting`, `sending`, `done`, `failed` or `cancelled`. `remote_id` is all
    it keeps of the person, and only until it is done. `attempts`: batches it was in.
    """

    __tablename__ = "errand"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index(
            "errand_open",
            "connection_id",
            "remote_id",
            "kind",
            unique=True,
            sqlite_where=text(OPEN_ERRAND_SQL),
            postgresql_where=text(OPEN_ERRAND_SQL),
        ),
        Index(
            "errand_due",
            "connection_id",
            "due_at",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("errand_contact", "contact_id", "id"),
    )

    id: int | None = row_id()
    connection_id: int = Field(sa_type=BigId)
    contact_id: int = Field(default=0, sa_type=BigId)
    remote_id: str = ""
    kind: str
    state: str = "waiting"
    tries: int = 0
    due_at: datetime = moment()
    code: str = ""
    reason: str = ""
    asked_by: str = ""
    attempts: list[int] = Field(default_factory=list, sa_type=JSON)
    created_at: datetime = moment()
    finished_at: datetime | None = moment_or_none(index=True)


class Audience(SQLModel, table=True):
    """A saved filter over contacts: a dynamic segment, ours.

    `conditions`: as in a rule's `if`. `connection_id`: of the connection that offered
    it; 0 = somebody made it.
    """

    __tablename__ = "audience"  # pyright: ignore[reportAssignmentType]

    key: str = Field(primary_key=True)
    name: str
    conditions: list[Any] = Field(default_factory=list, sa_type=JSON)
    connection_id: int = Field(default=0, sa_type=BigId)
    created_at: datetime = moment()
