"""What must never happen, whatever happens: design 14 as one random machine.

Everything is real but the outermost: the wire leads to a simulator that is set to
harm whoever is careless, time is moved by hand, and a process dies by losing its
disk and its wire at any one of its effects: the begin and the commit of each
transaction, the arrival and the answer of each request.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from sqlalchemy import Connection as Transaction
from sqlalchemy import event, func, select

import onward.testing
from onward import signals
from onward.connections.state import named, resume
from onward.database import Database
from onward.migrate import upgrade
from onward.models import Claim, Contact, Event, Ledger, Push, RemoteContactRow, table
from onward.signals import PushFact
from onward.testing.app import Clock, TestApp
from onward_icontact.integration import IContact
from onward_icontact.simulator import Simulator

contacts = table(Contact)
claims = table(Claim)
events = table(Event)
ledger = table(Ledger)
pushes = table(Push)
remote_contacts = table(RemoteContactRow)

TOML = """
[contact_fields]
tier = "text"
[connections.small]
integration = "small"
segment = "Newsletter"
limits = ["100000/minute"]
field_map = "{map}"
[connections.small.settings]
app_id = "{app_id}"
username = "{username}"
password = "${{PASSWORD}}"
account_id = "{account_id}"
client_folder_id = "{folder_id}"

