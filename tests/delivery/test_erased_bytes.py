"""After an erasure no byte of the person stands in the database, wherever it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, Boolean, insert, select, update
from sqlmodel import SQLModel

from onward import InputError, Outcome, RemoteContact
from onward.alerts.book import Kind, open_alert
from onward.contacts.erased import erased_addresses, erased_when
from onward.contacts.erasing import erase_contact, finish_erasures
from onward.contacts.importing import import_contacts
from onward.contacts.traces import Person, clean_traces, is_text
from onward.delivery.listing import Wanted
from onward.models import (
    AlertMessage,
    Audience,
    Connection,
    Hint,
    Job,
    Memory,
    Push,
    RemoteContactRow,
    Setting,
    SyncRun,
    UTCDateTime,
    table,
)
from onward.replay.job import begin_job
from onward.testing.app import START, TestApp

from .errand_acme import (
    Erasing,
    ErrandService,
    Unsubscribing,
    errands,
    remote_rows,
    states,
)

if TYPE_CHECKING:
    from .conftest import Acme, Connect, Tools

pushes = table(Push)
remote_contacts = table(RemoteContactRow)

MORE = """
[contact_fields]
colour = "text"
[[rules]]
key = "seen"
when = "seen"
points = 1
"""
TRACES = (
    "ana+x@shop.example",
    "anastasia",
    "petrowa",
    "utrecht",
    "0612345678",
    "browser-of-hers",
    "purple",
    "ana@old.example",
)


@pytest.fixture
def service() -> ErrandService:
    """The service, which can erase."""
    return ErrandService()


def number(email: str) -> str:
    """Return the id that a service gives to an address."""
    return str(crc32(email.encode()))


class Numbered(Erasing):
    """Gives people numbers, as most services do."""

    def push(self, api: Any, batch: Any, segment: Any) -> Iterator[Outcome]:
        """Push as Acme does."""
        for outcome in super().push(api, batch, segment):
            email = outcome.remote_id.removeprefix("id-")
            yield replace(outcome, remote_id=number(email))


@pytest.fixture
def spread(
    connect: Connect, database_url: str, tmp_path: Path, tools: Tools
) -> TestApp:
    """An Onward in which Ana is everywhere, and Ben and Diana are as well."""
    app = connect(kind=Numbered, database_url=database_url, more=MORE)
    spread_rows(app, tmp_path)
    return app


def spread_rows(app: TestApp, folder: Path) -> None:
    """Do what leaves traces, and put some where only others leave them."""
    ana: dict[str, Any] = {
        "email": "ana+x@shop.example",
        "first_name": "Anastasia",
        "last_name": "Petrowa",
        "city": "Utrecht",
        "phone": "0612345678",
        "custom": {"colour": "purple-ish"},
        "tags": ["Anastasias-tag"],
    }
    visitor = {"visitor": "browser-of-hers"}
    app.upsert_contact({"email": "ana@old.example", "identities": {"user": "u-7"}})
    app.record_action("seen", identities=visitor, data={"town": "Utrecht"})
    app.upsert_contact({**ana, "identities": {"user": "u-7"}})
    app.record_action("seen", email=ana["email"], identities=visitor, key="Petrowa-1")
    # Longer than what a report keeps: the address itself is cut, or is not in it.
    path = folder / "contacts.csv"
    path.write_text(
        "first_name,last_name,company,points,email\n"
        f"Anastasia,Petrowa,{'x' * 50},many,ana+x@shop.example\n"
        f",,{'x' * 62},many,ana+x@shop.example\n"
        "Ben,Buchholz,,many,ben@shop.example\n"
    )
    import_contacts(app.runtime, path)
    app.record_action("form.sent", email=ana["email"], data={"said": "I am Anastasia"})
    app.record_action(
        "form.sent",
        email="ben@shop.example",
        data={"friend": "ANA+X@shop.example", "bens": "own"},
        contact={"first_name": "Ben", "custom": {"colour": "as ana+x@shop.example"}},
    )
    app.record_action("form.sent", email="dana+x@shop.example")
    app.add_points(5, email=ana["email"], reason="Anastasia phoned", actor="Petrowa")
    app.consent(ana["email"], how="Anastasia said so in Utrecht", who="sam")
    app.deliver()
    app.suppress(ana["email"], reason="Petrowa wrote a letter")
    now = app.clock.now
    quoted = "Acme failed (500): ana+x@shop.example, Anastasia"
    message = {"type": "alert.test", "text": quoted, "data": {"alerts": []}}
    with app.runtime.database.write() as transaction:
        open_alert(transaction, now, Kind.RESTING, connection_id=1, reason=quoted)
        wanted = Wanted(state="failed", email="ana+x@shop.example")
        begin_job(transaction, wanted, 9, 9, now, force=False)
        transaction.execute(
            update(table(Connection)).values(rest_why=quoted, paused_why=quoted)
        )
        for model, row in (
            (AlertMessage, {"key": "k", "body": message, "due_at": now}),
            (Memory, {"connection_id": 1, "name": "last", "value": [quoted]}),
            (Memory, {"connection_id": 1, "name": "of ana+x@shop.example", "value": 1}),
            (Hint, {"connection_id": 1, "remote_id": number("ana+x@shop.example")}),
            (Audience, {"key": "a", "name": "ana+x@shop.example", "conditions": []}),
            (
                RemoteContactRow,
                {"connection_id": 1, "remote_id": "77", "email": "ana@old.example"},
            ),
            (
                SyncRun,
                {
                    "connection_id": 1,
                    "started_at": now,
                    "updated_at": now,
                    "notes": [quoted, "all is well"],
                    "sample": [
                        {"id": number("ana+x@shop.example"), "theirs": {"name": "?"}},
                        {"id": "5", "ours": {"name": "Petrowa"}},
                        {"id": "6", "ours": {"name": "Ben"}},
                    ],
                    "reason": quoted,
                },
            ),
        ):
            moments = {
                name: now
                for name in ("created_at", "due_at", "seen_at")
                if name in table(model).c
            }
            transaction.execute(
                insert(table(model)), {**moments, **filled(model), **row}
            )


def filled(model: type[SQLModel]) -> dict[str, Any]:
    """Return JSON columns of a model, empty."""
    return {
        column.name: [] if column.name != "values" else {}
        for column in table(model).c
        if isinstance(column.type, JSON) and not column.nullable
    }


def everything(app: TestApp) -> str:
    """Return all rows of all tables as text, or all bytes beside an SQLite file."""
    path = app.runtime.database.path
    if path is not None:
        files = sorted(path.parent.glob("onward.db*"))
        assert path in files
        raw = b"".join(one.read_bytes() for one in files)
        return raw.decode("latin-1").casefold()
    with app.runtime.database.read() as transaction:
        return "\n".join(
            f"{rows.name} {dict(row)!r}"
            for rows in SQLModel.metadata.sorted_tables
            for row in transaction.execute(select(rows)).mappings()
        ).casefold()


def traces_in(said: str) -> list[str]:
    """Return what is still there of Ana; Dana's address ends as hers does."""
    said = said.replace("dana+x@shop.example", "")
    return [trace for trace in TRACES if trace in said]


