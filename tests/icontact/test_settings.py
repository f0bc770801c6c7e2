"""What may be entered, and what is said about what may not."""

from __future__ import annotations

import httpx
import pytest
from pydantic import ValidationError

from onward_icontact import IContact

GIVEN = {
    "app_id": "AbCdEfGh",
    "username": "sam@bakery.example",
    "password": "app-secret",
    "account_id": "510001",
    "client_folder_id": "8801",
}


def settings(**changed: object) -> object:
    """Return settings with some of them changed."""
    return IContact.Settings.model_validate({**GIVEN, **changed})


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://app.icontact.com/icp/", "https://app.icontact.com/icp"),
        ("http://127.0.0.1:8080/icp", "http://127.0.0.1:8080/icp"),
        ("http://localhost/icp", "http://localhost/icp"),
        ("http://[::1]:81/icp", "http://[::1]:81/icp"),
    ],
)
def test_safe_address_is_accepted(url: str, kept: str) -> None:
    """An https address is taken, and http on this machine."""
    made = settings(api_url=url)

    assert IContact(made).base_url() == kept  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://app.icontact.com/icp", "must start with https://"),
        ("http://127.0.0.1.evil.example/icp", "must start with https://"),
        ("http://localhost.evil.example/icp", "must start with https://"),
        ("ftp://localhost/icp", "must start with https://"),
        ("file:///etc/passwd", "is no address"),
        ("app.icontact.com/icp", "is no address"),
        ("https://", "is no address"),
        ("https://a b/icp", "is no address"),
        ("https://sam:pw@app.icontact.com/icp", "must not hold a password"),
        ("https://app.icontact.com/icp?x=1", "must not hold a password"),
        ("https://app.icontact.com/icp#x", "must not hold a password"),
        ("https://app.icontact.com./icp", "must not end with a dot"),
    ],
)
def test_unsafe_address_is_refused(url: str, why: str) -> None:
    """An address over which the password would leak is refused with the reason."""
    with pytest.raises(ValidationError, match=why):
        settings(api_url=url)


def test_refused_address_is_not_quoted() -> None:
    """It may hold the password of whoever typed it."""
    with pytest.raises(ValidationError) as raised:
        settings(api_url="https://sam:S3cret pw@app.icontact.com/icp")

    assert "S3cret" not in str(raised.value.errors(include_input=False))
    assert settings(api_url="https://app.icontact.com/icp")


@pytest.mark.parametrize("name", ["app_id", "username", "password"])
@pytest.mark.parametrize("char", ["\n", "\0", "\x0b", "\u200b"])
def test_what_fits_no_header_is_refused(name: str, char: str) -> None:
    """A line break within a secret is said before it is tried, without the secret."""
    with pytest.raises(ValidationError, match="cannot be seen") as raised:
        settings(**{name: f"Sup3r{char}S3cret"})

    assert "Sup3r" not in str(raised.value.errors(include_input=False))
    assert settings(**{name: "pässword with blanks"})


def test_ids_may_be_numbers_and_have_blanks_around_them() -> None:
    """`account_id = 510001` and a pasted id with blanks both mean the id."""
    made = IContact.Settings.model_validate(
        {**GIVEN, "account_id": 510001, "client_folder_id": " 8801\t"}
    )

    ids = made.model_dump(include={"account_id", "client_folder_id"})
    assert ids == {"account_id": "510001", "client_folder_id": "8801"}


def test_empty_ids_are_allowed_so_that_they_can_be_offered() -> None:
    """Without ids the settings are complete enough to ask the account."""
    made = IContact.Settings.model_validate(
        {name: GIVEN[name] for name in ("app_id", "username", "password")}
    )

    ids = made.model_dump(include={"account_id", "client_folder_id"})
    assert ids == {"account_id": "", "client_folder_id": ""}


def test_password_never_shows() -> None:
    """Neither repr nor dump of the settings holds the password."""
    made = settings()

    assert "app-secret" not in repr(made) + str(made)


def test_help_says_which_password_and_links_the_page() -> None:
    """The help texts answer what people get wrong."""
    described = IContact.Settings.described()

    extra = described["password"].json_schema_extra
    assert isinstance(extra, dict)
    assert "Not your login password" in str(extra["help"])
    assert extra["link"] == "https://app.icontact.com/icp/core/externallogin"
    assert [field.title for field in described.values()] == [
        "Application ID",
        "Username",
        "API-specific password",
        "Account ID",
        "Client Folder ID",
        "API URL",
    ]


@pytest.mark.parametrize("password", ["a:b:c", "pässwörd", "密码", " in ner "])
def test_any_password_becomes_a_header(password: str) -> None:
    """Colons and letters of any script travel as UTF-8 in the header."""
    made = settings(password=password)
    request = httpx.Request("GET", "https://app.icontact.com/icp/a/")

    IContact(made).authenticate(request)  # type: ignore[arg-type]

    sent = dict(request.headers.raw)
    assert sent[b"API-Password"].decode("utf-8").strip() == password.strip()
    assert sent[b"API-Version"] == b"2.2"
