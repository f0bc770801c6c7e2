"""Look at how things are: open alerts for what takes time to show, close others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, func, literal_column, select

from onward.alerts.book import Kind, close_alerts, open_alert
from onward.config.alerts import AlertsConfig
from onward.connections.state import (
    MANUAL,
    State,
    read_all,
    read_segments,
    segment_code,
)
from onward.delivery.claiming import FLOWING, WAITING
from onward.delivery.queue import BACKFILL, LIVE
from onward.errands.queue import given_up_words
from onward.models import Alert, Attempt, Errand, Push, table
from onward.runtime import Runtime

alerts = table(Alert)
attempts = table(Attempt)
pushes = table(Push)
errands = table(Errand)

HOUR = timedelta(hours=1)
# What one process, or one machine, says of itself and others cannot see: it is over
# when it was not said for so long. An older file is told of when there is work.
QUIET = timedelta(minutes=10)
SAID = (Kind.OUTDATED, Kind.PLUGIN, Kind.CLOCK)
# What is over as soon as it is not found any more.
SEEN = (Kind.PAUSED, Kind.SEGMENT_PAUSED, Kind.LATE, Kind.FAILING, Kind.ERRAND)

_OLDEST = (
    select(pushes.c.due_at)
    .where(
        pushes.c.connection_id == bindparam("of"),
        WAITING,
        pushes.c.priority == bindparam("share"),
        pushes.c.due_at <= bindparam("moment"),
        FLOWING,
    )
    .order_by(pushes.c.due_at)
    .limit(1)
)
_SENT = (
    select(attempts.c.id)
    .where(
        attempts.c.connection_id == bindparam("of"),
        attempts.c.started_at > bindparam("since"),
    )
    .limit(1)
)
_FAILED = (
    select(pushes.c.connection_id, pushes.c.code, func.count())
    # Literal text, so that the partial index fits.
    .where(
        pushes.c.state == literal_column("'failed'"),
        pushes.c.finished_at > bindparam("since"),
    )
    .group_by(pushes.c.connection_id, pushes.c.code)
    .order_by(func.count().desc(), pushes.c.code)
)
# No more are counted than tell whether the share is too large.
_ENDED = select(func.count()).select_from(
    select(pushes.c.id)
    .where(
        pushes.c.connection_id == bindparam("of"),
        pushes.c.finished_at > bindparam("since"),
        pushes.c.state.in_(["delivered", "unchanged", "failed"]),
    )
    .limit(bindparam("most"))
    .subquery()
)
# The latest of each connection.
_GIVEN_UP = (
    select(errands.c.connection_id, errands.c.kind, errands.c.code, errands.c.reason)
    .where(errands.c.state == literal_column("'failed'"))
    .order_by(errands.c.id)
)
_OPEN = (
    select(alerts.c.connection_id, alerts.c.kind, alerts.c.subject, alerts.c.last_at)
    .where(alerts.c.closed_at.is_(None))
    .order_by(alerts.c.id)
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is so now."""

    connection_id: int
    kind: str
    code: str
    reason: str
    subject: str = ""


def check(runtime: Runtime) -> None:
    """Bring the alerts up to what is so now; telling them is another matter."""
    now = runtime.clock()
    with runtime.database.read() as transaction:
        # What may take a while, before anybody has to wait for us.
        found = [
            *_late(transaction, runtime, now),
            *_failing(transaction, runtime, now),
            *_given_up(transaction),
        ]
    found += _broken_plugins(runtime)

    def work(transaction: Transaction) -> None:
        states = read_all(transaction)
        there = [*found, *_stopped(transaction, states, now, runtime.config.alerts)]
        for one in there:
            open_alert(
                transaction,
                now,
                one.kind,
                connection_id=one.connection_id,
                subject=one.subject,
                code=one.code,
                reason=one.reason,
                again=False,
            )
        _close_others(transaction, states, there, now)

    runtime.database.run(work)


# -- what is so


def _stopped(
    transaction: Transaction, states: list[State], now: datetime, config: AlertsConfig
) -> Iterator[Finding]:
    for state in states:
        if not state.enabled:
            continue
        if state.paused_code not in ("", MANUAL):
            why = state.paused_why.removeprefix(f"{state.name}: ")
            yield Finding(state.id, Kind.PAUSED, state.paused_code, why)
        elif not state.paused_code and _rests_long(state, now, config.resting):
            yield Finding(state.id, Kind.RESTING, state.rest_code, state.rest_why)
        for id_, _, why in read_segments(transaction, state.id):
            if why:
                code = segment_code(id_)
                yield Finding(state.id, Kind.SEGMENT_PAUSED, code, why, id_)