def there(app: TestApp, model: type[SQLModel]) -> list[Any]:
    """Return the rows of a table."""
    with app.runtime.database.read() as transaction:
        return list(transaction.execute(select(table(model))).mappings())


def test_no_byte_of_the_person_stays(spread: TestApp, service: ErrandService) -> None:
    """Not in a table, not between the rows of the file, not in its log; others stay."""
    before = everything(spread)
    for trace in TRACES:
        assert trace in before, trace

    done = erase_contact(spread.runtime, "ana+x@shop.example", "sam")

    after = everything(spread)
    assert traces_in(after) == []
    assert done.contacts == 2
    [service_there] = done.services
    assert (service_there.connection, service_there.queued) == ("acme", 2)
    # What is of others is still theirs.
    for kept in ("ben@shop.example", "bens", "dana+x@shop.example", "all is well"):
        assert kept in after, kept
    [run] = there(spread, SyncRun)
    assert [row["id"] for row in run["sample"]] == ["6"]
    [job] = there(spread, Job)
    assert job["state"] == "cancelled"
    assert there(spread, Hint) == []
    assert [one["name"] for one in there(spread, Memory)] == []

    service.asked.clear()
    spread.deliver()
    assert set(service.gone) == {"77", number("ana+x@shop.example")}
    assert traces_in(everything(spread)) == []
    assert erase_contact(spread.runtime, "ana+x@shop.example").services == ()


