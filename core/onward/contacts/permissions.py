"""Opt-outs and consents that come with imported lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, select

from onward.contacts.given import ContactData, ContactLine
from onward.contacts.suppress import (
    OptOut,
    add_suppressions,
    find_suppressions,
    record_consent,
)
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

_CONSENTED = select(consents.c.contact_id, consents.c.how).where(
    consents.c.contact_id.in_(bindparam("ids", expanding=True))
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
        known = transaction.execute(_CONSENTED, {"ids": [contact_id]})
        if any(row.how == given.consent for row in known):
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
