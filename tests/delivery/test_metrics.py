"""Metrics of the queue and of what a process does, as Prometheus reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from onward.connections.state import pause, pause_segment, resume
from onward.database import Database
from onward.errors import ConfigError
from onward.metrics import exposition, install
from onward.metrics.meter import MOST_CODES, Meter
from onward.metrics.names import METRICS
from onward.metrics.stored import HELD, ON_ITS_WAY, QUEUE
from onward.testing.app import TestApp

Connect = Callable[..., TestApp]
DOCS = Path(__file__).parents[2] / "docs/monitoring.md"


def read(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """Return label values → number of one series, by what a scrape shows."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(exposition(registry)[0].decode()):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels.values())] = sample.value
    return found


def rows(app: TestApp) -> dict[str, float]:
    """Return state → rows of a fresh reading."""
    found = read(install_anew(app), "onward_queue_rows")
    return {state: number for (_, state), number in found.items() if number}


def install_anew(app: TestApp) -> CollectorRegistry:
    """Return a registry that has read nothing yet."""
    return install(app.runtime)


def test_outcomes_calls_and_batches_are_counted(
    connect: Connect, tools: Any, service: Any
) -> None:
    """By connection, state and code; a call by method and class of status."""
    app = connect()
    registry = install(app.runtime)
    tools.fire(app, "ana", "bob")
    service.script = [tools.answers(503)]

    app.deliver()
    app.clock.tick(10)
    app.deliver()

    delivered = ("delivered", "acme", "delivered")
    assert read(registry, "onward_deliveries_total") == {
        ("http_503", "acme", "waiting"): 2,
        delivered: 2,
    }
    calls = read(registry, "onward_call_seconds_count")
    assert calls["acme", "POST", "5xx"] == 1
    assert calls["acme", "POST", "2xx"] == 1
    assert read(registry, "onward_attempts_total") == {("acme", "push"): 2}
    assert read(registry, "onward_batch_seconds_count") == {("acme", "push"): 2}
    assert read(registry, "onward_drains_total") == {
        ("acme", "rest"): 1,
        ("acme", "empty"): 1,
    }
    assert read(registry, "onward_drains_running") == {}


