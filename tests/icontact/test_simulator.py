"""The simulator's checks, searches and writes, by the dossier's checklist."""

from __future__ import annotations

import json
import queue
import threading
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from onward.testing import serve
from onward_icontact.simulator import Login, Simulator, connect

NOW = datetime(2026, 3, 4, 14, 15, tzinfo=UTC)
SUMMER = datetime(2026, 7, 4, 14, 15, tzinfo=UTC)


def a_simulator(**switches: object) -> Simulator:
    """Return a small account at a fixed time."""
    sim = Simulator(lambda: NOW)
    sim.set(**switches)
    return sim


def emails(answer: httpx.Response) -> list[str]:
    """Return the addresses of an answer's contacts."""
    return [row["email"] for row in answer.json()["contacts"]]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 200),
        ({"API-AppId": "other"}, 401),
        ({"API-Username": "other"}, 401),
        ({"API-Password": "APP-SECRET"}, 401),
        ({"API-Password": ""}, 401),
        ({"API-Version": "2.3"}, 501),
        ({"API-Version": "2.3", "API-Password": "other"}, 501),
        ({"API-Version": " 2.2"}, 200),
        ({"Accept": "*/*"}, 406),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "application/json, text/plain, */*"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Except": ""}, 200),
    ],
)
def test_checks_headers(changed: dict[str, str], status: int) -> None:
    """Each wrong header gets its status, and odd but harmless ones pass."""
    client = connect(a_simulator())

    answer = client.post("contacts", json=[{"email": "a@b.example"}], headers=changed)

    assert answer.status_code == status


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_takes_passwords_with_colons_and_accents(encoding: str) -> None:
    """A password is compared as bytes, in either encoding of a header."""
    sim = a_simulator()
    sim.password = "mü:llers: bröt"
    header = [(b"api-password", sim.password.encode(encoding))]

    assert connect(sim).get("lists", headers=header).status_code == 200
    assert connect(sim).get("lists", headers={"API-Password": "x"}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "lists/", 200),
        ("GET", "contacts/?limit=1", 200),
        ("GET", "Lists", 501),
        ("GET", "messages", 501),
        ("GET", "contacts/1/opens", 501),
        ("GET", "", 200),
        ("GET", "/icp/a", 200),
        ("GET", "/icp/a/999", 404),
        ("GET", "/icp/a/510001/c//contacts", 501),
        ("GET", "/icp/a/510001/c/9/contacts", 404),
        ("GET", "/icp/b", 501),
        ("GET", "contacts//", 501),
        ("GET", "contacts/999", 404),
        ("PUT", "contacts", 405),
        ("DELETE", "contacts", 405),
        ("PUT", "lists", 405),
        ("PUT", "subscriptions", 405),
        ("PUT", "segments/9001", 405),
        ("PATCH", "contacts/1", 405),
        ("POST", "/icp/time", 405),
        ("PUT", "webhooks/5", 405),
    ],
)
def test_routes(method: str, path: str, status: int) -> None:
    """Each path and method has its status."""
    client = connect(a_simulator())
    if path.startswith("/"):
        path = f"https://app.icontact.com{path}"

    assert client.request(method, path, json=[]).status_code == status


def test_works_under_any_base_path() -> None:
    """What stands before `/icp` does not matter, and without it nothing answers."""
    sim = a_simulator()

    assert connect(sim, "http://127.0.0.1:8000/icp").get("lists").status_code == 200
    assert connect(sim, "http://host.example/a/b/icp").get("lists").status_code == 200
    assert connect(sim, "http://host.example").get("lists").status_code == 404


def test_time_is_open_and_eastern() -> None:
    """The time needs no credentials and knows daylight saving."""
    sim = Simulator(lambda: SUMMER)
    request = httpx.Request("GET", "https://app.icontact.com/icp/time")

    assert sim.handle(request).json() == {
        "time": "2026-07-04T10:15:00-04:00",
        "timestamp": 1783174500,
    }


