"""`onward deliveries replay` and `cancel`, as people and scripts call them."""

from __future__ import annotations

import json

import pytest

from .conftest import Place
from .test_cli_processes import terminal

RULES = """
[[rules]]
key = "forms"
when = "form.sent"
push_to = ["icontact"]
"""
ANA, BEN, CY = (f"{name}@shop.example" for name in ("ana", "ben", "cy"))


@pytest.fixture
def failed(place: Place) -> Place:
    """A folder where iContact refused Ana and Ben, and took Cy."""
    place.configure(RULES)
    place.sim.fail("reject_emails", emails=[ANA, BEN], how="warning")
    for email in (ANA, BEN, CY):
        place.good("fire", "form.sent", "--email", email)
    place.good("deliver", "--until-empty")
    place.sim.clear_faults()
    assert states(place) == ["failed", "failed", "delivered"]
    return place


def states(place: Place) -> list[str]:
    """Return the state of every delivery."""
    return [row["state"] for row in place.good("deliveries", "--json").json]


def test_a_preview_then_the_deed_then_the_delivery(failed: Place) -> None:
    """The dry run counts and shows, `--yes` does it, and `why` tells of it."""
    replay = ("deliveries", "replay", "--state", "failed", "--rule", "forms")
    failed.good("points", ANA, "+1")

    seen = failed.good(*replay, "--dry-run").out
    before = states(failed)
    done = failed.good(*replay, "--yes")
    failed.good("deliver", "--until-empty")

    assert seen.splitlines()[:2] == [
        "would be replayed: 2",
        "push 1, ana@shop.example to icontact, ended refused: "
        + failed.good("deliveries", "--json").json[0]["reason"],
    ]
    assert before == ["failed", "failed", "delivered"]
    assert done.out == "replayed: 2\n"
    assert "a worker or `onward deliver` sends it" in done.err
    assert states(failed)[3:] == ["delivered", "delivered"]
    shown = failed.good("deliveries", "show", "4")
    assert "replay of 1 (forms)" in shown.out
    assert "replayed: by push 4" in failed.good("deliveries", "show", "1").out
    assert "asked for by replay of 1 (forms): delivered" in failed.good("why", ANA).out
    again = failed.good(*replay, "--yes")
    assert again.out.startswith("replayed: 0\nleft alone, replayed_already: 2 (for ex")


def test_differences_are_shown_for_the_first(failed: Place) -> None:
    """So many in full as asked for; of the rest the number."""
    failed.write("people.csv", f"email,first_name\n{ANA},Ana\n")
    failed.good("contacts", "import", "people.csv")
    replay = ("deliveries", "replay", "--code", "refused", "--dry-run", "--show", "1")

    seen = failed.good(*replay).out.splitlines()

    assert '  firstName: nothing known → "Ana"' in seen
    assert seen[-1] == "and 1 more; --show N shows as many"


def test_json_is_one_document(failed: Place) -> None:
    """For programs: the preview, the deed and the cancel."""
    replay = ("deliveries", "replay", "--code", "refused", "--json")

    seen = failed.good(*replay, "--dry-run").json
    done = failed.good(*replay, "--yes").json
    cancelled = failed.good(
        "deliveries", "cancel", "--cause", "replay", "--yes", "--json"
    ).json

    assert list(seen) == ["dry_run", "replayed", "refused", "samples", "more"]
    assert (seen["replayed"], [one["id"] for one in seen["samples"]]) == (2, [1, 2])
    assert done == {"dry_run": False, "replayed": 2, "refused": [], "stopped": False}
    assert cancelled == {
        "dry_run": False,
        "cancelled": 2,
        "may_have_arrived": 0,
        "refused": [],
    }


def test_named_rows_that_are_refused_end_it_with_1(failed: Place) -> None:
    """A script sees that something it named was left alone, and why."""
    failed.good("contacts", "suppress", BEN)

    ran = failed.run("deliveries", "replay", "1", "2", "3", "--yes")

    assert ran.status == 1
    lines = ran.out.splitlines()
    assert lines[0] == "replayed: 1"
    assert lines[1].startswith("left alone, delivered: 1 (push 3 was delivered; `onw")
    assert lines[2].startswith("left alone, suppressed: 1 (push 2 must not be sent: ")
    failed.good("deliver", "--until-empty")
    assert states(failed)[3:] == ["delivered"]


