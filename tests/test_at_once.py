"""What two transactions do to the same rows at the same moment, on PostgreSQL."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from onward import (
    Account,
    Api,
    Integration,
    Limit,
    RemoteField,
    RemoteSegment,
    hookimpl,
    minute,
)
from onward.connections.add import Draft, add_connection
from onward.connections.rename import redirect
from onward.connections.state import named, read_all
from onward.contacts.erasing import Erased, erase_contact
from onward.contacts.suppress import add_suppression, find_suppressions
from onward.delivery.queue import Wish, enqueue, joined_rows
from onward.errors import OnwardError
from onward.hookspecs import Draft as PushDraft
from onward.limiter import Limiter, windows_for
from onward.merge import merge_contacts
from onward.models import Identity, table
from onward.models import Limiter as LimiterRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from tests.conftest import Blocked, MakeApp

    from onward import Item, Outcome
    from onward.testing.app import TestApp

pytestmark = pytest.mark.postgres

identities = table(Identity)
windows = table(LimiterRow)

ANA, OLD = "ana@shop.example", "old@shop.example"
CONFIG = """
[connections.acme]
integration = "acme"

[[rules]]
key = "met"
when = "met"
push_to = ["acme"]
"""


class Acme(Integration):
    """A service that takes everybody."""

    key, title, hosts = "acme", "Acme Mail", ("api.acme.example",)
    default_map: ClassVar = {"email": "email", "name": "first_name"}

    def verify(self, api: Api) -> Account:
        """Know the account."""
        return Account("acme/1", "acme/1", "Acme")

    def fields(self, api: Api, segment: RemoteSegment | None) -> list[RemoteField]:
        """Have two fields."""
        return [RemoteField("email", required=True), RemoteField("name")]

    def push(
        self, api: Api, batch: Any, segment: RemoteSegment | None
    ) -> Iterator[Outcome]:
        """Take everybody."""
        items: list[Item] = list(batch)
        for item in items:
            yield item.delivered(f"r-{item.email}")


@pytest.fixture
def app(make_app: MakeApp, postgres_url: str) -> TestApp:
    """An app that knows Ana, and Ana under another address as somebody else."""
    made = make_app(CONFIG, integrations=[Acme], database_url=postgres_url)
    made.upsert_contact({"email": ANA})
    made.upsert_contact({"email": OLD, "first_name": "Ana"})
    return made


def id_of(app: TestApp, email: str) -> int:
    """Return whose address it is."""
    with app.runtime.database.read() as transaction:
        found = select(identities.c.contact_id).where(identities.c.value == email)
        return int(transaction.execute(found).scalar_one())


def test_erasing_somebody_who_is_being_merged_erases_the_person(
    app: TestApp, blocked: Blocked
) -> None:
    """Not the empty contact that the merge leaves behind."""
    ana, old = id_of(app, ANA), id_of(app, OLD)
    done: list[Erased] = []

    with app.runtime.database.write() as transaction:
        merge_contacts(transaction, ana, old, app.clock())
        thread = blocked(
            app.runtime.database, lambda: done.append(erase_contact(app.runtime, OLD))
        )
    thread.join()

    assert [one.contact_id for one in done] == [ana]
    assert list(app.contacts()) == []
    with app.runtime.database.read() as transaction:
        assert transaction.execute(select(identities)).all() == []


def test_an_opt_out_renewed_while_its_contact_is_erased_stays(
    app: TestApp, blocked: Blocked
) -> None:
    """The consent that had lifted it does not lift the new one."""
    app.suppress(ANA)
    app.consent(ANA, how="on the phone", who="Joe")

    with app.runtime.database.write() as transaction:
        add_suppression(
            transaction,
            contact_id=id_of(app, ANA),
            email=ANA,
            scope="address",
            code="do_not_contact",
            reason="do not contact",
            source="by hand",
            now=app.clock(),
        )
        thread = blocked(app.runtime.database, lambda: erase_contact(app.runtime, ANA))
    thread.join()

    with app.runtime.database.read() as transaction:
        [stop] = find_suppressions(transaction, {0: [ANA]})[0]
    assert stop.lifted_at is None


def test_push_by_hand_of_somebody_who_is_being_merged_reaches_the_survivor(
    app: TestApp, blocked: Blocked
) -> None:
    """The merge took over what was queued before; this comes after it."""
    ana, old = id_of(app, ANA), id_of(app, OLD)

    with app.runtime.database.write() as transaction:
        merge_contacts(transaction, ana, old, app.clock())
        thread = blocked(app.runtime.database, lambda: app.push(to="acme", email=OLD))
    thread.join()

    app.deliver()
    assert [(row["email"], row["state"]) for row in app.deliveries()] == [
        (ANA, "delivered")
    ]


def test_deadlock_with_a_host_costs_the_worker_nothing(
    make_app: MakeApp, postgres_url: str, blocked: Blocked
) -> None:
    """It notes anew that its rows leave; no try is used, no plugin is blamed."""
    claimed, held = threading.Event(), threading.Event()

    class Asks(Acme):
        """Makes a request."""

        def push(
            self, api: Api, batch: Any, segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Wait for a moment before it."""
            claimed.set()
            held.wait()
            api.post("people", [])
            yield from super().push(api, batch, segment)

    app = make_app(
        CONFIG,
        integrations=[Asks],
        database_url=postgres_url,
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json={})),
    )
    app.record_actions({"action": "met", "email": email} for email in (OLD, ANA))
    worker = threading.Thread(target=app.deliver)
    worker.start()
    claimed.wait()

    def ends() -> None:
        held.set()
        worker.join()

    with Session(app.runtime.database.engine) as session:
        app.record_action("met", email=ANA, session=session)
        thread = blocked(app.runtime.database, ends)
        app.record_action("met", email=OLD, session=session)
        session.commit()
    thread.join()

    found = app.deliveries()
    assert {(row["state"], row["code"], row["tries"]) for row in found} <= {
        ("delivered", "delivered", 0),
        ("unchanged", "unchanged", 0),
    }