def test_sees_only_the_accounts_of_its_login() -> None:
    """An account with its own login is unknown to the main one."""
    sim = a_simulator()
    sim.add_account("600001", login=Login("app", "pat@books.example", "secret"))
    sim.add_account("600002", ["1", "2"], is_agency=True, names=["One", "Two"])
    client = connect(sim)

    seen = client.get("https://app.icontact.com/icp/a").json()["accounts"]
    other = client.get("https://app.icontact.com/icp/a/600001/c")
    named = client.get("https://app.icontact.com/icp/a/600002/c").json()

    assert [one["accountId"] for one in seen] == ["510001", "600002"]
    assert other.status_code == 404
    assert [one["name"] for one in named["clientfolders"]] == ["One", "Two"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=total", ["ana", "bo", "cem", "dia"]),
        ("", ["ana", "cem"]),
        ("status=unlisted", ["bo", "dia"]),
        ("status=normal", ["ana", "cem", "dia"]),
        ("status=donotcontact", ["bo"]),
        ("status=total&email=BO@x.example", ["bo"]),
        ("status=total&email=ana@x.example,dia@x.example,no@x.example", ["ana", "dia"]),
        ("status=total&email=*i*@x.example", ["dia"]),
        ("status=total&email=", []),
        ("status=", []),
        ("status=total&state=nc&firstName=Ana", ["ana"]),
        ("status=total&contactId=70012346,70012347", ["bo", "cem"]),
        ("status=total&contactId=70012346&contactIdSearchType=gt", ["cem", "dia"]),
        ("status=total&firstName=A,B&firstNameSearchType=bet", ["ana"]),
        ("listId=4410", ["ana", "cem"]),
        ("listId=4410&status=normal&email=ana@x.example", ["ana"]),
        ("listId=4411", []),
        ("status=total&orderby=email:desc", ["dia", "cem", "bo", "ana"]),
        ("status=total&orderby=state,email:desc", ["dia", "cem", "bo", "ana"]),
        ("status=total&orderby=state:desc,email", ["ana", "bo", "cem", "dia"]),
        ("status=total&limit=2&offset=1", ["bo", "cem"]),
        ("status=total&createDate=2026-03-04", ["ana", "bo", "cem"]),
        ("status=total&createDate=2026-03-05&createDateSearchType=gte", ["dia"]),
        ("status=total&createDate=2026-03-04T09:15:00-05:00", ["ana", "bo", "cem"]),
        ("status=total&createDate=2026-03-04T14:15:00%2B00:00", ["ana", "bo", "cem"]),
        (
            "status=total&createDate=2026-03-05,2026-03-31&createDateSearchType=bet",
            ["dia"],
        ),
    ],
)
def test_searches_contacts(query: str, expected: list[str]) -> None:
    """Populations, terms, operators, order and pages choose these contacts."""
    sim = a_simulator()
    folder = sim.folder()
    folder.add_contact("ana@x.example", firstName="Ana", state="NC", lists=["4410"])
    folder.add_contact("bo@x.example", "donotcontact", firstName="Bo", state="NC")
    folder.add_contact("cem@x.example", lists=["Newsletter"])
    folder.add_contact("dia@x.example", created=datetime(2026, 3, 20, tzinfo=UTC))
    folder.add_contact("eve@x.example", "deleted", firstName="Eve")

    answer = connect(sim).get("contacts?" + query)

    assert [one.partition("@")[0] for one in emails(answer)] == expected
    assert "warnings" not in answer.json()


def test_a_plus_in_an_address_must_be_encoded() -> None:
    """A bare plus means a blank, as in any query string."""
    sim = a_simulator()
    sim.folder().add_contact("a+b@x.example")
    client = connect(sim)

    assert emails(client.get("contacts?status=total&email=a%2Bb@x.example"))
    assert not emails(client.get("contacts?status=total&email=a+b@x.example"))


@pytest.mark.parametrize("query", ["limit=0", "limit=ten", "offset=-1"])
def test_refuses_senseless_pages(query: str) -> None:
    """A page that cannot be meant is a 400."""
    assert connect(a_simulator()).get(f"contacts?{query}").status_code == 400


def test_pages_by_twenty_and_caps_at_five_hundred() -> None:
    """The default page is 20, and a larger limit than 500 reports 500."""
    sim = a_simulator()
    for number in range(510):
        sim.folder().add_contact(f"p{number}@x.example")
    client = connect(sim)

    usual = client.get("contacts?status=total").json()
    large = client.get("contacts?status=total&limit=1000").json()

    assert (len(usual["contacts"]), usual["limit"], usual["total"]) == (20, 20, 510)
    assert (len(large["contacts"]), large["limit"], large["total"]) == (500, 500, 510)


