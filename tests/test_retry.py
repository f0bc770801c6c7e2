"""When to try again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.contract import Outcome, OutcomeKind
from onward.delivery.retry import RETRY_AFTER, Decision, decide, rest_for
from onward.models import PushState

NOW = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (OutcomeKind.DELIVERED, PushState.DELIVERED),
        (OutcomeKind.UNCHANGED, PushState.UNCHANGED),
        (OutcomeKind.SKIPPED, PushState.SKIPPED),
        (OutcomeKind.REJECTED, PushState.FAILED),
    ],
)
def test_an_end_is_an_end(kind: OutcomeKind, state: PushState) -> None:
    """What is final has no due time and keeps its code, sentence and tries."""
    outcome = Outcome(1, kind, "some_code", "some words")

    got = decide(outcome, 3, NOW)

    assert got == Decision(state, None, 3, "some_code", "some words")


@pytest.mark.parametrize(
    ("tries", "wait"),
    [
        (0, timedelta(seconds=5)),
        (1, 5 * MINUTE),
        (2, 30 * MINUTE),
        (3, 120 * MINUTE),
        (4, 300 * MINUTE),
        (5, 600 * MINUTE),
        (6, 600 * MINUTE),
    ],
)
def test_the_waits_between_tries(tries: int, wait: timedelta) -> None:
    """5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h; give or take a fifth."""
    outcome = Outcome(1, OutcomeKind.RETRY, "busy")

    middle, least, most = (
        decide(outcome, tries, NOW, luck=luck) for luck in (0.5, 0.0, 1.0)
    )

    assert middle == Decision(PushState.WAITING, NOW + wait, tries + 1, "busy", "")
    assert least.due_at == NOW + wait * 0.8
    assert most.due_at == NOW + wait * 1.2


def test_all_waits_are_27_hours_and_35_minutes() -> None:
    """So long, and five seconds, a contact is tried."""
    assert sum(RETRY_AFTER, timedelta()) == timedelta(hours=27, minutes=35, seconds=5)


def test_the_last_try_fails() -> None:
    """After the last wait a contact fails, and says how often it was tried."""
    got = decide(Outcome(1, OutcomeKind.RETRY, "busy", "Acme is busy"), 7, NOW)

    assert got == Decision(
        PushState.FAILED, None, 8, "busy", "Acme is busy; given up after 8 tries"
    )


def test_retry_after_wins() -> None:
    """What the service asks for is what happens, shorter or longer."""
    for after in (timedelta(seconds=1), timedelta(hours=9)):
        got = decide(Outcome(1, OutcomeKind.RETRY, "busy", after=after), 2, NOW, luck=1)

        assert got.due_at == NOW + after


def test_no_wait_at_all_is_no_wish() -> None:
    """A service that says "after 0 seconds" is not hammered."""
    outcome = Outcome(1, OutcomeKind.RETRY, "busy", after=timedelta())

    assert decide(outcome, 1, NOW).due_at == NOW + 5 * MINUTE
    assert rest_for(3, timedelta()) == rest_for(3)


def test_unknown_uses_no_try_and_comes_back_ever_later() -> None:
    """It is read back at once; one that stays unknown does not go round for ever."""
    outcome = Outcome(1, OutcomeKind.UNKNOWN, "timeout", "no answer")

    first = decide(outcome, 0, NOW)
    later = decide(outcome, 2, NOW)

    assert first == Decision(
        PushState.WAITING, NOW, 0, "timeout", "no answer", unknown=True
    )
    assert (later.due_at, later.tries) == (NOW + 5 * MINUTE, 2)


def test_submitted_waits_for_its_job() -> None:
    """A job is asked for when the service said, with its name kept."""
    after = timedelta(seconds=90)
    outcome = Outcome(1, OutcomeKind.SUBMITTED, "submitted", after=after, job="j7")

    got = decide(outcome, 0, NOW)

    assert (got.state, got.due_at, got.job) == (PushState.SUBMITTED, NOW + after, "j7")


@given(
    st.sampled_from(OutcomeKind),
    st.integers(0, 20),
    st.floats(0, 1),
    st.none() | st.timedeltas(timedelta(), timedelta(days=1)),
)
def test_a_row_ends_or_comes_back(
    kind: OutcomeKind, tries: int, luck: float, after: timedelta | None
) -> None:
    """A final state has no due time; another has one, not in the past; tries grow."""
    got = decide(Outcome(1, kind, "code", after=after), tries, NOW, luck=luck)

    if got.state in (PushState.WAITING, PushState.SUBMITTED):
        assert got.due_at is not None
        assert got.due_at >= NOW
    else:
        assert got.due_at is None
    assert 0 <= got.tries - tries <= 1
    assert got.unknown == (kind is OutcomeKind.UNKNOWN)


def test_a_connection_rests_2_4_8_up_to_900_seconds() -> None:
    """Each rest is twice the one before, up to a quarter of an hour."""
    rests = [rest_for(step).total_seconds() for step in range(11)]

    assert rests == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert rest_for(0, timedelta(seconds=77)) == timedelta(seconds=77)
