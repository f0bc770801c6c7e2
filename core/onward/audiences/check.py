"""Conditions against what there is: connections and audiences they name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from onward.audiences.resolve import resolve
from onward.config.model import Config
from onward.config.problems import Problems, did_you_mean
from onward.errors import InputError
from onward.filters import Filter
from onward.filters.names import connections_of


def unknown_connection(conditions: Filter, known: Collection[str]) -> str:
    """Say that a filter names a connection that is not there; "" when none."""
    for name in sorted(connections_of(conditions)):
        if name not in known:
            return f'there is no connection "{name}"{did_you_mean(name, known)}'
    return ""


def check_conditions(
    config: Config,
    connections: Collection[str],
    audiences: Mapping[str, Filter],
    problems: Problems,
) -> None:
    """Note each rule and audience of the file whose conditions name what is not there.

    Args:
        connections: names of all there are.
        audiences: key → conditions of all that can be read, the file's included.
    """
    asked: Iterable[tuple[str, int, str, Filter]] = (
        *(
            ("rules", place, rule.key, rule.conditions)
            for place, rule in enumerate(config.rules)
        ),
        *(
            ("audiences", place, one.key, one.conditions)
            for place, one in enumerate(config.audiences)
        ),
    )
    for kind, place, key, conditions in asked:
        said = [unknown_connection(conditions, connections)]
        try:
            resolve(conditions, audiences, key=key if kind == "audiences" else "")
        except InputError as error:
            said.append(error.message)
        for problem in filter(None, said):
            problems.add((kind, place, "if"), problem, where=f"{kind}.{key}.if")
