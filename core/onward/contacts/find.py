"""Find the contact behind some identities, or create it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, bindparam, insert, select, update

from onward.contacts.facts import TEXT_NAMES
from onward.contacts.given import ContactData
from onward.contacts.release import lock_contacts, release
from onward.errors import Repeat
from onward.models import Contact, Identity, table
from onward.sql import Among, Rows, draw_ids

contacts = table(Contact)
identities = table(Identity)

# An address is the person. So is, less surely, the name a system gives them
# (`user`, `mautic`, …). A visitor id is only a browser, which several may use.
EMAIL = "email"
WEAK = "visitor"
STRENGTH = (EMAIL, "user")

# merge(survivor, loser): see onward.merge; handed in, so that finding a
# contact does not depend on what must be moved when two turn out to be one.
Merge = Callable[[int, int], None]
Key = tuple[str, str]

# Shared, so that it is made ready for the database once.
_NOTHING: Mapping[str, object] = {}

_FIND = Among(
    select(identities.c.value, identities.c.contact_id).where(
        identities.c.kind == bindparam("kind"),
        identities.c.value.in_(bindparam("among", expanding=True)),
    )
)
_EMAILS = select(contacts.c.id, contacts.c.email).where(
    contacts.c.id.in_(bindparam("ids", expanding=True))
)
_KINDS = (
    select(identities.c.kind)
    .where(identities.c.contact_id == bindparam("contact"), identities.c.kind != WEAK)
    .distinct()
)
_ADD_IDENTITY = Rows(
    lambda insert: insert(identities).on_conflict_do_nothing(), list(identities.c)
)
_POINT_IDENTITY = (
    update(identities)
    .where(identities.c.kind == bindparam("k"), identities.c.value == bindparam("v"))
    .values(contact_id=bindparam("contact"))
)
_SET_EMAIL = (
    update(contacts)
    .where(contacts.c.id == bindparam("contact"))
    .values(email=bindparam("address"), updated_at=bindparam("moment"))
)


@dataclass(slots=True)
class Found:
    """Who some identities turned out to be.

    Args:
        created: the contact is new, and this is the first entry that names it.
        identified: a visitor has an e-mail address now.
        touched: it was recognised by something new.
        written: what was given of it was written when it was created.
    """

    contact_id: int
    created: bool = False
    identified: bool = False
    touched: bool = False
    written: bool = False


class Finder:
    """Finds or creates the contacts of one transaction.

    Args:
        connection: in a write transaction.
        now: the moment new contacts are created at.
        merge: called when two contacts turn out to be one.
    """

    def __init__(self, connection: Connection, now: datetime, merge: Merge) -> None:
        self.connection = connection
        self.now = now
        self.merge = merge
        self.known: dict[Key, int] = {}
        self.emails: dict[int, str | None] = {}
        self._merged: dict[int, int] = {}

    def find_all(
        self,
        wanted: Sequence[Mapping[str, str]],
        given: Mapping[int, int] | None = None,
        data: Sequence[ContactData] = (),
    ) -> list[Found]:
        """Return one answer per entry, in order; entries may repeat.

        Args:
            wanted: identities per contact, kind → value, e-mail lower-cased;
                at least one each.
            given: place of an entry → the contact it is about, known already; its
                identities, if any, belong to that contact from now on.
            data: what is to be written of each, so that those who are new can be
                written at once; see `Found.written`.

        Raises:
            Repeat: another process created or merged one of them just now.
        """
        self._load(wanted)
        answers: list[Found | None] = [None] * len(wanted)
        fresh: dict[tuple[Key, ...], list[int]] = {}
        taken: set[Key] = set()
        for index, entry in enumerate(wanted):
            keys = tuple(sorted(entry.items()))
            if given and index in given:
                self._create(wanted, fresh, answers)
                fresh, taken = {}, set()
                answers[index] = self._settle(entry, Found(given[index]))
            elif keys in fresh:
                fresh[keys].append(index)
            elif any(key in self.known or key in taken for key in keys):
                # It may touch one that is about to be created: those first.
                if any(key in taken for key in keys):
                    self._create(wanted, fresh, answers)
                    fresh, taken = {}, set()
                answers[index] = self._settle(entry)
            else:
                fresh[keys] = [index]
                taken.update(keys)
        # Nobody is merged after this.
        self._create(wanted, fresh, answers, data)
        found = [answer for answer in answers if answer is not None]
        self._follow_merges(found)
        return found

    def _follow_merges(self, found: Sequence[Found]) -> None:
        """Point answers given before a merge of this batch to who survived it."""
        for answer in found:
            while answer.contact_id in self._merged:
                answer.contact_id = self._merged[answer.contact_id]
                answer.created = False

    def _load(self, wanted: Sequence[Mapping[str, str]]) -> None:
        by_kind: dict[str, set[str]] = {}
        for entry in wanted:
            for kind, value in entry.items():
                by_kind.setdefault(kind, set()).add(value)
        self.known = self._look_up(by_kind)
        if self.known and self.connection.dialect.name == "postgresql":
            locked = set(self.known.values())
            lock_contacts(self.connection, locked)
            # Whoever held a lock before us may have merged or created them.
            self.known = self._look_up(by_kind)
            if not locked.issuperset(self.known.values()):
                raise Repeat

    def _look_up(self, by_kind: Mapping[str, Collection[str]]) -> dict[Key, int]:
        known: dict[Key, int] = {}
        for kind, values in by_kind.items():
            for value, owner in _FIND(self.connection, sorted(values), kind):
                known[kind, value] = owner
        return known

    def _create(
        self,
        wanted: Sequence[Mapping[str, str]],
        fresh: Mapping[tuple[Key, ...], list[int]],
        answers: list[Found | None],
        data: Sequence[ContactData] = (),
    ) -> None:
        if not fresh:
            return
        groups = list(fresh.values())
        firsts = [group[0] for group in groups]
        given = [data[place] for place in firsts] if data else []
        named = set[str]().union(*[one.fields for one in given])
        names = tuple([name for name in TEXT_NAMES if name in named])
        is_whole = bool(names) or any(one.custom for one in given)
        ids = draw_ids(self.connection, contacts, len(groups))
        rows: list[tuple[object, ...]] = [
            (
                contact_id,
                wanted[place].get(EMAIL),
                *(_texts(data[place], names) if names else ()),
                0,
                _custom(data[place]) if is_whole else _NOTHING,
                self.now,
                self.now,
            )
            for contact_id, place in zip(ids, firsts, strict=True)
        ]
        _create(names).count(self.connection, rows)
        owned = [
            (kind, value, contact_id)
            for contact_id, group in zip(ids, groups, strict=True)
            for kind, value in wanted[group[0]].items()
        ]
        self._add_identities(owned)
        for contact_id, group in zip(ids, groups, strict=True):
            self.emails[contact_id] = wanted[group[0]].get(EMAIL)
            for place, index in enumerate(group):
                is_first = place == 0
                answers[index] = Found(
                    contact_id, created=is_first, written=is_first and is_whole
                )

    def _add_identities(self, owned: Sequence[tuple[str, str, int]]) -> None:
        # In order, so that two that add the same ones do not deadlock.
        if _ADD_IDENTITY.count(self.connection, sorted(owned)) != len(owned):
            raise Repeat  # another process was first
        for kind, value, contact_id in owned:
            self.known[kind, value] = contact_id

    # -- identities of which at least one is known

    def _settle(self, entry: Mapping[str, str], given: Found | None = None) -> Found:
        kinds = sorted(entry, key=_weakness)
        found = given or self._owner(entry, kinds)
        for kind in kinds:
            self._attach(found, kind, entry[kind])
        return found

    def _owner(self, entry: Mapping[str, str], kinds: Sequence[str]) -> Found:
        """Return whose entry this is: the strongest known identity decides."""
        for kind in kinds:
            owner = self.known.get((kind, entry[kind]))
            if owner is None or (kind == WEAK and self._differs(owner, kinds)):
                continue
            return Found(owner)
        # The same browser, another person.
        answers: list[Found | None] = [None]
        own = {kind: entry[kind] for kind in kinds if kind != WEAK}
        self._create([own], {tuple(own.items()): [0]}, answers)
        [answer] = answers
        assert answer is not None  # noqa: S101 - it was just created
        return answer

    def _differs(self, contact_id: int, kinds: Collection[str]) -> bool:
        """Tell whether a contact known by its browser has another name already.

        Called when none of the names in the entry is known: whoever has a name
        of the same kind is somebody else.
        """
        names = [kind for kind in kinds if kind != WEAK]
        return bool(names) and not self._names(contact_id).isdisjoint(names)

    def _names(self, contact_id: int) -> set[str]:
        """Return the kinds of identities, browsers apart, that a contact has."""
        return set(self.connection.execute(_KINDS, {"contact": contact_id}).scalars())

    def _attach(self, found: Found, kind: str, value: str) -> None:
        survivor = found.contact_id
        owner = self.known.get((kind, value))
        if owner == survivor:
            return
        found.touched = True
        if owner is None:
            if kind == EMAIL:
                self._give_address(found, value)
            else:
                self._add_identities([(kind, value, survivor)])
        elif kind != WEAK or self._is_nobody_else(owner, survivor):
            self._merge(found, owner)
        else:
            self.connection.execute(
                _POINT_IDENTITY, {"k": kind, "v": value, "contact": survivor}
            )
            self.known[kind, value] = survivor

    def _is_nobody_else(self, visitor: int, person: int) -> bool:
        """Tell whether the visitor of a browser may be the person now using it."""
        return self._email_of(visitor) is None and self._names(visitor).isdisjoint(
            self._names(person)
        )

    def _merge(self, found: Found, loser: int) -> None:
        survivor = found.contact_id
        nameless = self._email_of(survivor) is None or self._email_of(loser) is None
        self.merge(survivor, loser)
        self._merged[loser] = survivor
        for key, contact_id in self.known.items():
            if contact_id == loser:
                self.known[key] = survivor
        self.emails.pop(survivor, None)
        if nameless and self._email_of(survivor) is not None:
            found.identified = True

    def _give_address(self, found: Found, email: str) -> None:
        """Give a visitor its first address, or a known person the newest one.

        An address a person had before stays theirs and finds them.
        """
        contact_id = found.contact_id
        found.identified = self._email_of(contact_id) is None
        self._add_identities([(EMAIL, email, contact_id)])
        self.connection.execute(
            _SET_EMAIL,
            {"contact": contact_id, "address": email, "moment": self.now},
        )
        self.emails[contact_id] = email
        release(self.connection, [contact_id], self.now)

    def _email_of(self, contact_id: int) -> str | None:
        if contact_id not in self.emails:
            found = self.connection.execute(_EMAILS, {"ids": [contact_id]})
            self.emails.update({row.id: row.email for row in found})
        return self.emails.get(contact_id)


@lru_cache(maxsize=64)
def _create(names: tuple[str, ...]) -> Rows:
    """Return the insert of contacts of whom these texts are given: few of all."""
    ends = ("points", "custom", "created_at", "updated_at")
    columns = [contacts.c[name] for name in ("id", "email", *names, *ends)]
    return Rows(lambda _: insert(contacts), columns)


def _texts(data: ContactData, names: Iterable[str]) -> Sequence[str | None]:
    texts = list(map(data.fields.get, names))
    return [text or None for text in texts] if "" in texts else texts


def _custom(data: ContactData) -> Mapping[str, object]:
    custom = data.custom
    if not custom:
        return _NOTHING
    return {name: value for name, value in custom.items() if value is not None}


def _weakness(kind: str) -> tuple[bool, int, str]:
    place = STRENGTH.index(kind) if kind in STRENGTH else len(STRENGTH)
    return kind == WEAK, place, kind
