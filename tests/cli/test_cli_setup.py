"""`onward init` and `onward db`."""

from __future__ import annotations

import stat

from .conftest import Place


def test_init_makes_what_is_missing(empty: Place) -> None:
    """A file to fill in, a private key and a database, none of them in git."""
    ran = empty.good("init")

    made = sorted(path.name for path in empty.path.iterdir())
    assert made == [".gitignore", "onward.db", "onward.key", "onward.toml"]
    assert stat.S_IMODE((empty.path / "onward.key").stat().st_mode) == 0o600
    assert "onward.key" in (empty.path / ".gitignore").read_text().splitlines()
    assert ran.err == ""
    text = (empty.path / "onward.toml").read_text()
    assert '# password = "${ICONTACT_PASSWORD}"' in text
    assert empty.good("connections", "--json").json == []


def test_the_file_that_init_makes_can_be_filled_in(empty: Place) -> None:
    """Without its comment marks it is a configuration that says what it shows."""
    empty.good("init")
    path = empty.path / "onward.toml"
    lines = path.read_text().splitlines()
    settings = ("# app_id", "# username", "# password", "# api_url")
    others = ("# integration", "# segment", "# key", "# when", "# push_to", "# points")
    words = ("# [", "# if", *settings, *others)

    filled = [s.removeprefix("# ") if s.startswith(words) else s for s in lines]
    path.write_text("\n".join(filled))

    listed = empty.good("rules", "--json").json
    assert [(r["key"], r["when"], r["push_to"], r["points"]) for r in listed] == [
        ("forms", "form.submitted", ["icontact"], 10)
    ]


def test_init_keeps_what_is_there(place: Place) -> None:
    """A second run changes neither the file nor the key."""
    place.good("init")
    before = {p.name: p.read_bytes() for p in place.path.glob("onward.[kt]*")}

    ran = place.good("init")

    assert {p.name: p.read_bytes() for p in place.path.glob("onward.[kt]*")} == before
    assert f"kept {place.path / 'onward.toml'}" in ran.out


def test_init_verifies_and_ends_0_when_it_cannot(place: Place) -> None:
    """A refused connection is said, paused, and no reason for init to fail."""
    place.configure(password="wrong")

    refused = place.good("init")

    assert "icontact: not verified: The credentials entered were" in refused.out
    assert [r["status"] for r in place.good("connections", "--json").json] == ["paused"]
    place.configure()
    assert "icontact: verified" in place.good("init").out
    assert [r["status"] for r in place.good("connections", "--json").json] == ["active"]


def test_init_says_that_a_service_is_away(place: Place) -> None:
    """A service that cannot be reached is said; nothing is paused for it."""
    place.sim.fail("connect_error", times=10)

    away = place.good("init")

    assert "icontact: not verified yet: iContact could not be reached" in away.out
    place.sim.clear_faults()
    assert "icontact: verified" in place.good("init").out


def test_db_upgrade_says_what_it_did(empty: Place) -> None:
    """The first call makes the tables, the second finds them."""
    assert empty.good("db", "upgrade").out.startswith("upgraded to step ")
    assert empty.good("db", "upgrade").out.startswith("already at step ")
