"""Contacts read one by one: those pointed at, and fields that no page shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import SQLAlchemyError

from onward.among import ForEach
from onward.contract import RemoteContact, RemoteKey
from onward.delivery.stops import Stop, stop_for
from onward.errors import Fenced
from onward.logs.addresses import without_addresses
from onward.models import RemoteContactRow, table
from onward.remote import DELETED
from onward.sync.finish import ALERT_AFTER, next_due
from onward.sync.hints import Pointed, drop_hints, return_hints, take_hints
from onward.sync.plan import note_place
from onward.sync.runs import Run
from onward.sync.terms import Taken
from onward.sync.work import Work

rows = table(RemoteContactRow)

AGAIN = timedelta(minutes=5)
AT_ONCE = 20  # in one transaction
STAGE = "one by one"

_TO_FETCH = (
    select(rows.c.remote_id)
    .where(
        rows.c.connection_id == bindparam("of"),
        rows.c.remote_id > bindparam("after"),
        rows.c.contact_id != 0,
        ~rows.c.alias,
        rows.c.status != DELETED,
        rows.c.fetched_at.is_(None)
        | (rows.c.fetched_at < bindparam("since", type_=rows.c.fetched_at.type)),
    )
    .order_by(rows.c.remote_id)
    .limit(AT_ONCE)
)
_ASKED = ForEach(
    lambda among: (
        update(rows)
        .where(rows.c.connection_id == bindparam("of"), among(rows.c.remote_id, "ids"))
        .values(fetched_at=bindparam("moment", type_=rows.c.fetched_at.type))
    )
)


def read_hints(work: Work) -> Stop | None:
    """Read by themselves those that somebody pointed at, until none is due."""
    of = work.state.id
    while True:
        stop = work.wait()
        if stop is not None:
            return stop
        now = work.runtime.clock()
        take = partial(take_hints, connection_id=of, now=now, run_id=work.run.id)
        some = work.keep(take)
        if some is None:
            return None
        shown, failure = _gather(work, some.keys)
        read = some.only(one.remote_id for one in shown)

        work.store(shown, partial(_read, read), whole=True)
        work.tell(STAGE, 0, len(shown))
        if failure is not None:
            again = work.runtime.clock() + AGAIN
            left = partial(return_hints, connection_id=of, some=some, again_at=again)
            work.keep(left)
            raise failure
        work.keep(partial(drop_hints, connection_id=of, some=some))


def _read(read: Pointed, transaction: Transaction, run: Run, taken: Taken) -> None:
    run.counts["fetched"] += len(read.keys)
    drop_hints(transaction, run.connection_id, read)


def fetch_rest(work: Work) -> Stop | None:
    """Read what pages do not show, each day on from where the last one stopped."""
    of, place = work.state.id, work.plan.place
    until = next_due(work.runtime, work.state, work.plan, work.run)
    while True:
        stop = work.wait()
        if stop is not None:
            return stop
        if until is not None and work.runtime.clock() >= until:
            work.run.counts["left"] = 1
            return None  # the next pull goes on with it
        with work.runtime.database.read() as transaction:
            given = {"of": of, "after": place, "since": work.run.started_at}
            ids = list(transaction.execute(_TO_FETCH, given).scalars())
        if not ids and not place:
            return None
        if not ids:
            place = ""
            work.keep(partial(note_place, connection_id=of, place=""))
            continue
        keys = [RemoteKey(one) for one in ids]
        shown, failure = _gather(work, keys)
        why = "" if failure is None else _of_this_one(work, failure)
        if failure is not None:
            # On from the first that did not come.
            came = {one.remote_id for one in shown}
            ids = list(takewhile(came.__contains__, ids))
            if why and not ids:
                # Or is it the service?
                others, _ = _gather(work, keys[1:2])
                if others or work.plan.tries + 1 >= ALERT_AFTER:
                    place = keys[0].id
                    over = partial(_passed_over, work, place, why, len(others))
                    work.store(others, over, whole=True)
                if others:
                    continue
        if ids:
            place = ids[-1]
            work.store(shown, partial(_fetched, work, ids, len(shown)), whole=True)
            work.tell(STAGE, work.run.counts["lacking"], len(ids))
        if failure is not None and not (why and ids):
            raise failure


def _passed_over(
    work: Work,
    id_: str,
    why: str,
    others: int,
    transaction: Transaction,
    run: Run,
    taken: Taken,
) -> None:
    """Go on after somebody who cannot be read; the next pull tries again."""
    run.counts["unread"] += 1
    run.counts["fetched"] += others
    run.note([("unread", id_, why)])
    given = {"of": work.state.id, "ids": [id_], "moment": work.runtime.clock()}
    transaction.execute(_ASKED(transaction), given)
    note_place(transaction, work.state.id, id_)


def _of_this_one(work: Work, failure: Exception) -> str:
    """Return in words what may be the matter with one contact; "" = something else."""
    stop = stop_for(failure, work.state.integration, work.ready.opened.redactor)
    if stop.kind != "rest" or stop.throttled:
        return ""
    return f"could not be read: {without_addresses(stop.why)}"


def _fetched(
    work: Work,
    ids: Sequence[str],
    count: int,
    transaction: Transaction,
    run: Run,
    taken: Taken,
) -> None:
    """Note that they were asked for, shown or not, and where to go on."""
    run.counts["fetched"] += count
    given = {"of": work.state.id, "ids": list(ids), "moment": work.runtime.clock()}
    transaction.execute(_ASKED(transaction), given)
    note_place(transaction, work.state.id, ids[-1])


def _gather(
    work: Work, keys: Sequence[RemoteKey]
) -> tuple[list[RemoteContact], Exception | None]:
    """Read some by themselves; return what came, and what kept the others."""
    shown: list[RemoteContact] = []
    try:
        for one in _each(work, keys):
            shown.append(one)
    except (Fenced, SQLAlchemyError):
        raise
    except Exception as error:  # of the service, or foreign code
        return shown, error
    return shown, None


def _each(work: Work, keys: Sequence[RemoteKey]) -> Iterator[RemoteContact]:
    integration: Any = work.ready.opened.integration
    asked = {key.id for key in keys}
    for one in integration.fetch(work.api, keys):
        if one.remote_id in asked:
            yield one
