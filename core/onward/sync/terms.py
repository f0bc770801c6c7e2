"""What a pull works with: its terms, a page of the service's rows, one row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection as Transaction

from onward.connections.state import State
from onward.contract import RemoteContact
from onward.events.action import Recorded
from onward.events.record import Recorder
from onward.remote import DELETED, Snapshot
from onward.sync.optouts import Place
from onward.sync.values import PullMap, Same

# What becomes of a row, counted under these words.
CREATED, LINKED, CHANGED, UNCHANGED = "created", "linked", "changed", "unchanged"
CLASHES, ERASED, UNFIT, GONE = "clashes", "erased", "unfit", "deleted"
# Of people known before: what the share-of-change limit is about.
STOPPED, ALTERED = "stopped", "altered"
OPT_OUTS = {
    "do_not_contact": "do_not_contact",
    "bounced": "bounced",
    "unsubscribed": "unsubscribed",
    DELETED: GONE,
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all pages of one pull.

    Args:
        fire: let what comes with it lead to actions, for rules.
        full: apply each row, whatever was pulled before.
    """

    state: State
    pull: PullMap
    place: Place
    recorder: Recorder
    same: Same
    email_field: str
    fire: bool = False
    full: bool = False


@dataclass(slots=True)
class Taken:
    """What a page led to.

    Args:
        recorded: to be announced after the commit.
        notes: what a person should look at: kind, remote id, sentence.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    recorded: Recorded = field(default_factory=lambda: Recorded([]))
    notes: list[tuple[str, str, str]] = field(
        default_factory=list[tuple[str, str, str]]
    )


@dataclass(slots=True)
class Row:
    """One row that is looked at.

    Args:
        contact_id: whose it is; 0 = nobody's yet.
        base: what the service had, as far as both sides agreed.
        was_ours: it was linked before this page.
        agreed: remote names whose values ours took over.
    """

    record: RemoteContact
    snapshot: Snapshot
    email: str
    mark: str
    contact_id: int = 0
    base: Mapping[str, str] = field(default_factory=dict[str, str])
    was_ours: bool = False
    was_known: bool = False
    agreed: Sequence[str] = ()
    clash: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page that is taken over, in the caller's transaction.

    Args:
        whole: each of its rows was read by itself, with all its fields.
        taken: filled while it is.
    """

    transaction: Transaction
    terms: Terms
    now: datetime
    whole: bool = False
    taken: Taken = field(default_factory=Taken)

    @property
    def of(self) -> int:
        """The connection that is pulled."""
        return self.terms.state.id

    def note(self, kind: str, remote_id: str, why: str) -> None:
        """Let a person look at a row."""
        self.taken.notes.append((kind, remote_id, why))