def test_upsert_overwrites_but_keeps_the_opt_out() -> None:
    """A collection POST keeps id, date and opt-out, and blanks what it omits."""
    sim = a_simulator()
    sim.folder().add_custom_field("tier")
    contact = sim.folder().add_contact(
        "ana@x.example", "donotcontact", firstName="Ana", tier="gold", fax="1"
    )

    body = [{"email": "ANA@x.example", "lastName": "Ruiz", "status": "normal"}]
    answer = connect(sim).post("contacts", json=body).json()["contacts"][0]

    assert answer["contactId"] == contact.contact_id
    assert contact.values == {"lastName": "Ruiz"}
    assert contact.status == "donotcontact"
    assert (answer["tier"], answer["fax"]) == ("", "")


def test_each_item_of_a_batch_stands_alone() -> None:
    """Bad items become warnings, unknown fields are dropped, the rest is stored."""
    sim = a_simulator()
    body: list[dict[str, Any]] = [
        {"email": "a@x.example"},
        {"firstName": "nobody"},
        {"email": "no address"},
        {"email": "b@x.example", "nick": "bee", "phone": 5550100, "city": ["x"]},
    ]

    answer = connect(sim).post("contacts", json=body).json()

    assert [row["email"] for row in answer["contacts"]] == [
        "a@x.example",
        "b@x.example",
    ]
    assert len(answer["warnings"]) == 4
    assert "Invalid field: nick" in answer["warnings"]
    found = sim.folder().find("b@x.example")
    assert found is not None
    assert found.values == {"phone": "5550100"}


def test_a_deleted_contact_comes_back_under_its_id() -> None:
    """Deleting hides from searches, not from members; a POST revives."""
    sim = a_simulator()
    folder, client = sim.folder(), connect(sim)
    contact = folder.add_contact("ana@x.example", lists=["Newsletter"])
    folder.add_contact("bo@x.example", lists=["Newsletter"])
    folder.unsubscribe("Newsletter", "bo@x.example")

    client.delete(f"contacts/{contact.contact_id}")
    gone = client.get("contacts?status=total&email=ana@x.example").json()
    member = client.get(f"contacts/{contact.contact_id}").json()["contact"]
    again = client.post("contacts", json=[{"email": "ana@x.example"}]).json()

    assert gone["contacts"] == []
    assert member["status"] == "deleted"
    assert again["contacts"][0]["contactId"] == contact.contact_id
    assert contact.status == "normal"
    assert folder.on_list("Newsletter") == set()


def test_lists_and_custom_fields_page_too() -> None:
    """The 21st list and the 21st custom field are on the second page."""
    sim = Simulator(lambda: NOW, demo=True)
    client = connect(sim)

    lists = client.get("lists").json()
    fields = client.get("customfields").json()
    found = client.get("lists?name=Newsletter").json()["lists"]

    assert (len(lists["lists"]), lists["total"]) == (20, 45)
    assert (len(fields["customfields"]), fields["total"]) == (20, 30)
    assert "Newsletter" not in {one["name"] for one in lists["lists"]}
    assert [one["name"] for one in found] == ["Newsletter"]


def test_a_custom_field_can_be_renamed_and_removed() -> None:
    """Renaming moves the values along, deleting takes them away."""
    sim = a_simulator()
    client, folder = connect(sim), sim.folder()
    folder.add_custom_field("tier")
    contact = folder.add_contact("ana@x.example", tier="gold")

    client.post("customfields/tier", json={"privateName": "Level"})
    renamed = dict(contact.values)
    client.delete("customfields/level")

    assert renamed == {"level": "gold"}
    assert contact.values == {}
    assert client.get("customfields").json() == {"customfields": [], "total": 0}


