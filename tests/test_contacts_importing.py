"""Importing files: whole lines, whole batches, and a repeat without effect."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from sqlalchemy import func, select

from onward import (
    Account,
    Api,
    InputError,
    Integration,
    Outcome,
    RemoteField,
    RemoteSegment,
    signals,
)
from onward.contacts.importing import ImportSummary, import_contacts
from onward.models import Event, ImportReport, Ledger, Push, table
from onward.testing.app import TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

EXAMPLE = Path(__file__).parents[1] / "examples" / "contacts.csv"

events = table(Event)
ledger = table(Ledger)
pushes = table(Push)
reports = table(ImportReport)

CONFIG = """
[connections.acme]
integration = "acme"

[[rules]]
key = "imported"
when = "contact.imported"
push_to = ["acme"]
points = 5

[[rules]]
key = "new"
when = "contact.created"
add_to = ["New"]

[[point_triggers]]
key = "hot"
name = "Hot"
points = 100
push_to = ["acme"]
"""


class Acme(Integration):
    """A service nobody calls here."""

    key, title = "acme", "Acme Mail"
    hosts = ("api.acme.example",)
    default_map: ClassVar = {"email": "email"}

    def verify(self, api: Api) -> Account:
        """Know the account."""
        return Account("acme/1", "acme/1", "Acme")

    def fields(self, api: Api, segment: RemoteSegment | None) -> list[RemoteField]:
        """Have one field."""
        return [RemoteField("email", required=True)]

    def push(
        self, api: Api, batch: Any, segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Take everything."""
        for item in batch:
            yield item.delivered(f"r-{item.email}")


@pytest.fixture
def app(make_app: MakeApp, database_url: str) -> TestApp:
    """An app on each kind of database, with rules and a trigger."""
    return make_app(CONFIG, integrations=[Acme], database_url=database_url)


Take = Callable[..., ImportSummary]


@pytest.fixture
def take(app: TestApp, tmp_path: Path) -> Take:
    """Write a file and import it."""

    def write_and_import(
        content: str, name: str = "contacts.csv", **options: Any
    ) -> ImportSummary:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return import_contacts(app.runtime, path, **options)

    return write_and_import


def rows(app: TestApp, statement: Any) -> list[Any]:
    """Return what a query finds."""
    with app.runtime.database.read() as transaction:
        return list(transaction.execute(statement).all())


def counts(summary: ImportSummary) -> dict[str, int]:
    """Return the counts that are not zero."""
    return {name: number for name, number in summary.counts.items() if number}


def people(app: TestApp, *names: str) -> list[dict[str, Any]]:
    """Return every contact with some of its fields."""
    return [{name: row[name] for name in names} for row in app.contacts()]


def test_a_file_is_taken_and_a_repeat_has_no_effect(app: TestApp, take: Take) -> None:
    """Every line is in once, however often the file is imported."""
    content = (
        "E-Mail,First Name,points,tags,segments,do not contact,visitor id\n"
        "Ana@Shop.example,Ana,10,a|b,Shop,,v1\n"
        "ben@shop.example,Ben,,,,yes,\n"
        ",Visitor,3,,,,v9\n"
    )

    first = take(content)
    before = list(app.contacts())
    second = take(content)

    assert counts(first) == {"taken": 3, "created": 3}
    assert counts(second) == {"taken": 3, "unchanged": 3}
    assert list(app.contacts()) == before
    assert people(app, "email", "first_name", "points", "tags", "do_not_contact") == [
        {
            "email": "ana@shop.example",
            "first_name": "Ana",
            "points": 10,
            "tags": ["a", "b"],
            "do_not_contact": "",
        },
        {
            "email": "ben@shop.example",
            "first_name": "Ben",
            "points": 0,
            "tags": [],
            "do_not_contact": "manual",
        },
        {
            "email": None,
            "first_name": "Visitor",
            "points": 3,
            "tags": [],
            "do_not_contact": "",
        },
    ]
    assert (first.exit_code, first.encoding, first.columns["E-Mail"]) == (
        0,
        "utf-8",
        "email",
    )


