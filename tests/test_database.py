"""Transactions: who waits for whom, what is repeated, what a fork leaves alone."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from freezegun import freeze_time
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import bindparam, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, StatementError

from onward.among import ForEach
from onward.database import PAUSE, REPEATS, Database
from onward.errors import ConfigError, Repeat
from onward.migrate import upgrade
from onward.models import Event, Identity, Lease, Setting, table
from onward.sql import Among, Rows, draw_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

settings = table(Setting)
leases = table(Lease)
events = table(Event)
identities = table(Identity)

NOW = datetime(2026, 3, 4, 9, 0, 0, 123_456, tzinfo=UTC)


def put(connection: Connection, name: str, value: str) -> None:
    """Write a setting."""
    connection.execute(insert(settings), {"name": name, "value": value})


def names(connection: Connection) -> list[str]:
    """The settings there are."""
    return list(connection.execute(select(settings.c.name).order_by("name")).scalars())


def in_thread(work: Callable[[], None]) -> threading.Thread:
    """Do something at the same time."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# -- transactions


def test_write_commits_at_the_end(database: Database) -> None:
    """What a block wrote is there afterwards; what raised is not."""
    with database.write() as connection:
        put(connection, "kept", "1")
    with suppress(RuntimeError), database.write() as connection:
        put(connection, "lost", "1")
        raise RuntimeError

    with database.read() as connection:
        assert names(connection) == ["kept"]


def test_reading_does_not_stop_writing(database: Database) -> None:
    """While one reads, another writes and commits; the reader's view may be older."""
    with database.read() as reader:
        assert names(reader) == []

        with database.write() as writer:
            put(writer, "new", "1")

        with database.read() as later:
            assert names(later) == ["new"]


def test_writing_does_not_stop_reading(database: Database) -> None:
    """While one writes, another reads what was committed before."""
    with database.write() as writer:
        put(writer, "new", "1")

        with database.read() as reader:
            assert names(reader) == []


def test_writers_take_turns(database: Database) -> None:
    """Eight threads that count the same number up lose nothing."""
    with database.write() as connection:
        put(connection, "count", "0")

    def count_up() -> None:
        for _ in range(10):
            with database.write() as connection:
                counted = settings.c.name == "count"
                asked = select(settings.c.value).where(counted).with_for_update()
                now = int(connection.execute(asked).scalar_one())
                connection.execute(
                    update(settings).where(counted).values(value=now + 1)
                )

    threads = [in_thread(count_up) for _ in range(8)]
    for thread in threads:
        thread.join()

    with database.read() as connection:
        assert connection.execute(select(settings.c.value)).scalar_one() == "80"


def test_memory_is_one_database_for_all_threads() -> None:
    """In memory, threads take turns on the one connection there is."""
    database = Database("sqlite://")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE counter (n INTEGER)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))

    def count_up() -> None:
        for _ in range(20):
            with database.write() as connection:
                connection.execute(text("UPDATE counter SET n = n + 1"))
            with database.read() as connection:
                connection.execute(text("SELECT n FROM counter")).scalar_one()

    threads = [in_thread(count_up) for _ in range(4)]
    for thread in threads:
        thread.join()

    with database.read() as connection:
        assert connection.execute(text("SELECT n FROM counter")).scalar_one() == 80
    database.close()


@pytest.mark.parametrize(("durability", "level"), [("normal", 1), ("power", 2)])
def test_durability_is_sqlites_own(
    durability: str, level: int, sqlite_url: str
) -> None:
    """`normal` syncs at checkpoints, `power` at every commit; both use a WAL."""
    database = Database(sqlite_url, durability=durability)

    with database.write() as connection:
        found = connection.execute(text("PRAGMA synchronous")).scalar_one()
        journal = connection.execute(text("PRAGMA journal_mode")).scalar_one()

    assert (found, journal) == (level, "wal")
    database.close()


# -- repeating


