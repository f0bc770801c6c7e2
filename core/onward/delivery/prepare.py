"""Decide, per contact and in a fixed order, what is to be sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from sqlalchemy import Connection as Transaction
from sqlalchemy import select

from onward import remote
from onward.among import ForEach
from onward.connections.state import State
from onward.contacts.facts import Facts, load_facts, needs_lists
from onward.contacts.suppress import Stop, find_suppressions
from onward.contacts.values import clean_email
from onward.contract import Item, Outcome, OutcomeKind
from onward.database import Database
from onward.delivery.claiming import Claimed
from onward.delivery.retry import RETRY_AFTER, Decision, any_luck, decide
from onward.errors import InputError, PluginError
from onward.fieldmap import BoundMap
from onward.hookspecs import Draft
from onward.models import Cause, Event, PushState, table
from onward.plugins import Plugins
from onward.remote import DELETED, RETURNED, Snapshot

causes = table(Cause)
events = table(Event)

_LATEST_EVENT = ForEach(
    lambda among: (
        select(causes.c.push_id, events.c.action, events.c.data, events.c.occurred_at)
        .join(events, events.c.id == causes.c.event_id)
        .where(among(causes.c.push_id, "rows"))
        .order_by(causes.c.id)
    )
)


@dataclass(frozen=True, slots=True)
class Ready:
    """A row with its mapped contact."""

    row: Claimed
    item: Item
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the mapped values as JSON."""
        return len(orjson.dumps(self.item.fields))


@dataclass(slots=True)
class Prepared:
    """What became of claimed rows before anything was sent.

    Args:
        ready: to be sent.
        doubtful: they may have arrived already; read back first.
        decided: rows that need no sending, with their end.
        waiting: rows of visitors: back to waiting, without due time.
    """

    ready: list[Ready] = field(default_factory=list[Ready])
    doubtful: list[Ready] = field(default_factory=list[Ready])
    decided: dict[int, Decision] = field(default_factory=dict[int, Decision])
    waiting: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides over every contact of one batch.

    Args:
        email_field: the remote field that carries the address.
        sources: contact fields the map reads.
        retry: waits after failed tries.
    """

    state: State
    plugins: Plugins
    bound: BoundMap
    sources: frozenset[str]
    map_version: str
    segment: str
    now: datetime
    email_field: str = "email"
    retry: tuple[timedelta, ...] = RETRY_AFTER

    def again(self, outcome: Outcome, tries: int) -> Decision:
        """Return when a row comes back that cannot go now."""
        return decide(outcome, tries, self.now, steps=self.retry, luck=any_luck())


def switched_off(state: State) -> Decision | None:
    """Return how rows of a connection that must not push end."""
    if not state.enabled:
        why = f'the connection "{state.name}" is switched off'
        return Decision(PushState.SKIPPED, None, 0, "connection_off", why)
    if not state.push_contacts:
        return Decision(
            PushState.SKIPPED, None, 0, "pushes_off", "pushes are switched off"
        )
    return None


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database says about the contacts of some rows.

    Args:
        owners: own address of one that is new to the service → whose it is there.
    """

    people: Mapping[int, Facts]
    stops: Mapping[int, Sequence[Stop]]
    snapshots: Mapping[int, Snapshot]
    owners: dict[str, int]
    events: Mapping[int, Facts]


@dataclass(frozen=True, slots=True)
class _Mapped:
    """A row that is to be sent, as far as its contact goes."""

    row: Claimed
    email: str
    fields: dict[str, str]
    warnings: tuple[str, ...]
    stops: Sequence[Stop]


def prepare(database: Database, rules: Rules, rows: Sequence[Claimed]) -> Prepared:
    """Check and map claimed rows; the contact is read as it is now.

    The order is the promise: exists, connection on, pushes on, not suppressed,
    mapped, `before_push`, e-mail present, not suppressed under that address,
    not unchanged. Maps and hooks run outside of any transaction.
    """
    done = Prepared()
    with database.read() as transaction:
        known = _load(transaction, rules, rows)
    mapped: list[_Mapped] = []
    off = switched_off(rules.state)
    ask = rules.plugins.has_before_push
    for row in rows:
        facts = known.people.get(row.contact_id)
        gone = _gone(facts)
        if gone is not None or facts is None:
            done.decided[row.id] = gone or off or _cancelled("erased", "")
        elif off is not None:
            done.decided[row.id] = off
        else:
            facts["event"] = known.events.get(row.id, {})
            stops = known.stops.get(row.contact_id, ())
            one = _map(rules, row, facts, stops, done, ask=ask)
            if one is not None:
                mapped.append(one)
    other = _stops_of_other_addresses(database, mapped, known.people)
    taken = {**known.owners, **_owners_of_others(database, rules, mapped, known)}
    for one in mapped:
        owner = taken.setdefault(one.email, one.row.contact_id)
        if owner != one.row.contact_id:
            is_own = one.email == known.people[one.row.contact_id]["email"]
            done.decided[one.row.id] = _address_taken(rules, one, owner, is_own)
            continue
        stop = _blocking(rules, other.get(one.row.contact_id, ()))
        if stop is not None:
            done.decided[one.row.id] = _skipped(one.row, "suppressed", words_for(stop))
        else:
            _compare(rules, one, known.snapshots.get(one.row.contact_id), done)
    return done


