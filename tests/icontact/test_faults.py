"""Whatever goes wrong in whichever call: in the end all is right, and it was said."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator

OnwardFor = Callable[..., TestApp]

DELIVERED = ("delivered", "delivered")
EXPECTED = {
    "new-1": DELIVERED,
    "new-2": DELIVERED,
    "known-1": DELIVERED,
    "known-2": DELIVERED,
    "there-1": DELIVERED,
    "there-2": DELIVERED,
    "left": ("skipped", "unsubscribed"),
    "refused": ("skipped", "do_not_contact"),
}
EMAILS = [f"{name}@shop.example" for name in EXPECTED]
KINDS = (
    "connect_error",
    "timeout_before_write",
    "timeout_after_write",
    "close_before_write",
    "close_after_write",
    "html_503",
    "json_503",
    "html_200",
    "truncated_json",
    "empty_body",
    "status",
)
QUICK = frozenset({"timeout_after_write", "html_503"})
# (method, resource, how many such calls pass first)
CALLS = (
    ("GET", "contacts", 0),
    ("GET", "subscriptions", 0),
    ("GET", "subscriptions", 1),
    ("POST", "contacts", 0),
    ("POST", "contacts", 1),
    ("POST", "contacts", 3),
    ("POST", "subscriptions", 0),
)
STRIKES = [
    (kind, times)
    for kind in KINDS
    for times in ((1, 4) if kind in (*QUICK, "truncated_json") else (1,))
]


def _marks(row: int, column: int) -> list[pytest.MarkDecorator]:
    kind, times = STRIKES[column]
    if kind in QUICK and times == 1:
        return []
    # Every kind of fault and every call by day, every pair of them by night.
    return [pytest.mark.slow, *([pytest.mark.nightly] if (row + column) % 2 else [])]


CELLS = [
    pytest.param(
        call,
        *STRIKES[column],
        marks=_marks(row, column),
        id="-".join(map(str, (*call, *STRIKES[column]))),
    )
    for row, call in enumerate(CALLS)
    for column in range(len(STRIKES))
]


def prepared(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace, **more: Any
) -> TestApp:
    """Return an Onward that has a mixed batch to push."""
    app = onward_for(sim, **more)
    folder = sim.folder()
    for name in ("there-1", "there-2", "left", "refused"):
        status = "donotcontact" if name == "refused" else "normal"
        folder.add_contact(f"{name}@shop.example", status, fax="555-0199")
    folder.subscribe("4410", str(folder.find("left@shop.example").contact_id), "normal")  # type: ignore[union-attr]
    folder.unsubscribe("Newsletter", "left@shop.example")
    known = [email for email in EMAILS if email.startswith("known")]
    for email in known:
        app.upsert_contact({"email": email, "first_name": "Old", "company": "Mill"})
    assert set(tools.pushed(app, *known).values()) == {DELIVERED}
    for email in known:
        contact = folder.find(email)
        assert contact is not None
        contact.values["fax"] = "555-0199"
    for email in EMAILS:
        app.upsert_contact({"email": email, "first_name": "New", "company": "Bakery"})
    sim.requests.clear()
    return app


def settle(app: TestApp, rows: list[int]) -> None:
    """Deliver until everything ended; whatever still waits says why."""
    app.deliver()
    for _ in range(30):
        waiting = [row for row in app.queued if row["id"] in rows]
        assert all(row["code"] and row["reason"] for row in waiting)
        if not waiting:
            return
        app.clock.tick(1_000)
        app.deliver()
    raise AssertionError("it never ended")


def check(app: TestApp, sim: Simulator, ended: dict[str, tuple[str, str]]) -> None:
    """Everybody is there once, as wished, and nobody else."""
    folder = sim.folder()
    read_back = {
        name: DELIVERED if outcome == ("delivered", "read_back") else outcome
        for name, outcome in ended.items()
    }
    assert read_back == EXPECTED
    assert folder.on_list("Newsletter") == {
        email for email in EMAILS if email.split("@")[0] not in ("left", "refused")
    }
    held = {one.email.split("@")[0]: one.values for one in folder.contacts.values()}
    new = {"firstName": "New", "business": "Bakery"}
    assert held == {
        name: {"fax": "555-0199"}
        if name in ("left", "refused")
        else (new if name.startswith("new") else {**new, "fax": "555-0199"})
        for name in EXPECTED
    }


@pytest.mark.parametrize(("call", "kind", "times"), CELLS)
def test_fault_in_each_call(
    call: tuple[str, str, int],
    kind: str,
    times: int,
    sim: Simulator,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """After any fault in any call everybody is there once, and nobody is hurt."""
    app = prepared(sim, onward_for, tools)
    method, resource, after = call
    sim.fail(kind, times, method, resource, after)
    rows = app.push(to="icontact", emails=EMAILS)

    settle(app, rows)

    assert [one.fault for one in sim.requests if one.fault] or kind == "connect_error"
    check(app, sim, tools.ended(app, rows))


class Hollow:
    """Answers one call of a kind with 200 and nothing in it; a POST is carried out."""

    def __init__(self, sim: Simulator, call: tuple[str, str, int], body: str) -> None:
        self.sim = sim
        self.method, self.resource, self.left = call
        self.body = body
        self.is_on = False

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on, and perhaps swallow what comes back."""
        is_meant = request.method == self.method and (
            f"/{self.resource}" in request.url.path
        )
        if not (self.is_on and is_meant):
            return self.sim.handle(request)
        self.left -= 1
        if self.left != -1:
            return self.sim.handle(request)
        if request.method == "POST":
            self.sim.handle(request)
        return httpx.Response(200, text=self.body)