def test_a_moved_subscription_leaves_its_id() -> None:
    """After a move the old id is a 404 and the old list can be joined anew."""
    sim = a_simulator()
    client = connect(sim)
    contact_id = sim.folder().add_contact("ana@x.example", lists=["4410"]).contact_id

    client.put(f"subscriptions/4410_{contact_id}", json={"listId": 4411})
    old = client.get(f"subscriptions/4410_{contact_id}")
    body = [{"contactId": contact_id, "listId": "4410", "status": "pending"}]
    anew = client.post("subscriptions", json=body).json()

    assert old.status_code == 404
    assert sim.folder().on_list("VIP") == {"ana@x.example"}
    assert anew["subscriptions"][0]["status"] == "pending"


def test_opt_outs_of_a_list_can_be_read() -> None:
    """Subscriptions can be searched by list and status, in order of contactId."""
    sim = a_simulator()
    folder = sim.folder()
    for name in ("ana", "bo", "cem"):
        folder.add_contact(f"{name}@x.example", lists=["Newsletter", "VIP"])
    folder.unsubscribe("Newsletter", "cem@x.example")
    folder.unsubscribe("Newsletter", "ana@x.example")

    url = "subscriptions?listId=4410&status=unsubscribed&orderby=contactId"
    answer = connect(sim).get(url).json()

    ids = [row["subscriptionId"] for row in answer["subscriptions"]]
    assert ids == ["4410_70012345", "4410_70012347"]
    assert answer["total"] == 2
    assert folder.subscription("VIP", "ana@x.example") == "normal"


def test_webhooks_are_sent_and_retried_once() -> None:
    """Registered events go out as arrays; donotcontact raises none by itself."""
    sent: list[tuple[str, bytes]] = []

    def send(url: str, body: bytes) -> int:
        sent.append((url, body))
        if len(sent) == 1:
            raise httpx.ConnectError("down")
        return 200

    sim = Simulator(lambda: NOW, webhook_send=send)
    client = connect(sim)
    hook = {"eventId": "contact_unsubscribed", "url": "https://crm.example/hook"}
    client.post("webhooks", json=[hook])
    sim.folder().add_contact("ana@x.example", lists=["Newsletter"])
    sim.folder().unsubscribe("Newsletter", "ana@x.example")
    sim.send_webhooks()

    assert [url for url, _ in sent] == ["https://crm.example/hook"] * 2
    assert sent[0][1].startswith(b'[{"contact":{"contactId":"70012345"')
    assert client.get("webhooks").json()["total"] == 1
    assert client.delete("webhooks/5").json() == []
    assert client.get("webhooks/5").status_code == 404


def test_an_upload_runs_through_its_states() -> None:
    """A CSV puts new people on the lists and reports bad lines."""
    sim = a_simulator()
    client = connect(sim)

    client.post("uploads", json=[{"action": "add", "listIds": "4410"}])
    lines = b"[email],[fname],[lname]\nana@x.example,Ana,Ruiz\nnobody,,\n"
    client.put("uploads/3301/data", content=lines)
    states = [client.get("uploads/3301").json()["upload"] for _ in range(2)]

    assert [one["status"] for one in states] == ["processing", "complete"]
    assert len(states[1]["warnings"]) == 1
    assert sim.folder().on_list("Newsletter") == {"ana@x.example"}


def test_segments_live_on_a_list() -> None:
    """A segment is created, read and deleted; its list must exist."""
    client = connect(a_simulator())

    made = client.post("segments", json=[{"name": "NC", "listId": 4410}]).json()
    refused = client.post("segments", json=[{"name": "NC", "listId": 1}]).json()
    listed = client.get("segments").json()
    changed = client.post("segments/9001", json={"name": "NC people"}).json()

    assert refused["segments"] == []
    assert listed["segments"] == made["segments"]
    assert changed["segment"]["name"] == "NC people"
    assert client.delete("segments/9001").json() == []


def test_logs_requests_without_secrets() -> None:
    """The log holds path, query, body and answer, and no credential."""
    sim = a_simulator()
    client = connect(sim)

    client.get("contacts?status=total")
    json_type = {"Content-Type": "application/json"}
    client.post("contacts", content=b"not json", headers=json_type)

    assert [one.method for one in sim.calls(resource="contacts")] == ["GET", "POST"]
    asked, refused = sim.requests
    assert asked.path == "/icp/a/510001/c/8801/contacts"
    assert (asked.query, asked.body, asked.status) == ("status=total", None, 200)
    assert (refused.body, refused.status, refused.at) == ("not json", 400, NOW)
    for secret in (sim.app_id, sim.password, sim.username):
        assert secret not in repr(sim.requests)


