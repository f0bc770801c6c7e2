"""Import a file of contacts, in whole batches, with a report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection as Transaction
from sqlalchemy import bindparam, insert, update

from onward.contacts.declared import custom_fields, declare_fields
from onward.contacts.given import BadLine, ContactData, ContactLine
from onward.contacts.permissions import Permissions, without_erased
from onward.contacts.reading import ContactFile, Format, open_contacts
from onward.contacts.summary import KEPT, ImportSummary
from onward.errors import InputError
from onward.events.announce import announce_recorded
from onward.events.record import Action, Recorded, Recorder
from onward.events.rulebook import RuleBook
from onward.failpoints import failpoint
from onward.models import ImportReport, table
from onward.runtime import Runtime
from onward.waking import wake

reports = table(ImportReport)

IMPORTED = "contact.imported"
BATCH = 500  # lines per transaction: a writer never waits long

_START = insert(reports).returning(reports.c.id)
_COUNT = (
    update(reports)
    .where(reports.c.id == bindparam("of"))
    .values(counts=bindparam("sums", type_=reports.c.counts.type))
)
_FINISH = (
    update(reports)
    .where(reports.c.id == bindparam("of"))
    .values(
        finished_at=bindparam("moment"),
        problems=bindparam("refusals", type_=reports.c.problems.type),
    )
)
__all__ = ["ImportSummary", "import_contacts"]

OnProgress = Callable[[int, int, "ImportSummary"], None]


def import_contacts(
    runtime: Runtime,
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    format: Format = "auto",
    fire: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
    source: str = "",
) -> ImportSummary:
    """Take the contacts of a CSV or JSON-lines file, each line whole or not at all.

    Lines are committed 500 at a time, so an import that is killed leaves whole
    batches; to run it again has no further effect on what is in already. The
    same person may occur several times: the later line wins field by field,
    and blanks never erase. Points are set, not added. Nothing is pushed and no
    rule or trigger runs, unless `fire`.

    Args:
        mapping: header → contact field, `name:type` for a new custom field; see
            `open_contacts`. Consent is taken only from a column mapped to it.
        fire: record an action `contact.imported` per line, besides
            `contact.created` and `contact.updated`, for rules and triggers. A
            line fires once, however often the same file is imported.
        dry_run: do everything and keep nothing.
        on_progress: called after each batch with bytes done, bytes in all, and
            the summary so far.
        source: what the import is called in reports; the file's name if "".

    Raises:
        InputError: the file, or the mapping, cannot be used.
    """
    started = time.monotonic()
    known = dict(custom_fields(runtime))
    file = open_contacts(path, mapping=mapping, custom_fields=known, format=format)
    work = _Import(runtime, file, mapping or {}, source or path.name, fire=fire)
    work.dry_run = dry_run
    summary = work.summary
    try:
        work.start()
        batch: list[ContactLine] = []
        for read, line in enumerate(file, 1):
            if isinstance(line, BadLine):
                work.refuse(line)
            else:
                batch.append(line)
            if len(batch) >= BATCH or read % (10 * BATCH) == 0:
                work.take(batch)
                batch = []
                summary.seconds = time.monotonic() - started
                if on_progress is not None:
                    on_progress(file.position, file.size, summary)
        work.take(batch)
    finally:
        summary.seconds = time.monotonic() - started
        work.finish()
    if on_progress is not None:
        on_progress(file.size, file.size, summary)
    return summary


class _DryRun(Exception):
    """Takes a batch back that was only tried."""


class _Import:
    def __init__(
        self,
        runtime: Runtime,
        file: ContactFile,
        mapping: Mapping[str, str],
        name: str,
        *,
        fire: bool,
    ) -> None:
        self.runtime = runtime
        self.file = file
        self.name = name
        self.dry_run = False
        config = runtime.config
        book = RuleBook.of(config.rules, config.point_triggers, config.audiences)
        self.recorder = Recorder(book)
        self.fire = fire
        self.digest = _digest(file.path) if fire else ""
        # A header that happens to say "consent" lifts nobody's opt-out.
        takes_consent = any(to.strip() == "consent" for to in mapping.values())
        self.permissions = Permissions(
            name, takes_consent=takes_consent, plugins=runtime.plugins
        )
        self.summary = ImportSummary(
            columns=file.columns,
            ignored=file.ignored,
            notes=file.notes,
            encoding=file.encoding,
        )
        if not takes_consent:
            self._leave_consent_out()

    def _leave_consent_out(self) -> None:
        for header, to in self.file.columns.items():
            if to == "consent":
                self.file.columns[header] = None
                self.file.ignored[header] = (
                    "consent lifts opt-outs, so it is taken only when this column is "
                    "mapped to consent"
                )

    def start(self) -> None:
        """Open the report and declare the fields that the mapping adds."""
        if self.dry_run:
            return

        def work(transaction: Transaction) -> int:
            declare_fields(transaction, self.file.new_fields.values())
            row: dict[str, object] = {
                "source": self.name,
                "started_at": self.runtime.clock(),
                "counts": {},
                "problems": [],
            }
            return int(transaction.execute(_START, row).scalar_one())

        self.summary.report_id = self.runtime.database.run(work)

    def finish(self) -> None:
        """Close the report, also of an import that broke off."""
        if not self.summary.report_id:
            return

        def work(transaction: Transaction) -> None:
            self._count(transaction, self.summary.counts)
            transaction.execute(
                _FINISH,
                {
                    "of": self.summary.report_id,
                    "moment": self.runtime.clock(),
                    "refusals": without_erased(transaction, self.summary.problems),
                },
            )

        self.runtime.database.run(work)

    def _count(self, transaction: Transaction, counts: Mapping[str, int]) -> None:
        row = {"of": self.summary.report_id, "sums": dict(counts)}
        transaction.execute(_COUNT, row)

    def refuse(self, line: BadLine) -> None:
        """Count a line that is not taken."""
        self.summary.refused += 1
        if len(self.summary.problems) < KEPT:
            self.summary.problems.append((line.number, line.reason, line.text))

    def take(self, batch: Sequence[ContactLine]) -> None:
        """Write up to 500 lines in one transaction."""
        if not batch:
            return
        before = self.summary.counts
        made: list[tuple[Recorded, dict[str, int], list[BadLine]]] = []

        def work(transaction: Transaction) -> None:
            made.clear()
            recorded, counts, erased = self._write(transaction, batch)
            sums = {name: before[name] + counts.get(name, 0) for name in before}
            made.append((recorded, sums, erased))
            if self.dry_run:
                raise _DryRun
            self._count(transaction, sums)

        with suppress(_DryRun):
            self.runtime.database.run(work)
        failpoint("after_import_batch")
        [(recorded, sums, erased)] = made
        for name, total in sums.items():
            setattr(self.summary, name, total)
        for line in erased:
            self.refuse(line)
        if not self.dry_run:
            wake(self.runtime, {wish.connection_id for wish in recorded.queued})
            announce_recorded(self.runtime, recorded)

    def _write(
        self, transaction: Transaction, batch: Sequence[ContactLine]
    ) -> tuple[Recorded, dict[str, int], list[BadLine]]:
        now = self.runtime.clock()
        batch, erased = self.permissions.bring_back(transaction, batch, now)
        recorded = self.recorder.record(transaction, self._actions(batch), now)
        # With `fire` each line is two actions: the contact, then the event.
        results = recorded.results[:: 2 if self.fire else 1]
        ids = [result.contact_id for result in results]
        touched = {*recorded.changed, *recorded.touched}
        touched |= {contact_id for contact_id, delta, _ in recorded.points if delta}
        touched |= self.permissions.take(transaction, batch, ids, now)
        created = sum(result.created for result in results)
        changed = 0
        told = {result.contact_id for result in results if result.created}
        for contact_id in ids:
            if contact_id in touched and contact_id not in told:
                told.add(contact_id)
                changed += 1
        counts = {
            "taken": len(batch),
            "created": created,
            "changed": changed,
            "unchanged": len(batch) - created - changed,
            "merged": len(recorded.merged),
        }
        return recorded, counts, erased

    def _actions(self, batch: Sequence[ContactLine]) -> list[Action]:
        actor = f"import {self.name}"
        if not self.fire:
            return [
                Action("", line.contact, source="import", actor=actor, quiet=True)
                for line in batch
            ]
        actions: list[Action] = []
        for line in batch:
            given = line.contact
            actions.append(Action("", given, source="import", actor=actor))
            actions.append(
                Action(
                    IMPORTED,
                    ContactData(email=given.email, identities=given.identities),
                    {"file": self.name, "line": line.number},
                    key=f"{self.digest}:{line.number}",
                    source="import",
                    actor=actor,
                )
            )
        return actions


def _digest(path: Path) -> str:
    """Return what tells one file's content from another's."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:24]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
