"""Keys: a repeat changes nothing and gets the first result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.events.action import Action, ActionResult
from onward.models import Cause, Event, table

events = table(Event)
causes = table(Cause)

_BY_KEYS = select(events).where(
    events.c.source == bindparam("of"),
    events.c.key.in_(bindparam("keys", expanding=True)),
)
_PUSHES = (
    select(causes.c.event_id, causes.c.push_id)
    .where(causes.c.event_id.in_(bindparam("ids", expanding=True)))
    .order_by(causes.c.id)
)


def find_repeats(
    transaction: Transaction, actions: Sequence[Action]
) -> dict[int, ActionResult]:
    """Return the first results of those actions whose key was used before.

    Returns:
        Place in `actions` → result.
    """
    by_source: dict[str, dict[str, list[int]]] = {}
    for place, action in enumerate(actions):
        if action.key is not None:
            keys = by_source.setdefault(action.source, {})
            keys.setdefault(action.key, []).append(place)
    answers: dict[int, ActionResult] = {}
    for source, keys in by_source.items():
        found = transaction.execute(_BY_KEYS, {"of": source, "keys": list(keys)}).all()
        if not found:
            continue
        pushes: dict[int, dict[int, None]] = {}
        ids = {"ids": [row.id for row in found]}
        for event_id, push_id in transaction.execute(_PUSHES, ids):
            pushes.setdefault(event_id, {})[push_id] = None
        for row in found:
            first = _first_result(row, tuple(pushes.get(row.id, ())))
            for place in keys[row.key]:
                differs = actions[place].body_hash() != row.body_hash
                answers[place] = again(first, differs=differs)
    return answers


def again(first: ActionResult, *, differs: bool) -> ActionResult:
    """Return a first result as the answer to a repeat."""
    return replace(first, repeated=True, differs=differs)


def _first_result(row: Any, pushes: tuple[int, ...]) -> ActionResult:
    kept: dict[str, Any] = row.result or {}
    return ActionResult(
        event_id=row.id,
        contact_id=row.contact_id,
        created=bool(kept.get("created")),
        changed=tuple(kept.get("changed", ())),
        points=kept.get("points"),
        fired=tuple(kept.get("fired", ())),
        pushes=pushes,
        looked=tuple(
            (key, ran, why)
            for key, ran, why in (*kept.get("before", ()), *kept.get("looked", ()))
        ),
    )
