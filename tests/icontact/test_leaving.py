"""Taking people off lists, and removing them."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from onward import Lost, Rejected, RemoteKey, Temporary
from onward_icontact.client import Client
from onward_icontact.leaving import erase, unsubscribe
from onward_icontact.simulator import Simulator

ClientOf = Callable[[Callable[[httpx.Request], httpx.Response]], Client]

ANA, BO = "ana@shop.example", "bo@shop.example"


def on_lists(*names: str, email: str = ANA) -> tuple[Simulator, RemoteKey]:
    """Return a simulator with somebody on some lists, and their key."""
    sim = Simulator()
    contact = sim.folder().add_contact(email, lists=names)
    return sim, RemoteKey(contact.contact_id)


def lists_of(sim: Simulator, email: str = ANA) -> dict[str, str | None]:
    """Return what somebody is on each list."""
    folder = sim.folder()
    return {
        one.name: folder.subscription(one.list_id, email)
        for one in folder.lists.values()
    }


def test_off_the_given_lists_only(client_of: ClientOf) -> None:
    """The others, and the contact's own status, are left alone."""
    sim, key = on_lists("Newsletter", "VIP")

    left = list(unsubscribe(client_of(sim.handle), [RemoteKey(key.id, ("4410",))]))

    assert left == [key.id]
    assert lists_of(sim) == {"Newsletter": "unsubscribed", "VIP": "normal"}
    bodies = [one.body for one in sim.requests if one.method == "POST"]
    assert bodies == [{"status": "unsubscribed"}]
    assert len(sim.requests) == 2
    contact = sim.folder().find(ANA)
    assert contact is not None
    assert contact.status == "normal"


@pytest.mark.parametrize("how", ["honoured", "warning", "dropped", "no_rows"])
def test_off_all_lists(how: str, client_of: ClientOf) -> None:
    """Whether iContact can search by contact or not: nobody stays on a list."""
    sim, key = on_lists("Newsletter")
    sim.set(subscriptions_by_contact=how)
    sim.folder().subscribe("4411", key.id, "pending")
    other = sim.folder().add_list("Other")
    bo = sim.folder().add_contact(BO, lists=["Newsletter", "Other"])
    sim.folder().unsubscribe("Other", ANA)

    left = list(unsubscribe(client_of(sim.handle), [key]))

    assert left == [key.id]
    assert lists_of(sim) == dict.fromkeys(
        ("Newsletter", "VIP", "Other"), "unsubscribed"
    )
    assert lists_of(sim, BO)["Newsletter"] == "normal"
    written = [one.path for one in sim.requests if one.method == "POST"]
    assert not [path for path in written if bo.contact_id in path]
    assert not [path for path in written if f"{other.list_id}_" in path]


def test_on_no_list_at_all(client_of: ClientOf) -> None:
    """A search that finds nobody is believed once it was seen to find somebody."""
    sim, key = on_lists("Newsletter")
    bo = RemoteKey(sim.folder().add_contact(BO).contact_id)
    client = client_of(sim.handle)

    first = list(unsubscribe(client, [bo]))
    asked_each = len(sim.calls("GET", "subscriptions"))
    list(unsubscribe(client, [key]))
    sim.requests.clear()
    again = list(unsubscribe(client, [bo]))

    assert (first, again) == ([bo.id], [bo.id])
    assert asked_each == 3 + 2 * 2
    assert len(sim.requests) == 3
    assert not [one for one in sim.requests if one.method == "POST"]


def test_many_at_once(client_of: ClientOf) -> None:
    """Everybody who left is named once."""
    sim = Simulator()
    contacts = [
        sim.folder().add_contact(f"p{n}@x.example", lists=["VIP"]) for n in range(9)
    ]
    keys = [RemoteKey(one.contact_id) for one in contacts]

    left = list(unsubscribe(client_of(sim.handle), keys))

    assert sorted(left) == sorted(key.id for key in keys)
    assert sim.folder().on_list("VIP") == set()


def test_never_on_that_list(client_of: ClientOf) -> None:
    """There is nothing to leave, and that counts; also on a list that is gone."""
    sim, key = on_lists()

    left = list(unsubscribe(client_of(sim.handle), [RemoteKey(key.id, ("4410", "9"))]))

    assert left == [key.id]
    assert lists_of(sim) == {"Newsletter": None, "VIP": None}


def test_nothing_is_believed_that_was_not_read_back(client_of: ClientOf) -> None:
    """An echo says it, the membership does not: the person has not left, until."""
    sim, key = on_lists("Newsletter", "VIP")
    key = RemoteKey(key.id, ("4410", "4411"))
    lying = ["/4410_"]

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and any(one in str(request.url) for one in lying):
            row = {"listId": "4410", "contactId": key.id, "status": "unsubscribed"}
            return httpx.Response(200, json={"subscription": row})
        return sim.handle(request)

    client = client_of(handle)

    assert list(unsubscribe(client, [key])) == []
    lying.clear()
    assert list(unsubscribe(client, [key])) == [key.id]


