"""`onward db`: pruning by hand, and copying."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from onward.database import Database
from onward.delivery.lease import take
from onward.models import Event, table

from .conftest import Place


def fire_long_ago(place: Place, names: str) -> None:
    """Record an action of several people, and make it 91 days old."""
    for name in names.split():
        place.good("fire", "seen", "--email", f"{name}@shop.example")
    old = {"created_at": datetime.now(UTC) - timedelta(days=91)}
    database = Database(f"sqlite:///{place.path}/onward.db")
    with database.write() as transaction:
        transaction.execute(update(table(Event)).values(old))
    database.close()


def test_db_prune_says_what_it_does(place: Place) -> None:
    """A dry run counts and changes nothing; then it is removed; then there is none."""
    fire_long_ago(place, "ana bea")  # each is a contact.created and a seen

    tried = place.good("db", "prune", "--dry-run")
    document = place.good("db", "prune", "--dry-run", "--json").json
    done = place.good("db", "prune")
    again = place.good("db", "prune")

    assert tried.out == "events: 3 would be removed\n"
    assert (document["events"], document["dry_run"]) == (3, True)
    assert set(document["before"]) == {"events", "deliveries", "reports"}
    assert done.out == "events: 3 removed\n"
    assert again.out == "nothing is older than [retention] lets it be\n"


def test_deliver_prunes_where_no_worker_does(place: Place) -> None:
    """Once a day: what is old goes, and the next call leaves it to tomorrow's."""
    fire_long_ago(place, "ana bea")

    place.good("deliver")

    nothing = "nothing is older than [retention] lets it be\n"
    assert place.good("db", "prune", "--dry-run").out == nothing
    fire_long_ago(place, "eve")
    place.good("deliver")
    assert place.good("db", "prune", "--json").json["events"] > 0


def test_db_prune_waits_for_nobody(place: Place) -> None:
    """While another process prunes it refuses, in one sentence that says until when."""
    fire_long_ago(place, "ana bea")
    database = Database(f"sqlite:///{place.path}/onward.db")
    hour = timedelta(hours=1)
    held = take(database, "prune", hour, lambda: datetime.now(UTC))
    assert held is not None

    refused = place.run("db", "prune")

    assert refused.status == 1
    assert refused.err.startswith("another process is pruning now; if it was killed, ")
    assert refused.err.count("\n") == 1
    held.release()
    database.close()
    assert place.good("db", "prune", "--json").json["events"] == 3


def test_db_copy_says_what_to_change(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is compared, the one line is shown, and with it all goes on there."""
    place.good("init")
    place.good("fire", "seen", "--email", "ana@shop.example")
    (place.path / "elsewhere").mkdir()

    done = place.good("db", "copy", "--to", "sqlite:///elsewhere/new.db")

    lines = done.out.splitlines()
    assert re.fullmatch(
        r"copied \d+ rows of \d+ tables, and compared both sides row by row", lines[0]
    )
    assert lines[1:] == [
        "now change this line in onward.toml:",
        f'database_url = "sqlite:///{place.path}/elsewhere/new.db"',
        "stored secrets stay sealed with the same key: copy "
        f"{place.path}/onward.key to {place.path}/elsewhere/onward.key, or set "
        "ONWARD_SECRET_KEY",
        "then `onward doctor`, and start the workers; the old one stays as it is",
    ]
    monkeypatch.setenv("ONWARD_DATABASE_URL", "sqlite:///elsewhere/new.db")
    assert "ana@shop.example" in place.good("contacts", "--json").out
    place.good("push", "ana@shop.example", "--to", "icontact")
    assert "delivered delivered: 1" in place.good("deliver", "--until-empty").out


@pytest.mark.postgres
def test_db_copy_to_a_server_and_back(
    place: Place, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways by the command, with one JSON document; a password is never shown."""
    place.good("fire", "seen", "--email", "ana@shop.example")
    url = postgres_url.replace("postgres@", "postgres:secret@")

    there = place.good("db", "copy", "--to", url)
    again = place.run("db", "copy", "--to", url)
    monkeypatch.setenv("ONWARD_DATABASE_URL", url)
    back = place.good("db", "copy", "--to", "sqlite:///back.db", "--json").json

    assert "secret@" not in there.out + again.err
    assert "://postgres:${ONWARD_DB_PASSWORD}@/" in there.out
    assert again.status == 1
    assert again.err.startswith("the database to copy to is not empty: ")
    assert (back["tables"]["event"], back["without_nul"]) == (2, 0)
    assert back["rows"] == sum(back["tables"].values())


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("mysql://x/y", "--to must begin with sqlite:/// (and a path) or postgresql"),
        ("sqlite://", "--to names no file: what is in memory is gone at once"),
        ("sqlite:///no/where.db", "the database {path}/no/where.db cannot be made: "),
        ("sqlite:///onward.db", "the database to copy to is not empty: there are rows"),
    ],
)
def test_db_copy_refuses(place: Place, to: str, said: str) -> None:
    """What cannot be copied to is refused in one sentence, and nothing is changed."""
    place.good("fire", "seen", "--email", "ana@shop.example")

    refused = place.run("db", "copy", "--to", to)

    assert refused.status == 1
    assert refused.err.startswith(said.format(path=place.path))
    assert refused.err.count("\n") == 1
    assert len(place.good("contacts", "--json").json) == 1


def test_db_copy_of_nothing(empty: Place) -> None:
    """Where there is no database none is made by looking; made, it can be copied."""
    empty.write("onward.toml", "")

    refused = empty.run("db", "copy", "--to", "sqlite:///new.db")

    assert refused.err == f"there is no database {empty.path}/onward.db to copy\n"
    assert [path.name for path in empty.path.iterdir()] == ["onward.toml"]
    empty.good("init")
    empty.good("db", "copy", "--to", "sqlite:///new.db")
