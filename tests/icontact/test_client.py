"""The client reads the recorded answers, and gets through the odd ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from onward import (
    AccountBlocked,
    CredentialsRefused,
    Lost,
    Rejected,
    RemoteContact,
    Temporary,
)
from onward_icontact.calls import Gone
from onward_icontact.client import Client
from onward_icontact.rows import text_of

ClientOf = Callable[[Callable[[httpx.Request], httpx.Response]], Client]
FIXTURES = Path(__file__).parent / "fixtures"

BLANK = dict.fromkeys(
    [
        "prefix",
        "lastName",
        "suffix",
        "street",
        "street2",
        "city",
        "postalCode",
        "phone",
        "fax",
        "business",
    ],
    "",
)
ANA_FIELDS = {
    **BLANK,
    "firstName": "Ana",
    "state": "NC",
    "email": "ana@shop.example",
    "loyaltytier": "gold",
}
MADE = datetime(2026, 3, 4, 14, 15, tzinfo=UTC)
ANA = RemoteContact(
    "70012345", "ana@shop.example", ANA_FIELDS, "normal", created_at=MADE
)


def recorded(name: str) -> Callable[[httpx.Request], httpx.Response]:
    """Return a handler that answers one recorded exchange, and only that."""
    exchange: dict[str, Any] = json.loads(
        (FIXTURES / f"{name}.json").read_text("utf-8")
    )
    asked, answer = exchange["request"], exchange["response"]

    def handle(request: httpx.Request) -> httpx.Response:
        place = (request.method, request.url.path.rstrip("/"))
        assert place == (asked["method"], asked["path"].rstrip("/"))
        return httpx.Response(
            answer["status"],
            text=json.dumps(answer["body"]),
            headers={"Content-Type": "text/html; charset=utf-8"},
        )

    return handle


def contacts(client: Client, email: str = "ana%40shop.example") -> list[Any]:
    """Search contacts; return their rows."""
    return [row for page in client.contacts({"email": email}) for row in page.rows]


READ: dict[str, tuple[Callable[[Client], object], object]] = {
    "accounts": (
        lambda client: [
            (text_of(row["accountId"]), text_of(row["enabled"]))
            for row in client.accounts()
        ],
        [("510001", "1")],
    ),
    "clientfolders": (
        lambda client: list(client.folders()),
        [
            {
                "clientFolderId": "8801",
                "logoId": None,
                "emailRecipient": "sam@bakery.example",
            }
        ],
    ),
    "lists": (
        lambda client: [(row["listId"], row["name"]) for row in client.lists()],
        [("4410", "Newsletter")],
    ),
    "customfields": (
        lambda client: [row["customFieldId"] for row in client.custom_fields()],
        ["loyaltytier"],
    ),
    "list_read": (lambda client: client.list_exists("4410"), True),
    "list_read_deleted": (lambda client: client.list_exists("4410"), False),
    "contact_read": (lambda client: client.contact("70012345"), ANA),
    "contact_read_deleted": (
        lambda client: client.contact("70012345"),
        replace(ANA, status="deleted"),
    ),
    "contact_merge": (
        lambda client: client.update("70012345", {"city": "Eindhoven"}),
        (
            replace(ANA, fields={**ANA_FIELDS, "city": "Eindhoven"}),
            "",
        ),
    ),
    "contact_post_array": (
        lambda client: client.update("70012345", {}),
        (ANA, "Invalid field: 0"),
    ),
    "contacts_post": (
        lambda client: [
            (one.remote_id, one.email, one.status) for one in client.create([])[0]
        ],
        [
            ("70012345", "ana@shop.example", "normal"),
            ("70012346", "bo@shop.example", "normal"),
        ],
    ),
    "contacts_post_without_email": (
        lambda client: client.create([{}]),
        (
            [],
            "You did not provide an email field, which is required. Please provide an "
            "email field",
        ),
    ),
    "contacts_search": (
        lambda client: [
            (row["contactId"], row["lastName"]) for row in contacts(client)
        ],
        [("70012345", None)],
    ),
    "contacts_search_nobody": (contacts, []),
    "subscription_read": (
        lambda client: client.membership("4410", "70012345"),
        "normal",
    ),
    "subscription_read_missing": (
        lambda client: client.membership("4410", "70012345"),
        "none",
    ),
    "subscriptions_search": (
        lambda client: [
            (row["contactId"], row["status"])
            for page in client.subscriptions("4410", "normal")
            for row in page.rows
        ],
        [("70012345", "normal")],
    ),
    "subscriptions_post": (
        lambda client: client.subscribe("4410", ["70012345"], "normal"),
        ({"70012345": "normal"}, ""),
    ),
    "subscriptions_post_empty": (
        lambda client: client.subscribe("4410", ["70012345"], "normal"),
        ({}, "Subscription at index 0 field contactId missing."),
    ),
}
REFUSED: dict[str, tuple[Callable[[Client], object], type[Exception], str]] = {
    "bad_credentials": (
        lambda client: list(client.accounts()),
        CredentialsRefused,
        "Api username invalid",
    ),
    "unknown_account": (
        lambda client: list(Client(client.api, "", "").folders()),
        CredentialsRefused,
        "did not recognise",
    ),
    "empty_ids": (
        lambda client: contacts(Client(client.api, "", "")),
        AccountBlocked,
        "Not Implemented",
    ),
    "contacts_search_unknown_term": (contacts, Temporary, "did not answer what was"),
    "contacts_post_malformed": (
        lambda client: client.create([]),
        Rejected,
        "well-formed data",
    ),
    "contact_post_unwritable_status": (
        lambda client: client.update("70012345", {"status": "deleted"}),
        Rejected,
        "status can be either",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_reads_what_was_recorded(name: str, client_of: ClientOf) -> None:
    """Each recorded answer is understood, though it comes as text/html."""
    call, expected = READ[name]

    got = call(client_of(recorded(name)))

    assert got == expected


@pytest.mark.parametrize("name", REFUSED)
def test_raises_what_a_recorded_refusal_means(name: str, client_of: ClientOf) -> None:
    """Each recorded refusal becomes the right error, with the service's own words."""
    call, error, words = REFUSED[name]
    client = client_of(recorded(name))

    with pytest.raises(error, match=words) as raised:
        call(client)

    assert not isinstance(raised.value, Gone)


