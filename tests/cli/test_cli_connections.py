"""`onward connections`, `segments`, `fields` and `map`."""

from __future__ import annotations

import os
import pty
import sqlite3
import subprocess
from typing import Any

import pytest

from onward.vault import Vault

from .conftest import PASSWORD, Place

NOT_CONNECTED = (
    "The credentials entered were not able to successfully connect to iContact. "
    "Please check your entry and try again."
)
NOT_VERIFIED = (
    "Unable to verify the Account ID and Client Folder ID with iContact. "
    "Please double-check the values and try again."
)


def rows(place: Place, table: str) -> list[Any]:
    """Return what a table holds."""
    with sqlite3.connect(place.path / "onward.db") as database:
        found = database.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
    database.close()
    return found


def test_a_test_that_works_ends_0(place: Place) -> None:
    """`connections test` verifies, and says where the connection leads."""
    ran = place.good("connections", "test", "icontact")

    assert ran.out.startswith("icontact: verified, ")
    [listed] = place.good("connections", "--json").json
    assert listed["status"] == "active"
    assert listed["segment"] == "Newsletter"
    assert listed["verified_at"]


def test_refused_credentials_are_said_plainly(place: Place) -> None:
    """Message and hint are one plain line each on stderr, and the status is 1."""
    place.configure(password="wrong")

    ran = place.run("connections", "test", "icontact")

    message, hint = ran.err.splitlines()
    assert (ran.status, ran.out, message) == (1, "", NOT_CONNECTED)
    assert hint.startswith("The usual cause is an Application ID")
    assert len(hint) > 200
    place.configure()
    place.good("connections", "test", "icontact")


def test_a_wrong_folder_is_said_plainly(place: Place) -> None:
    """A folder the account does not have gets its own sentence."""
    text = (place.path / "onward.toml").read_text()
    place.write("onward.toml", text.replace(place.sim.client_folder_id, "99"))

    ran = place.run("connections", "test", "icontact")

    assert ran.status == 1
    assert ran.err.splitlines()[0] == NOT_VERIFIED


def test_a_mistyped_setting_is_named_before_the_missing(place: Place) -> None:
    """What is missing because of a typing error is told as the typing error."""
    text = (place.path / "onward.toml").read_text()
    place.write("onward.toml", text.replace("app_id =", "appid ="))

    ran = place.run("connections", "test", "icontact")

    assert ran.status == 1
    assert 'there is no setting "appid"; did you mean "app_id"?' in ran.err
    place.configure()
    place.good("connections", "test", "icontact")


