"""Change the settings of a connection of the database: verified first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import httpx
from sqlalchemy import Connection as Transaction
from sqlalchemy import select, update

from onward.config.model import PullConfig
from onward.connections.open import make_integration, open_with, stored_secrets
from onward.connections.rehearse import rehearsal
from onward.connections.state import (
    MANUAL,
    State,
    hold_state,
    read_state,
    resume,
)
from onward.connections.verify import IdentityChanged, verify_connection
from onward.errors import ConfigError, InputError
from onward.integrations import Integration
from onward.models import Connection, table
from onward.runtime import Runtime
from onward.vault import KeyLost

rows = table(Connection)


def change_connection(
    runtime: Runtime,
    state: State,
    given: Mapping[str, str],
    *,
    segment: str | Literal[False] | None = None,
) -> State:
    """Set some settings of a connection anew; what waits for it goes on waiting.

    A good change is a repair: it resumes what was paused, unless by a person.

    Args:
        given: settings as typed; the others stay as they are.
        segment: remote segment by name or id, False = none, None = as it is.

    Raises:
        InputError: `onward.toml` declares it.
        KeyLost: a secret that is not given anew cannot be read any more.
        CredentialsRefused: a setting is missing, or the service refuses.
        ConfigError: it would be another account, a secret has to be given with
            the new address, or the segment or map does not fit.
        ServiceError: the service could not be asked. Nothing was saved.
    """
    _refuse_declared(state)
    kind = runtime.plugins.integration(state.integration)
    secret = kind.Settings.secret_names()
    given = {name: text.strip() for name, text in given.items()}
    sealing = secret & given.keys()
    if sealing:
        runtime.vault().encrypt("", "")
    kept, lost = stored_secrets(runtime, state)
    missing = [name for name in lost if name not in given]
    if missing:
        raise KeyLost(f"{state.name}: {lost[missing[0]]}: --set {missing[0]}=…")
    made = make_integration(
        runtime, state.integration, {**state.settings, **kept, **given}, name=state.name
    )
    if kept.keys() - given.keys():
        before = {**state.settings, **kept, **{n: given[n] for n in sealing}}
        _check_address(runtime, state, before, made)
    wished = state if segment is None else replace(state, segment=segment)
    _rehearse(runtime, wished, made)

    def work(transaction: Transaction) -> State:
        now = hold_state(transaction, state)
        vault = runtime.vault()
        sealed = {
            name: vault.encrypt(given[name], f"connection:{state.id}:{name}")
            for name in sorted(sealing)
        }
        plain = {name: text for name, text in given.items() if name not in secret}
        values: dict[str, Any] = {
            "settings": {**now.settings, **plain},
            "secrets": {**now.secrets, **sealed},
            "version": rows.c.version + 1,
            # Nobody is to rely on what was found out with the old ones.
            "verified_at": None,
        }
        this = rows.c.id == state.id
        if segment is not None:
            options = transaction.execute(select(rows.c.options).where(this)).scalar()
            values["options"] = {**(options or {}), "segment": segment}
        transaction.execute(update(rows).where(this).values(values))
        fresh = read_state(transaction, state.id)
        assert fresh is not None  # noqa: S101 - it was read in this transaction
        return fresh

    fresh = verify_connection(runtime, runtime.database.run(work))
    if fresh.paused_code and fresh.paused_code != MANUAL:
        resume(runtime, fresh.id, only=fresh.paused_code)
    return fresh


def change_pull(runtime: Runtime, state: State, pull: PullConfig) -> State:
    """Set when and how a connection of the database is pulled; asks nobody anything.

    Raises:
        InputError: `onward.toml` declares it.
        ChangedMeanwhile: somebody else changed it.
    """
    _refuse_declared(state)

    def work(transaction: Transaction) -> State:
        hold_state(transaction, state)
        this = rows.c.id == state.id
        options = transaction.execute(select(rows.c.options).where(this)).scalar()
        changed: dict[str, Any] = {**(options or {}), "pull": pull.document}
        transaction.execute(update(rows).where(this).values({"options": changed}))
        fresh = read_state(transaction, state.id)
        assert fresh is not None  # noqa: S101 - it was read in this transaction
        return fresh

    return runtime.database.run(work)


def _refuse_declared(state: State) -> None:
    if state.declared:
        raise InputError(
            f"{state.name} is declared in onward.toml; change [connections."
            f"{state.name}] there"
        )


def _check_address(
    runtime: Runtime, state: State, before: dict[str, Any], made: Integration
) -> None:
    """Send a stored secret to nobody but whom it was entered for."""
    old = make_integration(runtime, state.integration, before, name=state.name)
    if httpx.URL(old.base_url()) != httpx.URL(made.base_url()):
        names = ", ".join(sorted(state.secrets))
        raise ConfigError(
            f"{state.name}: it would go to {made.base_url()} instead of "
            f"{old.base_url()}; give its secrets with the new address: {names}"
        )


def _rehearse(runtime: Runtime, wished: State, made: Integration) -> None:
    with rehearsal(runtime) as scratch:
        scratch.opened[wished.id] = open_with(scratch, wished, made)
        try:
            verify_connection(scratch, wished)
        except IdentityChanged as error:
            raise ConfigError(
                f"{error.message.partition(';')[0]}; nothing was saved: "
                f"`onward connections add {wished.integration}` connects another "
                "account beside this one"
            ) from None
