"""What an import did: counts, the refused lines, the exit status."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from onward.contacts.importing import ImportSummary, import_contacts
from onward.models import ImportReport, table
from onward.testing.app import TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

reports = table(ImportReport)


@pytest.fixture
def app(make_app: MakeApp) -> TestApp:
    """An app in memory."""
    return make_app()


def test_refused_lines_are_counted_kept_and_can_be_written(
    app: TestApp, tmp_path: Path
) -> None:
    """All are counted, a thousand kept, none taken in part, formulas neutralised."""
    bad = "".join(f"=p{n}.example,Bad\n" for n in range(1_200))
    path = tmp_path / "contacts.csv"
    path.write_text(f"email,first_name\nana@shop.example,Ana\n{bad}")

    summary = import_contacts(app.runtime, path)

    assert (summary.taken, summary.refused) == (1, 1_200)
    assert (summary.exit_code, len(summary.problems)) == (1, 1_000)
    assert summary.write_refused(tmp_path / "refused.csv") == 1_000
    with (tmp_path / "refused.csv").open(encoding="utf-8", newline="") as stream:
        header, first, *_ = csv.reader(stream)
    assert header == ["line", "reason", "text"]
    assert first == [
        "3",
        'column "email": "=p0.example" is no e-mail address: it has no @',
        "'=p0.example,Bad",
    ]
    assert len(list(app.contacts())) == 1
    with app.runtime.database.read() as transaction:
        [report] = transaction.execute(select(reports)).all()
    assert (report.counts, len(report.problems)) == (summary.counts, 1_000)
    assert report.source == "contacts.csv"
    assert report.finished_at is not None


def test_the_exit_status_says_how_many_were_taken() -> None:
    """0 when all were, 1 when some were refused, 2 when none was taken."""
    found = [
        ImportSummary(taken=taken, refused=refused).exit_code
        for taken, refused in ((3, 0), (0, 0), (3, 1), (0, 1))
    ]

    assert found == [0, 2, 1, 2]


def test_a_summary_is_json() -> None:
    """Everything in a summary goes into a document, problems included."""
    summary = ImportSummary(taken=2, refused=1, problems=[(3, "why", "text")])

    assert summary.as_dict() | {"columns": None, "ignored": None, "notes": None} == {
        "taken": 2,
        "created": 0,
        "changed": 0,
        "unchanged": 0,
        "refused": 1,
        "merged": 0,
        "problems": [(3, "why", "text")],
        "report_id": 0,
        "columns": None,
        "ignored": None,
        "notes": None,
        "encoding": "",
        "seconds": 0.0,
    }
