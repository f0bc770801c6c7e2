"""Who looks for the id of one delivery finds all that was done about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from onward.logs.context import ContextFilter
from onward.testing.app import TestApp

Connect = Callable[..., TestApp]


class Lines(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(ContextFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.records.append(record)

    def about(self, delivery: int) -> list[str]:
        """Return the messages of the lines that name a delivery."""
        found: list[str] = []
        for record in self.records:
            of: dict[str, Any] = vars(record)
            if delivery in (of.get("delivery_id"), *of.get("delivery_ids", ())):
                found.append(record.getMessage())
        return found


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What Onward logs."""
    handler, log = Lines(), logging.getLogger("onward")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def test_every_step_of_a_delivery_names_it(
    connect: Connect, tools: Any, lines: Lines
) -> None:
    """From the queue over claim, attempt and request to its outcome."""
    app = connect()
    tools.fire(app, "ana", "bob")
    row = app.queued[0]

    app.deliver()

    assert lines.about(row["id"]) == [
        f"delivery {row['id']} is queued: contact {row['contact_id']}",
        f"delivery {row['id']} is claimed",
        "attempt 1: 2 leave",
        "POST /people: 200",
        f"delivery {row['id']} is delivered",
        "2 delivered",
    ]
    last: dict[str, Any] = vars(lines.records[-1])
    assert last["attempt_id"] == 1
    assert (last["connection"], last["fence"]) == ("acme", 1)


def test_what_failed_is_a_warning_with_ids(
    connect: Connect, tools: Any, lines: Lines, service: Any
) -> None:
    """By code, with the ids of deliveries and contacts, and no address."""
    app = connect()
    tools.fire(app, "ana")
    [row] = app.queued
    service.script = [tools.answers(422)]

    app.deliver()

    [warning] = [r for r in lines.records if r.levelno == logging.WARNING]
    of: dict[str, Any] = vars(warning)
    assert warning.getMessage() == "1 failed: http_422"
    assert (of["delivery_ids"], of["contact_ids"]) == ([row["id"]], [row["contact_id"]])
    lines.records.clear()
    app.push(to="acme", email="ana@shop.example")
    app.deliver()
    assert tools.ended(app) == {"ana": ("delivered", "delivered")}
    assert [r.levelname for r in lines.records if r.levelno > logging.INFO] == []


def test_a_rest_returns_rows_and_says_so(
    connect: Connect, tools: Any, lines: Lines, service: Any
) -> None:
    """A throttled batch leaves a line that its rows wait, and one that it rests."""
    app = connect(traits={"throttled": {503}})
    tools.fire(app, "ana")
    [row] = app.queued
    service.script = [tools.answers(503)]

    app.deliver()

    assert "1 returned to waiting" in lines.about(row["id"])
    [rests] = [r for r in lines.records if r.getMessage().startswith("rests until")]
    assert vars(rests)["code"] == "throttled"
    app.clock.tick(10)
    app.deliver()
    assert lines.about(row["id"])[-1] == "1 delivered"


def test_a_batch_costs_as_many_lines_as_another(
    connect: Connect, tools: Any, lines: Lines
) -> None:
    """At INFO a larger batch makes no more lines."""
    logging.getLogger("onward").setLevel(logging.INFO)
    counts: list[int] = []
    for people in (["ana"], [f"p{number}" for number in range(9)]):
        app = connect()
        tools.fire(app, *people)
        lines.records.clear()
        app.deliver()
        counts.append(len([r for r in lines.records if r.name == "onward.trail"]))

    assert counts == [1, 1]