def test_the_queue_is_counted_where_it_stands(
    connect: Connect, tools: Any, service: Any, database_url: str
) -> None:
    """Due, scheduled, held and waiting for an address; the oldest by its age."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana", "bob")
    app.record_action("form.sent", identities={"visitor": "v1"})
    app.clock.tick(90)

    due = rows(app)
    oldest = read(install_anew(app), "onward_queue_oldest_due_seconds")
    pause(app.runtime, 1, "credentials", "refused")
    paused = rows(app)
    registry = install_anew(app)
    code = read(registry, "onward_connection_paused")
    resume(app.runtime, 1)
    service.script = [tools.answers(503)]
    app.deliver()
    later = rows(app)

    assert due == {"due": 3}
    assert oldest == {("acme",): 90}
    assert paused == {"held": 3}
    assert code == {("credentials", "acme"): 1} or code == {("acme", "credentials"): 1}
    assert later == {"scheduled": 2, "no_email": 1}
    app.clock.tick(timedelta(hours=1))
    app.deliver()
    assert rows(app) == {"no_email": 1}


def test_rows_of_a_paused_segment_are_held(
    connect: Connect, tools: Any, database_url: str
) -> None:
    """And they do not count as due, nor make the oldest."""
    app = connect(database_url=database_url)
    tools.fire(app, "ana")
    app.verify("acme")
    state = tools.state(app)
    pause_segment(app.runtime, state, state.segment_id, "gone")
    app.clock.tick(60)

    registry = install_anew(app)

    assert rows(app) == {"held": 1}
    assert read(registry, "onward_queue_oldest_due_seconds") == {("acme",): 0}
    app.verify("acme")
    assert rows(app) == {"due": 1}


def test_a_reading_is_kept_for_a_while(connect: Connect, tools: Any) -> None:
    """Whoever asks often does not make the database work often."""
    app = connect()
    registry = install(app.runtime)
    before = read(registry, "onward_queue_rows")

    tools.fire(app, "ana")

    assert read(registry, "onward_queue_rows") == before
    assert rows(app) == {"due": 1}


def test_without_the_database_the_rest_is_shown(connect: Connect) -> None:
    """A scrape works, and says that the database is away; then that it is back."""
    app = connect()
    with app.runtime.database.write() as transaction:
        transaction.execute(text("ALTER TABLE job RENAME TO away"))
    registry = install(app.runtime)

    away = read(registry, "onward_database_up")
    with app.runtime.database.write() as transaction:
        transaction.execute(text("ALTER TABLE away RENAME TO job"))

    assert away == {(): 0}
    assert read(registry, "onward_queue_rows") == {}
    assert read(registry, "onward_build_info") != {}
    assert read(install_anew(app), "onward_database_up") == {(): 1}


def test_waits_for_the_limit_are_added_up(connect: Connect, tools: Any) -> None:
    """What a batch waits for its calls is in the sum."""
    app = connect('segment = "News"\nlimits = ["4/minute"]')
    registry = install(app.runtime)
    tools.fire(app, *(f"p{number}" for number in range(25)))

    app.deliver()

    assert {end[0] for end in tools.ended(app).values()} == {"delivered"}
    waited = read(registry, "onward_limiter_wait_seconds_total")
    limited = read(registry, "onward_drains_total").get(("acme", "limit"), 0)
    assert waited[("acme",)] > 0
    assert app.clock.slept > 0
    assert limited or waited[("acme",)] > 1


def test_codes_that_an_integration_makes_up_do_not_pile_up() -> None:
    """Beyond a hundred they are one, and an address is no code."""
    registry = CollectorRegistry()
    meter = Meter(registry, database="sqlite")

    meter.settled("acme", [("failed", f"code-{n}") for n in range(MOST_CODES + 50)])
    meter.settled("acme", [("failed", "ana@shop.example"), ("failed", "code-1")])

    counted = read(registry, "onward_deliveries_total")
    assert len(counted) == MOST_CODES + 1
    assert counted["other", "acme", "failed"] == 51
    assert counted["code-1", "acme", "failed"] == 2


def test_a_missing_package_is_said_in_a_sentence(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for metrics without prometheus-client is told what to install."""
    app = connect()
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)

    with pytest.raises(ConfigError, match=r"pip install 'onward\[metrics\]'"):
        install(app.runtime)


def plan(transaction: Transaction, statement: Any) -> list[str]:
    """Return how the database would carry a statement out."""
    compiled = statement.compile(dialect=transaction.dialect)
    given = {**compiled.params, "moment": "2026-03-04 09:00:00"}
    if transaction.dialect.name == "sqlite":
        values = tuple(given[name] for name in compiled.positiontup)
        said = transaction.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)
        return [row[3] for row in said]
    # Of a table without rows it would rather read all of them.
    transaction.execute(text("SET LOCAL enable_seqscan = off"))
    return [row[0] for row in transaction.exec_driver_sql(f"EXPLAIN {compiled}", given)]


def test_queries_use_indexes(database: Database) -> None:
    """None of what is read at a scrape walks through all pushes."""
    with database.write() as transaction:
        plans = [plan(transaction, one) for one in (QUEUE, ON_ITS_WAY, HELD)]

    for steps in plans:
        assert any("push_" in step for step in steps), steps
        for step in steps:
            assert "Seq Scan on push" not in step
            assert "SCAN push" not in step or "INDEX" in step


def test_the_page_lists_every_metric_and_no_other() -> None:
    """Name, kind, labels and meaning stand in docs/monitoring.md as in the code."""
    page = DOCS.read_text("utf-8")
    shown = re.findall(r"^\| `(onward_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.M)

    assert shown == [
        (
            one.name,
            one.kind,
            ", ".join(f"`{label}`" for label in one.labels) or "none",
            one.meaning,
        )
        for one in METRICS
    ]


def test_every_metric_is_shown(connect: Connect) -> None:
    """A scrape has each by its name and kind, before anything happened."""
    registry = install(connect().runtime)
    body, kind = exposition(registry)

    shown = dict(re.findall(r"^# TYPE (\w+) (\w+)$", body.decode(), re.MULTILINE))

    assert kind.startswith("text/plain")
    assert {one.name: one.kind for one in METRICS}.items() <= shown.items()