def test_repeat_is_tried_three_times_more(database: Database) -> None:
    """A transaction that asks for it is repeated three times, whole."""
    tries: list[list[str]] = []

    def work(connection: Connection) -> str:
        tries.append(names(connection))
        put(connection, f"try {len(tries)}", "")
        if len(tries) < 4:
            raise Repeat
        return "done"

    assert database.run(work) == "done"

    assert tries == [[], [], [], []]
    with database.read() as connection:
        assert names(connection) == ["try 4"]


def test_repeat_gives_up(database: Database) -> None:
    """What asks for it again and again is an error with words, and leaves nothing."""
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(1)
        put(connection, "try", "")
        raise Repeat

    with pytest.raises(Repeat, match="try again later"):
        database.run(work)

    assert len(tries) == REPEATS + 1
    with database.read() as connection:
        assert names(connection) == []


def test_other_errors_are_not_repeated(database: Database) -> None:
    """A statement that cannot work fails at once."""
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(DBAPIError):
        database.run(work)

    assert len(tries) == 1


@pytest.mark.postgres
def test_deadlock_is_repeated(postgres_url: str) -> None:
    """Two transactions that lock two rows crosswise both get done."""
    database = Database(postgres_url)
    with database.write() as connection:
        put(connection, "a", "")
        put(connection, "b", "")
    both_hold_one = threading.Barrier(2, timeout=30)
    met: list[str] = []

    def lock(first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            for name in (first, second):
                named = settings.c.name == name
                change = settings.c.value + first
                connection.execute(update(settings).where(named).values(value=change))
                if name == first and len(met) < 2:
                    met.append(name)
                    both_hold_one.wait()

        database.run(work)

    threads = [in_thread(lambda: lock("a", "b")), in_thread(lambda: lock("b", "a"))]
    for thread in threads:
        thread.join()

    with database.read() as connection:
        values = connection.execute(select(settings.c.value)).scalars().all()
    assert ["".join(sorted(value)) for value in values] == ["ab", "ab"]
    database.close()


# -- moments


def test_moments_come_back_aware(database: Database) -> None:
    """A moment of any zone comes back as the same moment, in UTC."""
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    with database.write() as connection:
        connection.execute(insert(leases), {"name": "a", "fence": 1, "until": tokyo})

    with database.read() as connection:
        found = connection.execute(select(leases.c.until)).scalar_one()

    assert found == NOW
    assert found.utcoffset() == timedelta(0)


def test_naive_moments_are_refused(database: Database) -> None:
    """A moment without a zone is never stored, whichever way it is written."""
    naive = NOW.replace(tzinfo=None)
    add = Rows(lambda insert: insert(leases), list(leases.c))
    row = {"name": "a", "fence": 1, "until": naive}

    with database.write() as connection:
        with pytest.raises(StatementError, match="without a time zone"):
            connection.execute(insert(leases), row)
        with pytest.raises(ValueError, match="without a time zone"):
            add(connection, [tuple(row.values())])
        assert connection.execute(select(leases)).all() == []


# -- the statements of the hot paths


def test_rows_are_written_as_sqlalchemy_writes_them(database: Database) -> None:
    """Rows written by the thousand read back like those of a plain insert."""
    add = Rows(
        lambda insert: insert(events).on_conflict_do_nothing().returning(events.c.id),
        list(events.c),
    )
    data = {"form": "ünï — 你", "n": [1, 2.5, None, True]}
    plain = {
        "source": "api",
        "key": None,
        "body_hash": "",
        "action": "form.submitted",
        "contact_id": 7,
        "data": data,
        "occurred_at": NOW,
        "created_at": NOW,
        "result": {},
    }

    with database.write() as connection:
        connection.execute(insert(events), plain)
        ids = draw_ids(connection, events, 4_000)
        made = sorted(
            row[0] for row in add(connection, [(id_, *plain.values()) for id_ in ids])
        )
        found = connection.execute(select(events).order_by(events.c.id)).all()

    assert len(set(made)) == 4_000
    assert made == [row.id for row in found[1:]]
    assert all(row[1:] == found[0][1:] for row in found)
    assert dict(found[-1]._mapping) == {"id": made[-1], **plain}


def test_rows_say_which_were_taken(database: Database) -> None:
    """Of rows whose key is there already, only the new ones are returned."""
    add = Rows(
        lambda insert: (
            insert(identities).on_conflict_do_nothing().returning(identities.c.value)
        ),
        list(identities.c),
    )

    with database.write() as connection:
        first = add(connection, [("email", "a", 1), ("email", "b", 2)])
        second = add(connection, [("email", "b", 3), ("email", "c", 3)])

    assert sorted(first) == [("a",), ("b",)]
    assert second == [("c",)]


def test_rows_need_the_columns_in_order(database: Database) -> None:
    """Columns given in another order than the table's are refused, not mixed up."""
    add = Rows(lambda insert: insert(settings), [settings.c.value, settings.c.name])

    with database.write() as connection:
        with pytest.raises(AssertionError, match="in this order"):
            add(connection, [("1", "a")])
        assert names(connection) == []


def test_driver_errors_are_sqlalchemys(database: Database) -> None:
    """A row the database refuses raises what a plain insert raises, without values."""
    add = Rows(lambda insert: insert(settings), list(settings.c))

    with pytest.raises(DBAPIError) as refused, database.write() as connection:
        add(connection, [("a", "ana@shop.example"), ("a", "ben@shop.example")])

    assert "shop.example" not in str(refused.value)
    with database.write() as connection:
        add(connection, [("a", "ana@shop.example")])
        assert names(connection) == ["a"]


def test_among_finds_any_number(database: Database) -> None:
    """A look-up among 40,000 values finds those that are there."""
    find = Among(
        select(identities.c.value, identities.c.contact_id).where(
            identities.c.kind == bindparam("kind"),
            identities.c.value.in_(bindparam("among", expanding=True)),
        )
    )
    with database.write() as connection:
        row = {"kind": "email", "value": "p39999", "contact_id": 7}
        connection.execute(insert(identities), row)

        found = find(connection, [f"p{number}" for number in range(40_000)], "email")

        assert [tuple(row) for row in found] == [("p39999", 7)]
        assert find(connection, [], "email") == []


# Texts both databases keep: no NUL, no half of a character.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


ODD = {"", '"', "\\", '\\"', "{,}", "NULL", " ä\n", "a,b", "%s", "it's", "\u2028"}


def test_texts_come_back_as_they_were(database: Database) -> None:
    """Whatever a text is made of, it is written, found and read unchanged."""
    add = Rows(lambda insert: insert(identities), list(identities.c))
    find = Among(
        select(identities.c.value).where(
            identities.c.value.in_(bindparam("among", expanding=True))
        )
    )
    each = ForEach(
        lambda among: select(identities.c.value).where(
            among(identities.c.value, "texts")
        )
    )

    @given(st.sets(TEXTS))
    @example(ODD)
    def check(values: set[str]) -> None:
        with database.write() as connection:
            connection.execute(delete(identities))
            if values:
                add(connection, [("email", value, 1) for value in values])
            asked = [*values, "somebody else"]
            found = connection.execute(each(connection), {"texts": asked}).scalars()
            assert set(found) == values
            assert {value for (value,) in find(connection, asked)} == values

    check()


class Moment(datetime):
    """What other libraries make of a moment."""


def test_moments_of_other_libraries_are_written(database: Database) -> None:
    """A moment is one, whatever kind of `datetime` it is."""
    add = Rows(
        lambda insert: insert(events).returning(events.c.occurred_at), list(events.c)
    )
    moment = Moment(2026, 3, 4, 9, 0, 0, 123_456, tzinfo=UTC)
    row: tuple[object, ...] = (
        "api",
        None,
        "",
        "form.submitted",
        7,
        {},
        moment,
        moment,
        {},
    )

    with database.write() as connection:
        (id_,) = draw_ids(connection, events, 1)
        add(connection, [(id_, *row)])
        found = connection.execute(select(events.c.occurred_at)).scalars().all()

    assert found == [NOW]


# -- forks and addresses


# Python warns of every fork beside threads; that it goes well is what is tested.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_fork_leaves_the_parents_connections_alone(database: Database) -> None:
    """A child writes on connections of its own, though threads were writing."""
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            with database.write() as connection:
                ours = update(settings).where(settings.c.name == "parent")
                connection.execute(ours.values(value="again"))

    with database.write() as connection:
        put(connection, "parent", "")
    threads = [in_thread(write) for _ in range(4)]
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(60)
        with suppress(Exception):
            database.after_fork()
            with database.write() as connection:
                put(connection, "child", "")
            database.close()
            code = 0
        os._exit(code)
    _, status = os.waitpid(child, 0)
    done.set()
    for thread in threads:
        thread.join()

    assert os.waitstatus_to_exitcode(status) == 0
    with database.read() as connection:
        assert names(connection) == ["child", "parent"]


@pytest.mark.parametrize("url", ["onward.db", "", "sqlite:/onward.db"])
def test_address_that_is_none(url: str) -> None:
    """What is no database address is refused in one sentence with an example."""
    with pytest.raises(ConfigError, match="is no database address; write for example"):
        Database(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql+psycopg://onward:S3cr@tPart2@db.invalid/onward", "as %40"),
        ("postgresql+psycopg://onward:S3cret@db.invalid:port/onward", "is no database"),
    ],
)
def test_address_with_a_password_is_not_quoted(url: str, why: str) -> None:
    """Whatever is wrong with it, no part of the password is shown."""
    with pytest.raises(ConfigError, match=why) as raised:
        Database(url)

    assert not any(part in str(raised.value) for part in ("S3cr", "tPart2"))


