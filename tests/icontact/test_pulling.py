"""Pulling: everybody, every opt-out, and the members of the lists that matter."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from onward import OnwardError, Page, RemoteContact, RemoteSegment, Temporary
from onward.connections.open import open_connection
from onward.connections.state import read_all
from onward.integrations import can
from onward.testing.app import TestApp
from onward_icontact import IContact
from onward_icontact.client import Client
from onward_icontact.pulling import pull
from onward_icontact.rows import record
from onward_icontact.simulator import Simulator

ClientOf = Callable[[Callable[[httpx.Request], httpx.Response]], Client]
OnwardFor = Callable[..., TestApp]

NEWS = RemoteSegment("4410", "Newsletter")
ANA = "ana@shop.example"


def crowd(size: int, **switches: Any) -> Simulator:
    """Return a simulator with so many people on no list."""
    sim = Simulator(**switches)
    for number in range(size):
        sim.folder().add_contact(f"p{number}@post.example")
    return sim


def contacts_of(sim: Simulator) -> set[str]:
    """Return the ids of everybody who is there."""
    everybody = sim.folder().contacts.values()
    return {one.contact_id for one in everybody if one.status != "deleted"}


def seen(pages: Sequence[Page], stage: str = "contacts") -> set[str]:
    """Return whom the pages of a stage list."""
    return {one.remote_id for p in pages if p.stage == stage for one in p.contacts}


def memberships(pages: Sequence[Page], stage: str) -> dict[str, dict[str, str]]:
    """Return contact id → list → membership of a stage."""
    listed = (one for page in pages if page.stage == stage for one in page.contacts)
    return {one.remote_id: dict(one.segments) for one in listed}


def until_it_fails(
    client: Client, cursor: object, segments: Sequence[RemoteSegment]
) -> tuple[list[Page], Exception | None]:
    """Pull as far as it goes; return the pages, and what ended it."""
    pages: list[Page] = []
    try:
        for page in pull(client, cursor, segments):
            pages.append(page)
    except OnwardError as error:
        return pages, error
    return pages, None


def test_pulls_everybody_every_opt_out_and_the_members(client_of: ClientOf) -> None:
    """In three sorts of stages, each with what it is about and nothing else."""
    sim = Simulator(lambda: datetime(2026, 3, 4, 14, 15, tzinfo=UTC))
    folder = sim.folder()
    ana = folder.add_contact(ANA, lists=["Newsletter", "VIP"], firstName="Ana")
    bo = folder.add_contact("bo@shop.example", "donotcontact")
    cem = folder.add_contact("cem@shop.example", "invitable")
    folder.subscribe("4410", cem.contact_id, "pending")
    folder.unsubscribe("Newsletter", "bo@shop.example")
    folder.unsubscribe("VIP", "cem@shop.example")

    pages = list(pull(client_of(sim.handle), None, [NEWS]))

    assert [(p.stage, p.total, p.lists_everybody, p.members_of) for p in pages] == [
        ("contacts", 3, True, ""),
        ("opt-outs of Newsletter", 1, False, ""),
        ("opt-outs of VIP", 1, False, ""),
        ("members of Newsletter", 1, False, "4410"),
        ("members of Newsletter", 1, False, "4410"),
    ]
    assert [(one.email, one.status) for one in pages[0].contacts] == [
        (ANA, "normal"),
        ("bo@shop.example", "opted_out"),
        ("cem@shop.example", "pending"),
    ]
    assert pages[0].contacts[0].fields["firstName"] == "Ana"
    assert pages[0].contacts[0].created_at == sim.now()
    left = RemoteContact(bo.contact_id, segments={"4410": "unsubscribed"})
    assert list(pages[1].contacts) == [left]
    assert memberships(pages, "members of Newsletter") == {
        ana.contact_id: {"4410": "normal"},
        cem.contact_id: {"4410": "pending"},
    }
    assert [page.cursor is None for page in pages] == [False] * 4 + [True]


def test_an_integration_can_do_it(sim: Simulator, onward_for: OnwardFor) -> None:
    """The core finds every method by its name, and may call them."""
    sim.folder().add_contact(ANA)
    app = onward_for(sim)
    with app.runtime.database.read() as transaction:
        [state] = read_all(transaction)
    opened = open_connection(app.runtime, state)
    assert isinstance(opened.integration, IContact)

    pages = list(opened.integration.pull(opened.api(app.runtime), None, []))

    assert seen(pages) == contacts_of(sim)
    assert can(IContact, "pull")
    assert can(IContact, "fetch")
    assert can(IContact, "history")
    assert can(IContact, "unsubscribe")
    assert can(IContact, "erase")
    assert can(IContact, "watch")
    assert can(IContact, "receive")


@pytest.mark.parametrize("size", [0, 3, 501, 1_200])
def test_calls_are_pages(size: int, client_of: ClientOf) -> None:
    """Besides one call for the lists, a pull costs a call per page."""
    sim = crowd(size)
    client = client_of(sim.handle)
    sim.folder().unsubscribe("VIP", "p0@post.example") if size else None

    pages = list(pull(client, None, []))

    assert len(sim.requests) == 1 + len(pages)
    assert len(pages) == max(1, -(-size // 490)) + 2
    assert seen(pages) == contacts_of(sim)


@pytest.mark.parametrize("stop", range(1, 9))
def test_another_process_goes_on(stop: int, client_of: ClientOf) -> None:
    """After any page a pull goes on from its cursor, and reads the rest only."""
    sim = crowd(1_100)
    ids = sorted(sim.folder().contacts)
    for id_ in ids[:600]:
        sim.folder().subscribe("4410", id_, "normal")
    for id_ in ids[600:701]:
        sim.folder().subscribe("4410", id_, "unsubscribed")
    first: list[Page] = []
    whole = list(pull(client_of(sim.handle), None, [NEWS]))
    for page in pull(client_of(sim.handle), None, [NEWS]):
        first.append(page)
        if len(first) == stop:
            break
    cursor = json.loads(json.dumps(first[-1].cursor))

    rest = list(pull(client_of(sim.handle), cursor, [NEWS]) if cursor else ())

    assert len(whole) == 8
    assert [*first, *rest] == whole


def test_a_cursor_of_another_release_begins_anew(client_of: ClientOf) -> None:
    """What cannot be read is no place to go on from."""
    sim = crowd(3)

    pulled = [
        list(pull(client_of(sim.handle), cursor, []))
        for cursor in (
            "x",
            7,
            {},
            {"key": [1]},
            {"key": [0, 0, "", 0], "place": {"a": 1}},
        )
    ]

    assert [seen(pages) == contacts_of(sim) for pages in pulled] == [True] * 5


@pytest.mark.parametrize("how", ["page", "low", "high", "absent"])
def test_total_is_not_believed(how: str, client_of: ClientOf) -> None:
    """Whatever it says, everybody comes, and the reading has an end."""
    sim = crowd(1_203, total=how)

    pages = list(pull(client_of(sim.handle), None, []))

    assert seen(pages) == contacts_of(sim)
    assert len(sim.requests) < 15


@pytest.mark.parametrize(
    "switches",
    [
        {"max_limit": 20},
        {"max_limit": 100, "limit_above_max": "error400"},
        {"duplicate_rows": 7},
        {"id_type": "int"},
        {"content_type": "html"},
        {"search_rows": "full"},
    ],
)
def test_pages_of_any_sort(switches: dict[str, Any], client_of: ClientOf) -> None:
    """Short pages, rows that come twice, ids as numbers: everybody is listed."""
    sim = crowd(530, **switches)

    pages = list(pull(client_of(sim.handle), None, []))

    assert seen(pages) == contacts_of(sim)
    assert all(page.lists_everybody for page in pages if page.stage == "contacts")


def test_deleted_contacts_come_as_such(client_of: ClientOf) -> None:
    """Where iContact shows them, their status says it."""
    sim = crowd(2, total_includes_deleted="yes")
    sim.folder().shift(1)

    [page, *_] = pull(client_of(sim.handle), None, [])

    assert [one.status for one in page.contacts] == ["deleted", "normal"]


def test_order_that_is_ignored(client_of: ClientOf) -> None:
    """Everybody comes, but who did not come is not concluded to be missing."""
    sim = crowd(1_100, orderby="ignored")

    pages = list(pull(client_of(sim.handle), None, []))

    assert seen(pages) == contacts_of(sim)
    assert not any(page.lists_everybody for page in pages)


def test_warning_is_no_answer(client_of: ClientOf) -> None:
    """A term that was dropped makes it another question; when it is known, it works."""
    sim = crowd(3, orderby="warning")
    client = client_of(sim.handle)

    with pytest.raises(Temporary, match="did not answer what was asked"):
        list(pull(client, None, []))

    sim.set(orderby="honoured")
    assert seen(list(pull(client, None, []))) == contacts_of(sim)


@pytest.mark.parametrize("rows", [8, 300, 1_400, -200])
@pytest.mark.parametrize("cap", [500, 50])
def test_rows_that_shift(rows: int, cap: int, client_of: ClientOf) -> None:
    """Whoever is there all the time comes, however many go or return meanwhile."""
    sim = crowd(1_600, max_limit=cap)
    if rows < 0:
        sim.folder().shift(250)
    sim.fail("shift", resource="contacts", rows=rows, after=3)

    pages = list(pull(client_of(sim.handle), None, []))

    there = sorted(sim.folder().contacts)
    assert seen(pages) >= set(there[max(rows, 250) :])


def test_failing_page_is_read_smaller(client_of: ClientOf) -> None:
    """It is not skipped; then pages are long again."""
    sim = crowd(1_600)
    sim.fail("status", 2, "GET", "contacts", after=1, status=500)

    pages = list(pull(client_of(sim.handle), None, []))

    limits = [dict(httpx.QueryParams(one.query))["limit"] for one in sim.requests[1:]]
    assert limits[:4] == ["500", "500", "100", "20"]
    assert limits[-1] == "500"
    assert seen(pages) == contacts_of(sim)


@pytest.mark.parametrize("kind", ["json_503", "html_503", "connect_error"])
@pytest.mark.parametrize("after", [1, 3, 5, 8])
def test_service_that_is_away_in_the_middle(
    kind: str, after: int, client_of: ClientOf
) -> None:
    """It is raised as it comes, and the last cursor goes on from there."""
    sim = crowd(1_600)
    for id_ in sim.folder().contacts:
        sim.folder().subscribe("4411", id_, "unsubscribed")
    sim.fail(kind, after=after)
    client = client_of(sim.handle)

    pages, error = until_it_fails(client, None, [])

    assert isinstance(error, Temporary)
    pages += pull(client, pages[-1].cursor if pages else None, [])
    assert seen(pages) == seen(pages, "opt-outs of VIP") == contacts_of(sim)


def test_folder_that_is_emptied(client_of: ClientOf) -> None:
    """In the middle or before: the pages say what was seen, the core what it means."""
    sim = crowd(1_600)
    sim.fail("emptied", resource="contacts", after=2)
    client = client_of(sim.handle)

    halfway = list(pull(client, None, []))
    after = list(pull(client, None, []))

    assert len(seen(halfway)) == 990
    assert [list(page.contacts) for page in after] == [[], [], []]


# -- memberships


@pytest.mark.parametrize("how", ["no_status", "no_list"])
@pytest.mark.parametrize("cursor", [None, {"key": [1, 9_999, "9999", 0]}])
def test_ignored_filter_unsubscribes_nobody(
    how: str, cursor: object, client_of: ClientOf
) -> None:
    """Rows that were not asked for are refused; once filters work, the rest comes."""
    sim = crowd(2, subscriptions_filter=how)
    for id_ in sim.folder().contacts:
        sim.folder().subscribe("4411", id_, "normal")
    sim.folder().unsubscribe("Newsletter", "p0@post.example")
    client = client_of(sim.handle)

    pages, error = until_it_fails(client, cursor, [NEWS])

    assert isinstance(error, Temporary)
    assert error.code == "ignored_filter"
    stages = {page.stage for page in pages if page.contacts}
    assert stages <= {"contacts", "opt-outs of Newsletter"}
    sim.set(subscriptions_filter="honoured")
    after = pages[-1].cursor if pages else cursor
    rest = list(pull(client, after, [NEWS]))
    assert rest[-1].stage == "members of Newsletter"
    assert seen(rest, "opt-outs of VIP") == set()


@pytest.mark.parametrize("word", ["bounced", "", None])
def test_status_nobody_knows_says_nothing(
    word: str | None, client_of: ClientOf
) -> None:
    """It is no opt-out and ends no pull; once it is known, it counts.

    In other letters it is what it is.
    """
    sim = crowd(4)
    for id_ in sim.folder().contacts:
        sim.folder().subscribe("4410", id_, "normal")
    left, odd, *there = sim.folder().contacts
    sim.folder().unsubscribe("Newsletter", "p0@post.example")
    words: dict[str, Any] = {left: "UnSubscribed", odd: word}

    def handle(request: httpx.Request) -> httpx.Response:
        body = sim.handle(request).json()
        for row in body.get("subscriptions") or []:
            row["status"] = words.get(row["contactId"], row["status"])
        return httpx.Response(200, json=body)

    pages = list(pull(client_of(handle), None, [NEWS]))
    del words[odd]
    after = list(pull(client_of(handle), None, [NEWS]))

    assert seen(pages, "opt-outs of Newsletter") == {left}
    assert seen(pages, "members of Newsletter") == set(there)
    assert seen(after, "members of Newsletter") == {odd, *there}


def test_every_list_is_asked_for_opt_outs(client_of: ClientOf) -> None:
    """Also the 21st, also those of the same name."""
    sim = crowd(1)
    lists = [sim.folder().add_list("Open day") for _ in range(25)]
    for one in lists:
        sim.folder().unsubscribe(one.list_id, "p0@post.example")

    pages = list(pull(client_of(sim.handle), None, []))

    got = [dict(one.segments) for page in pages[1:] for one in page.contacts]
    assert got == [{one.list_id: "unsubscribed"} for one in lists]


def test_lists_that_are_hidden_once_are_no_answer(client_of: ClientOf) -> None:
    """Else nobody would know that the opt-outs of the chosen list were not read."""
    sim = crowd(3)
    chosen = [RemoteSegment(str(id_), "") for id_ in sim.folder().lists]
    hidden = [True]

    def handle(request: httpx.Request) -> httpx.Response:
        if hidden and request.url.path.endswith("/lists"):
            hidden.pop()
            return httpx.Response(200, json={"lists": [], "total": 0})
        return sim.handle(request)

    client = client_of(handle)
    with pytest.raises(Temporary, match="did not list the list"):
        list(pull(client, None, chosen))

    stages = {page.stage for page in pull(client, None, chosen)}
    assert any(stage.startswith("opt-outs") for stage in stages)


@pytest.mark.parametrize("answer", ["rows", "404", "500"])
def test_list_that_is_deleted_meanwhile(answer: str, client_of: ClientOf) -> None:
    """It is left out: nobody left it, and nobody is concluded to be off it."""
    sim = crowd(3)
    for id_ in sim.folder().contacts:
        sim.folder().subscribe("4410", id_, "normal")
    client = client_of(sim.handle)
    pages: list[Page] = []
    for page in pull(client, None, [NEWS]):
        pages.append(page)
        if page.stage == "opt-outs of VIP":
            sim.folder().delete_list("4410")
            if answer != "rows":
                words = ["No result for (4410)."]
                sim.fail(
                    "status",
                    9,
                    "GET",
                    "subscriptions",
                    status=int(answer),
                    errors=words,
                )

    assert [page.members_of for page in pages[3:] if page.stage[0] == "m"][:1] == [""]
    assert seen(pages, "members of Newsletter") == set()
    assert pages[-1].cursor is None
    sim.clear_faults()
    later = list(pull(client, None, [NEWS]))
    assert [page.stage for page in later] == ["contacts", "opt-outs of VIP"]


def test_cursor_of_a_list_that_is_gone(client_of: ClientOf) -> None:
    """The pull goes on with the next list."""
    sim = crowd(700)
    for id_ in sim.folder().contacts:
        sim.folder().subscribe("4410", id_, "unsubscribed")
    sim.folder().unsubscribe("VIP", "p0@post.example")
    client = client_of(sim.handle)
    [*_, page] = [
        page for _, page in zip(range(3), pull(client, None, []), strict=False)
    ]
    assert page.stage == "opt-outs of Newsletter"
    sim.folder().delete_list("4410")

    rest = list(pull(client, page.cursor, []))

    assert [page.stage for page in rest] == ["opt-outs of VIP"]
    assert len(seen(rest, "opt-outs of VIP")) == 1


def test_nobody_is_left_on_a_list(client_of: ClientOf) -> None:
    """That a list has no members is believed when the list is seen to be there."""
    sim = crowd(2)

    pages = list(pull(client_of(sim.handle), None, [NEWS]))

    of = [page for page in pages if page.stage == "members of Newsletter"]
    assert [(page.members_of, len(page.contacts)) for page in of] == [("4410", 0)] * 2
    assert len(sim.calls("GET", "lists")) == 2


def test_list_that_fails_but_is_there(client_of: ClientOf) -> None:
    """A failure that is not the list's is raised, and recovers."""
    sim = crowd(2)
    sim.fail("status", 3, "GET", "subscriptions", status=500)
    client = client_of(sim.handle)

    with pytest.raises(Temporary):
        list(pull(client, None, [NEWS]))

    assert seen(list(pull(client, None, []))) == contacts_of(sim)


