"""`onward sync` and `onward drift`, as somebody types them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Place


def fill(place: Place) -> None:
    """Put a dozen people into the account."""
    folder = place.sim.folder("510001", "8801")
    for number in range(12):
        folder.add_contact(f"p{number:02}@shop.example", firstName=f"P{number}")


def test_never_pulled_then_pulled(place: Place) -> None:
    """Without a name it lists; with one it pulls, says what and when next."""
    fill(place)
    listed = place.good("sync", "--json").json
    assert [one["connection"] for one in listed] == ["icontact"]
    assert listed[0]["last"] is None

    done = place.good("sync", "icontact")

    assert done.out.startswith("icontact: ")
    assert "created" in done.out
    assert "icontact: the next pull: " in done.out
    assert "rows to spot-check:" in done.out
    [one] = place.good("sync", "--json").json
    assert one["last"]["state"] == "done"
    assert one["last_at"]
    [listed] = place.good("connections", "list", "--json").json
    assert listed["pull"]["schedule"].startswith("daily at ")
    assert listed["pull"]["next_at"] > one["last_at"]


def test_report_and_json(place: Place) -> None:
    """The report has counts and rows to spot-check, there and here side by side."""
    fill(place)
    refused = place.run("sync", "icontact", "--report")
    assert refused.status == 1
    assert "was never pulled" in refused.err

    run = place.good("sync", "icontact", "--json").json

    assert run["state"] == "done"
    assert run["counts"]["created"] == run["counts"]["shown"]
    assert len(run["sample"]) == 10
    row = run["sample"][0]
    assert row["remote"]["email"] == row["local"]["email"]
    assert place.good("sync", "icontact", "--report", "--json").json == run


def test_paused_connection_refuses(place: Place) -> None:
    """It says why, and what ends it; nothing is asked."""
    place.good("connections", "test", "icontact")
    place.good("connections", "pause", "icontact", "--why", "holidays")

    refused = place.run("sync", "icontact")

    assert refused.status == 1
    assert refused.err.strip() == (
        "icontact is paused: holidays; `onward connections resume icontact` or a "
        "repair ends it"
    )
    place.good("connections", "resume", "icontact")
    place.good("sync", "icontact")


def test_due_pulls_what_is_due(place: Place) -> None:
    """For cron: once, then nothing is due."""
    fill(place)
    place.good("connections", "test", "icontact")

    assert "created" in place.good("sync", "--due").out
    assert place.good("sync", "--due").out == "nothing is due\n"
    assert place.good("sync", "--due", "--json").json == []


def test_due_as_a_document(place: Place) -> None:
    """What became of each pull, in one document and nothing else."""
    fill(place)
    place.good("connections", "test", "icontact")

    [one] = place.good("sync", "--due", "--json").json

    assert (one["connection"], one["stopped"]) == ("icontact", "done")
    assert one["run"]["counts"]["created"] == one["run"]["counts"]["shown"]
    assert one["again_at"]


def test_schedule_of_a_stored_connection(bare: Place) -> None:
    """It is set by command and said in words; what the file declares is not."""
    bare.good("connections", "add", "icontact", *bare.settings(), "--segment", "VIP")
    bare.good("sync", "icontact")
    before = len(bare.sim.requests)

    daily = bare.good(
        "connections",
        "set",
        "icontact",
        *("--pull-at", "03:30", "--timezone", "Europe/Amsterdam"),
        *("--pull-limit", "50%", "--push-opt-outs"),
    )
    refused = bare.run("connections", "set", "icontact", "--pull-at", "25:00")

    assert daily.out == "icontact: pulled daily at 03:30 Europe/Amsterdam\n"
    assert refused.err == '--pull-at must be a time of day, as "03:30"\n'
    bare.good("sync", "--due")
    assert len(bare.sim.requests) == before
    [one] = bare.good("sync", "--json").json
    assert one["schedule"] == "daily at 03:30 Europe/Amsterdam"
    never = bare.good("connections", "set", "icontact", "--pull", "never")
    assert never.out == "icontact: pulled never\n"
    bare.good("sync", "--due")
    [one] = bare.good("sync", "--json").json
    assert one["next_at"] is None


def test_declared_schedule_is_changed_in_the_file(place: Place) -> None:
    """The command says where."""
    place.good("connections", "test", "icontact")

    refused = place.run("connections", "set", "icontact", "--pull", "6h")

    assert refused.status == 1
    assert "declared in onward.toml; change [connections.icontact] there" in refused.err


def test_doctor_tells_of_pulls(place: Place) -> None:
    """When the last was and the next is; one that asks is a problem with its answer."""
    fill(place)
    place.good("sync", "icontact")
    fine = place.run("doctor").out
    folder = place.sim.folder("510001", "8801")
    for contact in list(folder.contacts.values()):
        folder.delete_contact(contact)

    asked = place.run("sync", "icontact")

    assert "pull icontact: last " in fine
    assert asked.status == 1
    assert "12 of the 12 contacts known before are missing in iContact" in asked.err
    assert "`onward sync icontact --accept`" in asked.err
    told = place.run("doctor").out
    assert "pull icontact: stopped and asks: 12 of the 12" in told
    place.good("sync", "icontact", "--accept")
    assert "stopped and asks" not in place.run("doctor").out


def test_wrong_options(place: Place) -> None:
    """One sentence each."""
    for argv, words in (
        (("sync", "--full"), "which connection? `onward sync` lists them"),
        (("sync", "icontact", "--due"), "--due pulls all that are due"),
        (("sync", "acme"), 'there is no connection "acme"; there are: icontact'),
        (("drift", "icontact"), "was never pulled to the end"),
        (("drift", "icontact", "--dry-run"), "--dry-run needs --push"),
    ):
        refused = place.run(*argv)
        assert (refused.status != 0, words in refused.err) == (True, True), argv


def test_drift_shows_and_pushes_again(place: Place) -> None:
    """What somebody changed there after our push, who did, and ours again."""
    place.good("fire", "seen", "--email", "ana@shop.example")
    file = place.path / "people.csv"
    file.write_text("email,first name,city\nana@shop.example,Ana,Durham\n")
    place.good("contacts", "import", str(file))
    place.good("push", "ana@shop.example", "--to", "icontact", "--now")
    place.good("sync", "icontact")
    assert place.good("drift", "icontact", "--json").json == []
    folder = place.sim.folder("510001", "8801")
    [ana] = [one for one in folder.contacts.values() if one.email == "ana@shop.example"]
    ana.values["city"] = "Leeds"
    place.good("sync", "icontact")

    shown = place.good("drift", "icontact", "--json").json

    assert [one["email"] for one in shown] == ["ana@shop.example"]
    assert shown[0]["fields"] == {"city": {"written": "Durham", "there": "Leeds"}}
    assert json.dumps(shown)
    assert (
        "1 would be pushed"
        in place.good("drift", "icontact", "--push", "--dry-run").out
    )
    place.good("drift", "icontact", "--push", "--field", "city")
    place.good("deliver")
    assert ana.values["city"] == "Durham"
    assert place.good("drift", "icontact", "--json").json == []