def test_one_stray_404_takes_nobody_off(client_of: ClientOf) -> None:
    """Read twice, they are on the list still; later they leave."""
    sim, key = on_lists("Newsletter")
    key = RemoteKey(key.id, ("4410",))
    sim.fail("status", 2, resource="subscriptions", status=404, errors=["Not Found"])
    client = client_of(sim.handle)

    assert list(unsubscribe(client, [key])) == []
    assert list(unsubscribe(client, [key])) == [key.id]


def test_one_refusal_stops_nobody_else(client_of: ClientOf) -> None:
    """The others leave, then it is said what iContact refused; later that works."""
    sim, key = on_lists("Newsletter", "VIP")
    bo = RemoteKey(sim.folder().add_contact(BO, lists=["VIP"]).contact_id)
    refused = [f"4410_{key.id}"]

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path.endswith((*refused, "-")):
            return httpx.Response(400, json={"errors": ["Not this one."]})
        return sim.handle(request)

    client = client_of(handle)
    left: list[str] = []

    with pytest.raises(Rejected, match="Not this one"):
        left.extend(unsubscribe(client, [key, bo]))

    assert lists_of(sim) == {"Newsletter": "normal", "VIP": "unsubscribed"}
    assert lists_of(sim, BO)["VIP"] == "unsubscribed"
    refused.clear()
    assert list(unsubscribe(client, [key])) == [key.id]


@pytest.mark.parametrize("kind", ["close_after_write", "timeout_before_write"])
def test_answer_that_got_lost(kind: str, client_of: ClientOf) -> None:
    """It is raised, and doing it again is right whatever had arrived."""
    sim, key = on_lists("Newsletter")
    sim.fail(kind, method="POST")
    client = client_of(sim.handle)

    with pytest.raises(Lost):
        list(unsubscribe(client, [key]))

    assert list(unsubscribe(client, [key])) == [key.id]
    assert lists_of(sim)["Newsletter"] == "unsubscribed"


# -- erasing


def test_who_is_erased_left_before(client_of: ClientOf) -> None:
    """Made again by somebody, they come back with their opt-outs."""
    sim, key = on_lists("Newsletter")

    gone = list(erase(client_of(sim.handle), [key]))

    assert gone == [key.id]
    contact = sim.folder().find(ANA)
    assert contact is not None
    assert contact.status == "deleted"
    assert lists_of(sim)["Newsletter"] == "unsubscribed"
    methods = [one.method for one in sim.requests if one.method != "GET"]
    assert methods == ["POST", "DELETE"]


def test_who_is_gone_already(client_of: ClientOf) -> None:
    """Deleted or never there: done, and nothing is written."""
    sim, key = on_lists("Newsletter")
    sim.folder().shift(1)

    gone = set(erase(client_of(sim.handle), [key, RemoteKey("1")]))

    assert gone == {key.id, "1"}
    assert {one.method for one in sim.requests} == {"GET"}


def test_deletion_is_believed_when_it_was_read_back(client_of: ClientOf) -> None:
    """200 alone is no deletion; later it is one."""
    sim, key = on_lists("Newsletter")
    lying = [True]

    def handle(request: httpx.Request) -> httpx.Response:
        if lying and request.method == "DELETE":
            return httpx.Response(200, json=[])
        return sim.handle(request)

    client = client_of(handle)

    assert list(erase(client, [key])) == []
    lying.clear()
    assert list(erase(client, [key])) == [key.id]


def test_who_cannot_leave_is_erased_all_the_same(client_of: ClientOf) -> None:
    """A refusal to unsubscribe keeps nobody there; a refusal to delete is said."""
    sim, key = on_lists("Newsletter")
    sim.fail("status", 1, "POST", "subscriptions", status=400)
    bo = RemoteKey(sim.folder().add_contact(BO).contact_id)
    client = client_of(sim.handle)

    assert list(erase(client, [key])) == [key.id]
    sim.fail("status", 1, "DELETE", status=405)
    with pytest.raises(Rejected):
        list(erase(client, [bo]))
    assert list(erase(client, [bo])) == [bo.id]


def test_service_that_is_away_erases_nobody(client_of: ClientOf) -> None:
    """Before everything was asked for, nothing is deleted; then it is."""
    sim, key = on_lists("Newsletter")
    sim.fail("json_503", method="POST")
    client = client_of(sim.handle)

    with pytest.raises(Temporary):
        list(erase(client, [key]))

    assert not sim.calls("DELETE")
    assert list(erase(client, [key])) == [key.id]
