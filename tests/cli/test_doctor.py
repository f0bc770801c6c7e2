"""`onward doctor`: what is checked, and what is found."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from onward.doctor import Check, examine
from onward.doctor.stored import file_system

from .conftest import PASSWORD, Place


def found(place: Place, level: str) -> list[str]:
    """Return "name: message" of the checks of a level, through the command."""
    ran = place.run("doctor", "--json")
    problems = [check for check in ran.json if check["level"] == "problem"]
    assert ran.status == (1 if problems else 0)
    assert all(check["advice"] for check in ran.json if check["level"] != "ok")
    return [
        f"{check['name']}: {check['message']}"
        for check in ran.json
        if check["level"] == level
    ]


def test_a_good_installation_has_no_problem(place: Place) -> None:
    """With everything in place every check is ok, and the status is 0."""
    place.good("init")

    assert found(place, "problem") == []
    assert found(place, "warning") == []
    told = place.good("doctor").out
    assert "OK       connection icontact: " in told
    assert PASSWORD not in told


def test_nothing_configured_is_no_problem(empty: Place) -> None:
    """In an empty folder it says what to do, makes nothing, and ends 0."""
    warnings = found(empty, "warning")

    assert [one.partition(":")[0] for one in warnings] == ["onward.toml", "database"]
    assert found(empty, "problem") == []
    assert list(empty.path.iterdir()) == []


def test_unknown_keys_are_named_with_line_and_advice(place: Place) -> None:
    """A misspelt key is a problem with its line and what was meant."""
    place.configure("[onward]\ndurabilty = 'power'")

    [problem] = found(place, "problem")

    assert '"durabilty" is not known; did you mean "durability"?' in problem
    assert "line 14" in problem
    place.configure()
    assert found(place, "problem") == []


def test_a_missing_variable_is_a_problem(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection whose variable is not set is named with the variable."""
    monkeypatch.delenv("PW")

    problems = found(place, "problem")

    assert any("the environment variable PW is not set" in one for one in problems)
    monkeypatch.setenv("PW", PASSWORD)
    assert found(place, "problem") == []


def test_a_rule_that_names_no_connection_is_a_problem(place: Place) -> None:
    """The rule, its line and the nearest connection are named."""
    place.configure('[[rules]]\nkey = "r"\nwhen = "x"\npush_to = ["icontac"]')

    [problem] = found(place, "problem")

    assert 'there is no connection "icontac"; did you mean "icontact"?' in problem


def test_rules_may_name_connections_of_the_database(place: Place) -> None:
    """A connection that was added on the command line is known to the check."""
    place.good("init")
    with sqlite3.connect(place.path / "onward.db") as database:
        database.execute("UPDATE connection SET name = 'added', declared = ''")
    database.close()
    rule = '[[rules]]\nkey = "r"\nwhen = "x"\npush_to = ["added"]'
    place.write("onward.toml", rule)

    assert not any("there is no connection" in one for one in found(place, "problem"))


def test_a_plugin_that_fails_is_a_problem_with_its_reason(place: Place) -> None:
    """Its name, the error and the line are said; the others work."""
    folder = place.path / "plugins"
    folder.mkdir()
    (folder / "acme.py").write_text("import nothing_like_that\n")

    [problem] = found(place, "problem")

    assert problem.startswith("plugin acme: not loaded: ModuleNotFoundError")
    assert "acme.py, line 1" in problem
    assert "acme" in place.good("plugins").out
    (folder / "acme.py").unlink()
    assert found(place, "problem") == []


def test_a_paused_connection_is_a_problem(place: Place) -> None:
    """Why it is paused, since when, and how many rows are held."""
    place.configure(password="wrong")
    place.good("init")

    [problem] = found(place, "problem")

    assert problem.startswith("connection icontact: paused since 20")
    assert "The credentials entered" in problem
    assert "(0 rows held)" in problem
    place.configure()
    place.good("connections", "test", "icontact")
    assert found(place, "problem") == []


def test_a_connection_never_verified_is_a_warning(place: Place) -> None:
    """Before anybody asked the service, that is said."""
    assert "connection icontact: never verified" in found(place, "warning")


def test_the_file_is_examined_as_it_is_now(place: Place) -> None:
    """What was corrected in `onward.toml` is no problem; what was spoilt since is."""
    place.good("init")
    good = (place.path / "onward.toml").read_text()
    mapped = place.path / "field_maps/bad.toml"
    mapped.parent.mkdir()
    mapped.write_text('[fields]\nemail = "{% for i in x %}{% endfor %}"\n')
    segment = 'segment = "Newsletter"'
    assert segment in good
    spoilt = good.replace(segment, f'{segment}\nfield_map = "field_maps/bad.toml"')

    (place.path / "onward.toml").write_text(spoilt)
    assert "uses a loop" in found(place, "problem")[0]
    assert place.run("map", "icontact").status == 1
    (place.path / "onward.toml").write_text(good)
    assert found(place, "problem") == []
    assert found(place, "warning") == [
        "connection icontact: changed and not verified yet"
    ]
    place.good("connections", "test", "icontact")
    assert found(place, "warning") == []

    (place.path / "onward.toml").write_text(good.replace("Newsletter", "Newsleter"))
    [problem] = found(place, "problem")
    assert 'no remote segment "Newsleter"; did you mean "Newsletter"?' in problem
    assert place.run("rules", "check").status == 1
    off = good.replace(segment, 'enabled = false\nsegment = "Newsleter"')
    (place.path / "onward.toml").write_text(off)
    assert found(place, "problem") == []
    place.good("rules", "check")
    (place.path / "onward.toml").write_text(good)
    place.good("connections", "test", "icontact")
    assert found(place, "problem") + found(place, "warning") == []


