"""The rules and triggers of one moment, with where they push to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.audiences.book import read_book
from onward.audiences.check import check_conditions
from onward.config.model import AudienceConfig, Config, PointTrigger, PushTo, Rule
from onward.config.problems import Problems, did_you_mean
from onward.connections.state import UNRESOLVED
from onward.errors import ConfigError, InputError
from onward.models import Connection, RemoteSegmentRow, table
from onward.sql import Among

connections = table(Connection)
remote_segments = table(RemoteSegmentRow)

_NAMES = select(connections.c.name)
_CONNECTIONS = Among(
    select(
        connections.c.id,
        connections.c.identity,
        connections.c.segment_id,
        connections.c.options,
        connections.c.verified_at.is_not(None),
    ).where(connections.c.name.in_(bindparam("among", expanding=True)))
)
_SEGMENTS = select(remote_segments.c.id, remote_segments.c.name).where(
    remote_segments.c.connection_id == bindparam("of")
)

REMEMBERED = 1_000
"""Names of actions whose rules are kept at hand; callers choose the names."""


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Rules and triggers, enabled ones only; triggers lowest first.

    Args:
        audiences: of the file; rules may ask about them, and about stored ones.
    """

    rules: tuple[Rule, ...]
    triggers: tuple[PointTrigger, ...]
    audiences: tuple[AudienceConfig, ...] = ()
    _matching: dict[str, Sequence[Rule]] = field(
        default_factory=dict[str, Sequence[Rule]], repr=False, compare=False
    )

    @classmethod
    def of(
        cls,
        rules: Iterable[Rule],
        triggers: Iterable[PointTrigger],
        audiences: Iterable[AudienceConfig] = (),
    ) -> RuleBook:
        """Return what is enabled."""
        return cls(
            tuple(rule for rule in rules if rule.enabled),
            tuple(
                sorted(
                    (trigger for trigger in triggers if trigger.enabled),
                    key=lambda trigger: (trigger.points, trigger.key),
                )
            ),
            tuple(audiences),
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
    """Make sure that rules, triggers and audiences name only what exists.

    Raises:
        ConfigError: one names a connection or an audience that neither `onward.toml`
            nor the database has; one line per problem.
    """
    known = set(transaction.execute(_NAMES).scalars())
    problems = Problems()
    _unknown("rules", config.rules, known, problems)
    _unknown("point_triggers", config.point_triggers, known, problems)
    audiences = read_book(transaction, config.audiences).filters
    check_conditions(config, known, audiences, problems)
    name = config.path.name if config.path else "environment"
    found = problems.listed(_text(config.path))
    if found:
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in found))


def _unknown(
    kind: str,
    found: Iterable[Rule | PointTrigger],
    known: Collection[str],
    problems: Problems,
) -> None:
    for place, one in enumerate(found):
        for to in one.push_to:
            if to.connection not in known:
                advice = did_you_mean(to.connection, known) or (
                    f"; declare it as [connections.{to.connection}]"
                )
                problems.add(
                    (kind, place, "push_to"),
                    f'there is no connection "{to.connection}"{advice}',
                    where=f"{kind}.{one.key}.push_to",
                )


def _text(path: Path | None) -> str:
    """Return the file once more, to find lines; without it they are left out."""
    try:
        return path.read_text("utf-8-sig") if path is not None else ""
    except (OSError, UnicodeDecodeError):
        return ""


class Targets:
    """Resolves "this connection, that segment" inside a transaction, by SQL only.

    A segment that is not known yet, because the connection was not verified
    yet, is queued under "?NAME" and gets its id when it is.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._segments: dict[int, Sequence[tuple[str, str]]] = {}
        self._resolved: dict[PushTo, tuple[int, str] | None] = {}

    def find(self, to: PushTo) -> tuple[int, str] | None:
        """Return (connection id, remote segment id); None = no such connection."""
        if to not in self._resolved:
            self._resolved[to] = self._look_up(to)
        return self._resolved[to]

    def resolve(self, to: PushTo) -> tuple[int, str]:
        """Return (connection id, remote segment id) of a target.

        Raises:
            InputError: there is no such connection.
        """
        found = self.find(to)
        if found is None:
            names = self._transaction.execute(_NAMES).scalars()
            known = ", ".join(sorted(names)) or "none"
            raise InputError(
                f'there is no connection "{to.connection}"; there are: {known}'
            )
        return found

    def _look_up(self, to: PushTo) -> tuple[int, str] | None:
        for of, identity, segment_id, options, verified in _CONNECTIONS(
            self._transaction, [to.connection]
        ):
            # SQLite's driver gives JSON as its text, PostgreSQL's reads it.
            said = orjson.loads(options) if isinstance(options, str) else options
            wished = said.get("segment") if to.segment is None else to.segment
            if wished is False:
                return of, ""
            if to.segment is not None:
                return of, self._named(of, to.segment)
            if segment_id and (verified or wished is None):
                return of, segment_id
            if wished is not None and not verified:
                # Another one may have been chosen since the last reading.
                named = self._named(of, wished)
                return of, UNRESOLVED if named.startswith(UNRESOLVED) else named
            # A service without segments needs none.
            return of, "" if identity and not self._names(of) else UNRESOLVED
        return None

    def _named(self, of: int, wished: object) -> str:
        same = [id_ for id_, name in self._names(of) if wished in (id_, name)]
        if wished in same:
            return str(wished)
        return same[0] if len(same) == 1 else f"{UNRESOLVED}{wished}"

    def _names(self, of: int) -> Sequence[tuple[str, str]]:
        if of not in self._segments:
            found = self._transaction.execute(_SEGMENTS, {"of": of})
            self._segments[of] = [(row.id, row.name) for row in found]
        return self._segments[of]
