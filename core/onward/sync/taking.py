"""Take what a service shows of its contacts over into ours, a page at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward import remote
from onward.connections.state import State
from onward.contacts.erased import erased_addresses
from onward.contacts.facts import Facts, load_facts
from onward.contacts.input import find_contacts
from onward.contacts.release import lock_contacts
from onward.contacts.suppress import OptOut, Stop, add_suppressions, find_suppressions
from onward.contract import Membership, RemoteContact
from onward.errors import Repeat
from onward.events.action import Action, Recorded
from onward.events.record import Recorder
from onward.models import RemoteContactRow, table
from onward.remote import DELETED, Snapshot
from onward.sql import Among
from onward.sync.differing import CLASH, differences
from onward.sync.optouts import Place, learned, note
from onward.sync.shown import address_of, each_once, fingerprint, is_person
from onward.sync.values import PullMap, Same, for_known, for_new

rows = table(RemoteContactRow)

SOURCE = "pull"
# What becomes of a row, counted under these words.
CREATED, LINKED, CHANGED, UNCHANGED = "created", "linked", "changed", "unchanged"
CLASHES, ERASED, UNFIT, GONE = "clashes", "erased", "unfit", "deleted"
# Of people known before: what the share-of-change limit is about.
STOPPED, ALTERED = "stopped", "altered"
OPT_OUTS = {
    "do_not_contact": "do_not_contact",
    "bounced": "bounced",
    "unsubscribed": "unsubscribed",
    DELETED: GONE,
}

_PULLED = Among(
    select(rows.c.remote_id, rows.c.pulled).where(
        rows.c.connection_id == bindparam("of"),
        rows.c.remote_id.in_(bindparam("among", expanding=True)),
    )
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all pages of one pull.

    Args:
        fire: let what comes with it lead to actions, for rules.
        full: apply each row, whatever was pulled before.
    """

    state: State
    pull: PullMap
    place: Place
    recorder: Recorder
    same: Same
    email_field: str
    fire: bool = False
    full: bool = False


