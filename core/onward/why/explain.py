"""Read what explains one contact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, bindparam, func, select

from onward.config.model import PushTo
from onward.connections.state import State, read_all, read_segments
from onward.contacts.erased import erased_when
from onward.contacts.showing import find_contact, merged_into
from onward.contacts.suppress import Stop, find_suppressions
from onward.contacts.values import clean_email
from onward.delivery.listing import cause_words
from onward.delivery.prepare import words_for
from onward.errands.listing import list_errands, words_for_errand
from onward.errors import InputError
from onward.events.points import trigger_claim
from onward.models import Cause, Claim, Contact, Event, OutcomeRow, Push, table
from onward.pruning.horizon import DELIVERIES, EVENTS, read_moment
from onward.runtime import Runtime
from onward.why.answer import (
    ActionWhy,
    ConnectionWhy,
    PushWhy,
    RuleLook,
    Since,
    TriggerWhy,
    Try,
    Why,
)
from onward.why.short import short_answer
from onward.why.waiting import limited_until, shown_segment, what_it_waits_for

contacts = table(Contact)
events = table(Event)
claims = table(Claim)
pushes = table(Push)
causes = table(Cause)
outcomes = table(OutcomeRow)

PUSHES = 5  # per connection, the latest
TRIES = 3  # per push, the latest
ACTIONS = 10

_CONTACT = select(contacts.c.id, contacts.c.email, contacts.c.points).where(
    contacts.c.id == bindparam("of")
)
_FIRST_SEEN = select(func.min(contacts.c.created_at)).where(
    contacts.c.id.in_(bindparam("ids", expanding=True))
)
_PUSHES = (
    select(pushes)
    .where(
        pushes.c.contact_id.in_(bindparam("ids", expanding=True)),
        pushes.c.connection_id == bindparam("connection"),
    )
    .order_by(pushes.c.id.desc())
    .limit(PUSHES)
)
_CAUSES = (
    select(causes.c.kind, causes.c.key, causes.c.replay_of)
    .where(causes.c.push_id == bindparam("of"))
    .order_by(causes.c.id)
)
_TRIES = (
    select(outcomes)
    .where(outcomes.c.push_id == bindparam("of"))
    .order_by(outcomes.c.id.desc())
    .limit(TRIES)
)
_EVENTS = (
    select(events.c.id, events.c.action, events.c.occurred_at, events.c.result)
    .where(events.c.contact_id == bindparam("of"))
    .order_by(events.c.id.desc())
    .limit(ACTIONS)
)
_CLAIMS = select(claims.c.key, claims.c.at).where(
    claims.c.contact_id == bindparam("of")
)


def explain(runtime: Runtime, email: str, *, kind: str = "") -> Why:
    """Say why a contact was pushed, or was not, and what it waits for.

    Reads only; asks no service.

    Args:
        email: an address it has or had, or its number.
        kind: of another identity that is given instead, as `visitor`.

    Raises:
        InputError: it is no address.
    """
    with runtime.database.read() as transaction:
        try:
            contact_id = find_contact(transaction, email, kind)
        except InputError as error:
            if kind:
                return Why(email, 0, (error.message,))
            return _nobody(transaction, email, error)
        return _Explanation(runtime, transaction, contact_id).why()


def _nobody(transaction: Transaction, email: str, error: InputError) -> Why:
    """Answer for somebody we do not have; an opt-out may be known all the same."""
    text = email.strip()
    address = "" if text.isascii() and text.isdigit() else clean_email(text)
    stops = find_suppressions(transaction, {0: [address]}).get(0, [])
    words = tuple(words_for(stop) for stop in stops if stop.lifted_at is None)
    answer = [error.message]
    if words:
        answer.append("it would not be pushed if there were: it is suppressed")
    for when in erased_when(transaction, [address]).values():
        answer.append(
            f"somebody with this address was erased on {when:%Y-%m-%d}: neither a pull "
            "nor an import brings them back until `onward contacts consent` says so"
        )
    return Why(address or text, 0, tuple(answer), words)


class _Explanation:
    """Reads in one transaction, so that its parts agree."""

    def __init__(
        self, runtime: Runtime, transaction: Transaction, contact_id: int
    ) -> None:
        self.runtime = runtime
        self.transaction = transaction
        self.now = runtime.clock()
        self.contact = transaction.execute(_CONTACT, {"of": contact_id}).one()
        self.ids = [contact_id, *merged_into(transaction, contact_id)]
        people = {contact_id: [self.contact.email or ""]}
        found = find_suppressions(transaction, people).get(contact_id, [])
        self.stops = [stop for stop in found if stop.lifted_at is None]
        self.lifted = [stop for stop in found if stop.lifted_at is not None]
        self.errands = list(list_errands(transaction, contacts=self.ids))

    def why(self) -> Why:
        connections = tuple(map(self._connection, read_all(self.transaction)))
        actions = self._actions()
        triggers = self._triggers()
        since = self._since()
        return Why(
            email=self.contact.email or "",
            contact_id=self.contact.id,
            answer=short_answer(connections, actions, triggers, since),
            suppressions=tuple(map(words_for, self.stops)),
            lifted=tuple(map(words_for, self.lifted)),
            connections=connections,
            actions=actions,
            triggers=triggers,
            since=since,
        )

    def _since(self) -> Since:
        """Return what was removed that may have been about this contact."""
        seen: datetime = self.transaction.execute(
            _FIRST_SEEN, {"ids": self.ids}
        ).scalar_one()

        def later(name: str) -> datetime | None:
            moment = read_moment(self.transaction, name)
            return moment if moment is not None and seen < moment else None

        return Since(later(EVENTS), later(DELIVERIES))

    # -- connections

    def _connection(self, state: State) -> ConnectionWhy:
        segments = read_segments(self.transaction, state.id)
        found = self.transaction.execute(
            _PUSHES, {"ids": self.ids, "connection": state.id}
        ).mappings()
        rows = found.all()
        known = self.runtime.plugins.integrations.get(state.integration)
        calls = known.calls_per_batch if known is not None else 1
        limited = limited_until(self.transaction, state.rate_key, calls, self.now)
        return ConnectionWhy(
            state.name,
            state.status,
            self._blocks(state, segments),
            self._rules_for(state.name),
            tuple(self._push(row, state, segments, limited) for row in rows),
            tuple(
                words_for_errand(one)
                for one in self.errands
                if one["connection"] == state.name
            ),
        )

    def _blocks(self, state: State, segments: Sequence[tuple[str, str, str]]) -> str:
        if not state.enabled:
            return "it is switched off: nothing leaves it"
        if not state.push_contacts:
            return "pushes are switched off: nothing leaves it"
        stop = self._stop_for(state)
        if stop is not None:
            return f"it must not push this contact: {words_for(stop)}"
        if state.paused_code:
            return f"it is paused: {state.paused_why}"
        paused = {id_: why for id_, _, why in segments if why}
        if state.segment_id in paused:
            return f"its remote segment is paused: {paused[state.segment_id]}"
        if not self.contact.email:
            return "it waits: this visitor has no e-mail address yet"
        return ""

    def _stop_for(self, state: State) -> Stop | None:
        everywhere = state.unsubscribe_means == "everywhere"
        for stop in self.stops:
            if stop.blocks(state.identity, state.segment_id, everywhere=everywhere):
                return stop
        return None

    def _rules_for(self, connection: str) -> tuple[str, ...]:
        def names(targets: Sequence[PushTo]) -> bool:
            return any(to.connection == connection for to in targets)

        config = self.runtime.config
        return (
            *(
                rule.key
                for rule in config.rules
                if rule.enabled and names(rule.push_to)
            ),
            *(
                trigger.key
                for trigger in config.point_triggers
                if trigger.enabled and names(trigger.push_to)
            ),
        )

    def _push(
        self,
        row: RowMapping,
        state: State,
        segments: Sequence[tuple[str, str, str]],
        limited: Mapping[str, datetime],
    ) -> PushWhy:
        of = {"of": row["id"]}
        asked = self.transaction.execute(_CAUSES, of).all()
        tries = self.transaction.execute(_TRIES, of).all()
        waits = ""
        if row["state"] == "waiting":
            paused = {id_: why for id_, _, why in segments}
            waits = what_it_waits_for(row, state, paused, limited, self.now)
        return PushWhy(
            row["id"],
            shown_segment(row["segment"], segments),
            row["state"],
            row["code"],
            row["reason"],
            row["created_at"],
            waits,
            row["due_at"],
            tuple(dict.fromkeys(cause_words(*one) for one in asked)),
            tuple(
                Try(one.at, one.kind, one.code, one.reason, one.attempt_id)
                for one in reversed(tries)
            ),
        )

    # -- rules and triggers

    def _actions(self) -> tuple[ActionWhy, ...]:
        found = self.transaction.execute(_EVENTS, {"of": self.contact.id})
        return tuple(
            ActionWhy(row.id, row.action, row.occurred_at, _looked(row.result or {}))
            for row in found
        )

    def _triggers(self) -> tuple[TriggerWhy, ...]:
        taken = {
            row.key: row.at
            for row in self.transaction.execute(_CLAIMS, {"of": self.contact.id})
        }
        return tuple(
            TriggerWhy(
                one.key,
                one.points,
                self.contact.points,
                taken.get(trigger_claim(one.key)),
                one.enabled,
            )
            for one in sorted(
                self.runtime.config.point_triggers, key=lambda one: one.points
            )
        )


def _looked(result: dict[str, Any]) -> tuple[RuleLook, ...]:
    looked: list[tuple[str, bool, str]] = result.get("looked", [])
    return tuple(RuleLook(key, ran, why) for key, ran, why in looked)
