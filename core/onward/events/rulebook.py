"""The rules and triggers of one moment, with where they push to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.config.model import Config, PointTrigger, PushTo, Rule, SegmentChoice
from onward.config.problems import did_you_mean
from onward.connections.state import UNRESOLVED
from onward.errors import ConfigError, InputError
from onward.models import Connection, RemoteSegmentRow, table

connections = table(Connection)
remote_segments = table(RemoteSegmentRow)

_NAMES = select(connections.c.name)
_CONNECTIONS = select(
    connections.c.id,
    connections.c.name,
    connections.c.identity,
    connections.c.segment_id,
    connections.c.options,
)
_SEGMENTS = select(remote_segments.c.id, remote_segments.c.name).where(
    remote_segments.c.connection_id == bindparam("of")
)

REMEMBERED = 1_000
"""Names of actions whose rules are kept at hand; callers choose the names."""


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Rules and triggers, enabled ones only; triggers lowest first."""

    rules: tuple[Rule, ...]
    triggers: tuple[PointTrigger, ...]
    _matching: dict[str, Sequence[Rule]] = field(
        default_factory=dict[str, Sequence[Rule]], repr=False, compare=False
    )

    @classmethod
    def of(cls, rules: Iterable[Rule], triggers: Iterable[PointTrigger]) -> RuleBook:
        """Return what is enabled."""
        return cls(
            tuple(rule for rule in rules if rule.enabled),
            tuple(
                sorted(
                    (trigger for trigger in triggers if trigger.enabled),
                    key=lambda trigger: (trigger.points, trigger.key),
                )
            ),
        )

    def matching(self, action: str) -> Sequence[Rule]:
        """Return the rules whose `when` names this action."""
        found = self._matching.get(action)
        if found is None:
            found = [rule for rule in self.rules if rule.matches(action)]
            if len(self._matching) < REMEMBERED:
                self._matching[action] = found
        return found


def check_targets(config: Config, transaction: Transaction) -> None:
    """Make sure that every rule and trigger names connections that exist.

    Raises:
        ConfigError: one names a connection that neither `onward.toml` nor the
            database has; one line per problem.
    """
    known = set(transaction.execute(_NAMES).scalars())
    problems = [
        *_unknown("rules", config.rules, known),
        *_unknown("point_triggers", config.point_triggers, known),
    ]
    if problems:
        name = config.path.name if config.path else "environment"
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))


def _unknown(
    kind: str, found: Iterable[Rule | PointTrigger], known: Collection[str]
) -> list[str]:
    return [
        f'{kind}.{one.key}.push_to: there is no connection "{to.connection}"'
        + (
            did_you_mean(to.connection, known)
            or f"; declare it as [connections.{to.connection}]"
        )
        for one in found
        for to in one.push_to
        if to.connection not in known
    ]


class Targets:
    """Resolves "this connection, that segment" inside a transaction, by SQL only.

    A segment that is not known yet, because the connection was not verified
    yet, is queued under "?NAME" and gets its id when it is.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._known: Mapping[str, Any] = {
            row.name: row for row in transaction.execute(_CONNECTIONS)
        }
        self._segments: dict[int, Sequence[tuple[str, str]]] = {}
        self._resolved: dict[PushTo, tuple[int, str] | None] = {}

    def find(self, to: PushTo) -> tuple[int, str] | None:
        """Return (connection id, remote segment id); None = no such connection."""
        if to not in self._resolved:
            row = self._known.get(to.connection)
            self._resolved[to] = (
                None if row is None else (row.id, self._segment(row, to.segment))
            )
        return self._resolved[to]

    def resolve(self, to: PushTo) -> tuple[int, str]:
        """Return (connection id, remote segment id) of a target.

        Raises:
            InputError: there is no such connection.
        """
        found = self.find(to)
        if found is None:
            known = ", ".join(sorted(self._known)) or "none"
            raise InputError(
                f'there is no connection "{to.connection}"; there are: {known}'
            )
        return found

    def _segment(self, row: Any, wished: SegmentChoice) -> str:
        if wished is None:
            wished = row.options.get("segment")
            if wished is not False:
                if row.segment_id:
                    return str(row.segment_id)
                # A service without segments needs none.
                verified = bool(row.identity)
                return "" if verified and not self._names(row.id) else UNRESOLVED
        if wished is False:
            return ""
        same = [id_ for id_, name in self._names(row.id) if wished in (id_, name)]
        exact = [id_ for id_ in same if id_ == wished]
        if exact or len(same) == 1:
            return (exact or same)[0]
        return f"{UNRESOLVED}{wished}"

    def _names(self, of: int) -> Sequence[tuple[str, str]]:
        if of not in self._segments:
            found = self._transaction.execute(_SEGMENTS, {"of": of})
            self._segments[of] = [(row.id, row.name) for row in found]
        return self._segments[of]
