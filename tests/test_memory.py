"""Small facts an integration keeps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from onward.database import Database
from onward.memory import Memory
from onward.testing import Clock

VALUES = [7, 0, -3, 2.5, True, False, "", "12", "null", None, [], {"a": [1, None]}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_was_put_is_what_is_got(database: Database, value: object) -> None:
    """Any JSON value comes back as it was, in this process and in the next one."""
    memory = Memory(database, 1, Clock())

    memory.put("fact", value)

    later = Memory(database, 1, Clock())
    assert memory.get("fact") == value
    assert later.get("fact") == value
    assert type(later.get("fact")) is type(value)


def test_a_fact_belongs_to_one_connection(database: Database) -> None:
    """Another connection does not see it, nor lose it."""
    one, other = (Memory(database, of, Clock()) for of in (1, 2))
    one.put("fact", "mine")

    other.put("fact", "yours")
    other.forget("fact")

    assert (one.get("fact"), other.get("fact")) == ("mine", None)


def test_a_fact_is_believed_so_long(database: Database) -> None:
    """After its time it is as if nobody ever knew; put again, it is known."""
    clock = Clock()
    memory = Memory(database, 1, clock)
    memory.put("fact", 1, timedelta(minutes=10))

    clock.tick(599)
    young = memory.get("fact")
    clock.tick(1)
    old = memory.get("fact")
    memory.put("fact", 2)

    assert (young, old, memory.get("fact")) == (1, None, 2)


def test_what_another_process_learned_is_seen_when_read_anew(
    database: Database,
) -> None:
    """What was read is kept for one drain, and looked up again for the next."""
    here, there = (Memory(database, 1, Clock()) for _ in range(2))
    here.put("fact", "old")
    there.put("fact", "new")

    before = here.get("fact")
    here.read_anew()

    assert (before, here.get("fact")) == ("old", "new")