def test_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """A new database, and what SQLite puts beside it, is for nobody else to read."""
    database = Database(f"sqlite:///{tmp_path / 'onward.db'}")

    upgrade(database)

    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    database.close()
    assert modes == {0o600}


def test_error_names_no_values(database: Database) -> None:
    """The values of a statement that fails are people's data and stay out of it."""
    with pytest.raises(DBAPIError) as raised, database.write() as connection:
        connection.execute(
            text("INSERT INTO nothing_like_it VALUES (:email)"),
            {"email": "ana@shop.example"},
        )

    assert "ana@shop" not in str(raised.value)
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_closed_database_opens_again(database: Database) -> None:
    """After `close` the next use opens the database anew."""
    with database.write() as connection:
        put(connection, "kept", "")
    database.close()

    with database.read() as connection:
        assert names(connection) == ["kept"]


KILL_ME = text("SELECT pg_terminate_backend(pg_backend_pid())")
WHO = text("SELECT pg_backend_pid()")
KILL = text("SELECT pg_terminate_backend(:pid)")


@pytest.mark.postgres
def test_transaction_that_lost_its_connection_is_repeated(postgres_url: str) -> None:
    """Before its COMMIT nothing counts: all of it is done again, once."""
    database = Database(postgres_url)
    turns: list[int] = []

    def work(connection: Connection) -> None:
        turns.append(1)
        put(connection, "kept", "")
        if len(turns) == 1:
            connection.execute(KILL_ME)

    database.run(work)

    assert len(turns) == 2
    with database.read() as connection:
        assert names(connection) == ["kept"]
    database.close()


