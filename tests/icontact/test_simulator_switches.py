"""Every value of every switch does what it says, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from onward_icontact.simulator import SWITCHES, Folder, Simulator, connect

MADE = datetime(2026, 3, 4, 14, 15, tzinfo=UTC)
LATER = datetime(2026, 3, 5, 14, 15, tzinfo=UTC)

View = Callable[[httpx.Response, Folder], object]


def a_world() -> Simulator:
    """Return a folder with one contact of each kind, one day old."""
    moments = [MADE]
    sim = Simulator(lambda: moments[-1])
    folder = sim.folder()
    folder.add_custom_field("orders", "number")
    folder.add_contact(
        "ana@x.example", lists=["4410"], firstName="Ana", business="Mill", orders="3"
    )
    folder.add_contact("bo@x.example", "donotcontact", firstName="Bo")
    folder.add_contact("cem@x.example", "bounced")
    folder.add_contact("dia@x.example", "deleted")
    folder.add_contact("eve@x.example")
    folder.unsubscribe("4410", "eve@x.example")
    folder.add_contact("fay@x.example", "pending")
    moments.append(LATER)
    return sim


ANA, BO, DIA, EVE = "70012345", "70012346", "70012348", "70012349"


def status(answer: httpx.Response, folder: Folder) -> object:
    """View the HTTP status."""
    del folder
    return answer.status_code


def names(answer: httpx.Response, folder: Folder) -> object:
    """View whom a search found."""
    del folder
    return [row["email"][:3] for row in answer.json()["contacts"]]


def whose(answer: httpx.Response, folder: Folder) -> object:
    """View whose memberships a search found."""
    del folder
    return [row["contactId"] for row in answer.json()["subscriptions"]]


def keys(answer: httpx.Response, folder: Folder) -> object:
    """View the status and the members of the answer."""
    del folder
    return answer.status_code, sorted(answer.json())


def total(answer: httpx.Response, folder: Folder) -> object:
    """View how many rows there are and how many are reported."""
    del folder
    body = answer.json()
    return len(body["contacts"]), body["total"]


def row(*path: str | int) -> View:
    """View one value of the answer."""

    def view(answer: httpx.Response, folder: Folder) -> object:
        del folder
        value = answer.json()
        for step in path:
            value = value[step]
        return value

    return view


def contact(email: str, field: str = "") -> View:
    """View the status and one field of a contact."""

    def view(answer: httpx.Response, folder: Folder) -> object:
        one = folder.find(email)
        found = None if one is None else (one.status, one.get(field))
        return answer.status_code, "warnings" in answer.text, found

    return view


def membership(email: str) -> View:
    """View the answer's rows and what became of an address on the list."""

    def view(answer: httpx.Response, folder: Folder) -> object:
        rows = answer.json().get("subscriptions")
        shown = rows and [one["status"] for one in rows]
        return answer.status_code, shown, folder.subscription("4410", email)

    return view


@dataclass(frozen=True)
class Case:
    """One value of a switch, a request, and what is to be seen after it."""

    switch: str
    value: str | int
    method: str
    path: str
    body: Any
    view: View
    expected: object


def sub(contact_id: str, list_id: int = 4410) -> list[dict[str, object]]:
    """Return the body that subscribes a contact."""
    return [{"contactId": contact_id, "listId": list_id, "status": "normal"}]


TWO = "contacts?status=total&email=ana@x.example,bo@x.example"
ALL = "contacts?status=total"
TO = "contacts"
SUBS = "subscriptions"
PAIR = f"{ALL}&limit=2"
PARTS = ["contacts", "limit", "offset", "total"]
SORTED = f"{ALL}&orderby=contactId:desc"
# By their ids read backwards: 70012345, 6, 7, 9, 70012350.
MIXED = ["fay", "ana", "bo@", "cem", "eve"]
OF_EVE = f"subscriptions?contactId={EVE}"
LEFT = "subscriptions?listId=4410&status=unsubscribed"
EVERYBODY = ["ana", "bo@", "cem", "eve", "fay"]
NEW = [{"email": "new@x.example", "state": "North Carolina"}]
AT_NINE = "contacts?status=total&email=ana@x.example&createDate=2026-03-04T09:15:00"

