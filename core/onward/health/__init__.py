"""Is this worker alive, and can it work? Asked over HTTP."""

from onward.health.probes import Health
from onward.health.pulse import Pulse
from onward.health.server import Probes

__all__ = ["Health", "Probes", "Pulse"]
