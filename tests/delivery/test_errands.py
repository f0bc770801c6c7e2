"""Errands: somebody is unsubscribed or erased in a service, whatever goes wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import select, update

from onward import InputError, Limit, minute
from onward.alerts.check import check
from onward.connections.remove import remove_connection
from onward.connections.state import pause, resume
from onward.connections.verify import verify_connection
from onward.contacts.importing import import_contacts
from onward.contacts.showing import show_contact
from onward.delivery.lease import take
from onward.errands.listing import note_by_hand, try_again
from onward.errands.queue import ERASE, UNSUBSCRIBE, Order, queue_errands
from onward.errands.run import lease_name, run_errands
from onward.models import Alert, Attempt, Errand, Push, Suppression, table
from onward.pruning import prune
from onward.testing.app import TestApp
from onward.why import explain

from .errand_acme import (
    Erasing,
    ErrandService,
    Unsubscribing,
    errands,
    later,
    remote_rows,
    states,
)

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Acme, Connect, Tools

attempts = table(Attempt)
alerts = table(Alert)
pushes = table(Push)
rows = table(Errand)
suppressions = table(Suppression)

OPT_OUTS = 'segment = "News"\npush_opt_outs = true'


@pytest.fixture
def service() -> ErrandService:
    """The service, which can do errands."""
    return ErrandService()


def order(app: TestApp, name: str, kind: str = ERASE, contact_id: int = 0) -> None:
    """Queue an errand."""
    wish = Order(1, contact_id, f"id-{name}@shop.example", kind)
    app.runtime.database.run(
        lambda t: queue_errands(t, [wish], "a test", app.clock.now)
    )


def kept(app: TestApp, kind: str) -> list[Any]:
    """Return the attempts of a kind."""
    with app.runtime.database.read() as transaction:
        found = select(attempts).where(attempts.c.kind == kind)
        return list(transaction.execute(found).all())


def test_a_do_not_contact_is_pushed_out(
    connect: Connect, service: ErrandService, tools: Tools, database_url: str
) -> None:
    """Whoever is known in the service is unsubscribed there; what it said is gone."""
    app = connect(OPT_OUTS, kind=Unsubscribing, database_url=database_url)
    app.upsert_contact({"email": "ana@shop.example", "first_name": "Anastasia"})
    tools.fire(app, "ana", "ben")
    app.deliver()

    app.suppress("ana@shop.example", actor="sam")
    app.suppress("ana@shop.example", actor="sam")
    app.suppress("nobody@shop.example")
    assert [one["asked_by"] for one in errands(app)] == ["sam"]
    done = app.deliver()

    assert done.errands == {("unsubscribe", "done", "done"): 1}
    assert service.off == ["id-ana@shop.example"]
    [one] = errands(app)
    assert (one["state"], one["remote_id"], one["finished_at"]) == (
        "done",
        "",
        app.clock.now,
    )
    known = remote_rows(app)["id-ana@shop.example"]
    assert (known["segments"], known["unsure"]) == ({"1": "unsubscribed"}, True)
    [attempt] = kept(app, "unsubscribe")
    [said] = attempt.exchanges
    assert said["url"] == "https://acme.example/off/{id}"
    assert (said["status"], said["request"], said["answer"]) == (
        200,
        "[erased]",
        "[erased]",
    )
    assert "ana" not in str(attempt).casefold()


def test_only_where_it_is_wished_and_not_back_to_who_said_so(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """Without the setting nothing is asked; nor of who opted out there already."""
    app = connect(kind=Unsubscribing)
    tools.fire(app, "ana")
    app.deliver()
    app.suppress("ana@shop.example")

    assert errands(app) == []


def test_an_integration_that_cannot_is_not_asked(
    connect: Connect, acme: type[Acme], tools: Tools
) -> None:
    """The setting alone makes no errand that nobody could do."""
    app = connect(OPT_OUTS, kind=acme)
    tools.fire(app, "ana")
    app.deliver()
    app.suppress("ana@shop.example")

    assert errands(app) == []


def test_imported_opt_outs_are_pushed_out(
    connect: Connect, service: ErrandService, tools: Tools, tmp_path: Path
) -> None:
    """A do-not-contact column does what suppressing by hand does, once."""
    app = connect(OPT_OUTS, kind=Unsubscribing)
    tools.fire(app, "ana", "ben")
    app.deliver()
    path = tmp_path / "people.csv"
    path.write_text("email,do not contact\nana@shop.example,yes\nben@shop.example,\n")

    for _ in range(2):
        import_contacts(app.runtime, path)
        app.deliver()

    assert service.off == ["id-ana@shop.example"]
    assert states(app) == [("unsubscribe", "done", "done")]


def test_a_consent_before_it_left_cancels_it(
    connect: Connect, service: ErrandService, tools: Tools, database_url: str
) -> None:
    """Nobody is unsubscribed who allowed it again meanwhile."""
    app = connect(OPT_OUTS, kind=Unsubscribing, database_url=database_url)
    tools.fire(app, "ana")
    app.deliver()
    app.suppress("ana@shop.example")
    app.consent("ana@shop.example", how="phone", who="sam")
    app.deliver()

    assert states(app) == [("unsubscribe", "cancelled", "consent")]
    assert (service.off, errands(app)[0]["remote_id"]) == ([], "")
    app.suppress("ana@shop.example")
    app.deliver()
    assert service.off == ["id-ana@shop.example"]


def test_a_consent_while_it_waits_for_its_call_cancels_it(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """What waits for the limit has not left yet: it is looked at once more."""
    slow = {"limits": (Limit(2, per=minute, path="/off*"),)}
    app = connect(OPT_OUTS, kind=Unsubscribing, traits=slow)
    tools.fire(app, "ana", "ben", "cem")
    app.deliver()
    app.suppress("ana@shop.example")
    app.deliver()
    app.suppress("ben@shop.example")
    app.suppress("cem@shop.example")
    real = app.clock.sleep
    said: list[int] = []

    def sleep(seconds: float) -> None:
        if not said:
            said.append(app.consent("ben@shop.example", how="phone", who="sam"))
        real(seconds)

    app.runtime.sleep = sleep
    app.deliver()

    assert said == [1]
    assert service.off == ["id-ana@shop.example", "id-cem@shop.example"]
    assert [one[1:] for one in states(app)] == [
        ("done", "done"),
        ("cancelled", "consent"),
        ("done", "done"),
    ]


def test_a_consent_after_it_left_lets_them_join_again(
    connect: Connect, service: ErrandService, tools: Tools, database_url: str
) -> None:
    """What we did ourselves is answered by the consent, as an opt-out there is."""
    seen: list[bool] = []

    class Watching(Unsubscribing):
        def push(self, api: Any, batch: Any, segment: Any) -> Any:
            seen.extend(item.consent for item in batch)
            yield from super().push(api, batch, segment)

    app = connect(OPT_OUTS, kind=Watching, database_url=database_url)
    tools.fire(app, "ana")
    app.deliver()
    app.suppress("ana@shop.example")

    def consents(request: httpx.Request) -> None:
        app.consent("ana@shop.example", how="phone", who="sam")

    service.turns = [consents]
    app.deliver()
    assert states(app) == [("unsubscribe", "done", "done")]
    tools.fire(app, "ana")
    app.deliver()

    assert tools.ended(app)["ana"] == ("delivered", "delivered")
    assert seen == [False, True]

    app.suppress("ana@shop.example")
    app.deliver()
    tools.fire(app, "ana")
    app.deliver()
    assert tools.ended(app)["ana"] == ("skipped", "suppressed")
    app.consent("ana@shop.example", how="a form", who="sam")
    tools.fire(app, "ana")
    app.deliver()
    assert seen == [False, True, True]


def test_it_waits_while_a_push_of_them_is_on_its_way(
    connect: Connect, service: ErrandService, tools: Tools, database_url: str
) -> None:
    """A push that ends later could bring them back; a merged number counts too."""
    app = connect(kind=Erasing, database_url=database_url)
    visitor = {"visitor": "v1"}
    app.record_action("form.sent", identities=visitor)
    [push] = app.deliveries()
    ana = app.upsert_contact({"email": "ana@shop.example"}).contact_id
    app.verify("acme")

    def set_push(state: str, contact: int) -> None:
        with app.runtime.database.write() as transaction:
            transaction.execute(
                update(pushes)
                .where(pushes.c.id == push["id"])
                .values(state=state, fence=1, contact_id=contact)
            )

    set_push("sending", ana)
    order(app, "ana", contact_id=ana)
    run_errands(app.runtime)
    assert service.gone == []
    app.record_action("seen", email="ana@shop.example", identities=visitor)
    set_push("submitted", push["contact_id"])
    run_errands(app.runtime)
    assert service.gone == []
    set_push("delivered", ana)
    run_errands(app.runtime)
    assert service.gone == ["id-ana@shop.example"]


def test_a_merge_takes_them_over(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """The survivor's consent answers what the other one's do-not-contact asked for."""
    app = connect(OPT_OUTS, kind=Unsubscribing)
    tools.fire(app, "ana")
    app.deliver()
    app.suppress("ana@shop.example")
    app.upsert_contact({"email": "ana@new.example", "identities": {"user": "7"}})
    app.upsert_contact({"email": "ana@shop.example", "identities": {"user": "7"}})
    app.consent("ana@new.example", how="phone", who="sam")

    assert states(app) == [("unsubscribe", "cancelled", "consent")]


def test_who_cannot_be_erased_is_unsubscribed(
    connect: Connect, service: ErrandService, acme: type[Acme]
) -> None:
    """By the integration's best method; one that has none leaves it to a person."""
    app = connect(kind=Unsubscribing)
    order(app, "ana")
    app.deliver()
    assert states(app) == [("erase", "done", "done")]
    assert (service.off, service.gone) == (["id-ana@shop.example"], [])

    other = connect(kind=acme)
    order(other, "ana")
    other.deliver()
    [one] = errands(other)
    assert (one["state"], one["code"]) == ("failed", "not_supported")
    assert one["reason"] == "this integration cannot erase in Acme"