@pytest.mark.postgres
@pytest.mark.parametrize("lasting", [True, False])
def test_connections_that_died_in_a_pause_are_made_anew(
    postgres_url: str, *, lasting: bool
) -> None:
    """Nobody notices that the server closed what was idle for more than a second."""
    database, other = Database(postgres_url), Database(postgres_url)

    def who() -> int:
        with database.write(lasting=lasting) as connection:
            return int(connection.execute(WHO).scalar_one())

    with freeze_time(NOW) as clock:
        first = who()
        assert who() == first
        with other.read() as killing:
            killing.execute(KILL, {"pid": first})
        clock.tick(PAUSE)

        second = who()

        assert second != first
        clock.tick(PAUSE)
        assert who() == second
    for opened in (database, other):
        opened.close()


@pytest.mark.postgres
def test_where_one_connection_died_the_others_are_asked(postgres_url: str) -> None:
    """After a restart one transaction finds out, and no other comes to harm."""
    database, other = Database(postgres_url), Database(postgres_url)
    with database.write() as first, database.write(lasting=False) as second:
        pids = [one.execute(WHO).scalar_one() for one in (first, second)]
    with other.read() as killing:
        for pid in pids:
            killing.execute(KILL, {"pid": pid})

    database.run(lambda connection: put(connection, "kept", ""), lasting=False)

    with database.read() as connection:
        assert names(connection) == ["kept"]
    for opened in (database, other):
        opened.close()