[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["small"]
points = 10

[[point_triggers]]
key = "hot"
name = "Hot"
points = 30
push_to = [{{ to = "small", segment = "VIP" }}]
"""
MAP = """
[fields]
email = "email"
firstName = "first_name"
city = "city"
loyaltytier = "tier"
"""
MAPPED = {"firstName": "first_name", "city": "city", "loyaltytier": "tier"}
LISTS = ("Newsletter", "VIP")
# Nobody maps these.
UNMAPPED = ("prefix", "phone", "note")
PEOPLE = 4
# A drain that needs more than this for so few people is caught in a circle.
MOST_CALLS = 400


class Small(IContact):
    """iContact in batches of three, so that few people make several."""

    key = "small"
    batch_size = 3


class Killed(BaseException):
    """The process is gone; nothing it still does has an effect."""


@dataclass(slots=True)
class Watched:
    """A contact in iContact as it was before a request."""

    email: str
    status: str
    values: dict[str, str]
    on: dict[str, str]


class World:
    """What outlives a process: disk, time, the service, and who opted out.

    Attributes:
        broken: what must never happen and did.
        left: (remote id, list) of those who unsubscribed there.
        stopped: addresses somebody here said must not be contacted.
        gone: remote ids of contacts we knew that were deleted there.
        edited: remote ids whose mapped fields somebody changed there.
    """

    def __init__(self, folder: Path, migrated: bytes, **switches: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.sim = Simulator(self.clock, sleep=self.clock.sleep, **switches)
        self.sim.folder().add_custom_field("loyaltytier")
        self.sim.folder().add_custom_field("note")
        (folder / "map.toml").write_text(MAP)
        (folder / "onward.db").write_bytes(migrated)
        self.broken: list[str] = []
        self.left: set[tuple[str, str]] = set()
        self.stopped: set[str] = set()
        self.gone: set[str] = set()
        self.edited: set[str] = set()
        self.url = f"sqlite:///{folder / 'onward.db'}"

    @property
    def toml(self) -> str:
        """The configuration."""
        return TOML.format(
            map=self.folder / "map.toml",
            app_id=self.sim.app_id,
            username=self.sim.username,
            account_id=self.sim.account_id,
            folder_id=self.sim.client_folder_id,
        )

    def seen(self) -> dict[str, Watched]:
        """Return everybody in iContact, by id."""
        folder = self.sim.folder()
        found: dict[str, Watched] = {}
        for contact in folder.contacts.values():
            rows = folder.rows_of_contact(contact.contact_id)
            found[contact.contact_id] = Watched(
                contact.email,
                contact.status,
                {name: text for name, text in contact.values.items() if text},
                {folder.lists[id_].name: row.status for id_, row in rows.items()},
            )
        return found

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Let iContact answer, and look at what the request did to whom."""
        if request.method == "GET":
            return self.sim.handle(request)
        before = self.seen()
        try:
            return self.sim.handle(request)
        finally:
            what = f"{request.method} {request.url.path} {request.content!r}"
            for id_, now in self.seen().items():
                for wrong in self._wrongs(id_, before.get(id_), now):
                    self.broken.append(f"{wrong}: {now} after {what}")

    def _wrongs(self, id_: str, before: Watched | None, now: Watched) -> list[str]:
        wrongs: list[str] = []
        for name, status in now.on.items():
            if status == "unsubscribed" or (
                before is not None and before.on.get(name) == status
            ):
                continue
            if (id_, name) in self.left or now.email in self.stopped:
                wrongs.append(f"{id_} opted out and is on {name} again")
            if before is not None and before.status in ("donotcontact", "bounced"):
                wrongs.append(f"{id_} is {before.status} and was put on {name}")
        if before is None:
            if now.email in self.stopped:
                wrongs.append(f"{id_} opted out and was made")
            return wrongs
        if before.status == "deleted":
            if now.status != "deleted" and id_ in self.gone:
                wrongs.append(f"{id_} was deleted there and made again")
            return wrongs
        if before.status != now.status:
            wrongs.append(f"{id_} was {before.status}")
        for name, text in before.values.items():
            if not now.values.get(name):
                wrongs.append(f"{id_}: {name} was {text}, and was blanked")
        for name in UNMAPPED:
            if before.values.get(name) != now.values.get(name):
                wrongs.append(f"{id_}: {name} is not mapped and was changed")
        return wrongs


class Process:
    """One running Onward. Once killed it can do nothing more.

    Args:
        effects: how many effects it still has before it dies; None = it lives.
        between: called between a request and its answer.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.effects: int | None = None
        self.between: Callable[[], None] = lambda: None
        self.calls = 0
        self.is_dead = False
        self.app: TestApp = onward.testing.app(
            world.toml,
            transport=httpx.MockTransport(self.answer),
            integrations=[Small],
            env={"PASSWORD": world.sim.password},
            database_url=world.url,
            clock=world.clock,
        )
        engine = self.app.runtime.database.engine
        event.listen(engine, "begin", self.effect)
        event.listen(engine, "commit", self.effect)
        signals.push_delivered.connect(self.delivered, sender=self.app)

    def effect(self, _: object = None) -> None:
        """Have one effect, or die before it."""
        if self.effects is not None and not self.is_dead:
            self.effects -= 1
            self.is_dead = self.effects < 0
        if self.is_dead:
            raise Killed

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Send a request and get its answer: two effects."""
        self.effect()
        self.calls += 1
        response = self.world.answer(request)
        self.between()
        self.effect()
        return response

    def delivered(self, sender: object, event: PushFact, **extra: object) -> None:
        """Hold what is said to be delivered against the truth at that moment."""
        if event.state != "delivered":
            return
        with self.app.runtime.database.read() as transaction:
            row = transaction.execute(
                select(contacts).where(contacts.c.id == event.contact_id)
            ).one()
            segment = transaction.execute(
                select(pushes.c.segment).where(pushes.c.id == event.push_id)
            ).scalar_one()
        folder = self.world.sim.folder()
        remote = folder.find(row.email or "")
        who = f"{row.email} is said to be delivered ({event.code})"
        if row.merged_into is not None:
            return  # it ended by itself; the survivor's row says the rest
        if remote is None or remote.status not in ("normal", "pending"):
            self.world.broken.append(f"{who} and is not there: {remote}")
            return
        if event.code != "awaiting_confirmation":
            on = folder.subscription(segment, row.email)
            if on != "normal":
                self.world.broken.append(f"{who} and is {on} on {segment}")
        if remote.contact_id in self.world.edited:
            return
        for name, ours in MAPPED.items():
            text = (row.custom if ours == "tier" else row._mapping).get(ours)
            if text and remote.get(name) != text:
                there = remote.get(name)
                self.world.broken.append(f"{who}: {name} is {there!r}, not {text!r}")

    def close(self) -> None:
        """End it, dead or alive."""
        self.is_dead = False
        self.effects = None
        self.app.close()


@dataclass(slots=True)
class Person:
    """Somebody, as the machine knows them; several may turn out to be one."""

    number: int
    email: str
    merged: bool = False
    keys: list[str] = field(default_factory=list[str])


people = st.integers(0, PEOPLE - 1)
# Most processes live (None); others die early: recording has few effects, a drain
# many.
few_effects = st.integers(0, 15).map(lambda n: n - 10 if n >= 10 else None)
many_effects = st.integers(0, 200).map(lambda n: n - 120 if n >= 120 else None)
cities = st.sampled_from(["", "Durham", "Köln", "Reykjavík"])
names = st.sampled_from(["", "Ana", "Bo 🥐"])
statuses = st.sampled_from(["normal", "donotcontact", "bounced"])
memberships = st.dictionaries(
    st.sampled_from(LISTS), st.sampled_from(["normal", "unsubscribed"])
)


class Machine(RuleBasedStateMachine):
    """People, an owner of an iContact account, a network, and a power switch.

    No step has a precondition: how far a delivery comes before it is killed is for its
    threads to decide, and steps must be drawn alike each time.
    """

    migrated: bytes = b""

    @initialize(
        commas=st.sampled_from(["honoured", "literal", "first", "ignored"]),
        duplicate=st.sampled_from(["notices", "empty", "record", "error400"]),
        rows=st.sampled_from(["short", "full"]),
        deleted=st.sampled_from(["no", "yes"]),
        ids=st.sampled_from(["string", "int"]),
        member=st.sampled_from(["revives", "error404", "stays_deleted"]),
        clash=st.sampled_from(["error400", "warning", "silent_ignore"]),
        there=st.lists(st.tuples(statuses, memberships), max_size=PEOPLE),
    )
    def begin(self, there: list[tuple[str, dict[str, str]]], **chosen: str) -> None:
        """Open an account that re-subscribes, resets and blanks whenever asked to."""
        self.place = tempfile.TemporaryDirectory(prefix="onward-machine-")
        self.world = World(
            Path(self.place.name),
            self.migrated,
            commas=chosen["commas"],
            duplicate_subscription=chosen["duplicate"],
            search_rows=chosen["rows"],
            total_includes_deleted=chosen["deleted"],
            id_type=chosen["ids"],
            deleted_member_post=chosen["member"],
            email_clash=chosen["clash"],
            opt_out_subscribe="resubscribes",
            omitted_status="reset",
            collection_post="overwrite",
        )
        self.process = Process(self.world)
        self.people = [Person(n, f"p{n}@shop.example") for n in range(PEOPLE)]
        self.points = 0
        self.count = 0
        self.process.app.verify("small")
        for who, (status, on) in enumerate(there):
            self.was_there_before(who=who, status=status, on=on)

    def teardown(self) -> None:
        """Let everything come to its end, and compare."""
        if not hasattr(self, "process"):
            return
        try:
            self.come_to_an_end()
        finally:
            self.process.close()
            self.place.cleanup()

    # -- what happens here

    def live(self, kill: int | None, work: Callable[[TestApp], object]) -> bool:
        """Do something, perhaps until the process dies; tell whether it lived."""
        self.process.effects = kill
        try:
            work(self.process.app)
        except Killed:
            self.process.close()
            self.process = Process(self.world)
            return False
        finally:
            self.process.effects = None
        return True

    def surely(self, kill: int | None, work: Callable[[TestApp], object]) -> None:
        """Do something with a key; after a death, again."""
        if not self.live(kill, work):
            work(self.process.app)

    @rule(
        who=people,
        by=st.sampled_from(["email", "user", "visitor", "both"]),
        city=cities,
        name=names,
        kill=few_effects,
        twice=st.booleans(),
        wait=st.sampled_from([False, False, False, True]),
        then=many_effects,
    )
    def submits(
        self,
        who: int,
        by: str,
        city: str,
        name: str,
        kill: int | None,
        twice: bool,
        wait: bool,
        then: int | None,
    ) -> None:
        """A person submits a form, known by one of their names."""
        person = self.people[who]
        self.count += 1
        key = f"form-{self.count}"
        known = {
            "email": {"email": person.email},
            "user": {"user": f"u{who}"},
            "visitor": {"visitor": f"v{who}"},
            "both": {"email": person.email, "user": f"u{who}", "visitor": f"v{who}"},
        }[by]
        given = {"city": city, "first_name": name, "custom": {"tier": name}}

        def work(app: TestApp) -> None:
            app.record_action(
                "form.submitted",
                identities=known,
                contact={k: v for k, v in given.items() if v and v != {"tier": ""}},
                key=key,
            )

        self.surely(kill, work)
        if twice:
            work(self.process.app)
        self.points += 10
        self.is_recorded_once("form.submitted", key)
        if not wait:
            self.deliver(then)

    def is_recorded_once(self, action: str, key: str) -> None:
        """Check that a key has one event."""
        with self.process.app.runtime.database.read() as transaction:
            found = transaction.execute(
                select(func.count())
                .select_from(events)
                .where(events.c.action == action, events.c.key == key)
            ).scalar_one()
        assert found == 1, f"{key} was recorded {found} times"

    @rule(who=people, points=st.sampled_from([-15, 5, 30]), kill=few_effects)
    def scores(self, who: int, points: int, kill: int | None) -> None:
        """A person wins or loses points."""
        self.count += 1
        key = f"points-{self.count}"
        email = self.people[who].email
        self.surely(kill, lambda app: app.add_points(points, email=email, key=key))
        self.points += points

    @rule(who=people, kill=few_effects)
    def moves(self, who: int, kill: int | None) -> None:
        """A person has a new address."""
        person = self.people[who]
        self.count += 1
        address = f"p{who}.{self.count}@shop.example"
        known = {"user": f"u{who}", "email": address}
        self.surely(
            kill,
            lambda app: app.record_action(
                "address.changed", identities=known, key=f"move-{address}"
            ),
        )
        person.email = address

    @rule(who=people, other=people, kill=few_effects)
    def turns_out_to_be(self, who: int, other: int, kill: int | None) -> None:
        """Two people turn out to be one: the one whose address it is."""
        self.count += 1
        known = {"user": f"u{who}", "email": self.people[other].email}
        self.surely(
            kill,
            lambda app: app.record_action(
                "seen", identities=known, key=f"same-{self.count}"
            ),
        )

    @rule(who=people)
    def is_not_to_be_contacted(self, who: int) -> None:
        """Somebody here says that an address must not be written to, one at a time."""
        if self.world.stopped:
            return
        email = self.people[who].email
        self.process.app.suppress(email)
        self.world.stopped.add(email)

    @rule(who=people)
    def consents(self, who: int) -> None:
        """A person allows again whatever we know that they did not want."""
        email = self.people[who].email
        addresses = self.addresses_of(email)
        left, gone = self.known_of(addresses)
        self.process.app.consent(email, how="form", who="test")
        self.world.stopped -= addresses
        self.world.left -= left
        self.world.gone -= gone

    def addresses_of(self, email: str) -> set[str]:
        """Return every address the contact behind this one ever had."""
        from onward.models import Identity

        identities = table(Identity)
        with self.process.app.runtime.database.read() as transaction:
            return _addresses(transaction, identities, email)

    def known_of(self, addresses: set[str]) -> tuple[set[tuple[str, str]], set[str]]:
        """Return what opt-outs and deletions we know of the contact with an address."""
        folder = self.world.sim.folder()
        lists = {name: folder.list_named(name).list_id for name in LISTS}
        with self.process.app.runtime.database.read() as transaction:
            found = transaction.execute(
                select(remote_contacts)
                .join(contacts, contacts.c.id == remote_contacts.c.contact_id)
                .where(contacts.c.email.in_(addresses))
            ).all()
        gone = {row.remote_id for row in found if row.status == "deleted"}
        left = {
            (row.remote_id, name)
            for row in found
            for name, list_id in lists.items()
            # With a deletion all that came before it is answered.
            if row.remote_id in gone or row.segments.get(list_id) == "unsubscribed"
        }
        return left, gone

    @rule(
        who=people,
        segment=st.sampled_from(LISTS),
        force=st.booleans(),
        then=many_effects,
    )
    def is_pushed(self, who: int, segment: str, force: bool, then: int | None) -> None:
        """An operator pushes a person by hand."""
        app, email = self.process.app, self.people[who].email
        with app.runtime.database.read() as transaction:
            known = transaction.execute(
                select(contacts.c.id).where(contacts.c.email == email)
            ).scalar()
        if known is not None:
            app.push(to="small", email=email, segment=segment, force=force)
            self.deliver(then)

    # -- what happens there

    def remote(self, who: int) -> Any:
        """Return a person's contact in iContact, None when there is none alive."""
        found = self.world.sim.folder().find(self.people[who].email)
        return None if found is None or found.status == "deleted" else found

    @rule(who=people, status=statuses, on=memberships)
    def was_there_before(self, who: int, status: str, on: dict[str, str]) -> None:
        """The owner has a person in iContact already, with fields of their own."""
        folder, email = self.world.sim.folder(), self.people[who].email
        if folder.find(email) is not None or email in self.world.stopped:
            return
        kept: dict[str, Any] = {"prefix": "Dr.", "phone": "555-0100", "note": "kept"}
        made = folder.add_contact(email, status=status, lists=sorted(on), **kept)
        for name, membership in on.items():
            if membership == "unsubscribed":
                folder.unsubscribe(name, email)
                self.world.left.add((made.contact_id, name))

    @rule(who=people, segment=st.sampled_from(LISTS))
    def unsubscribes(self, who: int, segment: str) -> None:
        """A person leaves a list by the link in a mail."""
        found = self.remote(who)
        folder = self.world.sim.folder()
        if found is not None and folder.subscription(segment, found.email):
            folder.unsubscribe(segment, found.email)
            self.world.left.add((found.contact_id, segment))

    @rule(who=people, status=statuses)
    def has_another_status(self, who: int, status: str) -> None:
        """A person opts out of everything, bounces, or is reachable again."""
        found = self.remote(who)
        if found is not None:
            found.status = status

    @rule(
        who=people,
        name=st.sampled_from(["city", "prefix", "note", "loyaltytier"]),
        text=st.sampled_from(["x", "y"]),
    )
    def is_edited(self, who: int, name: str, text: str) -> None:
        """The owner edits a field in iContact."""
        found = self.remote(who)
        if found is not None:
            found.values[name] = text
            if name in MAPPED:
                self.world.edited.add(found.contact_id)

    @rule(who=people)
    def is_deleted(self, who: int) -> None:
        """The owner deletes a person in iContact."""
        found = self.remote(who)
        if found is None:
            return
        with self.process.app.runtime.database.read() as transaction:
            linked = transaction.execute(
                select(remote_contacts.c.contact_id).where(
                    remote_contacts.c.remote_id == found.contact_id,
                    remote_contacts.c.contact_id != 0,
                    ~remote_contacts.c.alias,
                )
            ).scalar()
        self.world.sim.folder().delete_contact(found)
        if linked:
            self.world.gone.add(found.contact_id)

    # -- network, time and power

    @rule(
        kind=st.sampled_from(
            [
                "connect_error",
                "timeout_before_write",
                "timeout_after_write",
                "close_after_write",
                "html_503",
                "html_200",
                "truncated_json",
                "empty_body",
                "status",
            ]
        ),
        method=st.sampled_from([None, "GET", "POST"]),
        resource=st.sampled_from([None, "contacts", "subscriptions"]),
        after=st.integers(0, 2),
        status=st.sampled_from([400, 401, 403, 404, 413, 500, 502]),
        times=st.integers(1, 3),
    )
    def something_breaks(self, kind: str, **how: Any) -> None:
        """The next requests of a kind go wrong."""
        self.world.sim.fail(kind, **how)

    @rule(by=st.sampled_from([1, 30, 400, 4_000, 40_000]))
    def time_passes(self, by: int) -> None:
        """Nothing happens for a while."""
        self.world.clock.tick(by)

    @rule(kill=many_effects)
    def is_delivered(self, kill: int | None) -> None:
        """A worker sends what is due, or dies on the way."""
        self.deliver(kill)

    def deliver(self, kill: int | None) -> None:
        """Send what is due."""
        self.process.calls = 0
        self.live(kill, lambda app: app.deliver())
        assert self.process.calls < MOST_CALLS

    @rule(at=st.integers(1, 12))
    def another_worker_takes_over(self, at: int) -> None:
        """One falls asleep in a request, past its lease; another does its work."""
        asleep = [at]

        def sleep() -> None:
            asleep[0] -= 1
            if asleep[0] == 0:
                self.world.clock.tick(timedelta(minutes=3))
                other = Process(self.world)
                try:
                    other.app.deliver()
                finally:
                    other.close()

        self.process.between = sleep
        try:
            self.process.app.deliver()
        finally:
            self.process.between = lambda: None

    @rule(then=many_effects)
    def all_is_mended(self, then: int | None) -> None:
        """Whatever was broken works again, and the operator says so."""
        self.mend()
        self.world.clock.tick(timedelta(hours=1))
        self.deliver(then)

    def mend(self) -> None:
        """Mend everything, and resume what was paused."""
        self.world.sim.clear_faults()
        runtime = self.process.app.runtime
        with runtime.database.read() as transaction:
            state = named(transaction, "small")
        if state.paused_code:
            resume(runtime, state.id)

    # -- what must hold

    @invariant()
    def nothing_is_broken(self) -> None:
        """No request and no delivery did what must never happen."""
        if hasattr(self, "world"):
            assert self.world.broken == []

    @invariant()
    def every_end_has_a_reason(self) -> None:
        """A failure says why; nobody is forgotten in a merge; points add up."""
        if not hasattr(self, "process"):
            return
        with self.process.app.runtime.database.read() as transaction:
            silent = transaction.execute(
                select(pushes.c.id).where(
                    pushes.c.state.in_(["failed", "skipped", "cancelled"]),
                    (pushes.c.code == "") | (pushes.c.reason == ""),
                )
            ).all()
            stranded = transaction.execute(
                select(pushes.c.id)
                .join(contacts, contacts.c.id == pushes.c.contact_id)
                .where(
                    pushes.c.state == "waiting",
                    # What was on its way during the merge comes back and ends soon.
                    pushes.c.due_at.is_(None),
                    contacts.c.merged_into.is_not(None),
                )
            ).all()
            total = transaction.execute(select(func.sum(contacts.c.points))).scalar()
            added = transaction.execute(select(func.sum(ledger.c.delta))).scalar()
        assert silent == []
        assert stranded == [], "waits for a contact that was merged into another"
        assert (total or 0) == (added or 0) == self.points

    def come_to_an_end(self) -> None:
        """Mend everything, push everybody, wait: all ends, and all of it is right."""
        self.mend()
        app = self.process.app
        with app.runtime.database.read() as transaction:
            living = list(
                transaction.execute(
                    select(contacts.c.email).where(
                        contacts.c.email.is_not(None), contacts.c.merged_into.is_(None)
                    )
                ).scalars()
            )
        self.wait_for_the_end()
        for segment in LISTS:
            if living:
                app.push(to="small", emails=living, segment=segment, force=True)
        self.wait_for_the_end()
        assert self.world.broken == []
        last: dict[tuple[str, str], dict[str, Any]] = {}
        for row in app.deliveries():
            if row["email"]:
                last[row["email"], row["segment"]] = row
        for email in living:
            for segment in LISTS:
                list_id = self.world.sim.folder().list_named(segment).list_id
                self.is_right(email, segment, last[email, list_id])

    def wait_for_the_end(self) -> None:
        """Let days pass until nothing is due any more."""
        app = self.process.app
        for _ in range(12):
            app.deliver()
            left = [row for row in app.queued if row["due_at"] is not None]
            if not left:
                break
            self.world.clock.tick(timedelta(hours=12))
        assert left == [], f"still waiting after six days: {left}"
        visitors = [row for row in app.queued if row["email"]]
        assert visitors == [], f"waits for an address it has: {visitors}"

    def is_right(self, email: str, segment: str, row: dict[str, Any]) -> None:
        """Hold the last push of a person to a list against the truth."""
        said = (row["state"], row["code"])
        folder = self.world.sim.folder()
        found = folder.find(email)
        alive = found is not None and found.status == "normal"
        match said:
            case ("delivered" | "unchanged", _):
                assert alive, f"{email}: {said}, there: {found}"
                assert folder.subscription(segment, email) == "normal", (email, segment)
            case ("skipped", "suppressed" | "do_not_contact" | "bounced"):
                pass  # somebody said so; whom it concerns is checked request by request
            case ("skipped", "unsubscribed"):
                # By id: nothing is sent to somebody who left, no new address either.
                left = folder.membership(row["segment"], row["remote_id"])
                assert left is not None, row
                assert left.status == "unsubscribed", row
            case ("skipped", "deleted"):
                assert not alive, row
            case ("failed", "address_taken"):
                assert found is not None, row
            case _:
                pytest.fail(f"{email} on {segment} ends as {said}: {row['reason']}")


def _addresses(transaction: Transaction, identities: Any, email: str) -> set[str]:
    owner = transaction.execute(
        select(identities.c.contact_id).where(
            identities.c.kind == "email", identities.c.value == email
        )
    ).scalar()
    if owner is None:
        return {email}
    found: Sequence[str] = (
        transaction.execute(
            select(identities.c.value).where(
                identities.c.kind == "email", identities.c.contact_id == owner
            )
        )
        .scalars()
        .all()
    )
    return {email, *found}


@pytest.fixture(scope="module", autouse=True)
def migrated(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give every machine a copy of one migrated database."""
    path = tmp_path_factory.mktemp("machine") / "onward.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.close()
    Machine.migrated = path.read_bytes()


TestMachine = pytest.mark.slow(Machine.TestCase)
TestMachine.settings = settings(
    # 16 by day, 333 in the nightly profile.
    max_examples=settings().max_examples // 6,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
