"""Saving first verifies: each answer of the service, and what people are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from onward import Account, Api, CredentialsRefused, RemoteField, Temporary
from onward.connections.open import open_connection
from onward.connections.state import read_all
from onward.testing import serve
from onward.testing.app import TestApp
from onward_icontact import IContact
from onward_icontact.simulator import FOREVER, Simulator

OnwardFor = Callable[..., TestApp]

NOT_CONNECTED = (
    "The credentials entered were not able to successfully connect to iContact. "
    "Please check your entry and try again."
)
NOT_VERIFIED = (
    "Unable to verify the Account ID and Client Folder ID with iContact. "
    "Please double-check the values and try again."
)
APP_ID_HINT = "The usual cause is an Application ID that does not belong"


@dataclass
class Wrong:
    """Something wrong, how it is put right, and what is said about it.

    Args:
        settings: what is entered instead of the right values.
        breaks, repairs: what happens at the service.
    """

    message: str
    hint: str = ""
    field: str = ""
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    breaks: Callable[[Simulator], object] = lambda sim: None
    repairs: Callable[[Simulator], object] = lambda sim: sim.clear_faults()
    error: type[Exception] = CredentialsRefused


def an_integration(app: TestApp, **changed: str) -> tuple[IContact, Api]:
    """Return the integration with some settings changed, and a client for it."""
    with app.runtime.database.read() as transaction:
        [state] = read_all(transaction)
    opened = open_connection(app.runtime, state)
    settings = opened.integration.settings.model_copy(update=changed)
    opened.integration.settings = settings
    assert isinstance(opened.integration, IContact)
    return opened.integration, opened.api(app.runtime)


def answering(status: int, *errors: str, resource: str = "") -> Callable[[Any], object]:
    """Return what makes every call, or those of a resource, answer a status."""

    def arm(sim: Simulator) -> None:
        sim.fail(
            "status",
            FOREVER,
            status=status,
            resource=resource or None,
            errors=errors or None,
        )

    return arm


def failing(kind: str, resource: str = "") -> Callable[[Simulator], object]:
    """Return what arms a fault."""
    return lambda sim: sim.fail(kind, FOREVER, resource=resource or None)


def account_of(sim: Simulator) -> Any:
    """Return the main account of a simulator."""
    return sim._service.accounts[sim.account_id]


WRONG = {
    "wrong app id": Wrong(NOT_CONNECTED, APP_ID_HINT, "app_id", {"app_id": "another"}),
    "login name of somebody else": Wrong(
        NOT_CONNECTED, "not the login password", "app_id", {"username": "eve"}
    ),
    "401 on the folders": Wrong(
        NOT_CONNECTED,
        APP_ID_HINT,
        "app_id",
        breaks=answering(401, "Api username invalid", resource="clientfolders"),
    ),
    "unknown account": Wrong(
        NOT_VERIFIED,
        "These credentials can see the account 510001 (sam@bakery.example).",
        "account_id",
        {"account_id": "8801"},
    ),
    "no account id": Wrong(
        NOT_VERIFIED, "the account 510001", "account_id", {"account_id": ""}
    ),
    "unknown folder": Wrong(
        NOT_VERIFIED,
        "These credentials can see the client folder 8801 (sam@bakery.example).",
        "client_folder_id",
        {"client_folder_id": "510001"},
    ),
    "no folder id": Wrong(
        NOT_VERIFIED,
        "the client folder 8801",
        "client_folder_id",
        {"client_folder_id": ""},
    ),
    "404 on the accounts": Wrong(
        NOT_VERIFIED,
        APP_ID_HINT,
        "account_id",
        breaks=answering(404, "Not Found", resource="accounts"),
    ),
    "404 on the folders": Wrong(
        NOT_VERIFIED,
        APP_ID_HINT,
        "client_folder_id",
        breaks=answering(
            404,
            "You provided a accountId that we did not recognise.",
            resource="clientfolders",
        ),
    ),
    "501": Wrong(
        NOT_VERIFIED,
        APP_ID_HINT,
        "account_id",
        breaks=answering(501, "Resource Or Version Not Implemented"),
    ),
    "unpaid": Wrong(
        "iContact does not work for this account (402): Payment Required.",
        field="account_id",
        breaks=lambda sim: sim.set(unpaid="yes"),
        repairs=lambda sim: sim.set(unpaid="no"),
    ),
    "no permission": Wrong(
        "iContact does not allow this (403): Forbidden.",
        APP_ID_HINT,
        "client_folder_id",
        breaks=lambda sim: setattr(account_of(sim), "forbidden", True),
        repairs=lambda sim: setattr(account_of(sim), "forbidden", False),
    ),
    "account not enabled": Wrong(
        "The iContact account 510001 is not enabled; ask iContact to enable it.",
        field="account_id",
        breaks=lambda sim: setattr(account_of(sim), "is_enabled", False),
        repairs=lambda sim: setattr(account_of(sim), "is_enabled", True),
    ),
    "500": Wrong(
        "iContact could not be reached (failed (500): Internal Server Error)",
        breaks=answering(500),
        error=Temporary,
    ),
    "503 with a page": Wrong(
        "iContact could not be reached (asks to slow down (503))",
        breaks=failing("html_503"),
        error=Temporary,
    ),
    "502": Wrong(
        "iContact could not be reached (failed (502): Bad Gateway)",
        breaks=answering(502),
        error=Temporary,
    ),
    "time-out": Wrong(
        "iContact could not be reached (timed out)",
        breaks=failing("timeout_before_write"),
        error=Temporary,
    ),
    "no connection": Wrong(
        "iContact could not be reached (connection refused)",
        breaks=failing("connect_error", "clientfolders"),
        error=Temporary,
    ),
    "200 with a page": Wrong(
        "iContact could not be reached (the service answered a web page instead of "
        "data)",
        breaks=failing("html_200"),
        error=Temporary,
    ),
    "half an answer": Wrong(
        "iContact could not be reached (the service answered no JSON instead of data)",
        breaks=failing("truncated_json"),
        error=Temporary,
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_tells_what_is_wrong_and_then_works(
    wrong: Wrong, sim: Simulator, onward_for: OnwardFor
) -> None:
    """Each failure has its sentence, hint and field; put right, it verifies."""
    app = onward_for(sim)
    right = {
        name: getattr(sim, name)
        for name in ("app_id", "username", "account_id", "client_folder_id")
    }
    integration, api = an_integration(app, **wrong.settings)
    wrong.breaks(sim)

    with pytest.raises(wrong.error) as raised:
        integration.verify(api)

    error = raised.value
    assert isinstance(error, CredentialsRefused | Temporary)
    assert error.message == wrong.message
    if isinstance(error, CredentialsRefused):
        assert (wrong.hint in error.hint, error.field) == (True, wrong.field)
    assert sim.password not in str(error)

    wrong.repairs(sim)
    integration, api = an_integration(app, **right)
    assert integration.verify(api) == Account(
        "app.icontact.com/510001/8801",
        "app.icontact.com/510001",
        "sam@bakery.example · sam@bakery.example",
    )


def test_offers_accounts_and_folders_of_all_pages(onward_for: OnwardFor) -> None:
    """An agency with 24 folders is offered every one of them, and its account."""
    sim = Simulator(demo=True, max_limit=20)
    integration, api = an_integration(onward_for(sim), account_id="")
    with pytest.raises(CredentialsRefused) as no_account:
        integration.verify(api)
    integration, api = an_integration(
        onward_for(sim), account_id="400204", client_folder_id=""
    )

    with pytest.raises(CredentialsRefused) as no_folder:
        integration.verify(api)

    assert dict(no_account.value.choices["account_id"]) == {
        "400204": "sam@bakery.example",
        "510001": "sam@bakery.example",
    }
    offered = dict(no_folder.value.choices["client_folder_id"])
    assert list(offered) == [str(7300 + number) for number in range(24)]
    assert offered["7300"] == "Bakery 1"
    assert no_folder.value.hint.endswith("and 14 more.")


def test_account_and_folder_may_have_the_same_id(onward_for: OnwardFor) -> None:
    """An account and its folder that look the same verify."""
    sim = Simulator()
    sim.add_account("777", ["777"])
    integration, api = an_integration(
        onward_for(sim), account_id="777", client_folder_id="777"
    )

    account = integration.verify(api)

    assert account.identity == "app.icontact.com/777/777"


def test_disabled_folder_of_an_agency_is_refused(onward_for: OnwardFor) -> None:
    """A client folder that is switched off has its own sentence, until it is on."""
    sim = Simulator(demo=True)
    integration, api = an_integration(
        onward_for(sim), account_id="400204", client_folder_id="7323"
    )
    sim.folder("400204", "7323").is_enabled = False

    with pytest.raises(CredentialsRefused) as raised:
        integration.verify(api)

    assert raised.value.message == (
        "The iContact client folder 7323 is not enabled; ask iContact to enable it."
    )
    assert raised.value.field == "client_folder_id"
    sim.folder("400204", "7323").is_enabled = True
    assert integration.verify(api).title == "sam@bakery.example · Florist 4"


def test_untrusted_certificate_is_not_reached(
    sim: Simulator, onward_for: OnwardFor
) -> None:
    """A TLS failure says so."""

    def untrusted(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[SSL] self-signed certificate", request=request)

    app = onward_for(sim, transport=httpx.MockTransport(untrusted))
    integration, api = an_integration(app)

    with pytest.raises(Temporary) as raised:
        integration.verify(api)

    assert raised.value.message == (
        "iContact could not be reached ([SSL] self-signed certificate)"
    )
    integration, api = an_integration(onward_for(sim))
    assert integration.verify(api).rate_key == "app.icontact.com/510001"


def test_page_of_another_site_is_not_reached(
    sim: Simulator, onward_for: OnwardFor
) -> None:
    """A 404 page of HTML says that this is not iContact, not that the id is wrong."""
    integration, api = an_integration(
        onward_for(sim), api_url="https://app.icontact.com"
    )

    with pytest.raises(Temporary) as raised:
        integration.verify(api)

    assert raised.value.message == (
        "iContact could not be reached (the service answered a web page instead of "
        "data)"
    )
    integration, api = an_integration(
        onward_for(sim), api_url="https://app.icontact.com/icp"
    )
    assert integration.verify(api).identity == "app.icontact.com/510001/8801"


def test_verifies_over_real_http(sim: Simulator, onward_for: OnwardFor) -> None:
    """Over a socket on this machine, with a password of colons and umlauts."""
    sim.password = "päss:wörd"
    with serve(sim.handle) as server:
        app = onward_for(sim)
        app.runtime.transport = None
        integration, api = an_integration(app, api_url=f"{server.url}/icp")

        account = integration.verify(api)

    assert account.identity == f"127.0.0.1:{server.port}/510001/8801"


@pytest.mark.parametrize("cap", [500, 20])
def test_lists_and_fields_beyond_the_first_page(
    cap: int, onward_for: OnwardFor
) -> None:
    """All 45 lists and all 30 custom fields are there, whatever a page holds."""
    sim = Simulator(demo=True, max_limit=cap)
    integration, api = an_integration(onward_for(sim))

    lists = {segment.id: segment.name for segment in integration.segments(api)}
    fields = {one.name: one for one in integration.fields(api, None)}

    assert lists == {one.list_id: one.name for one in sim.folder().lists.values()}
    assert len(fields) == 13 + 30
    assert fields["birthday"] == RemoteField("birthday", "Birthday", "date")
    assert fields["acceptsphone"].type == "boolean"
    assert fields["orders"].type == "number"
    assert fields["state"].max_length == 10


def test_custom_field_called_like_a_standard_one_is_left_out(
    sim: Simulator, onward_for: OnwardFor
) -> None:
    """Neither `Phone` nor `status` of the account shadows what it is not."""
    for name in ("Phone", "status", "contactId", "colour", "Colour"):
        sim.folder().add_custom_field(name)
    integration, api = an_integration(onward_for(sim))

    names = [one.name for one in integration.fields(api, None)]

    assert names[13:] == [
        "colour",
        "loyaltytier",
        "acceptsphone",
        "birthday",
    ]
