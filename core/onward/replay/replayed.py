"""What a replay did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onward.delivery.listing import HELD, Wanted
from onward.delivery.picking import What, check_named
from onward.delivery.refusing import Refused
from onward.errors import InputError
from onward.models import OPEN_STATES
from onward.replay.differences import Sample
from onward.replay.judge import UNKNOWN
from onward.replay.known import ARRIVED


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did, or would do.

    Args:
        count: ended rows that were replayed; several of one contact become one row.
        refused: rows that were left alone, with the reasons.
        samples: what would be sent for the first of them; only before it is done.
        looked, total: rows looked at so far, by an interrupted call before as well.
        stopped: somebody stopped it before the end.
    """

    count: int = 0
    refused: Refused = field(default_factory=Refused)
    samples: tuple[Sample, ...] = ()
    looked: int = 0
    total: int = 0
    dry_run: bool = False
    stopped: bool = False

    @property
    def more(self) -> int:
        """How many rows would be replayed that are not among the samples."""
        return self.count - len(self.samples)

    @property
    def document(self) -> dict[str, Any]:
        """It as plain data."""
        found: dict[str, Any] = {
            "dry_run": self.dry_run,
            "replayed": self.count,
            "refused": self.refused.document,
        }
        if self.dry_run:
            found["samples"] = [sample.document for sample in self.samples]
            found["more"] = self.more
        else:
            found["stopped"] = self.stopped
        return found


def check(what: What) -> bool:
    """Make sure that rows can be replayed; tell whether somebody named them or a code.

    Raises:
        InputError: nothing is named, or a state that cannot be replayed.
    """
    check_named(what, "replay")
    if not isinstance(what, Wanted):
        return True
    if what.state in (HELD, *OPEN_STATES):
        raise InputError(f"{what.state} pushes are not replayed: they go out as it is")
    if what.state in ARRIVED:
        raise InputError(
            f"{what.state} pushes are not replayed: the service has them; to send one "
            "once more: `onward push EMAIL --to NAME --force`"
        )
    return what.code == UNKNOWN
