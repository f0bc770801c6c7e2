"""`onward.toml`: what it may say, and reading it."""

from onward.config.load import check_config, find_config, load_config
from onward.config.model import (
    Config,
    ConnectionConfig,
    PointTrigger,
    PushTo,
    Repeat,
    Rule,
    SegmentChoice,
)
from onward.config.problems import Problem

__all__ = [
    "Config",
    "ConnectionConfig",
    "PointTrigger",
    "Problem",
    "PushTo",
    "Repeat",
    "Rule",
    "SegmentChoice",
    "check_config",
    "find_config",
    "load_config",
]
