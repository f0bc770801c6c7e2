"""Who exists already: nobody is overwritten because a search was believed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest

from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator

OnwardFor = Callable[..., TestApp]

DELIVERED = ("delivered", "delivered")
PEOPLE = [f"p{number:02}@shop.example" for number in range(12)]
THERE = PEOPLE[::3]


def crowd(size: int = 60, **switches: object) -> Simulator:
    """Return a simulator with several pages of strangers and some of PEOPLE."""
    settings: dict[str, Any] = {"max_limit": 50, **switches}
    sim = Simulator(**settings)
    for number in range(size):
        sim.folder().add_contact(f"other-{number}@post.example", fax="555-0199")
    for email in THERE:
        sim.folder().add_contact(email.upper(), fax="555-0199")
    return sim


def given(app: TestApp, *emails: str) -> None:
    """Create contacts here."""
    for email in emails:
        app.upsert_contact({"email": email, "first_name": "Ana"})


def faxes(sim: Simulator) -> int:
    """Return how many contacts still have the number that only iContact knows."""
    return sum(1 for one in sim.folder().contacts.values() if one.get("fax"))


def searches(sim: Simulator) -> list[dict[str, str]]:
    """Return the queries of all contact searches."""
    return [dict(parse_qsl(one.query)) for one in sim.calls("GET", "contacts")]


def changing(
    change: Callable[[dict[str, str]], object],
) -> Callable[..., httpx.Request]:
    """Return what changes the query of each contact search before it arrives."""

    def on_request(request: httpx.Request) -> httpx.Request:
        if request.method == "GET" and request.url.path.endswith("/contacts"):
            query = dict(parse_qsl(request.url.query.decode()))
            change(query)
            url = request.url.copy_with(query=urlencode(query).encode())
            return httpx.Request("GET", url, headers=request.headers)
        return request

    return on_request


def keep_first(query: dict[str, str]) -> None:
    """Honour only the first eight addresses of a list."""
    if "email" in query:
        query["email"] = ",".join(query["email"].split(",")[:8])


def keep_last(query: dict[str, str]) -> None:
    """Honour only the last of a list."""
    if "email" in query:
        query["email"] = query["email"].split(",")[-1]


def drop_filter(query: dict[str, str]) -> None:
    """Ignore lists of addresses without a word: everybody comes."""
    if "," in query.get("email", ""):
        del query["email"]


def drop_order(query: dict[str, str]) -> None:
    """Ignore the order asked for."""
    query.pop("orderby", None)
    if "," in query.get("email", ""):
        query["email"] = "x"


def empty_list(query: dict[str, str]) -> None:
    """Find nobody when asked for several."""
    if "," in query.get("email", ""):
        query["email"] = ""


@pytest.mark.parametrize("commas", ["honoured", "literal", "first", "ignored"])
@pytest.mark.parametrize("unknown_terms", ["warning", "no_rows"])
def test_nobody_is_overwritten_whatever_commas_mean(
    commas: str, unknown_terms: str, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Those who exist are found among a batch, whichever way lists are read."""
    sim = crowd(commas=commas, unknown_terms=unknown_terms)
    app = onward_for(sim)
    given(app, *PEOPLE)

    ended = tools.pushed(app, *PEOPLE)

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == 60 + len(THERE)
    assert sim.folder().counts()["contacts"] == 60 + len(PEOPLE)


