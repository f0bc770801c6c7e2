"""Named places where a test may kill the process; nothing otherwise."""

from __future__ import annotations

import os
import signal

VARIABLE = "ONWARD_FAILPOINT"
# Of a delivery, in the order they are passed.
DELIVERY = (
    "before_claim",
    "after_claim",
    "after_attempt",
    "before_request",
    "after_request",
    "after_answer",
    "after_commit",
)
# Of the transactions that queue; inside, so that all of it must be rolled back.
QUEUEING = ("during_enqueue", "during_backfill", "during_merge")


def failpoint(name: str) -> None:
    """Die here, at once and without cleaning up, when this point is armed.

    `ONWARD_FAILPOINT=after_answer` arms one point; `after_answer:3` lets it pass
    twice first; `after_answer@FILE` kills one process of several, the first that
    can make the file.
    """
    armed = os.environ.get(VARIABLE)
    if not armed:
        return
    place, _, once = armed.partition("@")
    wanted, _, turn = place.partition(":")
    if wanted != name:
        return
    left = int(turn or "1") - 1
    if left > 0:
        os.environ[VARIABLE] = f"{name}:{left}@{once}"
        return
    if once and not _is_first(once):
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _is_first(file: str) -> bool:
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
