"""Answers that are not what they should be put nobody on a list, and blank nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator

OnwardFor = Callable[..., TestApp]
Body = dict[str, Any]

DELIVERED = ("delivered", "delivered")
UNSUBSCRIBED = ("skipped", "unsubscribed")
LIST = "subscriptions"


@dataclass
class Odd:
    """Stands between Onward and a simulator, and changes some answers.

    Args:
        changes: resource and how its GETs of 200 are answered, given the query and
            the body; removed by a test that wants the service well again.
    """

    sim: Simulator
    changes: dict[str, Callable[[httpx.QueryParams, Body], object]] = field(
        default_factory=dict[str, Callable[[httpx.QueryParams, Body], object]]
    )

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on; change the answer."""
        answer = self.sim.handle(request)
        resource = request.url.path.rpartition("/c/8801/")[2]
        for name, change in self.changes.items():
            if (
                request.method == "GET"
                and answer.status_code == 200
                and (resource == name or resource.startswith(f"{name}/"))
            ):
                body = change(request.url.params, json.loads(answer.content))
                return httpx.Response(200, json=body)
        return answer


def people(sim: Simulator, size: int, *lists: str, fax: str = "") -> list[str]:
    """Put so many people there; return their addresses."""
    emails = [f"p{number:02}@shop.example" for number in range(size)]
    for email in emails:
        sim.folder().add_contact(email, "normal", lists, fax=fax)
    return emails


def left(sim: Simulator, size: int) -> list[str]:
    """Put so many people there who left the Newsletter; return their addresses."""
    emails = people(sim, size, "Newsletter", fax="555-0199")
    for email in emails:
        sim.folder().unsubscribe("Newsletter", email)
    return emails


def known(app: TestApp, emails: list[str]) -> None:
    """Have them here."""
    for email in emails:
        app.upsert_contact({"email": email, "first_name": "Ana"})


def faxes(sim: Simulator) -> int:
    """Return how many still have what only iContact knows."""
    return sum(1 for one in sim.folder().contacts.values() if one.get("fax"))


def once(change: Callable[[Body], object]) -> Callable[..., object]:
    """Return a change of the first page behind others, and of no other."""
    done: list[bool] = []

    def odd(query: httpx.QueryParams, body: Body) -> object:
        if int(query.get("offset", 0)) == 0 or done:
            return body
        done.append(True)
        return change(body)

    return odd


def later(app: TestApp) -> None:
    """Push again what waits."""
    app.clock.tick(8 * 3_600)
    app.deliver()


# -- pages with nobody, and collections that are no arrays


