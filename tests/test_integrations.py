"""The base class and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from onward import (
    Api,
    ConnectionSettings,
    Integration,
    Item,
    Outcome,
    RemoteContact,
    RemoteSegment,
    Secret,
    setting,
)
from onward.integrations import can, read_back


class AcmeSettings(ConnectionSettings):
    """Settings with a secret, a choice of one's own and help texts."""

    token: Secret = setting(
        "API token", help="Account → Keys", link="https://a.example"
    )
    region: str = setting("Region", default="eu")


class Acme(Integration):
    """Declares hosts; can read."""

    key, title, hosts = "acme", "Acme", ("api.acme.example", "eu.acme.example")
    Settings = AcmeSettings

    def read(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[RemoteContact]:
        """Yield one contact per item."""
        for item in batch:
            yield RemoteContact(f"r-{item.email}", item.email)


class Deaf(Integration):
    """Cannot read."""

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Deliver everything."""
        for item in batch:
            yield item.delivered("r")


def test_secret_shows_itself_to_reveal_only() -> None:
    """Neither repr, str, format nor JSON of settings shows a secret; reveal does."""
    settings = AcmeSettings.model_validate({"token": " tok-123 "})

    shown = [
        repr(settings),
        str(settings.token),
        f"{settings.token}",
        settings.model_dump_json(),
    ]

    assert [text for text in shown if "tok-123" in text] == []
    assert settings.token.reveal() == "tok-123"


def test_settings_describe_themselves() -> None:
    """Title, help, link and which are secret can be read, in the order written."""
    described = AcmeSettings.described()

    assert {n: (f.title, f.json_schema_extra) for n, f in described.items()} == {
        "token": (
            "API token",
            {"help": "Account → Keys", "link": "https://a.example"},
        ),
        "region": ("Region", {"help": "", "link": ""}),
    }
    assert list(described) == ["token", "region"]
    assert AcmeSettings.secret_names() == {"token"}


@pytest.mark.parametrize(
    ("given", "field"),
    [({"region": "eu"}, "token"), ({"token": "t", "regoin": "eu"}, "regoin")],
)
def test_missing_and_unknown_settings_are_refused(
    given: dict[str, Any], field: str
) -> None:
    """A setting that is missing or not known is named; the rest is taken."""
    with pytest.raises(ValidationError) as caught:
        AcmeSettings.model_validate(given)

    assert [error["loc"] for error in caught.value.errors()] == [(field,)]
    assert AcmeSettings.model_validate({"token": "t"}).region == "eu"


def test_error_about_a_setting_hides_what_was_typed() -> None:
    """A refused value is not repeated: it may be the password in the wrong box."""
    with pytest.raises(ValidationError) as caught:
        AcmeSettings.model_validate({"token": "t", "region": ["hunter2"]})

    assert "hunter2" not in str(caught.value)


def test_base_address_is_the_first_host() -> None:
    """Without more, requests go to the first declared host, over https."""
    acme = Acme(AcmeSettings.model_validate({"token": "t"}))

    assert acme.base_url() == "https://api.acme.example/"
    assert acme.allowed_hosts() == ("api.acme.example", "eu.acme.example")


def test_authenticate_adds_nothing_unless_written() -> None:
    """An integration without `authenticate` sends requests as they are."""
    request = httpx.Request("GET", "https://api.acme.example/")
    before = dict(request.headers)

    Acme(AcmeSettings.model_validate({"token": "t"})).authenticate(request)

    assert dict(request.headers) == before


def test_capabilities_are_which_methods_exist() -> None:
    """`can` tells by the methods, of a class or an instance."""
    acme = Acme(AcmeSettings.model_validate({"token": "t"}))

    assert [can(Acme, "read"), can(acme, "read"), can(Deaf, "read")] == [
        True,
        True,
        False,
    ]
    assert [can(Acme, "pull"), can(Acme, "poll")] == [False, False]


def test_read_back_of_who_cannot_read_finds_nobody(
    an_api: Api,
) -> None:
    """`read_back` asks `read`, and an integration without it knows nobody."""
    item = Item(1, "ana@shop.example", {}, {})
    acme = Acme(AcmeSettings.model_validate({"token": "t"}))
    deaf = Deaf(ConnectionSettings())

    assert list(read_back(acme, an_api, [item], None)) == [
        RemoteContact("r-ana@shop.example", "ana@shop.example")
    ]
    assert list(read_back(deaf, an_api, [item], None)) == []


def test_what_is_not_written_says_so(an_api: Api) -> None:
    """The three methods every integration needs fail when called unwritten."""
    bare = Integration(ConnectionSettings())

    with pytest.raises(NotImplementedError):
        bare.verify(an_api)
    with pytest.raises(NotImplementedError):
        list(bare.fields(an_api, None))
    with pytest.raises(NotImplementedError):
        list(bare.push(an_api, [], None))
    assert list(bare.segments(an_api)) == []


@pytest.fixture
def an_api() -> Api:
    """A client that nothing is sent with."""
    nothing: Any = None
    return Api(nothing, nothing, nothing)