def test_an_open_key_file_is_a_warning(place: Place) -> None:
    """A key that others can read is named with its rights, and left as it is."""
    place.good("init")
    key = place.path / "onward.key"
    key.chmod(0o644)

    [warning] = found(place, "warning")

    assert "is open to other users (mode 644)" in warning
    assert key.stat().st_mode & 0o777 == 0o644
    key.chmod(0o600)
    assert found(place, "warning") == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///no/such/onward.db", "there is no folder"),
        ("sqlite:///text.db", "file is not a database"),
        ("postgresql://127.0.0.1:1/onward", "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_opened_is_a_problem(
    place: Place, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    """Whatever keeps it from being opened is said in one line."""
    place.write("text.db", "this is no database" * 100)
    monkeypatch.setenv("ONWARD_DATABASE_URL", url)

    problems = found(place, "problem")

    assert [one for one in problems if one.startswith("database: ")] == problems
    assert said in problems[0]
    assert "\n" not in problems[0]


def test_another_schema_is_said(place: Place) -> None:
    """A database at another step is named with both steps."""
    with sqlite3.connect(place.path / "onward.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0000'")
    database.close()

    [warning] = [one for one in found(place, "warning") if one.startswith("schema")]

    assert "it is at step 0000, this Onward needs step " in warning


def test_sqlite_on_a_network_file_system_is_a_problem(place: Place) -> None:
    """NFS and its like corrupt SQLite, so the type of file system is named."""
    mounts = place.write(
        "mounts", f"/dev/sda1 / ext4 rw 0 0\nserver:/x {place.path} nfs4 rw 0 0\n"
    )

    checks = examine(place.path / "onward.toml", os.environ, mounts=mounts)

    [problem] = [check for check in checks if check.level == "problem"]
    assert "on a network file system (nfs4)" in problem.message


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/srv/data", "nfs"),
        ("/srv/data/deep/er", "nfs"),
        ("/srv/database", "ext4"),
        ("/my disk/x", "fuse.sshfs"),
        ("/twice", "xfs"),
    ],
)
def test_the_file_system_is_that_of_the_deepest_mount(
    tmp_path: Path, folder: str, kind: str
) -> None:
    """Blanks in names, names that begin alike and later mounts are told apart."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/x /srv/data nfs rw 0 0\n"
        "me@host: /my\\040disk fuse.sshfs rw 0 0\n"
        "a /twice ext4 rw 0 0\nb /twice xfs rw 0 0\n"
    )

    assert file_system(Path(folder), mounts) == kind
    assert file_system(Path(folder), tmp_path / "none") == ""


def test_a_wrong_clock_is_a_problem(place: Place) -> None:
    """A year before this release was written cannot be right."""
    long_ago = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)

    checks = examine(place.path / "onward.toml", os.environ, clock=lambda: long_ago)

    clock = next(check for check in checks if check.name == "clock")
    assert clock == Check(
        "clock",
        "problem",
        "it says 1970-01-01 00:05 UTC",
        "set the clock: retries, limits and leases follow it",
    )


def test_rows_nobody_delivers_are_a_warning(place: Place) -> None:
    """Due for more than ten minutes with nothing in the way: no worker runs."""
    place.good("init")
    place.good("fire", "seen", "--email", "ana@shop.example")
    place.good("push", "ana@shop.example", "--to", "icontact")
    config = place.path / "onward.toml"

    later = datetime.now(UTC) + timedelta(minutes=11)
    checks = examine(config, os.environ, clock=lambda: later)

    late = [check.message for check in checks if check.name == "worker"]
    assert late == ["1 pushes have been due for more than 10 minutes"]
    place.good("deliver")
    checks = examine(config, os.environ, clock=lambda: later)
    assert [check for check in checks if check.name == "worker"] == []


def test_a_clock_behind_the_rows_is_a_warning(place: Place) -> None:
    """Pushes queued in the future tell that the clock went back."""
    place.good("fire", "seen", "--email", "ana@shop.example")
    place.good("push", "ana@shop.example", "--to", "icontact")
    before = datetime.now(UTC) - timedelta(hours=1)

    checks = examine(place.path / "onward.toml", os.environ, clock=lambda: before)

    assert [c.level for c in checks if c.name == "clock"] == ["ok", "warning"]
