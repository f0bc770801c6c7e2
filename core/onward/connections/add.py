"""Add a connection to the database: verified first, saved only then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import Connection as Transaction
from sqlalchemy import insert, select, text, update

from onward.connections.open import make_integration, open_with
from onward.connections.rehearse import rehearsal
from onward.connections.remove import never_used
from onward.connections.state import State, read_all, read_segments, read_state
from onward.connections.verify import refuse_twins, verify_connection
from onward.contract import RemoteSegment
from onward.errors import ConfigError, InputError, OnwardError
from onward.models import Connection, Memory, RemoteSegmentRow, table
from onward.runtime import Runtime

rows = table(Connection)

# Reading goes on; SQLite has one writer anyway.
_ALONE = text(f"LOCK TABLE {rows.name} IN SHARE ROW EXCLUSIVE MODE")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Draft:
    """A connection somebody wants.

    Args:
        settings: as typed; blanks around them are removed.
        segment: remote segment by name or id; None = not said, False = none.
    """

    name: str
    integration: str
    settings: Mapping[str, str] = field(repr=False)
    segment: str | Literal[False] | None = None


class SegmentNeeded(ConfigError):
    """The account is right; which of its remote segments is meant is not said.

    Args:
        segments: those it has.
    """

    def __init__(self, message: str, segments: list[RemoteSegment]) -> None:
        super().__init__(message)
        self.segments = segments


def trimmed(runtime: Runtime, draft: Draft) -> list[str]:
    """Return the titles of the settings that have blanks around them."""
    known = runtime.plugins.integration(draft.integration).Settings.described()
    return [
        known[name].title or name
        for name, text in draft.settings.items()
        if name in known and text != text.strip()
    ]


def add_connection(runtime: Runtime, draft: Draft) -> State:
    """Verify a connection against the service, then save it.

    The verification is a rehearsal in a database in memory, so that whatever goes
    wrong on the way, nothing of it remains.

    Raises:
        InputError: the name cannot be used.
        CredentialsRefused: a setting is missing, or the service refuses; `choices`
            has what the account offers.
        SegmentNeeded: see there.
        ConfigError: the account is connected already, the map does not fit it, or
            secrets cannot be stored here.
        ServiceError: the service could not be asked.
    """
    with runtime.database.read() as transaction:
        _check_name(transaction, runtime, draft)
    settings = {name: text.strip() for name, text in draft.settings.items()}
    draft = replace(draft, settings=settings)
    kind = runtime.plugins.integration(draft.integration)
    secret = kind.Settings.secret_names() & settings.keys()
    if secret:
        # Before anybody is asked anything: is there a key at all?
        runtime.vault().encrypt("", "")
    with rehearsal(runtime) as scratch:
        of = _insert(runtime, scratch, draft)
        _verify(scratch, of, draft)
        return _save(runtime, scratch, of, draft, secret)


def _check_name(transaction: Transaction, runtime: Runtime, draft: Draft) -> None:
    if not _NAME.fullmatch(draft.name):
        raise InputError(
            f'a connection cannot be called "{draft.name}": use a to z, 0 to 9, dot, '
            "dash and underscore, and begin with a letter or digit"
        )
    taken = any(state.name == draft.name for state in read_all(transaction))
    if taken or draft.name in runtime.config.connections:
        raise InputError(
            f'there is a connection "{draft.name}" already; change that one with '
            f"`onward connections set {draft.name}`, or give the new one another name "
            "with --name"
        )


def _insert(runtime: Runtime, scratch: Runtime, draft: Draft) -> int:
    with scratch.database.write() as transaction:
        row = insert(rows).values(**_values(runtime, draft)).returning(rows.c.id)
        return int(transaction.execute(row).scalar_one())


def _values(runtime: Runtime, draft: Draft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "integration": draft.integration,
        "version": 1,
        "declared": "",
        "enabled": True,
        "push_contacts": True,
        "settings": {},
        "secrets": {},
        "options": {"segment": draft.segment},
        "field_map": {},
        "identity": "",
        "rate_key": "",
        "title": "",
        "segment_id": "",
        "remote_fields": [],
        "paused_code": "",
        "paused_why": "",
        "rest_step": 0,
        "created_at": runtime.clock(),
    }


def _verify(scratch: Runtime, of: int, draft: Draft) -> None:
    made = make_integration(
        scratch, draft.integration, dict(draft.settings), name=draft.name
    )
    with scratch.database.read() as transaction:
        state = read_state(transaction, of)
    assert state is not None  # noqa: S101 - it was written two lines ago
    scratch.opened[of] = open_with(scratch, state, made)
    try:
        verify_connection(scratch, state)
    except ConfigError as error:
        segments = _segments(scratch, of)
        with scratch.database.read() as transaction:
            state = read_state(transaction, of)
        # The account was verified and saved, only its segment was not found.
        unresolved = state is not None and not state.segment_id
        if segments and unresolved and draft.segment is not False:
            raise SegmentNeeded(error.message, segments) from None
        raise


def _segments(runtime: Runtime, of: int) -> list[RemoteSegment]:
    with runtime.database.read() as transaction:
        return [
            RemoteSegment(id_, name) for id_, name, _ in read_segments(transaction, of)
        ]


def _save(
    runtime: Runtime, scratch: Runtime, of: int, draft: Draft, secret: frozenset[str]
) -> State:
    """Copy what the rehearsal found, all of it or nothing."""
    with scratch.database.read() as transaction:
        row = dict(
            transaction.execute(select(rows).where(rows.c.id == of)).mappings().one()
        )
        made = read_state(transaction, of)
        related = {
            known: [
                dict(found)
                for found in transaction.execute(
                    select(known).where(known.c.connection_id == of)
                ).mappings()
            ]
            for known in (table(RemoteSegmentRow), table(Memory))
        }
    assert made is not None  # noqa: S101 - its row was read just now
    vault = runtime.vault() if secret else None
    row.pop("id")
    row["settings"] = {n: t for n, t in draft.settings.items() if n not in secret}

    def work(transaction: Transaction) -> State:
        if transaction.dialect.name == "postgresql":
            transaction.execute(_ALONE)
        # Somebody else may have added it while the service was asked.
        _check_name(transaction, runtime, draft)
        refuse_twins(transaction, replace(made, id=0), made.identity, made.title)
        new = int(
            transaction.execute(
                insert(rows)
                .values(**row, **never_used(transaction))
                .returning(rows.c.id)
            ).scalar_one()
        )
        if vault is not None:
            # A sealed secret is bound to its row, so the row comes first.
            sealed = {
                name: vault.encrypt(draft.settings[name], f"connection:{new}:{name}")
                for name in sorted(secret)
            }
            transaction.execute(
                update(rows).where(rows.c.id == new).values(secrets=sealed)
            )
        for known, found in related.items():
            if found:
                copies = [{**one, "connection_id": new} for one in found]
                transaction.execute(insert(known), copies)
        state = read_state(transaction, new)
        assert state is not None  # noqa: S101 - it was written in this transaction
        return state

    return runtime.database.run(work)


def default_name(runtime: Runtime, integration: str) -> str:
    """Return a free name for a connection: `acme`, `acme-2`, …."""
    taken = set(runtime.config.connections)
    with suppress(OnwardError), runtime.database.read() as transaction:
        taken |= {state.name for state in read_all(transaction)}
    name, number = integration, 2
    while name in taken:
        name, number = f"{integration}-{number}", number + 1
    return name
