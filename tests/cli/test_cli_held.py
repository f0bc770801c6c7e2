"""Rows held for a list that is gone or never was: said, kept, and let go."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Place

ANA = "ana@shop.example"
RULES = """
[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["icontact"]

[[point_triggers]]
key = "hot"
name = "Hot"
points = 30
push_to = [{ to = "icontact", segment = "VPI" }]
"""


@pytest.fixture
def fired(place: Place) -> Place:
    """A place where Ana waits for the list Newsletter, which is deleted meanwhile."""
    place.configure(RULES)
    place.good("init")
    place.good("connections", "test", "icontact")
    place.good("fire", "form.submitted", "--email", ANA)
    folder = place.sim.folder()
    folder.delete_list(folder.list_named("Newsletter").list_id)
    held = place.good("deliver").out
    assert 'icontact, Newsletter is held: the list "Newsletter"' in held
    return place


def delivered_to(place: Place, name: str) -> None:
    """Deliver, and check where Ana is, that nothing is left, and that all is well."""
    assert "delivered delivered: 1" in place.good("deliver").out
    assert place.sim.folder().on_list(name) == {ANA}
    [row] = place.good("deliveries", "list", "--email", ANA, "--json").json
    assert row["state"] == "delivered"
    assert "held" not in place.good("connections", "list").out.splitlines()[1]


def test_choosing_another_list_lets_go(fired: Place) -> None:
    """What waited for the connection's own list goes to the one now chosen."""
    toml = (fired.path / "onward.toml").read_text("utf-8")
    fired.write("onward.toml", toml.replace('"Newsletter"', '"VIP"'))

    fired.good("connections", "test", "icontact")

    delivered_to(fired, "VIP")


def test_making_the_list_anew_lets_go(fired: Place) -> None:
    """A list made anew under the same name, with another id, takes its place."""
    fired.sim.folder().add_list("Newsletter")

    fired.good("connections", "test", "icontact")

    delivered_to(fired, "Newsletter")


def test_a_test_that_fails_meanwhile_loses_nothing(fired: Place) -> None:
    """Tried before anything is repaired, it says what is wrong; then it works."""
    ran = fired.run("connections", "test", "icontact")
    assert (ran.status, 'no remote segment "Newsletter"' in ran.err) == (1, True)
    fired.sim.folder().add_list("Newsletter")

    fired.good("connections", "test", "icontact")

    delivered_to(fired, "Newsletter")


def test_resuming_says_what_is_still_held(fired: Place) -> None:
    """A connection that goes on is not one of which nothing is held."""
    ran = fired.good("connections", "resume", "icontact")

    assert 'connections redirect icontact "Newsletter" LIST' in ran.err
    assert (
        fired.good("connections", "redirect", "icontact", "Newsletter", "VIP").out
        == 'icontact: 1 now waits for "VIP"\n'
    )
    delivered_to(fired, "VIP")


def test_a_list_nobody_has_holds_its_rows(place: Place) -> None:
    """A mistyped list burns nothing: it is found by every check, and corrected."""
    place.configure(RULES)
    place.good("init")
    place.good("connections", "test", "icontact")
    checked = place.run("rules", "check")
    assert checked.status == 1
    assert 'trigger hot: icontact: the account has no remote segment "VPI"; did' in (
        checked.err
    )
    assert 'did you mean "VIP"?' in place.run("doctor").out

    place.good("points", ANA, "+40")

    assert (
        'icontact, VPI is held: icontact: the account has no remote segment "VPI"'
        in (place.good("deliver").out)
    )
    [row] = place.good("deliveries", "list", "--email", ANA, "--json").json
    assert (row["state"], row["code"]) == ("waiting", "no_such_segment")
    wrong = place.run("connections", "redirect", "icontact", "VPI", "VIQ")
    assert (wrong.status, 'did you mean "VIP"?' in wrong.err) == (1, True)
    place.good("connections", "redirect", "icontact", "VPI", "VIP")
    delivered_to(place, "VIP")
    assert place.run("connections", "redirect", "icontact", "VPI", "VIP").status == 1


def test_a_list_made_later_takes_what_waits(place: Place) -> None:
    """Who names a list before it is made waits for it, and asks for it seldom."""
    place.configure(RULES)
    place.good("init")
    place.good("connections", "test", "icontact")
    place.good("points", ANA, "+40")
    place.good("deliver")
    asked = len(place.sim.requests)
    place.good("deliver")
    assert len(place.sim.requests) == asked
    place.sim.folder().add_list("VPI")

    place.good("connections", "test", "icontact")

    delivered_to(place, "VPI")
