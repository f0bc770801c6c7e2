"""Tables of what happened and what followed from it."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, text
from sqlmodel import Field, SQLModel

from onward.models.columns import BigId, moment, moment_or_none, row_id


class Event(SQLModel, table=True):
    """A contact action, once, with what the rules made of it.

    `key` is unique per source and claimed by insert: a repeat finds the row
    and its result. Events without a key are not in that index.
    """

    __tablename__ = "event"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index(
            "event_key",
            "source",
            "key",
            unique=True,
            sqlite_where=text("key IS NOT NULL"),
            postgresql_where=text("key IS NOT NULL"),
        ),
        Index("event_contact", "contact_id", "id"),
    )

    id: int | None = row_id()
    source: str = "api"
    key: str | None = None
    body_hash: str = ""
    action: str
    contact_id: int = Field(sa_type=BigId)
    data: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    occurred_at: datetime = moment()
    created_at: datetime = moment(index=True)
    result: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class Ledger(SQLModel, table=True):
    """Every change of points: who, why, how much."""

    __tablename__ = "ledger"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    contact_id: int = Field(sa_type=BigId, index=True)
    delta: int = Field(sa_type=BigId)
    total: int = Field(sa_type=BigId)
    reason: str = ""
    actor: str = ""
    event_id: int | None = Field(default=None, sa_type=BigId)
    at: datetime = moment()


class Claim(SQLModel, table=True):
    """This rule or trigger was taken for this contact at this time.

    `key` is `rule:KEY` or `trigger:KEY`.
    """

    __tablename__ = "claim"  # pyright: ignore[reportAssignmentType]

    key: str = Field(primary_key=True)
    contact_id: int = Field(primary_key=True, sa_type=BigId, index=True)
    at: datetime = moment()


class Job(SQLModel, table=True):
    """A long piece of work that is resumed where it stopped."""

    __tablename__ = "job"  # pyright: ignore[reportAssignmentType]

    id: int | None = row_id()
    kind: str
    key: str
    state: str = "running"
    cursor: int = Field(default=0, sa_type=BigId)
    done: int = 0
    total: int = 0
    created_at: datetime = moment()
    updated_at: datetime = moment()
    finished_at: datetime | None = moment_or_none()


class Setting(SQLModel, table=True):
    """A small fact of this installation, e.g. the pepper of address hashes."""

    __tablename__ = "setting"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    value: str


class SchemaStep(SQLModel, table=True):
    """A migration that was taken, for processes of a release that does not know it."""

    __tablename__ = "schema_step"  # pyright: ignore[reportAssignmentType]

    step: str = Field(primary_key=True)
    release: str
