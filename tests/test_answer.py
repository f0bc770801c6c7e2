"""What an answer's status, or its absence, means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from onward import (
    AccountBlocked,
    Answer,
    CredentialsRefused,
    Lost,
    Rejected,
    ServiceError,
    Temporary,
)
from onward.answer import error_of, error_without_answer, retry_after, said

NOW = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)


def an_answer(
    status: int = 200, body: str = "{}", method: str = "POST", **headers: str
) -> Answer:
    """Return an answer as the client makes it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(method, status, httpx.Headers(named), body.encode())


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (302, Temporary, "http_302"),
        (400, Rejected, "http_400"),
        (402, AccountBlocked, "http_402"),
        (404, Rejected, "http_404"),
        (408, Temporary, "http_408"),
        (413, Rejected, "http_413"),
        (422, Rejected, "http_422"),
        (423, Temporary, "http_423"),
        (425, Temporary, "http_425"),
        (429, Temporary, "throttled"),
        (500, Temporary, "http_500"),
        (501, AccountBlocked, "http_501"),
        (502, Lost, "http_502"),
        (503, Temporary, "http_503"),
        (504, Lost, "http_504"),
        (507, AccountBlocked, "http_507"),
    ],
)
def test_status_means_what_must_happen_next(
    status: int, kind: type[ServiceError], code: str
) -> None:
    """Each status of a write becomes the error whose name says what follows."""
    got = error_of(an_answer(status), "Acme", {429}, NOW)

    assert type(got) is kind
    assert (got.code, got.status) == (code, status)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_no_service_error(status: int) -> None:
    """A refusal of the credentials asks a person to change a setting."""
    got = error_of(an_answer(status, '{"error": "no such key"}'), "Acme", {429}, NOW)

    assert isinstance(got, CredentialsRefused)
    assert got.message == f"Acme refuses the credentials ({status}): no such key"
    assert got.status == status


@pytest.mark.parametrize("status", [200, 201, 204, 207])
def test_success_is_no_error(status: int) -> None:
    """Every 2xx is returned."""
    assert error_of(an_answer(status), "Acme", {429}, NOW) is None


def test_throttled_is_what_the_service_declares() -> None:
    """A declared status means "too fast", with the wait the service asks for."""
    got = error_of(an_answer(503, retry_after="7"), "Acme", {503}, NOW)

    assert isinstance(got, Temporary)
    assert (got.throttled, got.after, got.code) == (
        True,
        timedelta(seconds=7),
        "throttled",
    )


def test_gateway_error_of_a_read_is_no_loss() -> None:
    """A GET that a gateway gave up on changed nothing, so it may be repeated."""
    got = error_of(an_answer(504, method="GET"), "Acme", set(), NOW)

    assert type(got) is Temporary


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("", None),
        ("soon", None),
        ("30", timedelta(seconds=30)),
        ("0.5", timedelta(seconds=0.5)),
        ("-5", timedelta()),
        ("1e99", None),
        ("nan", None),
        ("999999999", timedelta(days=1)),
        ("Wed, 04 Mar 2026 09:02:00 GMT", timedelta(minutes=2)),
        ("Wed, 04 Mar 2026 08:00:00 GMT", timedelta()),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(
    value: str, wait: timedelta | None
) -> None:
    """Retry-After is believed between nothing and a day, and else ignored."""
    headers = {"retry_after": value} if value else {}

    assert retry_after(an_answer(429, **headers), NOW) == wait


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", ""),
        ("<html>busy</html>", ""),
        ('{"error": "bad key"}', "bad key"),
        ('{"errors": ["one", "two"]}', "one; two"),
        ('{"errors": [{"detail": "deep"}]}', "deep"),
        ('{"errors": [], "message": "said here"}', "said here"),
        ('{"message": "two\\n  lines"}', "two lines"),
        ('["a", 1, null, {"title": "b"}]', "a; b"),
        ("3", ""),
    ],
)
def test_words_of_the_service_are_found(body: str, words: str) -> None:
    """The service's own text is taken from wherever services put it, on one line."""
    assert said(an_answer(400, body)) == words


def test_words_are_not_looked_for_without_end() -> None:
    """An error nested a thousand deep keeps its status and says nothing."""
    body = b'{"error":' + b"[" * 1_000 + b'"x"' + b"]" * 1_000 + b"}"
    answer = Answer("POST", 402, httpx.Headers(), body)

    assert isinstance(error_of(answer, "Acme", (), NOW), AccountBlocked)


def test_words_of_the_service_are_bounded() -> None:
    """A page of text does not become a page of error."""
    assert len(said(an_answer(400, f'{{"error": "{"x" * 9_000}"}}'))) == 300


def test_json_is_read_whatever_the_type_says() -> None:
    """JSON sent as text/html is JSON."""
    answer = an_answer(body='{"id": 7}', content_type="text/html")

    assert answer.json() == {"id": 7}


@pytest.mark.parametrize(("method", "kind"), [("GET", Temporary), ("POST", Lost)])
def test_no_json_is_no_success(method: str, kind: type[Temporary]) -> None:
    """A web page in place of data fails a read; of a write nobody knows."""
    with pytest.raises(Temporary) as caught:
        an_answer(body="<html>login</html>", method=method).json()

    assert type(caught.value) is kind
    assert caught.value.code == "not_json"
    assert "a web page instead of data" in caught.value.message


@pytest.mark.parametrize(
    ("error", "method", "kind", "code"),
    [
        (httpx.ConnectError("x"), "POST", Temporary, "unreachable"),
        (httpx.ConnectTimeout("x"), "POST", Temporary, "unreachable"),
        (httpx.PoolTimeout("x"), "POST", Temporary, "unreachable"),
        (httpx.ReadTimeout("x"), "POST", Lost, "timeout"),
        (httpx.WriteTimeout("x"), "POST", Lost, "timeout"),
        (httpx.ReadError("x"), "POST", Lost, "connection_lost"),
        (httpx.RemoteProtocolError("x"), "PUT", Lost, "connection_lost"),
        (httpx.ReadTimeout("x"), "GET", Temporary, "timeout"),
        (httpx.ReadError("x"), "GET", Temporary, "connection_lost"),
    ],
)
def test_no_answer(
    error: httpx.HTTPError, method: str, kind: type[Temporary], code: str
) -> None:
    """What never left may be sent again; a write that left may have arrived."""
    got = error_without_answer(error, method, "Acme")

    assert type(got) is kind
    assert isinstance(got, Temporary)
    assert got.code == code
