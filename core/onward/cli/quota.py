"""Sentences about calls: how many are left, how long it takes, how fast it goes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onward.forecast import Forecast
    from onward.runtime import Runtime


def backfill_lines(runtime: Runtime, names: Iterable[str], rows: int) -> list[str]:
    """Say for each connection what so many rows of a back-fill cost there."""
    return _lines(runtime, names, backfill=rows)


def push_lines(runtime: Runtime, names: Iterable[str], rows: int) -> list[str]:
    """Say for each connection what so many pushes by hand cost there."""
    return _lines(runtime, names, live=rows)


def _lines(
    runtime: Runtime, names: Iterable[str], live: int = 0, backfill: int = 0
) -> list[str]:
    from onward.connections.state import read_all
    from onward.forecast import forecast_said, read_forecast

    now, wanted, added = runtime.clock(), set(names), live + backfill
    lines: list[str] = []
    with runtime.database.read() as transaction:
        for state in read_all(transaction):
            if state.name not in wanted:
                continue
            found = read_forecast(
                runtime, transaction, state, live=live, backfill=backfill
            )
            if found is None:
                lines.append(f"{state.name}: nothing leaves it now")
                continue
            before = found.rows - added
            behind = f" with the {before:,} that wait" if before else ""
            count = "1 call" if found.calls == 1 else f"{found.calls:,} calls"
            said = forecast_said(found, now, runtime.config.timezone)
            lines.append(f"{state.name}: {count}{behind}; {said}")
    return lines


def waiting_lines(runtime: Runtime) -> list[str]:
    """Say for each connection with due rows when they are done."""
    from onward.connections.state import read_all
    from onward.forecast import forecast_said, read_forecast

    now = runtime.clock()
    lines: list[str] = []
    with runtime.database.read() as transaction:
        for state in read_all(transaction):
            found = read_forecast(runtime, transaction, state)
            if found is not None and found.rows:
                said = forecast_said(found, now, runtime.config.timezone)
                lines.append(f"{state.name}: {found.rows:,} waiting, {said}")
    return lines


def calls_cell(found: Forecast | None, now: datetime, timezone: str) -> str:
    """Return the calls of the day, and when what waits is done if something does."""
    from onward.forecast import calls_said, forecast_said

    if found is None:
        return ""
    return forecast_said(found, now, timezone) if found.rows else calls_said(found)
