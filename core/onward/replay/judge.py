"""Decide which ended rows may be replayed, as things are now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection as Transaction

from onward.config.model import PushTo
from onward.connections.state import UNRESOLVED, State
from onward.delivery.picking import Picked
from onward.delivery.prepare import blocking, switched_off, words_for
from onward.delivery.refusing import Refusal
from onward.replay.known import ARRIVED, OPEN, Known, Led, Other, load

# What may be replayed, unless something stands against it.
REPLAYABLE = ("failed", "skipped", "cancelled")
# Failed, and nobody can tell whether it arrived; see `onward.delivery.readback`.
UNKNOWN = "unknown"

Against = tuple[str, str]
"""What stands against a replay: a code, and a sentence without its subject."""


@dataclass(frozen=True, slots=True)
class Again:
    """A row that may be replayed, with what it is now.

    Args:
        contact_id: whom its contact was merged into, if it was.
        segment: remote segment id; `?NAME` while that is not known.
    """

    row: Picked
    state: State
    contact_id: int
    email: str
    segment: str


@dataclass(slots=True)
class Verdicts:
    """What may be replayed, and why the rest may not."""

    again: list[Again] = field(default_factory=list[Again])
    refused: list[Refusal] = field(default_factory=list[Refusal])


def judge(
    transaction: Transaction,
    rows: Sequence[Picked],
    *,
    newest: int,
    named: bool,
    hold: bool = False,
) -> Verdicts:
    """Tell which rows may be replayed.

    Args:
        newest: rows with higher numbers were queued since this replay began; they
            are joined.
        named: a person named these rows, or this code of theirs.
        hold: nobody merges, erases or queues their contacts until the transaction
            ends.

    Raises:
        Repeat: a contact was merged while it was waited for.
    """
    known = load(transaction, rows, newest, hold=hold)
    verdicts = Verdicts()
    for row in rows:
        found = _by_itself(row, named=named) or _by_others(row, known)
        if isinstance(found, Again):
            verdicts.again.append(found)
        else:
            code, why = found
            verdicts.refused.append(Refusal(row.id, code, f"push {row.id} {why}"))
    return verdicts


def _by_itself(row: Picked, *, named: bool) -> tuple[str, str] | None:
    """Return what its row alone says against a replay."""
    if row.state == "waiting":
        return "waits_already", "is waiting already"
    if row.state in OPEN:
        return "waits_already", "is being sent"
    if row.state in ARRIVED:
        why = "was delivered; `onward push EMAIL --to NAME --force` sends it once more"
        return "delivered", why
    if row.state == "cancelled" and row.code == "merged":
        return "merged", f"was taken over: {row.reason}"
    if row.state == "cancelled" and row.code == "identity_changed":
        return "identity_changed", f"was cancelled: {row.reason}"
    if row.state == "failed" and row.code == UNKNOWN and not named:
        return "may_have_arrived", (
            "may have arrived, and nobody can tell; look there, then replay it by its "
            f"number or with --code {UNKNOWN}"
        )
    return None


def _by_others(row: Picked, known: Known) -> Again | Against:
    """Return the row as it would go now, or what is against that."""
    led = known.connections.get(row.connection_id)
    if led is None:
        name = known.removed.get(row.connection_id, "")
        return "connection_gone", f'is of the connection "{name}", which was removed'
    state = led.state
    if led.moved_at is not None and row.created_at < led.moved_at:
        when = f"until {led.moved_at:%Y-%m-%d %H:%M} UTC"
        why = f"was meant for another account, which {state.name} led to {when}"
        return "identity_changed", why
    contact_id = known.survivors.get(row.contact_id, row.contact_id)
    person = known.people.get(contact_id)
    if person is None or person.erased_at is not None:
        return "erased", "is of a contact that was erased"
    segment = _segment(row, state, known)
    why = _gone(led, segment)
    if why:
        return "segment_gone", why
    found = _came_later(row, {contact_id, row.contact_id}, segment, known)
    if found is not None:
        return found
    off = switched_off(state)
    if off is not None:
        return off.code, f"would be skipped again: {off.reason}"
    stop = blocking(state, segment, known.stops.get(contact_id, ()))
    if stop is not None:
        return "suppressed", f"must not be sent: {words_for(stop)}"
    return Again(row, state, contact_id, person.email or "", segment)


def _segment(row: Picked, state: State, known: Known) -> str:
    """Return where it goes now; what was not known then may be by now."""
    if not row.segment.startswith(UNRESOLVED):
        return row.segment
    wished = row.segment.removeprefix(UNRESOLVED)
    found = known.targets.find(PushTo(state.name, wished or None))
    return row.segment if found is None else found[1]


def _came_later(
    row: Picked, who: set[int], segment: str, known: Known
) -> Against | None:
    replay = known.replays.get(row.id)
    if replay is not None:
        return "replayed_already", f"was replayed: push {replay.id} {replay.state}"
    others = [
        other
        for contact_id in who
        for other in known.others.get((row.connection_id, contact_id, segment), ())
    ]
    for one in others:
        if one.state in OPEN and one.id <= known.newest:
            what = "waits already" if one.state == "waiting" else "is being sent"
            return "waits_already", f"is not needed: push {one.id} {what}"
    for one in others:
        if one.state in ARRIVED and _is_later(one, row):
            return "delivered_since", f"was made up for: push {one.id} {one.state}"
    return None


def _is_later(other: Other, row: Picked) -> bool:
    if other.id > row.id:
        return True
    # It waited longer, and went as its contact was then.
    ended, before = other.finished_at, row.finished_at
    return ended is not None and before is not None and ended > before


def _gone(connection: Led, segment: str) -> str:
    """Return why there is no such remote segment any more, "" when there is."""
    state = connection.state
    if not segment or segment.startswith(UNRESOLVED) or state.verified_at is None:
        return ""
    held = connection.segments.get(segment)
    if held is None:
        return (
            f"is for the remote segment {segment}, which {state.name} does not have "
            f"any more; `onward segments {state.name}` lists what it has"
        )
    return f"is for a remote segment that is held: {held}" if held else ""
