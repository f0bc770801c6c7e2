"""What would be sent now, beside what was sent or confirmed last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import orjson
from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward import remote
from onward.connections.open import bind_map
from onward.connections.secrets import known_secrets
from onward.connections.state import State
from onward.delivery.claiming import Claimed
from onward.delivery.prepare import Prepared, Ready, Rules, prepare
from onward.delivery.queue import LIVE
from onward.delivery.settling import NO_EMAIL
from onward.errors import OnwardError
from onward.models import Attempt, OutcomeRow, table
from onward.redact import Redactor
from onward.replay.judge import Again
from onward.runtime import Runtime

attempts = table(Attempt)
outcomes = table(OutcomeRow)

_SENT = (
    select(attempts.c.exchanges)
    .join(outcomes, outcomes.c.attempt_id == attempts.c.id)
    .where(outcomes.c.push_id == bindparam("of"))
    .order_by(outcomes.c.id.desc())
    .limit(1)
)

Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """A remote field that would be sent with another value than the last time.

    Args:
        before: what was last sent or confirmed, None = nothing is known.
        now: what would be sent, None = it would be left out.
    """

    field: str
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One row that would be replayed.

    Args:
        code, reason: how it ended.
        changes: fields with another value than the last time.
        ends: "" or how it would end without being sent, as `skipped (blank_field)`.
        why: a sentence about that, or why nothing can be told.
        warnings: what the map leaves out.
    """

    id: int
    connection: str
    contact_id: int
    email: str
    code: str
    reason: str
    changes: tuple[Change, ...] = ()
    ends: str = ""
    why: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """It as plain data."""
        changes = [asdict(change) for change in self.changes]
        return {**asdict(self), "changes": changes, "warnings": list(self.warnings)}


def differences(runtime: Runtime, chosen: Sequence[Again]) -> tuple[Sample, ...]:
    """Tell what the map makes of some rows' contacts now; asks no service.

    Returns:
        A sample per row, in their order, without secrets.
    """
    groups: dict[tuple[int, str], list[Again]] = {}
    for one in chosen:
        groups.setdefault((one.state.id, one.segment), []).append(one)
    found: dict[int, Sample] = {}
    for group in groups.values():
        found |= _of_group(runtime, group)
    redactor = Redactor(known_secrets(runtime))
    return tuple(_redacted(found[one.row.id], redactor) for one in chosen)


def _of_group(runtime: Runtime, group: Sequence[Again]) -> dict[int, Sample]:
    state, segment = group[0].state, group[0].segment
    blank = {one.row.id: _blank(one) for one in group}
    try:
        rules = _rules(runtime, state, segment)
    except OnwardError as error:
        why = f"the differences cannot be told: {error.message}"
        return {id_: replace(sample, why=why) for id_, sample in blank.items()}
    claimed = [
        # The number of the old row: its latest event is what the map reads.
        Claimed(one.row.id, one.contact_id, None, 0, force=False, priority=LIVE)
        for one in group
    ]
    prepared = prepare(runtime.database, rules, claimed)
    ready = {one.row.id: one for one in prepared.ready}
    with runtime.database.read() as transaction:
        who = {one.contact_id for one in group}
        held = remote.ours(transaction, state.id, who)
        for one in group:
            sample = blank[one.row.id]
            if one.row.id not in ready:
                blank[one.row.id] = _unsent(sample, prepared)
                continue
            snapshot = held.get(one.contact_id)
            before: Values = dict(snapshot.values) if snapshot else {}
            names = {field.name for field in state.remote_fields}
            # What was tried last, on top of what was confirmed before that.
            before |= _tried(transaction, one, names)
            blank[one.row.id] = _compared(sample, ready[one.row.id], before)
    return blank


def _rules(runtime: Runtime, state: State, segment: str) -> Rules:
    kind = runtime.plugins.integration(state.integration)
    read, bound = bind_map(runtime, state)
    return Rules(
        state,
        runtime.plugins,
        bound,
        read.sources(),
        read.version,
        segment,
        runtime.clock(),
        kind.email_field,
    )


def _blank(one: Again) -> Sample:
    row = one.row
    name, who = one.state.name, one.contact_id
    return Sample(row.id, name, who, one.email, row.code, row.reason)


def _unsent(sample: Sample, prepared: Prepared) -> Sample:
    decision = prepared.decided.get(sample.id)
    if decision is None:
        return replace(sample, ends="waiting (no_email)", why=NO_EMAIL)
    ends = f"{decision.state.value} ({decision.code})"
    return replace(sample, ends=ends, why=decision.reason)


def _compared(sample: Sample, ready: Ready, before: Values) -> Sample:
    now = dict(ready.item.fields)
    changes = [
        Change(name, before.get(name), now.get(name))
        for name in dict.fromkeys((*now, *before))
        # One that is sent blank and one that is left out where it was blank: the same.
        if (before.get(name) or "") != (now.get(name) or "")
    ]
    return replace(sample, changes=tuple(changes), warnings=ready.warnings)


def _tried(transaction: Transaction, one: Again, names: set[str]) -> Values:
    """Return what the last try of a row sent, as far as its requests show it."""
    kept = transaction.execute(_SENT, {"of": one.row.id}).scalar()
    exchanges: list[dict[str, Any]] = kept or []
    found: Values = {}
    for exchange in exchanges:
        try:
            body = orjson.loads(exchange.get("request") or "null")
        except orjson.JSONDecodeError:
            continue
        for part in _about(body, one.email.lower()):
            found |= {n: v for n, v in _leaves(part) if n in names}
    return found


def _about(body: Any, email: str) -> Iterator[Mapping[str, Any]]:
    """Yield the smallest objects of a request that hold this address."""
    if isinstance(body, list):
        for entry in cast("Iterable[Any]", body):
            yield from _about(entry, email)
    elif isinstance(body, dict):
        found = cast("dict[str, Any]", body)
        if email and any(
            isinstance(value, str) and value.lower() == email
            for value in found.values()
        ):
            yield found
            return
        for value in found.values():
            yield from _about(value, email)


def _leaves(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in part.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value))
        elif isinstance(value, str):
            yield name, value


def _redacted(sample: Sample, redactor: Redactor) -> Sample:
    def clean(text: str | None) -> str | None:
        return None if text is None else redactor.text(text)

    changes = tuple(
        Change(one.field, clean(one.before), clean(one.now)) for one in sample.changes
    )
    return replace(
        sample,
        changes=changes,
        reason=redactor.text(sample.reason),
        why=redactor.text(sample.why),
        warnings=tuple(map(redactor.text, sample.warnings)),
    )