def test_every_text_of_every_table_is_looked_at(
    connect: Connect, database_url: str
) -> None:
    """A table that is added holds nobody who was erased, without a word of it here."""
    app = connect(database_url=database_url)
    counter = count(1000)
    with app.runtime.database.write() as transaction:
        for rows in SQLModel.metadata.sorted_tables:
            if rows.name in ("identity", "connection", "setting", "lease", "limiter"):
                continue
            row: dict[str, Any] = {}
            for column in rows.c:
                row[column.name] = a_value(column, next(counter))
            transaction.execute(insert(rows), row)

    clean_traces(app.runtime, Person(("ana@shop.example",)))

    with app.runtime.database.read() as transaction:
        left = {
            f"{rows.name}.{name}"
            for rows in SQLModel.metadata.sorted_tables
            for row in transaction.execute(select(rows)).mappings()
            for name, value in row.items()
            if "ana@shop.example" in str(value)
        }
    # Keys and names of things are no person's; a contact's own address goes with its
    # contact, and what an errand needs when it is done.
    keys = {
        f"{rows.name}.{column.name}"
        for rows in SQLModel.metadata.sorted_tables
        for column in rows.primary_key
    }
    assert left - keys == {
        "attempt.kind",
        "attempt.segment",
        "contact.email",
        "custom_field.choices",
        "custom_field.title",
        "custom_field.type",
        "errand.remote_id",
        "import_report.counts",
        "job.state",
        "remote_segment.name",
        "schema_step.release",
        "segment.name",
    }


def a_value(column: Any, number: int) -> Any:
    """Return a value that holds the address, where a column can."""
    said = "x ana@shop.example y"
    if isinstance(column.type, JSON):
        shapes = {"problems": [[1, said]], "custom": {"word": said}}
        return shapes.get(column.name, [{"answer": said}])
    if is_text(column):
        return f"{number} ana@shop.example"
    if isinstance(column.type, UTCDateTime):
        return START
    if isinstance(column.type, Boolean):
        return False
    return number if column.primary_key else 0


def test_backups_readers_and_room_are_said(
    connect: Connect, sqlite_url: str, tools: Tools
) -> None:
    """Somebody who reads for long keeps old pages alive: it says so, and what to do."""
    app = connect(kind=Numbered, database_url=sqlite_url)
    tools.fire(app, "anastasia")
    app.deliver()
    path = app.runtime.database.path
    assert path is not None
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        done = erase_contact(app.runtime, "anastasia@shop.example")
        assert done.compacted is not None
        assert "somebody reads" in done.compacted.why
        assert "onward db compact" in done.compacted.why
        assert "anastasia" in everything(app)

    again = erase_contact(app.runtime, "anastasia@shop.example")
    assert again.compacted is not None
    assert again.compacted.is_done
    assert "anastasia" not in everything(app)


def test_what_services_can(
    connect: Connect, service: ErrandService, acme: type[Acme], tools: Tools
) -> None:
    """Erased, else unsubscribed, else left to a person, who is told what to delete."""
    said: list[tuple[int, str, str]] = []
    for kind in (Erasing, Unsubscribing, acme):
        app = connect(kind=kind)
        tools.fire(app, "ana")
        app.deliver()
        [one] = erase_contact(app.runtime, "ana@shop.example").services
        said.append((one.queued, one.method, one.words))
        app.deliver()

    assert said == [
        (1, "erase", ""),
        (
            1,
            "unsubscribe",
            "Acme can only unsubscribe: delete id-ana@shop.example there by hand",
        ),
        (
            0,
            "",
            "nothing can be asked of Acme: delete id-ana@shop.example there by hand",
        ),
    ]
    assert service.gone == ["id-ana@shop.example"]
    assert service.off == ["id-ana@shop.example"] * 2


