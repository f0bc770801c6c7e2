"""The client an integration is given: it refuses, counts, waits and redacts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import httpx
import pytest

import onward.testing
from onward import Api, Lost, PluginError, Rejected, Temporary, hour, minute
from onward.api import Wire, check_address, join
from onward.contract import Limit, RemoteContact
from onward.database import Database
from onward.errors import Fenced
from onward.integrations import ConnectionSettings, Integration
from onward.limiter import Limiter, windows_for
from onward.memory import Memory
from onward.redact import Redactor

Handle = Callable[[httpx.Request], httpx.Response]


class Acme(Integration):
    """Puts a secret into a header and, badly, into the address."""

    key, title, hosts = "acme", "Acme", ("api.acme.example",)

    def authenticate(self, request: httpx.Request) -> None:
        """Add the credential."""
        request.headers["Authorization"] = "Bearer s3cret-token"


class NoIndex:
    """Knows nobody."""

    def learn(self, records: object) -> None:
        """Forget it."""

    def known_ids(self, ids: object) -> dict[str, RemoteContact]:
        """Return nothing."""
        return {}

    def known_emails(self, emails: object) -> dict[str, RemoteContact]:
        """Return nothing."""
        return {}


@pytest.fixture
def make_api(sqlite_url: str) -> Iterator[Callable[..., Api]]:
    """A factory of clients around a handler."""
    database = Database(sqlite_url)
    clients: list[httpx.Client] = []

    def make(
        handle: Handle,
        limits: tuple[Limit, ...] = (),
        in_flight: int = 1,
        clock: onward.testing.Clock | None = None,
    ) -> Api:
        moment = clock or onward.testing.Clock()
        client = httpx.Client(transport=httpx.MockTransport(handle))
        clients.append(client)
        wire = Wire(
            client=client,
            authenticator=Acme(ConnectionSettings()),
            limiter=Limiter(database),
            windows=windows_for("acme", limits, live=True),
            in_flight=in_flight,
            redactor=Redactor(["s3cret-token"]),
            clock=moment,
            sleep=moment.sleep,
        )
        return Api(wire, Memory(database, 1, moment), NoIndex())

    yield make
    for client in clients:
        client.close()
    database.close()


def ok(request: httpx.Request) -> httpx.Response:
    """Answer everything with 200."""
    return httpx.Response(200, json={"path": request.url.path})


def test_request_is_joined_authenticated_and_read(make_api: Callable[..., Api]) -> None:
    """A path is put under the base address; the credential is on it already."""
    seen: list[tuple[str, str, str]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        token = request.headers["Authorization"]
        seen.append((request.method, str(request.url), token))
        return httpx.Response(200, json=[1])

    got = make_api(handle).get("v1/people", {"q": "a b"}).json()

    assert got == [1]
    assert seen == [
        ("GET", "https://api.acme.example/v1/people?q=a+b", "Bearer s3cret-token")
    ]


@pytest.mark.parametrize(
    ("base", "path", "whole"),
    [
        ("https://a.example/v1", "people", "https://a.example/v1/people"),
        ("https://a.example/v1/", "/people", "https://a.example/v1/people"),
        ("https://a.example", "https://b.example/x", "https://b.example/x"),
        ("https://a.example", "go?to=http://x", "https://a.example/go?to=http://x"),
    ],
)
def test_join(base: str, path: str, whole: str) -> None:
    """Slashes meet once; an absolute address stays; one in a query is none."""
    assert join(base, path) == whole


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "https://api.acme.example.evil.example/",
        "https://api.acme.example:8443/",
        "http://api.acme.example/",
        "https://api.acme.example@evil.example/",
        "file:///etc/passwd",
    ],
)
def test_foreign_address_is_refused_unsent(
    make_api: Callable[..., Api], address: str
) -> None:
    """No request leaves for another host, port or an open line."""

    def handle(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"{request.url} was sent")

    with pytest.raises(PluginError):
        check_address(httpx.URL(address), ["api.acme.example"])
    if address.startswith("http"):
        with pytest.raises(PluginError):
            make_api(handle).get(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_may_be_asked_openly(host: str) -> None:
    """Plain http is allowed to a declared host that is this machine."""
    check_address(httpx.URL(f"http://{host}:8025/"), [f"{host.strip('[]')}:8025"])


def test_status_is_raised_unless_expected(make_api: Callable[..., Api]) -> None:
    """A 404 is Rejected; with `ok` it is an answer."""
    api = make_api(lambda request: httpx.Response(404))

    with pytest.raises(Rejected):
        api.get("groups/7")

    assert api.get("groups/7", ok={404}).status == 404


def test_exchanges_are_kept_without_secrets(make_api: Callable[..., Api]) -> None:
    """What is written down shows request and answer, and no credential."""

    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=f"hello {request.headers['Authorization']}")

    api = make_api(echo)
    api.post("login?key=s3cret-token", {"token": "s3cret-token"})

    written = repr(api.exchanges)
    assert "s3cret-token" not in written
    assert [one["status"] for one in api.exchanges] == [200]


@pytest.mark.parametrize(
    ("method", "kind"), [("GET", Temporary), ("POST", Lost), ("PUT", Lost)]
)
def test_lost_answer(
    make_api: Callable[..., Api], method: str, kind: type[Temporary]
) -> None:
    """A request without answer is kept among the exchanges and raised by its kind."""

    def lose(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("gone", request=request)

    api = make_api(lose)

    with pytest.raises(Temporary) as caught:
        api.request(method, "people")

    assert type(caught.value) is kind
    assert api.exchanges[0]["error"] == caught.value.message


def test_outcomes_are_stored_before_a_request_leaves(
    make_api: Callable[..., Api],
) -> None:
    """The core's turn comes before each request, not after."""
    order: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        order.append("request")
        return httpx.Response(200)

    api = make_api(handle)
    api.before_request = lambda: order.append("stored")

    api.get("a")
    api.get("b")

    assert order == ["stored", "request", "stored", "request"]