def test_a_throttled_service_is_left_in_peace(
    connect: Connect, service: ErrandService, tools: Tools, database_url: str
) -> None:
    """503 makes the connection rest and uses no try; afterwards it is done."""
    app = connect(kind=Erasing, traits={"throttled": {503}}, database_url=database_url)
    order(app, "ana")
    service.turns = [tools.answers(503)]
    done = app.deliver()

    assert tools.state(app).rest_step == 1
    assert "slow down" in done.held["acme, errands"]
    assert (errands(app)[0]["state"], errands(app)[0]["tries"]) == ("waiting", 0)
    assert app.deliver().held["acme, errands"]
    assert service.gone == []
    later(app, tools.state(app).rest_until)
    app.clock.tick(1)
    app.deliver()
    assert service.gone == ["id-ana@shop.example"]
    assert tools.state(app).rest_step == 0


def test_a_failure_is_tried_again_and_given_up(
    connect: Connect, service: ErrandService, tools: Tools, database_url: str
) -> None:
    """With the usual waits; then a person is told, and can try again or do it."""
    app = connect(kind=Erasing, database_url=database_url)
    order(app, "ana")
    order(app, "ben")
    steps = len(app.config.retry)
    for turn in range(steps + 1):
        service.turns = [tools.answers(500), tools.answers(500)]
        later(app, errands(app)[0]["due_at"])
        app.deliver()
        rest = tools.state(app).rest_until
        later(app, rest)
        app.clock.tick(1)
        assert [one["tries"] for one in errands(app)] == [turn + 1] * 2
    service.turns = []

    one, two = errands(app)
    assert (one["state"], one["code"]) == ("failed", "http_500")
    assert f"given up after {steps + 1} tries" in one["reason"]
    check(app.runtime)
    with app.runtime.database.read() as transaction:
        open_ones = select(alerts).where(
            alerts.c.kind == "errand", alerts.c.closed_at.is_(None)
        )
        [alert] = transaction.execute(open_ones).all()
    assert "could not be erased there and must be by hand" in alert.reason
    app.runtime.database.run(lambda t: try_again(t, [one["id"]], app.clock.now))
    app.deliver()
    assert service.gone == ["id-ana@shop.example"]
    app.runtime.database.run(lambda t: note_by_hand(t, [two["id"]], "sam", app.clock()))
    check(app.runtime)
    with app.runtime.database.read() as transaction:
        assert transaction.execute(open_ones).all() == []
    assert states(app) == [("erase", "done", "done"), ("erase", "done", "by_hand")]
    assert {one["remote_id"] for one in errands(app)} == {""}
    with pytest.raises(InputError, match="was not given up"):
        app.runtime.database.run(lambda t: try_again(t, [1], app.clock()))


