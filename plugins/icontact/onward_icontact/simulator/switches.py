"""The open questions about iContact, each as a switch with its known answers.

The first value of a switch is its default: what the sources make most likely.

Source:
    icontact-api.md 20 (where sources disagree), 21 (checklist), 23 (open questions).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, TypeVar, get_args, get_type_hints

_T = TypeVar("_T")


def _switch(default: _T, what: str) -> _T:
    return field(default=default, metadata={"what": what})


@dataclass
class Switches:
    """The simulator's behaviour where the real service's is not known."""

    # --- reading ---
    commas: Literal["honoured", "literal", "first", "ignored"] = _switch(
        "honoured",
        "What `email=a,b` means: any of them, one value with a comma, only the "
        "first, or a term that is dropped with the warning (so everybody).",
    )
    population: Literal["listed", "all"] = _switch(
        "listed", "Whom `GET contacts` returns when the query has no `status`."
    )
    listed_means: Literal["subscribed", "any"] = _switch(
        "subscribed",
        "Whether an unsubscribed row still counts as being on a list.",
    )
    total_includes_deleted: Literal["no", "yes"] = _switch(
        "no", "Whether `status=total` returns deleted contacts."
    )
    search_deleted: Literal["no", "yes"] = _switch(
        "no", "Whether `status=deleted` finds the deleted contacts."
    )
    stale_total: Literal["no", "yes"] = _switch(
        "no", "Whether `total` still counts deleted contacts that are not returned."
    )
    total: Literal["right", "page", "low", "high", "absent"] = _switch(
        "right",
        "What `total` says: how many there are, how many rows this page has, too few, "
        "too many, or nothing.",
    )
    orderby: Literal["honoured", "ignored", "warning"] = _switch(
        "honoured",
        "Whether rows come in the order asked for, silently in another one, or in "
        "another one with a warning.",
    )
    duplicate_rows: int = _switch(0, "So many rows of every page come twice.")
    actions_cap: int = _switch(
        50, "The most actions a page of a contact's history can have."
    )
    search_rows: Literal["short", "full"] = _switch(
        "short", "Whether contact rows carry `business` and the custom fields."
    )
    unknown_terms: Literal["warning", "no_rows"] = _switch(
        "warning",
        "Whether an unknown search term is dropped with a warning, or finds nobody "
        "without one.",
    )
    limit_above_max: Literal["capped", "error400"] = _switch(
        "capped", "The answer to a `limit` above `max_limit`."
    )
    member_blank: Literal["empty", "null"] = _switch(
        "empty", "How a member GET of a contact writes a field that is not set."
    )
    max_limit: int = _switch(500, "The most rows a page can have.")
    time_zone_of_queries: Literal["eastern", "utc"] = _switch(
        "eastern", "How a time without offset in a query is read."
    )
    # --- the wire ---
    content_type: Literal["json", "html"] = _switch(
        "json", "The content type of answers; the body is JSON either way."
    )
    id_type: Literal["string", "int"] = _switch(
        "string", "Whether ids are JSON strings or numbers."
    )
    post_answer: Literal["records", "locations"] = _switch(
        "records",
        "What a collection POST of lists, subscriptions, custom fields or segments "
        "answers: full records, or their addresses (an invented shape).",
    )
    echo_order: Literal["input", "reversed"] = _switch(
        "input", "The order of the records in the answer to a collection POST."
    )
    extra_warning: Literal["no", "yes"] = _switch(
        "no", "Whether a successful write also carries an informational warning."
    )
    # --- writing contacts ---
    collection_post: Literal["overwrite", "merge"] = _switch(
        "overwrite",
        "Whether a collection POST blanks what it leaves out of a known contact.",
    )
    omitted_status: Literal["kept", "reset"] = _switch(
        "kept",
        "Whether a collection POST without `status` leaves it, or makes even an "
        "opted-out contact normal.",
    )
    locked_status: Literal["silent", "warning", "error400"] = _switch(
        "silent",
        "The answer to a new status for a contact that is donotcontact, pending or "
        "invitable; it is never changed.",
    )
    unwritable_status: Literal["error400", "warning", "silent"] = _switch(
        "error400", "The answer to a status other than normal and donotcontact."
    )
    invalid_email: Literal["warning", "error400"] = _switch(
        "warning", "The answer to an address that is not one; never stored."
    )
    email_clash: Literal["error400", "warning", "silent_ignore"] = _switch(
        "error400", "The answer to an address that belongs to another contact."
    )
    state_too_long: Literal["error400", "truncate", "warning"] = _switch(
        "error400", "What happens to a `state` of more than 10 characters."
    )
    max_length: int = _switch(
        0, "Longer text is cut silently to this many characters; 0 is no limit."
    )
    custom_values: Literal["any", "checked"] = _switch(
        "any",
        "Whether a value that does not fit its custom field's type is dropped with a "
        "warning.",
    )
    refused_batch: Literal["nothing", "earlier_items"] = _switch(
        "nothing",
        "What of a batch is stored when one item makes the whole call a 400.",
    )
    batch_atomic: Literal["no", "yes"] = _switch(
        "no", "Whether one rejected contact keeps the whole batch from being stored."
    )
    missing_contact: Literal["404", "500"] = _switch(
        "404", "The status of a contact that never existed."
    )
    deleted_member_post: Literal["revives", "error404", "stays_deleted"] = _switch(
        "revives", "What a member POST or PUT does to a deleted contact."
    )
    revive_create_date: Literal["new", "kept"] = _switch(
        "new", "The `createDate` of a deleted contact that is posted again."
    )
    # --- subscriptions, lists, custom fields ---
    subscriptions_by_contact: Literal["honoured", "warning", "dropped", "no_rows"] = (
        _switch(
            "honoured",
            "Whether subscriptions can be searched by `contactId`; else the term is "
            "dropped, with a warning or without, or nobody is found.",
        )
    )
    subscriptions_filter: Literal["honoured", "no_status", "no_list"] = _switch(
        "honoured",
        "Which term of a search for subscriptions is silently dropped, if any.",
    )
    duplicate_subscription: Literal[
        "notices", "empty", "record", "warning", "error400"
    ] = _switch("notices", "The answer to a subscription that is there already.")
    opt_out_subscribe: Literal[
        "warning", "empty", "error400", "echo_unchanged", "resubscribes"
    ] = _switch(
        "warning",
        "The answer to subscribing somebody who opted out or bounced; only "
        "`resubscribes` changes anything.",
    )
    deleted_list_subscribe: Literal["error500", "warning", "error404"] = _switch(
        "error500", "The answer to a subscription to a list that is not there."
    )
    custom_field_case: Literal["lower", "keep"] = _switch(
        "lower", "Whether the names of new custom fields are lower-cased."
    )
    # --- limits and money ---
    batch_cap: int = _switch(0, "More items than this in a POST is 413; 0 is no cap.")
    subscriber_limit: int = _switch(
        0, "More contacts than this in a folder is 402; 0 is no limit."
    )
    unpaid: Literal["no", "yes"] = _switch("no", "Whether every call is 402.")
    rate_per_minute: int = _switch(0, "Calls in 60 seconds before 503; 0 is no limit.")
    rate_per_day: int = _switch(0, "Calls in 24 hours before 503; 0 is no limit.")
    throttle_body: Literal["json", "html"] = _switch(
        "json", "The body of a 503 that comes from the rate limit."
    )
    # --- webhooks ---
    webhook_own_changes: Literal["yes", "no"] = _switch(
        "yes", "Whether changes made through the API raise webhooks."
    )

    def set(self, name: str, value: object) -> None:
        """Turn one switch; text is accepted for numbers, booleans for no and yes.

        Raises:
            ValueError: no such switch, or no such value; names the known ones.
        """
        switch = SWITCHES.get(name)
        if switch is None:
            known = ", ".join(SWITCHES)
            raise ValueError(f"no switch is called {name!r}; known: {known}")
        setattr(self, name, switch.parse(value))


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch as a listing shows it.

    Attributes:
        values: the known values, or `int` for a number of 0 or more.
    """

    name: str
    values: tuple[str, ...] | type[int]
    default: str | int
    what: str

    def parse(self, value: object) -> str | int:
        """Return the value as the switch holds it.

        Raises:
            ValueError: it is not one of the known values.
        """
        if isinstance(self.values, tuple):
            text = (
                {True: "yes", False: "no"}.get(value)
                if isinstance(value, bool)
                else None
            )
            text = str(value) if text is None else text
            if text not in self.values:
                known = ", ".join(self.values)
                raise ValueError(f"{self.name} cannot be {text!r}; known: {known}")
            return text
        if not str(value).isascii() or not str(value).isdigit():
            raise ValueError(f"{self.name} needs a number, not {value!r}")
        return int(str(value))


def _listing() -> dict[str, Switch]:
    hints = get_type_hints(Switches)
    return {
        one.name: Switch(
            name=one.name,
            values=int if hints[one.name] is int else get_args(hints[one.name]),
            default=getattr(Switches, one.name),
            what=one.metadata["what"],
        )
        for one in fields(Switches)
    }


SWITCHES = _listing()