def test_the_services_can_be_left_as_they_are(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """With --keep-remote nothing is asked of them, and here nobody is known."""
    app = connect(kind=Erasing)
    tools.fire(app, "ana")
    app.deliver()
    [one] = erase_contact(app.runtime, "ana@shop.example", keep_remote=True).services
    app.deliver()

    assert (one.queued, one.words) == (0, "left as it is there, as you asked")
    assert (errands(app), remote_rows(app), service.gone) == ([], {}, [])


def test_an_unsubscription_that_waited_is_not_needed_any_more(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """Whoever is erased there need not be unsubscribed first; aliases go as well."""
    app = connect('segment = "News"\npush_opt_outs = true', kind=Erasing)
    tools.fire(app, "ana", "ann")
    app.deliver()
    user = {"user": "7"}
    for name in ("ana", "ann"):
        app.upsert_contact({"email": f"{name}@shop.example", "identities": user})
    app.suppress("ana@shop.example")
    erase_contact(app.runtime, "ana@shop.example")
    app.deliver()

    assert sorted(states(app)) == [
        ("erase", "done", "done"),
        ("erase", "done", "done"),
        ("unsubscribe", "cancelled", "erased"),
        ("unsubscribe", "cancelled", "erased"),
    ]
    assert sorted(service.gone) == ["id-ana@shop.example", "id-ann@shop.example"]


def test_somebody_only_a_service_knows(
    connect: Connect, service: ErrandService
) -> None:
    """A remote contact of nobody's is found by its address, and erased there."""
    app = connect(kind=Erasing)
    app.verify("acme")
    row = {
        "connection_id": 1,
        "remote_id": "id-ana@shop.example",
        "email": "ana@shop.example",
        "values": {},
        "segments": {},
        "seen_at": app.clock.now,
    }
    with app.runtime.database.write() as transaction:
        transaction.execute(insert(remote_contacts), row)
    done = erase_contact(app.runtime, "ana@shop.example")
    app.deliver()

    assert (done.contact_id, done.services[0].queued) == (0, 1)
    assert service.gone == ["id-ana@shop.example"]
    with app.runtime.database.read() as transaction:
        assert erased_addresses(transaction, ["ana@shop.example", "b@c.example"]) == {
            "ana@shop.example"
        }


def test_a_push_on_its_way_is_cleaned_up_after(
    connect: Connect, service: ErrandService, tools: Tools, database_url: str
) -> None:
    """What its answer brings goes too, here and there, without being asked again."""
    app = connect(kind=Erasing, database_url=database_url)
    tools.fire(app, "anastasia")
    app.verify("acme")
    sending: list[int] = []

    def erases(request: Any) -> None:
        done = erase_contact(app.runtime, "anastasia@shop.example")
        sending.append(done.sending)
        assert done.compacted is None
        assert finish_erasures(app.runtime) == 0

    service.script = [erases]
    app.deliver()
    assert sending == [1]
    assert list(remote_rows(app)) == ["id-anastasia@shop.example"]
    assert finish_erasures(app.runtime) == 1
    app.deliver()

    assert service.gone == ["id-anastasia@shop.example"]
    assert erase_contact(app.runtime, "anastasia@shop.example").sending == 0
    assert "anastasia" not in everything(app).replace("analyz", "")
    assert [row for row in there(app, Setting) if "erasing" in row["name"]] == []


def test_pull_and_import_are_blocked_until_a_consent(
    connect: Connect, tools: Tools, tmp_path: Path, database_url: str
) -> None:
    """A line of somebody erased is refused, in words and without what it held."""
    app = connect(kind=Erasing, database_url=database_url)
    path = tmp_path / "people.csv"
    path.write_text(
        "email,first_name,gave,points\n"
        "ana@shop.example,Anastasia,form 2024,1\n"
        "ben@shop.example,Ben,,2\n"
        "ana@shop.example,Anastasia,,many\n"
    )
    mapping = {"gave": "consent"}
    assert import_contacts(app.runtime, path, mapping=mapping).taken == 2
    erase_contact(app.runtime, "ana@shop.example")

    # The consent of before is none: the same file brings nobody back.
    for mapped in ({}, mapping):
        summary = import_contacts(app.runtime, path, mapping=mapped)
        assert (summary.taken, summary.refused) == (1, 2)
        refused = {line: (why, text) for line, why, text in summary.problems}
        assert refused[2][0].startswith("this person was erased; record a new consent")
        assert refused[2][1] == ""
    assert "anastasia" not in everything(app)
    assert [row["email"] for row in app.contacts()] == ["ben@shop.example"]

    path.write_text(path.read_text().replace("form 2024", "form of May 2026"))
    assert import_contacts(app.runtime, path).taken == 1
    assert import_contacts(app.runtime, path, mapping=mapping).taken == 2
    assert {row["email"] for row in app.contacts()} == {
        "ana@shop.example",
        "ben@shop.example",
    }
    with app.runtime.database.read() as transaction:
        assert erased_when(transaction, ["ana@shop.example"]) == {}


def test_an_opt_out_of_somebody_erased_is_not_lost(
    connect: Connect, tools: Tools, tmp_path: Path
) -> None:
    """A refused line that says do not contact counts, should they come back."""
    app = connect(kind=Erasing)
    tools.fire(app, "ana")
    app.deliver()
    erase_contact(app.runtime, "ana@shop.example")
    path = tmp_path / "people.csv"
    path.write_text("email,do not contact\nana@shop.example,unsubscribed\n")
    assert import_contacts(app.runtime, path).exit_code == 2

    tools.fire(app, "ana")
    app.deliver()
    assert app.deliveries()[-1]["code"] == "suppressed"
    # Who is here again by themselves is no longer kept out.
    with app.runtime.database.read() as transaction:
        assert erased_addresses(transaction, ["ana@shop.example"]) == set()
    assert import_contacts(app.runtime, path).taken == 1


def test_being_erased_stops_no_push(connect: Connect, tools: Tools) -> None:
    """Whoever sends a form is a new contact, and pushed as one; a consent ends it."""
    app = connect(kind=Erasing)
    tools.fire(app, "ana")
    app.deliver()
    erase_contact(app.runtime, "ana@shop.example")
    tools.fire(app, "ana")
    app.deliver()

    assert app.deliveries()[-1]["state"] == "delivered"
    [row] = app.contacts()
    assert (row["do_not_contact"], row["suppressions"]) == ("", [])
    assert app.consent("ana@shop.example", how="form", who="sam") == 1
    with app.runtime.database.read() as transaction:
        assert erased_when(transaction, ["ana@shop.example"]) == {}


def test_what_a_service_shows_of_them_is_not_kept(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """Reading others brings nobody back into what is known of a service."""

    class Learning(Erasing):
        def push(self, api: Any, batch: Any, segment: Any) -> Any:
            for name in ("Ana", "cem"):
                api.learn([RemoteContact(f"id-{name}", f"{name}@shop.example")])
            yield from super().push(api, batch, segment)

    app = connect(kind=Learning)
    tools.fire(app, "ana")
    app.deliver()
    erase_contact(app.runtime, "ana@shop.example")
    tools.fire(app, "ben")
    app.deliver()

    assert sorted(remote_rows(app)) == ["id-ben@shop.example", "id-cem"]


OPS = ("form", "import", "points", "push", "deliver", "merge", "suppress", "erase")


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ops=st.lists(st.sampled_from(OPS), max_size=10))
def test_whatever_happened_before(
    ops: list[str], connect: Connect, migrated_sqlite: Path, tmp_path: Path
) -> None:
    """After any sequence of what people do, the last erasure leaves no byte."""
    folder = tmp_path / f"{next(FOLDERS)}"
    folder.mkdir()
    (folder / "onward.db").write_bytes(migrated_sqlite.read_bytes())
    app = connect(kind=Erasing, database_url=f"sqlite:///{folder}/onward.db")
    email = "anastasia@shop.example"
    path = folder / "people.csv"
    path.write_text(
        f"email,first_name,points,user\n{email},Petrowa,1,u-1\n{email},Petrowa,x,\n"
    )
    do: dict[str, Callable[[], object]] = {
        "form": lambda: app.record_action(
            "form.sent",
            email=email,
            data={"I am": "Petrowa"},
            contact={"first_name": "Petrowa"},
        ),
        "import": lambda: import_contacts(app.runtime, path),
        "points": lambda: app.add_points(3, email=email, reason="Petrowa phoned"),
        "push": lambda: app.push(to="acme", email=email),
        "deliver": app.deliver,
        "merge": lambda: app.upsert_contact(
            {"email": "petrowa@old.example", "identities": {"user": "u-1"}}
        ),
        "suppress": lambda: app.suppress(email, reason="Petrowa wrote"),
        "erase": lambda: erase_contact(app.runtime, email),
    }
    for op in [*ops, "form", "merge", "form", "erase"]:
        try:
            do[op]()
        except InputError:
            assert op in ("push", "erase")
    left = everything(app)
    if "petrowa@old.example" in [row["email"] for row in app.contacts()]:
        # Somebody of their own, if the two were never seen to be one.
        erase_contact(app.runtime, "petrowa@old.example")
        left = everything(app)
    app.close()
    assert "anastasia@" not in left
    assert "petrowa" not in left


FOLDERS: Iterator[int] = count()
