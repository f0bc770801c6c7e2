"""A connection's row: read it, pause it, let it rest, resume it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Literal

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, or_, select, true, update

from onward import signals
from onward.alerts.book import Kind, close_alerts, open_alert
from onward.config.model import PullConfig
from onward.contract import RemoteField
from onward.delivery.retry import rest_for
from onward.errors import InputError
from onward.logs.addresses import without_addresses
from onward.models import Connection, RemoteSegmentRow, table
from onward.runtime import Runtime
from onward.sql import PerDialect

# With what is said of deliveries: see `onward.delivery.trail`.
log = logging.getLogger("onward.trail")

rows = table(Connection)
remote_segments = table(RemoteSegmentRow)

# Why a connection is paused that a person paused.
MANUAL = "manual"
# Who pays the bill, allows the credentials or corrects the map tells only the service,
# or a file. What a person paused, or must confirm, waits for that person.
REPAIRED_ELSEWHERE = ("credentials", "account_blocked", "settings")
# A remote segment that could not be resolved yet: "?" + what was asked for.
UNRESOLVED = "?"
# What the name of a segment begins with that is not there any more.
DELETED = "(deleted) "
# What a connection that does not rest says about its rest.
AWAKE: dict[str, Any] = {
    "rest_until": None,
    "rest_step": 0,
    "rest_code": "",
    "rest_why": "",
    "rest_since": None,
}

_BY_ID = select(rows).where(rows.c.id == bindparam("of"))
_BY_NAME = select(rows).where(rows.c.name == bindparam("called"))
_SEGMENTS = (
    select(remote_segments.c.id, remote_segments.c.name, remote_segments.c.paused_why)
    .where(remote_segments.c.connection_id == bindparam("of"))
    .order_by(remote_segments.c.name, remote_segments.c.id)
)
_IDENTITY = (
    select(rows.c.identity)
    .where(rows.c.id == bindparam("of"))
    .with_for_update(read=True)
)
_NOW = select(rows.c.version, rows.c.rest_until).where(rows.c.id == bindparam("of"))
_RESTS = (
    select(rows.c.rest_step, rows.c.rest_until, rows.c.rest_since)
    .where(rows.c.id == bindparam("of"))
    # Somebody may resume it at this moment.
    .with_for_update()
)


# Two rests with so long between them are not one.
FORGOTTEN = timedelta(hours=1)


def _hold_segment(insert: Any) -> Any:
    statement = insert(remote_segments)
    return statement.on_conflict_do_update(
        index_elements=["connection_id", "id"],
        set_={"paused_why": statement.excluded.paused_why},
        where=remote_segments.c.paused_why == "",
    )


_PAUSE_SEGMENT = PerDialect(_hold_segment)


class ChangedMeanwhile(InputError):
    """The connection was changed while the service was asked."""


@dataclass(frozen=True, slots=True)
class State:
    """A connection as its row says.

    Args:
        declared: fingerprint of its table in `onward.toml`; "" = not declared.
        segment: what was asked for: name or id, None = not said, False = none.
        segment_id: what it was resolved to; "" = on no remote segment.
    """

    id: int
    name: str
    integration: str
    version: int
    declared: str
    enabled: bool
    push_contacts: bool
    segment: str | Literal[False] | None
    segment_id: str
    opt_in: Literal["normal", "pending"]
    unsubscribe_means: str
    field_map_name: str
    pull: PullConfig
    identity: str
    rate_key: str
    title: str
    remote_fields: tuple[RemoteField, ...]
    verified_at: datetime | None
    paused_code: str
    paused_why: str
    paused_at: datetime | None
    rest_until: datetime | None
    rest_step: int
    rest_code: str
    rest_why: str
    rest_since: datetime | None
    settings: dict[str, Any]
    secrets: dict[str, Any]
    field_map: dict[str, Any]

    @property
    def status(self) -> str:
        """`active`, `paused` or `switched off`."""
        if not self.enabled:
            return "switched off"
        return "paused" if self.paused_code else "active"

    @property
    def counted_as(self) -> str:
        """What its calls are limited by, together with others of the same account."""
        return counted_as(self.id, self.rate_key)

    def is_resting(self, now: datetime) -> bool:
        """Tell whether it must not be called yet."""
        return self.rest_until is not None and self.rest_until > now


@dataclass(frozen=True, slots=True)
class Rest:
    """How long a connection rests: until then, and since the first of its rests."""

    until: datetime
    since: datetime


def counted_as(connection_id: int, rate_key: str) -> str:
    """Return the rate key of a connection; its own while none is known."""
    return rate_key or f"connection:{connection_id}"


# What of a connection somebody sets.
_SETTINGS = (
    "integration",
    "declared",
    "enabled",
    "push_contacts",
    "segment",
    "opt_in",
    "unsubscribe_means",
    "field_map_name",
    "pull",
    "settings",
    "secrets",
    "field_map",
)


def _state(row: Any) -> State:
    options = row["options"]
    return State(
        id=row["id"],
        name=row["name"],
        integration=row["integration"],
        version=row["version"],
        declared=row["declared"],
        enabled=row["enabled"],
        push_contacts=row["push_contacts"],
        segment=options.get("segment"),
        segment_id=row["segment_id"],
        opt_in=options.get("opt_in", "normal"),
        unsubscribe_means=options.get("unsubscribe_means", "segment"),
        field_map_name=options.get("field_map", ""),
        pull=PullConfig.of(options.get("pull", {})),
        identity=row["identity"],
        rate_key=row["rate_key"],
        title=row["title"],
        remote_fields=tuple(RemoteField(**entry) for entry in row["remote_fields"]),
        verified_at=row["verified_at"],
        paused_code=row["paused_code"],
        paused_why=row["paused_why"],
        paused_at=row["paused_at"],
        rest_until=row["rest_until"],
        rest_step=row["rest_step"],
        rest_code=row["rest_code"],
        rest_why=row["rest_why"],
        rest_since=row["rest_since"],
        settings=row["settings"],
        secrets=row["secrets"],
        field_map=row["field_map"],
    )


def read_state(transaction: Transaction, connection_id: int) -> State | None:
    """Return a connection, None when it is gone."""
    row = transaction.execute(_BY_ID, {"of": connection_id}).mappings().first()
    return None if row is None else _state(row)


def what_stops(
    transaction: Transaction, connection_id: int, seen: int, now: datetime
) -> tuple[str, str]:
    """Tell why nothing more may be sent with what was read of a connection before.

    Args:
        seen: version that was read.

    Returns:
        Code and words; empty when nothing does.
    """
    row = transaction.execute(_NOW, {"of": connection_id}).first()
    if row is None or row.version != seen:
        return "changed", "the connection was changed"
    if row.rest_until is not None and row.rest_until > now:
        # Told to by another connection of the account, which is counted with it.
        return "rests", "the connection rests"
    return "", ""


def hold_state(transaction: Transaction, state: State) -> State:
    """Let nobody else change a connection until the transaction ends; return it.

    That it was paused or resumed is no change.

    Raises:
        ChangedMeanwhile: it has other settings by now than the caller knows.
    """
    held = _BY_ID.with_for_update()
    row = transaction.execute(held, {"of": state.id}).mappings().first()
    if row is None:
        raise ChangedMeanwhile(f"{state.name}: the connection was removed meanwhile")
    now, settings = _state(row), attrgetter(*_SETTINGS)
    # Two may ask at once who it is for the first time.
    moved = state.identity not in ("", now.identity)
    others = moved or settings(now) != settings(state)
    if others and now.version != state.version:
        raise ChangedMeanwhile(
            f"{state.name}: somebody else changed it meanwhile; try again"
        )
    return now


def hold_identity(transaction: Transaction, connection_id: int) -> str:
    """Let it lead to no other account until the transaction ends; return which."""
    return transaction.execute(_IDENTITY, {"of": connection_id}).scalar() or ""


def read_all(transaction: Transaction) -> list[State]:
    """Return every connection by name."""
    found = transaction.execute(select(rows).order_by(rows.c.name)).mappings()
    return [_state(row) for row in found]


def named(transaction: Transaction, name: str) -> State:
    """Return a connection by its name.

    Raises:
        InputError: there is none; the known ones are listed.
    """
    row = transaction.execute(_BY_NAME, {"called": name}).mappings().first()
    if row is None:
        known = ", ".join(state.name for state in read_all(transaction)) or "none"
        raise InputError(f'there is no connection "{name}"; there are: {known}')
    return _state(row)


def read_segments(
    transaction: Transaction, connection_id: int
) -> Sequence[tuple[str, str, str]]:
    """Return (id, name, why it is paused) of the remote segments last read."""
    found = transaction.execute(_SEGMENTS, {"of": connection_id})
    return [(row.id, row.name, row.paused_why) for row in found]


def pause(
    runtime: Runtime,
    connection_id: int,
    code: str,
    why: str,
    *,
    seen: int | None = None,
) -> bool:
    """Hold the rows of a connection until somebody repairs it.

    One that a person paused stays paused by that person.

    Args:
        seen: version of the connection that has this fault: another may have been
            repaired meanwhile. None = whichever there is.

    Returns:
        False when there is another version by now, and nothing was done.
    """
    now = runtime.clock()
    same = true() if seen is None else rows.c.version == seen

    def work(transaction: Transaction) -> tuple[int, State | None]:
        changed = transaction.execute(
            update(rows)
            .where(
                rows.c.id == connection_id,
                same,
                rows.c.paused_code.not_in([code, MANUAL]),
            )
            .values(
                paused_code=code,
                paused_why=why,
                paused_at=now,
                version=rows.c.version + 1,
            )
        ).rowcount
        state = read_state(transaction, connection_id)
        if changed or is_seen(state):
            _alert_paused(transaction, state, now)
        return changed, state

    def is_seen(state: State | None) -> bool:
        return state is not None and seen in (None, state.version)

    changed, state = runtime.database.run(work)
    if not changed and not is_seen(state):
        return False
    if changed and state is not None:
        words, more = without_addresses(why), {"connection": state.name, "code": code}
        log.error("%s is paused: %s", state.name, words, extra=more)
        signals.announce(
            signals.connection_paused,
            runtime.sender,
            signals.ConnectionFact(state.name, code, why),
        )
    return True


def _alert_paused(transaction: Transaction, state: State | None, now: datetime) -> None:
    if state is None:
        return
    if state.paused_code == MANUAL:
        # Whoever paused it knows.
        close_alerts(transaction, now, Kind.PAUSED, connection_id=state.id)
    elif state.enabled:
        open_alert(
            transaction,
            now,
            Kind.PAUSED,
            connection_id=state.id,
            code=state.paused_code,
            reason=state.paused_why.removeprefix(f"{state.name}: "),
        )


def resume(runtime: Runtime, connection_id: int, *, only: str = "") -> bool:
    """Let the held rows of a connection go; tell whether they were held.

    Args:
        only: if that is still why they are.
    """
    why = rows.c.paused_code == only if only else rows.c.paused_code != ""

    def work(transaction: Transaction) -> tuple[int, State | None]:
        changed = transaction.execute(
            update(rows)
            .where(rows.c.id == connection_id, why)
            .values(
                paused_code="",
                paused_why="",
                paused_at=None,
                **AWAKE,
                version=rows.c.version + 1,
            )
        ).rowcount
        if changed:
            for kind in (Kind.PAUSED, Kind.RESTING):
                close_alerts(
                    transaction, runtime.clock(), kind, connection_id=connection_id
                )
        return changed, read_state(transaction, connection_id)

    changed, state = runtime.database.run(work)
    if changed and state is not None:
        log.info("%s goes on", state.name, extra={"connection": state.name})
        signals.announce(
            signals.connection_resumed,
            runtime.sender,
            signals.ConnectionFact(state.name),
        )
    return bool(changed)


def segment_code(segment: str) -> str:
    """Return the word that says why a remote segment is paused."""
    return "no_such_segment" if segment.startswith(UNRESOLVED) else "segment_gone"


def pause_segment(runtime: Runtime, state: State, segment: str, why: str) -> None:
    """Hold the rows for one remote segment until somebody repairs it."""
    # The daily reading may have dropped it already.
    name, now = f"{DELETED}{segment}", runtime.clock()
    changed = runtime.database.run(
        lambda transaction: hold_segment(transaction, state.id, segment, name, why, now)
    )
    if changed:
        signals.announce(
            signals.connection_paused,
            runtime.sender,
            signals.ConnectionFact(state.name, "segment_gone", why),
        )


def hold_segment(
    transaction: Transaction,
    connection_id: int,
    segment: str,
    name: str,
    why: str,
    now: datetime,
) -> bool:
    """Note that rows for one remote segment are held; tell whether that is new."""
    held = {
        "connection_id": connection_id,
        "id": segment,
        "name": name,
        "paused_why": why,
        "seen_at": now,
    }
    is_new = bool(transaction.execute(_PAUSE_SEGMENT(transaction), held).rowcount)
    open_alert(
        transaction,
        now,
        Kind.SEGMENT_PAUSED,
        connection_id=connection_id,
        subject=segment,
        code=segment_code(segment),
        reason=why,
        again=is_new,
    )
    return is_new


def rest(
    transaction: Transaction,
    connection_id: int,
    now: datetime,
    after: timedelta | None,
    *,
    code: str = "",
    why: str = "",
    again: bool = False,
) -> Rest:
    """Leave a service in peace for a while; other processes obey it too.

    Args:
        after: what the service asked for; None = 2, 4, 8 … 900 s.
        code, why: what happened, for whoever meets it resting.
        again: it rests already, for another batch that was on its way at the same
            time: only a longer wish of the service counts.
    """
    row = transaction.execute(_RESTS, {"of": connection_id}).one()
    if again and row.rest_until is not None:
        until: datetime = max(row.rest_until, now + (after or timedelta()))
        step = row.rest_step
    else:
        until = now + rest_for(row.rest_step, after)
        step = row.rest_step + 1
    since: datetime = row.rest_since or now
    if row.rest_until is not None and now - row.rest_until > FORGOTTEN:
        since = now  # nothing was sent since: another story
    transaction.execute(
        update(rows)
        .where(rows.c.id == connection_id)
        .values(
            rest_until=until,
            rest_step=step,
            rest_code=code,
            rest_why=why,
            rest_since=since,
        )
    )
    return Rest(until, since)


def clear_rest(transaction: Transaction, connection_id: int, now: datetime) -> None:
    """Note that the service works again."""
    transaction.execute(
        update(rows)
        .where(
            rows.c.id == connection_id,
            rows.c.rest_step > 0,
            # Told to rest meanwhile, by one that is counted together with it.
            or_(rows.c.rest_until.is_(None), rows.c.rest_until <= now),
        )
        .values(AWAKE)
    )
    close_alerts(transaction, now, Kind.RESTING, connection_id=connection_id)