# -- cost


class Folder:
    """A folder of many people that answers from ready pages."""

    def __init__(self, size: int) -> None:
        rows = [
            {
                "email": f"person-{number}@shop.example",
                **dict.fromkeys(("prefix", "suffix", "fax", "street2", "phone")),
                "firstName": "Ana",
                "lastName": "Ruiz",
                "street": "1 Mill Lane",
                "city": "Durham",
                "state": "NC",
                "postalCode": "27701",
                "createDate": f"2026-03-0{1 + number % 9} 09:15:00",
                "status": "normal",
                "bounceCount": None,
                "contactId": str(70_000_000 + number),
            }
            for number in range(500)
        ]
        self.size = size
        self.rows = rows

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer; the ids of the rows fit the offset."""
        if not request.url.path.endswith("/contacts"):
            return httpx.Response(200, json={"lists": [], "total": 0})
        offset = int(request.url.params["offset"])
        for number, row in enumerate(self.rows):
            row["contactId"] = str(70_000_000 + offset + number)
        rows = self.rows[: self.size - offset]
        return httpx.Response(
            200, content=orjson.dumps({"contacts": rows, "total": self.size})
        )


@pytest.mark.slow
def test_memory_is_flat(client_of: ClientOf) -> None:
    """A large folder takes no more memory than a small one."""
    peaks: list[int] = []
    for size in (1_000, 8_000):
        client = client_of(Folder(size).handle)
        tracemalloc.start()
        count = 0
        for page in pull(client, None, []):
            count += len(page.contacts)
            client.api.exchanges.clear()  # they are the core's to keep or not
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count >= size

    assert peaks[1] < peaks[0] * 1.3


def test_a_page_takes_little(client_of: ClientOf) -> None:
    """Besides parsing, a page of 500 rows costs a few milliseconds of processor."""
    folder = Folder(500)
    rows = orjson.loads(orjson.dumps(folder.rows))
    best = 1.0
    for _ in range(5):
        started = time.process_time()
        made = list(map(record, rows))
        best = min(best, time.process_time() - started)

    assert len(made) == 500
    assert best < 0.02  # 4 ms on a quiet machine
