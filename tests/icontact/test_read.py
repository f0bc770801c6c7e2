"""Reading back: what iContact has of some people now."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onward import Item, RemoteContact, RemoteSegment, SegmentGone
from onward.connections.open import open_connection
from onward.connections.state import read_all
from onward.testing.app import TestApp
from onward_icontact import IContact
from onward_icontact.simulator import Simulator

OnwardFor = Callable[..., TestApp]

LIST = RemoteSegment("4410", "Newsletter")
ANA = "ana@shop.example"


def read(
    app: TestApp, *items: Item, segment: RemoteSegment | None = LIST
) -> dict[str, RemoteContact]:
    """Read people back; return address → what is there."""
    with app.runtime.database.read() as transaction:
        [state] = read_all(transaction)
    opened = open_connection(app.runtime, state)
    assert isinstance(opened.integration, IContact)
    found = opened.integration.read(opened.api(app.runtime), items, segment)
    return {one.email: one for one in found}


def item(email: str = ANA, remote_id: str = "", **fields: str) -> Item:
    """Return what is to be pushed of somebody."""
    values = {"email": email, **fields}
    return Item(1, email, values, values, remote_id)


def test_row_is_enough_for_what_rows_show(
    sim: Simulator, onward_for: OnwardFor
) -> None:
    """Name and membership take two calls, and blanks are texts."""
    app = onward_for(sim)
    sim.folder().add_contact("Ana@Shop.example", lists=["Newsletter"], firstName="Ana")
    sim.requests.clear()

    found = read(app, item(firstName="Ana", city=""))

    ana = found[ANA]
    assert (ana.remote_id, ana.status) == ("70012345", "normal")
    assert (ana.fields["firstName"], ana.fields["city"]) == ("Ana", "")
    assert ana.segments == {"4410": "normal"}
    assert len(sim.requests) == 2


def test_member_is_read_for_what_rows_lack(
    sim: Simulator, onward_for: OnwardFor
) -> None:
    """A mapped `business` or custom field is read from the contact itself."""
    app = onward_for(sim)
    sim.folder().add_contact(ANA, business="Mill", loyaltytier="gold")

    found = read(app, item(business="Mill", loyaltytier="gold"))

    fields = found[ANA].fields
    assert (fields["business"], fields["loyaltytier"]) == ("Mill", "gold")
    assert found[ANA].segments == {"4410": "none"}


def test_nobody_is_nobody(sim: Simulator, onward_for: OnwardFor) -> None:
    """Who is not there is left out."""
    app = onward_for(sim)

    found = read(app, item(), segment=None)

    assert found == {}


@pytest.mark.parametrize("shown", ["no", "yes"])
def test_somebody_we_know_is_read_by_id(
    shown: str, sim: Simulator, onward_for: OnwardFor
) -> None:
    """A search that finds nobody is not believed about a contact whose id we have."""
    sim.set(total_includes_deleted=shown)
    app = onward_for(sim)
    contact = sim.folder().add_contact(ANA)
    sim.folder().delete_contact(contact)

    found = read(app, item(remote_id=contact.contact_id))

    assert found[ANA].status == "deleted"


@pytest.mark.parametrize("size", [3, 700])
@pytest.mark.parametrize("cap", [500, 20])
def test_memberships_of_many(
    size: int, cap: int, sim: Simulator, onward_for: OnwardFor
) -> None:
    """Every sort of membership is read right, in lists short and long."""
    sim.set(max_limit=cap)
    app = onward_for(sim)
    folder = sim.folder()
    for number in range(size):
        folder.add_contact(f"other-{number}@post.example", lists=["Newsletter"])
    wished = {"a": "normal", "b": "unsubscribed", "c": "pending", "d": "none"}
    for name, status in wished.items():
        contact = folder.add_contact(f"{name}@shop.example")
        if status != "none":
            folder.subscribe("4410", contact.contact_id, status)

    found = read(app, *(item(f"{name}@shop.example") for name in wished))

    got = {email[0]: one.segments["4410"] for email, one in found.items()}
    assert got == wished


def test_deleted_list_is_said(sim: Simulator, onward_for: OnwardFor) -> None:
    """Reading memberships of a deleted list says that it is gone."""
    app = onward_for(sim)
    sim.folder().add_contact(ANA)
    sim.folder().delete_list("4410")
    sim.fail("status", 9, "GET", "subscriptions", errors=["No result for (4410)."])

    found = read(app, item())

    # A single membership of it cannot be told from none; the push finds out.
    assert found[ANA].segments == {"4410": "none"}
    for number in range(3):
        sim.folder().add_contact(f"p{number}@shop.example")
    items = [item(f"p{number}@shop.example") for number in range(3)]
    with pytest.raises(SegmentGone, match='"Newsletter" \\(4410\\) was deleted'):
        read(app, *items)
