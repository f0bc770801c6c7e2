"""Decide, per contact and in a fixed order, what is to be sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward import remote
from onward.connections.state import State
from onward.contacts.facts import Facts, load_facts, needs_lists
from onward.contacts.suppress import Stop, find_suppressions
from onward.contacts.values import clean_email
from onward.contract import Item, Outcome, OutcomeKind
from onward.delivery.queue import Claimed
from onward.delivery.retry import Decision, any_luck, decide
from onward.errors import InputError, PluginError
from onward.fieldmap import BoundMap
from onward.hookspecs import Draft
from onward.models import Cause, Event, PushState, table
from onward.plugins import Plugins
from onward.remote import Snapshot

causes = table(Cause)
events = table(Event)

_LATEST_EVENT = (
    select(causes.c.push_id, events.c.action, events.c.data, events.c.occurred_at)
    .join(events, events.c.id == causes.c.event_id)
    .where(causes.c.push_id.in_(bindparam("rows", expanding=True)))
    .order_by(causes.c.id)
)


@dataclass(frozen=True, slots=True)
class Ready:
    """A row with its mapped contact."""

    row: Claimed
    item: Item
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the mapped values, about."""
        return 20 + sum(len(k) + len(v) + 8 for k, v in self.item.fields.items())


@dataclass(slots=True)
class Prepared:
    """What became of claimed rows before anything was sent.

    Args:
        ready: to be sent.
        doubtful: they may have arrived already; read back first.
        decided: rows that need no sending, with their end.
        waiting: visitors: back to waiting, without due time.
    """

    ready: list[Ready] = field(default_factory=list[Ready])
    doubtful: list[Ready] = field(default_factory=list[Ready])
    decided: dict[int, Decision] = field(default_factory=dict[int, Decision])
    waiting: dict[int, tuple[datetime | None, str, str]] = field(
        default_factory=dict[int, tuple[datetime | None, str, str]]
    )


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides over every contact of one batch.

    Args:
        email_field: the remote field that carries the address.
        sources: contact fields the map reads.
    """

    state: State
    plugins: Plugins
    bound: BoundMap
    sources: frozenset[str]
    map_version: str
    segment: str
    now: datetime
    email_field: str = "email"


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


def prepare(
    transaction: Transaction, rules: Rules, rows: Sequence[Claimed]
) -> Prepared:
    """Check and map claimed rows; the contact is read as it is now.

    The order is the promise: exists, connection on, pushes on, not suppressed,
    mapped, `before_push`, e-mail present, not suppressed under that address,
    not unchanged.
    """
    done = Prepared()
    ids = sorted({row.contact_id for row in rows})
    people = load_facts(transaction, ids, lists=needs_lists(rules.sources))
    stops = find_suppressions(
        transaction,
        {contact_id: [facts["email"] or ""] for contact_id, facts in people.items()},
    )
    snapshots = remote.ours(transaction, rules.state.id, ids)
    last_events = _events(transaction, rows, rules.sources)
    off = switched_off(rules.state)
    for row in rows:
        facts = people.get(row.contact_id)
        gone = _gone(row, facts)
        if gone is not None or facts is None:
            done.decided[row.id] = gone or off or _cancelled("erased", "")
        elif off is not None:
            done.decided[row.id] = off
        else:
            facts["event"] = last_events.get(row.id, {})
            _prepare_one(
                transaction,
                rules,
                row,
                facts,
                stops.get(row.contact_id, []),
                snapshots.get(row.contact_id),
                done,
            )
    return done


def _events(
    transaction: Transaction, rows: Iterable[Claimed], sources: frozenset[str]
) -> dict[int, Facts]:
    if not any(name == "event" or name.startswith("event.") for name in sources):
        return {}
    found = transaction.execute(_LATEST_EVENT, {"rows": [row.id for row in rows]})
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


def _gone(row: Claimed, facts: Facts | None) -> Decision | None:
    if facts is None or facts["erased_at"] is not None:
        return _cancelled("erased", "the contact was erased")
    if facts["merged_into"] is not None:
        why = f"the contact was merged into {facts['merged_into']}"
        return _cancelled("merged", why)
    return None


def _prepare_one(
    transaction: Transaction,
    rules: Rules,
    row: Claimed,
    facts: Facts,
    stops: Sequence[Stop],
    snapshot: Snapshot | None,
    done: Prepared,
) -> None:
    def end(state: PushState, code: str, reason: str) -> None:
        done.decided[row.id] = Decision(state, None, row.tries, code, reason)

    stop = _blocking(rules, stops)
    if stop is not None:
        end(PushState.SKIPPED, "suppressed", words_for(stop))
        return
    mapped = rules.bound.render(facts)
    if mapped.skip:
        end(PushState.SKIPPED, "blank_field", mapped.skip)
        return
    fields = dict(mapped.fields)
    if rules.plugins.has_before_push:
        draft = Draft(
            rules.state.name,
            rules.state.integration,
            row.contact_id,
            rules.segment,
            fields,
        )
        try:
            rules.plugins.before_push(draft)
        except PluginError as error:
            # Someone else's code must not lose a contact: a try like any other.
            outcome = Outcome(row.id, OutcomeKind.RETRY, "plugin_error", error.message)
            done.decided[row.id] = decide(
                outcome, row.tries, rules.now, luck=any_luck()
            )
            return
        if draft.veto:
            end(PushState.SKIPPED, "vetoed", draft.veto)
            return
        fields = draft.fields
    email = fields.get(rules.email_field, "").strip()
    if not email and not facts["email"]:
        why = "waits until the visitor has an e-mail address"
        done.waiting[row.id] = (None, "no_email", why)
        return
    if not email:
        end(PushState.SKIPPED, "blank_email", "the map leaves the e-mail address blank")
        return
    try:
        email = clean_email(email)
    except InputError as error:
        end(PushState.FAILED, "invalid_email", error.message)
        return
    fields[rules.email_field] = email
    if email != facts["email"]:
        other = find_suppressions(transaction, {row.contact_id: [email]})
        stop = _blocking(rules, other.get(row.contact_id, []))
        if stop is not None:
            end(PushState.SKIPPED, "suppressed", words_for(stop))
            return
    _compare(rules, row, email, fields, snapshot, stops, mapped.warnings, done)


def _compare(
    rules: Rules,
    row: Claimed,
    email: str,
    fields: dict[str, str],
    snapshot: Snapshot | None,
    stops: Sequence[Stop],
    warnings: tuple[str, ...],
    done: Prepared,
) -> None:
    """Leave out what the service already has, else make the row ready."""
    opt_in = rules.state.opt_in
    known = snapshot is not None and not snapshot.unsure
    held: dict[str, str] = snapshot.values if snapshot is not None and known else {}
    changed = {name: text for name, text in fields.items() if held.get(name) != text}
    membership = snapshot.segments.get(rules.segment, "") if snapshot else ""
    on_segment = membership == "normal" or (
        opt_in == "pending" and membership == "pending"
    )
    if (
        snapshot is not None
        and known
        and not changed
        and not row.force
        and row.sent_at is None
        and snapshot.map_version == rules.map_version
        and (not rules.segment or on_segment)
    ):
        done.decided[row.id] = Decision(
            PushState.UNCHANGED,
            None,
            row.tries,
            "unchanged",
            "nothing changed since the last push",
        )
        return
    item = Item(
        push_id=row.id,
        email=email,
        fields=fields,
        changed=changed,
        remote_id=snapshot.remote_id if snapshot else "",
        on_segment=on_segment and known,
        opt_in=opt_in,
        unsure=not known and snapshot is not None,
        force=row.force,
        consent=_consented(rules, stops, on_segment=on_segment),
    )
    ready = Ready(row, item, warnings)
    (done.doubtful if row.sent_at is not None else done.ready).append(ready)


def _blocking(rules: Rules, stops: Sequence[Stop]) -> Stop | None:
    everywhere = rules.state.unsubscribe_means == "everywhere"
    for stop in stops:
        if stop.lifted_at is None and stop.blocks(
            rules.state.identity, rules.segment, everywhere=everywhere
        ):
            return stop
    return None


def _consented(rules: Rules, stops: Sequence[Stop], *, on_segment: bool) -> bool:
    """Tell whether a recorded consent answers an opt-out not yet undone there.

    Once the service confirmed the membership again, a new opt-out there is a
    new one and the old consent no longer answers it.
    """
    return not on_segment and any(
        stop.lifted_at is not None
        and stop.blocks(rules.state.identity, rules.segment, everywhere=False)
        for stop in stops
    )


def words_for(stop: Stop) -> str:
    """Return a suppression in words: what, where, since when."""
    when = f"seen {stop.seen_at:%Y-%m-%d}"
    if stop.reason:
        return f"{stop.reason}, {when}"
    return f"{stop.code.replace('_', ' ')}, {when}"
