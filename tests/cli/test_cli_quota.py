"""What a back-fill costs and when it is done, on the command line."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from onward.app import Onward
from onward.connections.state import named
from onward.speed import slow_down

TRIGGER = """
[[point_triggers]]
key = "hot"
points = 100
push_to = ["icontact"]
"""


def change(place: Any, old: str, new: str) -> None:
    """Edit the `onward.toml`."""
    file: Path = place.path / "onward.toml"
    file.write_text(file.read_text().replace(old, new))


@pytest.fixture
def busy(place: Any) -> Any:
    """A place whose account allows 6,000 calls a day, with 500 people to fire for."""
    place.configure(TRIGGER)
    change(place, "60000/minute", '60000/minute", "6000/day')
    place.good("init")
    lines = [f"p{number}@shop.example,150" for number in range(500)]
    place.write("people.csv", "\n".join(["email,points", *lines]))
    place.good("contacts", "import", "people.csv")
    return place


def test_a_dry_run_says_what_it_costs(busy: Any) -> None:
    """Calls, what is left of the day, and the moment; nothing is queued."""
    change(busy, "60000/minute", "12/minute")

    ran = busy.good("triggers", "apply", "hot", "--dry-run")

    assert ran.out.splitlines()[0] == "hot would fire for 500 contacts"
    said = r"icontact: 20 calls; \d of 6,000 calls today, done at \d\d:\d\d UTC"
    assert re.fullmatch(rf"{said}( tomorrow)?", ran.out.splitlines()[1])
    assert busy.good("deliveries", "list", "--json").json == []


def test_what_waits_is_foreseen(busy: Any) -> None:
    """Queued, the listing and the end of `deliver` name the moment; then it is done."""
    busy.good("triggers", "apply", "hot")

    [listed] = busy.good("connections", "list", "--json").json
    assert listed["forecast"]["rows"] == 500
    assert listed["forecast"]["calls"] == 20
    assert listed["forecast"]["calls_limit"] == 6_000
    assert datetime.fromisoformat(listed["forecast"]["done_at"]).tzinfo is not None
    assert (listed["speed"], listed["slowed_since"]) == (1, None)
    table = busy.good("connections", "list").out
    assert re.search(r"\d of 6,000 calls today, done within a minute", table)
    change(busy, "60000/minute", "40/day")

    told = busy.good("deliver").out

    said = r"icontact: \d+ waiting, \d+ of 40 calls today, done (at|on) \S+"
    assert re.search(said, told), told
    change(busy, "40/day", "60000/minute")
    busy.good("deliver", "--until-empty")
    ended = busy.good("deliveries", "list", "--json").json
    assert {one["state"] for one in ended} == {"delivered"}
    preview = busy.good(
        "push", "p1@shop.example", "p2@shop.example", "--to", "icontact", "--dry-run"
    )
    assert re.search(r"icontact: \d+ calls.*; \d+ of 6,000 calls today", preview.out)


def test_a_slower_service_is_told(busy: Any) -> None:
    """Listing and doctor say how much slower, since when and why; then no more."""
    busy.good("connections", "test", "icontact")
    app = Onward.from_config(busy.path / "onward.toml")
    with app.runtime.database.write() as transaction:
        key = named(transaction, "icontact").counted_as
        now = app.runtime.clock()
        assert slow_down(transaction, key, now, now + timedelta(minutes=1))
    app.close()

    [listed] = busy.good("connections", "list", "--json").json
    sentence = (
        r"sends at 50% of its limits since \S+ \d\d:\d\d UTC, because the service"
    )
    assert listed["speed"] == 0.5
    assert re.search(sentence, busy.good("connections", "list").out)
    assert re.search(sentence, busy.run("doctor").out)
