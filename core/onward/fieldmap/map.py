"""A field map: one document that says what is sent to a service."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from onward.contacts.fields import ContactField
from onward.contract import RemoteField
from onward.errors import FieldMapError
from onward.fieldmap.bind import bind
from onward.fieldmap.bound import BoundMap
from onward.fieldmap.entry import Entry, parse_entry
from onward.fieldmap.hints import meant


@dataclass(frozen=True)
class FieldMap:
    """A map that was read and understood, not yet held against an account.

    Args:
        source: what it is called in messages: a file or a connection.
        entries: remote field → how it is filled, in the document's order.
    """

    source: str
    entries: Mapping[str, Entry]

    @classmethod
    def parse(cls, document: Mapping[str, object], *, source: str) -> FieldMap:
        """Read `{"fields": {"firstName": "first_name", ...}}`.

        Raises:
            FieldMapError: something in it cannot be understood or is not allowed.
        """
        for key in document:
            if key != "fields":
                raise FieldMapError(
                    f'{source}: "{key}" is not known here{meant(key, ["fields"])};'
                    " a field map has one table, [fields]"
                )
        fields = document.get("fields")
        if not isinstance(fields, Mapping) or not fields:
            raise FieldMapError(
                f"{source}: the map is empty; write [fields] and below it lines such"
                ' as email = "email"'
            )
        lines = cast("Mapping[str, object]", fields)
        return cls(
            source,
            {remote: parse_entry(remote, lines[remote], source) for remote in lines},
        )

    @classmethod
    def loads(cls, text: str, *, source: str) -> FieldMap:
        """Read TOML.

        Raises:
            FieldMapError: it is no TOML, or no field map.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise FieldMapError(
                f"{source}: this is not valid TOML: {error}; correct that line"
            ) from error
        return cls.parse(document, source=source)

    @classmethod
    def load(cls, path: Path) -> FieldMap:
        """Read a TOML file.

        Raises:
            FieldMapError: it cannot be read, or is no field map.
        """
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise FieldMapError(
                f"{path}: the field map cannot be read: {reason};"
                " check the name and the file"
            ) from error
        return cls.loads(text, source=str(path))

    @cached_property
    def version(self) -> str:
        """A short hash of what the map means; order and formatting do not count."""
        plain = json.dumps(self.document, sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:12]

    @property
    def document(self) -> dict[str, object]:
        """The map as plain data, each line in its shortest form."""
        return {"fields": {name: line.document for name, line in self.entries.items()}}

    @property
    def toml(self) -> str:
        """The map as a TOML document, for an editor."""
        lines = [
            f"{_quoted(name, bare=True)} = {_toml(line.document)}"
            for name, line in self.entries.items()
        ]
        return "\n".join(["[fields]", *lines, ""])

    def sources(self) -> frozenset[str]:
        """Return the contact fields a push reads, and `event` if it does."""
        pushed = (line for line in self.entries.values() if line.direction != "pull")
        return frozenset[str]().union(*(line.names for line in pushed))

    def bind(
        self,
        remote_fields: Sequence[RemoteField],
        contact_fields: Mapping[str, ContactField],
    ) -> BoundMap:
        """Hold the map against an account, before anything is sent.

        Args:
            remote_fields: every field the account has.
            contact_fields: every field a contact has: standard, derived, custom.

        Raises:
            FieldMapError: it names a field that is not there, misses a required
                one, or joins types that have no converter.
        """
        return bind(
            self.source, self.version, self.entries, remote_fields, contact_fields
        )


def _toml(value: str | dict[str, str]) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return "{ " + ", ".join(f"{k} = {_quoted(v)}" for k, v in value.items()) + " }"


def _quoted(text: str, *, bare: bool = False) -> str:
    """Return a TOML string, or a bare key where that is enough."""
    if bare and text and all(c.isascii() and (c.isalnum() or c in "_-") for c in text):
        return text
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
