"""The push rows that follow from actions: where to, and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection as Transaction

from onward.config.model import PushTo
from onward.delivery.queue import Wish, enqueue
from onward.events.rulebook import Targets
from onward.events.rules import Doing
from onward.failpoints import failpoint

log = logging.getLogger("onward.events")

Aimed = tuple[Doing, str, str, int, str]
"""Doing, kind and key of the cause, connection id, remote segment."""


def aim(transaction: Transaction, doings: Sequence[Doing]) -> list[Aimed]:
    """Resolve where rules and triggers push to, before the events are written.

    A connection that is not there any more (it was at the start) costs the push,
    not the event: that is noted where it is looked for, and logged.
    """
    wishes: list[tuple[Doing, str, str, PushTo]] = []
    for doing in doings:
        wishes += [(doing, "rule", key, to) for to, key in doing.wishes]
        wishes += [
            (doing, "trigger", one.trigger.key, to)
            for one in doing.fired
            for to in one.trigger.push_to
        ]
    if not wishes:
        return []
    targets = Targets(transaction)
    aimed: list[Aimed] = []
    for doing, kind, key, to in wishes:
        target = targets.find(to)
        if target is not None and target[0] != doing.action.origin:
            aimed.append((doing, kind, key, *target))
            continue
        if target is not None:
            why = f"it came from {to.connection} and is not pushed back there"
        else:
            why = f'there is no connection "{to.connection}" any more'
            log.warning("%s %s pushes nothing: %s", kind, key, why)
        if doing.entries:
            doing.entries[-1].looked.append((key, True, why))
    return aimed


def queue(
    transaction: Transaction, aimed: Sequence[Aimed], now: datetime
) -> dict[Wish, int]:
    """Write the rows, each with its causes; note them in the doings."""
    if not aimed:
        return {}
    wishes = [
        Wish(of, doing.contact_id, segment, kind, key, doing.event_id or None)
        for doing, kind, key, of, segment in aimed
    ]
    queued = enqueue(transaction, wishes, now)
    failpoint("during_enqueue")
    for (doing, *_), wish in zip(aimed, wishes, strict=True):
        doing.pushes[queued[wish]] = None
    return queued