CASES = [
    Case("commas", "honoured", "GET", TWO, None, names, ["ana", "bo@"]),
    Case("commas", "literal", "GET", TWO, None, names, []),
    Case("commas", "first", "GET", TWO, None, names, ["ana"]),
    Case("commas", "ignored", "GET", TWO, None, names, EVERYBODY),
    Case("population", "listed", "GET", TO, None, names, ["ana"]),
    Case("population", "all", "GET", TO, None, names, EVERYBODY),
    Case("listed_means", "subscribed", "GET", TO, None, names, ["ana"]),
    Case("listed_means", "any", "GET", TO, None, names, ["ana", "eve"]),
    Case("total_includes_deleted", "no", "GET", ALL, None, total, (5, 5)),
    Case("total_includes_deleted", "yes", "GET", ALL, None, total, (6, 6)),
    Case("search_deleted", "no", "GET", "contacts?status=deleted", None, names, []),
    Case(
        "search_deleted", "yes", "GET", "contacts?status=deleted", None, names, ["dia"]
    ),
    Case("stale_total", "no", "GET", ALL, None, total, (5, 5)),
    Case("stale_total", "yes", "GET", ALL, None, total, (5, 6)),
    Case(
        "search_rows", "short", "GET", TO, None,
        lambda answer, _: "business" in answer.text, False,
    ),
    Case("total", "right", "GET", PAIR, None, total, (2, 5)),
    Case("total", "page", "GET", PAIR, None, total, (2, 2)),
    Case("total", "low", "GET", PAIR, None, total, (2, 2)),
    Case("total", "high", "GET", PAIR, None, total, (2, 11)),
    Case("total", "absent", "GET", PAIR, None, keys, (200, PARTS[:3])),
    Case("orderby", "honoured", "GET", SORTED, None, names, EVERYBODY[::-1]),
    Case("orderby", "ignored", "GET", SORTED, None, names, MIXED),
    Case("orderby", "warning", "GET", SORTED, None, keys, (200, [*PARTS, "warnings"])),
    Case("duplicate_rows", 2, "GET", PAIR, None, names, ["ana", "ana", "bo@", "bo@"]),
    Case("actions_cap", 2, "GET", f"contacts/{ANA}/actions", None,
         row("limit"), 2),
    Case("search_rows", "full", "GET", TO, None, row("contacts", 0, "orders"), "3"),
    Case("unknown_terms", "warning", "GET", "contacts?nick=a", None, names, ["ana"]),
    Case("unknown_terms", "no_rows", "GET", "contacts?nick=a", None, names, []),
    Case("max_limit", 2, "GET", ALL, None, total, (2, 5)),
    Case("limit_above_max", "capped", "GET", "lists?limit=501", None, status, 200),
    Case("limit_above_max", "error400", "GET", "lists?limit=501", None, status, 400),
    Case("time_zone_of_queries", "eastern", "GET", AT_NINE, None, names, ["ana"]),
    Case("time_zone_of_queries", "utc", "GET", AT_NINE, None, names, []),
    Case(
        "content_type", "json", "GET", TO, None,
        lambda answer, _: answer.headers["content-type"],
        "application/json; charset=utf-8",
    ),
    Case(
        "content_type", "html", "GET", TO, None,
        lambda answer, _: answer.headers["content-type"],
        "text/html; charset=utf-8",
    ),
    Case("id_type", "string", "GET", TO, None, row("contacts", 0, "contactId"), ANA),
    Case("id_type", "int", "GET", TO, None, row("contacts", 0, "contactId"), int(ANA)),
    Case("member_blank", "empty", "GET", f"contacts/{ANA}", None,
         row("contact", "fax"), ""),
    Case("member_blank", "null", "GET", f"contacts/{ANA}", None,
         row("contact", "fax"), None),
    Case("post_answer", "records", "POST", "lists", [{"name": "New"}],
         row("lists", 0, "name"), "New"),
    Case("post_answer", "locations", "POST", "lists", [{"name": "New"}],
         row("lists", 0), "https://app.icontact.com/icp/a/510001/c/8801/lists/4412"),
    Case("echo_order", "input", "POST", TO,
         [{"email": "a@x.example"}, {"email": "b@x.example"}], names, ["a@x", "b@x"]),
    Case("echo_order", "reversed", "POST", TO,
         [{"email": "a@x.example"}, {"email": "b@x.example"}], names, ["b@x", "a@x"]),
    Case("extra_warning", "no", "POST", f"contacts/{ANA}", {"city": "D"}, keys,
         (200, ["contact"])),
    Case("extra_warning", "yes", "POST", f"contacts/{ANA}", {"city": "D"}, keys,
         (200, ["contact", "warnings"])),
    Case("collection_post", "overwrite", "POST", TO, [{"email": "ana@x.example"}],
         contact("ana@x.example", "firstName"), (200, False, ("normal", ""))),
    Case("collection_post", "merge", "POST", TO, [{"email": "ana@x.example"}],
         contact("ana@x.example", "firstName"), (200, False, ("normal", "Ana"))),
    Case("omitted_status", "kept", "POST", TO, [{"email": "bo@x.example"}],
         contact("bo@x.example"), (200, False, ("donotcontact", ""))),
    Case("omitted_status", "reset", "POST", TO, [{"email": "bo@x.example"}],
         contact("bo@x.example"), (200, False, ("normal", ""))),
    Case("locked_status", "silent", "POST", f"contacts/{BO}", {"status": "normal"},
         contact("bo@x.example"), (200, False, ("donotcontact", ""))),
    Case("locked_status", "warning", "POST", f"contacts/{BO}", {"status": "normal"},
         contact("bo@x.example"), (200, True, ("donotcontact", ""))),
    Case("locked_status", "error400", "POST", f"contacts/{BO}", {"status": "normal"},
         contact("bo@x.example"), (400, False, ("donotcontact", ""))),
    Case("unwritable_status", "error400", "POST", f"contacts/{ANA}",
         {"status": "bounced", "firstName": "A"},
         contact("ana@x.example", "firstName"), (400, False, ("normal", "Ana"))),
    Case("unwritable_status", "warning", "POST", f"contacts/{ANA}",
         {"status": "bounced", "firstName": "A"},
         contact("ana@x.example", "firstName"), (200, True, ("normal", "Ana"))),
    Case("unwritable_status", "silent", "POST", f"contacts/{ANA}",
         {"status": "bounced", "firstName": "A"},
         contact("ana@x.example", "firstName"), (200, False, ("normal", "A"))),
    Case("invalid_email", "warning", "POST", TO, [{"email": "x"}], keys,
         (200, ["contacts", "warnings"])),
    Case("invalid_email", "error400", "POST", TO, [{"email": "x"}], keys,
         (400, ["errors"])),
    Case("email_clash", "error400", "POST", f"contacts/{ANA}",
         {"email": "BO@x.example", "firstName": "A"},
         contact("ana@x.example", "firstName"), (400, False, ("normal", "Ana"))),
    Case("email_clash", "warning", "POST", f"contacts/{ANA}",
         {"email": "bo@x.example", "firstName": "A"},
         contact("ana@x.example", "firstName"), (200, True, ("normal", "Ana"))),
    Case("email_clash", "silent_ignore", "POST", f"contacts/{ANA}",
         {"email": "bo@x.example", "firstName": "A"},
         contact("ana@x.example", "firstName"), (200, False, ("normal", "A"))),
    Case("state_too_long", "error400", "POST", TO, NEW, contact("new@x.example"),
         (400, False, None)),
    Case("state_too_long", "truncate", "POST", TO, NEW,
         contact("new@x.example", "state"), (200, False, ("normal", "North Caro"))),
    Case("state_too_long", "warning", "POST", TO, NEW, contact("new@x.example"),
         (200, True, None)),
    Case("max_length", 3, "POST", f"contacts/{ANA}", {"city": "Durham"},
         contact("ana@x.example", "city"), (200, False, ("normal", "Dur"))),
    Case("custom_values", "any", "POST", f"contacts/{ANA}", {"orders": "many"},
         contact("ana@x.example", "orders"), (200, False, ("normal", "many"))),
    Case("custom_values", "checked", "POST", f"contacts/{ANA}", {"orders": "many"},
         contact("ana@x.example", "orders"), (200, True, ("normal", "3"))),
    Case("refused_batch", "nothing", "POST", TO, [{"email": "a@x.example"}, *NEW],
         contact("a@x.example"), (400, False, None)),
    Case("refused_batch", "earlier_items", "POST", TO,
         [{"email": "a@x.example"}, *NEW],
         contact("a@x.example"), (400, False, ("normal", ""))),
    Case("batch_atomic", "no", "POST", TO, [{"email": "a@x.example"}, {}],
         contact("a@x.example"), (200, True, ("normal", ""))),
    Case("batch_atomic", "yes", "POST", TO, [{"email": "a@x.example"}, {}],
         contact("a@x.example"), (200, True, None)),
    Case("missing_contact", "404", "GET", "contacts/1", None, status, 404),
    Case("missing_contact", "500", "GET", "contacts/1", None, status, 500),
    Case("deleted_member_post", "revives", "POST", f"contacts/{DIA}", {"city": "D"},
         contact("dia@x.example", "city"), (200, False, ("normal", "D"))),
    Case("deleted_member_post", "error404", "POST", f"contacts/{DIA}", {"city": "D"},
         contact("dia@x.example", "city"), (404, False, ("deleted", ""))),
    Case("deleted_member_post", "stays_deleted", "POST", f"contacts/{DIA}",
         {"city": "D"}, contact("dia@x.example", "city"),
         (200, False, ("deleted", ""))),
    Case("revive_create_date", "new", "POST", TO, [{"email": "dia@x.example"}],
         row("contacts", 0, "createDate"), "2026-03-05 09:15:00"),
    Case("revive_create_date", "kept", "POST", TO, [{"email": "dia@x.example"}],
         row("contacts", 0, "createDate"), "2026-03-04 09:15:00"),
    Case("subscriptions_by_contact", "honoured", "GET", OF_EVE, None, whose, [EVE]),
    Case("subscriptions_by_contact", "dropped", "GET", OF_EVE, None, whose, [ANA, EVE]),
    Case("subscriptions_by_contact", "no_rows", "GET", OF_EVE, None, whose, []),
    Case("subscriptions_by_contact", "warning", "GET", OF_EVE, None, keys,
         (200, ["limit", "offset", "subscriptions", "total", "warnings"])),
    Case("subscriptions_filter", "honoured", "GET", LEFT, None, whose, [EVE]),
    Case("subscriptions_filter", "no_status", "GET", LEFT, None, whose, [ANA, EVE]),
    Case("subscriptions_filter", "no_list", "GET", LEFT.replace("4410", "4411"), None,
         whose, [EVE]),
    Case("duplicate_subscription", "notices", "POST", SUBS, sub(ANA), keys,
         (200, ["notices", "subscriptions"])),
    Case("duplicate_subscription", "empty", "POST", SUBS, sub(ANA), keys,
         (200, ["subscriptions"])),
    Case("duplicate_subscription", "record", "POST", SUBS, sub(ANA),
         membership("ana@x.example"), (200, ["normal"], "normal")),
    Case("duplicate_subscription", "warning", "POST", SUBS, sub(ANA), keys,
         (200, ["subscriptions", "warnings"])),
    Case("duplicate_subscription", "error400", "POST", SUBS, sub(ANA), keys,
         (400, ["errors"])),
    Case("opt_out_subscribe", "warning", "POST", SUBS, sub(EVE),
         membership("eve@x.example"), (200, [], "unsubscribed")),
    Case("opt_out_subscribe", "empty", "POST", SUBS, sub(EVE), keys,
         (200, ["subscriptions"])),
    Case("opt_out_subscribe", "error400", "POST", SUBS, sub(EVE),
         membership("eve@x.example"), (400, None, "unsubscribed")),
    Case("opt_out_subscribe", "echo_unchanged", "POST", SUBS, sub(EVE),
         membership("eve@x.example"), (200, ["unsubscribed"], "unsubscribed")),
    Case("opt_out_subscribe", "resubscribes", "POST", SUBS, sub(EVE),
         membership("eve@x.example"), (200, ["normal"], "normal")),
    Case("opt_out_subscribe", "warning", "POST", SUBS, sub(BO),
         membership("bo@x.example"), (200, [], None)),
    Case("opt_out_subscribe", "echo_unchanged", "POST", SUBS, sub(BO),
         membership("bo@x.example"), (200, ["unsubscribed"], None)),
    Case("opt_out_subscribe", "resubscribes", "POST", SUBS, sub(BO),
         membership("bo@x.example"), (200, ["normal"], "normal")),
    Case("opt_out_subscribe", "warning", "POST", f"subscriptions/4410_{EVE}",
         {"status": "normal"}, row("subscription", "status"), "unsubscribed"),
    Case("opt_out_subscribe", "error400", "POST", f"subscriptions/4410_{EVE}",
         {"status": "normal"}, status, 400),
    Case("opt_out_subscribe", "resubscribes", "POST", f"subscriptions/4410_{EVE}",
         {"status": "normal"}, row("subscription", "status"), "normal"),
    Case("deleted_list_subscribe", "error500", "POST", SUBS, sub(ANA, 1), keys,
         (500, ["errors"])),
    Case("deleted_list_subscribe", "warning", "POST", SUBS, sub(ANA, 1), keys,
         (200, ["subscriptions", "warnings"])),
    Case("deleted_list_subscribe", "error404", "POST", SUBS, sub(ANA, 1), keys,
         (404, ["errors"])),
    Case("custom_field_case", "lower", "POST", "customfields",
         [{"privateName": "Tier", "fieldType": "text", "displayToUser": 1}],
         row("customfields", 0, "customFieldId"), "tier"),
    Case("custom_field_case", "keep", "POST", "customfields",
         [{"privateName": "Tier", "fieldType": "text", "displayToUser": 1}],
         row("customfields", 0, "customFieldId"), "Tier"),
    Case("batch_cap", 1, "POST", TO, [{}, {}], status, 413),
    Case("subscriber_limit", 5, "POST", TO, [{"email": "a@x.example"}],
         contact("a@x.example"), (402, False, None)),
    Case("subscriber_limit", 6, "POST", TO, [{"email": "a@x.example"}], status, 200),
    Case("unpaid", "no", "GET", TO, None, status, 200),
    Case("unpaid", "yes", "GET", TO, None, status, 402),
    Case("rate_per_minute", 1, "GET", TO, None, status, 200),
    Case("rate_per_day", 1, "GET", TO, None, status, 200),
    Case("throttle_body", "json", "GET", TO, None, status, 200),
    Case("throttle_body", "html", "GET", TO, None, status, 200),
]  # fmt: skip


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.switch}={case.value} {case.method}"
)
def test_does_what_it_says(case: Case) -> None:
    """With the switch at this value the request has this effect."""
    sim = a_world()
    sim.set(**{case.switch: case.value})

    answer = connect(sim).request(case.method, case.path, json=case.body)

    assert case.view(answer, sim.folder()) == case.expected