def test_cancelling_says_who_and_why(failed: Place) -> None:
    """The reason is in the listing and in `why`; what ended is left alone."""
    failed.good("fire", "form.sent", "--email", ANA)

    seen = failed.good("deliveries", "cancel", "--state", "waiting", "--dry-run")
    done = failed.run(
        *("deliveries", "cancel", "4", "1", "--yes", "--reason", "wrong list")
    )

    assert seen.out == "would be cancelled: 1\n"
    assert done.status == 1
    assert done.out.splitlines() == [
        "cancelled: 1",
        "left alone, ended: 1 (push 1 has ended already: failed (refused))",
    ]
    [row] = failed.good("deliveries", "--state", "cancelled", "--json").json
    assert row["code"] == "by_hand"
    assert row["reason"].startswith("cancelled by hand by ")
    assert row["reason"].endswith(" on the command line: wrong list")
    assert "cancelled: cancelled by hand by " in failed.good("why", ANA).out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["replay"], "say which pushes to replay: give their numbers, or a filter"),
        (["cancel", "--yes"], "say which pushes to cancel"),
        (["replay", "1"], "nobody can be asked here: add --yes to replay without"),
        (["cancel", "--state", "waiting"], "nobody can be asked here: add --yes to c"),
        (["replay", "1", "--code", "x", "--yes"], "give numbers or --code, not both"),
        (["replay", "--state", "waiting", "--yes"], "are not replayed: they go out"),
        (["cancel", "--state", "failed", "--yes"], "have ended and cannot be cancel"),
        (["replay", "99", "--yes"], "there is no delivery 99"),
        (["replay", "--since", "soon", "--yes"], '"soon" is no moment'),
        (["replay", "--resume", "--yes"], "no replay was interrupted"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    failed: Place, argv: list[str], said: str
) -> None:
    """Nothing is queued or cancelled by accident; the status is not 0."""
    ran = failed.run("deliveries", *argv)

    assert ran.status == 1
    assert (ran.out, len(ran.err.splitlines())) == ("", 1)
    assert said in ran.err
    assert states(failed) == ["failed", "failed", "delivered"]


def test_an_interrupted_replay_is_gone_on_with_or_forgotten(failed: Place) -> None:
    """`--resume` knows the filter; `--stop` forgets it."""
    from onward.app import Onward
    from onward.delivery.listing import Wanted
    from onward.replay import replay

    def die(_rows: int) -> None:
        raise ZeroDivisionError

    def interrupt() -> None:
        app = Onward.from_config(failed.path / "onward.toml")
        with pytest.raises(ZeroDivisionError):
            replay(app.runtime, Wanted(state="failed"), batch=1, on_progress=die)
        app.close()

    interrupt()
    refused = failed.run("deliveries", "replay", "--code", "refused", "--yes")
    mixed = failed.run("deliveries", "replay", "--resume", "--code", "refused", "--yes")
    resumed = failed.good("deliveries", "replay", "--resume", "--yes")
    failed.good("deliveries", "cancel", "--cause", "replay", "--yes")
    interrupt()
    stopped = failed.good("deliveries", "replay", "--stop")
    again = failed.good("deliveries", "replay", "--stop")

    assert "another replay was interrupted after 1 of 2 rows" in refused.err
    assert "--resume goes on with the filter of the interrupted replay" in mixed.err
    assert resumed.out == "replayed: 1\n"
    assert (stopped.err, again.err) == (
        "stopped\n",
        "no replay runs, and none was interrupted\n",
    )


@pytest.mark.slow
def test_on_a_terminal_it_asks(failed: Place) -> None:
    """After the preview; no leaves everything as it is."""
    no = terminal(failed, "deliveries", "replay", "1", answers=[("1 push? [y/N]", "n")])
    before = states(failed)
    yes = terminal(
        failed,
        *("deliveries", "replay", "--state", "failed"),
        answers=[("Replay 2 pushes? [y/N]", "y")],
    )
    cancelled = terminal(
        failed,
        *("deliveries", "cancel", "4", "5"),
        answers=[("Cancel 2 pushes? [y/N]", "y")],
    )

    assert no.endswith("[1]")
    assert before == ["failed", "failed", "delivered"]
    assert yes.endswith("[0]")
    assert "would be replayed: 2" in yes
    assert cancelled.endswith("[0]")
    assert states(failed)[3:] == ["cancelled", "cancelled"]


def test_rules_and_causes_filter_the_listing(failed: Place) -> None:
    """What a rule caused is found by its key, a replay of it too."""
    failed.good("push", CY, "--to", "icontact", "--force")
    failed.good("deliveries", "replay", "1", "--yes")

    def found(*options: str) -> list[int]:
        ran = failed.good("deliveries", *options, "--json")
        return [row["id"] for row in json.loads(ran.out)]

    assert found("--rule", "forms") == [1, 2, 3, 5]
    assert found("--rule", "other") == []
    assert found("--cause", "manual") == [4]
    assert found("--cause", "replay", "--rule", "forms") == [5]
    assert (
        'no cause "reply"; did you mean'
        in failed.run("deliveries", "--cause", "reply").err
    )
