"""No statement that is run again and again goes through a whole big table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert, text, update

from onward import InputError
from onward.audiences.keeping import remove_audience, save_audience
from onward.audiences.listing import list_audiences, open_book
from onward.audiences.members import export_members, preview_members
from onward.audiences.offered import offer
from onward.audiences.push import cancel_push
from onward.connections.listing import list_connections
from onward.connections.remove import remove_connection
from onward.connections.rename import redirect
from onward.connections.secrets import known_secrets
from onward.connections.state import named, pause, resume
from onward.contacts.erasing import erase_contact
from onward.contacts.exporting import export_rows
from onward.contacts.importing import import_contacts
from onward.contacts.showing import show_contact
from onward.database import Database
from onward.delivery.lease import held_until
from onward.delivery.listing import Wanted, list_deliveries, show_delivery
from onward.delivery.work import (
    connections_with_work,
    count_due,
    count_visitors,
    next_at,
)
from onward.doctor import examine
from onward.events.apply import apply_trigger, cancel_trigger
from onward.events.points import count_fired
from onward.models import Connection, Push, table
from onward.preview import preview
from onward.pruning import count_old, prune
from onward.testing.app import TestApp
from onward.why import explain
from onward_icontact.simulator import Simulator

from .conftest import Statements, walks_on_postgres, walks_on_sqlite
from .rows import BIG, count, fill

if TYPE_CHECKING:
    from tests.conftest import MakeApp

TOML = """
[connections.icontact]
integration = "icontact"
segment = "Newsletter"
field_map = "{map}"
pull = false  # see test_pulling; else the engine may begin one, and may not
[connections.icontact.settings]
app_id = "{sim.app_id}"
username = "{sim.username}"
password = "${{PW}}"
account_id = "{sim.account_id}"
client_folder_id = "{sim.client_folder_id}"
[contact_fields]
tier = "text"
[[rules]]
key = "forms"
when = "form.*"
if = [["tags", "contains", "fair"], ["segments", "contains", "Club"]]
push_to = ["icontact"]
points = 10
[[rules]]
key = "once"
when = "seen"
repeat = "once"
push_to = [{{ to = "icontact", segment = "VIP" }}]
add_to = ["Seen"]
[[rules]]
key = "daily"
when = "seen"
repeat = "1d"
push_to = ["icontact"]
[[point_triggers]]
key = "hot"
points = 20
re_arm = true
push_to = ["icontact"]
"""
MAP = """[fields]
email = "email"
firstName = "first_name"
city = "{{ event.data.city }}{{ tags | join(' ') }}"
"""


ASKED: tuple[list[object], ...] = (
    [["connections", "has", "icontact"], ["email", "is not blank"]],
    [["points", ">", 1], ["tags", "has", "fair"], ["segments", "in", ["club"]]],
    [["created_at", "within", "7 days"], ["icontact.created_at", "within", "9w"]],
    [["icontact.differs", "is", True]],
    [["icontact.segments", "has", "Newsletter"], ["suppressions", "is blank"]],
    [["audience", "in", ["a0", "a1"]], ["do_not_contact", "is", False]],
)


class Person:
    """Does once everything a running system does again and again."""

    def __init__(self, app: TestApp, sim: Simulator, folder: Path) -> None:
        self.app = app
        self.sim = sim
        self.folder = folder

    def live(self) -> None:
        """Do it all."""
        self.import_people()
        self.fire()
        self.deliver()
        self.fail()
        self.look()
        self.gather()
        self.change()
        self.prune()

    def import_people(self) -> None:
        """Import with and without actions, twice: the second finds them."""
        lines = ["email,visitor,points,tags,segments,tier,donotcontact,unsubscribed"]
        lines += [
            f"p{n}@shop.example,v{n},{n},fair,Club,gold,{int(n == 3)},{int(n == 4)}"
            for n in range(8)
        ]
        path = self.folder / "people.csv"
        path.write_text("\n".join(lines) + "\n")
        for fire in (False, True):
            import_contacts(self.app.runtime, path, fire=fire)
            import_contacts(self.app.runtime, path, fire=fire, dry_run=True)

    def fire(self) -> None:
        """Record actions of all kinds, points and triggers; merge by the way."""
        app = self.app
        for turn in range(2):
            for number in range(10):
                email = f"p{number}@shop.example"
                app.record_action("form.a", email=email, data={"city": "Ulm"})
                app.record_action("seen", email=email, key=f"k{number}")
                visitor = {"visitor": f"w{number}"}
                app.record_action("form.b", identities=visitor, contact={"city": "X"})
                if turn:
                    app.record_action("seen", email=email, identities=visitor)
        app.upsert_contact({"email": "p1@shop.example", "points": 50, "tags": ["a"]})
        app.add_points(30, email="p2@shop.example", key="points")
        app.add_points(-60, email="p2@shop.example")
        app.push(to="icontact", emails=["p5@shop.example", "p6@shop.example"])
        app.record_action("form.c", identities={"visitor": "nobody yet"})
        apply_trigger(app.runtime, "hot", dry_run=True)
        app.runtime.config = replace(
            app.runtime.config,
            point_triggers=(
                *app.runtime.config.point_triggers,
                replace(app.runtime.config.point_triggers[0], key="warm", points=1),
            ),
        )
        apply_trigger(app.runtime, "warm")
        with suppress(InputError):
            cancel_trigger(app.runtime, "warm")

    def deliver(self) -> None:
        """Deliver, once more when all is known, and to who opted out there."""
        app = self.app
        app.deliver()
        app.upsert_contact({"email": "p1@shop.example", "first_name": "Ana"})
        app.push(to="icontact", emails=["p1@shop.example"], force=True)
        app.push(to="icontact", emails=["p1@shop.example"], segment="VIP")
        app.deliver()
        with app.runtime.database.read() as transaction:
            connections_with_work(transaction, app.clock.now)
            connections_with_work(transaction, app.clock.now, able=True)
            next_at(transaction)
            held_until(app.runtime.database, "connection:1")
        app.start()  # the engine's own threads look for work
        app.stop()

    def fail(self) -> None:
        """Meet everything a delivery can meet, and what a dead worker leaves."""
        app, pushes = self.app, table(Push)
        for kind in (
            "timeout_after_write",
            "html_503",
            "status",
            "timeout_before_write",
        ):
            self.sim.fail(kind, method="POST")
            app.upsert_contact({"email": "p5@shop.example", "first_name": kind})
            app.push(to="icontact", emails=["p5@shop.example", "p7@shop.example"])
            app.deliver()
            app.clock.tick(timedelta(hours=1))
            app.deliver()
        app.push(to="icontact", emails=["p5@shop.example"], force=True)
        with app.runtime.database.write() as transaction:
            values = {"state": "sending", "sent_at": app.clock.now, "fence": 0}
            transaction.execute(
                update(pushes).where(pushes.c.state == "waiting").values(values)
            )
        app.deliver()

    def look(self) -> None:
        """Look at everything, in every way."""
        app, now = self.app, self.app.clock.now
        preview(app.runtime, "icontact", "p1@shop.example")
        with app.runtime.database.read() as transaction:
            for wanted in (
                Wanted(state="held"),
                Wanted(state="waiting"),
                Wanted(state="failed"),
                Wanted(code="no_email"),
                Wanted(code="unchanged"),
                Wanted(connection="icontact"),
                Wanted(connection="icontact", code="no_email"),
                Wanted(connection="icontact", state="delivered"),
                Wanted(email="p1@shop.example"),
                Wanted(since=now),
                Wanted(until=now - timedelta(days=9)),
                Wanted("delivered", "delivered", "icontact", "p1@shop.example", now),
            ):
                list(list_deliveries(transaction, wanted))
            show_delivery(transaction, 1)
            list_connections(transaction)
            count_due(transaction, app.clock.now)
            count_visitors(transaction)
            count_fired(transaction, app.config.point_triggers)
        for who in ("p1@shop.example", "1"):
            show_contact(app.runtime, who)
        for who in ("p1@shop.example", "nobody@shop.example"):
            explain(app.runtime, who)
        assert app.config.path is not None
        examine(app.config.path, {**app.runtime.env})
        known_secrets(app.runtime)
        list(export_rows(app.runtime))

    def gather(self) -> None:
        """Ask who is in audiences of every kind, and push them."""
        app = self.app
        for number, raw in enumerate(ASKED):
            save_audience(app.runtime, f"a{number}", "", raw)
        with app.runtime.database.write() as transaction:
            state = named(transaction, "icontact")
            offer(transaction, state, app.clock.now, title="iContact")
        list(list_audiences(app.runtime))
        book = open_book(app.runtime)
        preview_members(app.runtime, book.question("a0"))
        list(export_members(app.runtime, book.question("a1")))
        app.push_audience("a0", to="icontact", dry_run=True)
        app.push_audience("a0", to="icontact")
        cancel_push(app.runtime, "a0", to="icontact")
        remove_audience(app.runtime, "a2")

    def change(self) -> None:
        """Change what is known of people and connections."""
        app = self.app
        app.push(to="icontact", emails=["p6@shop.example"], segment="Nobody has this")
        app.deliver()
        with app.runtime.database.read() as transaction:
            state = named(transaction, "icontact")
        pause(app.runtime, state.id, "manual", "by hand")
        app.push(to="icontact", emails=["p6@shop.example"])
        app.deliver()
        resume(app.runtime, state.id)
        app.verify("icontact")
        app.runtime.database.run(
            lambda t: redirect(t, state, "?Nobody has this", "1", app.clock.now)
        )
        app.suppress("p6@shop.example")
        app.consent("p6@shop.example", how="phone", who="sam")
        app.push(to="icontact", emails=["p6@shop.example"])
        erase_contact(app.runtime, "p6@shop.example")
        app.deliver()
        old = {"name": "old", "integration": "icontact", "created_at": app.clock.now}
        with app.runtime.database.write() as transaction:
            transaction.execute(insert(table(Connection)), old)
            state = named(transaction, "old")
        remove_connection(app.runtime, state)

    def prune(self) -> None:
        """Remove what is old by then."""
        self.app.clock.tick(timedelta(days=91))
        self.app.record_action("seen", email="p9@shop.example")
        count_old(self.app.runtime)
        prune(self.app.runtime)


Walk = tuple[str, str]
COUNT = r"^SELECT count\(\*\) AS count_1 \nFROM "
# What a statement looks like, and the table → why it may go through all of it.
MAY_WALK: Mapping[Walk, str] = {
    (r"^DELETE FROM hint", ""): "all of a connection, or of a pull that ends",
    (r"FROM sync_run", ""): "one that is open, a few newest: of a row a day",
    (r"^UPDATE sync_run", ""): "the one that is open",
    (r"LEFT OUTER JOIN contact", "contact"): "a listing of most of what there is",
    (r"push.code = \S+ ORDER", "push"): "nearly all have it; rare codes have an index",
    (r"SELECT [^*]*LIKE '%", ""): "erasing: it may stand in any text; only read",
    (rf"{COUNT}contact \nWHERE contact.points >= ", ""): "apply: whom it would reach",
    (rf"{COUNT}\w+ \nWHERE \w+.\w+_at < ", ""): "prune --dry-run: all that is old",
    (r"^SELECT push.id, push.connection_id[\s\S]* ORDER BY ", "push"): "a listing",
    (r"push.connection_id \+ ", "push"): "a renamed segment: all that waits",
    (r"'waiting' GROUP BY", "push"): "how many wait, by segment",
    (r"min\(push.due_at\)", "push"): "health: how many wait, and since when",
    (r"push.state = 'failed' AND push.finished_at > ", "push"): "failed ones, by code",
    (
        r"^UPDATE push SET state=.*\bstate IN \(",
        "push",
    ): "another account: all open rows",
    (r"^UPDATE push SET state=\S+ fence=\S+ sent_at=\S+ WHERE push.state = \S+$", ""): (
        "remove: what is being sent"
    ),
    (r"^SELECT identity.value \n", "identity"): "erasing: all addresses of one person",
    (r"^SELECT push.priority, count", "push"): "forecast: all that waits",
    (r"ORDER BY attempt.id DESC", "attempt"): "forecast: the latest full batches",
    (r"^DELETE FROM remote_contact", ""): "all of a connection that was removed",
}


def may_walk(statement: str, line: str, allowed: Mapping[Walk, str]) -> bool:
    """Tell whether a list as above allows a walk."""
    return any(
        re.search(like, statement) and re.search(rf"\b{name}", line)
        for like, name in allowed
    )


def test_every_statement_finds_its_rows_by_an_index(
    statements: Statements,
    make_app: MakeApp,
    database_url: str,
    tmp_path: Path,
) -> None:
    """On SQLite with and without statistics, on PostgreSQL for any parameters."""
    (tmp_path / "map.toml").write_text(MAP)
    sim = Simulator()
    app = make_app(
        TOML.format(map=tmp_path / "map.toml", sim=sim),
        fake=sim,
        env={"PW": sim.password},
        database_url=database_url,
    )
    database = app.runtime.database
    statements.listening = True
    Person(app, sim, tmp_path).live()
    statements.listening = False

    fill(database)
    # SQLite counts only when somebody says so; PostgreSQL does by itself.
    found = walks(database, statements) if database.is_sqlite else set()
    count(database)
    found |= walks(database, statements)

    assert len(statements.found) > 200
    assert any("push.code NOT IN" in said for said in statements.found)
    assert "\n".join(sorted(found)) == ""


def walks(
    database: Database,
    statements: Statements,
    allowed: Mapping[Walk, str] = MAY_WALK,
) -> set[str]:
    """Return the statements that go through a big table and must not."""
    big = [table(model).name for model in BIG]
    ask = walks_on_sqlite if database.is_sqlite else walks_on_postgres
    found: set[str] = set()
    with database.read() as transaction:
        if not database.is_sqlite:
            # Its tables are small enough to be read whole; there is no other reason.
            transaction.execute(text("SET LOCAL enable_seqscan = off"))
        raw = transaction.connection.driver_connection
        for said, (statement, parameters) in statements.found.items():
            for line in ask(raw, statement, parameters, big):
                if not may_walk(said, line, allowed):
                    found.add(f"{line}\n    {said}")
    return found
