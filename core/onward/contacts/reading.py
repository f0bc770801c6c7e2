"""Contacts out of CSV files and JSON lines, one at a time, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal, cast

import orjson

from onward.contacts.fields import ContactField
from onward.contacts.given import (
    BadLine,
    ContactData,
    ContactLine,
    bad_line,
    make_line,
)
from onward.contacts.headers import IDENTITY, KNOWN, NESTED, Columns, Target, plain
from onward.contacts.textfile import (
    MAX_LINE,
    Lines,
    RecordTooLong,
    TextFile,
    look_at,
)
from onward.contacts.values import clean_email, shown, unprotect
from onward.errors import InputError

__all__ = [
    "BadLine",
    "ContactData",
    "ContactFile",
    "ContactLine",
    "CsvFile",
    "JsonFile",
    "open_contacts",
]

Format = Literal["auto", "csv", "jsonl"]

DELIMITERS = ",;\t|"
SAMPLE = 100  # JSON objects looked at for their keys before anything is taken
MAX_ARRAY = 16_000_000  # bytes of a JSON array that is read at once
MAX_KEYS = 1_000  # different JSON keys that are told apart and reported


def open_contacts(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    custom_fields: Mapping[str, ContactField] = MappingProxyType({}),
    format: Format = "auto",
) -> ContactFile:
    """Look at a file of contacts and get ready to read it.

    CSV may be separated by comma, semicolon, tab or bar and needs a first
    line of column names. JSON has one object per line; an array is taken too,
    with one object per line in any size, else up to 16 MB.

    Args:
        path: of the file, which is read from its start by every iteration.
        mapping: header → contact field, `name:type` for a custom field,
            `identity:KIND`, or "" or "-" to ignore the column. It wins over
            what Onward knows about headers.
        custom_fields: declared ones, by name.
        format: `auto` looks at the first characters.

    Raises:
        InputError: a file of the wrong kind, one without any column that
            tells who a contact is, or a mapping that does not fit it.
    """
    file = look_at(path)
    start = file.head.lstrip("\ufeff \t\r\n")
    array = start[:1] == "[" and start[1:].lstrip()[:1] in ("{", "]")
    if format == "auto":
        format = "jsonl" if array or start[:1] == "{" else "csv"
    maker = JsonFile if format == "jsonl" else CsvFile
    return maker(file, mapping or {}, custom_fields)


class ContactFile:
    """A file of contacts; each iteration reads it from its start.

    Attributes:
        columns: header → contact field, None when ignored. For JSON, keys
            that first occur further down are added while reading.
        ignored: headers nobody takes → what was probably meant, or why.
        notes: sentences about the file and its columns, for the report.
        new_fields: custom fields that the mapping declares.
        encoding: as Python names it.
        size: bytes of the file.
    """

    def __init__(self, file: TextFile, columns: Columns) -> None:
        self.path = file.path
        self.encoding = file.encoding.removesuffix("-sig")
        self.size = file.size
        self.columns = columns.columns
        self.ignored = columns.ignored
        self.notes = columns.notes
        if file.remark:
            self.notes.insert(0, file.remark)
        self.new_fields = columns.new_fields
        self._file = file
        self._columns = columns
        self._stream: BinaryIO | None = None
        self._position = 0

    @property
    def position(self) -> int:
        """Bytes read so far, a little ahead of the line given last."""
        stream = self._stream
        return self._position if stream is None else stream.tell()

    def __iter__(self) -> Iterator[ContactLine | BadLine]:
        with self._file.open() as stream:
            self._stream = stream.buffer
            try:
                yield from self._read(Lines(stream))
            finally:
                self._position = stream.buffer.tell()
                self._stream = None

    def _read(self, lines: Lines) -> Iterator[ContactLine | BadLine]:
        raise NotImplementedError


def _damage(file: TextFile, taken: Iterable[str]) -> str:
    """Return why these lines cannot be read as text, "" when they can."""
    for line in taken:
        if "\0" in line:
            return "it contains NUL bytes"
        if not file.whole and "\ufffd" in line:
            return f"it contains bytes that are not {file.encoding}"
    return ""


def _recognises(targets: Iterable[Target | None]) -> bool:
    return any(target.recognises for target in targets if target)


def _nobody(file: TextFile, columns: Columns, what: str) -> InputError:
    names = ", ".join(shown(name) for name in islice(columns.columns, 30) if name)
    return InputError(
        f"{file.path.name} has no {what} with e-mail addresses or another identity, "
        f"so nobody in it can be recognised; map one of them to email: {names}"
    )


# What Python's csv module says → what a person can do something with.
_CSV_ERRORS = {
    "field larger": "a cell is longer than 131,072 characters",
    "unexpected end": "a quotation mark is opened and never closed",
    "expected after": "text follows a closing quotation mark; one inside a value is "
    'written twice ("")',
}


def _why_broken(error: Exception) -> str:
    if isinstance(error, RecordTooLong):
        return "it does not end; a quotation mark is probably not closed"
    said = str(error)
    for part, sentence in _CSV_ERRORS.items():
        if part in said:
            return sentence
    return f"it is not CSV ({said})"


def _next_filled(lines: Lines) -> str:
    """Return the next line that is not blank, "" at the end."""
    while True:
        lines.begin()
        line = next(lines, "")
        if not line or line.strip():
            return line


def _sniff(line: str, mapping: Iterable[str]) -> str:
    """Return the delimiter that makes the most known headers, then columns."""
    known = {*KNOWN, *map(plain, mapping)}
    best, found = (0, 0), ","
    for delimiter in DELIMITERS:
        try:
            cells = next(csv.reader([line], delimiter=delimiter), list[str]())
        except csv.Error:
            continue
        score = (sum(plain(cell) in known for cell in cells), len(cells))
        if score > best:
            best, found = score, delimiter
    return found


def _is_email(text: str) -> bool:
    try:
        return "@" in text and bool(clean_email(text))
    except InputError:
        return False


class CsvFile(ContactFile):
    """A CSV file of contacts; see `open_contacts`."""

    def __init__(
        self,
        file: TextFile,
        mapping: Mapping[str, str],
        custom_fields: Mapping[str, ContactField],
    ) -> None:
        with file.open() as stream:
            lines = Lines(stream)
            headers = self._read_header(file, lines, mapping)
            self._before = lines.number  # lines up to the first contact
        columns = Columns(headers, mapping, custom_fields)
        targets = [columns.add(header) for header in headers]
        columns.check_mapping()
        if not _recognises(targets):
            raise _nobody(file, columns, "column")
        super().__init__(file, columns)
        self._width = len(headers)
        self._plan = [
            (place, header, target)
            for place, (header, target) in enumerate(zip(headers, targets, strict=True))
            if target
        ]

    def _read_header(
        self, file: TextFile, lines: Lines, mapping: Mapping[str, str]
    ) -> list[str]:
        """Read up to and including the line of column names.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        try:
            first = _next_filled(lines)
            if first[:4].lower() == "sep=" and first[4:5] in tuple(DELIMITERS):
                self.delimiter = first[4]  # Excel's own first line
                first = _next_filled(lines)
            else:
                self.delimiter = _sniff(first, mapping)
            cells = next(self._reader(chain([first], lines)), list[str]())
        except (csv.Error, RecordTooLong) as error:
            raise InputError(
                f"the first line of {file.path.name} cannot be read as column "
                f"names: {_why_broken(error)}"
            ) from error
        headers = [unprotect(cell.strip("\ufeff \t\r\n")) for cell in cells]
        if any(map(_is_email, headers)):
            raise InputError(
                f"the first line of {file.path.name} holds a contact, not column "
                "names; add a first line such as email,first_name,last_name"
            )
        return headers

    def _reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        # Strict: a quotation mark in a wrong place ends the record instead of
        # swallowing what follows.
        return csv.reader(
            lines, delimiter=self.delimiter, strict=True, skipinitialspace=True
        )

    def _read(self, lines: Lines) -> Iterator[ContactLine | BadLine]:
        for _ in range(self._before):
            lines.begin()
            next(lines, "")
        reader = self._reader(lines)
        width = self._width
        while True:
            lines.begin()
            number = lines.number + 1
            try:
                cells = next(reader, None)
            except (csv.Error, RecordTooLong) as error:
                # Resynchronise: only the first line is given up; those that a
                # stray quotation mark swallowed are read again.
                lines.give_back()
                yield bad_line(number, _why_broken(error), lines.taken[0])
                continue
            if cells is None:
                return
            if not "".join(cells).strip():
                continue
            # Blank cells too many are what spreadsheets leave behind.
            if len(cells) != width and (
                len(cells) < width or any(cell.strip() for cell in cells[width:])
            ):
                lines.give_back()  # a stray quotation mark, probably
                why = f"it has {len(cells)} cells, the first line {width}"
                yield bad_line(number, why, lines.taken[0])
                continue
            yield self._contact(number, cells, lines.taken)

    def _contact(
        self, number: int, cells: Sequence[str], taken: Sequence[str]
    ) -> ContactLine | BadLine:
        if why := _damage(self._file, taken):
            return bad_line(number, why, taken[0])
        given = [
            (header, target, raw if raw[0] != "'" else unprotect(raw))
            for place, header, target in self._plan
            if (raw := cells[place])
        ]
        return make_line(number, given, taken[0])


