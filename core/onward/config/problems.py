"""Reading a table of unchecked values, and collecting all that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar, cast

from onward.config.lines import KeyPath, line_index, line_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in `onward.toml`.

    Args:
        where: the table or key, as `connections.acme.segment`.
        message: what is wrong and what to do; never holds a secret.
        line: in the file, counted from 1; None when it has none.
        stops: False = only the thing itself cannot be used; all else works.
    """

    where: str
    message: str
    line: int | None = None
    stops: bool = True

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        where = f"{self.where}: " if self.where else ""
        return f"{line}{where}{self.message}"


class Problems:
    """Collects problems by their place; finds the lines when asked for them."""

    def __init__(self) -> None:
        self._found: list[tuple[KeyPath, Problem]] = []

    def add(
        self,
        path: KeyPath,
        message: str,
        *,
        where: str | None = None,
        stops: bool = True,
    ) -> None:
        """Note a problem of the value at `path`, which is shown as `where`."""
        shown = ".".join(map(str, path)) if where is None else where
        self._found.append((path, Problem(shown, message, stops=stops)))

    def listed(self, text: str) -> list[Problem]:
        """Return all problems, each with its line in `text`, in the file's order."""
        if not self._found:
            return []
        lines = line_index(text)
        placed = [
            Problem(p.where, p.message, line_of(path, lines), p.stops)
            for path, p in self._found
        ]
        return sorted(placed, key=lambda p: p.line or 0)


class Table:
    """One table of the file: reads its keys, then reports those nobody read.

    Args:
        path: the keys and indexes that lead to it.
        where: what people call it; the path when empty.
    """

    def __init__(
        self,
        values: dict[str, object],
        path: KeyPath,
        problems: Problems,
        where: str = "",
    ) -> None:
        self._values = values
        self._read: set[str] = set()
        self.path = path
        self.problems = problems
        self.where = where or ".".join(map(str, path))

    def read(self, key: str, default: T, parse: Callable[[object], T]) -> T:
        """Return the parsed value; the default when absent or wrong.

        `parse` raises ValueError with the rest of the sentence "KEY: …".
        """
        self._read.add(key)
        if key not in self._values:
            return default
        try:
            return parse(self._values[key])
        except ValueError as error:
            self.add(key, str(error))
            return default

    def need(self, key: str, default: T, parse: Callable[[object], T]) -> T:
        """Read a key that must be there."""
        if key not in self._values:
            self._read.add(key)
            self.problems.add(self.path, f'"{key}" is missing', where=self.where)
            return default
        return self.read(key, default, parse)

    def one_of(self, key: str, words: Sequence[T]) -> T:
        """Read a key that takes one of these words, the first when absent."""

        def parse(value: object) -> T:
            for word in words:
                if value == word:
                    return word
            raise ValueError("must be " + " or ".join(f'"{word}"' for word in words))

        return self.read(key, words[0], parse)

    def has(self, key: str) -> bool:
        """Tell whether the file gives this key."""
        return key in self._values

    def raw(self, key: str) -> object:
        """Return a value as the file has it; None when absent."""
        return self._values.get(key)

    def given(self) -> list[str]:
        """Return the keys the file gives."""
        return list(self._values)

    def add(self, key: str, message: str, *, stops: bool = True) -> None:
        """Note a problem of one key's value."""
        where = f"{self.where}.{key}" if self.where else key
        self.problems.add((*self.path, key), message, where=where, stops=stops)

    def table(self, key: str) -> Table | None:
        """Return the table under a key; None when absent or something else."""
        values = self.read(key, None, as_table)
        if values is None:
            return None
        where = f"{self.where}.{key}" if self.where else key
        return Table(values, (*self.path, key), self.problems, where)

    def tables(self, key: str) -> list[Table]:
        """Return the tables under `[[key]]`, in order."""
        rows = self.read(key, list[dict[str, object]](), as_tables)
        return [
            Table(row, (*self.path, key, index), self.problems, f"{key}[{index + 1}]")
            for index, row in enumerate(rows)
        ]

    def finish(self, hint: str = "") -> None:
        """Report the keys nobody read.

        Args:
            hint: advice for a key that resembles no known one.
        """
        for key in self._values:
            if key not in self._read:
                advice = did_you_mean(key, self._read) or hint
                self.problems.add(
                    (*self.path, key), f'"{key}" is not known{advice}', where=self.where
                )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "…"?`, or nothing when nothing is near."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), sorted(names), n=1)
    return f'; did you mean "{names[near[0]]}"?' if near else ""


def as_table(value: object) -> dict[str, object]:
    """Return a table."""
    if not isinstance(value, dict):
        raise ValueError("must be a table")  # noqa: TRY004 - read() takes one kind
    return cast("dict[str, object]", value)


def as_tables(value: object) -> list[dict[str, object]]:
    """Return a list of tables."""
    if not isinstance(value, list):
        raise ValueError(  # noqa: TRY004
            "must be a list of tables, each under a header in double brackets"
        )
    return [as_table(row) for row in cast("list[object]", value)]
