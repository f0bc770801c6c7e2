"""Record contact actions: one transaction, from the event to the push rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction

from onward.contacts.find import Finder, Found
from onward.contacts.upsert import add_tags, add_to_segments, write_fields
from onward.errors import Repeat
from onward.events.action import (
    CREATED,
    POINTS,
    UPDATED,
    Action,
    ActionResult,
    Recorded,
)
from onward.events.awarding import entries_of, points_set, sum_up
from onward.events.keys import again, find_repeats
from onward.events.points import (
    Fired,
    award,
    enter,
    fire_triggers,
    re_arm,
    read_totals,
)
from onward.events.pushing import aim, queue
from onward.events.rulebook import RuleBook
from onward.events.rules import Doing, Entry, follow_rules
from onward.merge import merge_contacts
from onward.models import Event, table
from onward.sql import Rows, draw_ids

__all__ = ["POINTS", "Action", "ActionResult", "Recorded", "Recorder"]

events = table(Event)

# A key that was taken by another process just now is not counted.
_INSERT = Rows(lambda insert: insert(events).on_conflict_do_nothing(), list(events.c))


class Recorder:
    """Records actions under the rules of one moment."""

    def __init__(self, book: RuleBook) -> None:
        self.book = book

    def record(
        self, transaction: Transaction, actions: Sequence[Action], now: datetime
    ) -> Recorded:
        """Write actions and everything that follows from them.

        Points of all actions of one contact are summed, and triggers evaluated
        once on the result.

        Raises:
            Repeat: another process took a key or created a contact meanwhile;
                run the whole transaction again.
        """
        answers: dict[int, ActionResult] = {}
        first_of: dict[tuple[str, str], int] = {}
        fresh: Sequence[int] = range(len(actions))
        if any(action.key is not None for action in actions):
            answers = find_repeats(transaction, actions)
            fresh = _first_uses(actions, answers, first_of)
        recorded = Recorded([])
        if fresh:
            work = _Recording(self.book, transaction, now, recorded)
            done = work.do([actions[place] for place in fresh])
            answers.update(zip(fresh, done, strict=True))
        for place, action in enumerate(actions):
            if place not in answers and action.key is not None:
                first = first_of[action.source, action.key]
                differs = actions[first].body_hash() != action.body_hash()
                answers[place] = again(answers[first], differs=differs)
        recorded.results = [answers[place] for place in range(len(actions))]
        return recorded


def _first_uses(
    actions: Sequence[Action],
    answered: Mapping[int, ActionResult],
    first_of: dict[tuple[str, str], int],
) -> list[int]:
    """Return the places of what is to be done; note who was first with a key."""
    fresh: list[int] = []
    for place, action in enumerate(actions):
        if place in answered:
            continue
        if action.key is not None:
            if (action.source, action.key) in first_of:
                continue
            first_of[action.source, action.key] = place
        fresh.append(place)
    return fresh


class _Recording:
    """The actions of one transaction, none of them a repeat."""

    def __init__(
        self,
        book: RuleBook,
        transaction: Transaction,
        now: datetime,
        recorded: Recorded,
    ) -> None:
        self.book = book
        self.transaction = transaction
        self.now = now
        self.recorded = recorded

    def do(self, actions: Sequence[Action]) -> list[ActionResult]:
        """Do everything; return one result per action."""
        finder = Finder(self.transaction, self.now, self._merge)
        about = {place: one.about for place, one in enumerate(actions) if one.about}
        found = finder.find_all(
            [action.identities for action in actions],
            about,
            [action.contact for action in actions],
        )
        self._write_contacts(actions, found)
        doings = self._doings(actions, found)
        joined = follow_rules(self.transaction, self.book, doings, self.now)
        wanted = points_set(self.transaction, doings)
        deltas = sum_up(doings, wanted)
        totals = award(self.transaction, deltas)
        fired = self._fire(doings, totals)
        joined += [(f.contact_id, name) for f in fired for name in f.trigger.add_to]
        add_to_segments(self.transaction, joined)
        aimed = aim(self.transaction, doings)
        self._insert_events(doings, totals)
        enter(self.transaction, entries_of(doings, wanted, deltas, totals, self.now))
        self.recorded.points = [(c, by, totals[c]) for c, by in deltas.items() if by]
        self.recorded.queued = queue(self.transaction, aimed, self.now)
        return [self._result(doing, totals) for doing in doings]

    def _merge(self, survivor: int, loser: int) -> None:
        merge_contacts(self.transaction, survivor, loser, self.now)
        self.recorded.merged.append((survivor, loser))

    def _write_contacts(
        self, actions: Sequence[Action], found: Sequence[Found]
    ) -> None:
        recorded, transaction = self.recorded, self.transaction
        pairs = [
            (place.contact_id, action.contact)
            for action, place in zip(actions, found, strict=True)
        ]
        given = [
            (c, data)
            for (c, data), place in zip(pairs, found, strict=True)
            if not place.written and (data.fields or data.custom)
        ]
        changed = write_fields(transaction, given, self.now) if given else {}
        recorded.created = [place.contact_id for place in found if place.created]
        for contact_id in recorded.created:
            changed.pop(contact_id, None)
        recorded.changed = changed
        tags = [(c, tag) for c, data in pairs for tag in data.tags]
        segments = [(c, name) for c, data in pairs for name in data.segments]
        recorded.touched = {place.contact_id for place in found if place.touched}
        recorded.touched |= add_tags(transaction, tags)
        recorded.touched |= add_to_segments(transaction, segments)

    def _doings(self, actions: Sequence[Action], found: Sequence[Found]) -> list[Doing]:
        doings: list[Doing] = []
        untold = dict(self.recorded.changed)
        for action, place in zip(actions, found, strict=True):
            contact_id, given = place.contact_id, action.contact
            doing = Doing.of(action, contact_id, created=place.created)
            doings.append(doing)
            if action.quiet:
                continue
            if place.created:
                doing.entries.append(Entry(CREATED, {}, []))
            elif (given.fields or given.custom) and contact_id in untold:
                names = {"changed": list(untold.pop(contact_id))}
                doing.entries.append(Entry(UPDATED, names, []))
            if action.name:
                doing.entries.append(Entry(action.name, action.data, []))
            if action.reason:
                doing.reasons.append(action.reason)
        return doings

    def _fire(self, doings: Sequence[Doing], totals: Mapping[int, int]) -> list[Fired]:
        triggers = self.book.triggers
        if not triggers:
            return []
        look_at = dict(totals)
        merged = self.recorded.merged
        survivors = {survivor for survivor, _ in merged} - {gone for _, gone in merged}
        if not survivors.issubset(look_at):
            look_at |= read_totals(self.transaction, survivors.difference(look_at))
        re_arm(self.transaction, triggers, look_at)
        # The last action of a contact is named as what made it fire.
        last = {doing.contact_id: doing for doing in doings if not doing.action.quiet}
        loud = {c: total for c, total in look_at.items() if c in last}
        fired = fire_triggers(self.transaction, triggers, loud, self.now)
        for one in fired:
            last[one.contact_id].fired.append(one)
        self.recorded.fired = fired
        return fired

    def _insert_events(
        self, doings: Sequence[Doing], totals: Mapping[int, int]
    ) -> None:
        entries = [(doing, entry) for doing in doings for entry in doing.entries]
        if not entries:
            return
        ids = draw_ids(self.transaction, events, len(entries))
        rows = [
            (id_, *self._row(doing, entry, totals))
            for id_, (doing, entry) in zip(ids, entries, strict=True)
        ]
        if _INSERT.count(self.transaction, rows) != len(rows):
            raise Repeat
        for event_id, (_, entry) in zip(ids, entries, strict=True):
            entry.event_id = event_id
        self.recorded.actions = [
            (
                entry.event_id,
                doing.contact_id,
                entry.name,
                entry.data,
                doing.action.occurred_at or self.now,
            )
            for doing, entry in entries
        ]

    def _row(
        self, doing: Doing, entry: Entry, totals: Mapping[int, int]
    ) -> tuple[object, ...]:
        action = doing.action
        result: dict[str, Any] = {}
        if entry.looked:
            result["looked"] = entry.looked
        if entry is doing.entries[-1]:
            result |= self._kept(doing, totals)
        keyed = action.key is not None and entry.name == action.name
        return (
            action.source,
            action.key if keyed else None,
            action.body_hash() if keyed else "",
            entry.name,
            doing.contact_id,
            entry.data,
            action.occurred_at or self.now,
            self.now,
            result,
        )

    def _kept(self, doing: Doing, totals: Mapping[int, int]) -> dict[str, Any]:
        """Return what a repeat must be told, besides the pushes."""
        kept: dict[str, Any] = {}
        if doing.contact_id in totals:
            kept["points"] = totals[doing.contact_id]
        if doing.fired:
            kept["fired"] = [fired.trigger.key for fired in doing.fired]
        if doing.created:
            kept["created"] = True
        if doing.contact_id in self.recorded.changed:
            kept["changed"] = self.recorded.changed[doing.contact_id]
        before = [look for entry in doing.entries[:-1] for look in entry.looked]
        if before:
            kept["before"] = before
        return kept

    def _result(self, doing: Doing, totals: Mapping[int, int]) -> ActionResult:
        if not doing.entries and not doing.fired and not doing.pushes:
            # As of a pull or an import of thousands.
            return ActionResult(
                0,
                doing.contact_id,
                created=doing.created,
                changed=self.recorded.changed.get(doing.contact_id, ()),
                points=totals.get(doing.contact_id),
            )
        looked = [look for entry in doing.entries for look in entry.looked]
        return ActionResult(
            event_id=doing.event_id,
            contact_id=doing.contact_id,
            created=doing.created,
            changed=self.recorded.changed.get(doing.contact_id, ()),
            points=totals.get(doing.contact_id),
            fired=tuple([fired.trigger.key for fired in doing.fired]),
            pushes=tuple(doing.pushes),
            looked=tuple(looked),
        )
