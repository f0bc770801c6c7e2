"""The life of a push, from the queue to the truth about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import httpx
import pytest

import onward.testing
from onward import (
    Account,
    Api,
    Integration,
    Item,
    Outcome,
    RemoteContact,
    RemoteField,
    RemoteSegment,
)
from onward.connections.state import named, pause, read_segments, resume
from onward.delivery.drain import drain
from onward.testing import TestApp

pytestmark = pytest.mark.slow

TOML = """
[connections.acme]
integration = "acme"
segment = "News"
limits = ["100000/minute"]
field_map = "{map}"

[[rules]]
key = "forms"
when = "form.*"
push_to = ["acme"]
"""
MAP = '[fields]\nemail = "email"\nname = "first_name"\n'


class Service:
    """A service with a dict; `script` decides how the next posts go."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, str]] = {}
        self.posts: list[list[str]] = []
        self.script: list[Callable[[list[dict[str, str]]], httpx.Response | None]] = []
        self.refused_login = False

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer like a small mailing service."""
        if self.refused_login:
            return httpx.Response(401, json={"error": "bad key"})
        if request.method == "GET":
            return httpx.Response(200, json=self.people)
        rows: list[dict[str, str]] = json.loads(request.content)
        self.posts.append([row["email"] for row in rows])
        if self.script:
            answer = self.script.pop(0)(rows)
            if answer is not None:
                return answer
        for row in rows:
            self.people[row["email"]] = row
        return httpx.Response(200, json={"ok": True})


class Acme(Integration):
    """Pushes a batch by one POST."""

    key = "acme"
    title = "Acme"
    hosts = ("acme.example",)
    batch_size = 10

    lists: ClassVar[list[RemoteSegment]] = [
        RemoteSegment("1", "News"),
        RemoteSegment("2", "Old"),
    ]

    def verify(self, api: Api) -> Account:
        """Ask who we are."""
        api.get("me")
        return Account("acme.example/1", "acme.example/1", "Acme one")

    def segments(self, api: Api) -> Iterator[RemoteSegment]:
        """Two lists."""
        yield from self.lists

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Two fields."""
        yield RemoteField("email", required=True)
        yield RemoteField("name", max_length=20)

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """One POST for all."""
        api.post("people", [dict(item.fields) for item in batch])
        for item in batch:
            yield item.delivered(f"id-{item.email}")

    def read(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[RemoteContact]:
        """Read everybody back."""
        people: dict[str, dict[str, str]] = api.get("people").json()
        for item in batch:
            row = people.get(item.email)
            if row is not None:
                on = {segment.id: "normal"} if segment else {}
                shown: Any = on
                yield RemoteContact(
                    f"id-{item.email}", item.email, row, "normal", shown
                )


@pytest.fixture
def service() -> Service:
    """A fresh service."""
    return Service()


@pytest.fixture
def app(service: Service, tmp_path: Any) -> Iterator[TestApp]:
    """An Onward connected to it."""
    (tmp_path / "acme.toml").write_text(MAP)
    made = onward.testing.app(
        TOML.format(map=tmp_path / "acme.toml"),
        transport=httpx.MockTransport(service.handle),
        integrations=[Acme],
    )
    yield made
    made.close()


def fire(app: TestApp, *names: str) -> None:
    """Let people submit a form."""
    for name in names:
        app.record_action("form.sent", email=f"{name}@shop.example")


def states(app: TestApp) -> dict[str, tuple[str, str]]:
    """Return e-mail → (state, code)."""
    return {
        row["email"].partition("@")[0]: (row["state"], row["code"])
        for row in app.deliveries()
    }


def connection_id(app: TestApp) -> int:
    """Return the id of acme."""
    with app.runtime.database.read() as transaction:
        return named(transaction, "acme").id


def answer(status: int, **headers: str) -> Callable[[Any], httpx.Response]:
    """Return a script step that answers this status and stores nothing."""
    return lambda _: httpx.Response(status, json={"error": "no"}, headers=headers)


def test_several_causes_are_one_push(app: TestApp, service: Service) -> None:
    """Ten events before the next run are one row with ten causes, sent once."""
    for _ in range(10):
        fire(app, "ana")

    assert len(app.queued) == 1
    assert len(app.queued[0]["causes"]) == 10
    app.deliver()

    assert service.posts == [["ana@shop.example"]]
    assert states(app) == {"ana": ("delivered", "delivered")}


def test_a_cause_during_the_send_sends_once_more(
    app: TestApp, service: Service
) -> None:
    """What happens while a contact is being sent is sent after it, as it is then."""

    def change_meanwhile(_: object) -> None:
        app.upsert_contact({"email": "ana@shop.example", "first_name": "Ana"})
        fire(app, "ana")

    service.script = [change_meanwhile]
    fire(app, "ana")
    app.deliver()

    assert len(service.posts) == 2
    assert service.people["ana@shop.example"]["name"] == "Ana"
    assert [row["state"] for row in app.deliveries()] == ["delivered"]


def test_throttled_rows_use_no_try_and_rest_doubles(
    app: TestApp, service: Service
) -> None:
    """Too fast: the connection rests 2, 4, 8 s, no try is used, then it goes on."""
    service.script = [answer(429)] * 3
    fire(app, "ana")

    rests: list[float] = []
    for _ in range(3):
        done = app.deliver()
        assert done.next_at is not None
        rests.append((done.next_at - app.clock.now).total_seconds())
        app.clock.now = done.next_at
    assert [row["tries"] for row in app.queued] == [0]
    app.deliver()

    assert rests == [2, 4, 8]
    assert states(app) == {"ana": ("delivered", "delivered")}


def test_retry_after_wins(app: TestApp, service: Service) -> None:
    """The service's own Retry-After decides how long the connection rests."""
    service.script = [answer(429, **{"Retry-After": "77"})]
    fire(app, "ana")

    done = app.deliver()
    assert done.next_at == app.clock.now + timedelta(seconds=77)
    app.clock.tick(76)
    app.deliver()
    assert len(service.posts) == 1
    app.clock.tick(2)
    app.deliver()

    assert states(app) == {"ana": ("delivered", "delivered")}


def test_refused_credentials_pause_and_lose_nothing(
    app: TestApp, service: Service
) -> None:
    """A 401, confirmed by verify, pauses the connection; a repair resumes it."""
    fire(app, "first")
    app.deliver()
    fire(app, "ana", "bo")
    service.refused_login = True
    done = app.deliver()

    assert "acme" in done.held
    assert {row["state"] for row in app.queued} == {"waiting"}
    service.refused_login = False
    resume(app.runtime, connection_id(app))
    app.deliver()

    assert states(app)["ana"] == ("delivered", "delivered")
    assert states(app)["bo"] == ("delivered", "delivered")


def test_a_bad_contact_is_found_by_halving(app: TestApp, service: Service) -> None:
    """One contact the service refuses with 400 fails alone; the others go."""

    def refuse_bo(rows: list[dict[str, str]]) -> httpx.Response | None:
        if any(row["email"].startswith("bo@") for row in rows):
            return httpx.Response(400, json={"error": "bo is not welcome"})
        return None

    service.script = [refuse_bo] * 20
    fire(app, "ana", "bo", "chi", "dewi", "elif")
    app.deliver()

    assert states(app) == {
        "ana": ("delivered", "delivered"),
        "bo": ("failed", "http_400"),
        "chi": ("delivered", "delivered"),
        "dewi": ("delivered", "delivered"),
        "elif": ("delivered", "delivered"),
    }
    failed = next(row for row in app.deliveries() if row["state"] == "failed")
    assert "bo is not welcome" in failed["reason"]


@pytest.mark.parametrize("status", [402, 403, 501, 503, 507])
def test_other_refusals_are_not_halved(
    app: TestApp, service: Service, status: int
) -> None:
    """Nothing but 400, 413, 422 or the same 500 twice makes smaller batches."""
    service.script = [answer(status)]
    fire(app, "ana", "bo", "chi", "dewi")
    app.deliver()

    assert len(service.posts[0]) == 4
    assert len(service.posts) == 1
    assert {row["state"] for row in app.queued} == {"waiting"}
    resume(app.runtime, connection_id(app))
    app.clock.tick(timedelta(hours=1))
    app.deliver()
    assert {state for state, _ in states(app).values()} == {"delivered"}


def test_the_same_500_twice_is_halved(app: TestApp, service: Service) -> None:
    """A 500 is tried again at once; the same again looks for one bad contact."""

    def crash_on_bo(rows: list[dict[str, str]]) -> httpx.Response | None:
        if any(row["email"].startswith("bo@") for row in rows):
            return httpx.Response(500, json={"error": "boom"})
        return None

    service.script = [crash_on_bo] * 30
    fire(app, "ana", "bo", "chi", "dewi")
    app.deliver()

    assert states(app)["ana"] == ("delivered", "delivered")
    assert states(app)["bo"] == ("waiting", "http_500")
    assert states(app)["dewi"] == ("delivered", "delivered")
    service.script = []
    app.clock.tick(timedelta(hours=1))
    app.deliver()
    assert states(app)["bo"] == ("delivered", "delivered")


def test_no_answer_is_read_back_before_it_is_resent(
    app: TestApp, service: Service
) -> None:
    """Stored but never answered: found when read back, sent only once."""

    def store_then_die(rows: list[dict[str, str]]) -> httpx.Response | None:
        for row in rows:
            service.people[row["email"]] = row
        raise httpx.ReadTimeout("too slow")

    service.script = [store_then_die]
    fire(app, "ana")
    app.deliver()
    assert [row["code"] for row in app.queued] == ["timeout"]
    app.clock.tick(timedelta(minutes=1))
    app.deliver()

    assert service.posts == [["ana@shop.example"]]
    assert states(app) == {"ana": ("delivered", "read_back")}


def test_no_answer_and_not_there_is_sent_again(app: TestApp, service: Service) -> None:
    """Never stored: reading back shows that, and it is sent again with a try."""

    def die(_: object) -> None:
        raise httpx.ReadTimeout("too slow")

    service.script = [die]
    fire(app, "ana")
    app.deliver()
    app.clock.tick(timedelta(minutes=1))
    app.deliver()

    assert len(service.posts) == 2
    assert states(app) == {"ana": ("delivered", "delivered")}


def test_retries_end_after_27_hours(app: TestApp, service: Service) -> None:
    """A contact that keeps failing is retried for 27 h 35 min, then it failed."""

    class Never(Acme):
        """Asks for a retry, always."""

        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Say not now."""
            for item in batch:
                yield item.retry("busy", "it is busy")

    app.runtime.plugins.integrations["acme"] = Never
    fire(app, "ana")
    start = app.clock.now
    while app.queued:
        done = app.deliver()
        if done.next_at is not None:
            app.clock.now = done.next_at

    took = app.clock.now - start
    assert timedelta(hours=27.58 * 0.8) < took < timedelta(hours=27.59 * 1.2)
    assert states(app) == {"ana": ("failed", "busy")}
    assert "given up after 8 tries" in app.deliveries()[0]["reason"]


def test_missing_outcomes_name_the_contact(app: TestApp, service: Service) -> None:
    """A push() that forgets somebody is a plugin error; the others stand."""

    class Forgetful(Acme):
        """Yields all outcomes but one."""

        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Forget bo."""
            for item in batch:
                if not item.email.startswith("bo@"):
                    yield item.delivered(f"id-{item.email}")

    app.runtime.plugins.integrations["acme"] = Forgetful
    fire(app, "ana", "bo")
    app.deliver()

    assert states(app)["ana"] == ("delivered", "delivered")
    assert states(app)["bo"] == ("waiting", "plugin_error")
    row = next(row for row in app.queued if row["code"] == "plugin_error")
    assert "no outcome for bo@shop.example" in row["reason"]
    app.runtime.plugins.integrations["acme"] = Acme
    app.runtime.opened.clear()
    app.clock.tick(timedelta(hours=1))
    app.deliver()
    assert states(app)["bo"] == ("delivered", "delivered")


def test_a_deleted_segment_holds_only_its_own_rows(
    app: TestApp, service: Service
) -> None:
    """Rows for a list that is gone wait; those for another list go."""

    class Gone(Acme):
        """Its list News was deleted."""

        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Refuse list 1."""
            if segment is not None and segment.id == "1":
                raise onward.SegmentGone("the list News was deleted")
            yield from super().push(api, batch, segment)

    app.runtime.plugins.integrations["acme"] = Gone
    fire(app, "ana")
    app.upsert_contact({"email": "bo@shop.example"})
    app.push(to="acme", email="bo@shop.example", segment="Old")
    app.deliver()

    assert states(app)["bo"] == ("delivered", "delivered")
    assert states(app)["ana"][0] == "waiting"
    of = connection_id(app)
    with app.runtime.database.read() as transaction:
        paused = {name: why for _, name, why in read_segments(transaction, of)}
    assert paused == {"News": "the list News was deleted", "Old": ""}


def test_a_visitor_waits_for_an_address(app: TestApp, service: Service) -> None:
    """A push of a visitor is not burnt; it goes out when the visitor is identified."""
    app.record_action("form.sent", identities={"visitor": "v1"})
    app.deliver()
    assert [(row["state"], row["code"], row["due_at"]) for row in app.queued] == [
        ("waiting", "no_email", None)
    ]

    app.record_action(
        "page.visited", email="late@shop.example", identities={"visitor": "v1"}
    )
    app.deliver()

    assert service.posts == [["late@shop.example"]]


def test_switched_off_is_skipped_never_success(app: TestApp, service: Service) -> None:
    """With push_contacts off nothing leaves, and the row says why."""
    fire(app, "ana")
    with app.runtime.database.write() as transaction:
        transaction.exec_driver_sql("UPDATE connection SET push_contacts = 0")
    app.deliver()

    assert service.posts == []
    assert states(app) == {"ana": ("skipped", "pushes_off")}


def test_a_suppressed_address_is_not_pushed(app: TestApp, service: Service) -> None:
    """Do not contact means everywhere, until a consent is recorded."""
    app.suppress("ana@shop.example", reason="asked on the phone")
    fire(app, "ana")
    app.deliver()
    assert states(app) == {"ana": ("skipped", "suppressed")}

    app.consent("ana@shop.example", how="form newsletter", who="sam")
    fire(app, "ana")
    app.deliver()

    assert service.posts == [["ana@shop.example"]]


def test_what_is_paused_by_hand_waits(app: TestApp, service: Service) -> None:
    """Nothing leaves a paused connection, and nothing is lost."""
    fire(app, "first")
    app.deliver()
    pause(app.runtime, connection_id(app), "manual", "holiday")
    fire(app, "ana")
    done = app.deliver()
    assert done.held == {"acme": "holiday"}

    resume(app.runtime, connection_id(app))
    app.deliver()

    assert states(app)["ana"] == ("delivered", "delivered")


def test_a_lease_that_was_taken_over_refuses_the_late_answer(
    app: TestApp, service: Service
) -> None:
    """A worker that slept past its lease stores nothing; its contact is unsure."""
    fire(app, "first")
    app.deliver()

    def sleep_past_the_lease(_: object) -> None:
        # Whoever looks for the next batch meanwhile may prolong the lease once more.
        for _ in range(3):
            app.clock.tick(timedelta(minutes=2))
            if drain(app.runtime, connection_id(app)).stopped != "busy":
                break

    service.script = [sleep_past_the_lease]
    fire(app, "ana")
    report = drain(app.runtime, connection_id(app))

    assert report.stopped == "busy"
    app.clock.tick(timedelta(minutes=2))
    app.deliver()
    assert states(app)["ana"][0] == "delivered"
    assert service.people.keys() == {"first@shop.example", "ana@shop.example"}
