"""What a push of an audience did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onward.delivery.refusing import Refused
from onward.forecast import Forecast
from onward.preview import Preview


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push of an audience did, or would do.

    Args:
        key: of the audience; "" = a filter that is not saved.
        members: that were looked at, by an interrupted call before as well.
        total: members when it began.
        count: pushes that were queued, or joined one that waits, by this call.
        refused: members who cannot be pushed, with the reasons.
        sample: the request for one of them; only before it is done.
        no_sample: why there is none.
        forecast: when they are done; None = nobody knows, or it is done.
        cancelled: somebody stopped it before the end.
        stopped: this process was told to stop; the same call goes on.
    """

    key: str
    to: str
    members: int = 0
    total: int = 0
    count: int = 0
    refused: Refused = field(default_factory=Refused)
    sample: Preview | None = None
    no_sample: str = ""
    forecast: Forecast | None = None
    dry_run: bool = False
    cancelled: bool = False
    stopped: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """It as plain data."""
        found: dict[str, Any] = {
            "audience": self.key,
            "connection": self.to,
            "dry_run": self.dry_run,
            "members": self.members,
            "total": self.total,
            "pushed": self.count,
            "refused": self.refused.document,
        }
        if not self.dry_run:
            return {**found, "cancelled": self.cancelled, "stopped": self.stopped}
        request = self.sample.request if self.sample else None
        found["forecast"] = self.forecast.document if self.forecast else None
        found["request"] = (
            {"method": request.method, "url": request.url, "body": request.body}
            if request
            else None
        )
        return found