def test_hole_in_the_opt_outs_subscribes_nobody(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """An empty page in the middle is no end of them; read again, they are obeyed."""
    sim = Simulator(max_limit=20, opt_out_subscribe="resubscribes")
    emails = left(sim, 60)[-12:]
    odd = Odd(sim, {LIST: once(lambda body: {**body, LIST: []})})
    app = onward_for(sim, between=odd)
    known(app, emails)

    waiting = tools.pushed(app, *emails)
    later(app)

    assert {state for state, _ in waiting.values()} == {"waiting"}
    assert set(tools.ended(app).values()) == {UNSUBSCRIBED}
    assert sim.folder().on_list("Newsletter") == set()


def test_hole_in_the_folder_blanks_nobody(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Who is behind an empty page is not new."""
    sim = Simulator(max_limit=100, commas="literal")
    emails = people(sim, 350, fax="555-0199")[-20:]
    odd = Odd(sim, {"contacts": once(lambda body: {**body, "contacts": []})})
    app = onward_for(sim, between=odd)
    known(app, emails)

    tools.pushed(app, *emails)
    later(app)

    assert set(tools.ended(app).values()) == {DELIVERED}
    assert faxes(sim) == 350


@pytest.mark.parametrize("commas", ["honoured", "literal"])
@pytest.mark.parametrize("call", [1, 2])
def test_folder_that_is_empty_once_blanks_nobody(
    commas: Any, call: int, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """That nobody is there is believed of a folder when it was said twice."""
    sim = Simulator(commas=commas, max_limit=100)
    emails = people(sim, 250, fax="555-0199")[-20:]
    calls: list[int] = []

    def empty(query: httpx.QueryParams, body: Body) -> Body:
        if "email" in query:
            return body
        calls.append(len(calls) + 1)
        return {"contacts": [], "total": 0} if len(calls) == call else body

    app = onward_for(sim, between=Odd(sim, {"contacts": empty}))
    known(app, emails)

    tools.pushed(app, *emails)
    later(app)

    assert set(tools.ended(app).values()) == {DELIVERED}
    assert faxes(sim) == 250


@pytest.mark.parametrize("name", ["contacts", LIST])
@pytest.mark.parametrize("size", [1, 4])
def test_array_with_gaps_hides_nobody(
    name: str, size: int, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """As an object it holds the same people."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    emails = left(sim, size)

    def gaps(_: httpx.QueryParams, body: Body) -> Body:
        rows = body.get(name) or []
        return {**body, name: {str(place + 1): row for place, row in enumerate(rows)}}

    odd = Odd(sim, {name: gaps} if name == "contacts" else {})
    if name == LIST:
        odd.changes[name] = lambda query, body: (
            gaps(query, body) if name in body else body
        )
    app = onward_for(sim, between=odd)
    known(app, emails)

    ended = tools.pushed(app, *emails)
    odd.changes.clear()
    sim.folder().add_contact("new@shop.example")
    known(app, ["new@shop.example"])

    assert set(ended.values()) == {UNSUBSCRIBED}
    assert faxes(sim) == size
    assert tools.pushed(app, "new@shop.example") == {"new": DELIVERED}


@pytest.mark.parametrize("nobody", [[], None])
def test_opt_outs_that_are_counted_and_not_shown(
    nobody: object, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Each is asked about instead; who left stays off."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    emails = left(sim, 5)

    def empty(_: httpx.QueryParams, body: Body) -> Body:
        return {**body, LIST: nobody} if LIST in body else body

    odd = Odd(sim, {LIST: empty})
    app = onward_for(sim, between=odd)
    known(app, emails)

    ended = tools.pushed(app, *emails)
    odd.changes.clear()
    new = "new@shop.example"
    known(app, [new])

    assert set(ended.values()) == {UNSUBSCRIBED}
    assert tools.pushed(app, new) == {"new": DELIVERED}


# -- statuses nobody knows


def says(sim: Simulator, email: str, status: str) -> None:
    """Let the row of somebody on the Newsletter have any status."""
    contact = sim.folder().find(email)
    assert contact is not None
    list_id = sim.folder().list_named("Newsletter").list_id
    row = sim.folder().membership(list_id, contact.contact_id)
    assert row is not None
    row.status = status


@pytest.mark.parametrize("word", ["bounced", "donotcontact", "complaint", "removed"])
def test_membership_nobody_knows_is_no_permission(
    word: str, sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """They are left alone, with the word in the reason; and pushed once it is known."""
    [ana] = people(sim, 1, "Newsletter")
    says(sim, ana, word)
    app = onward_for(sim)
    known(app, [ana])

    ended = tools.pushed(app, ana)
    why = tools.reason(app, ana)
    writes = [one for one in sim.requests if one.method != "GET"]
    says(sim, ana, "normal")

    assert (ended, writes) == ({"p00": ("failed", "unknown_status")}, [])
    assert f'"{word}"' in why
    assert tools.pushed(app, ana) == {"p00": DELIVERED}


@pytest.mark.parametrize("word", ["Unsubscribed", "UNSUBSCRIBED", " unsubscribed "])
@pytest.mark.parametrize("size", [1, 4])
def test_unsubscribed_in_any_letters(
    word: str, size: int, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """It is read without case and blanks, singly and in a list of opt-outs."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    emails = left(sim, size)

    def shout(_: httpx.QueryParams, body: Body) -> Body:
        rows = body.get(LIST) or [body.get("subscription")]
        for row in filter(None, rows):
            row["status"] = word
        return body

    odd = Odd(sim, {LIST: shout})
    app = onward_for(sim, between=odd)
    known(app, emails)

    ended = tools.pushed(app, *emails)
    odd.changes.clear()
    new = "new@shop.example"
    known(app, [new])

    assert set(ended.values()) == {UNSUBSCRIBED}
    assert tools.pushed(app, new) == {"new": DELIVERED}


@pytest.mark.parametrize("word", ["optout", "", None])
def test_opt_outs_of_an_unknown_status_are_left_alone(
    word: str | None, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Of several at once too; when the word is known again, they are obeyed."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    emails = left(sim, 4)

    def rename(_: httpx.QueryParams, body: Body) -> Body:
        for row in body.get(LIST) or []:
            row["status"] = word
        return body

    odd = Odd(sim, {LIST: rename})
    app = onward_for(sim, between=odd)
    known(app, emails)

    ended = tools.pushed(app, *emails)
    odd.changes.clear()
    app.clock.tick(3_600)

    assert set(ended.values()) == {("failed", "unknown_status")}
    assert sim.folder().on_list("Newsletter") == set()
    assert set(tools.pushed(app, *emails).values()) == {UNSUBSCRIBED}


# -- one stray answer


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"errors": ["Not Found"]}),
        (500, {"errors": ["No result for (4410)."]}),
        (200, {"subscription": {}}),
        (200, {"subscription": {"status": None}}),
    ],
)
def test_stray_answer_subscribes_nobody_again(
    status: int, body: Body, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """That somebody is on no list is believed when it was said twice."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    [ana] = left(sim, 1)
    strays = [httpx.Response(status, json=body)]

    class Stray:
        def handle(self, request: httpx.Request) -> httpx.Response:
            if "/subscriptions/" in request.url.path and strays:
                return strays.pop()
            return sim.handle(request)

    app = onward_for(sim, between=Stray())
    known(app, [ana, "new@shop.example"])

    ended = tools.pushed(app, ana)

    assert (ended, strays) == ({"p00": UNSUBSCRIBED}, [])
    assert tools.pushed(app, "new@shop.example") == {"new": DELIVERED}


@pytest.mark.parametrize("row", [{}, {"status": "normal"}, {"listId": "4411"}])
def test_row_of_nobody_is_no_membership(
    row: Body, sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A row without the ids that were asked for waits, and is asked for again."""
    [ana] = people(sim, 1, "Newsletter")
    odd = Odd(sim, {LIST: lambda _, body: {**body, "subscription": row}})
    app = onward_for(sim, between=odd)
    known(app, [ana])

    waiting = tools.pushed(app, ana)
    odd.changes.clear()
    later(app)

    assert waiting == {"p00": ("waiting", "not_understood")}
    assert tools.ended(app) == {"p00": DELIVERED}


# -- two rows of one address


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("commas", ["honoured", "literal"])
def test_living_row_is_preferred(
    size: int,
    is_first: bool,
    commas: Any,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """A deleted contact of the same address does not hide the one who is there."""
    sim = Simulator(commas=commas)
    emails = people(sim, size, fax="555-0199")
    people_else = [f"other-{number}@post.example" for number in range(60)]
    for email in people_else:
        sim.folder().add_contact(email)

    def twice(_: httpx.QueryParams, body: Body) -> Body:
        rows = body.get("contacts") or []
        gone = [
            {**row, "contactId": f"1{row['contactId']}", "status": "deleted"}
            for row in rows
            if row["email"] in emails
        ]
        both = [*gone, *rows] if is_first else [*rows, *gone]
        return {**body, "contacts": both, "total": len(both)} if rows else body

    odd = Odd(sim, {"contacts": twice})
    app = onward_for(sim, between=odd)
    known(app, emails)

    ended = tools.pushed(app, *emails)

    assert set(ended.values()) == {DELIVERED}
    assert faxes(sim) == size


def test_deleted_row_alone_is_found(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Where iContact shows only that one, it counts, until somebody is there."""
    sim = Simulator(total_includes_deleted="yes")
    [ana] = people(sim, 1)
    contact = sim.folder().find(ana)
    assert contact is not None
    sim.folder().delete_contact(contact)
    app = onward_for(sim)
    known(app, [ana, "new@shop.example"])

    assert tools.pushed(app, ana) == {"p00": ("skipped", "deleted")}
    assert tools.pushed(app, "new@shop.example") == {"new": DELIVERED}


# -- opt-outs that no search shows


def hidden(_: httpx.QueryParams, body: Body) -> Body:
    """Show nobody in a search for memberships, and say so."""
    return {**body, LIST: [], "total": 0} if LIST in body else body


@pytest.mark.parametrize("size", [1, 3, 5, 30])
def test_opt_outs_that_are_hidden(
    size: int, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A search that never showed an opt-out proves nothing: each is asked about."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    emails = left(sim, size)
    odd = Odd(sim, {LIST: hidden})
    app = onward_for(sim, between=odd)
    known(app, emails)

    ended = tools.pushed(app, *emails)
    odd.changes.clear()
    known(app, ["new@shop.example"])

    assert set(ended.values()) == {UNSUBSCRIBED}
    assert sim.folder().on_list("Newsletter") == set()
    assert tools.pushed(app, "new@shop.example") == {"new": DELIVERED}


@pytest.mark.parametrize("size", [3, 30])
def test_one_search_that_shows_nobody(
    size: int, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Where opt-outs were seen before, it is asked again."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    emails = left(sim, size + 1)
    odd = Odd(sim)
    app = onward_for(sim, between=odd)
    known(app, [*emails, "a@shop.example", "b@shop.example"])
    tools.pushed(app, emails[-1], "a@shop.example", "b@shop.example")
    app.clock.tick(3_600)
    strays = [hidden]
    odd.changes[LIST] = lambda query, body: (
        strays.pop()(query, body)
        if strays and query.get("status") == "unsubscribed"
        else body
    )

    ended = tools.pushed(app, *emails[:-1])

    assert (set(ended.values()), strays) == ({UNSUBSCRIBED}, [])


def test_revived_with_opt_outs_that_are_hidden(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Who comes back with an id of old is asked about by itself."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    emails = left(sim, 8)
    for email in emails:
        contact = sim.folder().find(email)
        assert contact is not None
        sim.folder().delete_contact(contact)
    for number in range(520):
        sim.folder().add_contact(f"other-{number}@post.example")
    odd = Odd(sim, {LIST: hidden})
    app = onward_for(sim, between=odd)
    known(app, emails)

    ended = tools.pushed(app, *emails)
    odd.changes.clear()
    known(app, ["new@shop.example"])

    assert set(ended.values()) == {UNSUBSCRIBED}
    assert tools.pushed(app, "new@shop.example") == {"new": DELIVERED}


def test_opt_outs_that_a_pull_showed_prove_the_search(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Then many who are on no list cost no call each; before, they do."""
    sim = Simulator()
    emails = people(sim, 30)
    sim.folder().add_contact("left@shop.example", "normal", ["VIP"])
    sim.folder().unsubscribe("VIP", "left@shop.example")
    app = onward_for(sim)
    known(app, emails)

    def singly() -> int:
        asked = [one for one in sim.calls("GET", LIST) if "_" in one.path]
        sim.requests.clear()
        return len(asked)

    tools.pushed(app, *emails[:15])
    before = singly()
    app.sync("icontact")
    singly()
    tools.pushed(app, *emails[15:])

    assert (before, singly()) == (15, 0)
    assert len(sim.folder().on_list("Newsletter")) == 30
