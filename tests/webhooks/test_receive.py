"""What services, and everybody else, may post to the listener."""

from __future__ import annotations

import gzip
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import update

from onward.connections.remove import remove_connection
from onward.connections.state import pause
from onward.health import Probes, server
from onward.models import Connection, table
from onward.webhooks import hints, receive

from .conftest import World

ANA = orjson.dumps([{"id": "7", "list": "1", "email": "ana@shop.example"}])


@pytest.fixture
def path(world: World) -> str:
    """The path that the service was given."""
    return world.register()


@contextmanager
def talk(listening: Probes, said: bytes) -> Iterator[socket.socket]:
    """Open a connection and say something; it is closed at the end."""
    with socket.create_connection(("127.0.0.1", listening.port), 30) as open_one:
        open_one.sendall(said)
        yield open_one


def hear(open_one: socket.socket) -> bytes:
    """Return all that is answered until the other side closes."""
    heard = b""
    with suppress(ConnectionError):
        while part := open_one.recv(65_536):
            heard += part
    return heard


def post(path: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request as it is written."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


JSON = (f"Content-Length: {len(ANA)}",)


def answered(listening: Probes, said: bytes) -> bytes:
    """Say something, and return all that is answered."""
    with talk(listening, said) as one:
        return hear(one)


def without_date(heard: bytes) -> bytes:
    """An answer without the time it was given at."""
    return re.sub(rb"Date: .*", b"", heard)


def status_of(heard: bytes) -> int:
    """The status of an answer, 0 when there is none."""
    return int(heard.split(b" ")[1]) if heard else 0


def test_a_report_is_a_hint_and_no_more(
    world: World, client: httpx.Client, path: str
) -> None:
    """Answered at once; the id and the list are kept, and nothing that it says."""
    said = client.post(path, content=ANA)

    assert (said.status_code, said.text) == (200, "OK\n")
    [hint] = world.hints()
    assert hint == {
        "connection_id": 1,
        "remote_id": "7",
        "segments": ["1"],
        "run_id": 0,
        "tries": 0,
        "due_at": world.app.clock.now,
        "created_at": world.app.clock.now,
    }
    assert world.webhooks()[0]["heard_at"] == world.app.clock.now
    assert world.told == [1]


def test_any_other_path_is_none(world: World, listening: Probes, path: str) -> None:
    """Wrong, longer, encoded, climbing: one answer for all, and nothing is stored."""
    secret = path.removeprefix("/hooks/")
    other = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    wrong = [
        "/hooks/",
        "/hooks/x",
        f"/hooks/{other}",
        f"/hooks/{secret[:-1]}",
        f"/hooks/{secret}x",
        f"/hooks/{secret}/",
        f"/hooks//{secret}",
        f"/hooks/./{secret}",
        f"/hooks/x/../{secret}",
        f"/hooks/%2e%2e/hooks/{secret}",
        f"/hooks/%{ord(secret[0]):02x}{secret[1:]}",
        f"/hooks/{secret}%00",
        f"/hooks/{secret};x",
        f"/hooks/{secret}#x",
        f"/hooks/{secret.swapcase()}",
        f"/hooks/{world.webhooks()[0]['digest']}",
        "/hooks/" + "x" * 5_000,
        "/hooks/../livez",
        "/hooks/'%20OR%201=1%20--",
    ]
    elsewhere = [
        f"/hooks%2f{secret}",
        f"/x/..{path}",
        f"/.{path}",
        f"http://127.0.0.1{path}",
        "/hooks",
    ]

    below = [answered(listening, post(one, *JSON, body=ANA)) for one in wrong]
    others = [answered(listening, post(one, *JSON, body=ANA)) for one in elsewhere]

    assert [status_of(one) for one in below] == [404] * len(wrong)
    assert len({without_date(one) for one in below}) == 1
    assert [status_of(one) for one in others] == [405] * len(elsewhere)
    assert (world.hints(), world.told) == ([], [])
    assert status_of(answered(listening, post(path, *JSON, body=ANA))) == 200
    # Two slashes at the start are one, as for every other page.
    assert status_of(answered(listening, post(f"/{path}", *JSON, body=ANA))) == 200
    assert status_of(answered(listening, post(f"{path}?x=1", *JSON, body=ANA))) == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post(world: World, client: httpx.Client, path: str, method: str) -> None:
    """Whether the secret is right cannot be told from the answer."""
    right = client.request(method, path)
    wrong = client.request(method, "/hooks/x")

    assert (right.status_code, wrong.status_code) == (405, 405)
    assert right.headers["allow"] == wrong.headers["allow"] == "POST"
    assert right.text == wrong.text
    assert world.hints() == []


def test_a_method_nobody_knows(listening: Probes, path: str) -> None:
    """Nothing of the request is repeated."""
    heard = answered(listening, f"HACK {path} HTTP/1.1\r\n\r\n".encode())

    assert status_of(heard) == 501
    assert path.encode() not in heard
    assert b"HACK" not in heard


def test_a_line_that_is_no_request(listening: Probes, path: str) -> None:
    """As before."""
    heard = answered(listening, f"POST {path} and more HTTP/1.1\r\n\r\n".encode())

    assert path.encode() not in heard


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"Content-Length: {receive.MOST_BYTES + 1}"], 413),
        (["Content-Length: 9999999999"], 413),
        (["Content-Length: 99999999999999999999"], 400),
        (["Content-Length: -1"], 400),
        (["Content-Length: +2"], 400),
        (["Content-Length: 0x2"], 400),
        (["Content-Length: 1_0"], 400),
        (["Content-Length: two"], 400),
        (["Content-Length:"], 400),
        (["Content-Length: 2", "Content-Length: 3"], 400),
        ([], 411),
        (["Transfer-Encoding: chunked"], 411),
        (["Content-Length: 2", "Transfer-Encoding: chunked"], 411),
        (["Content-Length: 2", "Content-Encoding: gzip"], 415),
        (["Content-Length: 2", "Content-Encoding: identity, br"], 415),
    ],
)
def test_bodies_that_are_not_read(
    world: World, listening: Probes, path: str, headers: list[str], status: int
) -> None:
    """Answered before a byte of the body came; a wrong secret is told the same 404."""
    right = answered(listening, post(path, *headers))
    wrong = answered(listening, post("/hooks/x", *headers))

    assert (status_of(right), status_of(wrong)) == (status, 404)
    assert world.hints() == []


