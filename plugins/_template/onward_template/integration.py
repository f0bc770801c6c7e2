"""Template as an Onward integration: settings, verify, segments, fields, push."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from onward import (
    Account,
    Api,
    ConnectionSettings,
    CredentialsRefused,
    Integration,
    Item,
    Limit,
    Lost,
    Outcome,
    RemoteContact,
    RemoteField,
    RemoteSegment,
    Secret,
    SegmentGone,
    ServiceError,
    day,
    minute,
    setting,
)

# What is sent unless the owner has a map of their own: remote field = contact field,
# or a Jinja2 template, or a table, as in any field map.
DEFAULT_MAP: Mapping[str, str | Mapping[str, str]] = {
    "email": "email",
    "name": "{{ first_name }} {{ last_name }}",
    "company": "company",
    "city": {"value": "city", "when_blank": "clear"},
}


class TemplateSettings(ConnectionSettings):
    """What a person enters to connect an account."""

    token: Secret = setting(
        "API token",
        help="Account → API keys → Create.",
        link="https://app.template.example/keys",
    )
    region: str = setting(
        "Region", help="The first part of your address, as `eu`.", default="eu"
    )


class Template(Integration):
    """Puts people into Template's groups, and leaves alone who opted out."""

    key = "template"
    title = "Template"
    limits = (Limit(120, per=minute), Limit(50_000, per=day))
    batch_size = 50
    default_map = DEFAULT_MAP
    Settings = TemplateSettings

    settings: TemplateSettings

    # -- where, and who we are

    def allowed_hosts(self) -> Sequence[str]:
        """Return the one host of this account's region."""
        return (f"{self.settings.region}.api.template.example",)

    def base_url(self) -> str:
        """Return what the paths below are joined to."""
        return f"https://{self.allowed_hosts()[0]}/v1"

    def authenticate(self, request: httpx.Request) -> None:
        """Add the token."""
        request.headers["Authorization"] = f"Bearer {self.settings.token.reveal()}"

    def verify(self, api: Api) -> Account:
        """Ask whose token it is."""
        try:
            me = api.get("account").json()
        except CredentialsRefused as error:
            # Say it in the words of the person who typed it, and where it lies.
            raise CredentialsRefused(
                "Template does not accept this API token.",
                "Create another one under Account → API keys.",
                "token",
            ) from error
        return Account(
            identity=f"{self.settings.region}/{me['id']}",
            rate_key=str(me["id"]),
            title=str(me["name"]),
        )

    # -- what is there

    def segments(self, api: Api) -> Iterator[RemoteSegment]:
        """Yield every group, all pages."""
        page: int | None = 1
        while page is not None:
            answer = api.get("groups", {"page": str(page)}).json()
            for group in answer["groups"]:
                yield RemoteSegment(group["id"], group["name"])
            page = answer["next"]

    def fields(self, api: Api, segment: RemoteSegment | None) -> Iterator[RemoteField]:
        """Yield what a person can have; the account's own fields included."""
        for field in api.get("fields").json():
            yield RemoteField(
                field["name"],
                field["title"],
                required=field["name"] == "email",
                max_length=field["max_length"],
            )

    # -- pushing

    def push(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Create or change people and put them into the group, in one request.

        Sends `{"group": "g1", "people": [{"email": …, "name": …}, …]}`; the
        answer names what became of each: `{"results": [{"email": …, "id": …,
        "status": "saved" | "refused" | "opted_out", "error": …}, …]}`.
        """
        group = segment.id if segment else None
        people = [dict(item.fields) for item in batch]
        try:
            answer = api.post("people", {"group": group, "people": people}).json()
        except ServiceError as error:
            if error.status == 404 and segment is not None:
                raise SegmentGone(
                    f"Template has no group {segment.name} any more"
                ) from error
            raise
        results = {row["email"]: row for row in answer["results"]}
        for item in batch:
            if item.email not in results:
                # It may have been saved: said so, it is read back, not resent.
                raise Lost(f"Template says nothing about {item.email}")
            yield _outcome(item, results[item.email])

    def read(
        self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
    ) -> Iterator[RemoteContact]:
        """Yield what Template has of these people now.

        Asked after a push whose answer got lost.
        """
        emails = ",".join(item.email for item in batch)
        for row in api.get("people", {"emails": emails}).json():
            fields: Mapping[str, str] = row["fields"]
            yield RemoteContact(
                row["id"],
                row["email"],
                fields,
                "opted_out" if row["opted_out"] else "normal",
                dict.fromkeys(row["groups"], "normal"),
            )


def _outcome(item: Item, row: Mapping[str, Any]) -> Outcome:
    match row["status"]:
        case "saved":
            return item.delivered(row["id"])
        case "opted_out":
            return item.opted_out(
                "connection",
                "unsubscribed",
                "unsubscribed in Template",
                row["id"],
            )
        case _:
            return item.rejected("refused", f"Template refuses it: {row['error']}")
