"""The values that cross the line between the core and an integration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

second = timedelta(seconds=1)
minute = timedelta(minutes=1)
hour = timedelta(hours=1)
day = timedelta(days=1)

FieldType = Literal["text", "date", "boolean", "number", "choice", "multi"]
Scope = Literal["address", "segment", "connection"]
Membership = Literal["normal", "pending", "unsubscribed", "none"]


@dataclass(frozen=True, slots=True)
class Limit:
    """So many calls in so long a time.

    Args:
        calls: number of requests.
        per: length of the window.
        path: only requests whose path matches this glob; "" = all of them.
    """

    calls: int
    per: timedelta
    path: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Who answered when settings were verified.

    Args:
        identity: what makes this the same place: host, account, folder. Two
            connections of one integration must not share it.
        rate_key: what the service counts calls by.
        title: shown to people.
    """

    identity: str
    rate_key: str
    title: str


@dataclass(frozen=True, slots=True)
class RemoteSegment:
    """A place in the service where pushed contacts go (a list, a group, a tag)."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class RemoteField:
    """One field of a contact in the service.

    Args:
        name: the key it is sent under; one that ends in `*` stands for every name
            that begins so, where a service takes any (`RemoteField("*")`).
        title: what people call it.
        type: decides the converter its values go through.
        required: a map without it is refused.
        max_length: characters; a longer value is left out with a warning.
        choices: accepted values of `choice` and `multi`; empty = any.
    """

    name: str
    title: str = ""
    type: FieldType = "text"
    required: bool = False
    max_length: int | None = None
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RemoteContact:
    """A contact as the service shows it.

    Args:
        fields: only the fields this answer showed; absent = not shown.
        status: `normal`, `pending` (awaiting confirmation), `opted_out`,
            `bounced` or `deleted`; "" when this answer did not show it.
        segments: remote segment id → membership, as far as shown.
        created_at: aware; None when not shown.
    """

    remote_id: str
    email: str = ""
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    status: str = ""
    segments: Mapping[str, Membership] = field(default_factory=dict[str, Membership])
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of what a service shows of its contacts; `pull` yields them.

    Everything on it is stored in one transaction, together with `cursor`.

    Args:
        contacts: rows as shown; also of memberships alone, with nothing but
            `remote_id` and `segments`.
        cursor: plain JSON from which `pull` goes on after this page, in another
            process perhaps; None after the last.
        stage: what is listed here, for people, as `contacts`.
        total: how many this stage has, as the service says; never believed.
        lists_everybody: this stage shows every contact there is: who is in none of
            its pages may be gone, and is asked for by `fetch`.
        members_of: this stage shows every member of that remote segment: who is in
            none of its pages is no longer taken for one. "" = it does not.
    """

    contacts: Sequence[RemoteContact]
    cursor: object = None
    stage: str = "contacts"
    total: int | None = None
    lists_everybody: bool = False
    members_of: str = ""


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """Somebody in a service, by its id.

    Args:
        segments: remote segments this is about; for `fetch` those whose membership
            is read as well; for `unsubscribe` () = all there are.
    """

    id: str
    segments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteChange:
    """A change the service remembers of a contact; `history` yields them.

    Args:
        at: aware.
        who: as the service says it, as `contact`, `admin`; "" when it does not.
        fields: remote names; () when it does not say which.
    """

    at: datetime
    who: str = ""
    fields: tuple[str, ...] = ()


