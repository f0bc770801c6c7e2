"""Who may work on something now."""

from __future__ import annotations

from datetime import timedelta

import pytest

from onward.database import Database
from onward.delivery.lease import Held, held_until, take
from onward.errors import Fenced
from onward.testing import Clock

LENGTH = timedelta(seconds=60)


def taken(database: Database, clock: Clock) -> Held:
    """Take the lease that every test is about."""
    held = take(database, "work", LENGTH, clock)
    assert held is not None
    return held


def test_a_lease_has_one_holder(database: Database) -> None:
    """While one holds it nobody else gets it, and its end can be told."""
    clock = Clock()
    taken(database, clock)

    assert take(database, "work", LENGTH, clock) is None
    assert take(database, "other work", LENGTH, clock) is not None
    assert held_until(database, "work") == clock() + LENGTH
    assert held_until(database, "nobody ever took this") is None


def test_each_holder_has_a_higher_fence(database: Database) -> None:
    """Released or run out, the next one counts on."""
    clock = Clock()
    fences = [taken(database, clock).fence]
    for _ in range(2):
        clock.tick(LENGTH + timedelta(microseconds=1))
        fences.append(taken(database, clock).fence)
    clock.tick(LENGTH * 2)
    held = taken(database, clock)

    held.release()

    assert [*fences, held.fence, taken(database, clock).fence] == [1, 2, 3, 4, 5]


def test_it_is_renewed_when_half_is_gone(database: Database) -> None:
    """Asked often, it writes rarely; renewed, it runs its whole length again."""
    clock = Clock()
    held = taken(database, clock)
    start = clock()

    clock.tick(29)
    held.renew()
    early = held_until(database, "work")
    clock.tick(2)
    held.renew()

    assert early == start + LENGTH
    assert held_until(database, "work") == held.until == clock() + LENGTH
    assert held.left() == LENGTH


def test_a_holder_that_slept_is_told(database: Database) -> None:
    """Once somebody else took it, renewing raises, then and ever after."""
    clock = Clock()
    held = taken(database, clock)
    clock.tick(LENGTH * 2)
    successor = taken(database, clock)

    for _ in range(2):
        with pytest.raises(Fenced):
            held.renew()

    assert held.lost
    held.release()
    assert take(database, "work", LENGTH, clock) is None
    successor.renew(always=True)


def test_a_holder_that_slept_undisturbed_goes_on(database: Database) -> None:
    """A lease that ran out and nobody took is still the same holder's."""
    clock = Clock()
    held = taken(database, clock)
    clock.tick(LENGTH * 3)

    held.renew()

    assert take(database, "work", LENGTH, clock) is None


def test_what_is_done_in_its_name_is_refused_when_it_is_lost(
    database: Database,
) -> None:
    """A holder that slept claims nothing more, even before it renews."""
    clock = Clock()
    first = take(database, "x", timedelta(seconds=60), clock)
    assert first is not None
    with database.write() as connection:
        first.check(connection)

    clock.tick(61)
    second = take(database, "x", timedelta(seconds=60), clock)

    assert second is not None
    with pytest.raises(Fenced), database.write() as connection:
        first.check(connection)
    assert first.lost
    with database.write() as connection:
        second.check(connection)