@pytest.mark.parametrize("segment", ["old", "new"])
def test_redirecting_while_somebody_queues_the_same_contact(
    app: TestApp, blocked: Blocked, segment: str
) -> None:
    """To where it is sent, or from where: one row is left, with all that was wished."""
    with app.runtime.database.read() as transaction:
        state = named(transaction, "acme")
    ana = id_of(app, ANA)

    def queue(transaction: Connection, to: str, **more: Any) -> int:
        wish = Wish(state.id, ana, to, "manual", key=to, **more)
        return enqueue(transaction, [wish], app.clock())[wish]

    def work(transaction: Connection) -> None:
        redirect(transaction, state, "old", "new", app.clock())

    first = app.runtime.database.run(lambda transaction: queue(transaction, "old"))
    with app.runtime.database.write() as transaction:
        queue(transaction, segment, force=True)
        thread = blocked(app.runtime.database, lambda: app.runtime.database.run(work))
    thread.join()

    [row] = app.queued
    assert (row["segment"], row["force"]) == ("new", True)
    with app.runtime.database.read() as transaction:
        assert joined_rows(transaction, [first, 99]) == [row["id"], 99]


@pytest.mark.parametrize(
    ("name", "why"),
    [("one", 'a connection "one" already'), ("two", '"two" already leads to Acme')],
)
def test_an_account_added_twice_at_once_is_connected_once(
    make_app: MakeApp, postgres_url: str, name: str, why: str
) -> None:
    """Whoever comes second while the service is asked is told so, in words."""
    first: list[str] = []

    class Slow(Acme):
        """Takes its time."""

        def verify(self, api: Api) -> Account:
            """Let somebody else be first."""
            if not first:
                first.append(name)
                add_connection(made.runtime, Draft(name, "acme", {}))
            return super().verify(api)

    made = make_app("", integrations=[Slow], database_url=postgres_url)

    with pytest.raises(OnwardError, match=why):
        add_connection(made.runtime, Draft("one", "acme", {}))

    with made.runtime.database.read() as transaction:
        assert [state.name for state in read_all(transaction)] == [name]


@pytest.mark.parametrize("turned", [False, True])
def test_limits_in_another_order_do_not_deadlock(
    app: TestApp, blocked: Blocked, *, turned: bool
) -> None:
    """Calls are taken from the windows in one order, whoever lists them how."""
    limiter = Limiter(app.runtime.database)
    limits = [Limit(9, per=minute), Limit(10, per=minute)]
    listed = windows_for("acme", limits[::-1] if turned else limits, live=True)
    first, second = sorted(window.key for window in listed)
    assert limiter.take(listed, 1, app.clock()) is None
    taken: list[object] = []

    def spend(key: str) -> Any:
        return update(windows).where(windows.c.key == key).values(tat=windows.c.tat)

    with app.runtime.database.write() as transaction:
        transaction.execute(spend(first))
        thread = blocked(
            app.runtime.database,
            lambda: taken.append(limiter.take(listed, 1, app.clock())),
        )
        transaction.execute(spend(second))
    thread.join()

    assert taken == [None]


def test_visitor_identified_while_its_push_is_put_back_is_sent(
    app: TestApp, blocked: Blocked
) -> None:
    """The row does not wait for ever for an address that came at that moment."""
    database, sessions = app.runtime.database, list[Session]()

    class Identifies:
        """Somebody who says who the visitor is, between two looks of a worker."""

        @hookimpl
        def before_push(self, draft: PushDraft) -> None:
            """Say it, and do not commit yet."""
            if not sessions:
                sessions.append(Session(database.engine))
                app.record_action(
                    "seen",
                    email=ANA,
                    identities={"visitor": "v-1"},
                    session=sessions[0],
                )

    app.runtime.plugins.manager.register(Identifies())
    app.record_action("met", identities={"visitor": "v-1"})

    worker = blocked(database, app.deliver)
    sessions[0].commit()
    worker.join()
    sessions[0].close()
    app.deliver()

    assert app.queued == []
    assert {row["state"] for row in app.deliveries()} == {"cancelled", "delivered"}
