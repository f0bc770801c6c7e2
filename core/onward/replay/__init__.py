"""Send ended pushes again, as their contacts and maps are now."""

from onward.replay.differences import Change, Sample
from onward.replay.preview import preview_replay
from onward.replay.replayed import Replayed
from onward.replay.run import interrupted, replay, stop_replay

__all__ = [
    "Change",
    "Replayed",
    "Sample",
    "interrupted",
    "preview_replay",
    "replay",
    "stop_replay",
]
