"""An opt-out is never forgotten: both directions of iContact as one random machine.

Beside `test_state_machine`, whose world and processes it uses. Here people decide in
iContact as well as here, and pulls, hints, imports, replays, merges, erasures and
changed maps come between a push and its answer, or a page and its storing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection as Transaction
from sqlalchemy import event, func, insert, select
from tests.icontact.test_state_machine import Killed, Process, World

from onward.connections.state import State, named, resume
from onward.contacts.addresses import hash_address, look_for_pepper
from onward.contacts.erasing import erase_contact
from onward.contacts.suppress import Stop, find_suppressions
from onward.delivery.listing import Wanted
from onward.errors import InputError
from onward.models import (
    Cause,
    Contact,
    Event,
    Hint,
    Identity,
    Push,
    RemoteContactRow,
    Suppression,
    table,
)
from onward.signals import PushFact
from onward.sync.drift import push_drift
from onward.sync.due import pull_due
from onward.sync.run import Manner, Synced, sync
from onward.sync.runs import open_run
from onward.testing.app import TestApp

contacts = table(Contact)
causes = table(Cause)
events = table(Event)
hints = table(Hint)
identities = table(Identity)
pushes = table(Push)
remote_contacts = table(RemoteContactRow)
suppressions = table(Suppression)

TOML = """
[contact_fields]
tier = "text"

[connections.small]
integration = "small"
segment = "Newsletter"
limits = ["100000/minute"]
field_map = "{folder}/map.toml"
pull_at = "02:30"
timezone = "Europe/Amsterdam"
fire_on_pull = {fire}
[connections.small.settings]
app_id = "{app_id}"
username = "{username}"
password = "${{PASSWORD}}"
account_id = "{account_id}"
client_folder_id = "{folder_id}"

[connections.other]
integration = "small"
segment = "Club"
limits = ["100000/minute"]
pull = false
field_map = "{folder}/other.toml"
[connections.other.settings]
app_id = "{app_id}"
username = "{username}"
password = "${{PASSWORD}}"
account_id = "{other}"
client_folder_id = "8802"