@pytest.mark.parametrize("body", ["{}", pytest.param("[]", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: "-".join(map(str, call)))
def test_answer_with_nothing_in_it(
    call: tuple[str, str, int],
    body: str,
    sim: Simulator,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """An empty answer is no absence and no refusal, whichever call gets it."""
    hollow = Hollow(sim, call, body)
    app = prepared(sim, onward_for, tools, between=hollow)
    hollow.is_on = True

    rows = app.push(to="icontact", emails=EMAILS)
    settle(app, rows)

    check(app, sim, tools.ended(app, rows))


def test_member_that_is_not_found_once(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A stray 404 to a change makes nobody deleted: it is looked up by itself."""
    app = prepared(sim, onward_for, tools)
    sim.fail("status", 3, "POST", "contacts", after=1, status=404)

    rows = app.push(to="icontact", emails=EMAILS)
    app.deliver()

    assert {row["code"] for row in app.queued} == {"not_found"}
    settle(app, rows)
    check(app, sim, tools.ended(app, rows))


@pytest.mark.parametrize("count", [1, 3])
def test_revived_with_old_opt_outs(
    count: int, sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Who left the list and was deleted comes back, and stays off the list.

    However many there are, and whatever was read of the list just before.
    """
    sim.set(opt_out_subscribe="resubscribes")
    folder = sim.folder()
    left = [f"left-{n}@shop.example" for n in range(count)]
    known = [f"known-{n}@shop.example" for n in range(4)]
    for email in [*left, *known]:
        folder.add_contact(email, lists=["Newsletter"] if email in left else [])
    app = onward_for(sim)
    for email in [*left, *known]:
        app.upsert_contact({"email": email, "first_name": "New"})
    assert set(tools.pushed(app, *known).values()) == {DELIVERED}
    for email in left:
        folder.unsubscribe("Newsletter", email)
        folder.delete_contact(folder.find(email))  # type: ignore[arg-type]
    app.clock.tick(60)

    rows = app.push(to="icontact", emails=left)
    settle(app, rows)

    assert set(tools.ended(app, rows).values()) == {("skipped", "unsubscribed")}
    assert folder.on_list("Newsletter") == set(known)


@pytest.mark.parametrize("stored", ["nothing", "before"])
def test_contact_that_crashes_the_service(
    stored: str, sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """One contact that makes iContact fail does not keep the others out."""
    app = prepared(sim, onward_for, tools)
    sim.fail("crash_500", email="new-2@shop.example", stored=stored)
    rows = app.push(to="icontact", emails=EMAILS)

    app.deliver()
    app.clock.tick(1_000)
    app.deliver()

    ended = tools.ended(app, rows)
    assert ended.pop("new-2") == ("waiting", "http_500")
    assert ended == {name: end for name, end in EXPECTED.items() if name != "new-2"}
    sim.clear_faults()
    settle(app, rows)
    check(app, sim, tools.ended(app, rows))


@pytest.mark.parametrize("how", ["error400", "warning"])
def test_contact_that_the_service_refuses(
    how: str, sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A refused contact fails with iContact's words; the others arrive."""
    app = prepared(sim, onward_for, tools)
    sim.fail("reject_emails", email="new-2@shop.example", how=how)
    rows = app.push(to="icontact", emails=EMAILS)

    settle(app, rows)

    ended = tools.ended(app, rows)
    assert ended.pop("new-2")[0] == "failed"
    assert "was not valid" in tools.reason(app, "new-2@shop.example")
    assert ended == {name: end for name, end in EXPECTED.items() if name != "new-2"}
    sim.clear_faults()
    again = app.push(to="icontact", emails=["new-2@shop.example"])
    settle(app, again)
    check(app, sim, {**ended, **tools.ended(app, again)})


def test_limit_of_the_service(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Over iContact's own limit everything waits, uses no try, and arrives."""
    app = prepared(sim, onward_for, tools)
    sim._service._clock = app.clock
    sim.set(rate_per_minute=3, throttle_body="html")
    rows = app.push(to="icontact", emails=EMAILS)

    app.deliver()

    waiting = [row for row in app.queued if row["id"] in rows]
    assert {row["code"] for row in waiting} == {"throttled"}
    assert {row["tries"] for row in waiting} == {0}
    sim.set(rate_per_minute=0)
    settle(app, rows)
    check(app, sim, tools.ended(app, rows))


def test_account_that_is_full(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A full account pauses the connection with the reason; with room, they go."""
    app = prepared(sim, onward_for, tools)
    sim.set(subscriber_limit=6)
    rows = app.push(to="icontact", emails=EMAILS)

    report = app.deliver()

    assert "subscriber limit" in report.held["icontact"]
    assert {row["id"] for row in app.queued} <= set(rows)
    sim.set(subscriber_limit=0)
    tools.resume(app)
    settle(app, rows)
    check(app, sim, tools.ended(app, rows))


UNRECOGNISED = "You provided a clientFolderId that we did not recognise."


@pytest.mark.parametrize("words", [UNRECOGNISED, "Not Found"])
@pytest.mark.parametrize("found", [(), ("contacts",)], ids=["nothing", "contacts"])
def test_folder_that_vanished(
    words: str,
    found: tuple[str, ...],
    sim: Simulator,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """Without its folder nobody fails and no list is deleted: the connection pauses.

    Whichever call meets it first.
    """
    app = onward_for(sim)
    app.upsert_contact({"email": "ana@shop.example"})
    rows = app.push(to="icontact", email="ana@shop.example")
    for resource in {"contacts", "lists", "subscriptions", "clientfolders"} - {*found}:
        sim.fail("status", 100, resource=resource, status=404, errors=[words])

    report = app.deliver()

    assert "Client Folder ID" in report.held["icontact"]
    assert [(row["state"], row["tries"]) for row in app.queued] == [("waiting", 0)]
    sim.clear_faults()
    tools.resume(app)
    settle(app, rows)
    assert tools.ended(app, rows) == {"ana": DELIVERED}
