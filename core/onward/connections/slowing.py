"""What follows for a whole rate key when the service says that we are too fast."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BindParameter,
    String,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy import Connection as Transaction

from onward.connections.state import counted_as
from onward.models import Connection, table
from onward.speed import slow_down

rows = table(Connection)

_SELF = select(rows.c.name, rows.c.rate_key).where(rows.c.id == bindparam("of"))
_OTHERS = (
    select(rows.c.id)
    .where(
        rows.c.rate_key == bindparam("shared"),
        rows.c.id != bindparam("of"),
        or_(
            rows.c.rest_until.is_(None),
            rows.c.rest_until < bindparam("to", type_=rows.c.rest_until.type),
        ),
    )
    .order_by(rows.c.id)
    .with_for_update()
)
_WORDS: BindParameter[str] = bindparam("words", type_=String())
_REST_TOO = (
    update(rows)
    .where(rows.c.id == bindparam("of"))
    .values(
        rest_until=bindparam("to"),
        # At least the first step: one batch is the probe, and success ends it.
        rest_step=case((rows.c.rest_step == 0, 1), else_=rows.c.rest_step),
        rest_since=func.coalesce(
            rows.c.rest_since, bindparam("moment", type_=rows.c.rest_since.type)
        ),
        rest_code=case((rows.c.rest_step == 0, "throttled"), else_=rows.c.rest_code),
        rest_why=case((rows.c.rest_step == 0, _WORDS), else_=rows.c.rest_why),
    )
)


def too_fast(
    transaction: Transaction, connection_id: int, now: datetime, until: datetime
) -> None:
    """Slow down what is counted together, and let all of it rest.

    Args:
        until: when the connection that was told so goes on.
    """
    told = transaction.execute(_SELF, {"of": connection_id}).first()
    if told is None:
        return
    slow_down(transaction, counted_as(connection_id, told.rate_key), now, until)
    if not told.rate_key:
        return
    given = {"shared": told.rate_key, "of": connection_id, "to": until}
    words = f"the service asked {told.name} to slow down, and counts both together"
    for other in transaction.execute(_OTHERS, given).scalars().all():
        transaction.execute(
            _REST_TOO, {"of": other, "to": until, "words": words, "moment": now}
        )