@dataclass(slots=True)
class Taken:
    """What a page led to.

    Args:
        recorded: to be announced after the commit.
        notes: what a person should look at: kind, remote id, sentence.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    recorded: Recorded = field(default_factory=lambda: Recorded([]))
    notes: list[tuple[str, str, str]] = field(
        default_factory=list[tuple[str, str, str]]
    )


@dataclass(slots=True)
class _Row:
    """One row that is looked at.

    Args:
        contact_id: whose it is; 0 = nobody's yet.
        base: what the service had, as far as both sides agreed.
        was_ours: it was linked before this page.
        agreed: remote names whose values ours took over.
    """

    record: RemoteContact
    snapshot: Snapshot
    email: str
    mark: str
    contact_id: int = 0
    base: Mapping[str, str] = field(default_factory=dict[str, str])
    was_ours: bool = False
    was_known: bool = False
    agreed: Sequence[str] = ()
    clash: str = ""


def take(
    transaction: Transaction,
    terms: Terms,
    records: Iterable[RemoteContact],
    now: datetime,
    *,
    whole: bool = False,
) -> Taken:
    """Bring rows of a service into our contacts, in the caller's transaction.

    Who a row is: by its remote id, else by address, else somebody new. Blanks never
    erase, an opt-out is stored in its scope, an address that is another contact's is
    reported and never taken.

    Args:
        whole: each was read by itself, with all its fields.

    Raises:
        Repeat: somebody else changed one of them; run the transaction again.
    """
    people: list[RemoteContact] = []
    members: list[RemoteContact] = []
    for one in each_once(records):
        (people if is_person(one) else members).append(one)
    work = _Taking(transaction, terms, now, whole=whole)
    work.people(people)
    work.members(members)
    return work.taken


class _Taking:
    def __init__(
        self, transaction: Transaction, terms: Terms, now: datetime, *, whole: bool
    ) -> None:
        self.transaction = transaction
        self.terms = terms
        self.of = terms.state.id
        self.now = now
        self.whole = whole
        self.taken = Taken()
        # Remote id → the address of its row; "" when it has none.
        self.addresses: dict[str, str] = {}
        # Remote contacts of no row here that changed places with one that is.
        self.replaced: list[Snapshot] = []

    # -- rows of people

    def people(self, records: Sequence[RemoteContact]) -> None:
        """Bring in everybody whose row is not as it was pulled last."""
        version = self.terms.pull.version
        marks = {one.remote_id: fingerprint(one, version) for one in records}
        if not self.terms.full and not self.whole:
            seen = _PULLED(self.transaction, list(marks), self.of)
            same = {id_ for id_, pulled in seen if pulled == marks[id_]}
            self.taken.counts[UNCHANGED] += len(same)
            # A push may have changed since what is noted of their memberships.
            known = [one for one in records if one.segments and one.remote_id in same]
            self.members(
                [replace(one, email="", status="", fields={}) for one in known]
            )
            records = [one for one in records if one.remote_id not in same]
        if records:
            self._bring(self._look_up(records, marks))

    def _look_up(
        self, records: Sequence[RemoteContact], marks: Mapping[str, str]
    ) -> list[_Row]:
        """Find whose each row is; hold these contacts and remote contacts."""
        self.addresses = {one.remote_id: address_of(one) for one in records}
        known, owners = self._whose(records, hold=False)
        if self.transaction.dialect.name == "postgresql":
            mine = {one.contact_id for one in known.values()} | set(owners.values())
            lock_contacts(self.transaction, mine - {0})
            again, still = self._whose(records, hold=True)
            if still != owners or any(
                one.contact_id != known[id_].contact_id
                for id_, one in again.items()
                if id_ in known
            ):
                raise Repeat
            known = again
        return [
            row
            for record in records
            if (row := self._row(record, known, owners, marks)) is not None
        ]

    def _whose(
        self, records: Sequence[RemoteContact], *, hold: bool
    ) -> tuple[dict[str, Snapshot], dict[str, int]]:
        ids = [one.remote_id for one in records]
        known = remote.by_ids(self.transaction, self.of, ids, hold=hold)
        emails = set(self.addresses.values()) - {""}
        owners = find_contacts(self.transaction, sorted(emails), missing_ok=True)
        return known, owners

    def _row(
        self,
        record: RemoteContact,
        known: Mapping[str, Snapshot],
        owners: Mapping[str, int],
        marks: Mapping[str, str],
    ) -> _Row | None:
        counts, id_ = self.taken.counts, record.remote_id
        snapshot = known.get(id_) or Snapshot.unknown(id_)
        email = self.addresses[id_]
        if record.email and not email:
            counts[UNFIT] += 1
            self._note(UNFIT, id_, "its address is no e-mail address")
        row = _Row(record, snapshot, email, marks[id_])
        if snapshot.contact_id:
            row.contact_id, row.was_ours = snapshot.contact_id, True
            row.base = {} if snapshot.unsure else snapshot.values
        elif record.status == DELETED or not email:
            return None  # nobody of ours
        else:
            row.contact_id = owners.get(email, 0)
            counts[LINKED] += bool(row.contact_id)
        return row

    def _bring(self, found: Sequence[_Row]) -> None:
        found = self._without_erased(found)
        ids = sorted({row.contact_id for row in found} - {0})
        facts = load_facts(self.transaction, ids, lists=False)
        linked = remote.ours(self.transaction, self.of, ids, hold=True)
        for row in found:
            row.was_known = row.was_ours or row.contact_id in linked
        actions = [self._action(row, facts) for row in found]
        todo = [(row, one) for row, one in zip(found, actions, strict=True) if one]
        if todo:
            recorded = self.terms.recorder.record(
                self.transaction, [one for _, one in todo], self.now
            )
            self._count(todo, recorded)
            self.taken.recorded = recorded
            if recorded.merged:
                linked = self._after_merges(found)
        self._link(found, linked)
        self._save(found)

    def _without_erased(self, found: Sequence[_Row]) -> Sequence[_Row]:
        """Leave out whom the pull must not bring back."""
        new = [row.email for row in found if not row.contact_id]
        blocked = erased_addresses(self.transaction, new) if new else set[str]()
        if not blocked:
            return found
        kept = [row for row in found if row.contact_id or row.email not in blocked]
        self.taken.counts[ERASED] += len(found) - len(kept)
        # If they come back by themselves, it is as if they had never been here: what
        # they decided there is known.
        place = self.terms.place
        optouts = [
            one
            for row in found
            if not row.contact_id and row.email in blocked
            for one in learned(place, row.snapshot, row.record, (), row.email)
        ]
        add_suppressions(self.transaction, optouts, self.now)
        return kept

    def _action(self, row: _Row, facts: Mapping[int, Facts]) -> Action | None:
        """Return what is to be written of a contact, None when nothing is."""
        terms, record = self.terms, row.record
        if row.snapshot.alias:
            return None
        if not row.contact_id:
            choice = for_new(terms.pull, record.fields)
            choice.data.email = row.email
        elif (ours := facts.get(row.contact_id)) is None:
            return None
        else:
            choice = for_known(terms.pull, record.fields, row.base, ours, terms.same)
            choice.data.email = self._new_address(row, ours)
        row.agreed = choice.taken
        for why in choice.unfit:
            self.taken.counts[UNFIT] += 1
            self._note(UNFIT, record.remote_id, why)
        if row.contact_id and choice.is_empty and not choice.data.email:
            return None
        return Action(
            "",
            choice.data,
            source=SOURCE,
            actor=terms.state.name,
            quiet=not terms.fire,
            about=row.contact_id,
            origin=self.of,
        )

    def _new_address(self, row: _Row, ours: Facts) -> str:
        """Return the address a contact has from now on; "" = the one it has."""
        mine: str = ours["email"] or ""
        if not row.email or row.email == mine or not self.terms.pull.email:
            return ""
        if row.was_ours and mine and mine != row.snapshot.email:
            return ""  # ours changed as well, and is pushed
        if not row.was_ours and mine:
            return ""  # found by an address it had before
        owner = find_contacts(self.transaction, [row.email], missing_ok=True)
        other = owner.get(row.email, 0)
        if other in (0, row.contact_id):
            blocked = erased_addresses(self.transaction, [row.email])
            return "" if row.email in blocked else row.email
        if not mine:
            return row.email  # a visitor, who turns out to be that person
        row.clash = f"its address is that of contact {other}"
        return ""

    def _count(self, todo: Sequence[tuple[_Row, Action]], recorded: Recorded) -> None:
        counts = self.taken.counts
        changed = {*recorded.changed, *recorded.touched}
        for (row, _), result in zip(todo, recorded.results, strict=True):
            if not row.contact_id and result.created:
                counts[CREATED] += 1
            elif result.contact_id in changed:
                counts[CHANGED] += 1
                # What is read by itself for the first time was so before.
                is_first = self.whole and row.snapshot.fetched_at is None
                counts[ALTERED] += row.was_known and not is_first
            row.contact_id = result.contact_id

    def _after_merges(self, found: Sequence[_Row]) -> dict[int, Snapshot]:
        """Read once more what merging linked otherwise; return who is whose."""
        merged = {loser: survivor for survivor, loser in self.taken.recorded.merged}
        ids = [row.record.remote_id for row in found]
        there = remote.by_ids(self.transaction, self.of, ids)
        for row in found:
            while row.contact_id in merged:
                row.contact_id = merged[row.contact_id]
            if (now := there.get(row.record.remote_id)) is not None:
                row.snapshot.contact_id, row.snapshot.alias = now.contact_id, now.alias
        who = sorted({row.contact_id for row in found} - {0})
        return remote.ours(self.transaction, self.of, who)

    def _link(self, found: Sequence[_Row], linked: dict[int, Snapshot]) -> None:
        """Note whose each row is; one remote contact of each is the one written to."""
        # The same rows: what is noted of one must not be saved over by the other.
        here = {row.record.remote_id: row for row in found}
        for contact_id, known in linked.items():
            if known.remote_id in here:
                linked[contact_id] = here[known.remote_id].snapshot
        shown = {id_ for id_, row in here.items() if row.record.status != DELETED}
        gone = here.keys() - shown
        for row in found:
            snapshot = row.snapshot
            snapshot.contact_id = row.contact_id
            if row.was_ours:
                continue
            other = linked.get(row.contact_id)
            if other is None or other.remote_id == snapshot.remote_id:
                linked[row.contact_id] = snapshot
            elif other.remote_id in shown or (
                other.status != DELETED and other.remote_id not in gone
            ):
                snapshot.alias = True
                row.clash = f"{other.remote_id} is the same contact's already"
            else:
                # Deleted and made again there; what was noted of it stays with it.
                other.alias = True
                self.replaced.append(other)
                if other.status == DELETED:
                    snapshot.status = remote.BACK
                linked[row.contact_id] = snapshot
        self._replace(here, gone)

    def _replace(self, here: Mapping[str, _Row], gone: Collection[str]) -> None:
        """Let another remote contact of somebody take the place of one that went.

        Deleted and made again there is not deleted: the person is there.
        """
        main = [
            here[id_]
            for id_ in gone
            if here[id_].was_ours and not here[id_].snapshot.alias
        ]
        if not main:
            return
        who = sorted({row.contact_id for row in main if row.snapshot.status != DELETED})
        alive = remote.living_aliases(self.transaction, self.of, who)
        for row in main:
            other = alive.get(row.contact_id)
            if other is None or other.remote_id in gone:
                continue
            if other.remote_id in here:
                other = here[other.remote_id].snapshot
            other.alias, row.snapshot.alias = False, True
            other.pulled = ""  # its fields were not taken over yet
            self.replaced.append(other)

    def _save(self, found: Sequence[_Row]) -> None:
        terms = self.terms
        stops = self._stops(found)
        optouts: list[OptOut] = []
        saved: dict[str, Snapshot] = {}
        for row in found:
            snapshot, record = row.snapshot, row.record
            if not snapshot.contact_id:
                continue
            if not row.was_ours and snapshot.segments:
                # What was learned before anybody knew whose it is.
                before = cast("dict[str, Membership]", snapshot.segments)
                record = replace(record, segments={**before, **record.segments})
            mine = stops.get(snapshot.contact_id, ())
            # A permission answered what was noted of this contact, not of another.
            noted = snapshot if row.was_ours else snapshot.forgotten
            email = row.email or snapshot.email
            news = learned(terms.place, noted, record, mine, email)
            self._count_opt_outs(news, row)
            optouts += news
            looked = snapshot.looks if self.whole else ()
            note(snapshot, record)
            self._show(row)
            if self.whole:
                snapshot.compare(looked)
            if row.clash:
                snapshot.pulled = ""  # looked at again, until it is over
                self.taken.counts[CLASHES] += 1
                self._note(CLASHES, record.remote_id, row.clash)
            snapshot.differs = differences(
                terms.state, snapshot, [*mine], terms.same, terms.email_field
            ) | (CLASH if row.clash else 0)
            saved[snapshot.remote_id] = snapshot
        add_suppressions(self.transaction, optouts, self.now)
        for other in self.replaced:
            saved.setdefault(other.remote_id, other)
        remote.save(self.transaction, self.of, saved.values(), self.now)

    def _stops(self, found: Sequence[_Row]) -> dict[int, list[Stop]]:
        who: dict[int, Sequence[str]] = {
            row.contact_id: [row.email] for row in found if row.contact_id
        }
        return find_suppressions(self.transaction, who)

    def _count_opt_outs(self, news: Sequence[OptOut], row: _Row) -> None:
        for one in news:
            self.taken.counts[OPT_OUTS[one.code]] += 1
        if news and row.was_known:
            self.taken.counts[STOPPED] += 1

    def _show(self, row: _Row) -> None:
        """Keep what the service shows; another way of writing the same is the same."""
        snapshot, record, same = row.snapshot, row.record, self.terms.same
        values = {**record.fields}
        for name, old in snapshot.values.items():
            text = values.get(name)
            if text is None or (old != text and same(name, old, text)):
                values[name] = old
        snapshot.values = values
        if snapshot.written is not None:
            agreed = {n: values[n] for n in row.agreed if n in snapshot.written}
            snapshot.written = {**snapshot.written, **agreed}
        snapshot.email = row.email or snapshot.email
        snapshot.created_at = record.created_at or snapshot.created_at
        snapshot.first_seen_at = snapshot.first_seen_at or self.now
        if self.whole:
            snapshot.fetched_at = self.now
        else:
            snapshot.pulled = row.mark

    # -- rows of memberships

    def members(self, records: Sequence[RemoteContact]) -> None:
        """Note memberships; of those who left, also the opt-out."""
        if not records:
            return
        ids = [one.remote_id for one in records]
        known = remote.by_ids(self.transaction, self.of, ids)
        news = [one for one in records if _is_news(one, known.get(one.remote_id))]
        if not news:
            return
        ids = [one.remote_id for one in news]
        mine = {known[id_].contact_id for id_ in ids if id_ in known}
        lock_contacts(self.transaction, mine - {0})
        known = remote.by_ids(self.transaction, self.of, ids, hold=True)
        self._save([self._membership(one, known.get(one.remote_id)) for one in news])
        strangers: list[Snapshot] = []
        for one in news:
            snapshot = known.get(one.remote_id) or Snapshot.unknown(one.remote_id)
            if not snapshot.contact_id:
                note(snapshot, one)
                strangers.append(snapshot)
        remote.save(self.transaction, self.of, strangers, self.now)

    def _membership(self, record: RemoteContact, known: Snapshot | None) -> _Row:
        snapshot = known or Snapshot.unknown(record.remote_id)
        row = _Row(record, snapshot, snapshot.email, snapshot.pulled)
        row.contact_id, row.was_ours = snapshot.contact_id, True
        row.was_known = True
        return row

    def _note(self, kind: str, remote_id: str, why: str) -> None:
        self.taken.notes.append((kind, remote_id, why))


def _is_news(record: RemoteContact, known: Snapshot | None) -> bool:
    if known is None:
        return True
    return any(
        known.segments.get(segment, "none") != membership
        for segment, membership in record.segments.items()
    )
