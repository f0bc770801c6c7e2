"""`onward audiences`, and `onward push --audience`."""

from __future__ import annotations

import csv
import io

import pytest

from .conftest import Place

AUDIENCES = """
[[audiences]]
key = "dutch"
name = "The Dutch"
if = [["country", "is", "NL"]]
"""
PEOPLE = "email,first_name,country,points\n" + "".join(
    f"p{n}@shop.example,P{n},{'NL' if n % 2 else 'BE'},{n}\n" for n in range(20)
)
RICH = '[["points", ">", 14], ["audience", "is", "dutch"]]'


@pytest.fixture
def place(place: Place) -> Place:
    """A folder with an audience in its file and twenty people."""
    place.configure(AUDIENCES)
    place.write("people.csv", PEOPLE)
    place.good("init")
    place.good("contacts", "import", "people.csv")
    return place


def test_audiences_are_made_listed_and_shown(place: Place) -> None:
    """One of the file, one by command: key, name, members, where from, conditions."""
    made = place.good("audiences", "add", "rich", "--name", "The rich", "--if", RICH)
    assert made.out == "rich: saved; members: 3\n"

    assert place.good("audiences").out.splitlines() == [
        "key\tname\tmembers\tsource\tif",
        'dutch\tThe Dutch\t10\tonward.toml\t[["country","is","NL"]]',
        'rich\tThe rich\t3\tby hand\t[["points",">",14],["audience","is","dutch"]]',
    ]
    assert place.good("audiences", "list", "--count", "--json").json[1] == {
        "key": "rich",
        "name": "The rich",
        "source": "by hand",
        "if": [["points", ">", 14], ["audience", "is", "dutch"]],
        "members": 3,
        "more": False,
        "problem": "",
    }
    shown = place.good("audiences", "show", "rich", "--limit", "1")
    assert shown.out.splitlines()[4:] == [
        "members: 3",
        "id\temail\tfirst_name\tlast_name\tcountry\tpoints",
        "16\tp15@shop.example\tP15\t\tNL\t15",
    ]
    preview = place.good("audiences", "show", "rich", "--json").json["preview"]
    assert [one["points"] for one in preview] == [15, 17, 19]


def test_members_are_counted_and_exported(place: Place) -> None:
    """A number, or one document; CSV with the columns of `contacts export`, or JSON."""
    assert place.good("audiences", "count", "dutch").out == "10\n"
    assert place.good("audiences", "count", "dutch", "--json").json == {
        "key": "dutch",
        "members": 10,
        "more": False,
    }
    assert place.good("audiences", "count", "dutch", "--limit", "9").out == "9+\n"
    assert place.good("audiences", "count", "dutch", "--limit", "10").out == "10\n"
    rows = list(
        csv.DictReader(io.StringIO(place.good("audiences", "export", "dutch").out))
    )
    assert [row["email"] for row in rows[:2]] == ["p1@shop.example", "p3@shop.example"]
    everybody = place.good("contacts", "export", "--json").json
    dutch = place.good("audiences", "export", "dutch", "--json").json
    assert dutch == [one for one in everybody if one["country"] == "NL"]
    wrote = place.good("audiences", "export", "dutch", "-o", "out.csv")
    assert wrote.out == "wrote 10 contacts to out.csv\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["remove", "dutch"], "dutch is written in onward.toml, which no command"),
        (["remove", "nope"], 'there is no audience "nope"; there are: dutch'),
        (["show", "dutsch"], 'there is no audience "dutsch"; did you mean "dutch"?'),
        (["add", "x", "--if", "country is NL"], "--if takes conditions as JSON"),
        (["add", "x", "--if", '["a", "is", 1]'], "each condition of a filter has its"),
        (["add", "dutch", "--if", "[]"], "dutch is written in onward.toml; change it"),
    ],
)
def test_mistakes_are_one_sentence(place: Place, argv: list[str], why: str) -> None:
    """Each ends 1 with a sentence, and changes nothing."""
    ran = place.run("audiences", *argv)

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(why)
    assert [one["key"] for one in place.good("audiences", "--json").json] == ["dutch"]


