"""`onward db`: pruning by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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