def answer(
    body: object, status: int = 200
) -> Callable[[httpx.Request], httpx.Response]:
    """Return a handler with one answer for everything."""
    return lambda _: httpx.Response(status, json=body)


def test_contact_that_never_existed_is_none(client_of: ClientOf) -> None:
    """404 `Not Found` and 500 `No result for` both mean that nobody is there."""
    missing = client_of(answer({"errors": ["Not Found"]}, 404))
    purged = client_of(answer({"errors": ["No result for (70012345)."]}, 500))

    found = [client.contact("70012345") for client in (missing, purged)]

    assert found == [None, None]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(404, text="<html>Not Found</html>"), Temporary),
        (httpx.Response(404, text=""), Temporary),
        (
            httpx.Response(404, json={"errors": ["did not recognise"]}),
            CredentialsRefused,
        ),
        (httpx.Response(500, json={"errors": ["Oops"]}), Temporary),
        (httpx.Response(403, text="<html>Attention required</html>"), Temporary),
        (httpx.Response(403, json={"errors": ["Forbidden"]}), CredentialsRefused),
        (httpx.Response(200, json={"errors": ["?"]}), Temporary),
        (httpx.Response(200, json=7), Temporary),
        (httpx.Response(200, json=[]), Temporary),
    ],
)
def test_no_answer_is_taken_for_absence(
    response: httpx.Response, error: type[Exception], client_of: ClientOf
) -> None:
    """Only iContact's own words say that a contact is gone; all else is an error."""
    client = client_of(lambda _: response)

    with pytest.raises(error) as raised:
        client.contact("70012345")

    assert not isinstance(raised.value, Gone)


