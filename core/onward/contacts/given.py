"""One contact as outside data gives it: checked value by value, whole or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from onward.contacts.headers import IDENTITY, Kind, Target, opt_out_word
from onward.contacts.values import (
    MAX_TEXT,
    NO,
    YES,
    as_type,
    clean_email,
    parse_number,
    shown,
    split_list,
    to_text,
)
from onward.errors import InputError

MAX_POINTS = 1_000_000_000
MAX_IDENTITY = 255
MAX_FAULTS = 5  # of one line, said at once

# The stricter reason first: where two columns differ, it is the one kept.
_STRICTNESS = ("complaint", "unsubscribed", "bounced", "manual")


@dataclass(slots=True)
class ContactData:
    """A contact as outside data gives it: only what was given, and clean.

    Args:
        email: lower case; "" makes it a visitor.
        fields: standard text fields without the e-mail.
        custom: custom fields, as `parse_value` returns them.
        points: the total, to be set; None when not given.
        identities: kind → value, as {"visitor": "…", "mautic": "123"}.
        do_not_contact: "", or unsubscribed, bounced, manual or complaint.
        consent: "", or how it was given.
    """

    email: str = ""
    fields: dict[str, str] = field(default_factory=dict[str, str])
    custom: dict[str, object] = field(default_factory=dict[str, object])
    tags: list[str] = field(default_factory=list[str])
    segments: list[str] = field(default_factory=list[str])
    points: int | None = None
    identities: dict[str, str] = field(default_factory=dict[str, str])
    do_not_contact: str = ""
    consent: str = ""


@dataclass(frozen=True, slots=True)
class ContactLine:
    """A contact and the line its record starts in, from 1."""

    number: int
    contact: ContactData


@dataclass(frozen=True, slots=True)
class BadLine:
    """A record that was not taken.

    Args:
        number: the line it starts in, from 1.
        reason: one sentence.
        text: its first 80 characters.
    """

    number: int
    reason: str
    text: str


def _fill_email(contact: ContactData, _target: Target, raw: object) -> None:
    # Not by way of `to_text`: what it drops from text makes this no address.
    text = raw if isinstance(raw, str) else to_text(raw)
    if not contact.email and text and not text.isspace():
        contact.email = clean_email(text)


def _fill_text(contact: ContactData, target: Target, raw: object) -> None:
    if target.field not in contact.fields and (text := to_text(raw)):
        contact.fields[target.field] = text


def _fill_custom(contact: ContactData, target: Target, raw: object) -> None:
    if target.field not in contact.custom and target.custom is not None:
        value = as_type(target.custom, raw)
        if value is not None:
            contact.custom[target.field] = value


def _fill_points(contact: ContactData, _target: Target, raw: object) -> None:
    blank = raw is None or (isinstance(raw, str) and not raw.strip())
    if contact.points is None and not blank:
        points = parse_number(raw)
        if not isinstance(points, int) or abs(points) > MAX_POINTS:
            raise InputError(f'"{shown(raw)}" is no whole number of points')
        contact.points = points


def _fill_list(contact: ContactData, target: Target, raw: object) -> None:
    mine = contact.tags if target.kind == "tags" else contact.segments
    for item in split_list(raw):
        if len(item) > MAX_IDENTITY:  # would not fit into an index
            raise InputError(
                f'"{shown(item)}" is longer than {MAX_IDENTITY} characters'
            )
        if item not in mine:
            mine.append(item)


def _fill_consent(contact: ContactData, _target: Target, raw: object) -> None:
    contact.consent = contact.consent or to_text(raw)


def _fill_identity(contact: ContactData, target: Target, raw: object) -> None:
    text = to_text(raw)
    if len(text) > MAX_IDENTITY:
        raise InputError(
            f'"{shown(text)}" is longer than {MAX_IDENTITY} characters, too long '
            "to recognise anybody by"
        )
    if text:
        contact.identities.setdefault(target.field.removeprefix(IDENTITY), text)


def _fill_opt_out(contact: ContactData, target: Target, raw: object) -> None:
    reason = _read_opt_out(target, raw)
    known = contact.do_not_contact
    if reason and (not known or _STRICTNESS.index(reason) < _STRICTNESS.index(known)):
        contact.do_not_contact = reason


def _read_opt_out(target: Target, raw: object) -> str:
    """Return the reason word of an opt-out, "" when there is none.

    Raises:
        InputError: a word that may or may not be an opt-out: the line is not
            taken, because a wrong guess writes to somebody who said no.
    """
    text = ("yes" if raw else "no") if isinstance(raw, bool) else to_text(raw)
    word = text.lower()
    if not word or word == "-":
        return ""
    known = opt_out_word(word)
    if target.rule == "status":
        return known or ""
    if target.rule == "filled":
        blank = known == "" or word in NO or word.startswith("0000-00-00")
        return "" if blank else target.reason
    if known is not None:
        return known
    if word in YES or word in NO:
        return target.reason if (word in NO) is (target.rule == "no") else ""
    if target.rule == "word" and word in ("2", "3"):  # Mautic's constants
        return "bounced" if word == "2" else "manual"
    if target.rule != "no" and len(word) >= 10 and word[:4].isdigit():
        return "" if word.startswith("0000-00-00") else target.reason  # since when
    raise InputError(
        f'"{shown(text)}" does not say whether to contact or not; write yes, no, '
        "unsubscribed, bounced, manual or complaint"
    )


_FILL: Mapping[Kind, Callable[[ContactData, Target, object], None]] = {
    "email": _fill_email,
    "text": _fill_text,
    "custom": _fill_custom,
    "points": _fill_points,
    "tags": _fill_list,
    "segments": _fill_list,
    "do_not_contact": _fill_opt_out,
    "consent": _fill_consent,
    "identity": _fill_identity,
}


def bad_line(number: int, reason: str, text: str) -> BadLine:
    """Return a line that is not taken, with as much of it as reports show."""
    clipped = text[:80].rstrip("\r\n")
    clean = "".join(char if char.isprintable() else " " for char in clipped)
    return BadLine(number, reason, clean)


_NOBODY = "it has neither an e-mail address nor another identity"


def _faults(
    contact: ContactData, cells: Iterator[tuple[str, Target, object]]
) -> Iterator[str]:
    """Yield what is wrong with the cells after the first wrong one."""
    for column, target, raw in cells:
        try:
            _FILL[target.kind](contact, target, raw)
        except InputError as error:
            yield f'column "{column}": {error.message}'


def make_line(
    number: int, cells: Iterable[tuple[str, Target, object]], text: str
) -> ContactLine | BadLine:
    """Make one contact of (header, target, value), or say all that is wrong.

    Args:
        number: of the line it starts in.
        cells: blank ones may be left out.
        text: of the line, for the report.
    """
    # Spelled out: calling the five factories takes five times as long.
    given: dict[str, str] = {}
    contact = ContactData("", given, {}, [], [], None, {}, "", "")
    column = ""
    rest = iter(cells)
    try:
        for column, target, raw in rest:  # noqa: B007 - the error names it
            # The usual cell goes without calls: this is what an import of a
            # million lines spends its time on.
            if (
                target.kind == "text"
                and isinstance(raw, str)
                and len(raw) < MAX_TEXT
                and raw.isascii()
                and raw.isprintable()
            ):
                if target.field not in given and (raw := raw.strip()):
                    given[target.field] = raw
            else:
                _FILL[target.kind](contact, target, raw)
    except InputError as error:
        faults = [f'column "{column}": {error.message}', *_faults(contact, rest)]
        return bad_line(number, "; ".join(faults[:MAX_FAULTS]), text)
    if not contact.email and not contact.identities:
        return bad_line(number, _NOBODY, text)
    return ContactLine(number, contact)
