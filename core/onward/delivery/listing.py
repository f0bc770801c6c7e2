"""Deliveries for people: filtered, one by one, with their causes and tries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Executable, RowMapping, and_, or_, select, text
from sqlalchemy import Connection as Transaction

from onward.config.problems import did_you_mean
from onward.connections.state import UNRESOLVED, named
from onward.contacts.values import clean_email
from onward.delivery.claiming import WAITING
from onward.errors import InputError
from onward.models import (
    Attempt,
    Cause,
    Connection,
    Contact,
    Identity,
    OutcomeRow,
    Push,
    PushState,
    RemoteSegmentRow,
    table,
)
from onward.models.delivery import COMMON_CODES, RARE_SQL

pushes = table(Push)
contacts = table(Contact)
identities = table(Identity)
connections = table(Connection)
remote_segments = table(RemoteSegmentRow)
causes = table(Cause)
outcomes = table(OutcomeRow)
attempts = table(Attempt)

HELD = "held"
STATES = (*(state.value for state in PushState), HELD)
CAUSES = (
    "rule",
    "trigger",
    "apply",
    "audience",
    "manual",
    "replay",
    "merge",
    "joined",
)
# Those that have the key of a rule, trigger or audience.
_RULED = ("rule", "trigger", "apply", "audience", "replay")

_ALL = (
    select(
        pushes,
        contacts.c.email,
        connections.c.name.label("connection"),
    )
    .outerjoin(contacts, contacts.c.id == pushes.c.contact_id)
    .outerjoin(connections, connections.c.id == pushes.c.connection_id)
)
_NO_HURRY = text("SET LOCAL idle_in_transaction_session_timeout = 0")
_paused = connections.alias()
_IS_HELD = and_(
    WAITING,
    or_(
        select(_paused.c.id)
        .where(
            _paused.c.id == pushes.c.connection_id,
            _paused.c.enabled,
            _paused.c.paused_code != "",
        )
        .exists(),
        select(remote_segments.c.id)
        .where(
            remote_segments.c.connection_id == pushes.c.connection_id,
            remote_segments.c.id == pushes.c.segment,
            remote_segments.c.paused_why != "",
        )
        .exists(),
    ),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries; what is empty filters nothing.

    Args:
        state: of a push, or `held`: waiting for a person.
        since, until: when it was queued, both included.
        rule: key of a rule, point trigger or audience that caused it, or what it
            replays.
        cause: kind of one of its causes, as `replay`.
    """

    state: str = ""
    code: str = ""
    connection: str = ""
    email: str = ""
    since: datetime | None = None
    until: datetime | None = None
    rule: str = ""
    cause: str = ""


def list_deliveries(transaction: Transaction, wanted: Wanted) -> Iterator[RowMapping]:
    """Yield every matching row, oldest first, in little memory.

    Raises:
        InputError: there is no such state or connection, or the address is none.
    """
    found = _ALL.where(*conditions(transaction, wanted))
    found = found.order_by(*_oldest_first(wanted))
    if transaction.dialect.name == "postgresql":
        # Whoever reads them may take their time; a listing holds no locks.
        transaction.execute(_NO_HURRY)
    # Of the statement: those of a connection would count for all that follows.
    rows = transaction.execute(found, execution_options={"yield_per": 1_000})
    return iter(rows.mappings())


