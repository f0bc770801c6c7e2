"""A secret address: registered with a service, replaced, forgotten."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from email.message import Message

import httpx
import pytest
from sqlalchemy import text, update

from onward import InputError, PluginError
from onward.connections.listing import list_connections
from onward.connections.remove import remove_connection
from onward.connections.secrets import known_secrets
from onward.connections.state import pause
from onward.connections.verify import IdentityChanged, verify_connection
from onward.errors import ConfigError, ServiceError
from onward.models import Connection, Webhook, table
from onward.vault import Vault
from onward.webhooks.register import check_place, register, unregister

from .conftest import PLACE, TOML, Acme, Mute, Service, World


def states(world: World) -> list[str]:
    """The states of all addresses."""
    return sorted(row["state"] for row in world.webhooks())


def test_a_new_address_replaces_the_one_before(stored: World) -> None:
    """The service knows one at a time; only a digest and a sealed secret are kept."""
    first = stored.register()
    done = register(stored.runtime, stored.state, PLACE)

    [url] = stored.service.hooks
    secret = url.removeprefix(f"{PLACE}/hooks/")
    [row] = stored.webhooks()
    assert first not in url
    assert len(secret) == 43  # 32 bytes
    assert (done.removed, done.lost) == (1, ())
    assert done.address is not None
    assert done.address.shown == f"{PLACE}/hooks/***"
    assert row["digest"] == hashlib.sha256(secret.encode()).hexdigest()
    assert (row["state"], row["place"]) == ("registered", PLACE)
    assert secret not in str(row)
    assert secret in known_secrets(stored.runtime)
    with stored.runtime.database.read() as transaction:
        [listed] = list_connections(transaction)
    assert listed.document["webhook"] is True
    assert listed.document["webhook_since"] == row["created_at"]


def test_removed_it_is_forgotten_on_both_sides(stored: World) -> None:
    """And once more does no harm."""
    stored.register()

    done = unregister(stored.runtime, stored.state)
    again = unregister(stored.runtime, stored.state)

    assert (done.address, done.removed, again.removed) == (None, 1, 0)
    assert (stored.service.hooks, stored.webhooks()) == ([], [])
    with stored.runtime.database.read() as transaction:
        [listed] = list_connections(transaction)
    assert listed.document["webhook"] is False


class Killed(BaseException):
    """The process ends here."""


def die(request: httpx.Request) -> httpx.Response | None:
    """End before the service hears of it."""
    raise Killed


def test_killed_before_the_service_heard(world: World, service: Service) -> None:
    """The older address goes on; the next run leaves one on either side."""
    path = world.register()
    service.script = [die]

    with pytest.raises(Killed):
        register(world.runtime, world.state, PLACE)

    assert [one.removeprefix(PLACE) for one in service.hooks] == [path]
    assert states(world) == ["registered", "registering"]
    world.register()
    assert len(service.hooks) == 1
    assert states(world) == ["registered"]


def test_killed_after_the_service_heard(world: World, service: Service) -> None:
    """Both addresses are known to the service; the next run leaves one."""
    world.register()

    def hear_and_die(request: httpx.Request) -> httpx.Response | None:
        service.script = []
        service.handle(request)
        raise Killed

    service.script = [hear_and_die]
    with pytest.raises(Killed):
        register(world.runtime, world.state, PLACE)

    assert len(service.hooks) == 2
    assert states(world) == ["registered", "registering"]
    world.register()
    assert len(service.hooks) == 1
    assert states(world) == ["registered"]


def test_killed_before_the_older_one_is_removed(world: World, service: Service) -> None:
    """The new one counts, the older one answers nobody, and the next run removes it."""
    path = world.register()
    service.script = [lambda request: None, die]

    with pytest.raises(Killed):
        register(world.runtime, world.state, PLACE)

    assert states(world) == ["leaving", "registered"]
    assert len(service.hooks) == 2
    assert answer(world, path) == 404
    unregister(world.runtime, world.state)
    assert (service.hooks, world.webhooks()) == ([], [])


def answer(world: World, path: str, length: str = "2") -> int:
    """How a report about nobody is answered at a path."""
    headers = Message()
    headers["Content-Length"] = length
    secret = path.removeprefix("/hooks/")
    return int(world.receiver.answer(secret, headers, lambda size: b"[]"))


def test_a_service_that_refuses_keeps_the_older_one(
    world: World, service: Service
) -> None:
    """However often it refuses, one address at most is left behind."""
    path = world.register()
    for _ in range(3):
        # It forgets what was left first, then refuses the new one.
        left = len(world.webhooks()) - 1
        service.script = [lambda request: None] * left
        service.script += [lambda request: httpx.Response(500, text="no")]
        with pytest.raises(ServiceError):
            register(world.runtime, world.state, PLACE)

    assert states(world) == ["registered", "registering"]
    assert answer(world, path) == 200
    world.register()
    assert states(world) == ["registered"]
    assert answer(world, path) == 404


def test_it_answers_nobody_before_the_service_is_told(
    world: World, service: Service
) -> None:
    """Removed while the service is away, it is closed here, and told of later."""
    path = world.register()
    service.script = [lambda request: httpx.Response(500, text="no")]

    with pytest.raises(ServiceError):
        unregister(world.runtime, world.state)

    assert answer(world, path) == 404
    assert answer(world, path, "9999999999") == 404  # not even asked for its body
    assert states(world) == ["leaving"]
    assert unregister(world.runtime, world.state).removed == 1
    assert service.hooks == []


def test_the_secret_is_in_no_error_and_no_log(
    world: World, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that repeats the address in its refusal gives nothing away."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    def repeat(request: httpx.Request) -> httpx.Response:
        seen.append(request.content.decode())
        return httpx.Response(400, text=f"bad: {request.content.decode()}")

    service.script = [repeat]
    with pytest.raises(ServiceError) as refused:
        register(world.runtime, world.state, PLACE)

    secret = seen[0].partition("/hooks/")[2].partition('"')[0]
    assert len(secret) == 43
    assert secret not in str(refused.value)
    assert secret not in repr(refused.value.__dict__)
    assert secret not in caplog.text
    world.register()


def test_two_at_once_leave_one(world: World, service: Service) -> None:
    """Who finds that another took over takes its own address back, and says so."""

    def overtake(request: httpx.Request) -> None:
        service.script = []
        register(world.runtime, world.state, PLACE)

    service.script = [overtake]
    with pytest.raises(InputError, match="somebody else registered"):
        register(world.runtime, world.state, PLACE)

    assert len(service.hooks) == 1
    assert states(world) == ["registered"]


def test_removed_while_it_is_registered(world: World, service: Service) -> None:
    """Who took the webhook away is obeyed, though the service could not be told."""

    def take_away(request: httpx.Request) -> None:
        service.script = [lambda request: httpx.Response(500, text="no")]
        with pytest.raises(ServiceError):
            unregister(world.runtime, world.state)

    service.script = [take_away]
    with pytest.raises(InputError, match="somebody else registered or removed"):
        register(world.runtime, world.state, PLACE)

    assert service.hooks == []
    assert states(world) == ["leaving"]
    world.register()
    assert states(world) == ["registered"]


def test_another_account_has_another_address(world: World, service: Service) -> None:
    """Led elsewhere, a connection forgets the address; it waits for a yes before."""
    path = world.register()
    service.account = "acme/2"
    with pytest.raises(IdentityChanged):
        verify_connection(world.runtime, world.state)
    pause(world.runtime, world.state.id, "identity_changed", "acme: it leads elsewhere")

    with pytest.raises(InputError, match="it leads elsewhere"):
        register(world.runtime, world.state, PLACE)
    before = answer(world, path)
    verify_connection(world.runtime, world.state, accept=True)

    assert (before, answer(world, path)) == (200, 404)
    assert world.webhooks() == []


def test_changed_settings_are_verified_first(world: World, service: Service) -> None:
    """Nothing is registered with an account that nobody confirmed."""
    with world.runtime.database.write() as transaction:
        transaction.execute(update(table(Connection)).values(verified_at=None))
    service.account = "acme/2"

    with pytest.raises(IdentityChanged):
        register(world.runtime, world.state, PLACE)

    assert service.hooks == []
    service.account = "acme/1"
    world.register()


def test_a_removed_connection_has_none(world: World) -> None:
    """Its address is one like any other that never was."""
    path = world.register()

    remove_connection(world.runtime, replace(world.state, declared=""))

    assert world.webhooks() == []
    assert answer(world, path) == 404


def test_a_switched_off_connection_gets_none(world: World, service: Service) -> None:
    """Nobody would read what is reported."""
    with world.runtime.database.write() as transaction:
        transaction.execute(update(table(Connection)).values(enabled=False))

    with pytest.raises(InputError, match="switched off"):
        register(world.runtime, world.state, PLACE)

    assert (service.hooks, world.webhooks()) == ([], [])


def test_an_integration_that_reports_nothing_says_so(
    make_app: Callable[..., World], service: Service
) -> None:
    """In one sentence, and nothing is asked."""
    app = make_app(TOML, fake=service, integrations=[Mute])
    world = World(app, service)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=r"Acme Mail reports no changes to Onward"):
        register(world.runtime, world.state, PLACE)

    assert service.asked == []


def test_a_lost_key_is_no_dead_end(world: World, service: Service) -> None:
    """What cannot be named to the service is said, and closed here."""
    path = world.register()
    with world.runtime.database.write() as transaction:
        sealed = Vault(["x" * 40]).encrypt("other", "webhook:x")
        transaction.execute(update(table(Webhook)).values(sealed=sealed))

    assert path.removeprefix("/hooks/") not in known_secrets(world.runtime)
    done = register(world.runtime, world.state, PLACE)

    assert (done.removed, done.lost) == (0, (PLACE,))
    assert answer(world, path) == 404
    assert states(world) == ["registered"]
    assert len(service.hooks) == 2


def test_without_a_key_nothing_is_registered(
    make_app: Callable[..., World], service: Service
) -> None:
    """The secret could not be taken back."""
    app = make_app(TOML, fake=service, integrations=[Acme])
    world = World(app, service)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match="there is no key"):
        register(world.runtime, world.state, PLACE)

    assert (service.hooks, world.webhooks()) == ([], [])


def test_a_plugin_that_fails_is_named(world: World, service: Service) -> None:
    """Whatever it raises becomes an error of ours, without the secret."""

    def fail(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="no JSON")

    class Broken(Acme):
        def watch(self, api: object, url: str) -> None:
            raise LookupError(url)

    world.runtime.plugins.integrations["acme"] = Broken
    world.runtime.opened.clear()
    with pytest.raises(PluginError, match="acme failed: LookupError") as failed:
        register(world.runtime, world.state, PLACE)

    assert f"{PLACE}/hooks/***" in str(failed.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://onward.bakery.example/", PLACE),
        ("https://bakery.example:8443/onward/", "https://bakery.example:8443/onward"),
        ("http://127.0.0.1:9464", "http://127.0.0.1:9464"),
        ("http://[::1]:9464", "http://[::1]:9464"),
        ("http://localhost:9464", "http://localhost:9464"),
    ],
)
def test_addresses_that_can_be_used(given: str, kept: str) -> None:
    """Https from anywhere, http on this machine; no slash at the end."""
    assert check_place(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "http://onward.bakery.example",
        "http://10.0.0.7:9464",
        "ftp://onward.bakery.example",
        "onward.bakery.example",
        "https://",
        "https://sam:secret@bakery.example",
        "https://bakery.example/?x=1",
        "https://bakery.example/#x",
        "",
    ],
)
def test_addresses_that_cannot(given: str) -> None:
    """In one sentence; plain http over a network shows the secret to others."""
    with pytest.raises(InputError, match="address"):
        check_place(given)


def test_the_database_holds_no_secret(stored: World) -> None:
    """Looked for in every text of every table."""
    secret = stored.register().removeprefix("/hooks/")

    with stored.runtime.database.read() as transaction:
        for one in Webhook.metadata.sorted_tables:
            # Of our own names.
            rows = transaction.execute(text(f"SELECT * FROM {one.name}"))  # noqa: S608
            assert secret not in repr(rows.all())