@pytest.mark.postgres
def test_connections_are_told_what_must_last(postgres_url: str) -> None:
    """Only a transaction that need not be on the disk ends before it is."""
    database = Database(postgres_url)

    def asked(*, lasting: bool) -> str:
        with database.write(lasting=lasting) as connection:
            return str(connection.execute(text("SHOW synchronous_commit")).scalar())

    assert asked(lasting=False) == "off"
    assert asked(lasting=True) == asked_of_server(database)
    database.close()


def asked_of_server(database: Database) -> str:
    """What a connection has that nobody told anything."""
    raw = database.connect_alone()
    with raw, raw.cursor() as cursor:
        return str(cursor.execute("SHOW synchronous_commit").fetchone()[0])


@pytest.mark.postgres
def test_commit_that_got_no_answer_is_not_repeated(postgres_url: str) -> None:
    """Nobody knows whether it counts, so the caller is told; it works again after."""
    database, other = Database(postgres_url), Database(postgres_url)
    turns: list[int] = []

    def work(connection: Connection) -> None:
        turns.append(1)
        put(connection, "who knows", "")
        pid = connection.execute(WHO).scalar_one()
        with other.read() as killing:
            killing.execute(KILL, {"pid": pid})

    with pytest.raises(DBAPIError):
        database.run(work)

    assert len(turns) == 1
    database.run(lambda connection: put(connection, "kept", ""))
    with database.read() as connection:
        assert "kept" in names(connection)
    for opened in (database, other):
        opened.close()


@pytest.mark.postgres
def test_process_that_is_stopped_in_a_transaction_lets_go(postgres_url: str) -> None:
    """PostgreSQL waits as long as a lease; then others have what it held."""
    stopped = Database(postgres_url, patience=timedelta(milliseconds=300))
    alive = Database(postgres_url)
    alive.run(lambda connection: put(connection, "held", "old"))
    change = text("UPDATE setting SET value = :value WHERE name = 'held'")

    def sleep(connection: Connection) -> None:
        connection.execute(change, {"value": "of the stopped"})
        # Waits for the row until the other one, which says nothing more, is given up.
        alive.run(lambda other: other.execute(change, {"value": "new"}))
        connection.execute(change, {"value": "too late"})

    with pytest.raises(DBAPIError), stopped.write() as connection:
        sleep(connection)

    with alive.read() as connection:
        found = connection.execute(text("SELECT value FROM setting")).scalars().all()
    assert found == ["new"]
    stopped.run(lambda connection: put(connection, "works again", ""))
    for opened in (stopped, alive):
        opened.close()


@pytest.mark.postgres
def test_address_says_how_soon_a_dead_network_is_noticed(postgres_url: str) -> None:
    """Within half a minute, unless the address itself says otherwise."""
    database = Database(f"{postgres_url}&connect_timeout=3")

    raw = database.connect_alone()

    assert raw.info.get_parameters()["connect_timeout"] == "3"
    assert raw.info.get_parameters()["keepalives_idle"] == "15"
    raw.close()
    database.close()
