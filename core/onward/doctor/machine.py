"""The machine: versions and clock."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Callable
from datetime import datetime

from onward import __version__
from onward.doctor.check import Check, ok, problem

# UPDATE … RETURNING came with it; Python brings its own SQLite, which may be older.
LEAST_SQLITE = (3, 35)
# This release was written then; a clock before that is wrong.
FIRST_YEAR, LAST_YEAR = 2026, 2100


def check_versions() -> list[Check]:
    """Check what this Python brings."""
    versions = (
        f"Onward {__version__}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}"
    )
    if sqlite3.sqlite_version_info[:2] < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        return [
            problem(
                "versions",
                f"{versions}; SQLite is too old",
                f"use a Python with SQLite {least} or newer, or PostgreSQL",
            )
        ]
    return [ok("versions", versions)]


def check_clock(clock: Callable[[], datetime]) -> list[Check]:
    """Check that the clock is not plainly wrong."""
    now = clock()
    if not FIRST_YEAR <= now.year <= LAST_YEAR:
        return [
            problem(
                "clock",
                f"it says {now:%Y-%m-%d %H:%M} UTC",
                "set the clock: retries, limits and leases follow it",
            )
        ]
    return [ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")]
