"""No statement of a pull, run again and again, goes through a whole big table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert

from onward.connections.state import named
from onward.contacts.erasing import erase_contact
from onward.models import Webhook, table
from onward.sync.drift import push_drift, read_drift
from onward.sync.due import pull_due
from onward.sync.report import standings
from onward.sync.run import read_hinted
from onward.testing.app import TestApp
from onward.webhooks.hints import store_hints
from onward_icontact.simulator import Simulator

from .conftest import Statements
from .rows import count, fill
from .test_explain import Walk, walks

if TYPE_CHECKING:
    from tests.conftest import MakeApp

TOML = """
[connections.icontact]
integration = "icontact"
segment = "Newsletter"
field_map = "{map}"
limits = ["100000/minute"]
pull_limit = 1.0
[connections.icontact.settings]
app_id = "{sim.app_id}"
username = "{sim.username}"
password = "${{PW}}"
account_id = "{sim.account_id}"
client_folder_id = "{sim.client_folder_id}"
[contact_fields]
tier = "text"
"""
MAP = """[fields]
email = "email"
firstName = { value = "first_name", direction = "both" }
city = { value = "city", direction = "pull" }
loyaltytier = { value = "tier", direction = "pull" }
"""
HOOK = {"digest": "d", "place": "https://onward.shop.example", "sealed": ""}


class Puller:
    """Does once everything the second direction does again and again."""

    def __init__(self, app: TestApp, sim: Simulator) -> None:
        self.app = app
        self.sim = sim
        self.folder = sim.folder()
        with app.runtime.database.read() as transaction:
            self.state = named(transaction, "icontact")

    def live(self) -> None:
        """Do it all, after a first pull and a day."""
        self.pull()
        self.app.sync("icontact", full=True)
        self.point_at("2", "nobody")
        self.look()
        self.app.clock.tick(timedelta(days=2))
        pull_due(self.app.runtime)

    def pull(self) -> None:
        """Pull; on the first day everybody is new."""
        assert self.app.sync("icontact", accept=True).stopped == "done"

    def push(self) -> None:
        """Write some of them, so that they can differ afterwards."""
        emails = [f"p{number}@shop.example" for number in range(6)]
        self.app.push(to="icontact", emails=emails, force=True)
        self.app.deliver()

    def change(self) -> None:
        """Let people decide, move, leave, come, and be erased here."""
        app, folder = self.app, self.folder
        for number in range(6):
            contact = folder.find(f"p{number}@shop.example")
            assert contact is not None
            contact.values["firstName"] = "Other"
            contact.values["city"] = "Ulm"
        folder.unsubscribe("Newsletter", "p1@shop.example")
        contact = folder.find("p2@shop.example")
        assert contact is not None
        contact.status = "donotcontact"
        contact = folder.find("p3@shop.example")
        assert contact is not None
        folder.delete_contact(contact)
        app.upsert_contact({"email": "late@shop.example"})
        folder.add_contact("late@shop.example")
        app.suppress("p4@shop.example")
        erase_contact(app.runtime, "p5@shop.example")

    def point_at(self, *ids: str) -> None:
        """Say that some are to be read again, as a webhook does; twice."""
        runtime, now = self.app.runtime, self.app.clock.now
        row = {**HOOK, "connection_id": self.state.id, "created_at": now}
        people = {id_: {"1"} for id_ in ids}
        with runtime.database.write() as transaction:
            transaction.execute(insert(table(Webhook)), row)
            store_hints(transaction, "d", people, now)
            store_hints(transaction, "d", people, now)
        read_hinted(runtime, self.state.id)
        with runtime.database.write() as transaction:
            store_hints(transaction, "d", people, now)
        self.sim.fail("status", method="GET")
        read_hinted(runtime, self.state.id)
        self.app.clock.tick(timedelta(hours=1))

    def look(self) -> None:
        """Look at what differs, and push it; look at the runs."""
        runtime = self.app.runtime
        assert list(read_drift(runtime, self.state))
        push_drift(runtime, self.state, "firstName")
        with runtime.database.read() as transaction:
            standings(runtime, transaction)


# See `test_explain`.
MAY_WALK: Mapping[Walk, str] = {
    (r"LEFT JOIN \(SELECT", ""): "missing: all of a connection, once a pull",
    (r"^UPDATE remote_contact SET differs", "suppression"): "all opt-outs, once a pull",
    (r"^SELECT DISTINCT suppression", "suppression"): "all opt-outs, once a pull",
    (r"^DELETE FROM hint", ""): "all of a pull that ends",
    (r"FROM sync_run", ""): "one that is open, a few newest: of a row a day",
    (r"^UPDATE sync_run", ""): "the one that is open",
    (r"^SELECT count.*\s+FROM remote_contact", ""): "how many are known, once a pull",
    (r"^SELECT count.*\s+FROM hint", "hint"): "how many wait: 10,000 at most",
    (r"^SELECT DISTINCT push.segment", "push"): "verifying: all that waits, once a day",
}


def test_every_statement_finds_its_rows_by_an_index(
    statements: Statements, make_app: MakeApp, database_url: str, tmp_path: Path
) -> None:
    """Of pulls, hints and drift: on both databases, with and without statistics."""
    (tmp_path / "map.toml").write_text(MAP)
    sim = Simulator()
    folder = sim.folder()
    folder.add_custom_field("loyaltytier")
    for number in range(12):
        folder.add_contact(f"p{number}@shop.example", lists=["Newsletter"])
    app = make_app(
        TOML.format(map=tmp_path / "map.toml", sim=sim),
        fake=sim,
        env={"PW": sim.password},
        database_url=database_url,
    )
    app.verify("icontact")
    statements.listening = True
    puller = Puller(app, sim)
    puller.pull()
    statements.listening = False
    puller.push()
    puller.change()
    statements.listening = True
    puller.live()
    statements.listening = False
    database = app.runtime.database

    fill(database)
    found = walks(database, statements, MAY_WALK) if database.is_sqlite else set()
    count(database)
    found |= walks(database, statements, MAY_WALK)

    for name in ("sync_page", "sync_run", "sync_plan", "hint", "fetched_at"):
        assert any(name in said for said in statements.found), name
    assert "\n".join(sorted(found)) == ""