def _rests_long(state: State, now: datetime, limit: timedelta) -> bool:
    since = state.rest_since
    return state.is_resting(now) and since is not None and now - since >= limit


def _late(
    transaction: Transaction, runtime: Runtime, now: datetime
) -> Iterator[Finding]:
    patience = runtime.config.alerts.late
    for state in read_all(transaction):
        if state.paused_code or state.is_resting(now):
            continue  # then somebody knows why, or will
        given = {"of": state.id, "moment": now - patience}
        live = transaction.execute(_OLDEST, {**given, "share": LIVE}).scalar()
        oldest = (
            live or transaction.execute(_OLDEST, {**given, "share": BACKFILL}).scalar()
        )
        if oldest is None:
            continue
        since = {"of": state.id, "since": now - patience}
        sends = transaction.execute(_SENT, since).first() is not None
        if live is None and sends:
            continue  # a back-fill takes its time
        why = (
            "the limits of calls, or the service, are too slow for what is fired"
            if sends
            else "is a worker running? `onward worker`, or `onward deliver` once"
        )
        said = f"a push has been due since {oldest:%Y-%m-%d %H:%M} UTC; {why}"
        yield Finding(state.id, Kind.LATE, "slow" if sends else "not_sent", said)


def _failing(
    transaction: Transaction, runtime: Runtime, now: datetime
) -> Iterator[Finding]:
    config = runtime.config.alerts
    since = now - HOUR
    by_connection: dict[int, dict[str, int]] = {}
    for of, code, count in transaction.execute(_FAILED, {"since": since}):
        by_connection.setdefault(of, {})[code] = count
    for of, codes in by_connection.items():
        failed = sum(codes.values())
        most = max(failed * 100 // config.failing_percent, config.failing_least) + 1
        ended = transaction.execute(
            _ENDED, {"of": of, "since": since, "most": most}
        ).scalar_one()
        enough = ended >= config.failing_least
        if enough and failed * 100 >= config.failing_percent * ended:
            listed = ", ".join(f"{code} {count}" for code, count in codes.items())
            said = f"{failed} of {ended} pushes failed within an hour: {listed}"
            yield Finding(of, Kind.FAILING, next(iter(codes)), said)


def _given_up(transaction: Transaction) -> list[Finding]:
    found: dict[int, Finding] = {}
    for of, kind, code, why in transaction.execute(_GIVEN_UP):
        found[of] = Finding(of, Kind.ERRAND, code, given_up_words(kind, why))
    return list(found.values())


def _broken_plugins(runtime: Runtime) -> list[Finding]:
    return [
        Finding(0, Kind.PLUGIN, "not_loaded", one.problem, one.name)
        for one in runtime.plugins.loaded
        if one.problem and one.problem != "disabled"
    ]


# -- what is not so any more


def _close_others(
    transaction: Transaction, states: list[State], there: list[Finding], now: datetime
) -> None:
    """Close what is open and was not found, where it would have been."""
    found = {(one.connection_id, one.kind, one.subject) for one in there}
    known = {state.id: state for state in states}
    keep: dict[tuple[int, str], list[str]] = {}
    over: set[tuple[int, str]] = set()
    for row in transaction.execute(_OPEN).all():
        of, kind, subject, last_at = row
        if (of, kind, subject) in found or not _is_over(
            known.get(of), of, kind, last_at, now
        ):
            keep.setdefault((of, kind), []).append(subject)
        else:
            over.add((of, kind))
    for of, kind in over:
        left = keep.get((of, kind), ())
        close_alerts(transaction, now, kind, connection_id=of, keep=left)


def _is_over(
    state: State | None, of: int, kind: str, last_at: datetime, now: datetime
) -> bool:
    if of and (state is None or not state.enabled):
        return True  # removed, or switched off
    if kind == Kind.RESTING and state is not None:
        # Between two rests it is not over; without anything to send it is.
        until = state.rest_until
        return bool(state.paused_code) or until is None or now - until > HOUR
    if kind in SAID:
        return now - last_at > QUIET
    return kind in SEEN