def test_limit_is_waited_out(make_api: Callable[..., Api]) -> None:
    """Calls beyond the limit wait; the clock moves, and none is refused."""
    clock = onward.testing.Clock()
    api = make_api(ok, (Limit(60, per=minute),), clock=clock)

    for _ in range(30):
        api.get("people")

    assert len(api.exchanges) == 30
    assert 0 < clock.slept < 60


def test_waiting_for_calls_keeps_the_lease(make_api: Callable[..., Api]) -> None:
    """A long wait is slept in short naps, and the lease is looked after in each."""
    clock = onward.testing.Clock()
    api = make_api(ok, (Limit(2, per=minute),), clock=clock)
    naps: list[float] = []
    renewed: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock.tick(seconds)

    api._wire.sleep = sleep
    api._wire.renew = lambda: renewed.append(clock.now.timestamp())
    api._wire.left = lambda: timedelta(seconds=2)

    for _ in range(2):
        api.get("people")

    assert sum(naps) == pytest.approx(30, abs=0.1)
    assert max(naps) == 0.5  # a quarter of what is left of the lease
    assert len(renewed) >= len(naps)


def test_a_lease_lost_while_waiting_stops_the_request(
    make_api: Callable[..., Api],
) -> None:
    """Nothing leaves any more for a worker that slept too long."""
    clock = onward.testing.Clock()
    api = make_api(ok, (Limit(2, per=minute),), clock=clock)
    api.get("people")

    def lost() -> None:
        raise Fenced

    api._wire.renew = lost

    with pytest.raises(Fenced):
        api.get("people")
    assert len(api.exchanges) == 1


def test_the_room_is_seen_without_taking_it(make_api: Callable[..., Api]) -> None:
    """A batch asks whether its calls fit; those of single paths are not looked at."""
    clock = onward.testing.Clock()
    limits = (Limit(16, per=minute), Limit(1, per=minute, path="*/imports"))
    api = make_api(ok, limits, clock=clock)
    wire = api._wire

    def room(calls: int) -> bool:
        with wire.limiter._database.read() as transaction:
            return wire.room_for(transaction, calls) is None

    assert (room(4), room(4)) == (True, True)
    api.get("imports")
    assert (room(3), room(4)) == (True, False)


def test_a_request_takes_less_than_what_is_left_of_the_lease(
    make_api: Callable[..., Api],
) -> None:
    """Half a minute at most, and less when the lease is shorter."""
    wire = make_api(ok)._wire

    seconds = []
    for left in (None, timedelta(minutes=2), timedelta(seconds=10)):
        wire.left = partial(lambda given: given, left)
        seconds.append(wire.seconds_left())

    assert seconds == [30, 30, 9]


def test_a_credential_may_not_lead_elsewhere(make_api: Callable[..., Api]) -> None:
    """What `authenticate` does to the address is looked at again."""
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200)

    class Elsewhere(Acme):
        """Signs for another host."""

        def authenticate(self, request: httpx.Request) -> None:
            """Change the address."""
            request.url = httpx.URL("https://evil.example/")

    api = make_api(handle)
    api._wire.authenticator = Elsewhere(ConnectionSettings())

    with pytest.raises(PluginError, match=r"evil\.example"):
        api.get("people")
    assert seen == []


