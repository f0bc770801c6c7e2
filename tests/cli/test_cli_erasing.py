"""`onward contacts erase`, `onward errands` and `onward db compact`, as typed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from onward.clock import utcnow
from onward.database import Database
from onward.models import Connection, RemoteContactRow, table

if TYPE_CHECKING:
    from .conftest import Place

PLUGIN = """
import onward


class Beta(onward.Integration):
    key, title, hosts = "beta", "Beta Mail", ("beta.example",)
    default_map = {"email": "email"}

    def verify(self, api):
        return onward.Account("beta/1", "beta/1", "Beta")

    def fields(self, api, segment):
        yield onward.RemoteField("email")

    def push(self, api, batch, segment):
        yield from ()

    def unsubscribe(self, api, keys):
        yield from ()


@onward.hookimpl
def register_integrations(register):
    register(Beta)
"""
TOML = """
[connections.beta]
integration = "beta"
push_opt_outs = true
"""


def known_there(place: Place, email: str, remote_id: str) -> None:
    """Let Beta have somebody."""
    database = Database(f"sqlite:///{place.path}/onward.db")
    with database.write() as transaction:
        of = transaction.execute(select(table(Connection).c.id)).scalar_one()
        transaction.execute(
            insert(table(RemoteContactRow)),
            {
                "connection_id": of,
                "remote_id": remote_id,
                "email": email,
                "values": {},
                "segments": {},
                "seen_at": utcnow(),
            },
        )
    database.close()


def test_what_was_done_and_what_remains(place: Place) -> None:
    """In counts, for each service, with the backups; and the same as JSON."""
    (place.path / "plugins").mkdir()
    place.write("plugins/beta.py", PLUGIN)
    place.write("onward.toml", TOML)
    place.write("onward.db.bak-0002", "a backup")
    place.good("fire", "seen", "--email", "ana@shop.example")
    known_there(place, "ana@shop.example", "4711")

    ran = place.good("contacts", "erase", "ana@shop.example")

    said = ran.out.splitlines()
    assert re.fullmatch(
        r"erased ana@shop\.example: 1 contact, \d+ places? that named them cleaned, "
        "0 waiting pushes cancelled",
        said[0],
    )
    assert said[1:3] == [
        "beta: 1 remote contact to be unsubscribed there; a worker or `onward deliver` "
        "does it (`onward errands`)",
        "beta: Beta Mail can only unsubscribe: delete 4711 there by hand",
    ]
    assert said[3].startswith(
        f"{place.path}/onward.db.bak-0002: made before an upgrade"
    )
    again = place.good("contacts", "erase", "ana@shop.example", "--json")
    assert (again.json["contacts"], again.json["compacted"]) == (0, True)
    assert again.json["backups"] == [f"{place.path}/onward.db.bak-0002"]
    [errand] = place.good("errands", "--json").json
    assert (errand["connection"], errand["kind"], errand["state"]) == (
        "beta",
        "erase",
        "waiting",
    )
    assert "4711" in place.good("errands", "--state", "waiting").out
    assert place.run("errands", "retry", "1").err.startswith(
        "errand 1 was not given up"
    )
    assert place.good("db", "compact").out.startswith("compacted in ")
    why = place.good("why", "ana@shop.example").out
    assert "was erased on" in why
    assert "neither a pull nor an import brings them back" in why


def test_services_can_be_left_alone(place: Place) -> None:
    """`--keep-remote` says so."""
    (place.path / "plugins").mkdir()
    place.write("plugins/beta.py", PLUGIN)
    place.write("onward.toml", TOML)
    place.good("connections")
    known_there(place, "ana@shop.example", "4711")
    ran = place.good("contacts", "erase", "ana@shop.example", "--keep-remote")

    assert "beta: left as it is there, as you asked" in ran.out
    assert place.good("errands", "--json").json == []


def test_suppressing_pushes_it_out(place: Place) -> None:
    """Where `push_opt_outs` is set; `show` tells of it."""
    (place.path / "plugins").mkdir()
    place.write("plugins/beta.py", PLUGIN)
    place.write("onward.toml", TOML)
    place.good("fire", "seen", "--email", "ana@shop.example")
    known_there(place, "ana@shop.example", "4711")
    place.good("contacts", "suppress", "ana@shop.example")

    [errand] = place.good("errands", "--json").json
    assert (errand["kind"], errand["remote_id"]) == ("unsubscribe", "4711")


def test_nobody_is_known(place: Place) -> None:
    """One sentence, and nothing is kept of the address."""
    ran = place.run("contacts", "erase", "nobody@shop.example")

    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "nothing is known of the address nobody@shop.example\n"