def test_a_hidden_audience_is_said_and_can_be_removed(place: Place) -> None:
    """The file wins over a stored one of the same key."""
    place.configure()
    place.good("audiences", "add", "dutch", "--if", "[]")
    place.configure(AUDIENCES)

    listed = place.good("audiences")
    assert listed.err == (
        "dutch: the one in onward.toml counts; the stored one is hidden by it\n"
    )
    removed = place.good("audiences", "remove", "dutch")
    assert removed.out == "dutch: removed; the one in onward.toml stays\n"
    assert place.good("audiences").err == ""
    assert place.run("audiences", "remove", "dutch").status == 1


def test_a_dry_run_says_whom_what_and_how_long(place: Place) -> None:
    """Members, who is left out and why, the calls, and one exact request."""
    place.good("contacts", "suppress", "p1@shop.example")

    ran = place.good("push", "--audience", "dutch", "--to", "icontact", "--dry-run")

    lines = ran.out.splitlines()
    assert lines[:2] == ["members: 10", "would be pushed to icontact: 9"]
    assert lines[2].startswith("left alone, suppressed: 1 (contact 2 must not be sent")
    assert lines[3].startswith("icontact: 4 calls; ")
    assert "contact: p3@shop.example" in lines
    assert f"POST {place.url}/a/510001/c/8801/contacts" in lines
    assert place.good("deliveries", "--json").json == []
    found = place.good(
        "push", "--if", RICH, "--to", "icontact", "--dry-run", "--json"
    ).json
    assert (found["members"], found["pushed"], found["forecast"]["rows"]) == (3, 3, 3)
    assert found["request"]["body"][0]["email"] == "p15@shop.example"


def test_an_audience_is_pushed_and_found_again(place: Place) -> None:
    """Queued as a back-fill, delivered, and listed by its cause and its key."""
    to = ["--to", "icontact"]
    asked = place.run("push", "--audience", "dutch", *to)
    assert (asked.status, asked.out) == (1, "")
    assert asked.err.startswith("nobody can be asked here: add --yes to push")

    done = place.good("push", "--audience", "dutch", *to, "--yes", "--json").json
    assert (done["pushed"], done["members"], done["stopped"]) == (10, 10, False)
    assert place.good("deliver", "--until-empty").out.startswith(
        "delivered delivered: 10"
    )
    for filters in (["--cause", "audience"], ["--rule", "dutch"]):
        assert len(place.good("deliveries", *filters, "--json").json) == 10
    again = place.good("push", "--audience", "dutch", *to, "--dry-run")
    assert "nothing would be sent: nothing changed since the last push" in again.out
    cancelled = place.good("push", "--audience", "dutch", *to, "--cancel")
    assert cancelled.err == "dutch: no push of it is running\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([], "name whom to push: addresses, --audience KEY or --if JSON"),
        (["p1@shop.example", "--audience", "dutch"], "name whom to push: addresses"),
        (["p1@shop.example", "--yes"], "--yes is for --audience and --if"),
        (["--audience", "dutch", "--now"], "--now is for addresses"),
        (["--audience", "dutsch", "--yes"], 'there is no audience "dutsch"'),
        (
            ["--audience", "dutch", "--segment", "Nope", "--yes"],
            "icontact: the account",
        ),
    ],
)
def test_who_is_pushed_must_be_clear(place: Place, argv: list[str], why: str) -> None:
    """Nobody is pushed by mistake."""
    ran = place.run("push", *argv, "--to", "icontact")

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(why)
    assert place.good("deliveries", "--json").json == []


def test_rules_check_says_what_nobody_has(place: Place) -> None:
    """A condition that names no audience, with its line, before anything starts."""
    place.configure(
        AUDIENCES
        + '[[rules]]\nkey = "r"\nwhen = "x"\npoints = 1\n'
        + 'if = [["audience", "is", "dutsh"]]\n'
    )

    ran = place.run("rules", "check")

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.endswith(
        'rules.r.if: there is no audience "dutsh"; did you mean "dutch"?\n'
    )
    assert "line 2" in ran.err
