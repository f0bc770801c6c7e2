"""How many calls it takes, counted on the simulator's log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator

OnwardFor = Callable[..., TestApp]


def filled(commas: str, size: int = 1_200) -> Simulator:
    """Return a simulator with so many people whom Onward does not know."""
    sim = Simulator(commas=commas)
    for number in range(size):
        sim.folder().add_contact(f"other-{number}@post.example", fax="555-0199")
    return sim


def ready(onward_for: OnwardFor, sim: Simulator) -> TestApp:
    """Return an Onward whose connection is verified; that is paid once a day."""
    app = onward_for(sim)
    app.upsert_contact({"email": "first@shop.example"})
    app.push(to="icontact", email="first@shop.example")
    app.deliver()
    sim.requests.clear()
    return app


def people(app: TestApp, size: int, **fields: str) -> list[str]:
    """Create or change contacts; return their addresses."""
    emails = [f"person-{number:04}@shop.example" for number in range(size)]
    app.record_actions(
        [{"action": "imported", "email": one, "contact": fields} for one in emails]
    )
    return emails


def push(app: TestApp, sim: Simulator, emails: Sequence[str]) -> int:
    """Push contacts, all of which must end well; return the number of calls."""
    sim.requests.clear()
    rows = set(app.push(to="icontact", emails=emails))
    app.deliver()
    ended = [row["state"] for row in app.deliveries() if row["id"] in rows]
    assert set(ended) <= {"delivered", "unchanged"}
    return len(sim.requests)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("commas", "most"),
    [("honoured", 40), ("literal", 40 + 3), ("first", 40 + 3), ("ignored", 40 + 3)],
)
def test_thousand_new_contacts(commas: str, most: int, onward_for: OnwardFor) -> None:
    """1,000 new contacts cost at most 40 calls, + a call per 500 without commas."""
    sim = filled(commas)
    app = ready(onward_for, sim)
    emails = people(app, 1_000, first_name="Ana", company="Mill")

    calls = push(app, sim, emails)

    assert calls <= most
    assert len(sim.folder().on_list("Newsletter")) == 1_001


@pytest.mark.slow
@pytest.mark.parametrize(("commas", "most"), [("honoured", 60), ("literal", 60)])
def test_thousand_known_of_which_fifty_changed(
    commas: str, most: int, onward_for: OnwardFor
) -> None:
    """Of 1,000 known contacts only the 50 changed ones cost anything."""
    sim = filled(commas)
    app = ready(onward_for, sim)
    emails = people(app, 1_000, first_name="Ana", company="Mill")
    push(app, sim, emails)
    app.clock.tick(3_600)
    people(app, 50, city="Durham")

    calls = push(app, sim, emails)

    assert calls <= most
    durham = [one for one in sim.folder().contacts.values() if one.get("city")]
    assert len(durham) == 50


@pytest.mark.slow
@pytest.mark.parametrize("commas", ["honoured", "literal"])
def test_nothing_changed(commas: str, onward_for: OnwardFor) -> None:
    """When nothing changed, nothing is asked."""
    sim = filled(commas)
    app = ready(onward_for, sim)
    emails = people(app, 1_000, first_name="Ana")
    push(app, sim, emails)

    calls = push(app, sim, emails)

    assert calls == 0


@pytest.mark.parametrize("size", [7, 413, 1_200])
def test_hundred_new_contacts(size: int, onward_for: OnwardFor) -> None:
    """100 new contacts cost at most 4 calls, in any folder, the first time too."""
    sim = filled("honoured", size)
    app = ready(onward_for, sim)
    emails = people(app, 200, first_name="Ana")

    first = push(app, sim, emails[:100])
    app.clock.tick(3_600)
    later = push(app, sim, emails[100:])

    assert (first <= 4, later <= 4) == (True, True)


def test_one_contact_at_a_time(onward_for: OnwardFor) -> None:
    """A new contact costs 3 calls, a changed one 3, and one in no list 2."""
    sim = filled("honoured")
    app = ready(onward_for, sim)
    new = people(app, 1, first_name="Ana")

    created = push(app, sim, new)
    people(app, 1, first_name="Bo")
    changed = push(app, sim, new)

    assert (created, changed) == (3, 3)