def test_a_missing_variable_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection whose variable is not set says which one."""
    monkeypatch.delenv("PW")

    ran = place.run("connections", "test", "icontact")

    assert ran.status == 1
    assert "the environment variable PW is not set" in ran.err
    monkeypatch.setenv("PW", PASSWORD)
    place.good("connections", "test", "icontact")


def test_a_repair_resumes_and_a_person_s_pause_stays(place: Place) -> None:
    """A good test ends a pause of refused credentials, not one made by hand."""
    place.configure(password="wrong")
    place.good("init")
    place.configure()
    place.good("connections", "pause", "icontact", "--why", "audit")

    place.good("connections", "test", "icontact")

    [listed] = place.good("connections", "--json").json
    assert (listed["status"], listed["paused_why"]) == ("paused", "audit")
    assert place.good("connections", "resume", "icontact").out == "icontact: resumed\n"
    [listed] = place.good("connections", "--json").json
    assert listed["status"] == "active"


def test_what_was_repaired_there_goes_on_at_the_next_start(place: Place) -> None:
    """Refused from the start, then allowed by the service: nothing changed here."""
    place.sim.password = "another one"
    assert "not verified" in place.good("init").out
    [listed] = place.good("connections", "--json").json
    assert listed["paused_code"] == "credentials"

    place.sim.password = PASSWORD
    place.good("init")

    [listed] = place.good("connections", "--json").json
    assert listed["status"] == "active"


def test_a_test_can_show_and_send_one_contact(place: Place) -> None:
    """--contact shows the request that would go, --send pushes that contact."""
    place.good("fire", "seen", "--email", "ana@shop.example")

    shown = place.good(
        "connections", "test", "icontact", "--contact", "ana@shop.example"
    )

    assert "POST " in shown.out
    assert '"email": "ana@shop.example"' in shown.out
    assert place.sim.folder().find("ana@shop.example") is None
    sent = place.good(
        "connections", "test", "icontact", "--contact", "ana@shop.example", "--send"
    )
    assert sent.out.endswith("ana@shop.example delivered\n")
    assert place.sim.folder().on_list("Newsletter") == {"ana@shop.example"}


def test_another_account_waits_until_accepted(place: Place) -> None:
    """A changed folder is refused by test and resume, and taken by accept."""
    place.good("connections", "test", "icontact")
    place.sim.add_account("600100", ["9900"])
    place.sim.folder("600100", "9900").add_list("Newsletter")
    text = (place.path / "onward.toml").read_text()
    text = text.replace(place.sim.client_folder_id, "9900")
    place.write("onward.toml", text.replace(place.sim.account_id, "600100"))

    refused = place.run("connections", "test", "icontact")
    place.good("deliver")
    place.good("init")
    resumed = place.run("connections", "resume", "icontact")

    assert "the settings now lead to" in refused.err
    assert (refused.status, resumed.status) == (1, 1)
    assert "onward connections accept icontact" in resumed.err
    assert "it now leads to" in place.good("connections", "accept", "icontact").out
    [listed] = place.good("connections", "--json").json
    assert listed["status"] == "active"
    assert listed["identity"].endswith("/600100/9900")


def test_added_connections_are_verified_and_sealed(bare: Place) -> None:
    """What is added works at once, and its password is nowhere readable."""
    ran = bare.good("connections", "add", "icontact", *bare.settings(), "--segment=VIP")

    assert ran.out.startswith("icontact: connected to ")
    assert PASSWORD not in ran.out + ran.err
    raw = (bare.path / "onward.db").read_bytes()
    wal = bare.path / "onward.db-wal"
    raw += wal.read_bytes() if wal.exists() else b""
    assert PASSWORD.encode() not in raw
    [listed] = bare.good("connections", "--json").json
    assert (listed["segment"], listed["declared"]) == ("VIP", False)
    bare.good("fire", "seen", "--email", "ana@shop.example")
    bare.good("push", "ana@shop.example", "--to", "icontact", "--now")
    assert bare.sim.folder().on_list("VIP") == {"ana@shop.example"}


@pytest.mark.parametrize(
    ("changes", "segment", "said"),
    [
        ({"password": "wrong"}, "VIP", NOT_CONNECTED),
        ({"client_folder_id": "1"}, "VIP", NOT_VERIFIED),
        ({"client_folder_id": ""}, "VIP", NOT_VERIFIED),
        ({}, "Vip list", "say which with --segment"),
        ({}, "", "say which with --segment"),
        ({"api_url": "http://icontact.example"}, "VIP", "must start with https://"),
        ({"usrname": "x"}, "VIP", 'no setting "usrname"; did you mean "username"?'),
        ({"colour": "red"}, "VIP", 'there is no setting "colour"'),
    ],
)
def test_nothing_is_saved_when_it_fails(
    bare: Place, changes: dict[str, str], segment: str, said: str
) -> None:
    """A connection that cannot be verified leaves no row behind."""
    options = [*bare.settings(**changes), "--segment", segment]

    ran = bare.run("connections", "add", "icontact", *options)

    assert ran.status == 1
    assert said in ran.err
    for table in ("connection", "memory", "remote_segment", "limiter"):
        assert rows(bare, table) == []
    bare.good("connections", "add", "icontact", *bare.settings(), "--segment", "VIP")


def test_a_service_that_is_away_saves_nothing(bare: Place) -> None:
    """An unreachable service is said to be one, and nothing was saved."""
    bare.sim.fail("connect_error", times=10)
    options = [*bare.settings(), "--segment", "VIP"]

    ran = bare.run("connections", "add", "icontact", *options)

    assert ran.status == 1
    assert ran.err.startswith("iContact could not be reached (")
    assert ran.err.endswith("); nothing was saved.\n")
    assert rows(bare, "connection") == []
    bare.sim.clear_faults()
    bare.good("connections", "add", "icontact", *options)


def test_blanks_around_settings_are_removed_and_said(bare: Place) -> None:
    """A copied id with blanks works, and its owner is told."""
    options = bare.settings(account_id=f" {bare.sim.account_id} ")

    ran = bare.good("connections", "add", "icontact", *options, "--segment", "VIP")

    assert ran.err == "blanks around the Account ID were removed\n"


def test_the_same_account_twice_is_refused(place: Place) -> None:
    """A second connection to one account and folder is refused by name."""
    place.good("connections", "test", "icontact")
    Vault.create_key_file(place.path / "onward.key")
    options = [*place.settings(), "--segment", "VIP", "--name", "again"]

    ran = place.run("connections", "add", "icontact", *options)

    assert ran.status == 1
    assert 'again: the connection "icontact" already leads to' in ran.err
    assert [r["name"] for r in place.good("connections", "--json").json] == ["icontact"]


def test_without_a_key_nobody_is_asked(bare: Place) -> None:
    """Secrets that could not be stored are refused before the service is asked."""
    (bare.path / "onward.key").unlink()

    ran = bare.run("connections", "add", "icontact", *bare.settings())

    assert ran.status == 1
    assert "secrets cannot be stored" in ran.err
    assert bare.sim.requests == []


def test_a_lost_key_costs_the_passwords_and_nothing_else(bare: Place) -> None:
    """Every command names the way out, and what waited goes when it was taken."""
    bare.good("connections", "add", "icontact", *bare.settings(), "--segment", "VIP")
    bare.good("fire", "seen", "--email", "ana@shop.example")
    bare.good("push", "ana@shop.example", "--to", "icontact")
    key = bare.path / "onward.key"
    key.rename(bare.path / "k")

    doctor = bare.run("doctor").out
    made = bare.good("init").out
    tried = bare.run("connections", "test", "icontact")
    again = bare.run("connections", "add", "icontact", "--name", "icontact")
    bare.good("deliver")

    command = "`onward connections set icontact`"
    assert "PROBLEM  secret key: " in doctor
    told = {"doctor": doctor, "init": made, "test": tried.err, "add": again.err}
    assert [name for name, text in told.items() if command not in text] == []
    assert "was sealed with key" in made
    assert (tried.status, again.status) == (1, 1)
    wrong = bare.run("connections", "set", "icontact", "--set", "password=wrong")
    assert (wrong.status, wrong.err.splitlines()[0]) == (1, NOT_CONNECTED)
    set_ = bare.good("connections", "set", "icontact", "--set", f"password={PASSWORD} ")
    assert set_.out.startswith("icontact: changed and verified, ")
    bare.good("deliver")
    [row] = bare.good("deliveries", "--json").json
    assert (row["state"], row["reason"]) == ("delivered", "")
    assert bare.sim.folder().on_list("VIP") == {"ana@shop.example"}


def test_on_a_terminal_secrets_are_asked_for(
    bare: Place, stop: list[subprocess.Popen[str]]
) -> None:
    """`set` with a name alone asks for the secrets, and shows none of them."""
    bare.good("connections", "add", "icontact", *bare.settings(), "--segment", "VIP")
    bare.sim.password = "anew"
    ours, theirs = pty.openpty()
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    asked = bare.start(
        "connections", "set", "icontact", start_new_session=True, **streams
    )
    stop.append(asked)
    os.close(theirs)
    said = ""
    while not said.endswith("API-specific password: "):
        said += os.read(ours, 1000).decode()

    os.write(ours, b"anew\n")

    while "verified" not in said:
        said += os.read(ours, 1000).decode()
    assert asked.wait() == 0
    os.close(ours)
    assert "anew" not in said
    bare.good("connections", "test", "icontact")


def test_a_change_is_verified_before_it_is_saved(bare: Place) -> None:
    """Another account, address or nonsense is refused; another list is taken."""
    bare.good("connections", "add", "icontact", *bare.settings(), "--segment", "VIP")
    bare.sim.add_account("600100", ["9900"])
    bare.sim.folder("600100", "9900").add_list("VIP")
    before = rows(bare, "connection")

    def refused(*options: str) -> str:
        ran = bare.run("connections", "set", "icontact", *options)
        assert ran.status == 1
        assert rows(bare, "connection") == before
        return ran.err

    other = ("--set", "account_id=600100", "--set", "client_folder_id=9900")
    elsewhere = "api_url=https://icontact.example/icp"
    assert "nothing was saved: `onward connections add icontact`" in refused(*other)
    assert "give its secrets with the new address" in refused("--set", elsewhere)
    assert 'there is no setting "colour"' in refused("--set", "colour=red")
    assert 'no remote segment "Vip list"' in refused("--segment", "Vip list")
    assert "`onward connections set icontact --set password=…`" in refused()
    bare.good("connections", "set", "icontact", "--segment", "Newsletter")
    [listed] = bare.good("connections", "--json").json
    assert (listed["segment"], listed["status"]) == ("Newsletter", "active")


def test_a_declared_connection_is_changed_in_the_file(place: Place) -> None:
    """What onward.toml declares is not changed behind its back."""
    ran = place.run("connections", "set", "icontact", "--set", "password=x")

    assert ran.status == 1
    assert "change [connections.icontact] there" in ran.err


def test_removing_cancels_what_waits(bare: Place) -> None:
    """A removed connection is gone; what waited for it is cancelled, and said."""
    bare.good("connections", "add", "icontact", *bare.settings(), "--segment", "VIP")
    bare.good("fire", "seen", "--email", "ana@shop.example")
    bare.good("push", "ana@shop.example", "--to", "icontact")

    ran = bare.good("connections", "remove", "icontact")

    assert ran.err == "1 waiting pushes were cancelled\n"
    assert bare.good("connections", "--json").json == []
    [row] = bare.good("deliveries", "--json").json
    assert (row["state"], row["code"]) == ("cancelled", "connection_removed")
    shown = bare.good("contacts", "show", "ana@shop.example", "--json").json
    one = bare.good("deliveries", "show", "1", "--json").json
    names = [found["connection"] for found in (row, one, *shown["pushes"])]
    assert names == ["icontact"] * 3
    again = ("icontact", *bare.settings(), "--segment", "VIP", "--name", "other")
    bare.good("connections", "add", *again)
    [row] = bare.good("deliveries", "--json").json
    assert row["connection"] == "icontact"  # not the one that came after it


def test_a_declared_connection_is_removed_in_the_file(place: Place) -> None:
    """What onward.toml declares is not removed behind its back."""
    ran = place.run("connections", "remove", "icontact")

    assert ran.status == 1
    assert "remove [connections.icontact] there" in ran.err


def test_a_connection_in_use_is_not_removed(bare: Place) -> None:
    """A rule that pushes to it is named, and the connection stays."""
    bare.good("connections", "add", "icontact", *bare.settings(), "--segment", "VIP")
    rule = '[[rules]]\nkey = "forms"\nwhen = "x"\npush_to = ["icontact"]\n'
    bare.write("onward.toml", rule)

    ran = bare.run("connections", "remove", "icontact")

    assert ran.status == 1
    assert "in use: the rule forms" in ran.err
    assert len(bare.good("connections", "--json").json) == 1


def test_an_unknown_connection_lists_the_known(place: Place) -> None:
    """A wrong name is answered with the right ones."""
    ran = place.run("connections", "test", "acme")

    expected = 'there is no connection "acme"; there are: icontact\n'
    assert (ran.status, ran.err) == (1, expected)


def test_segments_are_listed_as_they_are_now(place: Place) -> None:
    """Every remote list, the chosen one marked."""
    place.sim.folder().add_list("New one")

    listed = place.good("segments", "icontact", "--json").json

    names = [(row["name"], row["chosen"]) for row in listed]
    assert names == [("Newsletter", True), ("VIP", False), ("New one", False)]


def test_fields_say_what_fills_them(place: Place) -> None:
    """Every remote field with its type and the contact field it gets."""
    place.sim.folder().add_custom_field("tier", "text", "Tier")

    listed = {r["name"]: r for r in place.good("fields", "icontact", "--json").json}

    assert listed["state"]["max_length"] == 10
    assert listed["firstName"]["filled_from"] == "first_name"
    assert (listed["tier"]["title"], listed["tier"]["filled_from"]) == ("Tier", "")


def test_the_map_can_be_shown_previewed_and_suggested(place: Place) -> None:
    """`map` prints TOML, a preview the request, a suggestion another TOML."""
    place.good("fire", "seen", "--email", "ana@shop.example")

    shown = place.good("map", "icontact").out
    preview = place.good("map", "icontact", "--preview", "ana@shop.example").out
    suggested = place.good("map", "icontact", "--suggest").out

    assert 'firstName = "first_name"' in shown
    assert "/contacts" in preview
    assert '"email": "ana@shop.example"' in preview
    assert 'firstName = "first_name"' in suggested
    assert suggested.startswith("[fields]")


def test_a_map_with_an_unknown_field_is_refused(place: Place) -> None:
    """A map that names what the account does not have ends 1, fields listed."""
    maps = place.path / "field_maps"
    maps.mkdir()
    (maps / "icontact.toml").write_text('[fields]\nemail = "email"\nnick = "city"\n')

    ran = place.run("connections", "test", "icontact")

    assert ran.status == 1
    assert '"nick", which the account does not have' in ran.err
    (maps / "icontact.toml").unlink()
    place.good("connections", "test", "icontact")
