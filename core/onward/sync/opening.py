"""A connection made ready for a pull, or why it cannot be pulled now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from onward.connections.open import (
    LOCAL_PROBLEMS,
    Opened,
    bind_map,
    is_outdated,
    local_problem,
    open_connection,
)
from onward.connections.state import ChangedMeanwhile, State, read_segments
from onward.connections.verify import is_fresh, verify_or_pause
from onward.contacts.declared import custom_fields
from onward.contacts.fields import STANDARD_FIELDS
from onward.delivery.stops import Stop, rest_for
from onward.errors import ConfigError, PluginError, ServiceError
from onward.events.record import Recorder
from onward.events.rulebook import RuleBook
from onward.integrations import can
from onward.runtime import Runtime
from onward.sync.optouts import Place
from onward.sync.terms import Terms
from onward.sync.values import PullMap


@dataclass(frozen=True, slots=True)
class Ready:
    """A connection that can be pulled."""

    opened: Opened
    terms: Terms


def why_not(runtime: Runtime, state: State, now: datetime) -> Stop | None:
    """Return why a connection is not to be asked anything now."""
    if not state.enabled:
        return Stop("off", "connection_off", f"{state.name} is switched off")
    if state.paused_code and state.paused_code not in LOCAL_PROBLEMS:
        return Stop("paused", state.paused_code, state.paused_why)
    problem = local_problem(runtime, state)
    if problem is not None:
        return Stop("paused", *problem)
    if is_outdated(runtime, state):
        why = "onward.toml was changed after this process started; restart it"
        return Stop("paused", "outdated", f"{state.name}: {why}")
    if state.rest_until is not None and state.rest_until > now:
        why = state.rest_why or "the connection rests"
        return Stop("rest", state.rest_code, why, state.rest_until - now)
    if not can(runtime.plugins.integration(state.integration), "pull"):
        why = f"{state.name}: the integration {state.integration} cannot pull contacts"
        return Stop("off", "no_pull", why)
    return None


def make_ready(
    runtime: Runtime, state: State, renew: Callable[[], None], *, full: bool
) -> Ready | Stop:
    """Verify a connection if that is due, read its map, and open it."""
    try:
        if not is_fresh(runtime, state):
            fresh = verify_or_pause(runtime, state, renew=renew)
            if fresh is None:
                return Stop("paused", "paused", f"{state.name} was paused")
            state = fresh
        opened = open_connection(runtime, state)
        terms = make_terms(runtime, opened, full=full)
    except ChangedMeanwhile as error:
        return Stop("turn", "changed", error.message)
    except ServiceError as error:
        return rest_for(error)
    except (ConfigError, PluginError) as error:
        return Stop("failed", "settings", error.message)
    return Ready(opened, terms)


def make_terms(runtime: Runtime, opened: Opened, *, full: bool = False) -> Terms:
    """Return what is the same for all pages of one pull.

    Raises:
        FieldMapError, ConfigError: the map does not fit the account.
    """
    state, config = opened.state, runtime.config
    read, _ = bind_map(runtime, state)
    contact_fields = {**STANDARD_FIELDS, **dict(custom_fields(runtime))}
    remote_fields = {one.name: one for one in state.remote_fields}
    email_field = opened.integration.email_field
    pull = PullMap.of(read, remote_fields, contact_fields, email_field)
    with runtime.database.read() as transaction:
        segments = read_segments(transaction, state.id)
    names = {id_: name for id_, name, _ in segments}
    return Terms(
        state,
        pull,
        Place(state, opened.integration.title or state.integration, names),
        Recorder(RuleBook.of(config.rules, config.point_triggers, config.audiences)),
        opened.integration.same,
        email_field,
        fire=state.pull.fire,
        full=full,
    )
