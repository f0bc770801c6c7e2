"""iContact as an Onward integration: settings, verify, and what it can do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import httpx
from pydantic import field_validator

from onward import (
    Account,
    AccountBlocked,
    Api,
    ConnectionSettings,
    CredentialsRefused,
    FieldType,
    Integration,
    Item,
    Limit,
    Outcome,
    Page,
    Rejected,
    RemoteChange,
    RemoteContact,
    RemoteField,
    RemoteKey,
    RemoteSegment,
    Secret,
    Temporary,
    day,
    is_loopback,
    minute,
    setting,
)
from onward_icontact.client import Client
from onward_icontact.fetching import fetch
from onward_icontact.history import history
from onward_icontact.hooks import receive, unwatch, watch
from onward_icontact.leaving import erase, unsubscribe
from onward_icontact.pulling import pull
from onward_icontact.push import push_batch
from onward_icontact.reading import read_contacts
from onward_icontact.rows import NOT_FIELDS, Row, same, text_of

EXTERNAL_LOGIN = "https://app.icontact.com/icp/core/externallogin"
NOT_CONNECTED = (
    "The credentials entered were not able to successfully connect to iContact. "
    "Please check your entry and try again."
)
NOT_VERIFIED = (
    "Unable to verify the Account ID and Client Folder ID with iContact. "
    "Please double-check the values and try again."
)
USUAL_CAUSE = (
    "The usual cause is an Application ID that does not belong to this account; and "
    "the API-specific password is the one made on iContact's External Login page "
    f"({EXTERNAL_LOGIN}), not the login password."
)
STANDARD = (
    RemoteField("email", "E-mail", required=True),
    RemoteField("prefix", "Prefix"),
    RemoteField("firstName", "First name"),
    RemoteField("lastName", "Last name"),
    RemoteField("suffix", "Suffix"),
    RemoteField("street", "Street"),
    RemoteField("street2", "Street, second line"),
    RemoteField("city", "City"),
    RemoteField("state", "State", max_length=10),
    RemoteField("postalCode", "Postal code"),
    RemoteField("phone", "Phone"),
    RemoteField("fax", "Fax"),
    RemoteField("business", "Business"),
)
NAMES = ("companyName", "name", "email", "emailRecipient")
TYPES: dict[str, FieldType] = {
    "checkbox": "boolean",
    "date": "date",
    "number": "number",
}


class IContactSettings(ConnectionSettings):
    """What iContact needs to know who we are."""

    app_id: str = setting(
        "Application ID",
        help="From your provider if it mailed you one, even if iContact shows "
        "another; else Settings and Billing → iContact Integrations → Custom API "
        "Integrations → Create.",
    )
    username: str = setting("Username", help="The e-mail you log in to iContact with.")
    password: Secret = setting(
        "API-specific password",
        help="One that you make up for this application on iContact's External "
        "Login page. Not your login password.",
        link=EXTERNAL_LOGIN,
    )
    account_id: str = setting(
        "Account ID",
        help="Copy it exactly from the page that shows the Application ID; it may "
        "look the same as the Client Folder ID. Leave it empty to be offered the "
        "accounts these credentials can see.",
        default="",
    )
    client_folder_id: str = setting(
        "Client Folder ID",
        help="Copy it exactly; it may look the same as the Account ID. Leave it "
        "empty to be offered the folders of the account.",
        default="",
    )
    api_url: str = setting(
        "API URL",
        help="Only for another installation of iContact, or the simulator.",
        default="https://app.icontact.com/icp",
    )

    @field_validator("app_id", "username", "password")
    @classmethod
    def _must_fit_a_header(cls, value: str | Secret) -> str | Secret:
        text = value.reveal() if isinstance(value, Secret) else value
        if not text.isprintable():
            raise ValueError(
                "it holds a line break or another character that cannot be seen; "
                "copy it again, without what stands around it"
            )
        return value

    @field_validator("account_id", "client_folder_id", mode="before")
    @classmethod
    def _may_be_a_number(cls, value: object) -> object:
        return str(value) if type(value) is int else value

    @field_validator("api_url")
    @classmethod
    def _must_be_safe(cls, value: str) -> str:
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL:
            url = httpx.URL()
        if not url.host or any(char.isspace() for char in value):
            raise ValueError("it is no address; it starts with https://")
        if url.host.endswith("."):
            raise ValueError("the host must not end with a dot")
        if url.scheme != "https" and not (
            url.scheme == "http" and is_loopback(url.host)
        ):
            raise ValueError(
                "the password would travel readable; the address must start with "
                "https:// (http:// only to this machine)"
            )
        if url.userinfo or url.query or url.fragment:
            raise ValueError("the address must not hold a password, ? or #")
        return value.rstrip("/")


class IContact(Integration):
    """Puts contacts on iContact lists, and leaves alone who opted out."""

    key = "icontact"
    title = "iContact"
    # iContact publishes no figures; these are the lowest ever reported.
    limits = (Limit(60, per=minute), Limit(6_000, per=day))
    batch_size = 100
    in_flight = 2
    calls_per_batch = 4
    throttled: ClassVar[frozenset[int] | set[int]] = frozenset({503, 429})
    repeatable = False
    simulator = "onward_icontact.simulator:Simulator"
    demo = "onward_icontact.demo:run"
    Settings = IContactSettings

    settings: IContactSettings

    def allowed_hosts(self) -> Sequence[str]:
        """Return the one host of the API URL."""
        return (self._place(),)

    def base_url(self) -> str:
        """Return the API URL."""
        return self.settings.api_url

    def _place(self) -> str:
        url = httpx.URL(self.settings.api_url)
        return f"{url.host}:{url.port}" if url.port else url.host

    def authenticate(self, request: httpx.Request) -> None:
        """Add iContact's four headers; it knows neither OAuth nor sessions."""
        settings = self.settings
        for name, text in (
            ("Accept", "application/json"),
            ("Content-Type", "application/json"),
            ("API-Version", "2.2"),
            ("API-AppId", settings.app_id),
            ("API-Username", settings.username),
            ("API-Password", settings.password.reveal()),
        ):
            request.headers[name] = text  # one by one: this way as UTF-8

    def _client(self, api: Api) -> Client:
        return Client(api, self.settings.account_id, self.settings.client_folder_id)

    # -- who are we

    def verify(self, api: Api) -> Account:
        """Find the account and the folder among those the credentials can see.

        Reads every page: an agency has more than 20 folders.
        """
        client, settings = self._client(api), self.settings
        try:
            accounts = _rows(client.accounts(), "account_id")
            account = _pick(accounts, "account", "accountId", settings.account_id)
            folders = _rows(client.folders(), "client_folder_id")
            folder = _pick(
                folders, "client folder", "clientFolderId", settings.client_folder_id
            )
        except Temporary as error:
            raise Temporary(
                f"iContact could not be reached ({_cause(error)})",
                error.after,
                status=error.status,
                code=error.code,
                throttled=error.throttled,
            ) from error
        place = f"{self._place()}/{settings.account_id}"
        return Account(
            identity=f"{place}/{settings.client_folder_id}",
            rate_key=place,
            title=f"{account} · {folder}",
        )

    # -- what is there

    def segments(self, api: Api) -> Iterator[RemoteSegment]:
        """Yield every list of the folder."""
        for row in self._client(api).lists():
            yield RemoteSegment(text_of(row.get("listId")), text_of(row.get("name")))

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Yield the standard fields and every custom field of the folder."""
        yield from STANDARD
        # A custom field of the same name, in any case, would be another's value.
        taken = {name.lower() for name in NOT_FIELDS} | {
            field.name.lower() for field in STANDARD
        }
        for row in self._client(api).custom_fields():
            name = text_of(row.get("customFieldId")) or text_of(row.get("privateName"))
            if name and name.lower() not in taken:
                taken.add(name.lower())
                title = text_of(row.get("publicName")) or name
                kind = TYPES.get(text_of(row.get("fieldType")).lower(), "text")
                yield RemoteField(name, title, kind)

    # -- pushing

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Create, change and subscribe; see `onward_icontact.push`."""
        yield from push_batch(self._client(api), batch, segment)

    def read(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[RemoteContact]:
        """Yield what iContact has of these people now, all fields and membership."""
        yield from read_contacts(self._client(api), batch, segment)

    # -- the other direction

    def same(self, field: str, one: str, other: str) -> bool:
        """Tell whether two texts of a field mean the same to iContact."""
        return same(one, other)

    def pull(
        self, api: Api, cursor: object, segments: Sequence[RemoteSegment]
    ) -> Iterator[Page]:
        """Yield everybody, every opt-out, and the members of some lists."""
        yield from pull(self._client(api), cursor, segments)

    def fetch(self, api: Api, keys: Sequence[RemoteKey]) -> Iterator[RemoteContact]:
        """Yield some contacts with all their fields."""
        yield from fetch(self._client(api), keys)

    def history(self, api: Api, key: RemoteKey) -> Iterator[RemoteChange]:
        """Yield who changed a contact, and when, newest first."""
        yield from history(self._client(api), key)

    # -- leaving

    def unsubscribe(self, api: Api, keys: Sequence[RemoteKey]) -> Iterator[str]:
        """Take people off some lists, or all they are on; yield who is off them."""
        yield from unsubscribe(self._client(api), keys)

    def erase(self, api: Api, keys: Sequence[RemoteKey]) -> Iterator[str]:
        """Take people off their lists and delete them; yield who is gone."""
        yield from erase(self._client(api), keys)

    # -- reports of changes

    def watch(self, api: Api, url: str) -> None:
        """Let iContact report changes to an address."""
        watch(self._client(api), url)

    def unwatch(self, api: Api, url: str) -> None:
        """Let it no longer."""
        unwatch(self._client(api), url)

    def receive(self, body: bytes) -> Sequence[RemoteKey]:
        """Return whom a report is about; raise ValueError when it is none."""
        return receive(body)


def _rows(rows: Iterable[Row], setting: str) -> list[Row]:
    """Read all rows; a refusal becomes what the person who typed is told."""
    try:
        return list(rows)
    except (CredentialsRefused, AccountBlocked, Rejected) as error:
        if error.status == 401:
            raise CredentialsRefused(NOT_CONNECTED, USUAL_CAUSE, "app_id") from error
        if error.status in (402, 403, 507):
            hint = USUAL_CAUSE if error.status == 403 else ""
            raise CredentialsRefused(f"{error.message}.", hint, setting) from error
        raise CredentialsRefused(NOT_VERIFIED, USUAL_CAUSE, setting) from error


def _pick(rows: Iterable[Row], what: str, key: str, wanted: str) -> str:
    """Return what the wished account or folder is called.

    Raises:
        CredentialsRefused: it is not among the rows, or not enabled.
    """
    setting = f"{what.replace(' ', '_')}_id"
    offered: dict[str, str] = {}
    for row in rows:
        id_ = text_of(row.get(key))
        names = [text_of(row.get(name)) for name in NAMES]
        offered[id_] = next(filter(None, names), "")
        if id_ == wanted and text_of(row.get("enabled", "1")) not in ("1", "1.0"):
            raise CredentialsRefused(
                f"The iContact {what} {wanted} is not enabled; ask iContact to enable "
                "it.",
                field=setting,
            )
    if wanted and wanted in offered:
        return offered[wanted] or f"{what} {wanted}"
    if not offered:
        hint = f"These credentials can see no {what}. {USUAL_CAUSE}"
        raise CredentialsRefused(NOT_VERIFIED, hint, setting)
    listed = [f"{id_} ({name})" if name else id_ for id_, name in offered.items()]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    hint = f"These credentials can see the {what} {', '.join(listed[:10])}{more}."
    raise CredentialsRefused(
        NOT_VERIFIED, hint, setting, {setting: list(offered.items())}
    )


def _cause(error: Temporary) -> str:
    # What could not be written may be a header, and its text its value.
    if isinstance(error.__cause__, httpx.HTTPError) and not isinstance(
        error.__cause__, httpx.LocalProtocolError
    ):
        return str(error.__cause__) or type(error.__cause__).__name__
    return error.message.removeprefix("iContact ")
