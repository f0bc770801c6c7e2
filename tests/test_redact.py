"""Redaction: no secret passes, and what is no secret stays readable."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import sys
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward.errors import CredentialsRefused
from onward.plain import one_line
from onward.redact import RedactingFilter, Redactor

# Generating is slow on a busy machine, and the first texts build a large table.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRET = 'p:ä"s/s wörd&1'
PLAIN = Redactor()

SECRETS = st.text(min_size=4, max_size=30).filter(lambda s: bool(s.strip()))


@CALM
@given(
    secrets=st.lists(SECRETS, min_size=1, max_size=4),
    before=st.text(),
    after=st.text(),
    data=st.data(),
)
def test_no_secret_stays(
    secrets: list[str], before: str, after: str, data: st.DataObject
) -> None:
    """No secret of four or more characters is ever left in a text."""
    order = data.draw(st.permutations(secrets))
    text = before + after.join(order)

    redacted = Redactor(secrets).text(text)

    assert not [secret for secret in secrets if secret in redacted]


@CALM
@given(secret=st.text("ab*", min_size=4, max_size=6), text=st.text("ab*", max_size=40))
def test_marks_make_no_secret(secret: str, text: str) -> None:
    """A mark never completes a secret that has asterisks itself."""
    assert secret not in Redactor([secret]).text(text)


@CALM
@given(
    secret=st.text(st.characters(codec="utf-8"), min_size=4, max_size=30).filter(
        lambda s: bool(s.strip())
    ),
    user=st.text(st.characters(codec="utf-8"), max_size=12),
)
def test_encoded_secrets(secret: str, user: str) -> None:
    """A secret is found percent-encoded, escaped for JSON or HTML, and in base64."""
    redactor = Redactor([secret])
    pair = f"{user}:{secret}".encode()
    written = [
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        re.sub("%..", lambda found: found[0].lower(), quote(secret, safe="")),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        quote(quote(secret, safe=""), safe=""),
        each_odd(secret, lambda char: f"&#{ord(char)};"),
        each_odd(secret, lambda char: f"&#x{ord(char):X};"),
        each_odd(secret, as_units),
        secret.encode().hex(),
        base64.b64encode(secret.encode()).decode(),
        base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
    ]

    for form in written:
        assert redactor.text(f"<{form}>") == "<***>"
    basic = redactor.text(f"<{base64.b64encode(pair).decode()}>")
    assert basic.endswith("***>")
    assert len(basic) <= 4 + len("<***>") + len(base64.b64encode(user.encode()))


def each_odd(text: str, write: Callable[[str], str]) -> str:
    """Write every character that is no letter or digit in another way."""
    return "".join(
        char if char.isascii() and char.isalnum() else write(char) for char in text
    )


def as_units(char: str) -> str:
    """Write a character as JSON may: every unit of UTF-16 in four digits."""
    units = char.encode("utf-16-be").hex().upper()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("bad \0 value", "bad   value"),
        ("\x1b]0;pwned\x07 red", " ]0;pwned  red"),
        ("two\nlines\tof\r\ntext", "two\nlines\tof\r\ntext"),
        ("a\u202egnp.exe", "a gnp.exe"),
    ],
)
def test_control_characters_are_taken_out(given: str, left: str) -> None:
    """What a service says can be stored anywhere and steers no terminal."""
    assert Redactor().text(given) == left
    assert one_line(given) == " ".join(left.split())


def test_errors_lose_their_secrets() -> None:
    """Message, hint and what is offered are cleaned in place."""
    error = CredentialsRefused(
        "no: s3cret", "try s3cret", "id", {"id": [("s3cret", "")]}
    )

    assert Redactor(["s3cret"]).error(error) is error

    assert (error.message, error.hint) == ("no: ***", "try ***")
    assert error.choices == {"id": [("***", "")]}


def test_latin_1_credentials() -> None:
    """Basic auth in the older encoding is found as well."""
    token = base64.b64encode(f"sam:{SECRET}".encode("latin-1")).decode()

    assert Redactor([SECRET]).text(f"sent {token}") == f"sent {token[:6]}***"


def test_php_json() -> None:
    """JSON with escaped slashes hides no secret."""
    assert Redactor(["ab/cd"]).text(r'{"x":"ab\/cd"}') == '{"x":"***"}'


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('{"access_token": "abc\\"d", "n": 1}', '{"access_token": "***", "n": 1}'),
        ('{"apiKey":123,"key":"value"}', '{"apiKey":"***","key":"value"}'),
        ("{'Authorization': 'Basic abc'}", "{'Authorization': \"***\"}"),
        (r'"{\"password\":\"x\",\"a\":\"b\"}"', r'"{\"password\":"***",\"a\":\"b\"}"'),
        ('{"password": "cut of', '{"password": "***"'),
        ("client_secret=abc&grant=x", "client_secret=***&grant=x"),
        ("Authorization: Basic c2Ft\r\nHost: h", "Authorization: ***\r\nHost: h"),
        ("postgresql://sam:pw@host/db failed", "postgresql://***@host/db failed"),
        ("invalid token: it has expired", "invalid token: it has expired"),
        ("Basic authentication is required", "Basic authentication is required"),
        ('{"token": null}', '{"token": null}'),
        ("https://h/path?email=a@b.example", "https://h/path?email=a@b.example"),
    ],
)
def test_secrets_by_their_names(text: str, redacted: str) -> None:
    """Values under secret names go even when unknown; sentences stay."""
    assert PLAIN.text(text) == redacted


def test_headers() -> None:
    """Headers that carry secrets by name are blanked, the others searched."""
    headers = httpx.Headers(
        {
            "Authorization": "Basic abc",
            "API-Password": "x",
            "Api-AppId": "y",
            "X-Session-Token": "z",
            "Set-Cookie": "a=b",
            "X-Odd": "hidden",
            "X-Short": "ab",
            "Content-Type": "application/json",
            "Referer": "https://h/?q=s3cret",
        }
    )

    shown = Redactor(["s3cret", "ab"], ["X-Odd"]).headers(headers)

    assert shown == {
        "authorization": "***",
        "api-password": "***",
        "api-appid": "***",
        "x-session-token": "***",
        "set-cookie": "***",
        "x-odd": "***",
        "x-short": "***",
        "content-type": "application/json",
        "referer": "https://h/?q=***",
    }


def test_short_secrets_only_as_whole_values() -> None:
    """A secret of three characters does not blank every word that holds it."""
    redactor = Redactor(["abc", "", " "])

    assert redactor.text('abcdef {"x": "abc", "abc": "y"} abc') == (
        'abcdef {"x": "***", "abc": "y"} abc'
    )
    assert redactor.text("p=abc&q=abcd") == "p=***&q=abcd"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://sam:pw@h/x", "https://***@h/x"),
        ("https://sam@h/x", "https://***@h/x"),
        ("https://h/x?api_key=1&b=2", "https://h/x?api_key=***&b=2"),
        ("https://h/x?b=2&Token=1#f", "https://h/x?b=2&Token=***#f"),
        ("https://h/s3cret%21/x", "https://h/***/x"),
        ("https://[bad/x", "https://[bad/x"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    """Credentials, secret query values and known secrets leave a URL."""
    assert Redactor(["s3cret!"]).url(url) == shown
    assert PLAIN.url(httpx.URL("https://h/a?token=t")) == "https://h/a?token=***"


def test_body_is_cut() -> None:
    """A long body is cut by bytes and marked; a short one is left as it is."""
    assert PLAIN.body("ä" * 10) == "ä" * 10
    assert PLAIN.body("ä" * 10, 5) == "ää… [cut; it was 10 characters long]"


@CALM
@given(padding=st.integers(0, 120), limit=st.integers(20, 60))
def test_cut_leaves_no_half_secret(padding: int, limit: int) -> None:
    """However a body is cut, not even the beginning of a secret is left in it."""
    redactor = Redactor(["hush-hush-hush"])

    body = redactor.body("." * padding + "hush-hush-hush" * 40, limit)

    assert "h" not in body.partition("… [cut")[0]


def test_filter_on_a_handler() -> None:
    """Message, arguments, trace and extras of a log record carry no secret."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            self.format(record)
            records.append(record)

    handler = Keep()
    handler.addFilter(RedactingFilter(Redactor(["s3cret"])))
    log = logging.Logger("apart")
    log.addHandler(handler)
    try:
        raise ValueError("no s3cret here")  # noqa: TRY301
    except ValueError:
        log.exception("sent %s", "s3cret", extra={"url": "https://h/s3cret"})
    log.warning("%d too few", "s3cret")

    first, second = records
    assert first.getMessage() == "sent ***"
    assert first.exc_info is None
    assert "ValueError: no *** here" in (first.exc_text or "")
    assert vars(first)["url"] == "https://h/***"
    assert second.getMessage() == "%d too few ('***',)"
    assert "s3cret" not in str([vars(record) for record in records])


def test_no_secret_in_repr() -> None:
    """A redactor does not show what it hides."""
    assert SECRET not in repr(Redactor([SECRET]))


@pytest.mark.parametrize(
    "text",
    [
        'password":"' * 40_000,
        'password":"\\' * 40_000,
        "key" * 200_000,
        "?key" * 100_000,
        "://a" * 100_000,
        "a" * 500_000,
        "authorization:" * 30_000,
        "YWJj" * 100_000,
    ],
)
def test_hostile_text_costs_linear_time(text: str) -> None:
    """Half a megabyte made to slow the search down is done within seconds."""
    redactor = Redactor([SECRET, "s3cret-token-of-some-length", "abc"])
    start = time.process_time()

    redactor.url(text)

    limit_s = 30 if sys.gettrace() else 5
    assert time.process_time() - start < limit_s
