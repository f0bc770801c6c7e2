"""The demonstration checks itself; here it is held to that."""

from __future__ import annotations

import pytest

from onward_icontact.demo import run


# `make demo` and `.ci/run` run it as people do; half of its time it only waits.
@pytest.mark.nightly
@pytest.mark.slow
def test_demo_ends_well() -> None:
    """`onward demo` finds the simulator's state to be what it must be."""
    said: list[str] = []

    ended_well = run(said.append)

    assert ended_well, "\n".join(said)
    assert said[-1].strip().startswith("Everything is as it must be")
