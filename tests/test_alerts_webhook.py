"""Messages to the webhook of `[alerts]`: signed, quiet about its address."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from onward.alerts.webhook import post, sign
from onward.testing import Clock, TestApp, serve

MakeApp = Callable[..., TestApp]

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
HOOK = "https://hooks.example/services/hidden-token?key=hidden-too"
TOML = '[alerts]\nwebhook = "${HOOK}"\nsecret = "${HOOK_SECRET}"\n'


def an_app(make_app: MakeApp, handle: Any = None, **more: Any) -> TestApp:
    """Return an Onward whose webhook is answered by a function."""
    env = {"HOOK": more.pop("hook", HOOK), "HOOK_SECRET": SECRET}
    transport = httpx.MockTransport(handle) if handle else None
    return make_app(more.pop("toml", TOML), transport=transport, env=env, **more)


def test_the_library_of_the_standard_takes_the_signature(make_app: MakeApp) -> None:
    """Whoever has the secret can tell our messages from forged ones, and old ones."""
    sent: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    app = an_app(make_app, keep, clock=Clock(datetime.now(UTC)))
    assert post(app.runtime, "msg_1", {"type": "alert.test", "text": "é"}) == ""

    [request] = sent
    assert (request.method, str(request.url)) == ("POST", HOOK)
    assert request.headers["webhook-id"] == "msg_1"
    headers = dict(request.headers)
    webhook = Webhook(SECRET)
    assert webhook.verify(request.content, headers)["text"] == "é"
    with pytest.raises(WebhookVerificationError):
        webhook.verify(request.content.replace(b"test", b"fake"), headers)
    with pytest.raises(WebhookVerificationError):
        webhook.verify(request.content, {**headers, "webhook-id": "msg_2"})


def test_the_example_of_the_standard_is_signed_alike() -> None:
    """The signature in the reference implementations' own tests is ours, too."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    content = b'{"test": 2432232314}'

    made = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", content)

    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_a_secret_nothing_is_signed(make_app: MakeApp) -> None:
    """A chat's webhook needs none; the other headers stand."""
    seen: list[httpx.Headers] = []

    def keep(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, text="ok")

    app = an_app(make_app, keep, toml='[alerts]\nwebhook = "${HOOK}"\n')
    assert post(app.runtime, "msg_1", {}) == ""

    assert "webhook-signature" not in seen[0]
    assert seen[0]["webhook-timestamp"] == str(int(app.clock().timestamp()))


def refuses(
    error: type[httpx.RequestError],
) -> Callable[[httpx.Request], httpx.Response]:
    """Return a receiver that never answers."""

    def handle(request: httpx.Request) -> httpx.Response:
        raise error(f"{request.url} is away", request=request)

    return handle


@pytest.mark.parametrize(
    ("handle", "why"),
    [
        (lambda _: httpx.Response(500, text="hidden-token"), "it answered 500"),
        (
            lambda _: httpx.Response(302, headers={"location": "https://b.example"}),
            "it answered 302; redirects are not followed",
        ),
        (refuses(httpx.ReadTimeout), "it did not answer within 10 s"),
        (refuses(httpx.ConnectError), "it could not be reached (ConnectError)"),
    ],
)
def test_why_it_was_not_taken(
    handle: Any, why: str, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """One clause each, without a word of the address or of the answer."""
    asked: list[str] = []

    def count(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        answer: httpx.Response = handle(request)
        return answer

    app = an_app(make_app, count)
    with caplog.at_level(logging.DEBUG):
        assert post(app.runtime, "msg_1", {"type": "alert.test"}) == why

    assert asked == ["hooks.example"]
    assert "hidden" not in caplog.text


def test_a_real_receiver_takes_it(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """Over a real connection, on this machine too; its address is in no log."""
    seen: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, text="ok" * 100_000)

    with serve(keep) as server, caplog.at_level(logging.DEBUG):
        hook = server.url.replace("//", "//sam:pass-word@") + "/hidden-path"
        app = an_app(make_app, hook=hook)
        assert post(app.runtime, "msg_1", {"text": "hello"}) == ""

    assert seen[0].url.path == "/hidden-path"
    assert (
        seen[0].headers["authorization"]
        == httpx.BasicAuth("sam", "pass-word")._auth_header
    )
    assert "hidden" not in caplog.text
    assert "pass-word" not in caplog.text
    assert post(app.runtime, "msg_1", {}) == "it could not be reached (ConnectError)"


def test_no_repr_shows_the_address_or_the_secret(make_app: MakeApp) -> None:
    """A configuration that is printed gives nothing away; people see the host."""
    app = an_app(make_app)
    config = app.config.alerts

    shown = f"{app.config!r} {config!r} {config.place}"

    assert config.place == "https://hooks.example"
    assert config.key == bytes(range(32))
    assert "hidden" not in shown
    assert SECRET.removeprefix("whsec_") not in shown
