"""The commands on PostgreSQL, where nothing is migrated by the way."""

from __future__ import annotations

import signal
import subprocess

import pytest

from .conftest import Place

pytestmark = pytest.mark.postgres

Stop = list[subprocess.Popen[str]]


def test_the_main_job_works_on_postgresql(
    place: Place, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init, fire, push, deliver, listings, doctor and the bundle."""
    monkeypatch.setenv("ONWARD_DATABASE_URL", postgres_url)

    assert "icontact: verified" in place.good("init").out
    place.good("fire", "seen", "--email", "ana@shop.example")
    place.good("push", "ana@shop.example", "--to", "icontact")
    assert "delivered delivered: 1" in place.good("deliver", "--until-empty").out

    [row] = place.good("deliveries", "--state", "delivered", "--json").json
    assert row["email"] == "ana@shop.example"
    assert place.good("deliveries", "--state", "held", "--json").json == []
    assert len(place.good("contacts", "--json").json) == 1
    [listed] = place.good("connections", "--json").json
    assert listed["status"] == "active"
    checks = place.good("doctor", "--json").json
    assert {check["level"] for check in checks} == {"ok"}
    place.good("diagnose", "--output", "bundle.json")
    assert "shop.example" not in (place.path / "bundle.json").read_text("utf-8")


def test_connections_can_be_added_on_postgresql(
    place: Place, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rehearsal in memory ends in a row of the shared database."""
    monkeypatch.setenv("ONWARD_DATABASE_URL", postgres_url)
    place.write("onward.toml", "")
    place.good("init")

    place.good("connections", "add", "icontact", *place.settings(), "--segment", "VIP")

    [listed] = place.good("connections", "--json").json
    assert (listed["segment"], listed["declared"]) == ("VIP", False)
    place.good("connections", "test", "icontact")


def test_an_old_schema_is_a_problem_until_upgraded(
    place: Place, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only `db upgrade` migrates what other machines may use; all else says so."""
    from sqlalchemy import text

    from onward.database import Database

    monkeypatch.setenv("ONWARD_DATABASE_URL", postgres_url)
    database = Database(postgres_url)
    with database.write() as transaction:
        transaction.execute(text("DROP SCHEMA public CASCADE"))
        transaction.execute(text("CREATE SCHEMA public"))
    database.close()

    refused = place.run("deliver")
    examined = place.run("doctor")

    assert (refused.status, examined.status) == (1, 1)
    assert "onward db upgrade" in refused.err
    assert "there are no tables yet" in examined.out
    assert place.good("db", "upgrade").out.startswith("upgraded")
    place.good("deliver")


def test_the_cluster_engine_is_made_ready_by_an_upgrade(
    place: Place, postgres_url: str, monkeypatch: pytest.MonkeyPatch, stop: Stop
) -> None:
    """A worker that has not its tables says so; after the upgrade it delivers."""
    monkeypatch.setenv("ONWARD_DATABASE_URL", postgres_url)
    text = (place.path / "onward.toml").read_text("utf-8")
    place.write("onward.toml", '[onward]\nengine = "cluster"\n' + text)
    place.good("fire", "seen", "--email", "ana@shop.example")
    place.good("push", "ana@shop.example", "--to", "icontact")

    refused = place.run("worker")
    upgraded = [place.good("db", "upgrade").out for _ in range(2)]
    worker = place.start("worker", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    stop.append(worker)
    while place.good("deliveries", "--state", "delivered", "--json").json == []:
        assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=60)

    assert refused.status == 1
    assert "run `onward db upgrade` once" in refused.err
    assert upgraded == [upgraded[0]] * 2
    assert "the tables of the cluster engine are ready" in upgraded[0]
    assert (worker.returncode, out) == (0, "")
    assert err.splitlines()[-1].endswith("stopped")
    assert "dbos" not in err.lower()