def test_the_same_person_twice_is_one_and_later_words_win(
    app: TestApp, take: Take
) -> None:
    """Field by field the later line wins, in a batch or far apart; blanks erase not."""
    filler = "".join(f"p{n}@shop.example,,\n" for n in range(600))
    summary = take(
        "email,first_name,city\n"
        "ana@shop.example,Ana,Ulm\n"
        "ANA@shop.example,Anna,\n"
        f"{filler}"
        "Ana@Shop.Example,,Köln\n"
    )

    assert counts(summary) == {
        "taken": 603,
        "created": 601,
        "changed": 1,
        "unchanged": 1,
    }
    assert people(app, "email", "first_name", "city")[0] == {
        "email": "ana@shop.example",
        "first_name": "Anna",
        "city": "Köln",
    }


def test_an_import_is_silent_and_its_points_are_set(app: TestApp, take: Take) -> None:
    """No event, rule, trigger or push; the ledger gets the difference."""
    app.add_points(30, email="ana@shop.example")
    before = len(rows(app, select(events)))

    take("email,points\nana@shop.example,150\nben@shop.example,200\n")
    take("email,points\nana@shop.example,150\nben@shop.example,120\n")

    assert people(app, "email", "points", "segments") == [
        {"email": "ana@shop.example", "points": 150, "segments": ["New"]},
        {"email": "ben@shop.example", "points": 120, "segments": []},
    ]
    found = rows(app, select(ledger).order_by(ledger.c.id))
    assert [(row.delta, row.total, row.actor) for row in found] == [
        (30, 30, "api"),
        (120, 150, "import contacts.csv"),
        (200, 200, "import contacts.csv"),
        (-80, 120, "import contacts.csv"),
    ]
    assert len(rows(app, select(events))) == before
    assert app.queued == []


def test_what_an_import_reached_fires_at_the_next_change(
    app: TestApp, take: Take
) -> None:
    """A trigger that an import jumped over fires when points change next."""
    take("email,points\nana@shop.example,150\n")

    result = app.add_points(1, email="ana@shop.example")

    assert result.fired == ("hot",)
    assert [row["email"] for row in app.queued] == ["ana@shop.example"]


def test_an_import_that_fires_does_so_once_per_line(app: TestApp, take: Take) -> None:
    """With fire each line is an action with all that follows; a repeat is none."""
    content = "email,points\nana@shop.example,98\nben@shop.example,0\n"

    first = take(content, fire=True)
    second = take(content, fire=True)

    assert counts(first) == {"taken": 2, "created": 2}
    found = rows(app, select(events.c.action, events.c.data).order_by(events.c.id))
    assert [(row.action, row.data) for row in found] == [
        ("contact.created", {}),
        ("contact.imported", {"file": "contacts.csv", "line": 2}),
        ("contact.created", {}),
        ("contact.imported", {"file": "contacts.csv", "line": 3}),
    ]
    # 98 were set and 5 came from the rule: both together fire the trigger.
    assert [(row["email"], row["causes"]) for row in app.queued] == [
        ("ana@shop.example", [("rule", "imported"), ("trigger", "hot")]),
        ("ben@shop.example", [("rule", "imported")]),
    ]
    assert counts(second)["taken"] == 2
    take(content + "carl@shop.example,1\n", fire=True)
    fired = rows(
        app,
        select(func.count())
        .select_from(events)
        .where(events.c.action == "contact.imported"),
    )
    assert fired[0][0] == 5


def test_visitors_and_people_become_one(app: TestApp, take: Take) -> None:
    """A line that names a visitor and a person merges them, and says so."""
    app.record_action("page.visited", identities={"visitor": "v1"})
    app.upsert_contact({"email": "ana@shop.example"})

    summary = take("email,visitor id,user id\nana@shop.example,v1,7\n")
    again = take("email,visitor id,user id\nana@shop.example,v1,7\n")

    assert counts(summary) == {"taken": 1, "changed": 1, "merged": 1}
    assert counts(again) == {"taken": 1, "unchanged": 1}
    assert people(app, "email", "identities") == [
        {"email": "ana@shop.example", "identities": {"user": "7", "visitor": "v1"}}
    ]