def test_the_table_has_every_value() -> None:
    """No switch and no value of one goes untested."""
    tested = {(case.switch, case.value) for case in CASES}
    for switch in SWITCHES.values():
        if switch.name.startswith("webhook"):
            continue  # see below
        if isinstance(switch.values, tuple):
            assert {(switch.name, value) for value in switch.values} <= tested
        else:
            assert switch.name in {name for name, _ in tested}


@pytest.mark.parametrize(
    ("switch", "limit", "wait"),
    [("rate_per_minute", 2, 60), ("rate_per_day", 3, 24 * 60 * 60)],
)
def test_the_rate_limit_opens_again(switch: str, limit: int, wait: int) -> None:
    """Above the limit comes 503 without a header; after the window calls pass."""
    moments = [MADE.timestamp()]
    sim = Simulator(lambda: datetime.fromtimestamp(moments[-1], UTC))
    sim.set(**{switch: limit})
    client = connect(sim)

    statuses = [client.get("lists").status_code for _ in range(limit + 1)]
    refused = client.get("lists")
    sim.set(throttle_body="html")
    page = client.get("lists")
    moments.append(MADE.timestamp() + wait)

    assert statuses == [200] * limit + [503]
    assert list(refused.json()) == ["errors"]
    assert "retry-after" not in refused.headers
    assert page.status_code == 503
    assert page.text.startswith("<!DOCTYPE")
    assert client.get("lists").status_code == 200