def _object(text: str) -> Mapping[str, object] | str:
    """Return a JSON object, or why it is none."""
    try:
        loaded: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"it is not JSON ({error})"
    return _as_object(loaded)


def _as_object(loaded: object) -> Mapping[str, object] | str:
    if isinstance(loaded, dict):
        return cast("Mapping[str, object]", loaded)
    return "it is no JSON object"


class JsonFile(ContactFile):
    """JSON objects, one a line, or in an array; see `open_contacts`.

    In an array that is read at once, a contact's `number` is its place there.
    """

    def __init__(
        self,
        file: TextFile,
        mapping: Mapping[str, str],
        custom_fields: Mapping[str, ContactField],
    ) -> None:
        self._targets: dict[str, Target | None] = {}
        self._file = file
        with file.open() as stream:
            lines = Lines(stream)
            first, second = (_peek(lines) for _ in range(2))
            self._array = first[:1] == "["
            self._at_once = self._array and not (
                first == "[" and (second == "]" or not isinstance(_object(second), str))
            )
        if self._at_once and file.size > MAX_ARRAY:
            raise InputError(
                f"{file.path.name} is one JSON array of {file.size:,} bytes; write "
                "one object per line (JSON lines)"
            )
        with file.open() as stream:
            sample = [item for *_, item in islice(self._items(Lines(stream)), SAMPLE)]
        objects = [item for item in sample if not isinstance(item, str)]
        if sample and not objects:
            raise InputError(
                f"{file.path.name} is not JSON lines: {sample[0]}; write one object "
                "per line"
            )
        keys = dict.fromkeys(key for item in objects for key, _ in _flat(item))
        columns = Columns(keys, mapping, custom_fields)
        super().__init__(file, columns)
        for key in keys:
            self._target(key)
        if objects and not _recognises(self._targets.values()):
            raise _nobody(file, columns, "key")
        try:
            columns.check_mapping()
        except InputError as error:  # it may yet occur further down
            self.notes.append(error.message)

    def _items(
        self, lines: Lines
    ) -> Iterator[tuple[int, str, Mapping[str, object] | str]]:
        """Give each object with its line and text, or why there is none."""
        if self._at_once:
            yield from self._whole()
            return
        while True:
            lines.begin()
            number = lines.number + 1
            try:
                line = next(lines, None)
            except RecordTooLong:
                yield (
                    number,
                    lines.taken[0],
                    f"it is longer than {MAX_LINE:,} characters",
                )
                continue
            if line is None:
                return
            text = line.strip("\ufeff \t\r\n")
            if self._array:
                text = "" if text in ("[", "]") else text.removesuffix(",")
            if text:
                yield number, text, _damage(self._file, lines.taken) or _object(text)

    def _whole(self) -> Iterator[tuple[int, str, Mapping[str, object] | str]]:
        with self._file.open() as stream:
            text = stream.read()
        try:
            loaded: object = orjson.loads(text.strip("\ufeff \t\r\n"))
        except orjson.JSONDecodeError as error:
            raise InputError(
                f"{self._file.path.name} is not JSON ({error}); export it again"
            ) from error
        items = cast("list[object]", loaded) if isinstance(loaded, list) else []
        for number, item in enumerate(items, 1):
            yield number, shown(item), _as_object(item)

    def _read(self, lines: Lines) -> Iterator[ContactLine | BadLine]:
        for number, text, item in self._items(lines):
            if isinstance(item, str):
                yield bad_line(number, item, text)
                continue
            given = (
                (key, target, raw)
                for key, raw in _flat(item)
                if (target := self._target(key)) and raw is not None
            )
            yield make_line(number, given, text)

    def _target(self, key: str) -> Target | None:
        if key not in self._targets:
            if len(self._targets) >= MAX_KEYS:
                return None
            self._targets[key] = self._columns.add(key)
        return self._targets[key]


def _peek(lines: Lines) -> str:
    try:
        return _next_filled(lines).strip("\ufeff \t\r\n").removesuffix(",")
    except RecordTooLong:
        return lines.taken[0]


def _flat(item: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Give key and value, those of `custom` and `identities` one by one."""
    for key, raw in item.items():
        prefix = {"custom": NESTED, "identities": IDENTITY}.get(key)
        if prefix and isinstance(raw, dict):
            for name, value in cast("Mapping[str, object]", raw).items():
                yield f"{prefix}{name}", value
        else:
            yield key, raw