def _load(transaction: Transaction, rules: Rules, rows: Sequence[Claimed]) -> _Known:
    ids = sorted({row.contact_id for row in rows})
    people = load_facts(
        transaction, ids, lists=needs_lists(rules.sources), only=rules.sources
    )
    addresses = {of: [facts["email"] or ""] for of, facts in people.items()}
    snapshots = remote.ours(transaction, rules.state.id, ids)
    # Whom the service knows already it knows by an id of its own.
    new = [facts["email"] for of, facts in people.items() if of not in snapshots]
    return _Known(
        people,
        find_suppressions(transaction, addresses),
        snapshots,
        remote.owners(transaction, rules.state.id, filter(None, new)),
        _events(transaction, rows, rules.sources),
    )


def _stops_of_other_addresses(
    database: Database, mapped: Sequence[_Mapped], people: Mapping[int, Facts]
) -> Mapping[int, Sequence[Stop]]:
    """Look up the addresses that map or hooks put in place of the contact's own."""
    other = {
        one.row.contact_id: [one.email]
        for one in mapped
        if one.email != people[one.row.contact_id]["email"]
    }
    if not other:
        return {}
    with database.read() as transaction:
        return find_suppressions(transaction, other)


def _owners_of_others(
    database: Database, rules: Rules, mapped: Sequence[_Mapped], known: _Known
) -> dict[str, int]:
    """Look up who has the addresses that are not the new contacts' own."""
    other = [
        one.email
        for one in mapped
        if one.row.contact_id not in known.snapshots
        and one.email != known.people[one.row.contact_id]["email"]
    ]
    if not other:
        return {}
    with database.read() as transaction:
        return remote.owners(transaction, rules.state.id, other)


def _address_taken(rules: Rules, one: _Mapped, owner: int, is_own: bool) -> Decision:
    """Keep one person's data off another's remote contact."""
    why = f"{one.email} is the address of contact {owner} in {rules.state.name}"
    if is_own:
        # That contact has another address by now, and will have it there soon.
        outcome = Outcome(one.row.id, OutcomeKind.RETRY, "address_taken", why)
        return rules.again(outcome, one.row.tries)
    return Decision(PushState.FAILED, None, one.row.tries, "address_taken", why)


def opted_out(database: Database, rules: Rules, batch: Sequence[Ready]) -> list[Ready]:
    """Return who of a prepared batch must not be sent to any more."""
    people = {ready.row.contact_id: [ready.item.email] for ready in batch}
    with database.read() as transaction:
        stops = find_suppressions(transaction, people)
    return [
        ready
        for ready in batch
        if _blocking(rules, stops.get(ready.row.contact_id, ())) is not None
    ]


def _events(
    transaction: Transaction, rows: Iterable[Claimed], sources: frozenset[str]
) -> dict[int, Facts]:
    if not any(name == "event" or name.startswith("event.") for name in sources):
        return {}
    found = transaction.execute(
        _LATEST_EVENT(transaction), {"rows": [row.id for row in rows]}
    )
    return {
        row.push_id: {
            "action": row.action,
            "data": row.data,
            "occurred_at": row.occurred_at,
        }
        for row in found  # the latest wins
    }


def _cancelled(code: str, reason: str) -> Decision:
    return Decision(PushState.CANCELLED, None, 0, code, reason)


def _skipped(row: Claimed, code: str, reason: str) -> Decision:
    return Decision(PushState.SKIPPED, None, row.tries, code, reason)


def _gone(facts: Facts | None) -> Decision | None:
    if facts is None or facts["erased_at"] is not None:
        return _cancelled("erased", "the contact was erased")
    if facts["merged_into"] is not None:
        why = f"the contact was merged into {facts['merged_into']}"
        return _cancelled("merged", why)
    return None


def _map(
    rules: Rules,
    row: Claimed,
    facts: Facts,
    stops: Sequence[Stop],
    done: Prepared,
    *,
    ask: bool,
) -> _Mapped | None:
    """Return what would be sent; None when the row ended or waits.

    Args:
        ask: whether any plugin wants to see drafts.
    """
    stop = _blocking(rules, stops) if stops else None
    if stop is not None:
        done.decided[row.id] = _skipped(row, "suppressed", words_for(stop))
        return None
    mapped = rules.bound.render(facts)
    if mapped.skip:
        if facts["email"]:
            done.decided[row.id] = _skipped(row, "blank_field", mapped.skip)
        else:
            done.waiting.append(row.id)
        return None
    fields = mapped.fields
    if ask:
        changed = _ask_hooks(rules, row, fields, done)
        if changed is None:
            return None
        fields = changed
    email = fields.get(rules.email_field, "").strip()
    if email == facts["email"]:
        fields[rules.email_field] = email
        return _Mapped(row, email, fields, mapped.warnings, stops)
    if not email:
        if facts["email"]:
            why = "the map leaves the e-mail address blank"
            done.decided[row.id] = _skipped(row, "blank_email", why)
        else:
            done.waiting.append(row.id)
        return None
    try:
        email = clean_email(email)
    except InputError as error:
        done.decided[row.id] = Decision(
            PushState.FAILED, None, row.tries, "invalid_email", error.message
        )
        return None
    fields[rules.email_field] = email
    return _Mapped(row, email, fields, mapped.warnings, stops)


