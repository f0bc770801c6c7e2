"""Whose turn it is, counted for two hundred connections at once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from onward.delivery.batches import TURN
from onward.engine.turns import ROUND, Turns


@pytest.mark.parametrize("live", [True, False])
def test_two_hundred_get_the_same(*, live: bool) -> None:
    """Four threads serve none of 200 with 30 batches more than a turn more often."""
    turns, left = Turns(), dict.fromkeys(range(200), 30)
    done: Counter[int] = Counter()
    for of in left:
        turns.offer(of, live=live)

    while turns.others_wait():
        at_work = [turns.next() for _ in range(4)]
        for of in (one for one in at_work if one is not None):
            left[of] -= TURN
            done[of] += 1
            turns.done(of, more=left[of] > 0, live=live)
            assert max(done.values()) - min(done[one] for one in left) <= 1
        # A sweep in between changes nothing.
        for of in [one for one in left if left[one]]:
            turns.offer(of, live=live)

    assert done == dict.fromkeys(range(200), 3)


def test_live_events_go_before_back_fills() -> None:
    """One that got a live event leaves the line of the back-fills."""
    turns = Turns()
    for of in range(200):
        turns.offer(of, live=False)

    turns.offer(150, live=True)
    turns.offer(150, live=False)

    assert [turns.next() for _ in range(3)] == [150, 0, 1]


def test_back_fills_are_not_starved() -> None:
    """However many live events there are, every fourth turn is a back-fill's."""
    turns = Turns()
    turns.offer(0, live=False)
    for of in range(1, 20):
        turns.offer(of, live=True)

    order: list[int | None] = []
    for _ in range(4 * ROUND):
        who = turns.next()
        assert who is not None
        order.append(who)
        turns.done(who, more=True, live=who > 0)

    assert [of == 0 for of in order] == [*[False] * (ROUND - 1), True] * 4


def test_what_comes_during_a_turn_is_not_missed() -> None:
    """A connection that was offered while it was drained gets another turn, once."""
    turns = Turns()
    turns.offer(7, live=False)
    assert turns.next() == 7
    turns.offer(7, live=True)
    turns.offer(7, live=False)
    assert not turns.others_wait()

    turns.done(7, more=False, live=False)

    assert turns.next() == 7
    turns.done(7, more=False, live=False)
    assert not turns.others_wait()


def test_nobody_is_drained_twice_at_once() -> None:
    """While one thread has it, no other gets it; a close ends all waiting."""
    turns = Turns()
    got: list[int | None] = []
    thread = threading.Thread(target=lambda: got.append(turns.next()))
    turns.offer(7, live=True)
    assert turns.next() == 7
    thread.start()
    turns.offer(7, live=True)

    turns.close()
    thread.join()

    assert got == [None]
