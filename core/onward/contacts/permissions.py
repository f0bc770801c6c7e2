"""Opt-outs and consents that come with imported lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, or_, select

from onward.contacts.addresses import hash_address, read_pepper
from onward.contacts.erased import erased_addresses
from onward.contacts.given import BadLine, ContactData, ContactLine
from onward.contacts.suppress import (
    OptOut,
    add_suppressions,
    find_suppressions,
    record_consent,
)
from onward.contacts.traces import MARK
from onward.errands.optouts import push_out
from onward.models import Consent, table
from onward.plugins import Plugins

consents = table(Consent)

# Reason word of an opt-out → what it says about somebody.
WORDS: Mapping[str, str] = {
    "unsubscribed": "unsubscribed",
    "bounced": "the address bounced",
    "complaint": "complained about spam",
    "manual": "do not contact",
}

_ADDRESS = re.compile(r"""[^\s,;|"'<>()]{1,100}@[^\s,;|"'<>()]{1,255}""")
_CONSENTED = select(consents.c.how).where(
    or_(
        consents.c.contact_id == bindparam("of"),
        consents.c.contact_id == 0,
    ),
    or_(
        consents.c.contact_id != 0,
        consents.c.address_hash == bindparam("hashed"),
    ),
)


def kept_words(pepper: bytes, how: str) -> str:
    """Return what is kept of a consent of somebody who was erased.

    Enough to know the same words again: they are no new consent.
    """
    return how if how.startswith(MARK) else f"{MARK} {hash_address(pepper, how)}"


def without_erased(
    transaction: Transaction, problems: Sequence[tuple[int, str, str]]
) -> list[tuple[int, str, str]]:
    """Return refused lines, without the text of those about people who were erased."""
    named = [
        {found.lower() for text in texts for found in _ADDRESS.findall(text)}
        for _, *texts in problems
    ]
    erased = erased_addresses(transaction, {one for some in named for one in some})
    return [
        one if erased.isdisjoint(some) else (one[0], MARK, MARK)
        for one, some in zip(problems, named, strict=True)
    ]


WAS_ERASED = (
    "this person was erased; record a new consent first (`onward contacts consent "
    "EMAIL --how …`), or map a column to consent that says how they gave it"
)


class Permissions:
    """Takes them in the order of the lines, so that later words count.

    On one line the opt-out wins.

    Args:
        name: of the import, for people.
        takes_consent: a column was mapped to consent.
        plugins: what services can do, where an opt-out is pushed out to them.
    """

    def __init__(
        self, name: str, *, takes_consent: bool, plugins: Plugins | None = None
    ) -> None:
        self.name = name
        self.takes_consent = takes_consent
        self.plugins = plugins

    def take(
        self,
        transaction: Transaction,
        batch: Sequence[ContactLine],
        ids: Sequence[int],
        now: datetime,
    ) -> set[int]:
        """Record what is new; return for whom.

        Args:
            ids: the contact of each line.
        """
        said = [
            (contact_id, line)
            for contact_id, line in zip(ids, batch, strict=True)
            if line.contact.do_not_contact
            or (self.takes_consent and line.contact.consent)
        ]
        if not said:
            return set()
        stopped = self._stopped(transaction, said)
        touched: set[int] = set()
        waiting: list[OptOut] = []
        for contact_id, line in said:
            code = line.contact.do_not_contact
            if not code:
                self._add(transaction, waiting, now)
                waiting = []
                if self._consent(transaction, contact_id, line.contact, now):
                    touched.add(contact_id)
                    stopped = self._stopped(transaction, said)
            elif (contact_id, code) not in stopped:
                stopped.add((contact_id, code))
                touched.add(contact_id)
                waiting.append(self._opt_out(contact_id, line))
        self._add(transaction, waiting, now)
        return touched

    def _add(
        self, transaction: Transaction, optouts: Sequence[OptOut], now: datetime
    ) -> None:
        add_suppressions(transaction, optouts, now)
        if optouts and self.plugins is not None:
            people = {one.contact_id: [one.email] for one in optouts}
            push_out(transaction, self.plugins, people, f"import {self.name}", now)

    def _opt_out(self, contact_id: int, line: ContactLine) -> OptOut:
        given = line.contact
        word = given.do_not_contact
        return OptOut(
            contact_id,
            given.email,
            "address",
            word,
            f"{WORDS.get(word, word)}, according to {self.name}",
            f"import {self.name} line {line.number}",
        )

    @staticmethod
    def _stopped(
        transaction: Transaction, said: Sequence[tuple[int, ContactLine]]
    ) -> set[tuple[int, str]]:
        """Return (contact, reason word) of what is in force already."""
        people = {contact_id: [line.contact.email] for contact_id, line in said}
        return {
            (contact_id, stop.code)
            for contact_id, stops in find_suppressions(transaction, people).items()
            for stop in stops
            if stop.scope == "address" and stop.lifted_at is None
        }

    def bring_back(
        self, transaction: Transaction, batch: Sequence[ContactLine], now: datetime
    ) -> tuple[list[ContactLine], list[BadLine]]:
        """Return the lines that may be taken, and those of people who were erased.

        A new consent on a line lets it, and what follows, be taken; an opt-out is
        kept with the hash of the address.
        """
        emails = {line.contact.email for line in batch}
        erased = erased_addresses(transaction, emails)
        if not erased:
            return list(batch), []
        taken: list[ContactLine] = []
        refused: list[BadLine] = []
        for line in batch:
            given = line.contact
            if (
                given.email in erased
                and self.takes_consent
                and given.consent
                and not given.do_not_contact
                and self._is_news(transaction, 0, given)
            ):
                erased.discard(given.email)
            if given.email not in erased:
                taken.append(line)
                continue
            if given.do_not_contact:
                add_suppressions(transaction, [self._opt_out(0, line)], now)
            # With nothing of the line: a report would bring them back as well.
            refused.append(BadLine(line.number, WAS_ERASED, ""))
        return taken, refused

    @staticmethod
    def _is_news(transaction: Transaction, contact_id: int, given: ContactData) -> bool:
        """Tell whether a consent was not recorded in the same words before."""
        pepper = read_pepper(transaction)
        hashed = hash_address(pepper, given.email)
        known = transaction.execute(_CONSENTED, {"of": contact_id, "hashed": hashed})
        words = {given.consent, kept_words(pepper, given.consent)}
        return words.isdisjoint(known.scalars())

    def _consent(
        self,
        transaction: Transaction,
        contact_id: int,
        given: ContactData,
        now: datetime,
    ) -> bool:
        """Record a consent that is news; return whether it was.

        The same words again are no new consent: the file may have been written
        before the person changed their mind.
        """
        if not self._is_news(transaction, contact_id, given):
            return False
        record_consent(
            transaction,
            contact_id=contact_id,
            email=given.email,
            how=given.consent,
            who=f"import {self.name}",
            now=now,
        )
        return True
