"""The contract's values, and three services it was tried against on paper.

Mailchimp, Klaviyo and a signed webhook are sketches, not plugins: each is as long
as it takes to see that its peculiarities fit. Facts about the services are those
of their own API descriptions, read 2026-11-22.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import httpx
import pytest

import onward.testing
from onward import (
    Account,
    Api,
    ConnectionSettings,
    Integration,
    Item,
    Limit,
    Outcome,
    OutcomeKind,
    RemoteField,
    RemoteSegment,
    Secret,
    minute,
    second,
    setting,
)
from onward.connections.open import open_connection
from onward.connections.state import named
from onward.contract import Scope


def an_item(email: str = "ana@shop.example", push_id: int = 7, **fields: str) -> Item:
    """Return an item as `push` is given it."""
    everything = {"email": email, **fields}
    return Item(push_id, email, everything, everything)


# -- outcomes


def test_delivered_names_the_remote_contact() -> None:
    """A delivered item carries the service's id and that it is on the segment."""
    got = an_item().delivered("r1")

    assert got == Outcome(
        7, OutcomeKind.DELIVERED, "delivered", "", "r1", on_segment=True
    )


def test_delivered_may_be_less_than_wished() -> None:
    """A contact that must confirm first is delivered, with a code, on no segment."""
    got = an_item().delivered("r1", "awaiting_confirmation", "asked", on_segment=False)

    assert got == Outcome(
        7, OutcomeKind.DELIVERED, "awaiting_confirmation", "asked", "r1"
    )


@pytest.mark.parametrize("scope", ["address", "segment", "connection"])
def test_opted_out_skips_and_suppresses(scope: Scope) -> None:
    """An opt-out is a skip that is remembered in its scope."""
    got = an_item().opted_out(scope, "unsubscribed", "left", "r1")

    assert got == Outcome(
        7, OutcomeKind.SKIPPED, "unsubscribed", "left", "r1", suppress=scope
    )


def test_every_other_outcome_names_its_item() -> None:
    """Each method makes the outcome of its name, about its own row."""
    item = an_item(push_id=9)

    got = [
        item.unchanged("r1"),
        item.skipped("left_out", "why"),
        item.rejected("bad", "why"),
        item.retry("busy", "why", minute),
        item.unknown("timeout", "why"),
        item.submitted("job-1", minute),
    ]

    assert got == [
        Outcome(
            9,
            OutcomeKind.UNCHANGED,
            "unchanged",
            "the service already has it",
            "r1",
            on_segment=True,
        ),
        Outcome(9, OutcomeKind.SKIPPED, "left_out", "why"),
        Outcome(9, OutcomeKind.REJECTED, "bad", "why"),
        Outcome(9, OutcomeKind.RETRY, "busy", "why", after=minute),
        Outcome(9, OutcomeKind.UNKNOWN, "timeout", "why"),
        Outcome(9, OutcomeKind.SUBMITTED, "submitted", after=minute, job="job-1"),
    ]


# -- Mailchimp: the key names the host, 200 carries errors, ten requests at once


