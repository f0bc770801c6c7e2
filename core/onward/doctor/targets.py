"""Where rules and triggers push to, against the segments last read."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection as Transaction

from onward.config import Config
from onward.connections.declare import as_declared
from onward.connections.rename import resolve_segment
from onward.connections.state import read_all, read_segments
from onward.contract import RemoteSegment


def unknown_segments(
    transaction: Transaction, config: Config
) -> Iterator[tuple[str, str]]:
    """Yield (rule, trigger or connection, sentence) for each segment an account lacks.

    Of a connection that was never verified nothing is known, and nothing is said;
    nor of one that was tried since the file was changed, because it says it itself;
    nor of one that is switched off.
    """
    verified = {
        state.name: state
        for state in read_all(transaction)
        if state.verified_at is not None
        and as_declared(state, config.connections).enabled
    }
    known = {
        name: [
            RemoteSegment(id_, called)
            for id_, called, why in read_segments(transaction, state.id)
            if not why
        ]
        for name, state in verified.items()
    }
    for name, its in config.connections.items():
        changed = name in known and verified[name].declared != its.fingerprint
        if changed and isinstance(its.segment, str):
            _, problem = resolve_segment(name, its.segment, known[name])
            if problem:
                said = problem.removeprefix(f"{name}: ")
                why = (
                    f"{said}; if it is another account by now, "
                    f"`onward connections test {name}` reads its segments"
                )
                yield f"connection {name}", why
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
