"""Why somebody was pushed, and why not."""

from onward.why.answer import (
    ActionWhy,
    ConnectionWhy,
    PushWhy,
    RuleLook,
    TriggerWhy,
    Try,
    Why,
)
from onward.why.explain import explain

__all__ = [
    "ActionWhy",
    "ConnectionWhy",
    "PushWhy",
    "RuleLook",
    "TriggerWhy",
    "Try",
    "Why",
    "explain",
]
