"""Fetching contacts by their ids."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from onward import RemoteContact, RemoteKey, Temporary
from onward_icontact.client import Client
from onward_icontact.fetching import fetch
from onward_icontact.simulator import Simulator

ClientOf = Callable[[Callable[[httpx.Request], httpx.Response]], Client]

ANA = "ana@shop.example"
MADE = datetime(2026, 7, 4, 14, 15, tzinfo=UTC)


def fetched(client: Client, *keys: RemoteKey) -> dict[str, RemoteContact]:
    """Fetch contacts; return id → contact."""
    return {one.remote_id: one for one in fetch(client, keys)}


def test_contact_with_all_its_fields(client_of: ClientOf) -> None:
    """A member shows what rows lack, and when it was made; one call each."""
    sim = Simulator(lambda: MADE)
    sim.folder().add_custom_field("loyaltytier")
    ana = sim.folder().add_contact(ANA, "bounced", business="Mill", loyaltytier="gold")
    bo = sim.folder().add_contact("Bo@shop.example")

    found = fetched(
        client_of(sim.handle), RemoteKey(ana.contact_id), RemoteKey(bo.contact_id)
    )

    one = found[ana.contact_id]
    assert (one.email, one.status, one.created_at) == (ANA, "bounced", MADE)
    assert (one.fields["business"], one.fields["loyaltytier"]) == ("Mill", "gold")
    assert one.segments == {}
    assert found[bo.contact_id].email == "bo@shop.example"
    assert len(sim.requests) == 2


def test_memberships_that_are_asked_for(client_of: ClientOf) -> None:
    """Each with what it is, `none` where there is none, also of a list that is gone."""
    sim = Simulator()
    ana = sim.folder().add_contact(ANA, lists=["Newsletter"])
    sim.folder().unsubscribe("VIP", ANA)
    key = RemoteKey(ana.contact_id, ("4410", "4411", "9999"))

    found = fetched(client_of(sim.handle), key)

    assert found[ana.contact_id].segments == {
        "4410": "normal",
        "4411": "unsubscribed",
        "9999": "none",
    }


@pytest.mark.parametrize("status", ["404", "500"])
def test_who_is_not_there_is_deleted(status: str, client_of: ClientOf) -> None:
    """Deleted, or never made: nothing but that is said, and nobody is asked more."""
    sim = Simulator(missing_contact=status)
    ana = sim.folder().add_contact(ANA, lists=["Newsletter"])
    sim.folder().delete_contact(ana)

    found = fetched(
        client_of(sim.handle), RemoteKey(ana.contact_id, ("4410",)), RemoteKey("1")
    )

    assert found == {
        ana.contact_id: RemoteContact(ana.contact_id, status="deleted"),
        "1": RemoteContact("1", status="deleted"),
    }
    assert len(sim.requests) == 3


@pytest.mark.parametrize("status", [404, 500])
def test_one_stray_answer_deletes_nobody(status: int, client_of: ClientOf) -> None:
    """Absence is believed when it was found twice."""
    sim = Simulator()
    ana = sim.folder().add_contact(ANA)
    words = [f"No result for ({ana.contact_id})."]
    sim.fail("status", 1, "GET", "contacts", status=status, errors=words)

    found = fetched(client_of(sim.handle), RemoteKey(ana.contact_id))

    assert found[ana.contact_id].status == "normal"


@pytest.mark.parametrize("kind", ["json_503", "html_200", "close_before_write"])
def test_no_answer_is_no_absence(kind: str, client_of: ClientOf) -> None:
    """A service that is away is raised; when it is back, the contact is there."""
    sim = Simulator()
    ana = sim.folder().add_contact(ANA)
    sim.fail(kind, resource="contacts")
    client = client_of(sim.handle)

    with pytest.raises(Temporary):
        fetched(client, RemoteKey(ana.contact_id))

    assert fetched(client, RemoteKey(ana.contact_id))[ana.contact_id].email == ANA


def test_answer_about_somebody_else(client_of: ClientOf) -> None:
    """It is not believed; the next one is."""
    sim = Simulator()
    ana = sim.folder().add_contact(ANA)
    bo = sim.folder().add_contact("bo@shop.example")
    wrong = [f"/{bo.contact_id}"]

    def handle(request: httpx.Request) -> httpx.Response:
        path = request.url.path.replace(f"/{ana.contact_id}", (wrong or [""]).pop())
        changed = httpx.Request("GET", request.url.copy_with(path=path))
        changed.headers.update(request.headers)
        return sim.handle(changed if bo.contact_id in path else request)

    client = client_of(handle)

    with pytest.raises(Temporary, match="another contact"):
        fetched(client, RemoteKey(ana.contact_id))

    assert fetched(client, RemoteKey(ana.contact_id))[ana.contact_id].email == ANA
