"""Settle what may or may not have arrived: ask the service before resending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from onward.api import Api
from onward.connections.open import Opened
from onward.connections.state import State
from onward.contract import (
    Item,
    Outcome,
    RemoteContact,
    RemoteSegment,
)
from onward.delivery.lease import Held
from onward.delivery.prepare import Ready
from onward.delivery.record import (
    announce_decisions,
    close_attempt,
    open_attempt,
    record_decisions,
    record_outcomes,
)
from onward.delivery.retry import RETRY_AFTER, Decision
from onward.delivery.send import Stop, stop_for
from onward.errors import Fenced, OnwardError
from onward.integrations import can, read_back
from onward.models import PushState
from onward.runtime import Runtime


@dataclass(slots=True)
class ReadBack:
    """What reading back led to.

    Args:
        again: rows the service does not have as wished: to be sent again.
        settled: rows that ended here.
        stop: set when the service could not be asked.
    """

    again: list[Ready]
    settled: dict[int, Decision]
    stop: Stop | None = None


def is_as_wished(
    item: Item, record: RemoteContact, segment: RemoteSegment | None
) -> bool:
    """Tell whether the service has a contact exactly as it was to be sent.

    A field the service does not show counts as not confirmed.
    """
    if record.email.lower() != item.email or record.status not in ("normal", "pending"):
        return False
    if record.status == "pending" and item.opt_in != "pending":
        return False
    for name, text in item.fields.items():
        if record.fields.get(name, "\0").strip() != text.strip():
            return False
    if segment is None:
        return True
    return record.segments.get(segment.id) in {"normal", item.opt_in}


def read_doubtful(
    runtime: Runtime,
    state: State,
    opened: Opened,
    held: Held,
    api: Api,
    segment: RemoteSegment | None,
    map_version: str,
    doubtful: Sequence[Ready],
) -> ReadBack:
    """Ask what became of rows whose last send got no answer.

    A row found as wished is delivered. One that is not there uses a try and is
    sent again, reading before it writes.

    Raises:
        Fenced: another worker has the connection.
    """
    if not can(opened.integration, "read"):
        return _without_read(runtime, opened, held, doubtful)
    segment_id = segment.id if segment else ""
    now = runtime.clock()
    with runtime.database.write() as transaction:
        attempt_id = open_attempt(
            transaction,
            connection_id=state.id,
            segment=segment_id,
            kind="read",
            size=len(doubtful),
            fence=held.fence,
            now=now,
        )
    error = ""
    stop: Stop | None = None
    found: dict[str, RemoteContact] = {}
    try:
        items = [ready.item for ready in doubtful]
        for record in read_back(opened.integration, api, items, segment):
            found[record.email.lower()] = record
        api.learn(found.values())
    except Fenced:
        raise
    except Exception as failure:  # the integration is foreign code
        words = failure.message if isinstance(failure, OnwardError) else repr(failure)
        error = f"{type(failure).__name__}: {words}"
        stop = stop_for(failure, state.integration)
    finally:
        with runtime.database.write() as transaction:
            close_attempt(
                transaction, attempt_id, api.exchanges, error, runtime.clock()
            )
        api.close()
    if stop is not None:
        return ReadBack([], _still_unknown(runtime, held, doubtful, stop), stop)
    results: list[tuple[Ready, Outcome]] = []
    again: list[Ready] = []
    for ready in doubtful:
        shown = found.get(ready.item.email)
        if shown is not None and is_as_wished(ready.item, shown, segment):
            outcome = ready.item.delivered(
                shown.remote_id, "read_back", "found there when read back"
            )
            results.append((ready, outcome))
        else:
            again.append(ready)
    settled: dict[int, Decision] = {}
    if results:
        now = runtime.clock()
        with runtime.database.write() as transaction:
            decided = record_outcomes(
                transaction,
                state,
                segment_id,
                map_version,
                results,
                attempt_id,
                held.fence,
                now,
            )
        if decided is None:
            held.lost = True
            raise Fenced
        settled.update(decided)
        contacts = {ready.row.id: ready.row.contact_id for ready, _ in results}
        announce_decisions(runtime, state, decided, contacts)
    resend, given_up = _use_a_try(runtime, held, again)
    return ReadBack(resend, settled | given_up)


def _without_read(
    runtime: Runtime, opened: Opened, held: Held, doubtful: Sequence[Ready]
) -> ReadBack:
    if opened.integration.repeatable:
        resend, given_up = _use_a_try(runtime, held, doubtful)
        return ReadBack(resend, given_up)
    why = (
        "it may or may not have arrived, and this service can neither be asked nor "
        "pushed to twice; look there, then replay or cancel it"
    )
    decisions = {
        ready.row.id: Decision(PushState.FAILED, None, ready.row.tries, "unknown", why)
        for ready in doubtful
    }
    _store(runtime, held, decisions)
    return ReadBack([], decisions)


def _use_a_try(
    runtime: Runtime, held: Held, again: Sequence[Ready]
) -> tuple[list[Ready], dict[int, Decision]]:
    """Count the lost send as a try, so that it cannot go on for ever."""
    resend: list[Ready] = []
    given_up: dict[int, Decision] = {}
    for ready in again:
        tries = ready.row.tries + 1
        if tries > len(RETRY_AFTER):
            given_up[ready.row.id] = Decision(
                PushState.FAILED,
                None,
                tries,
                "no_answer",
                f"sent {tries} times and never answered; given up",
            )
            continue
        item = replace(
            ready.item, unsure=True, on_segment=False, changed=ready.item.fields
        )
        resend.append(Ready(replace(ready.row, tries=tries), item, ready.warnings))
    _store(runtime, held, given_up)
    return resend, given_up


def _still_unknown(
    runtime: Runtime, held: Held, doubtful: Sequence[Ready], stop: Stop
) -> dict[int, Decision]:
    due = runtime.clock() + (stop.after or timedelta())
    decisions = {
        ready.row.id: Decision(
            PushState.WAITING, due, ready.row.tries, stop.code, stop.why, unknown=True
        )
        for ready in doubtful
    }
    _store(runtime, held, decisions)
    return decisions


def _store(runtime: Runtime, held: Held, decisions: dict[int, Decision]) -> None:
    if not decisions:
        return
    with runtime.database.write() as transaction:
        record_decisions(transaction, decisions, held.fence, runtime.clock())