def test_redirects_are_not_followed(make_api: Callable[..., Api]) -> None:
    """The credential would go along; it is told what happened instead."""
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(302, headers={"Location": "https://evil.example/"})

    with pytest.raises(Temporary, match="redirects are not followed"):
        make_api(handle).get("people")

    assert seen == ["api.acme.example"]


def test_huge_bodies_are_kept_short(make_api: Callable[..., Api]) -> None:
    """An attempt shows the beginning of a body, and how long it was."""
    api = make_api(lambda _: httpx.Response(200, text="x" * 1_000_000))

    api.post("people", ["y" * 1_000_000])

    [seen] = api.exchanges
    assert len(seen["request"]) < 25_000
    assert len(seen["answer"]) < 25_000
    assert "1000000 characters" in seen["answer"]


def test_the_services_own_words_are_without_secrets(
    make_api: Callable[..., Api],
) -> None:
    """An error that echoes the credential does not carry it into ours."""

    def handle(request: httpx.Request) -> httpx.Response:
        words = f"cannot use {request.headers['Authorization']}"
        return httpx.Response(422, json={"error": words})

    with pytest.raises(Rejected) as caught:
        make_api(handle).post("people", {})

    assert "cannot use" in caught.value.message
    assert "s3cret-token" not in caught.value.message


def test_long_wait_for_calls_is_a_loss(make_api: Callable[..., Api]) -> None:
    """Out of calls for a quarter of an hour, the rest of a batch is unknown."""
    clock = onward.testing.Clock()
    api = make_api(ok, (Limit(1, per=hour),), clock=clock)
    api.get("people")

    with pytest.raises(Lost) as caught:
        api.get("people")

    assert caught.value.code == "out_of_calls"
    assert len(api.exchanges) == 1
    clock.tick(hour)
    assert api.get("people").status == 200


def test_short_waits_do_not_add_up(make_api: Callable[..., Api]) -> None:
    """A batch of an hour goes on as long as each of its calls comes soon enough."""
    clock = onward.testing.Clock()
    api = make_api(ok, (Limit(6, per=hour),), clock=clock)
    began = clock()

    for number in range(20):
        assert api.get(f"people/{number}").status == 200

    assert clock() - began > 2 * hour


def test_who_is_to_stop_waits_no_longer(make_api: Callable[..., Api]) -> None:
    """A worker that is told to stop does not wait for its next call."""
    clock = onward.testing.Clock()
    api = make_api(ok, (Limit(6, per=hour),), clock=clock)
    api.get("people")
    api._wire.stopping = lambda: True

    with pytest.raises(Lost, match="stopped while waiting") as caught:
        api.get("people")

    assert caught.value.code == "out_of_calls"
    api._wire.stopping = lambda: False
    assert api.get("people").status == 200


def test_each_runs_so_many_at_a_time(make_api: Callable[..., Api]) -> None:
    """As many functions as `in_flight` meet, and never more."""
    together = threading.Barrier(3, timeout=30)
    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def handle(request: httpx.Request) -> httpx.Response:
        with lock:
            running.append(1)
            most.append(len(running))
        together.wait()
        with lock:
            running.pop()
        return ok(request)

    api = make_api(handle, in_flight=3)

    got = list(api.each(lambda n: api.get(f"people/{n}").json()["path"], range(6)))

    assert sorted(got) == [f"/people/{n}" for n in range(6)]
    assert max(most) == 3


@pytest.mark.parametrize("in_flight", [1, 3])
def test_each_yields_what_is_done_before_it_raises(
    make_api: Callable[..., Api], in_flight: int
) -> None:
    """After a failure nothing new starts, and what was done is not lost."""

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400 if request.url.path == "/2" else 200)

    api = make_api(handle, in_flight=in_flight)
    got: list[int] = []

    def collect() -> None:
        for answer in api.each(lambda n: api.get(str(n)), range(40)):
            got.append(answer.status)

    with pytest.raises(Rejected):
        collect()

    assert 2 <= len(got) < 10


def test_memory_is_the_connections_own(make_api: Callable[..., Api]) -> None:
    """What is put is found until its time is over."""
    clock = onward.testing.Clock()
    api = make_api(ok, clock=clock)
    api.memory.put("commas", [1, "two"], for_=minute)

    assert api.memory.get("commas") == [1, "two"]
    clock.tick(minute)
    assert api.memory.get("commas") is None
    assert api.now() == clock.now
