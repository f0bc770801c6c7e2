"""What an erasure did, in words and as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onward.cli.printing import note

if TYPE_CHECKING:
    from onward.contacts.erasing import Erased
    from onward.contacts.remotely import There
    from onward.runtime import Runtime

# Who writes meanwhile may wonder.
WORTH_SAYING_S = 2.0


def say_what_it_takes(runtime: Runtime) -> None:
    """Say beforehand that others will wait, where they will for a while."""
    from onward.compact import LARGE, estimate_s, size_of

    size = size_of(runtime.database)
    if size <= LARGE and estimate_s(size) >= WORTH_SAYING_S:
        note(
            f"the database file ({size / 1e6:,.0f} MB) is written anew at the end: for "
            f"about {estimate_s(size):.0f} s nobody else can write"
        )


def as_document(done: Erased, backups: Sequence[Path]) -> dict[str, Any]:
    """Return what was done as plain data."""
    compacted = done.compacted
    return {
        "contact_id": done.contact_id,
        "contacts": done.contacts,
        "cancelled": done.cancelled,
        "cleaned": done.cleaned,
        "sending": done.sending,
        "services": [
            {
                "connection": one.connection,
                "queued": one.queued,
                "method": one.method,
                "by_hand": list(one.by_hand),
                "words": one.words,
            }
            for one in done.services
        ],
        "compacted": compacted is not None and compacted.is_done,
        "why": "" if compacted is None else compacted.why,
        "backups": [str(path) for path in backups],
    }


def lines(email: str, done: Erased, backups: Sequence[Path]) -> Iterator[str]:
    """Yield what was done, and what remains to be done."""
    yield (
        f"erased {email}: {_many(done.contacts, 'contact')}, "
        f"{_many(done.cleaned, 'place')} that named them cleaned, "
        f"{_many(done.cancelled, 'waiting push', 'es')} cancelled"
    )
    for one in done.services:
        yield from _there(one)
    if done.sending:
        yield (
            f"{_many(done.sending, 'push', 'es')} of theirs on the way now: a worker "
            "cleans up when they have ended; run this command once more then"
        )
    if done.compacted is not None and done.compacted.why:
        yield done.compacted.why
    if backups:
        listed = ", ".join(str(path) for path in backups)
        yield (
            f"{listed}: made before an upgrade, and may hold them as well; delete "
            "what you do not need to go back to"
        )


def _there(one: There) -> Iterator[str]:
    words = {"erase": "erased", "unsubscribe": "unsubscribed"}
    if one.queued:
        yield (
            f"{one.connection}: {_many(one.queued, 'remote contact')} to be "
            f"{words[one.method]} there; a worker or `onward deliver` does it "
            "(`onward errands`)"
        )
    if one.words:
        yield f"{one.connection}: {one.words}"


def _many(count: int, what: str, more: str = "s") -> str:
    return f"{count} {what}{'' if count == 1 else more}"
