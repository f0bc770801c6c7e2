"""What every engine is held to: embedded, cluster, and the one of docs/engines.md."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from .conftest import until

if TYPE_CHECKING:
    from .conftest import Bench

AtOnce = Callable[[Sequence[str]], list[Any]]

NEVER = 300.0  # seconds between two looks: only a wake-up finds anything

GOOD = text("SELECT CAST(remote_fields AS TEXT) FROM connection WHERE name = 'bad'")
BREAK = text("UPDATE connection SET remote_fields = :fields WHERE name = 'bad'")


def test_a_wake_up_is_enough(bench: Bench) -> None:
    """What is queued is sent at once, long before anybody looks by itself."""
    bench.open()
    with bench.running(sweep=NEVER):
        bench.push("first")
        bench.delivered(1)

        bench.push("second")

        bench.delivered(2)


def test_a_wake_up_that_got_lost_costs_time_only(bench: Bench) -> None:
    """The sweep finds what nobody was told of."""
    app = bench.open()
    with bench.running():
        app.runtime.on_work = lambda connection_id: None

        bench.push("ana")

        bench.delivered(1)


def test_a_call_to_look_at_all_connections(bench: Bench) -> None:
    """`wake(None)` is for who heard only that there is work."""
    app = bench.open("acme", "other")
    with bench.running(sweep=NEVER) as engine:
        bench.push("first")
        bench.delivered(1)
        app.runtime.on_work = lambda connection_id: None
        bench.push("ana")
        bench.push("ben", to="other")

        engine.wake(None)

        bench.delivered(3)


def test_woken_while_it_drains_a_connection_is_drained_once_more(bench: Bench) -> None:
    """Several wake-ups during a drain are one more drain after it."""
    bench.open()
    engine = bench.engine(sweep=NEVER)
    engine.start()
    bench.service.open.clear()
    bench.push("ana")
    bench.service.wait_for("ana@shop.example")
    during = bench.fence()

    for _ in range(3):
        engine.wake(1)
    bench.service.open.set()

    until(lambda: bench.fence() > during, "drained once more")
    bench.delivered(1)
    engine.stop()
    assert bench.fence() == during + 1


def test_a_drain_that_raises_stops_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection whose row cannot be read is logged; the others go on, and it too."""
    app = bench.open("bad", "acme")
    app.verify("bad")
    with app.runtime.database.write() as transaction:
        good = transaction.execute(GOOD).scalar()
        transaction.execute(BREAK, {"fields": '[{"unknown": 1}]'})
    with caplog.at_level(logging.ERROR), bench.running():
        bench.push("ana", to="bad")
        for name in ("ana", "ben", "eve"):
            bench.push(name)
            bench.service.wait_for(f"{name}@shop.example")
        until(lambda: bench.states()["delivered"] == 3, "the others delivered")
        until(lambda: "drain failed" in caplog.text or "tried again" in caplog.text, "")

        with app.runtime.database.write() as transaction:
            transaction.execute(BREAK, {"fields": good})

        bench.delivered(4)


def test_stop_ends_what_is_being_sent(bench: Bench) -> None:
    """It returns when the outcome is stored; nothing more began, no thread is left."""
    bench.open()
    before = set(threading.enumerate())
    engine = bench.engine()
    engine.start()
    bench.service.open.clear()
    bench.push(*(f"p{number}" for number in range(30)))
    until(lambda: bench.service.busy["acme"], "a batch on its way")
    stopping = threading.Thread(target=engine.stop)

    stopping.start()
    stopping.join(0.3)

    assert stopping.is_alive()
    bench.service.open.set()
    stopping.join(30)
    assert not stopping.is_alive()
    states = bench.states()
    assert states["sending"] == 0
    assert states["delivered"] % 10 == 0
    assert 10 <= states["delivered"] < 30
    ours = {"onward", "queue", "dbos"}
    left = set(threading.enumerate()) - before
    assert [one.name for one in left if one.name.split("-")[0] in ours] == []
    with bench.running():
        bench.delivered(30)


def test_start_and_stop_may_be_said_again(bench: Bench) -> None:
    """Twice is once, and after a stop it starts anew."""
    bench.open()
    engine = bench.engine()
    engine.stop()
    engine.start()
    engine.start()
    bench.push("ana")
    bench.delivered(1)
    engine.stop()
    engine.stop()
    bench.push("ben")
    waiting = bench.states()

    engine.start()

    assert waiting == {"delivered": 1, "waiting": 1}
    bench.delivered(2)
    engine.stop()


def test_a_process_that_is_unfit_leaves_it_to_others(bench: Bench) -> None:
    """While its clock is wrong nothing is sent; once it is right it goes on."""
    app = bench.open()
    with bench.running():
        app.runtime.unfit = "the clock is wrong"
        bench.push("ana")
        looks = threading.Event()
        assert not looks.wait(0.5)
        meanwhile = bench.states()

        app.runtime.unfit = ""

        bench.delivered(1)
    assert meanwhile == {"waiting": 1}


