"""Hold a field map against an account, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from onward.contacts.fields import DERIVED_FIELDS, ContactField
from onward.contract import FieldType, RemoteField
from onward.errors import FieldMapError
from onward.fieldmap.bound import BoundMap, Read, Step
from onward.fieldmap.convert import CONVERTERS, Convert, as_declared, converter
from onward.fieldmap.entry import Entry
from onward.fieldmap.grammar import EVENT
from onward.fieldmap.hints import listed, meant
from onward.fieldmap.template import Template
from onward.fieldmap.text import Unfit


def bind(
    source: str,
    version: str,
    entries: Mapping[str, Entry],
    remote_fields: Sequence[RemoteField],
    contact_fields: Mapping[str, ContactField],
) -> BoundMap:
    """Check every entry against both sides and prepare it.

    Raises:
        FieldMapError: see `FieldMap.bind`.
    """
    remotes = {remote.name: remote for remote in remote_fields}
    steps: list[Step] = []
    pulled: dict[str, str] = {}
    for entry in entries.values():
        where = f"{source}: {entry.remote}"
        remote = remotes.get(entry.remote) or _open(entry.remote, remotes)
        if remote is None:
            raise FieldMapError(
                f'{source}: the map names "{entry.remote}", which the account does not'
                f" have{meant(entry.remote, remotes)}; known fields: {listed(remotes)}"
            )
        _check_names(entry, contact_fields, where)
        _check_types(entry, remote, contact_fields, where)
        if entry.direction != "pull":
            steps.append(_step(entry, remote, contact_fields, where))
        if entry.direction != "push":
            _check_pull(entry, pulled, where)
    pushed = {step.remote for step in steps}
    for remote in remote_fields:
        if remote.required and remote.name not in pushed:
            raise FieldMapError(
                f'{source}: the account requires "{remote.name}" and the map does not'
                f' send it; add {remote.name} = "…" with one of these contact fields:'
                f" {listed(contact_fields)}"
            )
    return BoundMap(version, steps)


def _open(name: str, remotes: Mapping[str, RemoteField]) -> RemoteField | None:
    """Return the field of a service that takes any name, or any that begins so."""
    for pattern, remote in remotes.items():
        if pattern.endswith("*") and name.startswith(pattern[:-1]):
            return replace(remote, name=name, title="", required=False)
    return None


def _check_names(
    entry: Entry, contact_fields: Mapping[str, ContactField], where: str
) -> None:
    for name in sorted(entry.names):
        if name != EVENT and name not in contact_fields:
            known = [*contact_fields, EVENT]
            raise FieldMapError(
                f'{where} names "{name}", which is no contact field'
                f"{meant(name, known)}; known fields: {listed(known)}; a fixed text is"
                " written \"{{ 'text' }}\""
            )


def _check_types(
    entry: Entry,
    remote: RemoteField,
    contact_fields: Mapping[str, ContactField],
    where: str,
) -> None:
    """Refuse what could never be converted, and options without effect."""
    ours = None if entry.template or entry.path else contact_fields[entry.value].type
    pushes, pulls = entry.direction != "pull", entry.direction != "push"
    if ours and (
        (pushes and remote.type not in CONVERTERS[ours])
        or (pulls and ours not in CONVERTERS[remote.type])
    ):
        raise FieldMapError(
            f"{where} is of type {remote.type} and {entry.value} of type {ours}, and"
            " nothing converts between them; map another field, or push a template"
            " that makes one of the other"
        )
    types: set[FieldType | None] = {ours, remote.type}
    if entry.date_format and not types & {"date", None}:
        raise FieldMapError(f"{where} has a date_format but no date; remove it")
    if entry.separator and not types & {"multi", None}:
        raise FieldMapError(f"{where} has a separator but one value; remove it")


def _check_pull(entry: Entry, pulled: dict[str, str], where: str) -> None:
    if entry.value in DERIVED_FIELDS:
        raise FieldMapError(
            f'{where} cannot be pulled: "{entry.value}" is kept by Onward itself;'
            " remove its direction"
        )
    other = pulled.setdefault(entry.value, entry.remote)
    if other != entry.remote:
        raise FieldMapError(
            f'{where} and {other} are both pulled into "{entry.value}"; leave'
            " direction to one of them"
        )


def _step(
    entry: Entry,
    remote: RemoteField,
    contact_fields: Mapping[str, ContactField],
    where: str,
) -> Step:
    convert = converter(remote, entry.separator, entry.date_format)
    fill: str | None = None
    skip = ""
    if entry.when_blank == "skip_contact":
        skip = f"the field map skips contacts without {remote.name}"
    elif entry.when_blank == "default":
        fill = _default(entry, remote, convert, where)
    elif entry.when_blank == "clear":
        fill = ""
        if remote.required:
            raise FieldMapError(
                f"{where} is required by the account and cannot be cleared; write"
                ' when_blank = "skip_contact"'
            )
    return Step(
        remote.name,
        entry.value,
        _reader(entry, contact_fields),
        remote.type == "text" and not entry.date_format,
        convert,
        remote.max_length,
        fill,
        skip,
    )


def _default(entry: Entry, remote: RemoteField, convert: Convert, where: str) -> str:
    try:
        text = convert(entry.default)
    except Unfit as error:
        raise FieldMapError(
            f"{where} has a default that is {error}; write another"
        ) from error
    if remote.max_length is not None and len(text) > remote.max_length:
        raise FieldMapError(
            f"{where} has a default of {len(text)} characters and the service takes"
            f" {remote.max_length}; write a shorter one"
        )
    return text


def _reader(entry: Entry, contact_fields: Mapping[str, ContactField]) -> Read | None:
    """Return how the value is found; None for a plain look-up."""
    if entry.template is not None:
        return _rendered(entry.template, contact_fields)
    return _at(entry.path) if entry.path else None


def _rendered(template: Template, contact_fields: Mapping[str, ContactField]) -> Read:
    declared: list[tuple[str, FieldType]] = [
        (name, contact_fields[name].type) for name in template.names if name != EVENT
    ]
    with_event = EVENT in template.names

    def read(values: Mapping[str, object]) -> str:
        context = {name: as_declared(values.get(name), of) for name, of in declared}
        if with_event:
            context[EVENT] = values.get(EVENT) or {}
        return template.render(context)

    return read


def _at(path: tuple[str, ...]) -> Read:
    def read(values: Mapping[str, object]) -> object:
        found = values.get(EVENT)
        for part in path:
            if not isinstance(found, Mapping):
                return None
            found = cast("Mapping[str, object]", found).get(part)
        return found

    return read
