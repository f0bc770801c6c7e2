"""What kind of file this is, in which encoding, and its lines, each bounded."""

from __future__ import annotations

import codecs
import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from onward.errors import InputError

HEAD = 64 * 1024
MAX_LINE = 1_000_000
MAX_RECORD_LINES = 200

_AS_CSV = 'open it and save it as "CSV UTF-8"'
_AS_LATIN = "onward-latin"
_UNPACK = "unpack it and import the CSV file inside"

# First bytes → what the file is, and what to do with it.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive", f"{_AS_CSV}, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", _AS_CSV),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"%PDF", "a PDF document", "export the contacts as CSV"),
    (b"SQLite format 3", "a database", "export the contacts as CSV"),
    (b"BEGIN:VCARD", "a vCard file", "export the contacts as CSV"),
    (b"<", "a web page or XML", "export the contacts as CSV, do not save the page"),
)

_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1a\x1b"))


class RecordTooLong(Exception):
    """A line, or the lines of one record, go on for longer than a contact can."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that was looked through once.

    Args:
        encoding: as Python names it.
        whole: every byte of it makes sense in that encoding.
        size: in bytes.
        head: its first characters.
        errors: what becomes of bytes that make no sense in it.
        remark: a sentence about what had to be guessed, "" for nothing.
    """

    path: Path
    encoding: str
    whole: bool
    size: int
    head: str
    errors: str = "replace"
    remark: str = ""

    def open(self) -> TextIO:
        """Open it; bytes that make no sense become U+FFFD, or Latin-1."""
        # newline="": the CSV reader must see \r and \n inside quotes as they are.
        return self.path.open(encoding=self.encoding, errors=self.errors, newline="")


def look_at(path: Path) -> TextFile:
    """Find out how a file is to be read.

    Without a byte order mark it is UTF-8 when more of its lines with letters
    beyond ASCII are valid UTF-8 than are not, and cp1252 when none is. Between
    the two, each letter is taken for what it is. The whole file is read for
    that once: the first such letter may stand in the last line.

    Raises:
        InputError: missing, empty, or no text file.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(HEAD)
            encoding, errors, remark = _encoding_of(stream, start)
            size = stream.seek(0, io.SEEK_END)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); check the name"
        ) from error
    for magic, what, todo in _MAGIC:
        if start.lstrip(b" \t\r\n" + codecs.BOM_UTF8).startswith(magic):
            raise InputError(f"{path.name} is {what}, not CSV or JSON lines; {todo}")
    head = start.decode(encoding, errors=errors or "replace")
    if not head.strip():
        raise InputError(
            f"{path.name} is empty; export the contacts again, with a first line "
            "that names the columns"
        )
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if not encoding.startswith(("utf-16", "utf-32")) and controls * 20 > len(start):
        raise InputError(
            f"{path.name} is no text file; export the contacts as CSV, in UTF-8"
        )
    whole = not errors
    return TextFile(path, encoding, whole, size, head, errors or "replace", remark)


def _encoding_of(stream: io.BufferedIOBase, start: bytes) -> tuple[str, str, str]:
    """Return the encoding, what to do with what is not valid in it, and a remark.

    Nothing is to be done when all of the file is valid.
    """
    marked = (encoding for mark, encoding in _MARKS if start.startswith(mark))
    encoding = next(marked, "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        decoder.decode(start)
        while chunk := stream.read(1 << 20):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        stream.seek(0)
        if encoding == "utf-8":
            return _without_mark(stream)
        return encoding, "replace", ""
    return encoding, "", ""


def _without_mark(stream: io.BufferedIOBase) -> tuple[str, str, str]:
    """Tell what a file is that is not all UTF-8, by its lines beyond ASCII."""
    utf8 = other = 0
    while line := stream.readline(MAX_LINE):
        if not line.isascii():
            try:
                line.decode()
            except UnicodeDecodeError:
                other += 1
            else:
                utf8 += 1
    if utf8 > other:
        return "utf-8", "replace", ""
    if utf8:
        return (
            "utf-8",
            _AS_LATIN,
            (
                f"{utf8:,} lines are UTF-8 and {other:,} are not; those were read as "
                "Latin-1 (Windows-1252)"
            ),
        )
    return (
        "cp1252",
        "replace",
        (
            "it is not UTF-8 and was read as Latin-1 (Windows-1252); if letters look "
            f"odd, {_AS_CSV}"
        ),
    )


def _latin(error: UnicodeError) -> tuple[str, int]:
    """Read the bytes that are not UTF-8 as cp1252; a decoder's error handler."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return wrong.decode("cp1252", errors="replace"), error.end


codecs.register_error(_AS_LATIN, _latin)


class Lines:
    """The lines of an open file, which can be given back.

    Attributes:
        number: of the line given last, from 1.
        taken: lines given since `begin`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._readline = stream.readline
        self._back: deque[str] = deque()
        self._cut = ""  # the last line whose rest was passed over
        self.number = 0
        self.taken: list[str] = []

    def begin(self) -> None:
        """Start a record at the next line."""
        self.taken = []

    def give_back(self) -> None:
        """Take only the first line of this record for used."""
        rest = self.taken[1:]
        self._back.extendleft(reversed(rest))
        self.number -= len(rest)
        del self.taken[1:]

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else self._readline(MAX_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        if len(self.taken) > MAX_RECORD_LINES:
            raise RecordTooLong
        if len(line) == MAX_LINE and line[-1] not in "\r\n":
            if line is not self._cut:  # given back, it is met here a second time
                self._cut = line
                while (rest := self._readline(MAX_LINE)) and rest[-1] not in "\r\n":
                    pass
            raise RecordTooLong
        return line