@pytest.mark.parametrize(
    "call",
    [
        contacts,
        lambda client: client.create([{"email": "ana@shop.example"}]),
        lambda client: list(client.lists()),
        lambda client: list(client.custom_fields()),
    ],
)
def test_missing_collection_is_a_missing_folder(
    call: Callable[[Client], object], client_of: ClientOf
) -> None:
    """However it is worded: where there are no contacts at all is no folder."""
    client = client_of(answer({"errors": ["Not Found"]}, 404))

    with pytest.raises(CredentialsRefused, match="account or folder"):
        call(client)


def test_write_answered_by_a_page_is_lost(client_of: ClientOf) -> None:
    """A POST answered with HTML may have worked: nobody knows."""
    client = client_of(lambda _: httpx.Response(200, text="<html>Sorry</html>"))

    with pytest.raises(Lost):
        client.create([{"email": "ana@shop.example"}])


def test_addresses_in_place_of_records_are_no_echo(client_of: ClientOf) -> None:
    """An answer of "resource locations" confirms nothing, and breaks nothing."""
    client = client_of(answer({"subscriptions": ["https://x/subscriptions/1_2"]}))

    got = client.subscribe("1", ["2"], "normal")

    assert got == ({}, "")


def test_subscriptions_are_sent_as_recorded(client_of: ClientOf) -> None:
    """Ids go out as numbers, the status with them."""
    sent: list[object] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"subscriptions": []})

    client_of(handle).subscribe("4410", ["70012345"], "pending")

    assert sent == [[{"contactId": 70012345, "listId": 4410, "status": "pending"}]]


def test_rows_of_other_lists_are_left_out(client_of: ClientOf) -> None:
    """A service that ignores the list does not make anybody a member of it."""
    rows = [
        {"listId": list_id, "contactId": contact_id, "status": "normal"}
        for list_id, contact_id in ((4410, 1), ("4411", "2"), ("4410", "3"))
    ]
    client = client_of(answer({"subscriptions": rows, "total": 3}))

    pages = list(client.subscriptions("4410", "normal"))

    assert [row["contactId"] for page in pages for row in page.rows] == [1, "3"]


