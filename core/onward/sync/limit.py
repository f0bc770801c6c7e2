"""How much a pull may change before somebody has to say that it may."""

from __future__ import annotations

from onward.errors import OnwardError
from onward.sync.runs import Run
from onward.sync.terms import ALTERED, STOPPED

# What a pull may change of few people needs no question.
FEW = 10

_WORDS = (
    (STOPPED, "opted out, bounced or were deleted"),
    (ALTERED, "were changed"),
)


class Asks(OnwardError):
    """More would change than the share-of-change limit allows; nobody said it may."""


def is_too_many(run: Run, count: int, share: float) -> bool:
    """Tell whether so many of the contacts known before are more than expected."""
    known = run.counts["known"]
    return not run.accepted and known > 0 and count > max(FEW, share * known)


def check_limit(run: Run, share: float, title: str) -> None:
    """Stop before more changes than a person would expect.

    Args:
        share: of the contacts known before the pull.
        title: of the service.

    Raises:
        Asks: say yes with `accept`, or look at the account.
    """
    for name, words in _WORDS:
        if is_too_many(run, run.counts[name], share):
            known = run.counts["known"]
            raise Asks(
                f"more than {share:.0%} of the {known:,} contacts known before "
                f"{words} in {title} since the last pull"
            )


def check_missing(run: Run, count: int, share: float, title: str) -> None:
    """Conclude nothing from an answer that lacks more people than one would expect.

    Raises:
        Asks: as `check_limit`.
    """
    if is_too_many(run, count, share):
        known = run.counts["known"]
        raise Asks(
            f"{count:,} of the {known:,} contacts known before are missing in {title}; "
            "nothing was concluded from that"
        )
