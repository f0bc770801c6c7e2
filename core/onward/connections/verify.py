"""Ask the service who we are, and read its segments and fields."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection as Transaction
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from onward import signals
from onward.alerts.book import Kind, close_alerts
from onward.api import Api
from onward.connections.moved import note_move
from onward.connections.open import Opened, bind_map, open_connection
from onward.connections.rename import (
    release_deleted,
    rename_waiting,
    resolve_segment,
)
from onward.connections.state import (
    AWAKE,
    DELETED,
    REPAIRED_ELSEWHERE,
    UNRESOLVED,
    ChangedMeanwhile,
    State,
    hold_state,
    pause,
    read_segments,
    read_state,
    resume,
)
from onward.contract import Account, RemoteField, RemoteSegment
from onward.errands.queue import cancel_for_connection
from onward.errors import (
    AccountBlocked,
    ConfigError,
    CredentialsRefused,
    OnwardError,
    PluginError,
    ServiceError,
)
from onward.integrations import can
from onward.logs.addresses import without_addresses
from onward.models import (
    OPEN_STATES,
    Connection,
    Hint,
    Memory,
    Push,
    RemoteContactRow,
    RemoteSegmentRow,
    Webhook,
    table,
)
from onward.plain import one_line
from onward.runtime import Runtime
from onward.sync.plan import FIRST, SETTINGS, ask_for_pull, forget_plan
from onward.sync.runs import cancel_runs

rows = table(Connection)
remote_segments = table(RemoteSegmentRow)
remote_contacts = table(RemoteContactRow)
memory = table(Memory)
webhooks = table(Webhook)
pushes = table(Push)
hints = table(Hint)

FRESH = timedelta(days=1)
log = logging.getLogger("onward.connections")

Answered = TypeVar("Answered")
Named = TypeVar("Named", Account, RemoteSegment, RemoteField)


class IdentityChanged(ConfigError):
    """The settings lead to another account than before."""


def is_fresh(runtime: Runtime, state: State) -> bool:
    """Tell whether a connection was verified within the last day."""
    return state.verified_at is not None and runtime.clock() - state.verified_at < FRESH


@dataclass(frozen=True, slots=True)
class _Found:
    """What the service says about an account.

    Args:
        segment_id: the wished remote segment, "" when there is none.
        problem: why it cannot be told.
    """

    account: Account
    segments: Sequence[RemoteSegment]
    segment_id: str
    problem: str
    fields: Sequence[RemoteField]


def verify_connection(
    runtime: Runtime,
    state: State,
    *,
    accept: bool = False,
    renew: Callable[[], None] = lambda: None,
    asked_for: bool = True,
) -> State:
    """Verify a connection, read segments and fields, check the map; save all.

    Args:
        accept: take another account than before for granted: forget what was
            known of the old one, cancel its waiting rows.
        renew: prolongs the lease of the drain that asks.
        asked_for: somebody wants it saved, and is told when it was not.

    Raises:
        CredentialsRefused: nothing was saved.
        IdentityChanged: it is another account, and nobody said that it may be.
        ConfigError: the segment or the map does not fit the account; what the
            account has is saved.
        ServiceError: the service could not be asked.
        PluginError: the integration failed.
        ChangedMeanwhile: the settings are others than those asked about by now.
    """
    opened = open_connection(runtime, state)
    try:
        found = foreign(
            opened, lambda: _ask(runtime, opened, state, renew, accept=accept)
        )
    except ServiceError as error:
        if asked_for:
            error.args = (f"{error.message.rstrip('.')}; nothing was saved.",)
        raise
    changed = bool(state.identity) and found.account.identity != state.identity

    def save(transaction: Transaction) -> list[str]:
        hold_state(transaction, state)
        if changed:
            _reset(transaction, state, runtime)
        if can(opened.integration, "pull"):
            _plan_pull(transaction, state, runtime, changed=changed)
        _save(transaction, runtime, state, found)
        _save_segments(transaction, runtime, state, found.segments)
        own = None if found.problem else found.segment_id
        release_deleted(transaction, runtime, state, own, found.segments)
        if own is None:
            return []
        return rename_waiting(transaction, runtime, state, own, found.segments)

    _announce(runtime, state, runtime.database.run(save))
    fresh = _fresh(runtime, state)
    if found.problem:
        raise ConfigError(found.problem)
    bind_map(runtime, fresh)
    signals.announce(
        signals.connection_verified,
        runtime.sender,
        signals.ConnectionFact(state.name),
    )
    return fresh


def reread_segments(runtime: Runtime, state: State, renew: Callable[[], None]) -> State:
    """Read the segments alone, for rows that name one nobody knows yet.

    Those that name none of the account's are held.

    Raises:
        ConfigError, ServiceError, PluginError: see `verify_connection`.
    """
    opened = open_connection(runtime, state)
    api = opened.api(runtime, renew=renew)
    segments = foreign(opened, lambda: _segments(opened, api))
    segment_id, problem = _resolve(state, segments)
    if problem:
        raise ConfigError(problem)

    def save(transaction: Transaction) -> list[str]:
        hold_state(transaction, state)
        _save_segments(transaction, runtime, state, segments)
        transaction.execute(
            update(rows).where(rows.c.id == state.id).values(segment_id=segment_id)
        )
        return rename_waiting(transaction, runtime, state, segment_id, segments)

    _announce(runtime, state, runtime.database.run(save))
    return _fresh(runtime, state)


def _announce(runtime: Runtime, state: State, held: Iterable[str]) -> None:
    for why in held:
        log.error("%s", without_addresses(why))
        fact = signals.ConnectionFact(state.name, "no_such_segment", why)
        signals.announce(signals.connection_paused, runtime.sender, fact)


def foreign(opened: Opened, ask: Callable[[], Answered]) -> Answered:
    """Ask an integration; whatever it raises becomes one of our errors.

    None holds a secret, whatever the service or the integration put into it.
    """
    try:
        return ask()
    except OnwardError as error:
        opened.redactor.error(error)
        raise
    except SQLAlchemyError:  # of our own database
        raise
    except Exception as error:
        raise PluginError(
            opened.redactor.text(f"{opened.state.integration} failed: {error!r}")
        ) from error


def _ask(
    runtime: Runtime,
    opened: Opened,
    state: State,
    renew: Callable[[], None],
    *,
    accept: bool,
) -> _Found:
    api = opened.api(runtime, renew=renew)
    account = _plain(opened.integration.verify(api))
    with runtime.database.read() as transaction:
        refuse_twins(transaction, state, account.identity, account.title)
    if state.identity and account.identity != state.identity and not accept:
        raise IdentityChanged(
            f"{state.name}: the settings now lead to {account.title} "
            f"({account.identity}) instead of {state.identity}; nothing is sent "
            f"until `onward connections accept {state.name}` confirms it"
        )
    segments = _segments(opened, api)
    segment_id, problem = _resolve(state, segments)
    wished = next((s for s in segments if s.id == segment_id), None)
    fields = [_plain(one) for one in opened.integration.fields(api, wished)]
    if not fields:
        raise PluginError(f"{state.integration}: the service names no field at all")
    return _Found(account, segments, segment_id, problem, fields)


def _segments(opened: Opened, api: Api) -> list[RemoteSegment]:
    """Read every segment; one that came twice while pages shifted counts once."""
    found = map(_plain, opened.integration.segments(api))
    return list({segment.id: segment for segment in found}.values())


def _plain(found: Named) -> Named:
    """Return what a service calls something as one line that steers no terminal."""
    names: dict[str, Any] = {
        one.name: one_line(text)
        for one in dataclasses.fields(found)
        if isinstance(text := getattr(found, one.name), str)
    }
    return dataclasses.replace(found, **names)


def _fresh(runtime: Runtime, state: State) -> State:
    with runtime.database.read() as transaction:
        fresh = read_state(transaction, state.id)
    if fresh is None:
        raise ChangedMeanwhile(f"{state.name}: the connection was removed meanwhile")
    return fresh


def verify_or_pause(
    runtime: Runtime, state: State, *, renew: Callable[[], None] = lambda: None
) -> State | None:
    """Verify; pause the connection when a person must do something.

    One that was paused, and was repaired where only the service knows, goes on.

    Returns:
        The fresh state, or None when it was paused.

    Raises:
        ServiceError: the service could not be asked; nothing changed.
        ChangedMeanwhile: see `verify_connection`.
    """
    try:
        fresh = verify_connection(runtime, state, renew=renew, asked_for=False)
        code = fresh.paused_code
        if code in REPAIRED_ELSEWHERE and resume(runtime, state.id, only=code):
            return _fresh(runtime, state)
    except IdentityChanged as error:
        fault = "identity_changed", error.message
    except AccountBlocked as error:
        fault = "account_blocked", error.message
    except CredentialsRefused as error:
        fault = "credentials", f"{error.message} {error.hint}".strip()
    except (ConfigError, PluginError) as error:
        fault = "settings", error.message
    else:
        return fresh
    if not pause(runtime, state.id, *fault, seen=state.version):
        raise ChangedMeanwhile(f"{state.name}: the connection was changed meanwhile")
    return None


def refuse_twins(
    transaction: Transaction, state: State, identity: str, title: str
) -> None:
    """Refuse a second connection to the same account.

    Raises:
        ConfigError: another one leads there.
    """
    twin = transaction.execute(
        select(rows.c.name).where(
            rows.c.integration == state.integration,
            rows.c.identity == identity,
            rows.c.id != state.id,
            # One that was renamed or taken out of the file pushes nothing.
            rows.c.enabled,
        )
    ).scalar()
    if twin is not None:
        raise ConfigError(
            f'{state.name}: the connection "{twin}" already leads to {title} '
            f"({identity}); use that one, or another account or folder"
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
    transaction: Transaction, runtime: Runtime, state: State, found: _Found
) -> None:
    transaction.execute(
        update(rows)
        .where(rows.c.id == state.id)
        .values(
            identity=found.account.identity,
            rate_key=f"{state.integration}:{found.account.rate_key}",
            title=found.account.title,
            segment_id=found.segment_id,
            remote_fields=[asdict(field) for field in found.fields],
            verified_at=runtime.clock(),
        )
    )


def _save_segments(
    transaction: Transaction,
    runtime: Runtime,
    state: State,
    segments: Sequence[RemoteSegment],
) -> None:
    def is_marked(id_: str, name: str) -> bool:
        return id_.startswith(UNRESOLVED) or name.startswith(DELETED)

    now = runtime.clock()
    there = {segment.id for segment in segments}
    paused = {
        id_: (name, why)
        for id_, name, why in read_segments(transaction, state.id)
        # A list that is back may be pushed to again.
        if why and id_ not in there
    }
    transaction.execute(
        delete(remote_segments).where(remote_segments.c.connection_id == state.id)
    )
    close_alerts(
        transaction, now, Kind.SEGMENT_PAUSED, connection_id=state.id, keep=paused
    )
    kept = [(segment.id, segment.name, "") for segment in segments]
    kept += [
        (id_, name if is_marked(id_, name) else f"{DELETED}{name}", why)
        for id_, (name, why) in paused.items()
    ]
    if kept:
        transaction.execute(
            insert(remote_segments),
            [
                {
                    "connection_id": state.id,
                    "id": id_,
                    "name": name,
                    "paused_why": why,
                    "seen_at": now,
                }
                for id_, name, why in kept
            ],
        )


def _plan_pull(
    transaction: Transaction, state: State, runtime: Runtime, *, changed: bool
) -> None:
    """Have a new account pulled at once, and one that has new credentials."""
    if state.pull.every is None:
        return
    if changed or not state.identity:
        ask_for_pull(transaction, state.id, runtime.clock(), FIRST)
    elif state.verified_at is None:
        ask_for_pull(transaction, state.id, runtime.clock(), SETTINGS)


def _reset(transaction: Transaction, state: State, runtime: Runtime) -> None:
    """Forget the old account: ids, snapshots, cursors; ledger and opt-outs stay."""
    note_move(transaction, state.id, runtime.clock())
    transaction.execute(
        update(rows)
        .where(rows.c.id == state.id)
        # Whoever has it open holds facts about the old account.
        .values(version=rows.c.version + 1, **AWAKE)
    )
    transaction.execute(
        update(pushes)
        # What is on its way goes to the old one: nothing that comes back is stored.
        .where(
            pushes.c.connection_id == state.id,
            pushes.c.state.in_([one.value for one in OPEN_STATES]),
        )
        .values(
            state="cancelled",
            code="identity_changed",
            reason=f"it was meant for {state.identity}, the connection now leads "
            "to another account",
            finished_at=runtime.clock(),
            due_at=None,
        )
    )
    cancel_for_connection(
        transaction,
        state.id,
        "identity_changed",
        f"it was meant for {state.identity}",
        runtime.clock(),
    )
    why = "the connection leads to another account"
    cancel_runs(transaction, state.id, runtime.clock(), why)
    forget_plan(transaction, state.id)
    for known in (remote_contacts, memory, remote_segments, hints, webhooks):
        transaction.execute(delete(known).where(known.c.connection_id == state.id))
