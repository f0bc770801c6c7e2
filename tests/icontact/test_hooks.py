"""Reports of changes: registering an address, and reading what comes."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward import Rejected, RemoteKey, Temporary
from onward_icontact.client import Client
from onward_icontact.hooks import EVENTS, receive, unwatch, watch
from onward_icontact.simulator import Simulator, connect

ClientOf = Callable[[Callable[[httpx.Request], httpx.Response]], Client]

URL = "https://onward.bakery.example/hooks/icontact/Zm9vYmFy"


def registered(sim: Simulator, url: str = URL) -> list[str]:
    """Return the events an address is registered for."""
    hooks = sim.folder().webhooks.values()
    return sorted(one.event_id for one in hooks if one.url == url)


def crowded(sim: Simulator, size: int = 45) -> None:
    """Register others' addresses, more than a page of them."""
    hooks = [
        {"eventId": "contact_created", "url": f"https://crm.example/{number}"}
        for number in range(size)
    ]
    connect(sim).post("webhooks", json=hooks)
    sim.requests.clear()


def test_registers_the_four_events(client_of: ClientOf) -> None:
    """Once: a second time nothing is written, however many others there are."""
    sim = Simulator(max_limit=20)
    crowded(sim)
    client = client_of(sim.handle)

    watch(client, URL)
    written = len(sim.calls("POST"))
    watch(client, URL)

    assert registered(sim) == sorted(EVENTS)
    assert (written, len(sim.calls("POST"))) == (4, 4)


def test_registers_what_is_missing(client_of: ClientOf) -> None:
    """After a failure in the middle the next time registers the rest."""
    sim = Simulator()
    sim.fail("json_503", method="POST", after=2)
    client = client_of(sim.handle)

    with pytest.raises(Temporary):
        watch(client, URL)
    assert len(registered(sim)) == 2

    watch(client, URL)
    assert registered(sim) == sorted(EVENTS)


def test_says_what_was_not_registered(client_of: ClientOf) -> None:
    """An answer of 200 is not believed; iContact's words are passed on."""
    sim = Simulator()
    refusing = [True]

    def handle(request: httpx.Request) -> httpx.Response:
        if refusing and b"contact_updated" in request.content:
            words = {"webhooks": [], "warnings": [f"Too many for {URL}."]}
            return httpx.Response(200, json=words)
        return sim.handle(request)

    client = client_of(handle)

    with pytest.raises(Rejected, match="contact_updated: Too many for the address"):
        watch(client, URL)
    refusing.clear()
    watch(client, URL)
    assert registered(sim) == sorted(EVENTS)


def test_removes_its_own_registrations_only(client_of: ClientOf) -> None:
    """All pages of them; what stands behind the path does not matter."""
    sim = Simulator(max_limit=20)
    client = client_of(sim.handle)
    crowded(sim)
    watch(client, URL)
    watch(client, f"{URL}?try=2")
    watch(client, f"{URL}/other")

    unwatch(client, URL)
    unwatch(client, URL)

    assert registered(sim) == registered(sim, f"{URL}?try=2") == []
    assert registered(sim, f"{URL}/other") == sorted(EVENTS)
    assert len(sim.folder().webhooks) == 45 + 4


def test_says_that_it_kept_some(client_of: ClientOf) -> None:
    """A deletion is believed when the list shows it; a 404 is one."""
    sim = Simulator()
    client = client_of(sim.handle)
    watch(client, URL)
    sim.fail("status", 4, "DELETE", status=404)

    with pytest.raises(Rejected, match="kept 4 registrations"):
        unwatch(client, URL)

    unwatch(client, URL)
    assert registered(sim) == []


# -- what comes


def test_what_the_service_sends_is_understood(client_of: ClientOf) -> None:
    """The four events, each about one contact, those of lists with the list."""
    bodies: list[bytes] = []

    def send(url: str, body: bytes) -> int:
        assert url == URL
        bodies.append(body)
        return 200

    sim = Simulator(webhook_send=send)
    watch(client_of(sim.handle), URL)
    service = connect(sim)

    service.post("contacts", json=[{"email": "ana@shop.example"}])
    service.post("contacts/70012345", json={"city": "Durham"})
    sub = {"contactId": "70012345", "listId": "4410", "status": "normal"}
    service.post("subscriptions", json=[sub])
    sim.folder().unsubscribe("Newsletter", "ana@shop.example")
    sim.send_webhooks()

    plain, of_list = RemoteKey("70012345"), RemoteKey("70012345", ("4410",))
    assert [list(receive(body)) for body in bodies] == [
        [plain],
        [plain],
        [of_list],
        [of_list],
    ]


@pytest.mark.parametrize(
    ("report", "keys"),
    [
        ({"contact": {"contactId": 7}}, [RemoteKey("7")]),
        ([{"contact": {"contactId": 7}, "list": None}], [RemoteKey("7")]),
        (
            [{"contact": {"contactId": "7"}, "list": {"listId": 5}}],
            [RemoteKey("7", ("5",))],
        ),
        (
            [{"contact": {"contactId": 7}}, {"contact": {"contactId": 8}}],
            [RemoteKey("7"), RemoteKey("8")],
        ),
        (
            [
                {"contact": {"contactId": 7}, "list": {"listId": 5}},
                {"contact": {"contactId": "7"}, "list": {"listId": "6"}},
                {"contact": {"contactId": 7}, "list": {"listId": 5}},
            ],
            [RemoteKey("7", ("5", "6"))],
        ),
    ],
)
def test_ids_are_taken_and_nothing_else(report: object, keys: list[RemoteKey]) -> None:
    """As numbers or texts, of one event or several, each contact once."""
    assert list(receive(json.dumps(report).encode())) == keys


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"contactId=7", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"7", "no list of events"),
        (b"null", "no list of events"),
        (b"[]", "names no contact"),
        (b"[[]]", "no list of events"),
        (b"{}", "no contactId"),
        (b'[{"contact": 7}]', "no contactId"),
        (b'[{"contact": {"contactId": true}}]', "no contactId"),
        (b'[{"contact": {"contactId": 7.0}}]', "no contactId"),
        (b'[{"contact": {"contactId": -7}}]', "no contactId"),
        (b'[{"contact": {"contactId": "7; DROP"}}]', "no contactId"),
        (b'[{"contact": {"contactId": "../lists"}}]', "no contactId"),
        (b'[{"contact": {"contactId": 12345678901234567890}}]', "no contactId"),
        (b'[{"contact": {"contactId": 7}, "list": {}}]', "no listId"),
        (b'[{"contact": {"contactId": 7}}, {}]', "no contactId"),
    ],
)
def test_anything_else_is_refused(body: bytes, why: str) -> None:
    """With a sentence that says what is wrong, and none of what was sent."""
    with pytest.raises(ValueError, match=why) as raised:
        receive(body)

    assert str(raised.value).startswith("the report ")
    assert "DROP" not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["contact", "contactId", "list", "listId", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_comes_is_read_or_refused(report: object) -> None:
    """Nobody who knows the address can break more than their own report."""
    try:
        keys = list(receive(json.dumps(report).encode()))
    except ValueError:
        return

    assert keys
    assert all(key.id.isdigit() for key in keys)
