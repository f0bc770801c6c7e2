"""Moments are stored as UTC, and as SQLAlchemy itself would write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import DateTime
from sqlalchemy.dialects import sqlite

from onward.models import UTCDateTime

DIALECT = sqlite.dialect()
MOMENTS = st.datetimes(
    min_value=datetime.fromisoformat("0002-01-01"),
    max_value=datetime.fromisoformat("9998-12-31"),
    timezones=st.integers(-14 * 60, 14 * 60).map(
        lambda minutes: timezone(timedelta(minutes=minutes))
    ),
)


@given(MOMENTS)
def test_sqlite_is_told_moments_as_by_sqlalchemy(moment: datetime) -> None:
    """Its way takes four times as long; the text must be the same."""
    ours = UTCDateTime().bind_processor(DIALECT)
    theirs = DateTime().dialect_impl(DIALECT).bind_processor(DIALECT)
    assert ours is not None
    assert theirs is not None
    assert ours(moment) == theirs(moment.astimezone(UTC))
    assert ours(None) is None


def test_a_moment_without_a_zone_is_refused() -> None:
    """It would be read as another one."""
    ours = UTCDateTime().bind_processor(DIALECT)
    assert ours is not None
    with pytest.raises(ValueError, match="without a time zone"):
        ours(datetime.fromisoformat("2026-11-27 12:00"))
    assert ours(datetime(2026, 11, 27, 12, tzinfo=UTC)) == "2026-11-27 12:00:00.000000"
