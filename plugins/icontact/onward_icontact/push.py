"""Push one batch: find, check consent, create, change, subscribe, believe nothing.

A contact that exists is never POSTed through the collection (that blanks what is
left out), never PUT, and nobody who opted out is subscribed. Everything is read
before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from onward import (
    Item,
    Lost,
    Outcome,
    OutcomeKind,
    Rejected,
    RemoteContact,
    RemoteSegment,
)
from onward_icontact.calls import Gone
from onward_icontact.client import Client
from onward_icontact.finding import find_all, id_of, newest_id, saw_created
from onward_icontact.reading import blaming_list
from onward_icontact.rows import Odd, Standing, same
from onward_icontact.subscribing import (
    FRESH,
    Known,
    check_created,
    check_members,
    delivered,
    settled,
    stopped,
    subscribe,
    uncertain,
    unsubscribed,
)

# Row → its contact as iContact showed it when it was changed.
Changed = dict[int, RemoteContact]


@dataclass(slots=True)
class Plan:
    """What is to be done with the items of a batch."""

    new: list[Item] = field(default_factory=list[Item])
    known: list[Known] = field(default_factory=list[Known])
    ended: list[Outcome] = field(default_factory=list[Outcome])


def push_batch(
    client: Client, batch: Sequence[Item], segment: RemoteSegment | None
) -> Iterator[Outcome]:
    """Yield one outcome per item, each as soon as it is known.

    Raises:
        SegmentGone: the list was deleted, whichever call stumbled over it.
    """
    changed: Changed = {}
    with blaming_list(client, segment):
        try:
            for outcome in _push(client, batch, segment, changed):
                if outcome.kind is OutcomeKind.DELIVERED:
                    changed.pop(outcome.push_id, None)
                yield outcome
        finally:
            # It was changed, whatever became of the rest: a value that changes back
            # here must be sent again.
            if changed:
                client.api.learn(changed.values())


def _push(
    client: Client,
    batch: Sequence[Item],
    segment: RemoteSegment | None,
    changed: Changed,
) -> Iterator[Outcome]:
    plan = _look_up(client, batch)
    if segment is not None and plan.known:
        check_members(client, segment, plan.known)
        plan.ended += [unsubscribed(one, segment) for one in plan.known if one.has_left]
        plan.ended += filter(None, (uncertain(one, segment) for one in plan.known))
    yield from plan.ended
    read_at = client.api.now()
    written: list[Known] = []
    known = [
        one for one in plan.known if not (one.has_left or isinstance(one.member, Odd))
    ]
    results = client.api.each(lambda one: _change(client, one, changed), known)
    for result in chain(_create(client, plan.new), results):
        if isinstance(result, Outcome):
            yield result
        elif segment is None:
            yield delivered(result)
        elif result.member and (outcome := settled(result, segment)) is not None:
            yield outcome  # at once: calls may run out before the last
        else:
            written.append(result)
    if segment is None:
        return
    revived = [one for one in written if one.member is None]
    if revived:
        check_created(client, segment, revived)
    old = {one.item.push_id for one in known if one.member == "none"}
    if old and client.api.now() - read_at > FRESH:
        again = [one for one in written if one.item.push_id in old]
        check_members(client, segment, again)
    yield from subscribe(client, segment, written)


# -- who exists


def _look_up(client: Client, batch: Sequence[Item]) -> Plan:
    rows = find_all(client, [item.email for item in batch])
    plan = Plan()
    taken: set[str] = set()
    addresses: set[str] = set()
    # Those we know first: whoever else has their address is another contact.
    for item in sorted(batch, key=lambda item: not item.remote_id):
        if item.email in addresses:
            why = "another contact of ours has the same address"
            plan.ended.append(item.rejected("address_taken", why))
            continue
        addresses.add(item.email)
        contact = rows.get(item.email)
        if item.remote_id and (contact is None or contact.remote_id != item.remote_id):
            # Twice: one stray 404 deletes nobody.
            id_ = item.remote_id
            ours = client.contact(id_) or client.contact(id_)
            if ours is None or ours.status == "deleted":
                # Purged or deleted; somebody may have made the address again.
                contact = contact or RemoteContact(item.remote_id, status="deleted")
            elif contact is None or contact.status == "deleted":
                contact = ours  # its address changed, on either side
            else:
                plan.ended.append(_address_taken(item, contact))
                continue
        if contact is not None and item.remote_id not in ("", contact.remote_id):
            # What was said and sent to another contact counts nothing for this one.
            item = replace(
                item,
                on_segment=False,
                consent=False,
                recreate=False,
                changed=item.fields,
            )
        if contact is None or (contact.status == "deleted" and item.recreate):
            plan.new.append(item)
        elif contact.remote_id in taken:
            plan.ended.append(_address_taken(item, contact))
        elif (outcome := stopped(item, contact)) is not None:
            plan.ended.append(outcome)
        else:
            taken.add(contact.remote_id)
            plan.known.append(Known(item, contact))
    return plan


def _address_taken(item: Item, contact: RemoteContact) -> Outcome:
    why = f"the address belongs to another iContact contact ({contact.remote_id})"
    return item.rejected("address_taken", why)


# -- writing


def _create(client: Client, items: Sequence[Item]) -> Iterator[Known | Outcome]:
    """POST new contacts; those that do not come back are isolated.

    Warnings do not say whom they mean; alone, each one's is its own.
    """
    if not items:
        return
    newest = newest_id(client)
    returned, words = client.create([_new_body(item) for item in items])
    client.api.learn(contact for contact in returned if contact.remote_id)
    saw_created(client, returned)
    by_email = {contact.email: contact for contact in returned}
    missing: list[Item] = []
    for item in items:
        contact = by_email.get(item.email)
        if contact is None:
            missing.append(item)
        else:
            # A lower id is somebody who was deleted and is now revived: with the
            # opt-outs of old.
            member: Standing | None = "none" if id_of(contact) > newest else None
            sent = _new_body(item)
            yield _believe(client, Known(item, contact, member), sent, words)
    if missing and len(items) == 1:
        yield _not_created(client, missing[0], words)
        return
    # Whoever is there by now must not be sent this way again.
    there = find_all(client, [item.email for item in missing]) if missing else {}
    for item in (one for one in missing if one.email in there):
        yield item.unknown("not_shown", "iContact stored it but did not show it")
    missing = [item for item in missing if item.email not in there]
    # None at all: perhaps one of them is enough to keep the others out.
    size = 1 if len(missing) < len(items) else (len(missing) + 1) // 2
    for start in range(0, len(missing), size):
        yield from _create(client, missing[start : start + size])


def _new_body(item: Item) -> dict[str, str]:
    filled = {name: text for name, text in item.fields.items() if text}
    return {**filled, "email": item.email}


def _not_created(client: Client, item: Item, words: str) -> Outcome:
    if words:
        return item.rejected("refused", f"iContact: {words}")
    if find_all(client, [item.email]):
        return item.unknown("not_shown", "iContact stored it but did not show it")
    return item.retry("not_stored", "iContact answered 200 and stored nothing")


def _change(client: Client, known: Known, changed: Changed) -> Known | Outcome:
    """Send the changed fields of one contact, and only those.

    Args:
        changed: takes the contact as it is then.
    """
    item, contact = known.item, known.contact
    # The address by itself: if that is refused, it is about the address.
    address = {"email": item.email} if contact.email != item.email else {}
    for part in (address, _changes(item, contact)):
        if not part:
            continue
        try:
            returned, words = client.update(contact.remote_id, part)
        except Gone as error:
            # Absence is not believed before it was asked for by itself.
            there = client.contact(contact.remote_id)
            if there is not None and there.status != "deleted":
                return item.retry("not_found", error.message)
            returned, words = RemoteContact(contact.remote_id, status="deleted"), ""
        except Lost as error:
            if error.code != "not_shown":
                raise
            return item.unknown(error.code, error.message)
        except Rejected as error:
            if error.status not in (None, 400, 422):
                raise
            code = "address_taken" if part is address else "refused"
            return item.rejected(code, error.message)
        else:
            changed[item.push_id] = _as_changed(contact, returned, part)
        if part is address and returned.email == contact.email:
            why = words or "it kept the old address"
            return item.rejected("address_taken", f"iContact: {why}")
        result = _believe(client, replace(known, contact=returned), part, words)
        if isinstance(result, Outcome):
            return result
        known = result
        if item.push_id in changed:
            changed[item.push_id] = _as_changed(contact, known.contact, part)
    return known


def _as_changed(
    contact: RemoteContact, returned: RemoteContact, sent: Mapping[str, str]
) -> RemoteContact:
    """Return a contact with what was sent, or came back in its place."""
    fields = dict(returned.fields)
    for name, text in sent.items():
        there = _shown(returned, name)
        if name != "email":
            fields[name] = text if there is None else there
    return replace(returned, remote_id=contact.remote_id, fields=fields)


def _changes(item: Item, contact: RemoteContact) -> dict[str, str]:
    """Return what differs; a field the row does not show is sent if we changed it."""
    changes: dict[str, str] = {}
    for name, text in item.fields.items():
        there = _shown(contact, name)
        if name == "email":
            continue
        if there is None:
            if name in item.changed or item.force:
                changes[name] = text
        elif not same(text, there) or (text != there and name in item.changed):
            # What only looks like another way of writing the same may be a text.
            changes[name] = text
    return changes


def _shown(contact: RemoteContact, name: str) -> str | None:
    """Return a field by its name in any case: who lower-cases what is not known."""
    if name in contact.fields:
        return contact.fields[name]
    for other, text in contact.fields.items():
        if other.lower() == name.lower():
            return text
    return None


def _believe(
    client: Client, known: Known, sent: Mapping[str, str], words: str
) -> Known | Outcome:
    """Compare the echo with what was sent; what it does not show is asked for."""
    item, contact = known.item, known.contact
    if contact.remote_id and not (
        contact.status
        and all(
            _shown(contact, name) is not None for name, text in sent.items() if text
        )
    ):
        contact = client.contact(contact.remote_id) or contact
        known = replace(known, contact=contact)
    if (outcome := stopped(item, contact)) is not None:
        return outcome
    if not contact.remote_id or contact.email != item.email:
        return item.unknown("not_shown", "iContact answered with another contact")
    wrong = [
        name
        for name, text in sent.items()
        if name != "email" and not same(text, _shown(contact, name) or "")
    ]
    if wrong:
        known.altered = f"iContact stored {', '.join(wrong)} differently than sent"
        known.altered += f": {words}" if words else ""
    return known
