"""Where rules and triggers push to, against the segments last read."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection as Transaction

from onward.config import Config
from onward.connections.rename import resolve_segment
from onward.connections.state import read_all, read_segments
from onward.contract import RemoteSegment


def unknown_segments(
    transaction: Transaction, config: Config
) -> Iterator[tuple[str, str]]:
    """Yield (rule or trigger, sentence) for each segment that an account lacks.

    Of a connection that was never verified nothing is known, and nothing is said.
    """
    known = {
        state.name: [
            RemoteSegment(id_, name)
            for id_, name, why in read_segments(transaction, state.id)
            if not why
        ]
        for state in read_all(transaction)
        if state.verified_at is not None
    }
    for what, key, targets in (
        *(("rule", one.key, one.push_to) for one in config.rules),
        *(("trigger", one.key, one.push_to) for one in config.point_triggers),
    ):
        for to in targets:
            if isinstance(to.segment, str) and to.connection in known:
                there = known[to.connection]
                _, problem = resolve_segment(to.connection, to.segment, there)
                if problem:
                    yield f"{what} {key}", problem