class Shelf:
    """A collection of numbered rows that changes while it is read.

    Args:
        cap: most rows of a page.
        total: whether answers carry one.
    """

    def __init__(self, size: int, cap: int = 500, *, total: bool = True) -> None:
        self.rows = [{"contactId": str(number)} for number in range(size)]
        self.cap = cap
        self.has_total = total
        self.before_page: dict[int, Callable[[], object]] = {}
        self.asked: list[tuple[int, int]] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one page."""
        self.before_page.pop(len(self.asked), lambda: None)()
        limit, offset = (int(request.url.params[n]) for n in ("limit", "offset"))
        self.asked.append((limit, offset))
        page = self.rows[offset : offset + min(limit, self.cap)]
        total = {"total": len(self.rows)} if self.has_total else {}
        return httpx.Response(200, json={"contacts": page, **total})


def ids(client: Client) -> set[str]:
    """Read the whole shelf."""
    pages = client.contacts({"orderby": "contactId"})
    return {row["contactId"] for page in pages for row in page.rows}


@pytest.mark.parametrize("cap", [500, 100, 20, 7])
@pytest.mark.parametrize("size", [0, 1, 20, 499, 500, 501, 1_003])
@pytest.mark.parametrize("total", [True, False])
def test_reads_every_row(size: int, cap: int, total: bool, client_of: ClientOf) -> None:
    """All rows come, however few a page holds, with or without a total."""
    shelf = Shelf(size, cap, total=total)

    got = ids(client_of(shelf.handle))

    assert got == {str(number) for number in range(size)}


def test_row_that_moved_to_an_earlier_page_is_not_missed(client_of: ClientOf) -> None:
    """Rows that vanish while pages are read do not hide others at the seam."""
    shelf = Shelf(1_200)
    shelf.before_page[1] = lambda: shelf.rows.__delitem__(slice(0, 8))

    got = ids(client_of(shelf.handle))

    assert got == {str(number) for number in range(1_200)}


def test_pages_that_shift_too_far_are_no_answer(client_of: ClientOf) -> None:
    """When more rows vanish than pages overlap, the reading fails; then it works."""
    shelf = Shelf(1_200)
    shelf.before_page[1] = lambda: shelf.rows.__delitem__(slice(0, 50))
    client = client_of(shelf.handle)

    with pytest.raises(Temporary, match="shifted"):
        ids(client)

    assert ids(client) == {str(number) for number in range(50, 1_200)}


@pytest.mark.parametrize("body", [[], {}, {"total": 0}, {"warnings": []}])
def test_page_without_its_collection_is_no_answer(
    body: object, client_of: ClientOf
) -> None:
    """Nobody there is a list of nobody; nothing at all says nothing."""
    client = client_of(answer(body))

    with pytest.raises(Temporary, match="without the contacts"):
        contacts(client)

    assert contacts(client_of(answer({"contacts": None, "total": 0}))) == []


def test_total_of_the_page_does_not_hide_the_next(client_of: ClientOf) -> None:
    """A total that counts only the page at hand is not believed of a full page."""
    shelf = Shelf(1_203)

    def low(request: httpx.Request) -> httpx.Response:
        body = json.loads(shelf.handle(request).content)
        return httpx.Response(200, json={**body, "total": len(body["contacts"])})

    got = ids(client_of(low))

    assert got == {str(number) for number in range(1_203)}


@pytest.mark.parametrize("total", ["²", "9" * 5_000, "-1", "1e3", None, [], {}])
def test_total_that_is_no_number_is_none(total: object, client_of: ClientOf) -> None:
    """An odd total is as if there were none."""
    shelf = Shelf(503)

    def odd(request: httpx.Request) -> httpx.Response:
        rows = json.loads(shelf.handle(request).content)["contacts"]
        return httpx.Response(200, json={"contacts": rows, "total": total})

    assert len(ids(client_of(odd))) == 503


def test_lists_without_an_end_are_no_answer(client_of: ClientOf) -> None:
    """A service that goes on for ever holds a worker for a while only."""
    asked: list[int] = []

    def endless(request: httpx.Request) -> httpx.Response:
        asked.append(int(request.url.params["offset"]))
        rows = [{"listId": str(asked[-1] + n)} for n in range(20)]
        return httpx.Response(200, json={"lists": rows})

    with pytest.raises(Temporary, match="without an end"):
        list(client_of(endless).lists())

    assert len(asked) <= 501


def test_total_that_counts_vanished_rows_ends(client_of: ClientOf) -> None:
    """A total larger than what there is costs one more call, not for ever."""
    asked: list[str] = []

    def stale(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["offset"])
        rows = [{"contactId": "1"}] if asked == ["0"] else []
        return httpx.Response(200, json={"contacts": rows, "total": 3})

    got = ids(client_of(stale))

    assert (got, asked) == ({"1"}, ["0", "1"])


@pytest.mark.parametrize("hole", [[], None, {}])
def test_empty_page_in_the_middle_is_no_end(hole: object, client_of: ClientOf) -> None:
    """Rows that were to come again did not; once they do, everybody comes."""
    shelf = Shelf(60, 20)
    holes = [hole]

    def handle(request: httpx.Request) -> httpx.Response:
        answer = shelf.handle(request)
        if shelf.asked[-1][1] and holes:
            return httpx.Response(200, json={"contacts": holes.pop(), "total": 60})
        return answer

    client = client_of(handle)

    with pytest.raises(Temporary, match="shifted"):
        ids(client)

    assert ids(client) == {str(number) for number in range(60)}


@pytest.mark.parametrize("nobody", [[], None, {}])
@pytest.mark.parametrize("stray", [1, 9])
def test_nobody_who_is_counted_is_no_answer(
    nobody: object, stray: int, client_of: ClientOf
) -> None:
    """One such answer is asked for again, more are an error, and then it works."""
    shelf = Shelf(9)
    strays = [nobody] * stray

    def handle(request: httpx.Request) -> httpx.Response:
        if "email" in request.url.params:
            return httpx.Response(200, json={"contacts": [], "total": 0})
        if strays:
            return httpx.Response(200, json={"contacts": strays.pop(), "total": 9})
        return shelf.handle(request)

    client = client_of(handle)

    if stray > 1:
        with pytest.raises(Temporary, match="counts 9 contacts and shows none"):
            ids(client)
        strays.clear()

    assert ids(client) == {str(number) for number in range(9)}


@pytest.mark.parametrize("total", [1, 7])
def test_total_that_counts_nobody_too_is_not_believed(
    total: int, client_of: ClientOf
) -> None:
    """Where it is too high of everything, an empty collection is empty."""
    client = client_of(answer({"contacts": [], "subscriptions": [], "total": total}))

    pages = [*client.contacts({}), *client.subscriptions("4410", "unsubscribed")]

    assert [page.rows for page in pages] == [[], []]


def test_deleted_contact_that_is_counted_is_not_there(client_of: ClientOf) -> None:
    """A search for one address believes the rows; not when it counts a crowd."""
    gone = client_of(answer({"contacts": [], "total": 1}))
    away = client_of(answer({"contacts": None, "total": 500}))

    with pytest.raises(Temporary, match="counts 500 contacts"):
        contacts(away)

    assert contacts(gone) == []


def test_array_with_gaps_is_a_collection(client_of: ClientOf) -> None:
    """It comes as an object, whose values are the rows."""
    rows = {"1": {"contactId": "7"}, "3": {"contactId": "9"}}

    got = contacts(client_of(answer({"contacts": rows, "total": 2})))

    assert got == [{"contactId": "7"}, {"contactId": "9"}]


@pytest.mark.parametrize(
    "odd", ["", 0, 7, "nobody", True, ["https://x/1"], {"contactId": "7"}, [[1]]]
)
def test_what_is_no_collection_is_no_answer(odd: object, client_of: ClientOf) -> None:
    """Nobody is concluded from it; the next answer is understood."""
    answers = [odd, [{"contactId": "7"}]]
    client = client_of(
        lambda _: httpx.Response(200, json={"contacts": answers.pop(0), "total": 1})
    )

    with pytest.raises(Temporary, match="without the contacts"):
        contacts(client)

    assert contacts(client) == [{"contactId": "7"}]


@pytest.mark.parametrize("status", [400, 500])
def test_page_that_fails_is_asked_for_smaller(status: int, client_of: ClientOf) -> None:
    """A page that cannot be answered is read in smaller ones, none of it skipped."""
    shelf = Shelf(700)

    def fussy(request: httpx.Request) -> httpx.Response:
        if int(request.url.params["limit"]) > 100:
            return httpx.Response(status, json={"errors": ["limit"]})
        return shelf.handle(request)

    got = ids(client_of(fussy))

    assert got == {str(number) for number in range(700)}


@pytest.mark.parametrize("size", [1, 3, 30, 700])
def test_rows_that_come_twice_and_a_total_that_is_too_high(
    size: int, client_of: ClientOf
) -> None:
    """Both lie for ever: the next page begins where the rows, counted once, end."""
    shelf = Shelf(size)

    def handle(request: httpx.Request) -> httpx.Response:
        body = shelf.handle(request).json()
        rows = body["contacts"]
        body["contacts"] = [*rows[:2], *rows]
        return httpx.Response(200, json={**body, "total": size + 900})

    assert ids(client_of(handle)) == {row["contactId"] for row in shelf.rows}