class Mailchimp(Integration):
    """New members by batch; who is there already singly, status left alone."""

    key, title, email_field = "mailchimp", "Mailchimp", "email_address"
    default_map = MappingProxyType({"email_address": "email", "FNAME": "first_name"})
    batch_size, in_flight = 500, 10

    class Settings(ConnectionSettings):
        """What Mailchimp needs."""

        api_key: Secret = setting("API key")

    settings: Settings

    def allowed_hosts(self) -> Sequence[str]:
        """Return the host of the data centre at the end of the key."""
        _, _, data_centre = self.settings.api_key.reveal().rpartition("-")
        return (f"{data_centre}.api.mailchimp.com",)

    def base_url(self) -> str:
        """Return the base of version 3."""
        return f"https://{self.allowed_hosts()[0]}/3.0"

    def authenticate(self, request: httpx.Request) -> None:
        """Add HTTP Basic with any user name."""
        pair = f"onward:{self.settings.api_key.reveal()}".encode()
        request.headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"

    def verify(self, api: Api) -> Account:
        """GET the root: it names the account."""
        row = api.get("?fields=account_id,account_name").json()
        return Account(row["account_id"], row["account_id"], row["account_name"])

    def segments(self, api: Api) -> Iterator[RemoteSegment]:
        """Yield every audience."""
        for row in api.get("lists", {"count": "1000"}).json()["lists"]:
            yield RemoteSegment(row["id"], row["name"])

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Yield the merge fields: each audience has its own."""
        yield RemoteField("email_address", required=True)
        if segment is not None:
            answer = api.get(f"lists/{segment.id}/merge-fields", {"count": "1000"})
            for row in answer.json()["merge_fields"]:
                yield RemoteField(row["tag"], row["name"])

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Add members; PUT those who exist, with `status_if_new` only.

        `update_existing` would subscribe again who unsubscribed, so it stays off.
        """
        assert segment is not None
        members = [{**_member(item), "status": "subscribed"} for item in batch]
        answer = api.post(
            f"lists/{segment.id}", {"members": members, "update_existing": False}
        ).json()
        saved = {row["email_address"]: row["id"] for row in answer["new_members"]}
        errors = {row["email_address"]: row for row in answer["errors"]}
        there: list[Item] = []
        for item in batch:
            if item.email in saved:
                yield item.delivered(saved[item.email])
            elif errors[item.email]["error_code"] == "ERROR_CONTACT_EXISTS":
                there.append(item)
            else:
                yield item.rejected("refused", errors[item.email]["error"])

        def put(item: Item) -> Outcome:
            name = hashlib.md5(item.email.encode(), usedforsecurity=False).hexdigest()
            body = {**_member(item), "status_if_new": "subscribed"}
            row = api.put(f"lists/{segment.id}/members/{name}", body).json()
            if row["status"] == "unsubscribed":
                return item.opted_out("segment", "unsubscribed", remote_id=row["id"])
            return item.delivered(row["id"])

        yield from api.each(put, there)


def _member(item: Item) -> dict[str, object]:
    merge = {name: text for name, text in item.fields.items() if name.isupper()}
    return {"email_address": item.email, "merge_fields": merge}


class FakeMailchimp:
    """One audience; knows who is on it and with which status."""

    def __init__(self, **members: str) -> None:
        self.status = {
            f"{name}@shop.example": status for name, status in members.items()
        }
        self.merge: dict[str, object] = {}
        self.seen: list[tuple[str, str]] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        path = request.url.path.removeprefix("/3.0/")
        self.seen.append((request.method, f"{request.url.host}/{path}"))
        body = json.loads(request.content or "null")
        match request.method, path.split("/"):
            case "GET", [""]:
                answer: Any = {"account_id": "a1", "account_name": "Bakery"}
            case "GET", ["lists"]:
                answer = {"lists": [{"id": "l1", "name": "News"}]}
            case "GET", ["lists", "l1", "merge-fields"]:
                answer = {"merge_fields": [{"tag": "FNAME", "name": "First name"}]}
            case "POST", ["lists", "l1"]:
                answer = self._add(body["members"])
            case _:
                self.merge[body["email_address"]] = body["merge_fields"]
                answer = {"id": "m", "status": self.status[body["email_address"]]}
        return httpx.Response(200, json=answer)

    def _add(self, members: list[dict[str, Any]]) -> dict[str, object]:
        new: list[object] = []
        errors: list[object] = []
        for member in members:
            email = member["email_address"]
            row = {"email_address": email, "id": "m"}
            if email in self.status:
                errors.append(
                    {**row, "error_code": "ERROR_CONTACT_EXISTS", "error": "is there"}
                )
            elif email.startswith("fake"):
                errors.append(
                    {**row, "error_code": "ERROR_GENERIC", "error": "looks fake"}
                )
            else:
                self.status[email] = member["status"]
                new.append(row)
        return {"new_members": new, "errors": errors}


