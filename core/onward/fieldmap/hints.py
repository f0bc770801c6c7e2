"""The parts of a refusal that help: what was meant, what is known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LISTED = 60


def meant(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "first_name"?)`, or "" when nothing is near."""
    folded = {_fold(candidate): candidate for candidate in known}
    near = difflib.get_close_matches(_fold(name), list(folded), n=1, cutoff=0.7)
    return f' (did you mean "{folded[near[0]]}"?)' if near else ""


def listed(names: Iterable[str]) -> str:
    """Return the names, sorted, as one text that stays readable."""
    ordered = sorted(names)
    more = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return (", ".join(ordered[:LISTED]) + more) or "none"


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(" ", "").casefold()