@pytest.mark.parametrize(("value", "sent"), [("yes", 1), ("no", 0)])
def test_own_changes_raise_webhooks(value: str, sent: int) -> None:
    """`webhook_own_changes` says whether a write through the API is announced."""
    bodies: list[bytes] = []

    def send(url: str, body: bytes) -> int:
        del url
        bodies.append(body)
        return 200

    sim = Simulator(webhook_send=send, webhook_own_changes=value)
    client = connect(sim)
    hook = {"eventId": "contact_created", "url": "https://crm.example/hook"}
    client.post("webhooks", json=[hook])

    client.post("contacts", json=[{"email": "ana@x.example"}])

    assert len(bodies) == sent


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("comma", "literal", "commas"),
        ("commas", "maybe", "honoured"),
        ("max_limit", "-1", "number"),
        ("max_limit", "many", "number"),
    ],
)
def test_wrong_switches_are_refused(name: str, value: str, hint: str) -> None:
    """The message names what is possible."""
    with pytest.raises(ValueError, match=hint):
        Simulator().set(**{name: value})


def test_takes_text_and_booleans() -> None:
    """Values may come from a command line or from Python."""
    sim = Simulator(max_limit="7", unpaid=True)

    assert (sim.switches.max_limit, sim.switches.unpaid) == (7, "yes")


def test_the_listing_explains_each_switch() -> None:
    """Each switch has a default among its values, and a sentence."""
    for switch in SWITCHES.values():
        assert switch.parse(switch.default) == switch.default
        assert switch.what.endswith(".")