def test_mailchimp_fits() -> None:
    """Host from the key, errors inside a 200, opt-outs kept: the contract holds it."""
    fake = FakeMailchimp(there="subscribed", left="unsubscribed")
    app = onward.testing.app(
        """
        [connections.mailchimp]
        integration = "mailchimp"
        segment = "News"
        [connections.mailchimp.settings]
        api_key = "${KEY}"
        """,
        fake=fake,
        integrations=[Mailchimp],
        env={"KEY": "0123456789abcdef-us7"},
    )

    people = [f"{name}@shop.example" for name in ("new", "there", "left", "fake")]
    for email in people:
        app.upsert_contact({"email": email, "first_name": "Ana"})
    app.push(emails=people, to="mailchimp")

    app.deliver()

    got = {row["email"]: (row["state"], row["code"]) for row in app.deliveries()}
    assert got == {
        "new@shop.example": ("delivered", "delivered"),
        "there@shop.example": ("delivered", "delivered"),
        "left@shop.example": ("skipped", "unsubscribed"),
        "fake@shop.example": ("failed", "refused"),
    }
    assert fake.status["left@shop.example"] == "unsubscribed"
    assert {host.partition("/")[0] for _, host in fake.seen} == {
        "us7.api.mailchimp.com"
    }
    assert sum(method == "PUT" for method, _ in fake.seen) == 2
    app.close()


# -- Klaviyo: two windows an endpoint, any property, jobs instead of answers

JOBS = "/api/profile-bulk-import-jobs"


class Klaviyo(Integration):
    """Hands thousands of profiles to a job and asks later what became of them."""

    key, title = "klaviyo", "Klaviyo"
    hosts = ("a.klaviyo.com",)
    limits = (
        Limit(10, per=second, path=f"{JOBS}*"),
        Limit(150, per=minute, path=f"{JOBS}*"),
        Limit(1, per=second, path="/api/accounts*"),
        Limit(15, per=minute, path="/api/accounts*"),
    )
    batch_size, batch_bytes = 10_000, 5_000_000
    default_map = MappingProxyType({"email": "email", "properties.town": "city"})

    class Settings(ConnectionSettings):
        """What Klaviyo needs."""

        private_key: Secret = setting("Private API key")

    settings: Settings

    def authenticate(self, request: httpx.Request) -> None:
        """Add the key and the revision; without a revision all is refused."""
        key = self.settings.private_key.reveal()
        request.headers["Authorization"] = f"Klaviyo-API-Key {key}"
        request.headers["revision"] = "2026-07-15"

    def verify(self, api: Api) -> Account:
        """GET the account of the key."""
        row = api.get("api/accounts").json()["data"][0]
        return Account(row["id"], row["id"], row["id"])

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Yield the standard ones; properties are free-form."""
        yield RemoteField("email", required=True)
        yield RemoteField("first_name")
        yield RemoteField("properties.*")

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Start one job for the batch.

        No list is named: a job with one unsubscribes who is not on it.
        """
        profiles = [{"type": "profile", "attributes": _profile(i)} for i in batch]
        job = api.post(JOBS, {"data": {"attributes": {"profiles": profiles}}}).json()
        for item in batch:
            yield item.submitted(job["data"]["id"], after=timedelta(seconds=10))

    def poll(self, api: Api, job: str, batch: Sequence[Item]) -> Iterator[Outcome]:
        """Ask how far the job is; when complete, read its errors, all pages."""
        status = api.get(f"{JOBS}/{job}").json()["data"]["attributes"]["status"]
        if status in ("queued", "processing"):
            for item in batch:
                yield item.submitted(job, after=minute)
            return
        errors: dict[str, str] = {}
        address: str | None = f"{JOBS}/{job}/import-errors"
        while address:
            page = api.get(address).json()
            for row in page["data"]:
                errors[row["original_payload"]["email"]] = row["detail"]
            address = page["links"]["next"]
        for item in batch:
            if item.email in errors:
                yield item.rejected("refused", errors[item.email])
            else:
                yield item.delivered(item.email)


def _profile(item: Item) -> dict[str, object]:
    plain = {k: v for k, v in item.fields.items() if not k.startswith("properties.")}
    free = {
        k.removeprefix("properties."): v
        for k, v in item.fields.items()
        if k.startswith("properties.")
    }
    return {**plain, "properties": free}


