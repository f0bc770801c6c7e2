"""Log records as text for people and as JSON lines for programs."""

from __future__ import annotations

import logging
import os
import socket
from datetime import UTC, datetime

import orjson

LAYOUT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
# The order of the keys; what others add comes after them, by name.
ORDER = (
    "connection",
    "connection_id",
    "integration",
    "fence",
    "attempt_id",
    "delivery_id",
    "delivery_ids",
    "deliveries",
    "first_id",
    "last_id",
    "contact_id",
    "contact_ids",
    "event_id",
    "cause",
    "state",
    "code",
    "reason",
    "method",
    "path",
    "status",
    "ms",
    "error",
)


# Those the messages of the same lines say in words.
_IN_WORDS = frozenset({"method", "path", "status"})


def extras(record: logging.LogRecord) -> dict[str, object]:
    """Return what a record carries besides its message, in a stable order."""
    found = {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and not name.startswith("_") and value is not None
    }
    listed = {name: found.pop(name) for name in ORDER if name in found}
    return listed | dict(sorted(found.items()))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, facts, who wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self._host = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **extras(record),
            "host": self._host,
            "pid": os.getpid(),
            "thread": record.threadName,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["trace"] = record.exc_text
        options = orjson.OPT_NON_STR_KEYS
        return orjson.dumps(line, default=repr, option=options).decode()


class TextFormatter(logging.Formatter):
    """A line for people; the facts stand behind it in brackets."""

    def __init__(self) -> None:
        super().__init__(LAYOUT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - theirs
        """Return the line without its trace."""
        line = super().formatMessage(record)
        known = [
            f"{name}={_shown(value)}"
            for name, value in extras(record).items()
            if value != "" and name not in _IN_WORDS
        ]
        return f"{line} [{' '.join(known)}]" if known else line


def _shown(value: object) -> str:
    if isinstance(value, list):
        return _ranges(value)  # pyright: ignore[reportUnknownArgumentType]
    text = str(value)
    return repr(text) if " " in text else text


def _ranges(values: list[object]) -> str:
    """Return numbers as `1-3,7`; they are claimed, and mostly made, in a row."""
    parts: list[list[object]] = []
    for value in values:
        last = parts[-1][-1] if parts else None
        if isinstance(value, int) and isinstance(last, int) and value == last + 1:
            parts[-1] = [parts[-1][0], value]
        else:
            parts.append([value])
    return ",".join("-".join(map(str, part)) for part in parts)