def test_the_largest_body(world: World, client: httpx.Client, path: str) -> None:
    """A million bytes are read; not one more."""
    largest = ANA + b" " * (receive.MOST_BYTES - len(ANA))

    assert client.post(path, content=largest).status_code == 200
    assert len(world.hints()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<xml/>",
        b"\xff\xfe",
        b"[" * 900_000,
        b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
        gzip.compress(ANA),
        ANA[:-1],
    ],
    ids=range(8),
)
def test_a_body_that_is_no_report(
    world: World, client: httpx.Client, path: str, body: bytes
) -> None:
    """400, nothing stored, nothing repeated; the next one is read."""
    said = client.post(path, content=body)

    assert (said.status_code, said.text) == (400, "Bad Request\n")
    assert world.hints() == []
    assert client.post(path, content=ANA).status_code == 200


def test_ids_that_can_be_none(world: World, client: httpx.Client, path: str) -> None:
    """Blank, endless, half a character, NUL: left out; the others are kept."""
    people = [
        {"id": ""},
        {"id": "x" * 201},
        {"id": "a\x00b"},
        {"id": "a\nb"},
        {"id": "half \ud800"},
        {"id": "8", "list": "y" * 201},
        {"id": "' OR 1=1 --"},
        {"id": "9"},
    ]

    said = client.post(path, content=json.dumps(people))

    assert said.status_code == 200
    assert [(one["remote_id"], one["segments"]) for one in world.hints()] == [
        ("' OR 1=1 --", []),
        ("8", []),
        ("9", []),
    ]


