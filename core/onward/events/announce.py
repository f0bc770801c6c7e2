"""Tell everybody what one transaction did, after its commit."""

from __future__ import annotations

from collections.abc import Iterable

from blinker import NamedSignal

from onward import signals
from onward.connections.state import read_all
from onward.delivery import trail
from onward.events.action import Recorded
from onward.runtime import Runtime
from onward.signals import (
    ContactAction,
    ContactFact,
    Fact,
    PointsChanged,
    PointTriggered,
    PushFact,
)


def announce_recorded(runtime: Runtime, recorded: Recorded) -> None:
    """Announce the facts of one transaction, each once."""
    trail.queued(recorded.queued)

    def say(signal: NamedSignal, facts: Iterable[Fact]) -> None:
        if signal.receivers:  # usually nobody listens: then no fact is made
            for fact in facts:
                signals.announce(signal, runtime.sender, fact)

    say(
        signals.contact_merged,
        (ContactFact(survivor, other=loser) for survivor, loser in recorded.merged),
    )
    say(signals.contact_created, (ContactFact(who) for who in recorded.created))
    say(
        signals.contact_changed,
        (ContactFact(who, names) for who, names in recorded.changed.items()),
    )
    say(
        signals.contact_action,
        (
            ContactAction(who, name, event_id, moment, data)
            for event_id, who, name, data, moment in recorded.actions
        ),
    )
    say(signals.points_changed, (PointsChanged(*change) for change in recorded.points))
    say(
        signals.point_triggered,
        (
            PointTriggered(fired.contact_id, fired.trigger.key, fired.total)
            for fired in recorded.fired
        ),
    )
    if recorded.queued and signals.push_queued.receivers:
        say(signals.push_queued, _pushes(runtime, recorded))


def _pushes(runtime: Runtime, recorded: Recorded) -> list[Fact]:
    """Return one fact per row, however many causes it has."""
    with runtime.database.read() as transaction:
        called = {state.id: state.name for state in read_all(transaction)}
    rows = {push_id: wish for wish, push_id in recorded.queued.items()}
    return [
        PushFact(
            push_id, called.get(wish.connection_id, ""), wish.contact_id, "waiting"
        )
        for push_id, wish in rows.items()
    ]
