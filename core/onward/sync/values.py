"""What a pull takes over into a contact's fields, line by line of the map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from onward.contacts.fields import STANDARD_FIELDS, ContactField
from onward.contacts.given import ContactData
from onward.contacts.values import MAX_TEXT, clean_text, parse_value
from onward.contract import RemoteField
from onward.errors import InputError
from onward.fieldmap import FieldMap
from onward.fieldmap.convert import MULTI_SEPARATOR, Convert, converter
from onward.fieldmap.entry import Direction, Entry, Winner
from onward.fieldmap.text import Unfit, is_blank

Same = Callable[[str, str, str], bool]
"""Tells of a remote field whether two of its texts mean the same."""


@dataclass(frozen=True, slots=True)
class Line:
    """One remote field and the contact field it is pulled into.

    Args:
        send: what of ours is sent, to tell whether ours changed since.
        is_plain: ours is one of the standard fields, which are text.
    """

    remote: str
    ours: ContactField
    direction: Direction
    winner: Winner
    date_format: str
    separator: str
    send: Convert
    is_plain: bool

    def parse(self, text: str) -> object:
        """Return a remote text as it is stored here; None when it is blank.

        Raises:
            InputError: it is no value of our field.
        """
        if self.is_plain:
            return clean_text(text) or None
        given: object = text
        if self.date_format and self.ours.type == "date" and text.strip():
            try:
                read = datetime.strptime(text.strip(), self.date_format)  # noqa: DTZ007 - a date
            except ValueError:
                raise InputError(f"{self.ours.name}: not a date as written") from None
            given = read.date()
        elif self.ours.type == "multi":
            parts = text.split(self.separator or MULTI_SEPARATOR)
            given = [part.strip() for part in parts if part.strip()] or None
        return parse_value(self.ours, given)

    def ours_as_sent(self, value: object) -> str | None:
        """Return our value as it would be sent; None when it does not fit."""
        if is_blank(value):
            return ""
        try:
            return self.send(value)
        except Unfit:
            return None


@dataclass(frozen=True, slots=True)
class PullMap:
    """The lines of a field map that a pull reads.

    Args:
        lines: by the remote name in lower case: who lower-cases is not known.
        exact: the same by the name as the map has it, which rows nearly always have.
        plain: remote name, as the map has it → name of ours, where ours is text.
        email: remote field of the address, if a plain look-up fills it.
        wanted: remote names, in lower case, that are pulled into contacts that
            exist; the others only into those a pull makes.
        version: changes when what a pull would do changes.
    """

    lines: Mapping[str, Line]
    exact: Mapping[str, Line]
    plain: Mapping[str, str]
    email: str
    wanted: frozenset[str]
    version: str

    @classmethod
    def of(
        cls,
        read: FieldMap,
        remote_fields: Mapping[str, RemoteField],
        contact_fields: Mapping[str, ContactField],
        email_field: str,
    ) -> PullMap:
        """Return what of a map can be pulled: plain fields, no templates.

        Args:
            read: checked against both sides already, see `FieldMap.bind`.
            remote_fields: by name.
            contact_fields: standard and custom ones, by name; none that Onward keeps
                itself.
        """
        lines: dict[str, Line] = {}
        taken: dict[str, str] = {}
        entries = sorted(read.entries.values(), key=lambda one: one.direction == "push")
        for entry in entries:
            ours = contact_fields.get(entry.value)
            if entry.template or entry.path or ours is None or ours.name == "email":
                continue
            # Two lines send the same field: the one that says so is pulled.
            if taken.setdefault(ours.name, entry.remote) == entry.remote:
                lines[entry.remote.lower()] = _line(entry, ours, remote_fields)
        own = read.entries.get(email_field)
        plain = own is not None and own.value == "email" and own.template is None
        wanted = frozenset(
            name for name, line in lines.items() if line.direction != "push"
        )
        exact = {line.remote: line for line in lines.values()}
        texts = {name: line.ours.name for name, line in exact.items() if line.is_plain}
        email = email_field if plain else ""
        return cls(lines, exact, texts, email, wanted, read.version)

    def line(self, name: str) -> Line | None:
        """Return the line of a remote field, however it is spelled."""
        return self.exact.get(name) or self.lines.get(name.lower())


def _line(
    entry: Entry, ours: ContactField, remote_fields: Mapping[str, RemoteField]
) -> Line:
    remote = remote_fields.get(entry.remote) or RemoteField(entry.remote)
    return Line(
        entry.remote,
        ours,
        entry.direction,
        entry.winner,
        entry.date_format,
        entry.separator,
        converter(remote, entry.separator, entry.date_format),
        ours.name in STANDARD_FIELDS,
    )


@dataclass(slots=True)
class Choice:
    """What one row brings into one contact.

    Args:
        taken: remote names whose values are ours from now on.
        unfit: sentences about values that are none of our field's.
    """

    data: ContactData
    taken: list[str] = field(default_factory=list[str])
    unfit: list[str] = field(default_factory=list[str])

    @property
    def is_empty(self) -> bool:
        """Tell whether it brings nothing."""
        return not self.data.fields and not self.data.custom


def for_new(pull: PullMap, shown: Mapping[str, str]) -> Choice:
    """Return what a contact begins with that a pull makes: everything mapped."""
    # Spelled out: calling the five factories takes longer than the fields do.
    choice = Choice(ContactData("", {}, {}, [], [], None, {}, "", ""))
    fields, taken, plain = choice.data.fields, choice.taken, pull.plain
    row = "".join(shown.values())
    # One look at the whole row; nearly always nothing is to be cleaned but the ends.
    is_clean = row.isascii() and row.isprintable() and len(row) < MAX_TEXT
    for name, text in shown.items():
        if not text:
            continue
        if is_clean and (ours := plain.get(name)) is not None:
            if text := text.strip():
                fields[ours] = text
                taken.append(name)
        elif (line := pull.line(name)) is not None and not text.isspace():
            _take(choice, line, text)
    return choice


def for_known(
    pull: PullMap,
    shown: Mapping[str, str],
    base: Mapping[str, str],
    ours: Mapping[str, object],
    same: Same,
) -> Choice:
    """Return what a contact takes over; blanks never erase.

    Args:
        base: what the service had when both sides were last known to agree.
        ours: contact field → value.
    """
    choice = Choice(ContactData())
    for name, text in shown.items():
        line = pull.line(name)
        if line is None or line.direction == "push" or not text or text.isspace():
            continue
        if _is_theirs(line, text, base.get(name), ours.get(line.ours.name), same):
            _take(choice, line, text)
    return choice


def _is_theirs(
    line: Line, text: str, base: str | None, ours: object, same: Same
) -> bool:
    """Tell whether the service's value is the one to keep."""
    mine = line.ours_as_sent(ours)
    if mine is not None and same(line.remote, mine, text):
        return False
    if line.direction == "pull" or mine == "":
        return True
    if base is not None and mine is not None:
        if same(line.remote, base, text):
            return False  # only ours changed, if any
        if same(line.remote, mine, base):
            return True  # only theirs did
    return line.winner == "theirs"


def _take(choice: Choice, line: Line, text: str) -> None:
    try:
        value = line.parse(text)
    except InputError:
        # Without the value: what is written about a pull outlives the person.
        choice.unfit.append(
            f"{line.remote} is no {line.ours.type} for {line.ours.name}"
        )
        return
    if value is None:
        return
    choice.taken.append(line.remote)
    if line.is_plain:
        choice.data.fields[line.ours.name] = str(value)
    else:
        choice.data.custom[line.ours.name] = value