def conditions(transaction: Transaction, wanted: Wanted) -> list[ColumnElement[bool]]:
    """Return what a row must fulfil to be wanted.

    Raises:
        InputError: see `list_deliveries`.
    """
    found: list[ColumnElement[bool]] = []
    if wanted.state:
        _one_of("state", wanted.state, STATES)
        is_it = pushes.c.state == wanted.state
        found.append(_IS_HELD if wanted.state == HELD else is_it)
    if wanted.code:
        found.append(has_code(wanted.code))
    if wanted.connection:
        state = named(transaction, wanted.connection)
        found.append(pushes.c.connection_id == state.id)
    if wanted.email:
        who = _numbers(transaction, clean_email(wanted.email))
        found.append(pushes.c.contact_id.in_(who))
    if wanted.since is not None:
        found.append(pushes.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(pushes.c.created_at <= wanted.until)
    if wanted.cause:
        _one_of("cause", wanted.cause, CAUSES)
    if wanted.rule or wanted.cause:
        asked = select(causes.c.id).where(
            causes.c.push_id == pushes.c.id, *of_causes(wanted)
        )
        found.append(asked.exists())
    return found


def has_code(code: str) -> ColumnElement[bool]:
    """Return the condition that a push has this code, in the words of its index.

    What most pushes have is in no index: nearly all rows are found anyway.
    """
    same = pushes.c.code == code
    return same if code in COMMON_CODES else and_(same, text(f"push.{RARE_SQL}"))


def _oldest_first(wanted: Wanted) -> tuple[ColumnElement[Any], ...]:
    """Return the order that the index which finds the rows has already."""
    if wanted.since is not None or wanted.until is not None:
        return pushes.c.created_at, pushes.c.id
    return (pushes.c.id,)


def of_causes(wanted: Wanted) -> list[ColumnElement[bool]]:
    """Return what one cause of a wanted row must fulfil; none = any will do."""
    found: list[ColumnElement[bool]] = []
    if wanted.rule:
        found += [causes.c.kind.in_(_RULED), causes.c.key == wanted.rule]
    if wanted.cause:
        found.append(causes.c.kind == wanted.cause)
    return found


def _one_of(what: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise InputError(
            f'there is no {what} "{word}"{did_you_mean(word, known)}; '
            f"there are: {', '.join(known)}"
        )


def _numbers(transaction: Transaction, email: str) -> list[int]:
    """Return who has this address, and who was merged into them."""
    who = transaction.execute(
        select(identities.c.contact_id).where(
            identities.c.kind == "email", identities.c.value == email
        )
    ).scalar()
    if who is None:
        return []
    merged = select(contacts.c.id).where(contacts.c.merged_into == who)
    return [who, *transaction.execute(merged).scalars()]


def read_deliveries(
    transaction: Transaction, *, ids: Sequence[int]
) -> list[RowMapping]:
    """Return rows by their ids."""
    wanted = _ALL.where(pushes.c.id.in_(ids)).order_by(pushes.c.id)
    found = transaction.execute(wanted)
    return list(found.mappings())


def segment_names(transaction: Transaction) -> dict[tuple[int, str], str]:
    """Return (connection, id of a remote segment) → its name, as last read."""
    of, id_, name = (remote_segments.c[c] for c in ("connection_id", "id", "name"))
    found = transaction.execute(select(of, id_, name))
    return {(row[0], row[1]): row[2] for row in found}


def delivery_document(row: RowMapping) -> dict[str, Any]:
    """Return what a delivery is to the outside; its keys are a promise."""
    segment = row["segment"]
    return {
        "id": row["id"],
        "state": row["state"],
        "code": row["code"],
        "reason": row["reason"],
        "connection": row["connection"] or "",
        "contact_id": row["contact_id"],
        "email": row["email"] or "",
        # Not resolved yet: it has no id.
        "segment": "" if segment.startswith(UNRESOLVED) else segment,
        "tries": row["tries"],
        "due_at": row["due_at"],
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
    }


@dataclass(frozen=True, slots=True)
class Shown:
    """One delivery with everything that is known of it.

    Args:
        attempts: the batches it was part of, requests and answers redacted.
        replays: the rows that replay it; not part of the document.
    """

    delivery: dict[str, Any]
    causes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    outcomes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    attempts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    replays: Sequence[int] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The delivery with three more keys."""
        return {
            **self.delivery,
            "causes": self.causes,
            "outcomes": self.outcomes,
            "attempts": self.attempts,
        }


def show_delivery(transaction: Transaction, push_id: int) -> Shown:
    """Return one delivery.

    Raises:
        InputError: there is none of this number.
    """
    row = next(iter(read_deliveries(transaction, ids=[push_id])), None)
    if row is None:
        raise InputError(
            f"there is no delivery {push_id}; `onward deliveries` lists them"
        )
    why = _rows(
        transaction,
        select(
            causes.c.at,
            causes.c.kind,
            causes.c.key,
            causes.c.event_id,
            causes.c.replay_of,
        )
        .where(causes.c.push_id == push_id)
        .order_by(causes.c.id),
    )
    tries = _rows(
        transaction,
        select(
            outcomes.c.at,
            outcomes.c.kind,
            outcomes.c.code,
            outcomes.c.reason,
            outcomes.c.attempt_id,
        )
        .where(outcomes.c.push_id == push_id)
        .order_by(outcomes.c.id),
    )
    batches = {one["attempt_id"] for one in tries if one["attempt_id"] is not None}
    sent = _rows(
        transaction,
        select(
            attempts.c.id,
            attempts.c.kind,
            attempts.c.size,
            attempts.c.started_at,
            attempts.c.finished_at,
            attempts.c.error,
            attempts.c.exchanges,
        )
        .where(attempts.c.id.in_(batches))
        .order_by(attempts.c.id),
    )
    again = select(causes.c.push_id).where(causes.c.replay_of == push_id).distinct()
    replays = transaction.execute(again.order_by(causes.c.push_id)).scalars().all()
    return Shown(delivery_document(row), why, tries, sent, replays)


def cause_words(kind: str, key: str, replay_of: int | None) -> str:
    """Return a cause for people: `rule forms`, `replay of 123 (forms)`."""
    if replay_of is None:
        return f"{kind} {key}".strip()
    return f"{kind} of {replay_of}" + (f" ({key})" if key else "")


def _rows(transaction: Transaction, found: Executable) -> list[dict[str, Any]]:
    return [dict(row) for row in transaction.execute(found).mappings()]
