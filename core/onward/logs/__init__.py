"""Log lines that can be followed and passed on: who, where, and nothing private."""

from onward.logs.context import bound
from onward.logs.format import JsonFormatter, TextFormatter
from onward.logs.private import Private, protect

__all__ = ["JsonFormatter", "Private", "TextFormatter", "bound", "protect"]
