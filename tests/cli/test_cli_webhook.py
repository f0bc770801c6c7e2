"""`onward connections webhook`, and what the worker takes by it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from onward.testing import Server, serve
from onward.vault import Vault

from .conftest import Place, Ran, line_with

PLUGIN = """
import json
from onward import Account, ConnectionSettings, Integration, RemoteField, RemoteKey
from onward import setting
from onward.hookspecs import hookimpl

class Acme(Integration):
    key, title, contract = "acme", "Acme Mail", 1
    default_map = {"email": "email"}
    class Settings(ConnectionSettings):
        url: str = setting("Address")
    def base_url(self): return self.settings.url
    def allowed_hosts(self): return [self.settings.url.removeprefix("http://")]
    def verify(self, api):
        return Account("acme/" + api.get("me").json()["me"], "acme", "Acme 1")
    def fields(self, api, segment): return [RemoteField("email")]
    def push(self, api, batch, segment): return ()
    def watch(self, api, url): api.post("watch", {"url": url})
    def unwatch(self, api, url): api.post("unwatch", {"url": url})
    def receive(self, body):
        return [RemoteKey(one["id"]) for one in json.loads(body)]

@hookimpl
def register_integrations(register):
    register(Acme)
"""


class Service:
    """Knows addresses, and refuses while it is `away`."""

    def __init__(self) -> None:
        self.account = "1"
        self.away = False
        self.hooks: list[str] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if request.url.path == "/me":
            return httpx.Response(200, json={"me": self.account})
        if self.away:
            return httpx.Response(500, text=request.content.decode())
        url = json.loads(request.content)["url"]
        if request.url.path == "/watch":
            self.hooks.append(url)
        elif url in self.hooks:
            self.hooks.remove(url)
        return httpx.Response(200, json={})


@pytest.fixture
def service() -> Service:
    """A service that knows no address."""
    return Service()


@pytest.fixture
def serving(service: Service) -> Iterator[Server]:
    """It, over HTTP."""
    with serve(service.handle) as running:
        yield running


@pytest.fixture
def acme(empty: Place, made_database: Path, serving: Server) -> Place:
    """A folder with a connection to it, and a key."""
    shutil.copy(made_database, empty.path / "onward.db")
    (empty.path / "plugins").mkdir()
    empty.write("plugins/acme.py", PLUGIN)
    Vault.create_key_file(empty.path / "onward.key")
    configure(empty, serving)
    empty.good("init", "--no-ask")
    return empty


def configure(place: Place, serving: Server, **own: str) -> None:
    """Write an `onward.toml` with settings of `[onward]`."""
    lines = [f'{name} = "{value}"' for name, value in own.items()]
    text = f'[connections.acme]\nintegration = "acme"\nsettings.url = "{serving.url}"\n'
    place.write("onward.toml", "\n".join(["[onward]", *lines, text]))


def register(place: Place, *more: str) -> Ran:
    """Register an address."""
    url = ("--url", "https://onward.bakery.example")
    return place.good("connections", "webhook", "acme", *(more or url))


def test_it_registers_shows_and_removes(acme: Place, service: Service) -> None:
    """The secret is with the service alone; what must be done besides is said."""
    ran = register(acme)

    [url] = service.hooks
    secret = url.rpartition("/")[2]
    assert ran.out == (
        "acme: changes are reported to https://onward.bakery.example/hooks/*** from "
        "now on\n"
    )
    assert "nobody listens there yet: set `listen` in [onward]" in ran.err
    assert "the pull stays the truth" in ran.err
    assert secret not in ran.out + ran.err
    [listed] = acme.good("connections", "--json").json
    assert listed["webhook"] is True
    assert listed["webhook_since"].startswith("2")
    for shown in (
        acme.good("connections"),
        acme.good("doctor"),
        acme.good("diagnose", "-o", "bundle.json"),
    ):
        assert secret not in shown.out + shown.err
    assert secret not in (acme.path / "bundle.json").read_text()

    removed = acme.good("connections", "webhook", "acme", "--remove")

    assert removed.out == ("acme: the webhook is removed; changes come with the pull\n")
    assert service.hooks == []
    [listed] = acme.good("connections", "--json").json
    assert (listed["webhook"], listed["webhook_since"]) == (False, None)
    again = acme.good("connections", "webhook", "acme", "--remove")
    assert "was not registered" in again.out


def test_json_is_one_document(acme: Place, service: Service) -> None:
    """Of what is registered by now."""
    first = register(acme, "--url", "https://a.example/x/", "--json")
    second = register(acme, "--url", "https://b.example", "--json")
    last = acme.good("connections", "webhook", "acme", "--remove", "--json")

    assert first.json["url"] == "https://a.example/x/hooks/***"
    assert first.json["removed"] == 0
    assert (second.json["webhook"], second.json["removed"]) == (True, 1)
    assert (last.json["webhook"], last.json["url"]) == (False, None)
    assert first.err + second.err + last.err == ""


def test_public_url_is_where_it_is_reached(
    acme: Place, service: Service, serving: Server
) -> None:
    """Without it and --url nothing is done but a sentence said."""
    missing = acme.run("connections", "webhook", "acme")
    configure(acme, serving, public_url="https://bakery.example/onward", listen="9464")
    ran = acme.good("connections", "webhook", "acme")

    assert missing.status == 1
    assert "set public_url in [onward] of onward.toml, or give --url" in missing.err
    assert service.hooks[0].startswith("https://bakery.example/onward/hooks/")
    assert "a worker must run: it listens on 127.0.0.1:9464" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "http://onward.bakery.example"), "must begin with https://"),
        (("--url", "bakery"), "the address must be an address"),
        (("--url", "https://x.example", "--remove"), "--remove takes no --url"),
    ],
)
def test_what_cannot_be_done_is_said(
    acme: Place, service: Service, arguments: tuple[str, ...], words: str
) -> None:
    """In one sentence, and the service hears nothing."""
    ran = acme.run("connections", "webhook", "acme", *arguments)

    assert (ran.status, ran.out) == (1, "")
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
    assert service.hooks == []


@pytest.mark.parametrize("at", ["before_watch", "after_watch", "before_unwatch"])
def test_killed_at_any_step_the_next_run_cleans_up(
    acme: Place, service: Service, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service and we know the same one address afterwards."""
    register(acme)
    url = ("--url", "https://onward.bakery.example")
    monkeypatch.setenv("ONWARD_FAILPOINT", at)
    killed = acme.start("connections", "webhook", "acme", *url, stderr=subprocess.PIPE)
    killed.communicate(timeout=60)
    monkeypatch.delenv("ONWARD_FAILPOINT")

    assert killed.returncode == -signal.SIGKILL
    assert any("left behind" in one for one in warnings(acme))
    register(acme)
    assert len(service.hooks) == 1
    assert not any("left behind" in one for one in warnings(acme))
    acme.good("connections", "webhook", "acme", "--remove")
    assert service.hooks == []