def test_a_mapping_declares_custom_fields_for_good(app: TestApp, take: Take) -> None:
    """A field declared once is typed, checked, and known to the next import."""
    first = take(
        "email,Shoe size,Ignore me\nana@shop.example,38,x\nben@shop.example,big,x\n",
        mapping={"Shoe size": "shoes:number", "Ignore me": ""},
    )
    second = take("email,shoes\nana@shop.example,39\n")

    assert counts(first) == {"taken": 1, "created": 1, "refused": 1}
    assert first.problems == [
        (
            3,
            'column "Shoe size": "big" is no number; one is written as 1234.5',
            "ben@shop.example,big,x",
        )
    ]
    assert first.ignored == {"Ignore me": "the mapping says so"}
    assert second.columns == {"email": "email", "shoes": "shoes"}
    assert people(app, "email", "custom") == [
        {"email": "ana@shop.example", "custom": {"shoes": 39}}
    ]


def test_a_dry_run_counts_and_keeps_nothing(app: TestApp, take: Take) -> None:
    """A dry run says what would be done; no row of it stays."""
    app.upsert_contact({"email": "ana@shop.example", "first_name": "Ana"})
    before = list(app.contacts())
    heard: list[Any] = []

    def hear(sender: object, event: Any) -> None:
        heard.append(event)

    signals.contact_created.connect(hear, sender=app)
    summary = take(
        "email,first_name,size\nana@shop.example,Anna,\nben@shop.example,Ben,4\nx,,\n",
        mapping={"size": "size:number"},
        dry_run=True,
        fire=True,
    )

    assert counts(summary) == {"taken": 2, "created": 1, "changed": 1, "refused": 1}
    assert summary.report_id == 0
    assert list(app.contacts()) == before
    assert rows(app, select(reports)) == rows(app, select(pushes)) == heard == []


def test_progress_is_told_after_each_batch_and_at_the_end(
    app: TestApp, take: Take
) -> None:
    """Bytes done rise to all there are, with the counts so far."""
    told: list[tuple[int, int, int]] = []
    content = "email\n" + "".join(f"p{n}@shop.example\n" for n in range(1_100))

    take(
        content,
        on_progress=lambda done, total, so_far: told.append(
            (done, total, so_far.taken)
        ),
    )

    assert [taken for _, _, taken in told] == [500, 1_000, 1_100]
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][:2] == (len(content), len(content))


def test_receivers_hear_of_imported_contacts(app: TestApp, take: Take) -> None:
    """Facts are announced after the commit, also of a silent import."""
    heard: list[str] = []

    def created(sender: object, event: Any) -> None:
        heard.append(f"created {event.contact_id}")

    def changed(sender: object, event: Any) -> None:
        heard.append(f"changed {event.contact_id} {event.changed}")

    signals.contact_created.connect(created, sender=app)
    signals.contact_changed.connect(changed, sender=app)
    take("email,city\nana@shop.example,Ulm\n")
    take("email,city\nana@shop.example,Bonn\n")

    assert heard == ["created 1", "changed 1 ('city',)"]


def test_a_file_that_cannot_be_used_leaves_nothing(app: TestApp, take: Take) -> None:
    """A file of the wrong kind is refused in a sentence, without a report."""
    with pytest.raises(InputError, match="can be recognised; map one of them"):
        take("first_name,city\nAna,Ulm\n")
    with pytest.raises(InputError, match="a web page"):
        take("<html>", name="contacts.html")

    assert rows(app, select(reports)) == []
    assert counts(take("email\nana@shop.example\n")) == {"taken": 1, "created": 1}


