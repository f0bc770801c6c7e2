"""Onward from Python: opening, checking what is given, joining a host, forking."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from onward import signals
from onward.app import Onward
from onward.errors import ConfigError, InputError
from onward.models import Contact, Event, Ledger, Push, table
from onward.testing.app import TestApp

if TYPE_CHECKING:
    from tests.conftest import MakeApp

TOML = """
[connections.news]
integration = "icontact"
[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["news"]
points = 10
"""

contacts = table(Contact)
Act = Callable[[Onward], object]


def counts(app: Onward) -> dict[str, int]:
    """How many rows an app has of each kind."""
    with app.runtime.database.read() as transaction:
        return {
            model.__name__: transaction.execute(
                select(func.count()).select_from(table(model))
            ).scalar_one()
            for model in (Contact, Event, Ledger, Push)
        }


NOTHING = {"Contact": 0, "Event": 0, "Ledger": 0, "Push": 0}
# contact.created and form.submitted are two events.
ONE_FORM = {"Contact": 1, "Event": 2, "Ledger": 1, "Push": 1}


# -- opening


def test_nothing_is_opened_before_first_use(tmp_path: Path) -> None:
    """An app made at import opens nothing; its first use makes the database."""
    (tmp_path / "onward.toml").write_text(TOML)

    app = Onward.from_config(tmp_path / "onward.toml", env={})
    before = sorted(path.name for path in tmp_path.iterdir())
    app.upsert_contact({"email": "ana@shop.example"})

    assert before == ["onward.toml"]
    assert (tmp_path / "onward.db").is_file()
    app.close()


def test_threads_that_start_together_share_one_runtime(tmp_path: Path) -> None:
    """Eight threads that use an app first at the same moment open it once."""
    (tmp_path / "onward.toml").write_text(TOML)
    app = Onward.from_config(tmp_path / "onward.toml", env={})
    together = threading.Barrier(8, timeout=30)
    found: list[int] = []

    def use(number: int) -> None:
        together.wait()
        app.record_action("form.submitted", email=f"p{number}@shop.example")
        found.append(id(app.runtime))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1
    assert counts(app)["Contact"] == 8
    app.close()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            '[[rules]]\nkey = "forms"\nwhen = "form.submitted"\npush_to = ["nwes"]',
            'onward.toml: line 6: rules.forms.push_to: there is no connection "nwes"; '
            'did you mean "news"?',
        ),
        (
            '[[point_triggers]]\nkey = "hot"\npoints = 5\npush_to = ["acme"]',
            "onward.toml: line 6: point_triggers.hot.push_to: there is no connection "
            '"acme"; declare it as [connections.acme]',
        ),
        (
            '[[rules]]\nkey = "off"\nwhen = "x"\npush_to = ["acme"]\nenabled = false',
            'onward.toml: line 6: rules.off.push_to: there is no connection "acme"; '
            "declare it as [connections.acme]",
        ),
    ],
)
def test_unknown_connection_is_an_error_at_start(
    part: str, message: str, tmp_path: Path
) -> None:
    """A rule or trigger that names no connection stops the start in one sentence."""
    path = tmp_path / "onward.toml"
    declared = '[connections.news]\nintegration = "icontact"\n'
    path.write_text(declared + part)

    with pytest.raises(ConfigError) as refused:
        Onward.from_config(path, env={}).record_action("x", email="ana@shop.example")

    assert refused.value.message == message
    path.write_text(declared)
    app = Onward.from_config(path, env={})
    assert app.record_action("x", email="ana@shop.example").created
    app.close()


def test_rules_may_name_connections_of_the_database(tmp_path: Path) -> None:
    """A connection that lives in the database only is as good as a declared one."""
    path = tmp_path / "onward.toml"
    path.write_text(TOML)
    declaring = Onward.from_config(path, env={})
    declaring.upsert_contact({"email": "ana@shop.example"})
    declaring.close()
    path.write_text(TOML.partition("[[rules]]")[1] + TOML.partition("[[rules]]")[2])

    app = Onward.from_config(path, env={})

    done = app.record_action("form.submitted", email="ana@shop.example")
    assert len(done.pushes) == 1
    app.close()


def test_connection_that_goes_away_loses_no_event(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """When a connection is removed while we run, what happened is still recorded."""
    app = make_app(TOML)
    app.upsert_contact({"email": "ana@shop.example"})
    with app.runtime.database.write() as transaction:
        transaction.execute(text("DELETE FROM connection"))

    with caplog.at_level(logging.WARNING):
        done = app.record_action("form.submitted", email="ana@shop.example")

    assert (done.points, done.pushes) == (10, ())
    assert done.looked == (
        ("forms", True, ""),
        ("forms", True, 'there is no connection "news" any more'),
    )
    assert 'rule forms pushes nothing: there is no connection "news"' in caplog.text


def test_without_worker_it_says_so_once(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """What is queued where no worker runs says, once, what would send it."""
    app = make_app(TOML)

    with caplog.at_level(logging.INFO, logger="onward"):
        app.record_action("page.visited", email="ana@shop.example")
        before = list(caplog.messages)
        app.record_action("form.submitted", email="ana@shop.example")
        app.record_action("form.submitted", email="ben@shop.example")

    assert before == []
    assert caplog.messages == [
        "queued; no worker runs in this process: `onward worker`, `onward deliver` or "
        "app.start() sends it"
    ]


# -- what is given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"action": ""}, "an action needs a name, as form.submitted"),
        ({"action": 7}, "an action needs a name, as form.submitted"),
        (
            {"action": "form submitted"},
            'the action name "form submitted" must be one word of at most 200 '
            "characters",
        ),
        (
            {"action": "form\x00"},
            'the action name "form\x00" must be one word of at most 200 characters',
        ),
        (
            {"action": "contact.created"},
            "the action contact.created is recorded by Onward itself; give yours "
            "another name",
        ),
        (
            {"action": "x", "data": ["a"]},
            "the data of an action must be a mapping (a JSON object)",
        ),
        (
            {"action": "x", "data": {"what": {1, 2}}},
            "the data of an action must be JSON: Type is not JSON serializable: set",
        ),
        (
            {"action": "x", "occurred_at": datetime(2026, 3, 4)},  # noqa: DTZ001
            "occurred_at must be a moment with a time zone",
        ),
        (
            {"action": "x", "key": ""},
            "a key must be text of 1 to 255 printable characters",
        ),
        (
            {"action": "x", "key": "a\x00b"},
            "a key must be text of 1 to 255 printable characters",
        ),
        (
            {"action": "x", "source": "a" * 300},
            "a source must be text of at most 255 printable characters",
        ),
        (
            {"action": "x", "contact": ["a"]},
            "contact must be a mapping of contact fields",
        ),
        (
            {"action": "x", "email": ""},
            "nobody is named: give an e-mail address or another identity, as "
            '{"visitor": "…"}',
        ),
    ],
)
def test_action_that_cannot_be_used(
    given: Mapping[str, Any], message: str, make_app: MakeApp
) -> None:
    """An action that cannot be used is refused in a sentence and leaves nothing."""
    app = make_app(TOML)
    good = {"action": "form.submitted", "email": "ben@shop.example"}

    with pytest.raises(InputError) as refused:
        app.record_actions([good, {"email": "ana@shop.example", **given}])

    assert refused.value.message == message
    assert counts(app) == NOTHING
    app.record_actions([good])
    assert counts(app) == ONE_FORM


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (0, "points of 0 change nothing; give +N or -N"),
        (True, "points are a whole number, not True"),
        (1.5, "points are a whole number, not 1.5"),
        (10**10, "at most 1000000000 points can be given or taken at once"),
    ],
)
def test_points_that_cannot_be_used(
    points: int, message: str, make_app: MakeApp
) -> None:
    """Points that are no number, or too many, are refused in a sentence."""
    app = make_app()

    with pytest.raises(InputError) as refused:
        app.add_points(points, email="ana@shop.example")

    assert refused.value.message == message
    assert app.add_points(5, email="ana@shop.example").points == 5


def test_points_do_not_overflow(database_url: str, make_app: MakeApp) -> None:
    """A thousand million points can be given many times over, on both databases."""
    app = make_app(database_url=database_url)

    for _ in range(4):
        done = app.add_points(10**9, email="ana@shop.example")

    assert done.points == 4 * 10**9


def test_data_is_what_everybody_sees(make_app: MakeApp) -> None:
    """Data is turned into plain JSON before rules, receivers and rows see it."""
    app = make_app("""
        [[rules]]
        key = "march"
        when = "order.placed"
        if = [["data.on", "is", "2026-03-04T09:00:00+00:00"], ["data.1", "is", "a"]]
        points = 1
    """)
    heard: list[object] = []

    def hear(_sender: object, event: signals.ContactAction) -> None:
        heard.append(event.data)

    with signals.contact_action.connected_to(hear, app):
        data: dict[Any, Any] = {"on": app.clock.now, 1: "a", "rows": (1, 2)}
        done = app.record_action("order.placed", email="ana@shop.example", data=data)

    plain = {"on": "2026-03-04T09:00:00+00:00", "1": "a", "rows": [1, 2]}
    assert heard[-1] == plain
    assert done.points == 1
    with app.runtime.database.read() as transaction:
        kept = transaction.execute(select(table(Event).c.data)).scalars().all()
    assert kept[-1] == plain


# -- joining a host's transaction


@pytest.fixture
def app(database_url: str, make_app: MakeApp) -> TestApp:
    """An app on a real database."""
    made = make_app(TOML, database_url=database_url)
    assert counts(made) == NOTHING  # it is open
    return made


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A host's own engine on the same database, as SQLAlchemy makes it."""
    made = create_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def heard(app: TestApp) -> Iterator[list[str]]:
    """Actions that were announced."""
    found: list[str] = []

    def hear(_sender: object, event: signals.ContactAction) -> None:
        found.append(event.action)

    with signals.contact_action.connected_to(hear, app):
        yield found


SUBMITTED = ["contact.created", "form.submitted"]


def submit(app: Onward, session: Session, email: str = "ana@shop.example") -> None:
    """Fire one form inside the host's transaction."""
    app.record_action("form.submitted", email=email, session=session)


def test_host_that_commits(app: TestApp, engine: Engine, heard: list[str]) -> None:
    """In a host's transaction nothing is told before its commit, all after it."""
    with Session(engine) as session:
        submit(app, session)
        before = list(heard)
        session.commit()
        after = list(heard)
        session.commit()

    assert (before, after, heard) == ([], SUBMITTED, SUBMITTED)
    assert counts(app) == ONE_FORM


def test_host_that_rolls_back(app: TestApp, engine: Engine, heard: list[str]) -> None:
    """A host that rolls back leaves nothing, and its next commit tells nothing."""
    with Session(engine) as session:
        submit(app, session)
        session.rollback()
        assert counts(app) == NOTHING
        session.execute(text("SELECT 1"))
        session.commit()

    assert heard == []
    with Session(engine) as session:
        submit(app, session)
        session.commit()
    assert heard == SUBMITTED
    assert counts(app) == ONE_FORM


def test_host_that_closes(app: TestApp, engine: Engine, heard: list[str]) -> None:
    """A session that is closed without a commit leaves nothing and tells nothing."""
    session = Session(engine)
    submit(app, session)
    session.close()
    session.execute(text("SELECT 1"))
    session.commit()
    session.close()

    assert heard == []
    assert counts(app) == NOTHING


def test_long_lived_session_keeps_nothing(app: TestApp, engine: Engine) -> None:
    """A session used for years does not collect what was rolled back in it."""
    with Session(engine) as session:
        for end in (session.rollback, session.commit, session.rollback):
            submit(app, session)
            assert len(session.info["onward"].calls) == 1

            end()

            assert session.info["onward"].calls == {}
    assert counts(app) == ONE_FORM


def test_several_calls_in_one_transaction(
    app: TestApp, engine: Engine, heard: list[str]
) -> None:
    """The savepoint of a second call does not announce the first one early."""
    with Session(engine) as session:
        submit(app, session)
        submit(app, session, "ben@shop.example")
        app.add_points(5, email="ana@shop.example", session=session)
        app.upsert_contact({"email": "cem@shop.example"}, session=session)
        before = list(heard)
        session.commit()

    assert before == []
    assert heard == [*SUBMITTED, *SUBMITTED, "points.added", "contact.created"]
    assert counts(app)["Contact"] == 3


def test_savepoint_of_the_host_that_is_kept(
    app: TestApp, engine: Engine, heard: list[str]
) -> None:
    """Inside savepoints of the host it is told when the outermost one commits."""
    with Session(engine) as session:
        with session.begin_nested():
            with session.begin_nested():
                submit(app, session)
            inner = list(heard)
        outer = list(heard)
        session.commit()

    assert (inner, outer, heard) == ([], [], SUBMITTED)
    assert counts(app) == ONE_FORM


def test_savepoint_of_the_host_that_is_rolled_back(
    app: TestApp, engine: Engine, heard: list[str]
) -> None:
    """What a host's savepoint takes back is not told; what is outside it is."""
    with Session(engine) as session:
        submit(app, session)
        savepoint = session.begin_nested()
        submit(app, session, "ben@shop.example")
        savepoint.rollback()
        session.commit()

    assert heard == SUBMITTED
    assert counts(app) == ONE_FORM


def test_refused_action_leaves_the_hosts_transaction_alone(
    app: TestApp, engine: Engine, heard: list[str]
) -> None:
    """An action that is refused takes nothing else of the host's with it."""
    with Session(engine) as session:
        submit(app, session)
        with pytest.raises(InputError):
            app.record_action("no good", email="ben@shop.example", session=session)
        session.commit()

    assert heard == SUBMITTED
    assert counts(app) == ONE_FORM


def test_hosts_own_rows_share_the_fate(app: TestApp, engine: Engine) -> None:
    """The host's rows and ours are committed together or not at all."""
    add = text("INSERT INTO setting (name, value) VALUES (:name, 'x')")
    names = text("SELECT name FROM setting ORDER BY name")

    with suppress(RuntimeError), Session(engine) as session, session.begin():
        submit(app, session)
        session.execute(add, {"name": "lost"})
        raise RuntimeError
    with Session(engine) as session, session.begin():
        session.execute(add, {"name": "kept"})
        submit(app, session)

    with Session(engine) as session:
        assert session.execute(names).scalars().all() == ["kept"]
    assert counts(app) == ONE_FORM


def test_scoped_session_of_a_host(
    app: TestApp, engine: Engine, heard: list[str]
) -> None:
    """A scoped session, as web frameworks hand out, is the session it stands for."""
    scoped = scoped_session(sessionmaker(engine))

    app.record_action("form.submitted", email="ana@shop.example", session=scoped)
    before = list(heard)
    scoped.commit()
    scoped.remove()

    assert (before, heard) == ([], SUBMITTED)


def test_key_counts_in_a_hosts_transaction_too(
    app: TestApp, engine: Engine, heard: list[str]
) -> None:
    """A key used before, or earlier in the same transaction, has no effect again."""
    with Session(engine) as session:
        first = app.record_action(
            "form.submitted", email="ana@shop.example", key="k", session=session
        )
        second = app.record_action(
            "form.submitted", email="ana@shop.example", key="k", session=session
        )
        session.commit()
    third = app.record_action("form.submitted", email="ana@shop.example", key="k")

    assert (first.repeated, second.repeated, third.repeated) == (False, True, True)
    assert first.pushes == second.pushes == third.pushes
    assert heard == SUBMITTED
    assert counts(app) == ONE_FORM


def test_engine_of_ours_serves_hosts_too(app: TestApp, heard: list[str]) -> None:
    """A session on Onward's own engine joins like one on the host's."""
    with Session(app.runtime.database.engine) as session:
        submit(app, session)
        session.rollback()
        submit(app, session)
        session.commit()

    assert heard == SUBMITTED
    assert counts(app) == ONE_FORM


# -- forking

# Python warns of every fork beside threads; that it goes well is what is tested.
BESIDE_THREADS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


def fork(work: Callable[[], object]) -> int:
    """Start a child that does some work and ends; return its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(60)
        with suppress(Exception):
            work()
            code = 0
        os._exit(code)
    return child


def exit_code(child: int) -> int:
    """Wait for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@BESIDE_THREADS
def test_app_survives_a_fork(app: TestApp) -> None:
    """Parent and child both go on using an app that was open when they parted."""
    app.upsert_contact({"email": "ana@shop.example"})

    def work() -> None:
        app.record_action("form.submitted", email="child@shop.example")
        Onward.close(app)  # not the test's own, which removes the folder

    child = fork(work)
    app.record_action("form.submitted", email="parent@shop.example")

    assert exit_code(child) == 0
    assert counts(app) == {"Contact": 3, "Event": 5, "Ledger": 2, "Push": 2}


@BESIDE_THREADS
def test_child_does_not_stop_the_parents_worker(app: TestApp) -> None:
    """A child that closes the app leaves the parent's threads and database open."""
    app.start()

    def workers() -> set[str]:
        """Those that stay; each of its tasks has one for a moment."""
        names = {thread.name for thread in threading.enumerate()}
        return {name for name in names if name.startswith("onward-")}

    threads = workers()

    child = fork(lambda: Onward.close(app))

    assert exit_code(child) == 0
    assert workers() == threads
    assert app.record_action("x", email="ana@shop.example").created
    app.stop()


@BESIDE_THREADS
def test_memory_survives_a_fork(make_app: MakeApp) -> None:
    """An app in memory goes on in the child with what it had."""
    app = make_app(TOML)
    first = app.upsert_contact({"email": "ana@shop.example"})

    def work() -> None:
        again = app.upsert_contact({"email": "ana@shop.example"})
        assert (again.contact_id, again.created) == (first.contact_id, False)

    assert exit_code(fork(work)) == 0
    assert app.upsert_contact({"email": "ben@shop.example"}).created
