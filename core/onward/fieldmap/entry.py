"""One line of a field map: which value goes into which remote field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from onward.errors import FieldMapError
from onward.fieldmap.grammar import EVENT, EVENT_PARTS, Refused
from onward.fieldmap.hints import listed, meant
from onward.fieldmap.template import Template, is_template
from onward.fieldmap.text import why_no_date_format

WhenBlank = Literal["keep", "clear", "skip_contact", "default"]
Direction = Literal["push", "pull", "both"]
Winner = Literal["ours", "theirs"]

_OPTIONS: dict[str, tuple[str, ...]] = {
    "when_blank": get_args(WhenBlank),
    "direction": get_args(Direction),
    "winner": get_args(Winner),
}
_KEYS = ("value", *_OPTIONS, "default", "date_format", "separator")


@dataclass(frozen=True, slots=True)
class Entry:
    """How one remote field is filled.

    Args:
        remote: name of the remote field.
        value: a contact field's name, `event.…`, or a template.
        template: compiled, when `value` is one.
        path: the parts after `event`, when `value` is a bare `event.data.form`.
        when_blank: `keep` leaves the remote value, `clear` empties it,
            `skip_contact` does not push the contact, `default` sends `default`.
        direction: `pull` entries are not pushed.
        winner: who is right when both sides changed.
        separator: between several values; "" = the converter's own.
    """

    remote: str
    value: str
    template: Template | None = None
    path: tuple[str, ...] = ()
    when_blank: WhenBlank = "keep"
    default: str = ""
    direction: Direction = "push"
    winner: Winner = "ours"
    date_format: str = ""
    separator: str = ""

    @property
    def names(self) -> frozenset[str]:
        """Contact fields it reads, and `event`."""
        if self.template is not None:
            return self.template.names
        return frozenset((EVENT if self.path else self.value,))

    @property
    def document(self) -> str | dict[str, str]:
        """The shortest document that means the same."""
        options = {
            key: str(getattr(self, key))
            for key in _KEYS[1:]
            if getattr(self, key) != Entry.__dataclass_fields__[key].default
        }
        if self.when_blank == "default":
            del options["when_blank"]
        return {"value": self.value, **options} if options else self.value


def parse_entry(remote: str, given: object, source: str) -> Entry:
    """Read a bare name, a template or a table.

    Raises:
        FieldMapError: it is none of these, or an option is not known.
    """
    where = f"{source}: {remote}"
    if isinstance(given, str):
        return _with_value(Entry(remote, given), where)
    if not isinstance(given, Mapping):
        raise FieldMapError(
            f'{where} is neither a text nor a table; write a contact field ("city"),'
            " a template (\"{{ 'always the same' }}\") or a table"
            ' { value = "city", when_blank = "clear" }'
        )
    table = dict(cast("Mapping[str, object]", given))
    _unfold_default(table, where)
    options = {key: _option(key, value, where) for key, value in table.items()}
    if "value" not in options:
        raise FieldMapError(
            f'{where} has no value; add one, as in {{ value = "city" }}'
        )
    entry = _with_value(Entry(remote, **options), where)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    _check_together(entry, options, where)
    return entry


def _unfold_default(table: dict[str, object], where: str) -> None:
    """Bring the three ways to write a default value into one."""
    blank = table.get("when_blank")
    if isinstance(blank, Mapping):
        inner = cast("Mapping[str, object]", blank)
        if list(inner) != ["default"] or "default" in table:
            raise FieldMapError(
                f"{where} has a when_blank that cannot be understood; write"
                ' default = "text" instead'
            )
        table |= {"when_blank": "default", "default": inner["default"]}
    elif "default" in table:
        table.setdefault("when_blank", "default")


def _option(key: str, value: object, where: str) -> str:
    if key not in _KEYS:
        raise FieldMapError(
            f'{where} has an unknown option "{key}"{meant(key, _KEYS)};'
            f" known options: {listed(_KEYS)}"
        )
    if not isinstance(value, str) or not value:
        raise FieldMapError(
            f"{where} has a {key} that is no text; put it between quotes"
        )
    known = _OPTIONS.get(key)
    if known and value not in known:
        if key == "when_blank" and not meant(value, known):
            raise FieldMapError(
                f'{where} has when_blank = "{value}"; to send that where the field is '
                f'blank write default = "{value}", else when_blank is one of keep, '
                "clear, skip_contact"
            )
        raise FieldMapError(
            f'{where} has {key} = "{value}"{meant(value, known)};'
            f" write one of {', '.join(known)}"
        )
    return value


def _with_value(entry: Entry, where: str) -> Entry:
    """Return the entry with its value understood."""
    fields = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    value = fields["value"] = entry.value.strip()
    if is_template(value):
        try:
            fields["template"] = Template.parse(value)
        except Refused as error:
            raise FieldMapError(f"{where}: the template {error}") from error
    elif not value:
        raise FieldMapError(
            f"{where} is empty; name a contact field, or remove the line"
        )
    elif value == EVENT or value.startswith(f"{EVENT}."):
        fields["path"] = parts = tuple(value.split(".")[1:])
        if not all(parts) or not parts or parts[0] not in EVENT_PARTS:
            raise FieldMapError(
                f'{where} names "{value}", which is no part of an event; write'
                " event.action, event.occurred_at or event.data.NAME"
            )
    return Entry(**fields)


def _check_together(entry: Entry, options: Mapping[str, str], where: str) -> None:
    """Refuse options that contradict each other."""
    problem = ""
    if ("default" in options) != (entry.when_blank == "default"):
        problem = 'its default needs when_blank = "default" (or leave when_blank out)'
    elif entry.when_blank == "default" and not entry.default.strip():
        problem = 'its default is blank; write when_blank = "clear"'
    elif entry.direction != "push" and (entry.template or entry.path):
        problem = "only a contact field can be pulled into; remove its direction"
    elif "winner" in options and entry.direction != "both":
        problem = 'its winner needs direction = "both"'
    elif entry.date_format and why_no_date_format(entry.date_format):
        problem = f"its date_format {why_no_date_format(entry.date_format)}"
    if problem:
        raise FieldMapError(f"{where} cannot be used: {problem}")
