"""`onward fire`, `points`, `push`, `deliver`, `deliveries`, `rules`, `triggers`."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from onward.cli.moments import parse_moment
from onward.errors import InputError

from .conftest import Place

RULES = """
[[rules]]
key = "forms"
when = "form.*"
if = [["data.form", "is", "signup"]]
push_to = ["icontact"]
points = 10
repeat = "24h"

[[point_triggers]]
key = "hot"
name = "Hot lead"
points = 20
push_to = [{ to = "icontact", segment = "VIP" }]
"""
KEYS = [
    "id",
    "state",
    "code",
    "reason",
    "connection",
    "contact_id",
    "email",
    "segment",
    "tries",
    "due_at",
    "created_at",
    "finished_at",
]


@pytest.fixture
def ruled(place: Place) -> Place:
    """A folder with a rule and a point trigger."""
    place.configure(RULES)
    return place


def fire(place: Place, email: str, form: str = "signup") -> str:
    """Fire one action; return what was printed."""
    data = json.dumps({"form": form})
    return place.good("fire", "form.sent", "--email", email, "--data", data).out


def test_firing_says_what_followed(ruled: Place) -> None:
    """The rules that looked, the points and the rows queued are printed."""
    assert fire(ruled, "Ana@Shop.example").splitlines() == [
        "contact 1, new",
        "points: 10",
        "rule forms: ran",
        "queued: push 1",
    ]
    other = fire(ruled, "bo@mail.example", form="poll")
    assert "rule forms: did not run: " in other
    assert "nothing was queued" in other


def test_a_key_makes_firing_twice_harmless(ruled: Place) -> None:
    """The second time nothing changes, and other contents are mentioned."""
    once = ("fire", "seen", "--email", "ana@shop.example", "--key", "k1")
    ruled.good(*once)

    again = ruled.good(*once)
    other = ruled.good(*once, "--data", '{"page": 2}')

    assert again.out == "the key was used before, nothing changed\n"
    assert "different" in other.out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fire", "seen"], "nobody is named"),
        (["fire", "two words", "--email", "a@b.example"], "must be one word"),
        (["fire", "seen", "--email", "a b@c.example"], "is no e-mail address"),
        (["fire", "seen", "--email", "a@b.example", "--data", "{x"], "is no JSON"),
        (["fire", "seen", "--email", "a@b.example", "--data", "[1]"], "JSON object"),
        (["points", "a@b.example", "ten"], '"ten" is no whole number'),
        (["points", "a@b.example", "+5", "--raeson"], "unexpected extra argument"),
        (["push", "no@b.example", "--to", "icontact"], "no@b.example"),
        (["deliveries", "--since", "soon"], '"soon" is no moment'),
        (["deliveries", "--state", "delivred"], 'did you mean "delivered"?'),
        (["deliveries", "--connection", "acme"], 'no connection "acme"'),
        (["simulate", "acme"], 'there is no integration "acme"'),
        (["simulate", "icontact", "--set", "commas=maybe"], "commas cannot be"),
        (["simulate", "icontact", "--set", "commas"], "is no switch"),
    ],
)
def test_wrong_input_is_one_sentence(ruled: Place, argv: list[str], said: str) -> None:
    """What cannot be used is refused plainly, and nothing is written."""
    ran = ruled.run(*argv)

    assert ran.status in (1, 2)
    assert ran.out == ""
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert ruled.good("contacts", "--json").json == []


def test_points_go_up_and_down_as_typed(ruled: Place) -> None:
    """+10 awards, -10 takes; neither needs quotes or two dashes."""
    ruled.good("points", "ana@shop.example", "+25", "--reason", "gift")

    ran = ruled.good("points", "ana@shop.example", "-10")

    assert "points: 15\n" in ran.out
    keyed = ("points", "ana@shop.example", "-5", "--key", "once")
    assert "points: 10\n" in ruled.good(*keyed).out
    assert "nothing changed" in ruled.good(*keyed).out


def test_delivering_ends_with_a_line_per_outcome(ruled: Place) -> None:
    """Each outcome with its code and count, then when there is more to do."""
    for name in ("ana", "bo", "cy"):
        fire(ruled, f"{name}@shop.example")
    ruled.good("contacts", "suppress", "cy@shop.example")

    ran = ruled.good("deliver", "--until-empty")

    assert ran.out.splitlines() == [
        "delivered delivered: 2",
        "skipped suppressed: 1",
        "next: nothing is due",
    ]
    assert ran.err == ""
    assert sorted(ruled.sim.folder().on_list("Newsletter")) == [
        "ana@shop.example",
        "bo@shop.example",
    ]
    assert ruled.good("deliver").out.splitlines()[0] == "nothing was sent"


def test_held_rows_are_named_with_the_reason(ruled: Place) -> None:
    """What waits for a person is said by `deliver`, and found by --state held."""
    fire(ruled, "ana@shop.example")
    ruled.good("connections", "pause", "icontact", "--why", "audit")

    ran = ruled.good("deliver", "--until-empty")

    assert "icontact is held: audit" in ran.out.splitlines()
    [held] = ruled.good("deliveries", "--state", "held", "--json").json
    assert held["state"] == "waiting"
    [listed] = ruled.good("connections", "--json").json
    assert (listed["waiting"], listed["held"]) == (0, 1)
    ruled.good("connections", "resume", "icontact")
    assert "delivered delivered: 1" in ruled.good("deliver").out
    assert ruled.good("deliveries", "--state", "held", "--json").json == []


def test_visitors_are_waited_for(ruled: Place) -> None:
    """A push of a visitor waits for an address, which `deliver` says."""
    data = ("--data", '{"form": "signup"}')
    ruled.good("fire", "form.sent", "--visitor", "v1", *data)

    waiting = ruled.good("deliver", "--until-empty")

    assert "1 wait until a visitor has an e-mail address" in waiting.out
    who = ("--visitor", "v1", "--email", "ana@shop.example")
    ruled.good("fire", "seen", *who)
    assert "delivered delivered: 1" in ruled.good("deliver", "--until-empty").out


def test_visitors_can_be_asked_about(ruled: Place) -> None:
    """`why`, `contacts show` and `points` know visitors and numbers as `fire` does."""
    who = ("--visitor", "v9")
    ruled.good("fire", "seen", *who)

    given = ruled.good("points", *who, "+20").out
    taken = ruled.good("points", "-5", *who).out
    shown = ruled.good("contacts", "show", *who, "--json").json
    why = ruled.good("why", *who)

    assert "point trigger hot: fired" in given
    assert "points: 15\n" in taken
    assert shown["identities"] == [["visitor", "v9"]]
    assert "trigger hot: fired on" in why.out
    assert ruled.good("why", "1").out == why.out
    assert ruled.good("contacts", "show", "1", "--json").json["points"] == 15
    assert "write --visitor v9 if it is a visitor" in ruled.run("why", "v9").err
    unknown = ruled.run("why", "--visitor", "v8")
    assert (unknown.status, unknown.out) == (1, "")
    assert 'there is no contact with the visitor "v8"' in unknown.err
    assert "name one contact" in ruled.run("contacts", "show").err
    assert "write `onward fire seen --email" in ruled.run("fire", "seen").err
    assert "write `onward points " in ruled.run("points", "+5", "--visitor", " ").err


def test_a_resting_service_is_named_with_its_end(ruled: Place) -> None:
    """A service that is down rests: until when and why is said, status 0."""
    ruled.good("connections", "test", "icontact")
    fire(ruled, "ana@shop.example")
    ruled.sim.fail("status", times=50, status=503)

    ran = ruled.good("deliver", "--until-empty")

    assert "icontact rests until " in ran.out
    listed = ruled.good("connections").out
    assert "active, rests until 20" in listed
    assert "rests until 20" in ruled.run("doctor").out
    assert "after 1 batch that failed: " in listed
    assert "503" in listed
    assert ran.out.splitlines()[-1].startswith("next: 20")


def test_a_delivery_has_exactly_its_promised_keys(ruled: Place) -> None:
    """Twelve keys, moments in ISO 8601, the remote segment by id."""
    fire(ruled, "ana@shop.example")
    [before] = ruled.good("deliveries", "--json").json
    ruled.good("deliver")

    [row] = ruled.good("deliveries", "list", "--json").json

    assert list(row) == KEYS
    assert before["segment"] == ""
    assert row["segment"] == ruled.sim.folder().list_named("Newsletter").list_id
    assert (row["state"], row["email"]) == ("delivered", "ana@shop.example")
    assert row["due_at"] is None
    for name in ("created_at", "finished_at"):
        assert datetime.fromisoformat(row[name]).utcoffset() == timedelta(0)
    # For people by name.
    assert "Newsletter" in ruled.good("deliveries").out
    assert "segment: Newsletter" in ruled.good("deliveries", "show", "1").out


def test_all_rows_come_and_filters_choose(ruled: Place) -> None:
    """Every row without a filter; each filter and all of them together."""
    people = "\n".join(f"p{n}@shop.example" for n in range(300))
    ruled.write("people.csv", f"email\n{people}\n")
    ruled.good("contacts", "import", "people.csv")
    everybody = [f"p{n}@shop.example" for n in range(300)]
    ruled.good("push", *everybody, "--to", "icontact")
    ruled.good("deliver", "--until-empty")

    def found(*options: str) -> int:
        return len(ruled.good("deliveries", *options, "--json").json)

    plain = ruled.good("deliveries").out.splitlines()
    assert found() == 300
    assert len(plain) == 301
    assert plain[0].split("\t")[:3] == ["id", "state", "code"]
    assert found("--email", "P7@shop.example") == 1
    assert found("--email", "nobody@shop.example") == 0
    assert found("--state", "delivered", "--code", "delivered") == 300
    assert found("--code", "suppressed") == 0
    assert found("--connection", "icontact", "--since", "1h") == 300
    assert found("--until", "2020-01-01") == 0
    assert found("--since", "2020-01-01T10:00+01:00") == 300


def test_one_delivery_is_shown_with_its_history(ruled: Place) -> None:
    """`deliveries show` has the cause, every try, requests and answers."""
    fire(ruled, "ana@shop.example")
    ruled.good("deliver")

    shown = ruled.good("deliveries", "show", "1", "--json").json
    told = ruled.good("deliveries", "show", "1").out

    assert list(shown) == [*KEYS, "causes", "outcomes", "attempts"]
    assert [(c["kind"], c["key"]) for c in shown["causes"]] == [("rule", "forms")]
    assert [o["kind"] for o in shown["outcomes"]] == ["delivered"]
    assert shown["attempts"][0]["exchanges"][0]["status"] == 200
    assert "rule forms" in told
    assert ruled.sim.password not in told + json.dumps(shown)


def test_pushing_by_hand(ruled: Place) -> None:
    """A dry run sends nothing, a plain push queues, --now sends and says so."""
    fire(ruled, "ana@shop.example", form="poll")

    dry = ruled.good("push", "ana@shop.example", "--to", "icontact", "--dry-run")
    assert ruled.good("deliveries", "--json").json == []
    queued = ruled.good("push", "ana@shop.example", "--to", "icontact")
    sent = ruled.good("push", "ana@shop.example", "--to", "icontact", "--now")
    again = ruled.good("push", "ana@shop.example", "--to", "icontact", "--now")
    forced = ruled.good(
        "push", "ana@shop.example", "--to", "icontact", "--now", "--force"
    )

    assert '"email": "ana@shop.example"' in dry.out
    assert queued.out == "queued for icontact: 1\n"
    assert sent.out == "ana@shop.example delivered\n"
    assert again.out.startswith("ana@shop.example unchanged")
    assert forced.out.startswith("ana@shop.example ")


def test_many_queued_pushes_are_counted(ruled: Place) -> None:
    """Of many pushes ten are named, and the number of the others."""
    emails = [f"many{number}@shop.example" for number in range(12)]
    for email in emails:
        ruled.good("fire", "visited", "--email", email)

    queued = ruled.good("push", *emails, "--to", "icontact")

    assert (
        queued.out == "queued for icontact: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more\n"
    )
    assert len(ruled.good("deliveries", "--json").json) == 12


def test_an_ambiguous_list_is_said_by_a_dry_run_too(ruled: Place) -> None:
    """Two lists of one name are named by their ids, as by --now; one works."""
    twins = [ruled.sim.folder().add_list("Twins").list_id for _ in range(2)]
    fire(ruled, "ana@shop.example", form="poll")
    push = ("push", "ana@shop.example", "--to", "icontact", "--segment")

    ran = ruled.run(*push, "Twins", "--dry-run")

    said = '2 remote segments are called "Twins"; name the one you mean by its id: '
    assert ran.status == 1
    assert f"icontact: {said}{', '.join(twins)}\n" == ran.err
    unknown = ruled.run(*push, "Newsleter", "--dry-run")
    assert 'no remote segment "Newsleter"; did you mean "Newsletter"?' in unknown.err
    ruled.good(*push, twins[0], "--dry-run")


def test_a_list_that_was_not_found_is_shown_by_its_name(ruled: Place) -> None:
    """Every listing has the wished name, never how it is kept inside."""
    fire(ruled, "ana@shop.example", form="poll")
    push = ("push", "ana@shop.example", "--to", "icontact", "--segment")
    ruled.run(*push, "Nope", "--now")

    listed = ruled.good("deliveries", "--json").json
    shown = ruled.good("deliveries", "show", "1", "--json").json
    contact = ruled.good("contacts", "show", "ana@shop.example", "--json").json

    rows = [*listed, shown, *contact["pushes"]]
    assert [(row["segment"], row["state"]) for row in rows] == [("Nope", "waiting")] * 3
    assert "?" not in ruled.good("contacts", "show", "ana@shop.example").out
    ruled.good(*push, "VIP", "--now")
    vip = ruled.sim.folder().list_named("VIP").list_id
    assert ruled.good("deliveries", "show", "2", "--json").json["segment"] == vip


def test_an_old_error_is_not_told_as_a_new_one(ruled: Place) -> None:
    """--now says when nothing was tried: it rests, waits for a retry, or is held."""
    ruled.good("connections", "test", "icontact")
    fire(ruled, "ana@shop.example", form="poll")
    push = ("push", "ana@shop.example", "--to", "icontact", "--now")
    ruled.sim.fail("status", times=50, status=503)

    def sql(statement: str, *values: object) -> None:
        with sqlite3.connect(ruled.path / "onward.db") as database:
            database.execute(statement, values)
        database.close()

    first = ruled.run(*push)
    asked = len(ruled.sim.requests)
    rests = ruled.run(*push)
    sql("UPDATE connection SET rest_until = NULL, rest_step = 0")
    sql("UPDATE push SET due_at = '2099-01-01 00:00:00.000000', tries = 2")
    later = ruled.run(*push)
    ruled.good("connections", "pause", "icontact", "--why", "audit")
    held = ruled.run(*push)

    assert "not tried" not in first.out
    assert "not tried now; the connection rests until 20" in rests.out
    assert "503" in rests.out
    waits = "not tried now; due 2099-01-01 00:00:00 UTC, after 2 failed tries: "
    assert waits in later.out
    assert "the connection is paused: audit" in held.out
    assert [one.status for one in (first, rests, later, held)] == [1, 1, 1, 1]
    assert len(ruled.sim.requests) == asked
    ruled.sim.clear_faults()
    ruled.good("connections", "resume", "icontact")
    sql("UPDATE push SET due_at = created_at")
    assert ruled.good(*push).out == "ana@shop.example delivered\n"


def test_rules_are_listed_and_checked(ruled: Place) -> None:
    """The listing has what the file says; check names what cannot work."""
    [rule] = ruled.good("rules", "--json").json

    assert rule == {
        "key": "forms",
        "when": "form.*",
        "if": [["data.form", "is", "signup"]],
        "push_to": ["icontact"],
        "points": 10,
        "add_to": [],
        "repeat": "after 1 day, 0:00:00",
        "enabled": True,
    }
    assert ruled.good("rules", "check").out == "the rules can work\n"
    ruled.configure(RULES.replace('push_to = ["icontact"]', 'push_to = ["icontakt"]'))
    wrong = ruled.run("rules", "check")
    assert wrong.status == 1
    assert 'there is no connection "icontakt"; did you mean "icontact"?' in wrong.err
    assert "line " in wrong.err
    refused = ruled.run("fire", "seen", "--email", "ana@shop.example")
    assert (refused.status, refused.err) == (1, wrong.err)
    ruled.configure(RULES)
    ruled.good("fire", "seen", "--email", "ana@shop.example")


def test_triggers_are_listed_with_how_often_they_fired(ruled: Place) -> None:
    """The listing counts the contacts each trigger fired for."""
    ruled.good("points", "ana@shop.example", "+20")

    [trigger] = ruled.good("triggers", "--json").json

    assert (trigger["key"], trigger["points"], trigger["fired"]) == ("hot", 20, 1)
    assert trigger["push_to"] == ["icontact: VIP"]


def test_a_trigger_is_applied_to_existing_contacts(ruled: Place) -> None:
    """Apply counts in a dry run, then fires for who has the points already."""
    ruled.configure()
    ruled.good("points", "ana@shop.example", "+20")
    ruled.good("points", "bo@shop.example", "+5")
    ruled.configure(RULES)

    dry = ruled.good("triggers", "apply", "hot", "--dry-run")
    assert ruled.good("deliveries", "--json").json == []
    done = ruled.good("triggers", "apply", "hot")

    assert "1" in dry.out
    assert "1" in done.out
    rows = ruled.good("deliveries", "--json").json
    assert [row["email"] for row in rows] == ["ana@shop.example"]
    assert ruled.run("triggers", "apply", "nothing").status == 1
    assert ruled.good("triggers", "cancel", "hot").err == "hot: no apply is running\n"
    unknown = ruled.run("triggers", "cancel", "nothing")
    assert (unknown.status, unknown.out) == (1, "")
    assert 'there is no point trigger "nothing"; there are: hot' in unknown.err


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("2026-03-04", False, datetime(2026, 3, 3, 23, tzinfo=UTC)),
        ("2026-03-04", True, datetime(2026, 3, 4, 22, 59, 59, 999999, UTC)),
        ("2026-03-04T10:00", False, datetime(2026, 3, 4, 9, tzinfo=UTC)),
        ("2026-03-04T10:00Z", True, datetime(2026, 3, 4, 10, tzinfo=UTC)),
        ("24h", False, datetime(2026, 3, 9, 12, tzinfo=UTC)),
        ("", False, None),
    ],
)
def test_moments_are_read_as_people_type_them(
    text: str, end: bool, expected: datetime | None
) -> None:
    """Days, moments with and without a zone, and how long ago."""
    now = datetime(2026, 3, 10, 12, tzinfo=UTC)

    assert parse_moment(text, now, "Europe/Amsterdam", end=end) == expected


@pytest.mark.parametrize("text", ["soon", "2026-13-01", "0h", "4.3.2026"])
def test_a_moment_that_is_none_is_refused(text: str) -> None:
    """What cannot be read as a moment is answered with how to write one."""
    with pytest.raises(InputError, match="write it as 2026-03-04"):
        parse_moment(text, datetime(2026, 3, 10, tzinfo=UTC), "UTC")