def warnings(place: Place) -> list[str]:
    """What the doctor says of webhooks."""
    return [
        one["message"]
        for one in place.good("doctor", "--json").json
        if one["name"] == "webhook acme" and one["level"] == "warning"
    ]


def test_a_service_that_is_away(acme: Place, service: Service) -> None:
    """What it repeats of the address is not shown; the next run goes on."""
    service.away = True
    ran = acme.run("connections", "webhook", "acme", "--url", "https://a.example")
    service.away = False

    assert ran.status == 1
    assert len(ran.err.splitlines()) == 1
    assert "/hooks/***" in ran.err or "/hooks/" not in ran.err
    register(acme)
    assert len(service.hooks) == 1


def test_removed_connections_and_other_accounts_leave_one_behind(
    acme: Place, service: Service, serving: Server
) -> None:
    """Only in the service's own settings, where it is to be removed: that is said."""
    register(acme)
    service.account = "2"
    ran = acme.good("connections", "accept", "acme")

    assert "still reports to an address that answers nobody any more" in ran.err
    [listed] = acme.good("connections", "--json").json
    assert listed["webhook"] is False
    assert "answers nobody" not in acme.good("connections", "accept", "acme").err


def test_the_doctor_knows_whether_anybody_is_there(
    acme: Place, service: Service, serving: Server
) -> None:
    """Without `listen`, or with another public_url, it warns."""
    register(acme)
    alone = warnings(acme)
    place = "https://onward.bakery.example"
    configure(acme, serving, listen="9464", public_url="https://other.example")
    moved = warnings(acme)
    configure(acme, serving, listen="9464", public_url=place)

    assert ["`listen` is not set" in alone[0], "public_url is not set" in alone[1]] == [
        True,
        True,
    ]
    assert len(moved) == 1
    assert "public_url is https://other.example" in moved[0]
    assert warnings(acme) == []
    assert f"webhook acme: {place}/hooks/***, no report came since 2" in (
        acme.good("doctor").out
    )


def test_a_worker_takes_reports(
    acme: Place,
    service: Service,
    serving: Server,
    stop: list[subprocess.Popen[str]],
) -> None:
    """Registered while it runs, an address answers at once; nothing shows it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configure(acme, serving, listen=str(port), public_url=f"http://127.0.0.1:{port}")
    worker = acme.start("worker", "--log-level", "debug", stderr=subprocess.PIPE)
    stop.append(worker)
    line = line_with(worker, "probes, metrics and webhooks on")
    acme.good("connections", "webhook", "acme")

    [url] = service.hooks
    taken = httpx.post(url, json=[{"id": "7"}], trust_env=False)
    refused = httpx.post(url, content=b"{", trust_env=False)
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)

    assert (taken.status_code, refused.status_code) == (200, 400)
    assert url.rpartition("/")[2] not in line + said
    assert "the last report came 2" in acme.good("doctor").out
