"""Find whose a service's rows are: by remote id, else by address, else nobody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onward import remote
from onward.contacts.erased import erased_addresses
from onward.contacts.facts import Facts
from onward.contacts.input import find_contacts
from onward.contacts.release import lock_contacts
from onward.contract import RemoteContact
from onward.errors import Repeat
from onward.remote import DELETED, Snapshot
from onward.sync.shown import address_of
from onward.sync.terms import LINKED, UNFIT, Page, Row


def find_rows(
    page: Page, records: Sequence[RemoteContact], marks: Mapping[str, str]
) -> list[Row]:
    """Return rows with whose they are; hold these contacts and remote contacts.

    Left out is who is nobody of ours: deleted, or without an address.

    Args:
        marks: of each remote id, what its row is recognised by.

    Raises:
        Repeat: somebody else changed one of them; run the transaction again.
    """
    addresses = {one.remote_id: address_of(one) for one in records}
    known, owners = _whose(page, addresses, hold=False)
    if page.transaction.dialect.name == "postgresql":
        mine = {one.contact_id for one in known.values()} | set(owners.values())
        lock_contacts(page.transaction, mine - {0})
        again, still = _whose(page, addresses, hold=True)
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
        if (row := _row(page, record, addresses, known, owners, marks)) is not None
    ]


def _whose(
    page: Page, addresses: Mapping[str, str], *, hold: bool
) -> tuple[dict[str, Snapshot], dict[str, int]]:
    known = remote.by_ids(page.transaction, page.of, [*addresses], hold=hold)
    emails = set(addresses.values()) - {""}
    owners = find_contacts(page.transaction, sorted(emails), missing_ok=True)
    return known, owners


def _row(
    page: Page,
    record: RemoteContact,
    addresses: Mapping[str, str],
    known: Mapping[str, Snapshot],
    owners: Mapping[str, int],
    marks: Mapping[str, str],
) -> Row | None:
    counts, id_ = page.taken.counts, record.remote_id
    snapshot = known.get(id_) or Snapshot.unknown(id_)
    email = addresses[id_]
    if record.email and not email:
        counts[UNFIT] += 1
        page.note(UNFIT, id_, "its address is no e-mail address")
    row = Row(record, snapshot, email, marks[id_])
    if snapshot.contact_id:
        row.contact_id, row.was_ours = snapshot.contact_id, True
        row.base = {} if snapshot.unsure else snapshot.values
    elif record.status == DELETED or not email:
        return None  # nobody of ours
    else:
        row.contact_id = owners.get(email, 0)
        counts[LINKED] += bool(row.contact_id)
    return row


def new_address(page: Page, row: Row, ours: Facts) -> str:
    """Return the address a contact has from now on; "" = the one it has."""
    mine: str = ours["email"] or ""
    if not row.email or row.email == mine or not page.terms.pull.email:
        return ""
    if row.was_ours and mine and mine != row.snapshot.email:
        return ""  # ours changed as well, and is pushed
    if not row.was_ours and mine:
        return ""  # found by an address it had before
    owner = find_contacts(page.transaction, [row.email], missing_ok=True)
    other = owner.get(row.email, 0)
    if other in (0, row.contact_id):
        blocked = erased_addresses(page.transaction, [row.email])
        return "" if row.email in blocked else row.email
    if not mine:
        return row.email  # a visitor, who turns out to be that person
    row.clash = f"its address is that of contact {other}"
    return ""