def test_json_lines_are_taken_like_csv(app: TestApp, take: Take) -> None:
    """An object a line, nested fields and lists included."""
    summary = take(
        '{"email": "ana@shop.example", "tags": ["a"], "identities": {"user": "7"}}\n'
        '{"email": "ben"}\n'
        "no json\n",
        name="contacts.jsonl",
    )

    assert counts(summary) == {"taken": 1, "created": 1, "refused": 2}
    assert people(app, "email", "tags", "identities") == [
        {"email": "ana@shop.example", "tags": ["a"], "identities": {"user": "7"}}
    ]


@pytest.mark.parametrize("name", ["tags", "first_name", "email"])
def test_a_line_that_nests_without_end_is_one_bad_line(
    name: str, app: TestApp, take: Take
) -> None:
    """However deep a value is nested, only its own line is refused."""
    deep = "[" * 900 + "]" * 900
    summary = take(
        f'{{"email": "ana@shop.example", "{name}": {deep}}}\n'
        '{"email": "ben@shop.example"}\n',
        name="contacts.jsonl",
    )

    assert counts(summary) == {"taken": 1, "created": 1, "refused": 1}


@pytest.mark.slow
def test_the_example_is_taken_as_its_maker_meant_it(app: TestApp) -> None:
    """Mautic's export is understood; every line is in or refused, twice the same."""
    mapping = {"loyaltytier": "tier:choice", "birthday": "birthday:date"}

    first = import_contacts(app.runtime, EXAMPLE, mapping=mapping)
    second = import_contacts(app.runtime, EXAMPLE, mapping=mapping)

    assert first.taken + first.refused > 2_000
    assert first.created + first.changed + first.unchanged == first.taken
    assert 0 < first.refused < 50
    assert (second.taken, second.created) == (first.taken, 0)
    found = list(app.contacts())
    assert len(found) == first.created - first.merged
    assert len({row["email"] for row in found if row["email"]}) == len(
        [row for row in found if row["email"]]
    )


KILLED = """
import sys
from pathlib import Path
from onward.app import Onward
from onward.contacts.importing import import_contacts
app = Onward.from_config(sys.argv[1])
import_contacts(app.runtime, Path(sys.argv[2]))
app.close()
"""


@pytest.mark.slow
def test_a_killed_import_leaves_whole_batches(
    make_app: MakeApp, sqlite_url: str, tmp_path: Path
) -> None:
    """What was committed is there whole; running it again completes it."""
    config = tmp_path / "onward.toml"
    config.write_text(f'[onward]\ndatabase_url = "{sqlite_url}"')
    path = tmp_path / "contacts.csv"
    path.write_text(
        "email,tags,points\n"
        + "".join(f"p{n}@shop.example,a,{n + 1}\n" for n in range(1_700))
    )

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(config), str(path)],
        env={**os.environ, "ONWARD_FAILPOINT": "after_import_batch:2"},
        check=False,
    )

    assert killed.returncode == -signal.SIGKILL
    app = make_app(database_url=sqlite_url)
    found = list(app.contacts())
    assert len(found) == 1_000
    assert all(row["tags"] == ["a"] and row["points"] for row in found)
    [report] = rows(app, select(reports))
    assert (report.counts["taken"], report.finished_at) == (1_000, None)

    summary = import_contacts(app.runtime, path)

    assert counts(summary) == {"taken": 1_700, "created": 700, "unchanged": 1_000}
    assert rows(app, select(func.count()).select_from(ledger)) == [(1_700,)]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(make_app: MakeApp, tmp_path: Path) -> None:
    """Six times the lines need no more memory."""

    def peak(lines: int) -> int:
        app = make_app(database_url=f"sqlite:///{tmp_path / f'{lines}.db'}")
        path = tmp_path / f"{lines}.csv"
        path.write_text(
            "email,first_name\n"
            + "".join(f"p{n}@shop.example,First {n}\n" for n in range(lines))
        )
        app.runtime  # noqa: B018 - opened before the measuring starts
        gc.collect()
        tracemalloc.start()
        import_contacts(app.runtime, path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(600)  # what is built once

    # Lines that were kept would take about ten times as much.
    assert peak(6_000) < 2 * peak(1_000)
