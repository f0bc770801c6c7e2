"""Kill -9 of a real process at each named place of a delivery, and what comes after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from onward.clock import utcnow
from onward.failpoints import DELIVERY
from onward.testing.app import Clock, TestApp
from onward.testing.server import Server
from onward_icontact.simulator import Simulator

AtOnce = Callable[[Sequence[str]], list[Any]]

TOML = """
[onward]
database_url = "{database_url}"
lease = "60s"
[connections.icontact]
integration = "icontact"
segment = "Newsletter"
limits = ["100000/minute"]
[connections.icontact.settings]
app_id = "{sim.app_id}"
username = "{sim.username}"
password = "{sim.password}"
account_id = "{sim.account_id}"
client_folder_id = "{sim.client_folder_id}"
api_url = "{url}/icp"
"""
ARMED = """
import os
from datetime import datetime
os.environ["ONWARD_FAILPOINT"] = "{point}:{turn}"
moment = datetime.fromisoformat("{now}")
app.runtime.clock, app.runtime.simulated = (lambda: moment), True
app.deliver()
"""
KEPT = "555-0199"
# By day PostgreSQL is killed around the request, where a mistake would send twice.
AROUND = frozenset({"after_attempt", "after_request", "after_answer"})
CELLS = [
    *(pytest.param("sqlite", point, id=f"sqlite-{point}") for point in DELIVERY),
    *(
        pytest.param(
            "postgres",
            point,
            id=f"postgres-{point}",
            marks=[
                pytest.mark.postgres,
                *([] if point in AROUND else [pytest.mark.nightly]),
            ],
        )
        for point in DELIVERY
    ),
]


@pytest.fixture
def sim() -> Simulator:
    """An iContact that harms whoever sends a thing twice or leaves something out."""
    return Simulator(
        opt_out_subscribe="resubscribes",
        omitted_status="reset",
        collection_post="overwrite",
    )


@pytest.fixture
def app(
    sim: Simulator,
    database_url: str,
    tmp_path: Path,
    make_app: Callable[..., TestApp],
) -> Iterator[TestApp]:
    """An Onward connected over real HTTP, as the processes of `at_once` are."""
    with Server(sim.handle) as server:
        text = TOML.format(database_url=database_url, sim=sim, url=server.url)
        (tmp_path / "onward.toml").write_text(text)
        yield make_app(text, database_url=database_url, clock=Clock(utcnow()))


def emails_of(turn: int) -> dict[str, str]:
    """Return who is pushed in this turn: name → address."""
    names = ("new", "second", "there", "known", "left", "refused")
    return {name: f"{name}-{turn}@shop.example" for name in names}


def prepare(app: TestApp, sim: Simulator, who: dict[str, str]) -> list[int]:
    """Queue some who are new and some who are in iContact in every other way."""
    folder = sim.folder()
    for name in ("there", "left", "refused"):
        status = "donotcontact" if name == "refused" else "normal"
        folder.add_contact(who[name], status, fax=KEPT, lists=["Newsletter"])
    folder.unsubscribe("Newsletter", who["left"])
    app.upsert_contact({"email": who["known"], "first_name": "Old"})
    app.push(to="icontact", email=who["known"])
    app.deliver()
    known = folder.find(who["known"])
    assert known is not None
    known.values["fax"] = KEPT
    app.clock.tick(11)  # for ten seconds a reading of opt-outs is believed
    for email in who.values():
        app.upsert_contact({"email": email, "first_name": "New", "city": "Durham"})
    return app.push(to="icontact", emails=[*who.values()])


def meanwhile(sim: Simulator, who: dict[str, str]) -> set[str]:
    """Let the owner and a contact do something before the next worker comes."""
    folder, gone = sim.folder(), set[str]()
    for name in ("new", "second"):
        contact = folder.find(who[name])
        if contact is not None:
            contact.values["fax"] = KEPT
    if folder.subscription("Newsletter", who["second"]) == "normal":
        folder.unsubscribe("Newsletter", who["second"])
        gone.add("second")
    return gone


def check(
    app: TestApp, sim: Simulator, who: dict[str, str], rows: list[int], gone: set[str]
) -> None:
    """Nobody lost, nobody twice, nobody harmed, and the truth was said."""
    folder = sim.folder()
    said = {row["email"]: row for row in app.deliveries() if row["id"] in rows}
    for name, email in who.items():
        state, code = said[email]["state"], said[email]["code"]
        contact = folder.find(email)
        assert contact is not None, name
        on = folder.subscription("Newsletter", email)
        if name in ("left", "refused"):
            expected = {"left": "unsubscribed", "refused": "do_not_contact"}[name]
            assert (state, code) == ("skipped", expected)
            assert on == {"left": "unsubscribed", "refused": "normal"}[name]
            assert contact.values == {"fax": KEPT}, name
            continue
        assert contact.status == "normal"
        assert (contact.get("firstName"), contact.get("city")) == ("New", "Durham")
        if name in gone:
            assert on == "unsubscribed"
            assert state == "delivered" or code == "unsubscribed"
        else:
            assert on == "normal", name
            assert (state, code) in {
                ("delivered", "delivered"),
                ("delivered", "read_back"),
            }
        if name in ("there", "known") or contact.get("fax"):
            assert contact.get("fax") == KEPT, name
    made = [one.email for one in folder.contacts.values()]
    assert len(made) == len(set(made))


@pytest.mark.slow
@pytest.mark.parametrize(("database_url", "point"), CELLS, indirect=["database_url"])
def test_killed_at(
    point: str, app: TestApp, sim: Simulator, at_once: AtOnce, database_url: str
) -> None:
    """Wherever a worker dies, the next one ends its work when its lease is over.

    Each time the place is passed, in turn, until a delivery lives to its end; on
    PostgreSQL, for the sake of time, the first time only.
    """
    turns: Iterable[int] = count(1)
    if database_url.startswith("postgresql"):
        turns = [1]
    for turn in turns:
        who = emails_of(turn)
        rows = prepare(app, sim, who)
        now = app.clock().isoformat()

        [ended] = at_once([ARMED.format(point=point, turn=turn, now=now)])

        if ended != {"ended": -9}:
            assert turn > 1, "it was never passed"
            check(app, sim, who, rows, set())
            break
        gone = meanwhile(sim, who)
        app.clock.tick(timedelta(seconds=61))
        app.deliver()
        assert app.queued == []
        check(app, sim, who, rows, gone)