def test_a_plugin_that_fails(
    world: World, client: httpx.Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it raises is told neither to the sender nor to the log."""
    caplog.set_level(logging.DEBUG)
    first = client.post(path, content=b'["a fault"]')
    second = client.post(path, content=b'[{"id": 7}]')

    assert (first.status_code, first.text) == (500, "Internal Server Error\n")
    assert second.status_code == 500
    assert "KeyError" in caplog.text
    assert "must yield RemoteKey with texts" in caplog.text
    assert "ana@shop.example" not in caplog.text
    assert client.post(path, content=ANA).status_code == 200


def test_the_secret_is_never_logged(
    world: World,
    client: httpx.Client,
    path: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """By nobody, whatever comes."""
    logging.getLogger("httpx").disabled = True  # the sender's, not ours
    caplog.set_level(logging.DEBUG, "onward")
    caplog.set_level(logging.DEBUG, "sqlalchemy.engine")
    try:
        for body in (ANA, b"{", b'["a fault"]'):
            client.post(path, content=body)
        client.get(path)
    finally:
        logging.getLogger("httpx").disabled = False

    secret = path.removeprefix("/hooks/")
    shown = capfd.readouterr()
    ours = [
        record.getMessage() for record in caplog.records if "http" not in record.name
    ]
    assert ours
    assert secret not in "".join(ours) + shown.out + shown.err


def test_fifty_a_second(world: World, client: httpx.Client, path: str) -> None:
    """More of one connection are told to come again; others are not touched."""
    said = [client.post(path, content=ANA) for _ in range(receive.MOST_A_SECOND + 1)]
    world.ticks = 0.9
    still = client.post(path, content=ANA)
    world.ticks = 1.0
    then = client.post(path, content=ANA)

    assert [one.status_code for one in said] == [200] * receive.MOST_A_SECOND + [429]
    assert said[-1].headers["retry-after"] == "1"
    assert (still.status_code, then.status_code) == (429, 200)
    assert client.post("/hooks/x", content=ANA).status_code == 404


def test_a_slow_sender_is_cut_off(
    world: World, listening: Probes, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However steadily the bytes drip, for its head as for its body."""
    monkeypatch.setattr(server, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(server, "BODY_S", 0.3)
    with (
        talk(listening, post(path, "Content-Length: 900")) as body,
        talk(listening, post(path, "Content-Length: 900")) as stopped,
        talk(listening, f"POST {path} HTTP/1.1\r\n".encode()) as head,
        talk(listening, b"") as silent,
    ):
        over = threading.Event()

        def drip() -> None:
            with suppress(OSError):
                while not over.wait(0.05):
                    body.sendall(b" ")
                    head.sendall(b"a: b\r\n")

        threading.Thread(target=drip).start()
        heard = [hear(one) for one in (stopped, body, head, silent)]
        over.set()

    assert status_of(heard[0]) == 408
    # What still drips in may drown the answer.
    assert status_of(heard[1]) in (0, 408)
    assert heard[2:] == [b"", b""]
    assert world.hints() == []


def test_a_body_that_ends_early(world: World, listening: Probes, path: str) -> None:
    """Half a report is none."""
    with talk(listening, post(path, "Content-Length: 900", body=ANA)) as one:
        one.shutdown(socket.SHUT_WR)
        heard = hear(one)

    assert status_of(heard) == 400
    assert world.hints() == []


def test_reports_never_keep_probes_out(
    world: World,
    listening: Probes,
    client: httpx.Client,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Senders who stop in the middle fill their own places; one more is sent away."""
    # However busy this machine is.
    monkeypatch.setattr(server, "BODY_S", 300)
    begun = post(path, "Content-Length: 900")
    with ExitStack() as stack:
        for _ in range(server.MOST_REPORTS):
            stack.enter_context(talk(listening, begun))
        status = 0
        while status != 503:
            # One more, should the server have given one up on a busy machine.
            stack.enter_context(talk(listening, begun))
            status = client.post(path, content=ANA).status_code
        assert client.get("/livez").status_code == 200
        assert client.get("/metrics").status_code == 200

    while status != 200:
        status = client.post(path, content=ANA).status_code
    assert len(world.hints()) == 1


def test_many_at_once(world: World, listening: Probes, path: str) -> None:
    """Each is answered or sent away; what was answered 200 is stored."""
    taken: list[str] = []

    def send(number: int) -> None:
        body = orjson.dumps([{"id": str(number)}])
        with suppress(httpx.HTTPError):
            said = httpx.post(f"{listening.url}{path}", content=body, trust_env=False)
            if said.status_code == 200:
                taken.append(str(number))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(24)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert taken
    assert {one["remote_id"] for one in world.hints()} >= set(taken)


def test_connections_that_do_not_want_it(
    world: World, client: httpx.Client, path: str
) -> None:
    """Paused, it is kept; switched off, thanked for and dropped; gone, 404."""
    pause(world.runtime, world.state.id, "credentials", "refused")
    paused = client.post(path, content=ANA)
    kept = world.hints()
    with world.runtime.database.write() as transaction:
        transaction.execute(
            update(table(Connection)).values(enabled=False, declared="")
        )
    off = client.post(path, content=orjson.dumps([{"id": "8"}]))
    left = world.hints()
    remove_connection(world.runtime, world.state)
    gone = client.post(path, content=ANA)

    assert [paused.status_code, off.status_code, gone.status_code] == [200, 200, 404]
    assert len(kept) == 1
    assert left == kept
    assert world.told == [1]


def test_a_database_that_is_away(world: World, client: httpx.Client, path: str) -> None:
    """The service is to come again; nothing is taken for stored that is not."""
    place, world.runtime.database = world.runtime.database, _away(world)
    away = client.post(path, content=ANA)
    wrong = client.post("/hooks/x", content=ANA)
    world.runtime.database = place

    assert (away.status_code, wrong.status_code) == (503, 503)
    assert client.post(path, content=ANA).status_code == 200


def _away(world: World) -> Any:
    from onward.database import Database

    return Database("postgresql+psycopg://sam:secret@127.0.0.1:1/x")


def test_a_plugin_that_is_not_here(
    world: World, client: httpx.Client, path: str
) -> None:
    """Another process may have it: the service is to come again."""
    known = dict(world.runtime.plugins.integrations)
    world.runtime.plugins.integrations.clear()
    missing = client.post(path, content=ANA)
    world.runtime.plugins.integrations.update(known)

    assert missing.status_code == 503
    assert client.post(path, content=ANA).status_code == 200


def test_a_flood_becomes_a_pull(
    world: World,
    client: httpx.Client,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where more than so many would wait, none is stored and everybody is pulled."""
    monkeypatch.setattr(hints, "MOST_WAITING", 3)
    client.post(path, content=orjson.dumps([{"id": "1"}, {"id": "2"}]))
    both = client.post(path, content=orjson.dumps([{"id": "2"}, {"id": "3"}]))
    flood = client.post(path, content=orjson.dumps([{"id": "3"}, {"id": "4"}]))
    known = client.post(path, content=orjson.dumps([{"id": "3", "list": "1"}]))

    assert {one.status_code for one in (both, flood, known)} == {200}
    assert [(one["remote_id"], one["segments"]) for one in world.hints()] == [
        ("1", []),
        ("2", []),
        ("3", ["1"]),
    ]


def test_without_a_receiver_nothing_is_there(world: World) -> None:
    """A listener of probes alone knows no such path."""
    from onward.health import Health, Pulse

    path = world.register()
    health = Health(world.runtime, Pulse(), lambda: True)
    with Probes(health, "127.0.0.1:0", lambda: (200, "text/plain", b"")) as probes:
        posted = httpx.post(f"{probes.url}{path}", content=ANA, trust_env=False)
        got = httpx.get(f"{probes.url}{path}", trust_env=False)

    assert (posted.status_code, got.status_code) == (405, 404)