def _ask_hooks(
    rules: Rules, row: Claimed, fields: dict[str, str], done: Prepared
) -> dict[str, str] | None:
    state = rules.state
    draft = Draft(
        state.name, state.integration, row.contact_id, rules.segment, dict(fields)
    )
    try:
        rules.plugins.before_push(draft)
    except PluginError as error:
        # Someone else's code must not lose a contact: a try like any other.
        outcome = Outcome(row.id, OutcomeKind.RETRY, "plugin_error", error.message)
        done.decided[row.id] = rules.again(outcome, row.tries)
        return None
    if draft.veto:
        done.decided[row.id] = _skipped(row, "vetoed", draft.veto)
        return None
    return draft.fields


def _compare(
    rules: Rules, one: _Mapped, snapshot: Snapshot | None, done: Prepared
) -> None:
    """Leave out what the service already has, else make the row ready."""
    row, fields = one.row, one.fields
    opt_in = rules.state.opt_in
    if snapshot is None:
        item = Item(
            push_id=row.id,
            email=one.email,
            fields=fields,
            changed=fields,
            opt_in=opt_in,
            force=row.force,
        )
    else:
        known = not snapshot.unsure
        held: dict[str, str] = snapshot.values if known else {}
        changed = {n: text for n, text in fields.items() if held.get(n) != text}
        membership = snapshot.segments.get(rules.segment, "")
        on_segment = membership == "normal" or (
            opt_in == "pending" and membership == "pending"
        )
        if (
            known
            and not changed
            and not row.force
            # Once it left, the service is asked how it ended.
            and not row.map_version
            and snapshot.is_alive
            and snapshot.map_version == rules.map_version
            and (not rules.segment or on_segment)
        ):
            why = "nothing changed since the last push"
            done.decided[row.id] = Decision(
                PushState.UNCHANGED, None, row.tries, "unchanged", why
            )
            return
        item = Item(
            push_id=row.id,
            email=one.email,
            fields=fields,
            changed=changed,
            remote_id=snapshot.remote_id,
            on_segment=on_segment and known,
            opt_in=opt_in,
            unsure=not known,
            force=row.force,
            consent=_may_join(rules, one.stops, snapshot),
            recreate=_may_recreate(rules, one.stops, snapshot),
        )
    ready = Ready(row, item, one.warnings)
    (done.doubtful if row.sent_at is not None else done.ready).append(ready)


def _blocking(rules: Rules, stops: Sequence[Stop]) -> Stop | None:
    return blocking(rules.state, rules.segment, stops)


def blocking(state: State, segment: str, stops: Sequence[Stop]) -> Stop | None:
    """Return what forbids a push to this connection and remote segment now."""
    everywhere = state.unsubscribe_means == "everywhere"
    for stop in stops:
        if stop.lifted_at is None and stop.blocks(
            state.identity, segment, everywhere=everywhere
        ):
            return stop
    return None


def _may_join(rules: Rules, stops: Sequence[Stop], snapshot: Snapshot) -> bool:
    """Tell whether a recorded consent answers an opt-out from the segment.

    It answers what was known when it was given: the opt-out noted of this very remote
    contact, or its deletion and what came before that. Once a push showed something
    else, or a pull that it is back, the next opt-out is a new one.
    """
    if snapshot.status in (DELETED, RETURNED):
        return _is_lifted(rules, stops, "connection")
    is_out = snapshot.segments.get(rules.segment) == "unsubscribed"
    return is_out and _is_lifted(rules, stops, "segment")


def _may_recreate(rules: Rules, stops: Sequence[Stop], snapshot: Snapshot) -> bool:
    """Tell whether a recorded consent answers a deletion in the service."""
    return snapshot.status == DELETED and _is_lifted(rules, stops, "connection")


def _is_lifted(rules: Rules, stops: Sequence[Stop], scope: str) -> bool:
    return any(
        stop.scope == scope
        and stop.lifted_at is not None
        and stop.blocks(rules.state.identity, rules.segment, everywhere=False)
        for stop in stops
    )


def words_for(stop: Stop) -> str:
    """Return a suppression in words: what, where, since when."""
    when = f"seen {stop.seen_at:%Y-%m-%d}"
    if stop.reason:
        return f"{stop.reason}, {when}"
    return f"{stop.code.replace('_', ' ')}, {when}"
