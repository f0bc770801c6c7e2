"""When a connection is pulled next: one row for each, written by whoever knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, case, delete, or_, select, update

from onward.models import Connection, SyncPlan, table
from onward.sql import PerDialect

plans = table(SyncPlan)
connections = table(Connection)

FIRST = "first"
SCHEDULED = "schedule"
SETTINGS = "settings"
BY_HAND = "by hand"
HINTED = "hints"


def _ask(insert: Any) -> Any:
    statement = insert(plans)
    new = statement.excluded
    sooner = or_(plans.c.due_at.is_(None), plans.c.due_at > new.due_at)
    return statement.on_conflict_do_update(
        index_elements=["connection_id"],
        set_={
            # Also where it is due: whoever is pulling it then did so before that.
            "due_at": new.due_at,
            "why": case((sooner, new.why), else_=plans.c.why),
            "full": or_(plans.c.full, new.full),
            # A report of a service says nothing of whether it answers again.
            "tries": case((new.why == HINTED, plans.c.tries), else_=0),
        },
    )


_ASK = PerDialect(_ask)
_READ = select(plans).where(plans.c.connection_id == bindparam("of"))
_ALL = select(plans).order_by(plans.c.connection_id)
# Connections that were verified before there was a plan for them.
_WITHOUT = (
    select(connections.c.id)
    .where(
        connections.c.verified_at.is_not(None),
        connections.c.id.not_in(select(plans.c.connection_id)),
    )
    .order_by(connections.c.id)
)
_MOVE = (
    update(plans)
    # Somebody who asked for a pull meanwhile is not forgotten: it is due then.
    .where(
        plans.c.connection_id == bindparam("of"),
        plans.c.why == bindparam("seen_why"),
        plans.c.due_at.is_not_distinct_from(
            bindparam("seen_at", type_=plans.c.due_at.type)
        ),
    )
    .values(
        due_at=bindparam("at"),
        why=bindparam("because"),
        schedule=bindparam("by"),
        tries=bindparam("failed"),
        full=bindparam("whole"),
    )
)
_OFFERED = (
    update(plans).where(plans.c.connection_id == bindparam("of")).values(offered=True)
)
_PLACE = (
    update(plans)
    .where(plans.c.connection_id == bindparam("of"))
    .values(place=bindparam("at"))
)


@dataclass(frozen=True, slots=True)
class Plan:
    """When a connection is pulled next, and why; see `SyncPlan`."""

    connection_id: int
    due_at: datetime | None
    why: str
    schedule: str
    anchor_at: datetime
    full: bool
    tries: int
    offered: bool
    place: str


def _plan(row: Any) -> Plan:
    return Plan(**row)


def ask_for_pull(
    transaction: Transaction,
    connection_id: int,
    now: datetime,
    why: str,
    *,
    full: bool = False,
    anchor: datetime | None = None,
) -> None:
    """Let a connection be pulled as soon as somebody can.

    Args:
        anchor: when it was connected, where that was not now.
        full: believe nothing that is known of its contacts; apply each row anew.
    """
    row = {
        "connection_id": connection_id,
        "due_at": now,
        "why": why,
        "schedule": "",
        "anchor_at": anchor or now,
        "full": full,
        "tries": 0,
        "offered": False,
        "place": "",
    }
    transaction.execute(_ASK(transaction), row)


def read_plan(transaction: Transaction, connection_id: int) -> Plan | None:
    """Return the plan of a connection, None when it was never connected."""
    row = transaction.execute(_READ, {"of": connection_id}).mappings().first()
    return None if row is None else _plan(row)


def read_plans(transaction: Transaction) -> dict[int, Plan]:
    """Return every plan: connection id → plan."""
    found = transaction.execute(_ALL).mappings()
    return {row["connection_id"]: _plan(row) for row in found}


def without_plan(transaction: Transaction) -> list[int]:
    """Return the connections that were verified and have no plan yet."""
    return list(transaction.execute(_WITHOUT).scalars())


def move_plan(
    transaction: Transaction,
    plan: Plan,
    due_at: datetime | None,
    why: str,
    *,
    schedule: str,
    tries: int = 0,
    full: bool = False,
) -> None:
    """Say when it is pulled next, unless somebody asked for it since.

    Args:
        plan: as it was read.
        due_at: None = only when somebody asks.
        schedule: in words, by which `due_at` was computed.
    """
    transaction.execute(
        _MOVE,
        {
            "of": plan.connection_id,
            "at": due_at,
            "because": why,
            "by": schedule,
            "failed": tries,
            "whole": full,
            "seen_why": plan.why,
            "seen_at": plan.due_at,
        },
    )


def note_offered(transaction: Transaction, connection_id: int) -> None:
    """Note that the audiences of a connection were made: not again."""
    transaction.execute(_OFFERED, {"of": connection_id})


def note_place(transaction: Transaction, connection_id: int, place: str) -> None:
    """Note after which remote id fetching one by one goes on."""
    transaction.execute(_PLACE, {"of": connection_id, "at": place})


def forget_plan(transaction: Transaction, connection_id: int) -> None:
    """Forget when a connection is pulled: it is new again, or gone."""
    transaction.execute(delete(plans).where(plans.c.connection_id == connection_id))
