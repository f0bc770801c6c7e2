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


def failpoint(name: str) -> None:
    """Die here, at once and without cleaning up, when this point is armed.

    `ONWARD_FAILPOINT=after_answer` arms one point; `after_answer:3` lets it pass
    twice first.
    """
    armed = os.environ.get(VARIABLE)
    if not armed:
        return
    wanted, _, turn = armed.partition(":")
    if wanted != name:
        return
    left = int(turn or "1") - 1
    if left > 0:
        os.environ[VARIABLE] = f"{name}:{left}"
        return
    os.kill(os.getpid(), signal.SIGKILL)