[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["small", {{ to = "small", segment = "VIP" }}, "other"]

[[rules]]
key = "changes"
when = "contact.*"
push_to = ["small", "other"]
"""
OTHER = "777"
OTHER_MAP = '[fields]\nemail = "email"\ncity = "city"\n'
# Of each map: remote field → contact field, direction, winner.
MAPS: Sequence[Mapping[str, tuple[str, str, str]]] = (
    {
        "firstName": ("first_name", "both", "ours"),
        "city": ("city", "both", "theirs"),
        "loyaltytier": ("tier", "pull", ""),
    },
    {
        "firstName": ("first_name", "push", ""),
        "city": ("city", "pull", ""),
        "loyaltytier": ("tier", "both", "ours"),
    },
    {"firstName": ("first_name", "both", "theirs"), "city": ("city", "push", "")},
    {"city": ("city", "push", ""), "loyaltytier": ("tier", "both", "theirs")},
)
LISTS = ("Newsletter", "VIP")
PEOPLE = 4
# More than a pull may change without a question.
CROWD = 14
STOPPING = ("donotcontact", "bounced")
WORDS = {"donotcontact": "opted_out", "bounced": "bounced", "normal": "normal"}
# What is compared before and after a pull that must change nothing.
TEXTS = ("email", "first_name", "city")
STEPS = [0]
BY_DAY = 30  # examples of the profile of that name

Key = tuple[str, str, str, str, str]
"""What tells one suppression from another, whoever it belongs to by now."""


def map_text(which: int) -> str:
    """Return a field map as a document."""
    lines = ["[fields]", 'email = "email"']
    for name, (ours, direction, winner) in MAPS[which].items():
        wins = f', winner = "{winner}"' if winner else ""
        lines.append(
            f'{name} = {{ value = "{ours}", direction = "{direction}"{wins} }}'
        )
    return "\n".join(lines)


class TwoWorlds(World):
    """Two accounts at iContact, and what everybody decided there and here.

    Attributes:
        left: (remote id, list id) of opt-outs that no consent answers.
        blocked: remote ids whose own status forbids mail, unanswered.
        stopped: addresses somebody here said must not be contacted, unanswered.
        gone: remote ids of contacts we knew that were deleted there, unanswered.
        forgotten: remote ids and addresses of people who asked for it: to be deleted
            there.
        racing: what happened to whom while a delivery is on its way.
        known: suppressions there were when a delivery began.
        writes: so many transactions were committed.
    """

    def __init__(
        self, folder: Path, database: Callable[[Path], str], **switches: Any
    ) -> None:
        super().__init__(folder, b"", **switches)
        self.url = database(folder)
        self.which = 0
        self.fire = False
        self.sim.add_account(OTHER)
        self.sim.folder(OTHER).add_list("Club")
        self.sim.folder(OTHER).add_custom_field("loyaltytier")
        self.blocked: set[str] = set()
        self.forgotten: set[str] = set()
        self.racing: set[str] = set()
        self.known: set[int] = set()
        self.writes = 0
        self.look: Callable[[str, str, str], str] = lambda id_, email, list_id: ""

    @property
    def toml(self) -> str:
        """The configuration as it is now."""
        (self.folder / "map.toml").write_text(map_text(self.which))
        (self.folder / "other.toml").write_text(OTHER_MAP)
        return TOML.format(
            folder=self.folder,
            fire=str(self.fire).lower(),
            app_id=self.sim.app_id,
            username=self.sim.username,
            account_id=self.sim.account_id,
            folder_id=self.sim.client_folder_id,
            other=OTHER,
        )

    def seen(self) -> dict[str, Any]:
        """Return everybody in both accounts, by id; memberships by list id."""
        found: dict[str, Any] = {}
        for folder in (self.sim.folder(), self.sim.folder(OTHER)):
            for contact in folder.contacts.values():
                rows = folder.rows_of_contact(contact.contact_id)
                found[contact.contact_id] = Watched(contact, folder, rows)
        return found

    def _wrongs(self, id_: str, before: Any, now: Any) -> list[str]:
        wrongs: list[str] = []
        for list_id, status in now.on.items():
            was = None if before is None else before.on.get(list_id)
            if status in ("unsubscribed", was) or id_ in self.racing:
                continue
            if (id_, list_id) in self.left or now.email in self.stopped:
                wrongs.append(f"{id_} opted out and is on {list_id} again")
            if id_ in self.blocked:
                wrongs.append(f"{id_} must not be written to and was put on {list_id}")
            why = self.look(id_, now.email, list_id)
            if why:
                wrongs.append(f"{id_} was put on {list_id}: {why}")
        if before is None:
            if now.email in self.stopped:
                wrongs.append(f"{id_} opted out and was made")
            return wrongs
        if before.status == "deleted":
            if now.status != "deleted" and id_ in self.gone - self.racing:
                wrongs.append(f"{id_} was deleted there and made again")
            return wrongs
        is_asked_for = now.status == "deleted" and not self.forgotten.isdisjoint(
            {id_, before.email}
        )
        if before.status != now.status and not is_asked_for:
            wrongs.append(f"{id_} was {before.status}")
        pushed = {n for n, line in MAPS[self.which].items() if line[1] != "pull"}
        pushed = {"city"} if now.is_other else pushed
        for name in {*before.values, *now.values}:
            old, new = before.values.get(name, ""), now.values.get(name, "")
            if old and not new:
                wrongs.append(f"{id_}: {name} was {old}, and was blanked")
            if old != new and name not in pushed:
                wrongs.append(f"{id_}: {name} is not mapped and was changed")
        return wrongs


class Watched:
    """A contact in iContact as it was at one moment."""

    def __init__(self, contact: Any, folder: Any, rows: Mapping[str, Any]) -> None:
        self.email: str = contact.email
        self.status: str = contact.status
        self.values = {name: text for name, text in contact.values.items() if text}
        self.on = {list_id: row.status for list_id, row in rows.items()}
        self.is_other = "Club" in {one.name for one in folder.lists.values()}

    def __repr__(self) -> str:
        return f"<{self.email} {self.status} {self.values} {self.on}>"


class TwoWays(Process):
    """One running Onward that pulls as well."""

    world: TwoWorlds

    def __init__(self, world: TwoWorlds) -> None:
        super().__init__(world)
        event.listen(self.app.runtime.database.engine, "commit", self.wrote)

    def wrote(self, _: object) -> None:
        """Count a transaction."""
        self.world.writes += 1

    def delivered(self, sender: object, event: PushFact, **extra: object) -> None:
        """Hold what is said to be delivered against the truth at that moment."""
        if event.state != "delivered":
            return
        with self.app.runtime.database.read() as transaction:
            row = transaction.execute(
                select(contacts).where(contacts.c.id == event.contact_id)
            ).one()
            push = transaction.execute(
                select(pushes).where(pushes.c.id == event.push_id)
            ).one()
        if row.merged_into is not None or row.erased_at is not None:
            return
        place = OTHER if event.connection == "other" else None
        folder = self.world.sim.folder(place)
        remote = folder.contacts.get(push.remote_id) or folder.find(row.email or "")
        who = f"{row.email} is said to be delivered ({event.code})"
        if remote is not None and remote.contact_id in self.world.racing:
            return
        if remote is None or remote.status not in ("normal", "pending"):
            self.world.broken.append(f"{who} and is not there: {remote}")
            return
        if event.code != "awaiting_confirmation":
            found = folder.membership(push.segment, remote.contact_id)
            if found is None or found.status != "normal":
                self.world.broken.append(f"{who} and is {found} on {push.segment}")


people = st.integers(0, PEOPLE - 1)
few_effects = st.integers(0, 15).map(lambda n: n - 10 if n >= 10 else None)
many_effects = st.integers(0, 200).map(lambda n: n - 140 if n >= 140 else None)
cities = st.sampled_from(["", "Durham", "Köln", "Reykjavík"])
names = st.sampled_from(["", "Ana", "Bo 🥐"])
statuses = st.sampled_from(["normal", "donotcontact", "bounced"])
segments = st.sampled_from(LISTS)
memberships = st.dictionaries(segments, st.sampled_from(["normal", "unsubscribed"]))
# What happens while a request is on its way: which request, to whom, what.
meanwhiles = st.one_of(
    st.none(),
    st.none(),
    st.tuples(
        st.integers(1, 14),
        people,
        st.sampled_from(
            [
                "unsubscribes",
                "opts out",
                "is deleted",
                "moves there",
                "is edited",
                "is suppressed",
                "consents",
                "is pulled",
                "is delivered",
                "is pointed at",
                "merges",
                "is erased",
                "sleeps",
            ]
        ),
        segments,
    ),
)


class Machine(RuleBasedStateMachine):
    """People, an owner of two iContact accounts, a network, and a power switch.

    No step has a precondition, see `test_state_machine`.
    """

    database: Callable[[Path], str]

    @initialize(
        commas=st.sampled_from(["honoured", "literal", "ignored"]),
        rows=st.sampled_from(["short", "full"]),
        deleted=st.sampled_from(["no", "yes"]),
        member=st.sampled_from(["revives", "error404", "stays_deleted"]),
        size=st.sampled_from([500, 500, 20, 3]),
        crowd=st.sampled_from([0, 0, 0, CROWD]),
        which=st.integers(0, len(MAPS) - 1),
        fire=st.booleans(),
        there=st.lists(st.tuples(statuses, memberships), max_size=PEOPLE),
    )
    def begin(
        self,
        commas: str,
        rows: str,
        deleted: str,
        member: str,
        size: int,
        crowd: int,
        which: int,
        fire: bool,
        there: list[tuple[str, dict[str, str]]],
    ) -> None:
        """Open accounts that re-subscribe, reset and blank whenever asked to."""
        self.place = tempfile.TemporaryDirectory(prefix="onward-machine-")
        self.world = TwoWorlds(
            Path(self.place.name),
            type(self).database,
            commas=commas,
            search_rows=rows,
            total_includes_deleted=deleted,
            deleted_member_post=member,
            max_limit=size,
            opt_out_subscribe="resubscribes",
            omitted_status="reset",
            collection_post="overwrite",
        )
        self.world.which, self.world.fire = which, fire
        self.world.look = self.look
        self.count = 0
        self.addresses = [[f"p{n}@shop.example"] for n in range(PEOPLE)]
        self.must: dict[Key, str] = {}
        self.before: dict[int, dict[str, str]] = {}
        self.unseen: set[str] = set()
        self.raced: set[tuple[str, str]] = set()
        self.stopping: set[str] = set()
        self.lies = False
        self.checked = -1
        self.process = self.open()
        for name in ("small", "other"):
            self.process.app.verify(name)
        for number in range(crowd):
            self.folder.add_contact(f"c{number}@shop.example", lists=["Newsletter"])
        for who, (status, on) in enumerate(there):
            self.was_there_before(who=who, status=status, on=on)

    def open(self) -> TwoWays:
        """Start a process."""
        return TwoWays(self.world)

    def teardown(self) -> None:
        """Let everything come to its end, and compare."""
        if not hasattr(self, "process"):
            return
        try:
            self.come_to_an_end()
        finally:
            self.process.close()
            self.place.cleanup()

    @property
    def app(self) -> TestApp:
        """The Onward that runs."""
        return self.process.app

    @property
    def folder(self) -> Any:
        """The folder that is pulled."""
        return self.world.sim.folder()

    def state(self) -> State:
        """Return the connection that is pulled."""
        with self.app.runtime.database.read() as transaction:
            return named(transaction, "small")

    # -- what goes on in processes

    def live(self, kill: int | None, work: Callable[[TestApp], object]) -> bool:
        """Do something, perhaps until the process dies; tell whether it lived."""
        self.process.effects = kill
        try:
            work(self.app)
        except Killed:
            self.process.close()
            self.process = self.open()
            return False
        finally:
            self.process.effects = None
        return True

    def surely(self, kill: int | None, work: Callable[[TestApp], object]) -> None:
        """Do something with a key; after a death, again."""
        if not self.live(kill, work):
            work(self.app)

    @contextmanager
    def meanwhile(self, event: tuple[int, int, str, str] | None) -> Iterator[None]:
        """Let something happen between a request and its answer.

        What somebody decides there at that moment may be overtaken: it counts from
        the end of what goes on.
        """
        self.world.known = self.active_ids()
        left = [event[0] if event else 0]

        def happen() -> None:
            left[0] -= 1
            if left[0] == 0 and event is not None:
                self.process.between = lambda: None
                self.happens(*event[1:])

        self.process.between = happen
        try:
            yield
        finally:
            self.process.between = lambda: None
            self.count_what_raced()

    def count_what_raced(self) -> None:
        """Let count what is true now of those to whom something happened."""
        seen = self.world.seen()
        for id_ in self.world.racing:
            now = seen.get(id_)
            if now is None:
                continue
            for list_id, status in now.on.items():
                if status == "unsubscribed" and (id_, list_id) in self.raced:
                    self.world.left.add((id_, list_id))
            if now.status in STOPPING and (id_, "status") in self.raced:
                self.world.blocked.add(id_)
        self.world.racing = set()
        self.world.stopped |= self.stopping
        self.raced, self.stopping = set(), set()

    def happens(self, who: int, what: str, segment: str) -> None:
        """Do one thing while another is on its way."""
        found = self.remote(who)
        email = self.addresses[who][-1]
        match what:
            case "unsubscribes" if found is not None:
                row = self.folder.subscription(segment, found.email)
                if row is not None and row != "unsubscribed":
                    self.folder.unsubscribe(segment, found.email)
                    list_id = self.folder.list_named(segment).list_id
                    self.world.racing.add(found.contact_id)
                    self.raced.add((found.contact_id, list_id))
            case "opts out" if found is not None:
                if found.status == "normal":
                    found.status = "donotcontact"
                    self.world.racing.add(found.contact_id)
                    self.raced.add((found.contact_id, "status"))
            case "is deleted" if found is not None:
                self.world.racing.add(found.contact_id)
                self.is_deleted(who)
            case "moves there" if found is not None:
                self.world.racing.add(found.contact_id)
                self.changes_address_there(who)
            case "is edited" if found is not None:
                found.values["city"] = "edited"
            case "is suppressed":
                self.app.suppress(email)
                self.stopping.add(email)
                if found is not None:
                    self.world.racing.add(found.contact_id)
            case "consents":
                self.consents(who)
            case "is pulled":
                self.elsewhere(lambda app: app.sync("small"))
            case "is delivered":
                self.elsewhere(lambda app: app.deliver())
            case "is pointed at":
                self.is_pointed_at(who, segment)
                self.elsewhere(lambda app: pull_due(app.runtime))
            case "merges":
                # Whose opt-outs these are was not known when it began.
                self.world.known = set()
                self.turns_out_to_be(who, (who + 1) % PEOPLE, None)
            case "is erased":
                self.is_erased(who)
            case "sleeps":
                # Past its lease: another takes over.
                self.world.clock.tick(timedelta(minutes=3))
                self.elsewhere(lambda app: (app.sync("small"), app.deliver()))
            case _:
                pass

    def elsewhere(self, work: Callable[[TestApp], object]) -> None:
        """Do something in another process."""
        other = self.open()
        try:
            work(other.app)
        finally:
            other.close()

    def look(self, id_: str, email: str, list_id: str) -> str:
        """Return what forbade to put somebody on a list, as known before."""
        with self.app.runtime.database.read() as transaction:
            owner = self.owner(transaction, email)
            stops = find_suppressions(transaction, {owner: [email]}).get(owner, [])
            folders = self.world.sim.folder(), self.world.sim.folder(OTHER)
            place = OTHER if list_id in folders[1].lists else self.world.sim.account_id
        for stop in stops:
            if stop.id in self.world.known and is_against(stop, place, list_id):
                return f"{stop.scope} {stop.code}, {stop.reason}"
        return ""

    @staticmethod
    def owner(transaction: Transaction, email: str) -> int:
        """Return whose address it is, 0 for nobody."""
        return (
            transaction.execute(
                select(identities.c.contact_id).where(
                    identities.c.kind == "email", identities.c.value == email
                )
            ).scalar()
            or 0
        )

    def active_ids(self) -> set[int]:
        """Return the suppressions in force."""
        with self.app.runtime.database.read() as transaction:
            found = select(suppressions.c.id).where(suppressions.c.lifted_at.is_(None))
            return set(transaction.execute(found).scalars())

    # -- what happens here

    @rule(
        who=people,
        by=st.sampled_from(["email", "user", "visitor", "both"]),
        city=cities,
        name=names,
        kill=few_effects,
        then=many_effects,
        event=meanwhiles,
    )
    def submits(
        self,
        who: int,
        by: str,
        city: str,
        name: str,
        kill: int | None,
        then: int | None,
        event: Any,
    ) -> None:
        """A person submits a form, known by one of their names."""
        self.count += 1
        email = self.addresses[who][-1]
        known = {
            "email": {"email": email},
            "user": {"user": f"u{who}"},
            "visitor": {"visitor": f"v{who}"},
            "both": {"email": email, "user": f"u{who}", "visitor": f"v{who}"},
        }[by]
        given = {"city": city, "first_name": name, "custom": {"tier": name}}
        kept = {k: v for k, v in given.items() if v and v != {"tier": ""}}
        key = f"form-{self.count}"
        self.surely(
            kill,
            lambda app: app.record_action(
                "form.submitted", identities=known, contact=kept, key=key
            ),
        )
        if self.count % 3:
            self.is_delivered(then, event)

    @rule(who=people)
    def moves(self, who: int) -> None:
        """A person has a new address."""
        self.count += 1
        email = f"p{who}.{self.count}@shop.example"
        known = {"user": f"u{who}", "email": email}
        self.app.record_action("moved", identities=known, key=email)
        self.addresses[who].append(email)

    @rule(who=people, other=people, kill=few_effects)
    def turns_out_to_be(self, who: int, other: int, kill: int | None) -> None:
        """Two people turn out to be one: the one whose address it is."""
        self.count += 1
        known = {"user": f"u{who}", "email": self.addresses[other][-1]}
        key = f"same-{self.count}"
        self.surely(
            kill, lambda app: app.record_action("seen", identities=known, key=key)
        )

    @rule(who=people)
    def is_not_to_be_contacted(self, who: int) -> None:
        """Somebody here says that an address must not be written to."""
        email = self.addresses[who][-1]
        self.app.suppress(email)
        self.world.stopped.add(email)

    @rule(who=people)
    def consents(self, who: int) -> None:
        """A person allows again whatever we know that they did not want."""
        email = self.addresses[who][-1]
        self.answers(email)
        self.app.consent(email, how="form", who="test")

    def answers(self, email: str) -> None:
        """Take what a consent answers, as far as it is known here, for answered."""
        with self.app.runtime.database.read() as transaction:
            owner = self.owner(transaction, email)
            mine = {email}
            if owner:
                mine |= set(
                    transaction.execute(
                        select(identities.c.value).where(
                            identities.c.kind == "email",
                            identities.c.contact_id == owner,
                        )
                    ).scalars()
                )
            found = transaction.execute(
                select(remote_contacts).where(
                    remote_contacts.c.contact_id == (owner or -1)
                )
            ).all()
            pepper = look_for_pepper(transaction)
            own = transaction.execute(
                select(suppressions).where(suppressions.c.contact_id == (owner or -1))
            ).all()
            hashes = {hash_address(pepper, one) for one in mine} if pepper else set()
            kept = transaction.execute(
                select(suppressions.c.id).where(
                    suppressions.c.address_hash.in_(hashes),
                    suppressions.c.code.in_(["do_not_contact", "bounced"]),
                    suppressions.c.lifted_at.is_(None),
                )
            ).all()
        if kept:  # of somebody erased, whose remote contact is nobody's now
            self.world.blocked -= {
                id_ for id_, one in self.world.seen().items() if one.email in mine
            }
        for row in found:
            is_gone = row.status == "deleted"
            if row.status in ("deleted", "returned", "back"):
                self.world.gone.discard(row.remote_id)
            if row.status in ("opted_out", "bounced"):
                self.world.blocked.discard(row.remote_id)
            for list_id in [of for id_, of in self.world.left if id_ == row.remote_id]:
                # With a deletion all that came before it is answered.
                if is_gone or row.segments.get(list_id) == "unsubscribed":
                    self.world.left.discard((row.remote_id, list_id))
        self.world.stopped -= mine
        self.stopping = self.stopping - mine
        hashes |= {""}
        keys = {key_of(row) for row in own}
        self.must = {
            key: why
            for key, why in self.must.items()
            if key not in keys and key[0] not in hashes
        }

    @rule(
        lines=st.lists(
            st.tuples(
                people,
                cities,
                st.sampled_from(["", "", "unsubscribed", "manual"]),
                st.sampled_from(["", "", "form"]),
            ),
            min_size=1,
            max_size=3,
        ),
        fire=st.booleans(),
        mapped=st.booleans(),
    )
    def is_imported(
        self, lines: list[tuple[int, str, str, str]], fire: bool, mapped: bool
    ) -> None:
        """A file brings people, with opt-outs, and consents if it is told to."""
        self.count += 1
        path = self.world.folder / f"import-{self.count}.csv"
        rows = ["email,city,do_not_contact,consent"]
        for who, city, stop, consent in lines:
            email = self.addresses[who][-1]
            how = f"{consent} {self.count}" if consent else ""
            rows.append(f"{email},{city},{stop},{how}")
        path.write_text("\n".join(rows))
        ahead = [self.addresses[who][-1] for who, *_ in lines]
        given = {"do_not_contact": "do_not_contact", "email": "email", "city": "city"}
        if mapped:
            given["consent"] = "consent"
            for (_, _, stop, consent), email in zip(lines, ahead, strict=True):
                if consent and not stop:
                    self.answers(email)
        self.app.import_contacts(path, mapping=given, fire=fire)
        for (_, _, stop, consent), email in zip(lines, ahead, strict=True):
            if stop:
                self.world.stopped.add(email)
            elif mapped and consent:
                self.world.stopped -= self.addresses_of(email)

    def addresses_of(self, email: str) -> set[str]:
        """Return every address the contact behind this one ever had."""
        with self.app.runtime.database.read() as transaction:
            owner = self.owner(transaction, email)
            found = select(identities.c.value).where(
                identities.c.kind == "email", identities.c.contact_id == owner
            )
            return {email, *transaction.execute(found).scalars()}

    @rule(
        who=people,
        segment=segments,
        force=st.booleans(),
        then=many_effects,
        event=meanwhiles,
    )
    def is_pushed(
        self, who: int, segment: str, force: bool, then: int | None, event: Any
    ) -> None:
        """An operator pushes a person by hand."""
        email = self.addresses[who][-1]
        with self.app.runtime.database.read() as transaction:
            is_known = self.owner(transaction, email)
        if is_known:
            self.app.push(to="small", email=email, segment=segment, force=force)
            self.is_delivered(then, event)

    @rule(
        state=st.sampled_from(["failed", "skipped", "cancelled"]), force=st.booleans()
    )
    def is_replayed(self, state: str, force: bool) -> None:
        """An operator replays what ended."""
        self.app.replay(Wanted(state=state), force=force)

    @rule()
    def is_cancelled(self) -> None:
        """An operator takes back what waits."""
        self.app.cancel(Wanted(state="waiting"))

    @rule(name=st.sampled_from(["", "city"]))
    def drift_is_pushed(self, name: str) -> None:
        """An operator has our values written again."""
        push_drift(self.app.runtime, self.state(), name)

    @rule(who=people)
    def is_erased(self, who: int) -> None:
        """A person wants to be forgotten."""
        email = self.addresses[who][-1]
        with self.app.runtime.database.read() as transaction:
            owner = self.owner(transaction, email)
            found = transaction.execute(
                select(remote_contacts).where(
                    remote_contacts.c.contact_id == (owner or -1)
                )
            ).all()
            own = select(identities.c.value).where(
                identities.c.contact_id == (owner or -1), identities.c.kind == "email"
            )
            emails = set(transaction.execute(own).scalars())
        # To be deleted there as well, also what is known only when a push comes back,
        # or is nobody's because a worker died before it noted whose it is.
        emails |= {*self.addresses[who]}
        self.world.forgotten |= {row.remote_id for row in found} | emails
        with self.app.runtime.database.read() as transaction:
            theirs = select(remote_contacts.c.remote_id).where(
                remote_contacts.c.contact_id == 0, remote_contacts.c.email.in_(emails)
            )
            self.world.forgotten |= set(transaction.execute(theirs).scalars())
        self.world.forgotten |= {
            id_ for id_, one in self.world.seen().items() if one.email in emails
        }
        for row in found:
            if row.status not in ("deleted", "returned", "back"):
                # That it was deleted there nobody here knew.
                self.world.gone.discard(row.remote_id)
        try:
            erase_contact(self.app.runtime, email)
        except InputError:
            assert not owner
        self.before.pop(owner, None)

    @rule(which=st.integers(0, len(MAPS) - 1), fire=st.booleans())
    def is_mapped_otherwise(self, which: int, fire: bool) -> None:
        """The owner changes the map, or what a pull may lead to."""
        self.world.which, self.world.fire = which, fire
        self.process.close()
        self.process = self.open()
        self.mend()
        self.app.verify("small")

    # -- what happens there

    def remote(self, who: int) -> Any:
        """Return a person's contact in iContact, None when there is none alive."""
        for email in reversed(self.addresses[who]):
            found = self.folder.find(email)
            if found is not None and found.status != "deleted":
                return found
        return None

    @rule(who=people, status=statuses, on=memberships)
    def was_there_before(self, who: int, status: str, on: dict[str, str]) -> None:
        """The owner has a person in iContact already, with fields of their own."""
        email = self.addresses[who][-1]
        if self.folder.find(email) is not None:
            return
        kept: dict[str, Any] = {"prefix": "Dr.", "phone": "555-0100", "note": "kept"}
        made = self.folder.add_contact(email, status=status, lists=sorted(on), **kept)
        if status in STOPPING:
            self.world.blocked.add(made.contact_id)
        for name, membership in on.items():
            if membership == "unsubscribed":
                self.folder.unsubscribe(name, email)
                list_id = self.folder.list_named(name).list_id
                self.world.left.add((made.contact_id, list_id))

    @rule(who=people, segment=segments)
    def unsubscribes(self, who: int, segment: str) -> None:
        """A person leaves a list by the link in a mail."""
        found = self.remote(who)
        if found is None or found.contact_id in self.unseen:
            return
        if self.folder.subscription(segment, found.email) in ("normal", "pending"):
            self.folder.unsubscribe(segment, found.email)
            list_id = self.folder.list_named(segment).list_id
            self.world.left.add((found.contact_id, list_id))

    @rule(who=people, segment=segments, status=st.sampled_from(["normal", "pending"]))
    def subscribes(self, who: int, segment: str, status: str) -> None:
        """A person joins a list at iContact, or confirms to be on it.

        Whoever leaves it again before anybody looked has changed nothing to be seen:
        that is left out.
        """
        found = self.remote(who)
        if found is None or found.status in STOPPING:
            return
        list_id = self.folder.list_named(segment).list_id
        self.folder.subscribe(list_id, found.contact_id, status)
        self.world.left.discard((found.contact_id, list_id))
        self.unseen.add(found.contact_id)

    @rule(who=people, status=statuses)
    def has_another_status(self, who: int, status: str) -> None:
        """A person opts out of everything, bounces, or is reachable again."""
        found = self.remote(who)
        if found is None or found.contact_id in self.unseen or found.status == status:
            return
        found.status = status
        if status in STOPPING:
            self.world.blocked.add(found.contact_id)
        else:
            self.world.blocked.discard(found.contact_id)
            self.unseen.add(found.contact_id)

    @rule(
        who=people,
        name=st.sampled_from(["firstName", "city", "loyaltytier", "prefix", "note"]),
        text=st.sampled_from(["x", "y", ""]),
    )
    def is_edited(self, who: int, name: str, text: str) -> None:
        """The owner edits a field in iContact, or empties it."""
        found = self.remote(who)
        if found is not None:
            found.values[name] = text

    @rule(who=people)
    def changes_address_there(self, who: int) -> None:
        """A person gets another address at iContact."""
        found = self.remote(who)
        if found is not None:
            self.count += 1
            email = f"t{who}.{self.count}@shop.example"
            self.folder.change_email(found, email)
            self.addresses[who].insert(0, email)

    @rule(who=people)
    def is_deleted(self, who: int) -> None:
        """The owner deletes a person in iContact."""
        found = self.remote(who)
        # Deleted, taken back and deleted again while nobody looked is deleted once.
        if found is None or found.contact_id in self.unseen:
            return
        with self.app.runtime.database.read() as transaction:
            linked = transaction.execute(
                select(remote_contacts.c.contact_id).where(
                    remote_contacts.c.remote_id == found.contact_id,
                    remote_contacts.c.contact_id != 0,
                    ~remote_contacts.c.alias,
                )
            ).scalar()
        self.folder.delete_contact(found)
        self.world.blocked.discard(found.contact_id)
        if linked:
            self.world.gone.add(found.contact_id)

    @rule(who=people)
    def comes_back(self, who: int) -> None:
        """The owner takes a deletion back; opt-outs are as they were."""
        found = self.folder.find(self.addresses[who][-1])
        if found is not None and found.status == "deleted":
            found.status = "normal"
            self.world.gone.discard(found.contact_id)
            self.unseen.add(found.contact_id)

    @rule(who=people, on=memberships)
    def is_made_again(self, who: int, on: dict[str, str]) -> None:
        """A deleted person is purged, and made again under another number."""
        found = self.folder.find(self.addresses[who][-1])
        if found is None or found.status != "deleted":
            return
        for row in list(self.folder.rows_of_contact(found.contact_id).values()):
            self.folder.drop_subscription(row)
        self.folder.change_email(found, f"purged.{found.contact_id}@shop.example")
        del self.folder.contacts[found.contact_id]
        self.world.gone.discard(found.contact_id)
        self.was_there_before(who, "normal", on)

    # -- pulling

    @rule(
        full=st.booleans(),
        accept=st.booleans(),
        pages=st.sampled_from([None, None, None, 1, 2, 4]),
        kill=many_effects,
        event=meanwhiles,
    )
    def is_pulled(
        self,
        full: bool,
        accept: bool,
        pages: int | None,
        kill: int | None,
        event: Any,
    ) -> None:
        """The people of iContact are pulled, whole or in part; or it dies."""
        self.pull(full=full, accept=accept, pages=pages, kill=kill, event=event)

    def pull(
        self,
        *,
        full: bool = False,
        accept: bool = False,
        pages: int | None = None,
        kill: int | None = None,
        event: Any = None,
    ) -> Synced | None:
        """Pull, and look at what it did."""
        of = self.state().id
        left = [pages]

        def over() -> bool:
            if left[0] is not None:
                left[0] -= 1
            return left[0] is not None and left[0] < 0

        manner = Manner(patient=True, by_hand=True, stopping=over)
        done: list[Synced] = []

        def work(app: TestApp) -> None:
            done.append(sync(app.runtime, of, full=full, accept=accept, manner=manner))

        was_out, start = self.out(), self.world.clock()
        with self.app.runtime.database.read() as transaction:
            begun = open_run(transaction, of)
        before, newest = self.locals(), self.newest_event()
        with self.meanwhile(event):
            lived = self.live(kill, work)
        self.follows_no_push(newest)
        if not lived or not done:
            return None
        [synced] = done
        if event is None:
            self.only_pulled_changed(before)
        # What was read before it stopped was read before the last opt-outs.
        is_whole = synced.run is not None and (
            begun is None or synced.run.id != begun.id
        )
        if synced.stopped == "done" and is_whole:
            self.every_opt_out_is_known(was_out & self.out(), start)
            if event is None and not self.lies:
                self.unseen = set()
        return synced

    def out(self) -> set[tuple[str, str]]:
        """Return (remote id, list id or status) of everybody who is out there."""
        found: set[tuple[str, str]] = set()
        for contact in self.folder.contacts.values():
            if contact.status in STOPPING:
                found.add((contact.contact_id, contact.status))
            for list_id, row in self.folder.rows_of_contact(contact.contact_id).items():
                if row.status == "unsubscribed":
                    found.add((contact.contact_id, list_id))
        return found

    def every_opt_out_is_known(self, out: set[tuple[str, str]], since: Any) -> None:
        """What a finished pull showed forbids, or was answered by a later consent."""
        place = self.world.sim.account_id
        with self.app.runtime.database.read() as transaction:
            rows = {
                row.remote_id: row
                for row in transaction.execute(select(remote_contacts)).all()
                if row.contact_id
            }
            for id_, what in sorted(out):
                row = rows.get(id_)
                if row is None:
                    continue
                if what in STOPPING and id_ not in self.world.blocked:
                    continue
                if what not in STOPPING and (id_, what) not in self.world.left:
                    continue
                if row.first_seen_at is not None and row.first_seen_at > since:
                    continue
                stops = find_suppressions(transaction, {row.contact_id: [row.email]})
                known = any(
                    is_against(stop, place, what)
                    for stop in stops.get(row.contact_id, [])
                )
                assert known, f"{id_} is out of {what}, and nobody knows: {row}"

    def locals(self) -> dict[int, dict[str, str]]:
        """Return the fields of everybody who is somebody."""
        with self.app.runtime.database.read() as transaction:
            found = transaction.execute(
                select(contacts).where(
                    contacts.c.merged_into.is_(None), contacts.c.erased_at.is_(None)
                )
            ).mappings()
            return {
                row["id"]: {
                    **{name: row[name] or "" for name in TEXTS},
                    "tier": (row["custom"] or {}).get("tier") or "",
                }
                for row in found
            }

    def only_pulled_changed(self, before: dict[int, dict[str, str]]) -> None:
        """A field that is only pushed, or not mapped, is ours alone."""
        pulled = {line[0] for line in MAPS[self.world.which].values()}
        pulled -= {
            line[0] for line in MAPS[self.world.which].values() if line[1] == "push"
        }
        after = self.locals()
        if len(before.keys() & after.keys()) != len(before):
            return  # some turned out to be one
        for id_, old in before.items():
            for name in {"first_name", "city", "tier"} - pulled:
                assert old[name] == after[id_][name], f"{id_}: {name} was pulled"

    def newest_event(self) -> int:
        """Return the number of the last event."""
        with self.app.runtime.database.read() as transaction:
            return transaction.execute(select(func.max(events.c.id))).scalar() or 0

    def follows_no_push(self, newest: int) -> None:
        """What was pulled is not pushed back to where it came from."""
        of = self.state().id
        with self.app.runtime.database.read() as transaction:
            back = transaction.execute(
                select(pushes.c.id)
                .join(causes, causes.c.push_id == pushes.c.id)
                .join(events, events.c.id == causes.c.event_id)
                .where(
                    events.c.source == "pull",
                    events.c.id > newest,
                    pushes.c.connection_id == of,
                )
            ).all()
        assert back == [], "a pull was pushed back"

    @rule(who=people, segment=segments)
    def is_pointed_at(self, who: int, segment: str) -> None:
        """A webhook reports that something happened to a person."""
        found = self.remote(who)
        if found is None:
            return
        of, now = self.state().id, self.world.clock()
        row: dict[str, Any] = {
            "connection_id": of,
            "remote_id": found.contact_id,
            "segments": [self.folder.list_named(segment).list_id],
            "tries": 0,
            "due_at": now,
            "created_at": now,
        }

        def point(transaction: Transaction) -> None:
            there = select(hints).where(hints.c.remote_id == found.contact_id)
            if transaction.execute(there).first() is None:
                transaction.execute(insert(hints), row)

        self.app.runtime.database.run(point)

    @rule(kill=many_effects, event=meanwhiles)
    def what_is_due_is_pulled(self, kill: int | None, event: Any) -> None:
        """The scheduler pulls what is due, and reads whom somebody pointed at."""
        newest = self.newest_event()
        with self.meanwhile(event):
            self.live(kill, lambda app: pull_due(app.runtime))
        self.follows_no_push(newest)

    @rule(how=st.sampled_from(["emptied", "shrunken"]), accept=st.booleans())
    def is_emptied(self, how: str, accept: bool) -> None:
        """The folder is empty all at once, or nearly: a person is asked first."""
        folder = self.folder
        if len(self.linked()) <= CROWD:
            return
        self.tell_the_truth()
        self.mend()
        self.world.clock.tick(timedelta(hours=1))
        self.quiet_pull()
        linked = self.linked()
        mine = [one for one in folder.contacts.values() if one.status != "deleted"]
        there = [one for one in mine if one.contact_id in linked]
        if len(there) <= CROWD:
            return
        hidden = mine if how == "emptied" else mine[: CROWD - 2]
        kept = {one.contact_id: one for one in hidden}
        for id_ in kept:
            del folder.contacts[id_]
        stops = self.active_ids()
        people = set(self.locals())
        synced = self.pull(full=accept)
        assert synced is not None
        assert synced.stopped == "asks", synced
        assert self.active_ids() == stops
        assert set(self.locals()) == people
        everybody = {**folder.contacts, **kept}
        folder.contacts.clear()
        folder.contacts.update(sorted(everybody.items()))

    def linked(self) -> set[str]:
        """Return the remote ids that are ours and believed to be there."""
        with self.app.runtime.database.read() as transaction:
            found = select(remote_contacts.c.remote_id).where(
                remote_contacts.c.contact_id != 0,
                remote_contacts.c.status != "deleted",
                remote_contacts.c.connection_id == self.state().id,
            )
            return set(transaction.execute(found).scalars())

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
        after=st.integers(0, 3),
        status=st.sampled_from([400, 401, 403, 404, 500, 502]),
        times=st.integers(1, 3),
    )
    def something_breaks(self, kind: str, **how: Any) -> None:
        """The next requests of a kind go wrong."""
        self.world.sim.fail(kind, **how)

    @rule(
        total=st.sampled_from(["right", "page", "low", "high", "absent"]),
        orderby=st.sampled_from(["honoured", "ignored", "warning"]),
        twice=st.sampled_from([0, 0, 2]),
    )
    def pages_lie(self, total: str, orderby: str, twice: int) -> None:
        """Totals are wrong, rows are mixed or come twice."""
        if self.world.sim.switches.max_limit == 3:
            total = "right"
        self.world.sim.set(total=total, orderby=orderby, duplicate_rows=twice)
        self.lies = orderby != "honoured" or total != "right"

    @rule(by=st.sampled_from([1, 30, 400, 4_000, 40_000, 90_000]))
    def time_passes(self, by: int) -> None:
        """Nothing happens for a while."""
        self.world.clock.tick(by)

    @rule(days=st.sampled_from([25, 235]))
    def clocks_change(self, days: int) -> None:
        """It is the night before summer time begins, or ends."""
        start = self.world.clock().replace(hour=22, minute=0)
        self.world.clock.tick(start - self.world.clock() + timedelta(days=days))

    @rule(kill=many_effects, event=meanwhiles)
    def is_delivered(self, kill: int | None, event: Any) -> None:
        """A worker sends what is due, or dies on the way."""
        self.process.calls = 0
        with self.meanwhile(event):
            self.live(kill, lambda app: app.deliver())

    @rule()
    def all_is_mended(self) -> None:
        """Whatever was broken works again, and the operator says so."""
        self.mend()
        self.world.clock.tick(timedelta(hours=1))

    def mend(self) -> None:
        """Mend everything, and resume what was paused."""
        self.world.sim.clear_faults()
        runtime = self.app.runtime
        for name in ("small", "other"):
            with runtime.database.read() as transaction:
                state = named(transaction, name)
            if state.paused_code:
                resume(runtime, state.id)

    # -- what must hold

    @invariant()
    def nothing_is_broken(self) -> None:
        """No request and no delivery did what must never happen."""
        if hasattr(self, "world"):
            STEPS[0] += 1
            assert self.world.broken == [], self.world.broken

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """No opt-out vanishes, no field is blanked, nobody is there twice."""
        if not hasattr(self, "process") or self.checked == self.world.writes:
            return
        self.checked = self.world.writes
        with self.app.runtime.database.read() as transaction:
            active = {
                key_of(row): row.reason
                for row in transaction.execute(
                    select(suppressions).where(suppressions.c.lifted_at.is_(None))
                ).all()
            }
            twice = transaction.execute(
                select(remote_contacts.c.contact_id)
                .where(remote_contacts.c.contact_id != 0, ~remote_contacts.c.alias)
                .group_by(remote_contacts.c.connection_id, remote_contacts.c.contact_id)
                .having(func.count() > 1)
            ).all()
        lost = {key: why for key, why in self.must.items() if key not in active}
        assert lost == {}, "an opt-out was forgotten"
        self.must = active
        assert twice == [], f"linked to two remote contacts each: {twice}"
        after = self.locals()
        mine = [row["email"] for row in after.values() if row["email"]]
        assert len(mine) == len(set(mine)), f"two contacts of one address: {mine}"
        for id_, row in after.items():
            for name, text in self.before.get(id_, {}).items():
                assert row[name] or not text, f"{id_}: {name} was {text}"
        self.before = after

    def come_to_an_end(self) -> None:
        """Mend everything, pull, deliver: the next pull changes nothing."""
        self.mend()
        self.tell_the_truth()
        self.wait_for_the_end()
        self.quiet_pull()
        self.wait_for_the_end()
        # Who took the place of a deleted one of the same contact is read once more.
        self.quiet_pull()
        self.wait_for_the_end()
        before, active = self.locals(), self.active_ids()
        newest = self.newest_event()
        synced = self.quiet_pull()
        counts = synced.run.counts if synced.run is not None else {}
        assert self.locals() == before, f"pulling again changed something: {counts}"
        assert self.active_ids() == active, f"opt-outs at rest: {counts}"
        assert self.newest_event() == newest
        assert self.world.broken == [], self.world.broken

    def tell_the_truth(self) -> None:
        """Let pages be as they ought to be."""
        self.world.sim.set(total="right", orderby="honoured", duplicate_rows=0)
        self.lies = False

    def quiet_pull(self) -> Synced:
        """Pull to the end, by a pull that began after all that happened."""
        self.world.clock.tick(1)
        for _ in range(6):
            start = self.world.clock()
            synced = self.pull(accept=True)
            run = synced.run if synced is not None else None
            is_whole = run is not None and run.started_at >= start
            if synced is not None and is_whole and synced.stopped == "done":
                return synced
            self.world.clock.tick(timedelta(hours=6))
        pytest.fail(f"the pull does not end: {synced}")

    def wait_for_the_end(self) -> None:
        """Let days pass until nothing is due any more."""
        for _ in range(14):
            self.is_delivered(None, None)
            left = [row for row in self.app.queued if row["due_at"] is not None]
            if not left:
                return
            self.world.clock.tick(timedelta(hours=12))
        pytest.fail(f"still waiting after a week: {left}")