class FakeKlaviyo:
    """Keeps jobs; one that is asked for a second time is complete."""

    def __init__(self) -> None:
        self.clock = onward.testing.Clock()
        self.jobs: dict[str, list[dict[str, Any]]] = {}
        self.asked: set[str] = set()
        self.at: list[datetime] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; without a revision with 400."""
        if "revision" not in request.headers:
            return httpx.Response(400, json={"errors": [{"detail": "revision"}]})
        path = request.url.path
        if path == "/api/accounts":
            return httpx.Response(200, json={"data": [{"id": "K1"}]})
        if request.method == "POST":
            self.at.append(self.clock())
            job = f"job-{len(self.jobs) + 1}"
            attributes = json.loads(request.content)["data"]["attributes"]
            self.jobs[job] = [row["attributes"] for row in attributes["profiles"]]
            return httpx.Response(202, json={"data": {"id": job}})
        job = path.removeprefix(f"{JOBS}/").partition("/")[0]
        if path.endswith("import-errors"):
            return httpx.Response(200, json=self._errors(request, job))
        status = "complete" if job in self.asked else "processing"
        self.asked.add(job)
        return httpx.Response(200, json={"data": {"attributes": {"status": status}}})

    def _errors(self, request: httpx.Request, job: str) -> dict[str, object]:
        bad = [p for p in self.jobs[job] if p["email"].startswith("bad")]
        page = int(request.url.params.get("page[cursor]", "0"))
        more = f"{request.url.copy_with(query=None)}?page[cursor]={page + 1}"
        return {
            "data": [
                {"detail": "invalid", "original_payload": p}
                for p in bad[page : page + 1]
            ],
            "links": {"next": more if page + 1 < len(bad) else None},
        }


KLAVIYO = """
[connections.klaviyo]
integration = "klaviyo"
segment = false
[connections.klaviyo.settings]
private_key = "${KEY}"
"""


def a_klaviyo_app(
    fake: FakeKlaviyo, kind: type[Klaviyo], people: Sequence[str]
) -> onward.testing.TestApp:
    """Return an app with one push queued for each of the people."""
    app = onward.testing.app(
        KLAVIYO,
        fake=fake,
        integrations=[kind],
        env={"KEY": "pk_0123456789"},
        clock=fake.clock,
    )
    for email in people:
        app.upsert_contact({"email": email, "city": "Köln"})
    app.push(emails=people, to="klaviyo")
    return app


def opened(app: onward.testing.TestApp) -> tuple[Klaviyo, Api]:
    """Return the integration and its client, as a drain has them."""
    with app.runtime.database.read() as transaction:
        state = named(transaction, "klaviyo")
    found = open_connection(app.runtime, state)
    assert isinstance(found.integration, Klaviyo)
    return found.integration, found.api(app.runtime)


def test_klaviyo_fits() -> None:
    """A job takes the batch, free-form properties included, and poll ends it."""
    fake = FakeKlaviyo()
    people = ["ana@shop.example", "bad1@shop.example", "bad2@shop.example"]
    app = a_klaviyo_app(fake, Klaviyo, people)
    klaviyo, api = opened(app)
    items = [
        an_item(email, place, **{"properties.town": "Köln"})
        for place, email in enumerate(people)
    ]

    submitted = list(klaviyo.push(api, items, None))
    first = list(klaviyo.poll(api, "job-1", items))
    second_time = list(klaviyo.poll(api, "job-1", items))

    assert fake.jobs["job-1"][0] == {
        "email": "ana@shop.example",
        "properties": {"town": "Köln"},
    }
    assert {(o.kind, o.job) for o in submitted} == {(OutcomeKind.SUBMITTED, "job-1")}
    assert {(o.kind, o.job, o.after) for o in first} == {
        (OutcomeKind.SUBMITTED, "job-1", minute)
    }
    assert [(o.push_id, o.kind) for o in second_time] == [
        (0, OutcomeKind.DELIVERED),
        (1, OutcomeKind.REJECTED),
        (2, OutcomeKind.REJECTED),
    ]
    app.close()


def test_a_job_is_refused_while_nobody_asks_for_its_end() -> None:
    """A row that could only get stuck waits, and says why."""
    fake = FakeKlaviyo()
    app = a_klaviyo_app(fake, Klaviyo, ["ana@shop.example"])

    app.deliver()

    [row] = app.queued
    assert (row["state"], row["code"]) == ("waiting", "plugin_error")
    assert "submitted() is reserved" in row["reason"]
    app.close()


@pytest.mark.slow
def test_batches_are_bounded_by_bytes_and_calls_by_both_windows() -> None:
    """No job exceeds `batch_bytes`; no second sees 10, no minute 150 new jobs."""

    class Small(Klaviyo):
        batch_bytes = 150

        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Take a job that was accepted for one that was done."""
            list(super().push(api, batch, segment))
            for item in batch:
                yield item.delivered(item.email)

    fake = FakeKlaviyo()
    people = [f"p{number}@shop.example" for number in range(400)]
    app = a_klaviyo_app(fake, Small, people)

    app.deliver()

    sizes = {len(profiles) for profiles in fake.jobs.values()}
    assert max(sizes) == 2
    assert sum(len(profiles) for profiles in fake.jobs.values()) == 400
    assert most_within(fake.at, second) <= 10
    assert most_within(fake.at, minute) <= 150
    app.close()