def test_the_log_can_be_bounded() -> None:
    """With `log_limit` only the latest requests are kept."""
    sim = Simulator(lambda: NOW, log_limit=2)
    for number in range(5):
        connect(sim).get(f"contacts?offset={number}")

    assert [one.query for one in sim.requests] == ["offset=3", "offset=4"]


def test_demo_data_follow_from_the_seed() -> None:
    """Two demos with one seed are equal, and show every status."""
    one, same, other = (Simulator(lambda: NOW, seed, True) for seed in (1, 1, 2))
    folder = one.folder()

    assert folder.contacts == same.folder().contacts
    assert folder.contacts != other.folder().contacts
    counts = folder.counts()
    for status in ("normal", "donotcontact", "bounced", "pending", "deleted"):
        assert counts[status] > 0
    rows = folder.subscriptions.values()
    assert {row.status for row in rows} == {"normal", "unsubscribed"}
    folders = connect(one).get("https://app.icontact.com/icp/a/400204/c").json()
    assert (len(folders["clientfolders"]), folders["total"]) == (20, 24)


def test_stands_several_threads() -> None:
    """Ten threads posting at once lose nobody."""
    sim = a_simulator()

    def post(number: int) -> None:
        body = [{"email": f"p{number}-{one}@x.example"} for one in range(20)]
        connect(sim).post("contacts", json=body)

    threads = [threading.Thread(target=post, args=(one,)) for one in range(10)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert sim.folder().counts()["contacts"] == 200
    assert len(sim.requests) == 10


def test_history_tells_who_changed_what() -> None:
    """Writes and clicks are remembered, newest first; a search term narrows them."""
    sim = a_simulator()
    folder, client = sim.folder(), connect(sim)
    ana = {"email": "ana@x.example", "firstName": "Ana", "fax": "1"}
    made = client.post("contacts", json=[ana]).json()["contacts"][0]
    path = f"contacts/{made['contactId']}"
    client.post(path, json={"firstName": "Ana", "fax": "", "city": "Durham"})
    client.post(path, json={"status": "donotcontact"})
    subscription = {"contactId": made["contactId"], "listId": "4410"}
    client.post("subscriptions", json=[{**subscription, "status": "unsubscribed"}])
    folder.unsubscribe("VIP", "ana@x.example")

    actions = client.get(f"{path}/actions").json()["actions"]
    by_contact = client.get(f"{path}/actions?actor=contact").json()["actions"]

    assert [(one["actionType"], one["actor"]) for one in actions] == [
        ("EditSubscription", "contact"),
        ("EditSubscription", "407118"),
        ("EditStatus", "407118"),
        ("EditFields", "407118"),
        ("EditFields", "407118"),
        ("AddContact", "407118"),
    ]
    assert actions[3]["details"] == {"fax": "", "city": "Durham"}
    assert actions[5]["details"] == []
    assert by_contact == actions[:1]
    assert client.get("contacts/1/actions").status_code == 404
    assert client.get("actions").status_code == 501


def test_a_served_one_reports_over_http_to_this_machine_only() -> None:
    """Whoever registered here hears of a change, twice tried; others are not called."""
    heard: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    answers = iter([500, 200])

    def hear(request: httpx.Request) -> httpx.Response:
        heard.put((request.url.path, request.content))
        return httpx.Response(next(answers))

    sim = Simulator(lambda: NOW)
    sim.served()
    client = connect(sim)
    with serve(hear) as server:
        for url in ("https://elsewhere.example/x", f"{server.url}/hooks/s"):
            client.post("webhooks", json=[{"eventId": "contact_created", "url": url}])
        client.post("contacts", json=[{"email": "ana@shop.example"}])
        bodies = [heard.get(timeout=20) for _ in range(2)]

    assert [path for path, _ in bodies] == ["/hooks/s", "/hooks/s"]
    assert json.loads(bodies[0][1])[0]["contact"]["email"] == "ana@shop.example"