def key_of(row: Any) -> Key:
    """Return what tells a suppression from others."""
    where = row.address_hash or f"contact {row.contact_id}"
    return (where, row.scope, row.identity, row.segment, row.code)


def is_against(stop: Stop, account: str, what: str) -> bool:
    """Tell whether a suppression forbids a list, or follows from a status."""
    if stop.lifted_at is not None:
        return False
    if stop.scope == "address":
        return True
    here = f"/{account}/" in f"{stop.identity}/"
    return here and (stop.scope == "connection" or stop.segment == what)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.nightly]),
    ]
)
def fresh(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], str]]:
    """Makes a migrated database for one machine; the one before is gone by then."""
    if request.param == "sqlite":
        migrated = request.getfixturevalue("migrated_sqlite").read_bytes()

        def copy(folder: Path) -> str:
            (folder / "onward.db").write_bytes(migrated)
            return f"sqlite:///{folder / 'onward.db'}"

        yield copy
        return
    server = request.getfixturevalue("postgres")
    template = request.getfixturevalue("migrated_postgres")
    made: list[str] = []

    def create(folder: Path) -> str:
        while made:
            server.drop(made.pop())
        made.append(server.create(template))
        return str(server.url(made[0]))

    yield create
    server.drop(made.pop())


@pytest.mark.slow
def test_an_opt_out_is_never_forgotten(
    fresh: Callable[[Path], str], request: pytest.FixtureRequest
) -> None:
    """Whatever happens in whatever order; how many steps it took is told at the end."""
    is_night = settings().max_examples > BY_DAY
    is_night_on_sqlite = is_night and "sqlite" in request.node.name
    before = STEPS[0]
    Machine.database = staticmethod(fresh)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            # More than 100,000 steps by night, and some on PostgreSQL.
            max_examples=1_120 if is_night_on_sqlite else 60 if is_night else 4,
            stateful_step_count=100 if is_night else 30,
            deadline=None,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.function_scoped_fixture,
            ],
        ),
    )
    taken = STEPS[0] - before
    request.node.user_properties.append(("steps", taken))
    assert taken > 50