@pytest.mark.parametrize(
    "change", [keep_first, keep_last, drop_filter, drop_order, empty_list]
)
def test_service_that_reads_lists_in_its_own_way_is_found_out(
    change: Callable[[dict[str, str]], object],
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """A list that is not honoured to its end is noticed, and asked another way."""
    sim = crowd()
    app = onward_for(sim, between=tools.Between(sim, changing(change)))
    given(app, *PEOPLE)

    ended = tools.pushed(app, *PEOPLE)

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == 60 + len(THERE)
    # It was learned for the day: no list is tried again.
    sim.requests.clear()
    given(app, "new-1@shop.example", "new-2@shop.example")
    tools.pushed(app, "new-1@shop.example", "new-2@shop.example")
    assert not [one for one in searches(sim) if "," in one.get("email", "")]


def test_rows_that_come_twice_take_nobodys_place(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A list is answered with its first rows twice: the last are not new for that."""
    sim = crowd()
    app = onward_for(sim, between=Doubling(sim))
    given(app, *THERE)

    ended = tools.pushed(app, *THERE)

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == 60 + len(THERE)


class Doubling:
    """An iContact that shows the first rows of a search for several twice."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer as the simulator, in as many rows as were asked for."""
        answer = self.sim.handle(request)
        asked = dict(request.url.params)
        if "," not in asked.get("email", ""):
            return answer
        body = answer.json()
        rows = body["contacts"]
        known = [row for row in rows if "other" in row["email"]]
        rows = [*known, *known, *(row for row in rows if row not in known)]
        body["contacts"] = rows[: int(asked["limit"])]
        return httpx.Response(200, json=body)


def test_guards_that_were_deleted_are_replaced(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """When the known addresses are gone, others take their place in the same push."""
    sim = crowd()
    app = onward_for(sim)
    given(app, *PEOPLE)
    tools.pushed(app, *PEOPLE[:6])
    [asked, *_] = [one["email"] for one in searches(sim) if "," in one.get("email", "")]
    for email in (asked.split(",")[0], asked.split(",")[-1]):
        contact = sim.folder().find(email)
        assert contact is not None
        sim.folder().delete_contact(contact)
    sim.requests.clear()

    ended = tools.pushed(app, *PEOPLE[6:])

    assert set(ended.values()) == {DELIVERED}
    lists = [one for one in searches(sim) if "," in one.get("email", "")]
    assert (len(searches(sim)), len(lists)) == (3, 2)


def test_batches_in_flight_learn_it_once(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """What one batch learned is not unlearned by another whose answer comes later."""
    first, learned = Lock(), Event()

    def be_late(query: dict[str, str]) -> None:
        if query.get("orderby") == "contactId":  # the folder is read instead
            learned.set()
        if "," in query.get("email", "") and first.acquire(blocking=False):
            assert learned.wait(20)

    sim = crowd(commas="ignored")
    app = onward_for(sim, between=tools.Between(sim, changing(be_late)))
    people = [f"q{number:03}@shop.example" for number in range(200)]
    given(app, *people)

    ended = tools.pushed(app, *people)

    assert set(ended.values()) == {DELIVERED}
    assert len([one for one in searches(sim) if "," in one.get("email", "")]) == 3


def test_guards_are_looked_for_again_every_day(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """What was learned of the folder is believed for a day."""
    sim = crowd()
    app = onward_for(sim)
    given(app, *PEOPLE)
    tools.pushed(app, *PEOPLE[:6])
    app.clock.tick(90_000)
    sim.requests.clear()

    tools.pushed(app, *PEOPLE[6:])

    assert [one.get("orderby") for one in searches(sim)] == ["contactId:desc", None]


def test_small_or_empty_folder_needs_no_list(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A folder of one page is read; in one that is empty twice everybody is new."""
    sim = Simulator()
    app = onward_for(sim)
    given(app, *PEOPLE)

    ended = tools.pushed(app, *PEOPLE)

    assert set(ended.values()) == {DELIVERED}
    assert [one.get("email") for one in searches(sim)] == [None, None]


def test_folder_whose_total_is_stale(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A total that counts deleted contacts spoils neither way of asking."""
    sim = crowd(stale_total="yes")
    for email in (*THERE[:2], "other-3@post.example"):
        contact = sim.folder().find(email)
        assert contact is not None
        sim.folder().delete_contact(contact)
    app = onward_for(sim)
    given(app, *PEOPLE)

    ended = tools.pushed(app, *PEOPLE)

    assert set(ended.values()) == {DELIVERED}
    assert sim.folder().counts()["contacts"] == 59 + len(PEOPLE)


@pytest.mark.parametrize(
    ("above", "cap"),
    [
        ("capped", 500),
        ("capped", 100),
        ("capped", 20),
        ("capped", 5),
        ("error400", 100),
        ("error400", 20),
    ],
)
def test_pages_smaller_than_asked(
    above: str, cap: int, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """However few rows a page has, every one who exists is found."""
    sim = crowd(600 if cap == 500 else 130, max_limit=cap, limit_above_max=above)
    app = onward_for(sim)
    before = faxes(sim)
    given(app, *PEOPLE)

    ended = tools.pushed(app, *PEOPLE)

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == before


@pytest.mark.parametrize("cap", [20, 25, 30, 75])
def test_total_of_a_page_that_is_cut(
    cap: int, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """It is not taken for the whole folder: who is behind it is found."""
    sim = crowd(130, max_limit=cap, total="page")
    app = onward_for(sim)
    before = faxes(sim)
    emails = [*PEOPLE, *(f"other-{number}@post.example" for number in range(60, 90))]
    given(app, *emails)

    ended = tools.pushed(app, *emails)

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == before


@pytest.mark.parametrize("many", [1, 120])
def test_contact_made_by_somebody_else_after_the_folder_was_read(
    many: int, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Without lists, whoever was created since the reading is seen, however many."""
    sim = crowd(commas="literal")
    app = onward_for(sim)
    given(app, *PEOPLE)
    tools.pushed(app, *PEOPLE[:6])
    sim.folder().add_contact(PEOPLE[7], fax="555-0199")
    for number in range(many):
        sim.folder().add_contact(f"late-{number}@post.example", fax="555-0199")
    before = faxes(sim)
    # Their newest page holds Onward's own new contacts too.
    given(app, *(f"own-{number}@shop.example" for number in range(8)))
    tools.pushed(app, *(f"own-{number}@shop.example" for number in range(8)))

    ended = tools.pushed(app, *PEOPLE[6:])

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == before


def test_reading_of_the_folder_is_not_believed_for_long(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """After ten minutes the folder is read again, also for changed addresses."""
    sim = crowd(commas="literal")
    app = onward_for(sim)
    given(app, *PEOPLE)
    tools.pushed(app, *PEOPLE[:6])
    other = sim.folder().find("other-5@post.example")
    assert other is not None
    sim.folder().change_email(other, PEOPLE[7])
    app.clock.tick(601)

    ended = tools.pushed(app, *PEOPLE[6:])

    assert set(ended.values()) == {DELIVERED}
    assert other.get("fax") == "555-0199"


def test_odd_addresses_are_asked_for_singly(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A star or an apostrophe in an address finds that address and no other."""
    sim = crowd()
    app = onward_for(sim)
    odd = ["o'neil@shop.example", "j*@shop.example", "a+b@shop.example"]
    sim.folder().add_contact("jo@shop.example", fax="555-0199")
    for email in odd[:2]:
        sim.folder().add_contact(email, fax="555-0199")
    given(app, *PEOPLE, *odd)
    before = faxes(sim)

    ended = tools.pushed(app, *PEOPLE, *odd)

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == before
    asked = [one["email"] for one in searches(sim) if "email" in one]
    assert sorted(one for one in asked if "," not in one) == ["j*@shop.example", odd[0]]
    assert "jo@shop.example" not in sim.folder().on_list("Newsletter")


def test_addresses_are_short_enough_for_one_url(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A hundred long addresses are asked for in several calls of 4,000 bytes."""
    sim = crowd(600, max_limit=500)
    long = "a-rather-long-name-that-has-umlauts-äöü"
    emails = [f"{long}-{number:03}@sub.domain.example" for number in range(100)]
    for email in emails[::10]:
        sim.folder().add_contact(email, fax="555-0199")
    before = faxes(sim)
    app = onward_for(sim)
    given(app, *emails)

    ended = tools.pushed(app, *emails)

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == before
    assert max(len(one.path) + len(one.query) for one in sim.requests) <= 4_000


@pytest.mark.parametrize("warns", [True, False])
def test_search_that_cannot_be_trusted_writes_nothing(
    warns: bool, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """When even one address cannot be searched for, nothing is written till it can."""
    sim = crowd(10)

    def break_search(query: dict[str, str]) -> None:
        if query.pop("email", "") and warns:
            query["emial"] = "x"

    between = tools.Between(sim, changing(break_search))
    app = onward_for(sim, between=between)
    given(app, PEOPLE[0])

    first = tools.pushed(app, PEOPLE[0])

    assert first == {"p00": ("waiting", "ignored_filter")}
    assert not sim.calls("POST")
    between.on_request = lambda request: request
    app.clock.tick(1_000)
    app.deliver()
    assert tools.ended(app)["p00"] == DELIVERED
    assert faxes(sim) == 10 + len(THERE)