class OutcomeKind(StrEnum):
    """What one push of one contact led to."""

    DELIVERED = "delivered"
    """The service has it as wished, and said so."""
    UNCHANGED = "unchanged"
    """The service already had it as wished; nothing was sent."""
    SKIPPED = "skipped"
    """It must not or need not be sent."""
    REJECTED = "rejected"
    """This contact will never be accepted as it is."""
    RETRY = "retry"
    """Not now; the row waits."""
    UNKNOWN = "unknown"
    """It may or may not have arrived; read back before anything is resent."""
    SUBMITTED = "submitted"
    """Handed to a job of the service; `poll` asks for its end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item. Made by the item's own methods.

    Args:
        push_id: the row this is about.
        code: stable word for filters, metrics and tests.
        reason: one sentence for people.
        after: for `retry` and `submitted`: how long to wait at least.
        suppress: an opt-out was learned; remember it in this scope.
        on_segment: the contact is on the segment now.
        job: for `submitted`: the service's name of the job.
    """

    push_id: int
    kind: OutcomeKind
    code: str = ""
    reason: str = ""
    remote_id: str = ""
    after: timedelta | None = None
    suppress: Scope | None = None
    on_segment: bool = False
    job: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One contact, mapped and ready to be pushed.

    Args:
        push_id: the row this is about.
        email: lower case.
        fields: every mapped field that is to be sent: remote name → text;
            "" empties the remote field.
        changed: those of `fields` that differ from what the service is known
            to have; equals `fields` when nothing is known.
        remote_id: the service's id, "" when not known.
        on_segment: our last knowledge says it is on the wished segment.
        opt_in: `normal`, or `pending` to let the service ask for confirmation.
        unsure: an earlier push may or may not have arrived: read before writing.
        force: send even what seems unchanged (opt-outs are obeyed all the same).
        consent: the opt-out from the segment that we noted of this remote contact
            was answered by a permission; the membership may be asked for, once.
        recreate: the same of its deletion; it may be made anew, once.
    """

    push_id: int
    email: str
    fields: Mapping[str, str]
    changed: Mapping[str, str]
    remote_id: str = ""
    on_segment: bool = False
    opt_in: Literal["normal", "pending"] = "normal"
    unsure: bool = False
    force: bool = False
    consent: bool = False
    recreate: bool = False

    def delivered(
        self,
        remote_id: str,
        code: str = "",
        reason: str = "",
        *,
        on_segment: bool = True,
    ) -> Outcome:
        """Say that the service has this contact as wished, and confirmed it.

        Args:
            remote_id: the service's id of it, kept for the next push.
            code: "" or why it is less than wished, as `awaiting_confirmation`.
            reason: a sentence for people when there is something to say.
            on_segment: it is on the wished remote segment now.
        """
        return Outcome(
            self.push_id,
            OutcomeKind.DELIVERED,
            code or "delivered",
            reason,
            remote_id,
            on_segment=on_segment,
        )

    def unchanged(self, remote_id: str = "") -> Outcome:
        """Say that the service already had everything; nothing was written."""
        return Outcome(
            self.push_id,
            OutcomeKind.UNCHANGED,
            "unchanged",
            "the service already has it",
            remote_id,
            on_segment=True,
        )

    def skipped(self, code: str, reason: str = "") -> Outcome:
        """Leave this contact alone, for a reason that is no failure."""
        return Outcome(self.push_id, OutcomeKind.SKIPPED, code, reason)

    def opted_out(
        self, scope: Scope, code: str, reason: str = "", remote_id: str = ""
    ) -> Outcome:
        """Skip this contact and never push it again within `scope`.

        Args:
            scope: `address` (everywhere), `segment` (that remote segment only)
                or `connection` (deleted there: not created again there).
            code: what was seen, as `unsubscribed`, `bounced`, `deleted`.
            reason: a sentence for people.
            remote_id: the service's id of it; if nobody ever names one, no later
                consent is passed on.
        """
        return Outcome(
            self.push_id,
            OutcomeKind.SKIPPED,
            code,
            reason,
            remote_id,
            suppress=scope,
        )

    def rejected(
        self,
        code: str,
        reason: str = "",
        remote_id: str = "",
        *,
        on_segment: bool = False,
    ) -> Outcome:
        """Say that the service will never accept this contact as it is.

        Args:
            code: what is wrong with it, as `invalid_email`.
            reason: a sentence for people.
            remote_id: the service's id of it, when it is there all the same.
            on_segment: it is on the wished remote segment all the same.
        """
        return Outcome(
            self.push_id,
            OutcomeKind.REJECTED,
            code,
            reason,
            remote_id,
            on_segment=on_segment,
        )

    def retry(
        self, code: str, reason: str = "", after: timedelta | None = None
    ) -> Outcome:
        """Ask for another try later; the core decides when, not before `after`."""
        return Outcome(self.push_id, OutcomeKind.RETRY, code, reason, after=after)

    def unknown(self, code: str, reason: str = "") -> Outcome:
        """Say that it may or may not have arrived."""
        return Outcome(self.push_id, OutcomeKind.UNKNOWN, code, reason)

    def submitted(self, job: str, after: timedelta | None = None) -> Outcome:
        """Say that the service took it as part of a job and has not decided yet.

        Args:
            job: the service's name of the job, for `poll`.
            after: when it is worth asking; None = in a minute.
        """
        return Outcome(
            self.push_id, OutcomeKind.SUBMITTED, "submitted", after=after, job=job
        )
