"""Ask the service who we are, and read its segments and fields."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from difflib import get_close_matches

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, insert, select, update

from onward import signals
from onward.connections.open import bind_map, open_connection
from onward.connections.state import (
    UNRESOLVED,
    State,
    pause,
    read_segments,
    read_state,
)
from onward.contract import Account, RemoteField, RemoteSegment
from onward.delivery.queue import Wish, enqueue
from onward.errors import ConfigError, CredentialsRefused, InputError, PluginError
from onward.models import (
    Cause,
    Connection,
    Memory,
    Push,
    RemoteContactRow,
    RemoteSegmentRow,
    table,
)
from onward.runtime import Runtime

log = logging.getLogger("onward.connections")

rows = table(Connection)
remote_segments = table(RemoteSegmentRow)
remote_contacts = table(RemoteContactRow)
memory = table(Memory)
pushes = table(Push)
causes = table(Cause)

FRESH = timedelta(days=1)


class IdentityChanged(ConfigError):
    """The settings lead to another account than before."""


def is_fresh(runtime: Runtime, state: State) -> bool:
    """Tell whether a connection was verified within the last day."""
    return state.verified_at is not None and runtime.clock() - state.verified_at < FRESH


def verify_connection(runtime: Runtime, state: State, *, accept: bool = False) -> State:
    """Verify a connection, read segments and fields, check the map; save all.

    Args:
        accept: take another account than before for granted: forget what was
            known of the old one, cancel its waiting rows.

    Raises:
        CredentialsRefused: nothing was saved.
        IdentityChanged: it is another account, and nobody said that it may be.
        ConfigError: the segment or the map does not fit the account; what the
            account has is saved.
        ServiceError: the service could not be asked.
    """
    opened = open_connection(runtime, state)
    api = opened.api(runtime)
    try:
        account = opened.integration.verify(api)
        _refuse_twins(runtime, state, account)
        if state.identity and account.identity != state.identity and not accept:
            raise IdentityChanged(
                f"{state.name}: the settings now lead to {account.title} "
                f"({account.identity}) instead of {state.identity}; nothing is sent "
                f"until `onward connections accept {state.name}` confirms it"
            )
        segments = _unique(opened.integration.segments(api))
        segment_id, problem = _resolve(state, segments)
        wished = next((s for s in segments if s.id == segment_id), None)
        fields = list(opened.integration.fields(api, wished))
    finally:
        api.close()
    if not fields:
        raise PluginError(f"{state.integration}: the service names no field at all")

    def save(transaction: Transaction) -> None:
        if state.identity and account.identity != state.identity:
            _reset(transaction, state, runtime)
        _save(transaction, runtime, state, account, segments, segment_id, fields)
        if not problem:
            _rename_waiting(transaction, state, segment_id, segments, runtime)

    runtime.database.run(save)
    with runtime.database.read() as transaction:
        fresh = read_state(transaction, state.id)
    if fresh is None:
        raise InputError(f"{state.name}: the connection was removed meanwhile")
    if problem:
        raise ConfigError(problem)
    bind_map(runtime, fresh)
    signals.announce(
        signals.connection_verified,
        runtime.sender,
        signals.ConnectionFact(state.name),
    )
    return fresh


def verify_or_pause(runtime: Runtime, state: State) -> State | None:
    """Verify; pause the connection when a person must do something.

    Returns:
        The fresh state, or None when it was paused.

    Raises:
        ServiceError: the service could not be asked; nothing changed.
    """
    try:
        return verify_connection(runtime, state)
    except IdentityChanged as error:
        pause(runtime, state.id, "identity_changed", error.message)
    except CredentialsRefused as error:
        words = f"{error.message} {error.hint}".strip()
        pause(runtime, state.id, "credentials", words)
    except (ConfigError, PluginError) as error:
        pause(runtime, state.id, "settings", error.message)
    return None


def _refuse_twins(runtime: Runtime, state: State, account: Account) -> None:
    with runtime.database.read() as transaction:
        twin = transaction.execute(
            select(rows.c.name).where(
                rows.c.integration == state.integration,
                rows.c.identity == account.identity,
                rows.c.id != state.id,
            )
        ).scalar()
    if twin is not None:
        raise ConfigError(
            f'{state.name}: the connection "{twin}" already leads to {account.title} '
            f"({account.identity}); use that one, or another account or folder"
        )


def _unique(segments: Iterable[RemoteSegment]) -> list[RemoteSegment]:
    """Drop rows that appeared twice while pages shifted."""
    return list({segment.id: segment for segment in segments}.values())


def resolve_segment(
    name: str, wished: str, segments: Sequence[RemoteSegment]
) -> tuple[str, str]:
    """Return (id, problem) of a remote segment given by id or name."""
    if any(segment.id == wished for segment in segments):
        return wished, ""
    same = [s for s in segments if s.name == wished] or [
        s for s in segments if s.name.casefold() == wished.casefold()
    ]
    if len(same) == 1:
        return same[0].id, ""
    if same:
        ids = ", ".join(segment.id for segment in same)
        return "", (
            f'{name}: {len(same)} remote segments are called "{wished}"; '
            f"name the one you mean by its id: {ids}"
        )
    close = get_close_matches(wished, [s.name for s in segments], n=1)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    return "", (
        f'{name}: the account has no remote segment "{wished}"; {hint}'
        f"`onward segments {name}` lists the {len(segments)} it has"
    )


def _resolve(state: State, segments: Sequence[RemoteSegment]) -> tuple[str, str]:
    if state.segment is False:
        return "", ""
    if state.segment is not None:
        return resolve_segment(state.name, state.segment, segments)
    if len(segments) == 1:
        return segments[0].id, ""
    if not segments:
        return "", ""
    return "", (
        f"{state.name}: the account has {len(segments)} remote segments and none is "
        f"chosen; set `segment` to a name or id (`onward segments {state.name}` "
        "lists them), or to false for none"
    )


def _save(
    transaction: Transaction,
    runtime: Runtime,
    state: State,
    account: Account,
    segments: Sequence[RemoteSegment],
    segment_id: str,
    fields: Sequence[RemoteField],
) -> None:
    now = runtime.clock()
    transaction.execute(
        update(rows)
        .where(rows.c.id == state.id)
        .values(
            identity=account.identity,
            rate_key=f"{state.integration}:{account.rate_key}",
            title=account.title,
            segment_id=segment_id,
            remote_fields=[asdict(field) for field in fields],
            verified_at=now,
        )
    )
    paused = {
        id_: why
        for id_, _, why in read_segments(transaction, state.id)
        # A list that is back may be pushed to again.
        if why and id_ not in {segment.id for segment in segments}
    }
    transaction.execute(
        delete(remote_segments).where(remote_segments.c.connection_id == state.id)
    )
    kept = [
        {
            "connection_id": state.id,
            "id": segment.id,
            "name": segment.name,
            "paused_why": "",
            "seen_at": now,
        }
        for segment in segments
    ] + [
        {
            "connection_id": state.id,
            "id": id_,
            "name": f"(deleted) {id_}",
            "paused_why": why,
            "seen_at": now,
        }
        for id_, why in paused.items()
    ]
    if kept:
        transaction.execute(insert(remote_segments), kept)


def _reset(transaction: Transaction, state: State, runtime: Runtime) -> None:
    """Forget the old account: ids, snapshots, cursors; ledger and opt-outs stay."""
    for known in (remote_contacts, memory, remote_segments):
        transaction.execute(delete(known).where(known.c.connection_id == state.id))
    transaction.execute(
        update(pushes)
        .where(pushes.c.connection_id == state.id, pushes.c.state == "waiting")
        .values(
            state="cancelled",
            code="identity_changed",
            reason=f"it was meant for {state.identity}, the connection now leads "
            "to another account",
            finished_at=runtime.clock(),
            due_at=None,
        )
    )


def _rename_waiting(
    transaction: Transaction,
    state: State,
    segment_id: str,
    segments: Sequence[RemoteSegment],
    runtime: Runtime,
) -> None:
    """Give rows that were queued before the segments were known their real one."""
    waiting = transaction.execute(
        select(pushes.c.id, pushes.c.contact_id, pushes.c.segment, pushes.c.priority)
        .where(
            pushes.c.connection_id == state.id,
            pushes.c.state == "waiting",
            pushes.c.segment.startswith(UNRESOLVED, autoescape=True),
        )
        .order_by(pushes.c.id)
    ).all()
    for row in waiting:
        wished = row.segment.removeprefix(UNRESOLVED)
        real, problem = (
            resolve_segment(state.name, wished, segments)
            if wished
            else (segment_id, "")
        )
        if problem:
            transaction.execute(
                update(pushes)
                .where(pushes.c.id == row.id)
                .values(
                    state="failed",
                    code="no_such_segment",
                    reason=problem,
                    finished_at=runtime.clock(),
                    due_at=None,
                )
            )
            continue
        taken = transaction.execute(
            select(pushes.c.id).where(
                pushes.c.connection_id == state.id,
                pushes.c.contact_id == row.contact_id,
                pushes.c.segment == real,
                pushes.c.state.in_(("waiting", "sending", "submitted")),
            )
        ).scalar()
        if taken is None:
            transaction.execute(
                update(pushes).where(pushes.c.id == row.id).values(segment=real)
            )
            continue
        wish = Wish(state.id, row.contact_id, real, "manual", priority=row.priority)
        joined = enqueue(transaction, [wish], runtime.clock())[wish]
        transaction.execute(
            update(causes).where(causes.c.push_id == row.id).values(push_id=joined)
        )
        transaction.execute(delete(pushes).where(pushes.c.id == row.id))