# -- every


def test_a_function_waits_for_no_other(bench: Bench) -> None:
    """While one takes long, the others are called as often as ever."""
    bench.open()
    goes_on, begun, other = threading.Event(), threading.Event(), threading.Semaphore(0)

    def takes_long() -> None:
        begun.set()
        goes_on.wait(300)

    engine = bench.engine()
    engine.every(timedelta(milliseconds=10), takes_long)
    engine.every(timedelta(milliseconds=10), other.release)
    engine.start()

    try:
        assert begun.wait(30)
        for _ in range(3):
            assert other.acquire(timeout=30)
    finally:
        goes_on.set()
        engine.stop()


def test_a_function_is_called_again_and_again(bench: Bench) -> None:
    """Before the start and after it, and whatever it raises."""
    bench.open()
    first, second = threading.Semaphore(0), threading.Semaphore(0)

    def raises() -> None:
        first.release()
        raise RuntimeError("it does not work today")

    engine = bench.engine()
    engine.every(timedelta(milliseconds=10), raises)
    engine.start()
    engine.every(timedelta(milliseconds=10), second.release)

    for called in (first, second):
        for _ in range(3):
            assert called.acquire(timeout=30)
    engine.stop()


def test_functions_of_one_name_take_turns(bench: Bench) -> None:
    """Neither counts as called because the other one was."""
    bench.open()
    called = [threading.Event(), threading.Event()]

    def make(event: threading.Event) -> Callable[[], None]:
        def takes_a_while() -> None:
            threading.Event().wait(0.2)
            event.set()

        return takes_a_while

    engine = bench.engine()
    for event in called:
        engine.every(timedelta(hours=1), make(event))
    engine.start()

    assert all(event.wait(30) for event in called)
    engine.stop()


EVERY = """
calls = threading.Semaphore(0)

def called():
    with open({path!r}, "a") as log:
        print("begin", number, file=log, flush=True)
        threading.Event().wait(0.02)
        print("end", number, file=log, flush=True)
    calls.release()
    if number:
        raise RuntimeError("it does not work today")

engine = Engine(app.runtime)
engine.every(timedelta(milliseconds=1), called)
engine.start()
for _ in range(5):
    assert calls.acquire(timeout=30)
engine.stop()
"""


def test_a_function_is_called_by_one_worker_at_a_time(
    bench: Bench, at_once: AtOnce
) -> None:
    """Two processes call it in turns, never at the same moment."""
    bench.open()
    log = bench.folder / "calls.txt"
    script = bench.script(EVERY.format(path=str(log)))

    at_once([script, script])

    said = [line.split() for line in log.read_text().splitlines()]
    assert [word for word, _ in said] == ["begin", "end"] * (len(said) // 2)
    assert [who for _, who in said[::2]] == [who for _, who in said[1::2]]
    assert {who for _, who in said} == {"0", "1"}


# -- several processes

WORK = """
engine = Engine(app.runtime, sweep=timedelta(seconds=0.2))
engine.start()
until(lambda: rows() == 0)
engine.stop()
"""


def test_two_processes_deliver_each_once(bench: Bench, at_once: AtOnce) -> None:
    """No connection is drained by both at once, and nobody is sent twice."""
    names = ("acme", "bakery", "cafe")
    bench.open(*names)
    people = [f"p{number}" for number in range(60)]
    for name in names:
        bench.push(*people, to=name)

    at_once([bench.script(WORK)] * 2)

    assert bench.states() == {"delivered": 180}
    once = {f"{one}@shop.example": 1 for one in people}
    assert bench.service.people == dict.fromkeys(names, once)
    assert bench.service.most == dict.fromkeys(names, 1)


KILLED = """
import os
os.environ["ONWARD_FAILPOINT"] = "after_request:2"
engine = Engine(app.runtime, sweep=timedelta(seconds=0.2))
engine.start()
threading.Event().wait(30)
"""


def test_a_killed_worker_is_followed_when_its_lease_ends(
    bench: Bench, at_once: AtOnce
) -> None:
    """Killed in mid-batch, another goes on within lease + 5 s; each is sent once."""
    bench.open(lease="2s")
    bench.push(*(f"p{number}" for number in range(40)))

    [ended] = at_once([bench.script(KILLED)])
    killed, bench.service.first = monotonic(), 0.0
    sending = bench.states()["sending"]
    with bench.running():
        bench.delivered(40)

    assert ended == {"ended": -9}
    assert sending >= 10
    assert set(bench.service.people["acme"].values()) == {1}
    assert bench.service.first - killed < 2 + 5
