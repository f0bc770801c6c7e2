"""What a column's header means: other tools' words, as data."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from onward.contacts.fields import EMAIL, STANDARD_FIELDS, ContactField
from onward.contract import FieldType
from onward.errors import InputError

Kind = Literal[
    "email",
    "text",
    "custom",
    "points",
    "tags",
    "segments",
    "do_not_contact",
    "consent",
    "identity",
]
OptOutRule = Literal["word", "status", "yes", "no", "filled"]

IDENTITY = "identity:"
NESTED = "custom."  # before the name of a field of a JSON object's "custom"
TYPES: tuple[str, ...] = get_args(FieldType)

# Field → headers that mean it. Compared without case, blanks and punctuation,
# so "E-Mail", "e_mail" and "[email]" are one spelling. Own names
# and titles need no line here. Mautic's words: its contact fields and import;
# Mailchimp's, HubSpot's, Google's, Outlook's: their exports.
HEADERS: Mapping[str, tuple[str, ...]] = {
    "email": (
        "e-mail",
        "email address",
        "mail",
        "primary email",
        "e-mail 1 - value",
        "email 1",
        "courriel",
        "adresse email",
        "correo electrónico",
    ),
    "prefix": ("salutation", "honorific", "name prefix", "anrede"),
    "first_name": (
        "first",
        "fname",
        "forename",
        "given name",
        "vorname",
        "prénom",
        "voornaam",
    ),
    "last_name": (
        "last",
        "lname",
        "surname",
        "family name",
        "nachname",
        "nom de famille",
        "achternaam",
    ),
    "suffix": ("name suffix",),
    "company": (
        "company name",
        "business",
        "business name",
        "organization",
        "organisation",
        "organization name",
        "organization 1 - name",
        "account name",
        "employer",
        "firma",
        "unternehmen",
        "société",
        "bedrijf",
    ),
    "position": ("job title", "job position", "role", "organization 1 - title"),
    "phone": (
        "phone number",
        "telephone",
        "telephone number",
        "tel",
        "business phone",
        "work phone",
        "home phone",
        "phone 1 - value",
        "telefon",
        "téléphone",
        "telefoon",
    ),
    "mobile": (
        "mobile phone",
        "mobile phone number",
        "mobile number",
        "cell",
        "cell phone",
        "sms phone number",
    ),
    "fax": ("fax number", "business fax"),
    "street": (
        "address",
        "address1",
        "address line 1",
        "street address",
        "street1",
        "business street",
        "addr1",
        "straße",
    ),
    "street2": (
        "address2",
        "address line 2",
        "street address 2",
        "business street 2",
        "addr2",
    ),
    "city": ("town", "business city", "city/town", "ort", "stadt", "ville", "plaats"),
    "state": (
        "region",
        "province",
        "state/province",
        "state/region",
        "business state",
    ),
    "postal_code": (
        "zip",
        "zip code",
        "zip/postal code",
        "postcode",
        "business postal code",
        "plz",
        "postleitzahl",
        "code postal",
    ),
    "country": (
        "country name",
        "country/region",
        "business country/region",
        "land",
        "pays",
    ),
    "website": ("web site", "web page", "homepage", "url", "website url"),
    "points": ("lead points",),
    "tags": ("tag",),
    "segments": ("segment", "list", "lists", "lead list", "lead lists"),
    "consent": ("consent given", "how consent was given"),
    "identity:visitor": ("visitor", "visitor id", "anonymous id"),
    "identity:user": ("user", "user id", "customer id"),
    "identity:mautic": ("mautic", "mautic id", "mautic contact id"),
}

# Header → how its values speak of an opt-out, and the reason word when they do.
OPT_OUT_HEADERS: Mapping[str, tuple[OptOutRule, str]] = {
    "do not contact": ("word", "manual"),
    "dnc": ("word", "manual"),
    "do not contact reason": ("word", "manual"),
    "dnc reason": ("word", "manual"),
    "do not email": ("yes", "manual"),
    "email opt out": ("yes", "unsubscribed"),
    "opt out": ("yes", "unsubscribed"),
    "opted out": ("yes", "unsubscribed"),
    "has opted out of email": ("yes", "unsubscribed"),
    "unsubscribed": ("yes", "unsubscribed"),
    "unsubscribed from all email": ("yes", "unsubscribed"),
    "is unsubscribed": ("yes", "unsubscribed"),
    "bounced": ("yes", "bounced"),
    "complained": ("yes", "complaint"),
    "subscribed": ("no", "unsubscribed"),
    "is subscribed": ("no", "unsubscribed"),
    "status": ("status", ""),
    "email status": ("status", ""),
    "contact status": ("status", ""),
    "subscription status": ("status", ""),
    "subscriber status": ("status", ""),
    "email marketing status": ("status", ""),
    "unsub_time": ("filled", "unsubscribed"),
    "unsubscribed at": ("filled", "unsubscribed"),
    "unsubscribe date": ("filled", "unsubscribed"),
    "unsub_reason": ("filled", "unsubscribed"),
    "clean_time": ("filled", "bounced"),
    "cleaned at": ("filled", "bounced"),
    "bounced at": ("filled", "bounced"),
}

# Reason word → words that mean it. Numbers: Mautic's own (2 bounced, 3 manual).
OPT_OUT_WORDS: Mapping[str, tuple[str, ...]] = {
    "complaint": (
        "complaint",
        "complained",
        "spam",
        "spam complaint",
        "abuse",
        "marked as spam",
    ),
    "unsubscribed": (
        "unsubscribed",
        "unsubscribe",
        "unsub",
        "opt out",
        "opted out",
    ),
    "bounced": (
        "bounced",
        "bounce",
        "hard bounce",
        "hard bounced",
        "cleaned",
        "undeliverable",
    ),
    "manual": ("manual", "do not contact", "dnc", "do not email", "suppressed"),
    "": (
        "none",
        "null",
        "subscribed",
        "active",
        "normal",
        "contactable",
        "opted in",
        "pending",
    ),
}

# Known, and of no use to a contact here: said in the report, never guessed at.
PASSED_OVER: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "member_rating",
            "optin_time",
            "optin_ip",
            "confirm_time",
            "confirm_ip",
            "latitude",
            "longitude",
            "gmtoff",
            "dstoff",
            "timezone",
            "cc",
            "last_changed",
            "leid",
            "euid",
            "notes",
            "stage",
            "owner",
            "preferred_locale",
            "locale",
            "last_active",
            "date_identified",
            "date_added",
            "date_modified",
            "created by user",
            "modified by user",
            "ip",
            "ip address",
            "attribution",
            "attribution_date",
            "created_at",
            "updated_at",
            "suppressions",
            "lifecycle stage",
        ),
        "kept by the tool that wrote the file",
    ),
    **dict.fromkeys(
        ("name", "full name", "contact name", "display name"),
        "a full name is not split; give the first and the last name a column each",
    ),
}

# A file with one of these, spelled so, is taken for Mautic's: its "id" is then
# Mautic's number of the contact and its "title" is Mr or Dr.
_MAUTIC = frozenset({"firstname", "lastname", "preferred_locale", "date_identified"})

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,29}")


def plain(text: str) -> str:
    """Return letters and digits only, in lower case: how headers are compared."""
    return "".join(char for char in text.casefold() if char.isalnum())


def is_kind(text: str) -> bool:
    """Tell whether identities can be of this kind."""
    return _KIND.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Target:
    """What the values of a column fill.

    Args:
        field: a standard or custom field, `points`, `tags`, `segments`,
            `do_not_contact`, `consent`, or `identity:KIND`.
        kind: how it is filled.
        custom: the field, when it is a custom one.
        rule: for `do_not_contact`: `word` takes yes, no and the words for an
            opt-out and refuses others; `status` takes only those words and
            lets others pass; `yes` and `no` are the answer that is an
            opt-out; `filled` takes any value for one.
        reason: for `do_not_contact`: the reason of a mere yes, no or date.
    """

    field: str
    kind: Kind
    custom: ContactField | None = None
    rule: OptOutRule = "word"
    reason: str = "manual"

    @property
    def recognises(self) -> bool:
        """A contact can be found by it."""
        return self.kind in ("email", "identity")


def _target(field: str) -> Target:
    """Make the target of a field that is not a custom one."""
    if field in (EMAIL.name, f"{IDENTITY}email"):
        return Target(EMAIL.name, "email")
    if field in STANDARD_FIELDS:
        return Target(field, "text")
    if field.startswith(IDENTITY):
        return Target(field, "identity")
    return Target(field, cast("Kind", field))


def _table() -> dict[str, Target]:
    known: dict[str, Target] = {}
    for contact_field in STANDARD_FIELDS.values():
        for header in (contact_field.name, contact_field.title):
            known[plain(header)] = _target(contact_field.name)
    for field, headers in HEADERS.items():
        for header in (field, *headers):
            known[plain(header)] = _target(field)
    for header, (rule, reason) in OPT_OUT_HEADERS.items():
        known[plain(header)] = Target(
            "do_not_contact", "do_not_contact", None, rule, reason
        )
    return known


KNOWN: Mapping[str, Target] = _table()
_PASSED_OVER = {plain(header): why for header, why in PASSED_OVER.items()}
_OPT_OUTS = {
    plain(word): reason for reason, words in OPT_OUT_WORDS.items() for word in words
}
# What a mapping may name besides custom fields and identities.
NAMES: tuple[str, ...] = (
    *STANDARD_FIELDS,
    "points",
    "tags",
    "segments",
    "do_not_contact",
    "consent",
)


def opt_out_word(text: str) -> str | None:
    """Return the reason word for a word of another tool, None when unknown."""
    return _OPT_OUTS.get(plain(text))


def closest(name: str, names: Iterable[str]) -> str:
    """Return a "did you mean" for a mistyped name, "" when nothing is near."""
    by_plain = {plain(known): known for known in names}
    near = difflib.get_close_matches(plain(name), by_plain, 1, 0.8)
    return f"did you mean {by_plain[near[0]]}?" if near else ""


class Columns:
    """Which header of a file fills which field.

    Args:
        headers: of the file, as far as they are known at the start.
        mapping: header → contact field, `name:type` (a custom field, declared
            by this when it is new), `identity:KIND`, or "" or "-" to ignore.
        custom_fields: declared ones, by name.

    Attributes:
        columns: header → field name, None when ignored.
        ignored: headers nobody takes → why, or what was probably meant.
        notes: sentences for the report.
        new_fields: custom fields that the mapping declares.
    """

    def __init__(
        self,
        headers: Iterable[str],
        mapping: Mapping[str, str],
        custom_fields: Mapping[str, ContactField],
    ) -> None:
        self.columns: dict[str, str | None] = {}
        self.ignored: dict[str, str] = {}
        self.notes: list[str] = []
        self.new_fields: dict[str, ContactField] = {}
        self._count = 0
        self._custom = dict(custom_fields)
        self._custom_headers = {
            plain(header): field
            for field in custom_fields.values()
            for header in (field.title, field.name)
            if field.name not in NAMES
        }
        headers = list(headers)
        self._mautic = not _MAUTIC.isdisjoint(map(str.strip, headers))
        self._knows_position = any(
            (known := KNOWN.get(plain(header))) and known.field == "position"
            for header in headers
        )
        self._mapping = mapping
        self._mapped = {
            plain(header): self._declared(header, meaning.strip())
            for header, meaning in mapping.items()
        }

    def _declared(self, header: str, meaning: str) -> Target | None:
        """Return what a mapping asks for.

        Raises:
            InputError: it names something that is not there, or that it must
                not fill.
        """
        where = f'the mapping of column "{header}"'
        if meaning in ("", "-"):
            return None
        if meaning.startswith(IDENTITY):
            if not _KIND.fullmatch(meaning.removeprefix(IDENTITY)):
                raise InputError(
                    f'{where} says "{meaning}"; a kind of identity is a word in '
                    "lower case, as in identity:user"
                )
            return _target(meaning)
        name, colon, type_ = meaning.partition(":")
        if not colon:
            if name in self._custom:
                return Target(name, "custom", self._custom[name])
            if name in NAMES:
                return _target(name)
            hint = closest(name, (*NAMES, *self._custom))
            raise InputError(
                f'{where} names "{name}", which no contact has; '
                f"{hint or f'write {name}:text to declare it'}"
            )
        if type_ not in TYPES:
            raise InputError(
                f'{where} says type "{type_}"; the types are {", ".join(TYPES)}'
            )
        if name in NAMES or name in ("id", "created_at", "email"):
            raise InputError(
                f'{where} declares "{name}", which every contact has; leave out '
                f'":{type_}" or choose another name'
            )
        if not _NAME.fullmatch(name):
            raise InputError(
                f'{where} declares "{name}"; a name has lower-case letters, '
                "digits and _, begins with a letter and has 50 at most"
            )
        field = self._custom.get(name)
        if field is None:
            field = ContactField(name, header.strip(), cast("FieldType", type_))
            self._custom[name] = self.new_fields[name] = field
        elif field.type != type_:
            raise InputError(
                f'{where} says "{meaning}", but {name} is declared as {field.type}'
            )
        return Target(name, "custom", field)

    def add(self, header: str) -> Target | None:
        """Take one more column into account and return what it fills."""
        self._count += 1
        name = header.strip()
        if not name:
            return None
        key = name if name not in self.columns else f"{name} (column {self._count})"
        target, why = self._recognise(name)
        self.columns[key] = target.field if target else None
        if target is None:
            self.ignored[key] = why
        elif target.kind != "do_not_contact":
            same = [one for one, field in self.columns.items() if field == target.field]
            if len(same) == 2 and target.kind not in ("tags", "segments"):
                self.notes.append(
                    f'{target.field} is taken from "{same[0]}" and, where that is '
                    f'blank, from "{same[1]}"'
                )
        return target

    def _recognise(self, header: str) -> tuple[Target | None, str]:
        """Return what a header fills, else why nothing."""
        bare = header.removeprefix(NESTED)
        key = plain(bare)
        if key in self._mapped:
            return self._mapped[key], "the mapping says so"
        if field := self._custom_headers.get(key):
            return Target(field.name, "custom", field), ""
        if bare != header:
            return None, f"not declared here; map it to {bare}:text or another type"
        if header.lower().startswith(IDENTITY):
            kind = header[len(IDENTITY) :].strip().lower()
            if _KIND.fullmatch(kind):
                return _target(f"{IDENTITY}{kind}"), ""
        if key == "id":
            if self._mautic:
                self.notes.append(
                    f'"{header}" is taken for Mautic\'s number of a contact; if it is '
                    f"another tool's, map it to {IDENTITY}KIND"
                )
                return _target(f"{IDENTITY}mautic"), ""
            return None, "whose number it is, is not known; map it to identity:KIND"
        if key == "title":
            if self._mautic or self._knows_position:
                return _target("prefix"), ""
            return None, "map it to prefix (Mr, Dr) or to position (Head of Sales)"
        if target := KNOWN.get(key):
            return target, ""
        if key in _PASSED_OVER:
            return None, _PASSED_OVER[key]
        hint = closest(header, (*NAMES, *self._custom)) if key else ""
        if not hint and _NAME.fullmatch(header):
            # As an export names its custom fields.
            hint = f"map it to {header}:text or another type"
        return None, hint

    def check_mapping(self) -> None:
        """Refuse a mapping of columns that are not there.

        Raises:
            InputError: naming the first such column and those that are.
        """
        there = {plain(header.removeprefix(NESTED)) for header in self.columns}
        for header in self._mapping:
            if plain(header) not in there:
                names = [name for name in self.columns if name]
                hint = closest(header, names) or f"its columns are {', '.join(names)}"
                raise InputError(
                    f'the mapping names column "{header}", which the file does not '
                    f"have; {hint}"
                )
