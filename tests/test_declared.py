"""What doctor foresees of a changed `onward.toml` is what comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from onward.app import Onward
from onward.connections.declare import as_declared
from onward.connections.state import State, named, pause

# Each opens Onward three times.
pytestmark = pytest.mark.slow

TOML = """
[connections.news]
integration = "icontact"
segment = "Newsletter"
{more}
"""
CHANGES = {
    "nothing": "",
    "switched off": "enabled = false",
    "pushes off": "push_contacts = false",
    "opt-in": 'opt_in = "pending"',
    "everywhere": 'unsubscribe_means = "everywhere"',
    "map": 'field_map = "field_maps/news.toml"',
    "limits": 'limits = ["5/minute"]',
    "setting": 'settings = { username = "sam" }',
}


def state_of(folder: Path, text: str, paused: str = "") -> State:
    """Return the connection as it is after Onward read a file."""
    (folder / "onward.toml").write_text(text)
    app = Onward.from_config(folder / "onward.toml", env={})
    with app.runtime.database.read() as transaction:
        state = named(transaction, "news")
    if paused:
        pause(app.runtime, state.id, paused, "somebody said so")
        with app.runtime.database.read() as transaction:
            state = named(transaction, "news")
    app.close()
    return state


@pytest.mark.parametrize("paused", ["", "manual", "credentials"])
@pytest.mark.parametrize("change", [*CHANGES, "other list", "removed"])
def test_change_is_foreseen(change: str, paused: str, tmp_path: Path) -> None:
    """Every option, and the pause that a change ends, as it is once taken over."""
    before = state_of(tmp_path, TOML.format(more=""), paused)
    text = TOML.format(more=CHANGES.get(change, ""))
    if change == "other list":
        text = text.replace("Newsletter", "VIP")
    elif change == "removed":
        text = ""
    (tmp_path / "onward.toml").write_text(text)
    app = Onward.from_config(tmp_path / "onward.toml", env={})

    foreseen = as_declared(before, app.config.connections)

    app.close()
    after = state_of(tmp_path, text)
    assert (after.version > before.version) == (change != "nothing")
    same = replace(after, version=before.version, declared=foreseen.declared)
    assert foreseen == same