def most_within(moments: Sequence[datetime], span: timedelta) -> int:
    """Return how many moments at most lie in any span of this length."""
    return max(
        sum(start <= moment < start + span for moment in moments) for start in moments
    )


# -- a signed webhook: any address, any field, a signature over the exact bytes


class Webhook(Integration):
    """POSTs each contact, signed as the Standard Webhooks specification says."""

    key, title, batch_size, repeatable = "webhook", "Webhook", 1, True
    default_map = MappingProxyType({"email": "email", "whoever.they.are": "first_name"})

    class Settings(ConnectionSettings):
        """Where to and signed with what."""

        url: str = setting("Address")
        secret: Secret = setting("Signing secret", help="whsec_…")

    settings: Settings

    def allowed_hosts(self) -> Sequence[str]:
        """Return the host of the address."""
        return (httpx.URL(self.settings.url).host,)

    def verify(self, api: Api) -> Account:
        """Send a signed ping."""
        self._send(api, "ping", {"type": "ping"})
        return Account(self.settings.url, self.allowed_hosts()[0], self.settings.url)

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Yield that any name will do."""
        yield RemoteField("*")

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Send each under an id that a repeat keeps, so that receivers can tell."""
        for item in batch:
            body: dict[str, object] = {"type": "contact", "data": dict(item.fields)}
            self._send(api, f"push_{item.push_id}", body)
            yield item.delivered(item.email)

    def _send(self, api: Api, name: str, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        moment = str(int(api.now().timestamp()))
        headers = {
            "content-type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": moment,
            "webhook-signature": signature(
                self.settings.secret.reveal(), name, moment, content
            ),
        }
        api.request("POST", self.settings.url, content=content, headers=headers)


def signature(secret: str, name: str, moment: str, content: bytes) -> str:
    """Return the `v1` signature of a message."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join([name.encode(), moment.encode(), content])
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def test_signed_webhook_fits() -> None:
    """Every message is signed over its bytes; one that got lost keeps its id."""
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    seen: list[tuple[str, object]] = []
    lost = ["push_1"]

    def handle(request: httpx.Request) -> httpx.Response:
        name = request.headers["webhook-id"]
        moment = request.headers["webhook-timestamp"]
        if request.headers["webhook-signature"] != signature(
            secret, name, moment, request.content
        ):
            return httpx.Response(401)
        seen.append((name, json.loads(request.content).get("data")))
        if name in lost:
            lost.remove(name)
            raise httpx.ReadTimeout("gone", request=request)
        return httpx.Response(204)

    app = onward.testing.app(
        """
        [connections.hook]
        integration = "webhook"
        segment = false
        [connections.hook.settings]
        url = "https://hooks.shop.example/in?tenant=7"
        secret = "${SECRET}"
        """,
        transport=httpx.MockTransport(handle),
        integrations=[Webhook],
        env={"SECRET": secret},
    )
    app.upsert_contact({"email": "ana@shop.example", "first_name": "Ana"})
    app.push(email="ana@shop.example", to="hook")

    app.deliver()
    app.clock.tick(minute)
    app.deliver()

    data = {"email": "ana@shop.example", "whoever.they.are": "Ana"}
    assert seen == [("ping", None), ("push_1", data), ("push_1", data)]
    assert [row["state"] for row in app.deliveries()] == ["delivered"]
    app.close()
