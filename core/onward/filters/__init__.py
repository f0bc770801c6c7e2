"""The one filter language, of rules, audiences, listings and replays."""

from onward.filters.comparison import glob_problem
from onward.filters.language import Condition, Filter, look_up
from onward.filters.operators import OPERATORS

__all__ = ["OPERATORS", "Condition", "Filter", "glob_problem", "look_up"]