def test_one_that_is_refused_does_not_stop_the_others(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """Those left of a refused batch are asked one by one; only one ends so."""
    app = connect(kind=Erasing)
    for name in ("ana", "ben", "cem", "dan"):
        order(app, name)
    service.turns = [lambda _: None, tools.answers(400), tools.answers(400)]
    app.deliver()

    assert [one[1:] for one in states(app)] == [
        ("done", "done"),
        ("failed", "http_400"),
        ("done", "done"),
        ("done", "done"),
    ]
    assert len(kept(app, "erase")) == 4


def test_what_is_not_confirmed_is_asked_again(
    connect: Connect, service: ErrandService
) -> None:
    """An id the integration leaves out is no success."""

    class Silent(Erasing):
        quiet = True

        def erase(self, api: Any, keys: Any) -> Any:
            for done in super().erase(api, keys):
                if not (Silent.quiet and "ben" in done):
                    yield done

    app = connect(kind=Silent)
    order(app, "ana")
    order(app, "ben")
    app.deliver()
    assert [one[1:] for one in states(app)] == [
        ("done", "done"),
        ("waiting", "not_confirmed"),
    ]
    Silent.quiet = False
    later(app, errands(app)[1]["due_at"])
    app.deliver()
    assert states(app)[1] == ("erase", "done", "done")


def test_a_plugin_that_invents_ids_is_said(connect: Connect) -> None:
    """What it yielded that nobody asked for ends nothing."""

    class Wrong(Erasing):
        def erase(self, api: Any, keys: Any) -> Any:
            yield from super().erase(api, keys)
            yield "id-of-nobody"

    app = connect(kind=Wrong)
    order(app, "ana")
    done = app.deliver()
    assert states(app) == [("erase", "done", "done")]
    assert "none of the ids" in done.held["acme, errands"]


def test_refused_credentials_and_an_unpaid_account_pause(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """The errand is held as pushes are, and goes on after the repair."""
    app = connect(kind=Erasing)
    app.verify("acme")
    order(app, "ana")
    service.login = 401
    app.deliver()
    assert tools.state(app).paused_code == "credentials"
    assert states(app) == [("erase", "waiting", "credentials")]
    service.login = 200
    resume(app.runtime, 1)
    service.turns = [tools.answers(402)]
    app.deliver()
    assert tools.state(app).paused_code == "account_blocked"
    assert app.deliver().held["acme, errands"].startswith("the connection is paused")
    resume(app.runtime, 1)
    app.deliver()
    assert states(app) == [("erase", "done", "done")]


def test_a_second_worker_leaves_it_to_the_first(
    connect: Connect, service: ErrandService, database_url: str
) -> None:
    """Errands have a lease of their own; one who lost it stores nothing more."""
    app = connect(kind=Erasing, database_url=database_url)
    order(app, "ana")
    database, lease = app.runtime.database, timedelta(seconds=60)
    held = take(database, lease_name(1), lease, app.clock)
    assert held is not None
    assert "another worker" in app.deliver().held["1, errands"]
    held.release()

    def steal(request: httpx.Request) -> None:
        app.clock.tick(61)
        assert take(database, lease_name(1), lease, app.clock) is not None

    service.turns = [steal]
    app.deliver()
    assert states(app) == [("erase", "sending", "")]
    app.clock.tick(61)
    app.deliver()
    assert states(app) == [("erase", "done", "done")]


def test_a_worker_that_dies_is_followed(
    connect: Connect, service: ErrandService
) -> None:
    """What it had begun is begun again; to be erased twice harms nobody."""
    app = connect(kind=Erasing)
    order(app, "ana")
    with app.runtime.database.write() as transaction:
        transaction.execute(update(rows).values(state="sending"))
    app.deliver()

    assert states(app) == [("erase", "done", "done")]


def test_another_account_or_a_removal_cancels_it(
    connect: Connect, service: ErrandService, tools: Tools, database_url: str
) -> None:
    """An id of the old account may be somebody else's in the new one."""
    app = connect(kind=Erasing, database_url=database_url)
    app.verify("acme")
    order(app, "ana")
    service.account = "acme/2"
    verify_connection(app.runtime, tools.state(app), accept=True)
    app.deliver()
    assert states(app) == [("erase", "cancelled", "identity_changed")]
    order(app, "ben")
    app.runtime.config = replace(app.runtime.config, rules=())
    remove_connection(app.runtime, replace(tools.state(app), declared=""))
    assert states(app)[1] == ("erase", "cancelled", "connection_removed")
    assert service.gone == []


def test_a_paused_connection_is_obeyed(
    connect: Connect, service: ErrandService
) -> None:
    """Whoever paused it wants nothing to leave."""
    app = connect(kind=Erasing)
    pause(app.runtime, 1, "manual", "by hand")
    order(app, "ana")
    app.deliver()
    assert service.asked == []
    resume(app.runtime, 1)
    app.deliver()
    assert service.gone == ["id-ana@shop.example"]


def test_show_and_why_tell_of_them(
    connect: Connect, service: ErrandService, tools: Tools
) -> None:
    """With state and reason, beside the pushes."""
    app = connect(OPT_OUTS, kind=Unsubscribing)
    tools.fire(app, "ana")
    app.deliver()
    app.suppress("ana@shop.example", actor="sam")
    service.turns = [tools.answers(500)]
    app.deliver()

    shown = show_contact(app.runtime, "ana@shop.example")
    [one] = shown["errands"]
    assert (one["kind"], one["state"], one["tries"]) == ("unsubscribe", "waiting", 1)
    said = "\n".join(explain(app.runtime, "ana@shop.example").lines())
    assert "errand 1: unsubscribe waiting, 1 failed: Acme failed (500): no" in said


def test_old_ones_are_pruned(connect: Connect, service: ErrandService) -> None:
    """What is done is kept as long as reports; what waits, as long as it takes."""
    app = connect(kind=Erasing)
    order(app, "ana")
    order(app, "ben")
    app.deliver()
    app.clock.tick(timedelta(days=91))
    order(app, "cem")
    assert prune(app.runtime).counts["errands"] == 2
    assert states(app) == [("erase", "waiting", "")]


def test_an_unsubscription_and_an_erasure_are_two(
    connect: Connect, service: ErrandService
) -> None:
    """Both are done, each once, also when queued twice."""
    app = connect(kind=Erasing)
    for kind in (UNSUBSCRIBE, ERASE, UNSUBSCRIBE, ERASE):
        order(app, "ana", kind)
    app.deliver()
    assert states(app) == [
        ("unsubscribe", "done", "done"),
        ("erase", "done", "done"),
    ]
