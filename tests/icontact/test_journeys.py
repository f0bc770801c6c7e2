"""From what a person does to what iContact holds, in a few stories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from onward.delivery.listing import Wanted
from onward.replay import Change
from onward.testing.app import TestApp
from onward_icontact.simulator import FOREVER, Simulator

OnwardFor = Callable[..., TestApp]

RULES = """
[[rules]]
key = "forms-to-icontact"
when = "form.submitted"
push_to = ["icontact"]
points = 10

[[rules]]
key = "visits"
when = "page.visited"
points = 5

[[point_triggers]]
key = "hot-lead"
name = "Hot lead"
points = 30
push_to = [{ to = "icontact", segment = "VIP" }]
"""


def an_onward(sim: Simulator, onward_for: OnwardFor) -> TestApp:
    """Return an Onward with two rules and a point trigger."""
    return onward_for(sim, rules=RULES)


def test_a_form_makes_a_subscriber_and_points_make_a_vip(
    sim: Simulator, onward_for: OnwardFor
) -> None:
    """A form puts somebody on the Newsletter; enough visits put them on VIP."""
    app = an_onward(sim, onward_for)

    app.record_action(
        "form.submitted",
        email="Ana@Shop.example",
        contact={"first_name": "Ana", "company": "Mill"},
        data={"form": "signup"},
        key="form-1",
    )
    app.deliver()
    after_form = (sim.folder().on_list("Newsletter"), sim.folder().on_list("VIP"))
    for number in range(4):
        app.record_action("page.visited", email="ana@shop.example", key=f"v{number}")
    repeated = app.record_action("page.visited", email="ana@shop.example", key="v0")
    app.deliver()

    assert after_form == ({"ana@shop.example"}, set())
    assert repeated.repeated
    assert sim.folder().on_list("VIP") == {"ana@shop.example"}
    contact = sim.folder().find("ana@shop.example")
    assert contact is not None
    assert contact.values == {"firstName": "Ana", "business": "Mill"}
    assert len(app.deliveries()) == 2


def test_a_visitor_waits_until_it_has_an_address(
    sim: Simulator, onward_for: OnwardFor
) -> None:
    """Points of an unknown visitor are not lost: the push goes once it has a name."""
    app = an_onward(sim, onward_for)
    for number in range(6):
        app.record_action(
            "page.visited", identities={"visitor": "abc"}, key=f"v{number}"
        )
    app.deliver()
    waiting = [(row["state"], row["code"]) for row in app.deliveries()]

    app.record_action(
        "form.submitted", email="bo@shop.example", identities={"visitor": "abc"}
    )
    app.deliver()

    assert waiting == [("waiting", "no_email")]
    assert sim.folder().on_list("VIP") == {"bo@shop.example"}
    assert sim.folder().on_list("Newsletter") == {"bo@shop.example"}


def test_a_night_without_icontact_loses_nothing(
    sim: Simulator, onward_for: OnwardFor
) -> None:
    """What is submitted while iContact is away arrives when it is back."""
    app = an_onward(sim, onward_for)
    emails = [f"p{number}@shop.example" for number in range(30)]
    sim.fail("connect_error", FOREVER)

    for email in emails:
        app.record_action("form.submitted", email=email)
        app.deliver()
        app.clock.tick(600)
    sim.clear_faults()
    app.clock.tick(1_000)
    app.deliver()

    assert sim.folder().on_list("Newsletter") == set(emails)
    assert {row["state"] for row in app.deliveries()} == {"delivered"}


def test_who_unsubscribes_stays_away_until_they_say_otherwise(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A click on unsubscribe holds against later events, not against the person."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    app = an_onward(sim, onward_for)
    app.record_action("form.submitted", email="ana@shop.example")
    app.deliver()
    sim.folder().unsubscribe("Newsletter", "ana@shop.example")

    app.record_action(
        "form.submitted", email="ana@shop.example", contact={"city": "red"}
    )
    app.deliver()
    while_away = sim.folder().subscription("Newsletter", "ana@shop.example")
    said = tools.reason(app, "ana@shop.example")
    app.consent("ana@shop.example", how='form "newsletter"', who="ana")
    app.record_action(
        "form.submitted", email="ana@shop.example", contact={"city": "green"}
    )
    app.deliver()

    assert while_away == "unsubscribed"
    assert said == "unsubscribed from Newsletter in iContact"
    assert sim.folder().subscription("Newsletter", "ana@shop.example") == "normal"


def test_two_lists_of_one_account(sim: Simulator, onward_for: OnwardFor) -> None:
    """Leaving one list leaves the other alone."""
    app = an_onward(sim, onward_for)
    sim.folder().add_contact("ana@shop.example", lists=["Newsletter"])
    sim.folder().unsubscribe("Newsletter", "ana@shop.example")
    app.record_action("form.submitted", email="ana@shop.example")
    app.add_points(50, email="ana@shop.example", reason="bought a cake")

    app.deliver()

    ended = {(row["segment"], row["state"]) for row in app.deliveries()}
    assert ended == {("4410", "skipped"), ("4411", "delivered")}
    assert sim.folder().on_list("VIP") == {"ana@shop.example"}


def test_a_night_of_failures_is_made_up_for_once_the_map_is_mended(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """Replayed by code; who opted out in between is left alone, here and there."""
    app = an_onward(sim, onward_for)
    sim.set(max_length=6)
    for name in ("ana", "ben", "cy"):
        person = {"city": "Durham in the north"}
        app.record_action(
            "form.submitted", email=f"{name}@shop.example", contact=person
        )
    app.deliver()
    before = tools.ended(app)
    field_map = tmp_path / "map.toml"
    text = field_map.read_text("utf-8")
    mended = text.replace('"city"', "\"{{ city | truncate(6, true, '') }}\"")
    field_map.write_text(mended, "utf-8")
    app.suppress("ben@shop.example")
    sim.folder().unsubscribe("Newsletter", "cy@shop.example")
    altered = Wanted(state="failed", code="altered")

    seen = app.replay(altered, dry_run=True)
    done = app.replay(altered)
    app.deliver()

    assert before == dict.fromkeys(("ana", "ben", "cy"), ("failed", "altered"))
    assert (seen.count, done.count) == (2, 2)
    assert done.refused.counts == {"suppressed": 1}
    assert [(one.email, one.changes) for one in seen.samples] == [
        (
            f"{name}@shop.example",
            (Change("city", "Durham in the north", "Durham"),),
        )
        for name in ("ana", "cy")
    ]
    assert tools.ended(app) == {
        "ana": ("delivered", "delivered"),
        "ben": ("failed", "altered"),
        "cy": ("skipped", "unsubscribed"),
    }
    assert sim.folder().subscription("Newsletter", "cy@shop.example") == "unsubscribed"
    assert app.replay(altered).refused.counts == {
        "replayed_already": 1,
        "suppressed": 2,
    }
