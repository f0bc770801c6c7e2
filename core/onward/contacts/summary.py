"""What an import did."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onward.contacts.values import protect

KEPT = 1_000  # refused lines kept with their reason; all are counted


@dataclass(slots=True)
class ImportSummary:
    """What an import did, so far or in all.

    Args:
        taken: lines that are in; each is created, changed or unchanged.
        created: new contacts. In a dry run somebody who occurs again far down
            the file counts twice.
        merged: contacts that turned out to be one with another.
        problems: (line, reason, text) of the first thousand refused lines.
        report_id: of the row that keeps all this; 0 for a dry run.
        columns: header → contact field, None when ignored.
        ignored: header → what was probably meant, or why.
        notes: sentences about the file and its columns.
    """

    taken: int = 0
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    merged: int = 0
    problems: list[tuple[int, str, str]] = field(
        default_factory=list[tuple[int, str, str]]
    )
    report_id: int = 0
    columns: dict[str, str | None] = field(default_factory=dict[str, str | None])
    ignored: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])
    encoding: str = ""
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """The sums, for a table."""
        return {
            "taken": self.taken,
            "created": self.created,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "refused": self.refused,
            "merged": self.merged,
        }

    @property
    def exit_code(self) -> int:
        """0: every line was taken; 1: some were refused; 2: none was taken."""
        if not self.taken:
            return 2
        return 1 if self.refused else 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    def write_refused(self, path: Path) -> int:
        """Write the refused lines as CSV (line, reason, text); return how many."""
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\r\n")
            writer.writerow(("line", "reason", "text"))
            for number, reason, text in self.problems:
                writer.writerow((number, protect(reason), protect(text)))
        return len(self.problems)
