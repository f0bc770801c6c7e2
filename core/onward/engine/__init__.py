"""Who calls `drain`, and when."""

from onward.engine.port import Engine

__all__ = ["Engine"]
