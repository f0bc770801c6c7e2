"""Try once a day what is paused: it may have been repaired where we do not see it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import bindparam, select, update

from onward.connections.open import is_outdated, local_problem
from onward.connections.state import REPAIRED_ELSEWHERE, read_state
from onward.connections.verify import FRESH, verify_or_pause
from onward.delivery.drain import lease_name
from onward.delivery.lease import take
from onward.errors import Fenced, InputError, ServiceError
from onward.logs.addresses import without_addresses
from onward.models import Connection, table
from onward.runtime import Runtime

log = logging.getLogger("onward.connections")

rows = table(Connection)

_PAUSED = (
    select(rows.c.id)
    .where(
        rows.c.enabled,
        rows.c.paused_code.in_(REPAIRED_ELSEWHERE),
        rows.c.paused_at <= bindparam("moment", type_=rows.c.paused_at.type),
        rows.c.tried_at.is_(None)
        | (rows.c.tried_at <= bindparam("moment", type_=rows.c.tried_at.type)),
    )
    .order_by(rows.c.id)
)
_TRIED = (
    update(rows).where(rows.c.id == bindparam("of")).values(tried_at=bindparam("at"))
)


def try_paused(runtime: Runtime) -> None:
    """Verify what has been paused for a day, and resume what works again."""
    with runtime.database.read() as transaction:
        found = transaction.execute(_PAUSED, {"moment": runtime.clock() - FRESH})
        paused = list(found.scalars())
    for of in paused:
        if runtime.ending.is_set():
            return
        held = take(
            runtime.database, lease_name(of), runtime.config.lease, runtime.clock
        )
        if held is None:
            continue
        try:
            _try(runtime, of, held.renew)
        except Fenced:
            log.warning("connection %s: another worker took over", of)
        finally:
            held.release()


def _try(runtime: Runtime, connection_id: int, renew: Callable[[], None]) -> None:
    with runtime.database.read() as transaction:
        before = read_state(transaction, connection_id)
    if before is None or is_outdated(runtime, before) or local_problem(runtime, before):
        return  # what this process would find says nothing of the others
    with runtime.database.write() as transaction:
        # Before it is asked: whatever happens then, it is not asked again today.
        transaction.execute(_TRIED, {"of": connection_id, "at": runtime.clock()})
        state = read_state(transaction, connection_id)
    if state is None or state.paused_code not in REPAIRED_ELSEWHERE:
        return
    try:
        works = verify_or_pause(runtime, state, renew=renew)
    except (ServiceError, InputError) as error:
        why = without_addresses(error.message)
        log.info("%s: still paused: %s", state.name, why)
        return
    if works is not None and not works.paused_code:
        log.info("%s: it works again, and goes on", state.name)
