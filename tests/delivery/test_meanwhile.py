"""What changes between a batch being made and its requests being sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from onward import (
    Account,
    Api,
    ConnectionSettings,
    CredentialsRefused,
    Integration,
    Item,
    Outcome,
    RemoteContact,
    RemoteField,
    RemoteSegment,
    SegmentGone,
)
from onward.connections.state import State, named, pause, resume
from onward.connections.verify import is_fresh, verify_connection
from onward.delivery.claiming import claim, mark_sent
from onward.delivery.drain import drain
from onward.errors import InputError
from onward.models import Memory, Push, RemoteContactRow, table
from onward.testing.app import TestApp

pytestmark = pytest.mark.slow

Connect = Callable[..., TestApp]

pushes = table(Push)


@pytest.fixture
def in_steps(acme: type[Integration]) -> type[Integration]:
    """An integration that needs two requests a batch, and expects no errors."""

    class InSteps(acme):  # type: ignore[misc, valid-type]
        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Make them, then put them on the list."""
            people = [dict(item.fields) for item in batch]
            api.post("people", {"to": "", "people": people})
            yield from super().push(api, batch, segment)

    return InSteps


def test_who_opts_out_while_a_batch_waits_is_left_out(
    connect: Connect, in_steps: Any, service: Any, tools: Any
) -> None:
    """Nothing more leaves for them; the others go on at once, with no try used."""
    app = connect(kind=in_steps)
    tools.fire(app, "ana", "ben")

    def opts_out(_: httpx.Request) -> None:
        app.clock.tick(6)
        app.suppress("ana@shop.example")

    service.script = [opts_out]

    app.deliver()

    assert tools.ended(app) == {
        "ana": ("skipped", "suppressed"),
        "ben": ("delivered", "delivered"),
    }
    assert service.on == {"1": {"ben@shop.example"}}
    assert {row["tries"] for row in app.deliveries()} == {0}
    assert len(service.pushes) == 3  # the first half, and Ben's batch


def the_state(app: TestApp) -> State:
    """Return the connection as it is."""
    with app.runtime.database.read() as transaction:
        return named(transaction, "acme")


@pytest.mark.parametrize("status", [200, 429, 500])
def test_another_account_is_accepted_while_a_batch_is_on_its_way(
    connect: Connect, acme: Any, service: Any, tools: Any, status: int
) -> None:
    """What left for the old one is no fact about the new, and goes there no more."""

    class Learns(acme):  # type: ignore[misc]
        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Keep what it finds out on the way."""
            try:
                yield from super().push(api, batch, segment)
            finally:
                if batch[0].email == "ana@shop.example":
                    api.learn([RemoteContact("id-of-old", batch[0].email)])
                    api.memory.put("page", 7)

    app = connect(kind=Learns)
    tools.fire(app, "ana")
    app.verify("acme")

    def accepts(_: httpx.Request) -> httpx.Response | None:
        service.account = "other/9"
        verify_connection(app.runtime, the_state(app), accept=True)
        tools.fire(app, "ben")
        return None if status == 200 else httpx.Response(status)

    service.script = [accepts]
    app.deliver()

    assert tools.ended(app) == {
        "ana": ("cancelled", "identity_changed"),
        "ben": ("delivered", "delivered"),
    }
    with app.runtime.database.read() as transaction:
        found = transaction.execute(select(table(RemoteContactRow).c.remote_id))
        assert found.scalars().all() == ["id-ben@shop.example"]
        assert transaction.execute(select(table(Memory))).all() == []
    tools.fire(app, "ana")
    app.deliver()
    assert tools.ended(app)["ana"] == ("delivered", "delivered")


def test_opt_out_that_comes_back_too_late_for_its_row_is_kept(
    connect: Connect, acme: Any, service: Any, tools: Any
) -> None:
    """Nobody would ask for it again."""

    class Refuses(acme):  # type: ignore[misc]
        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Meet somebody who opted out everywhere."""
            yield from super().push(api, [], segment)
            for item in batch:
                yield item.opted_out("address", "do_not_contact", "they said so")

    app = connect(kind=Refuses)
    tools.fire(app, "ana")
    app.verify("acme")

    def accepts(_: httpx.Request) -> None:
        service.account = "other/9"
        verify_connection(app.runtime, the_state(app), accept=True)

    service.script = [accepts]
    app.deliver()

    tools.fire(app, "ana")
    app.deliver()
    assert tools.ended(app) == {"ana": ("skipped", "suppressed")}


def test_process_with_an_older_file_pushes_to_no_other_account(
    connect: Connect, acme: Any, tools: Any, sqlite_url: str
) -> None:
    """It says what to do, holds nobody else up, and goes on where nothing moved."""
    pushed: list[str] = []

    class Settings(ConnectionSettings):
        """Where it leads."""

        account: str
        more: str = ""

    class Led(acme):  # type: ignore[misc]
        """Leads where its settings say."""

        def verify(self, api: Api) -> Account:
            """Know the account."""
            account = self.settings.account
            return Account(account, account, account)

        def push(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[Outcome]:
            """Note where it went."""
            pushed.append(self.settings.account)
            yield from super().push(api, batch, segment)

    Led.Settings = Settings

    def started(settings: str) -> TestApp:
        options = f'segment = "News"\nsettings = {{ {settings} }}'
        return connect(options, kind=Led, database_url=sqlite_url)

    old = started('account = "one"')
    tools.fire(old, "ana")
    old.deliver()
    moved = started('account = "two"')
    verify_connection(moved.runtime, the_state(moved), accept=True)
    tools.fire(moved, "ben")

    held = old.deliver().held

    assert "onward.toml was changed after this process started" in held["acme"]
    assert pushed == ["one"]
    moved.deliver()
    assert pushed == ["one", "two"]
    tools.fire(started('account = "two", more = "x"'), "cy")
    moved.deliver()
    assert pushed == ["one", "two", "two"]
    moved.clock.tick(2 * 86_400)
    tools.fire(moved, "di")
    moved.deliver()
    assert pushed == ["one", "two", "two", "two"]
    assert is_fresh(moved.runtime, the_state(moved))
    assert the_state(old).paused_code == ""


def test_settings_that_change_while_the_service_is_asked_win(
    connect: Connect, acme: Any, service: Any, tools: Any, sqlite_url: str
) -> None:
    """An answer to the old ones is not saved over the new; nobody is lost."""
    meanwhile: list[Callable[[], object]] = []

    class Slow(acme):  # type: ignore[misc]
        def fields(
            self, api: Api, segment: RemoteSegment | None
        ) -> Iterator[RemoteField]:
            """Be asked for a while."""
            if meanwhile:
                meanwhile.pop()()
            yield from super().fields(api, segment)

    def chooses(name: str) -> TestApp:
        return connect(f'segment = "{name}"', kind=Slow, database_url=sqlite_url)

    app = chooses("News")
    tools.fire(app, "ana")
    meanwhile.append(lambda: chooses("Old").runtime)
    with pytest.raises(InputError, match="acme: somebody else changed it meanwhile"):
        app.verify("acme")
    meanwhile.append(lambda: chooses("News").runtime)

    app.deliver()

    assert service.on == {"1": {"ana@shop.example"}}
    assert tools.ended(app) == {"ana": ("delivered", "delivered")}


def test_a_fault_of_the_settings_before_pauses_nobody(
    connect: Connect, acme: Any, service: Any, tools: Any, sqlite_url: str
) -> None:
    """Who is refused with a password that was changed meanwhile does not stop all."""
    meanwhile: list[Callable[[], object]] = []

    class Refused(acme):  # type: ignore[misc]
        def fields(
            self, api: Api, segment: RemoteSegment | None
        ) -> Iterator[RemoteField]:
            """Be refused, when everything was mended since it was asked."""
            if meanwhile:
                meanwhile.pop()()
                raise CredentialsRefused("Acme refuses the password")
            yield from super().fields(api, segment)

    def chooses(name: str) -> TestApp:
        return connect(f'segment = "{name}"', kind=Refused, database_url=sqlite_url)

    app = chooses("News")
    tools.fire(app, "ana")
    meanwhile.append(lambda: chooses("Old").runtime)
    app.deliver()
    assert the_state(app).paused_code == ""

    chooses("Old").deliver()

    assert tools.ended(app) == {"ana": ("delivered", "delivered")}


def test_a_list_deleted_while_rows_are_read_back_holds_those_for_it(
    connect: Connect, acme: Any, service: Any, tools: Any
) -> None:
    """The connection goes on for its other lists."""
    gone: set[str] = set()

    class Reads(acme):  # type: ignore[misc]
        def read(
            self, api: Api, batch: Sequence[Item], segment: RemoteSegment | None
        ) -> Iterator[RemoteContact]:
            """Find out that the list is gone."""
            if segment is not None and segment.id in gone:
                raise SegmentGone("the list News was deleted in Acme")
            yield from super().read(api, batch, segment)

    app = connect(kind=Reads)
    tools.fire(app, "ana")
    service.script = [tools.is_lost]
    app.deliver()
    gone.add("1")
    app.push(to="acme", email="ana@shop.example", segment="Old")
    app.clock.tick(6)

    done = app.deliver()

    assert the_state(app).paused_code == ""
    assert "News" in str(done.held)
    assert service.on == {"2": {"ana@shop.example"}}
    gone.clear()
    app.verify("acme")
    app.deliver()
    assert service.on == {"1": {"ana@shop.example"}, "2": {"ana@shop.example"}}


def test_what_happens_before_new_settings_are_verified_goes_by_them(
    connect: Connect, service: Any, tools: Any, sqlite_url: str
) -> None:
    """The list that was chosen before is not believed any more."""
    connect(database_url=sqlite_url).verify("acme")
    app = connect('segment = "Old"', database_url=sqlite_url)

    tools.fire(app, "ana")
    app.deliver()

    assert service.on == {"2": {"ana@shop.example"}}


def test_a_person_s_pause_is_ended_by_a_person(connect: Connect) -> None:
    """No other reason replaces it, and the end of another does not end it."""
    app = connect()
    of = the_state(app).id
    pause(app.runtime, of, "manual", "holiday")

    pause(app.runtime, of, "credentials", "refused")
    assert not resume(app.runtime, of, only="credentials")

    assert (the_state(app).paused_code, the_state(app).paused_why) == (
        "manual",
        "holiday",
    )
    assert resume(app.runtime, of)
    assert the_state(app).paused_code == ""


def test_two_with_one_address_are_not_mixed(
    connect: Connect, service: Any, tools: Any, tmp_path: Path
) -> None:
    """An address the map gives to two people is the first one's; the other hears it."""
    (tmp_path / "acme.toml").write_text(
        '[fields]\nemail = "work"\nname = "first_name"\n'
    )
    app = connect(more='[contact_fields]\nwork = "text"')
    for name in ("ana", "ben"):
        app.upsert_contact(
            {
                "email": f"{name}@shop.example",
                "first_name": name,
                "custom": {"work": "info@firm.example"},
            }
        )

    tools.fire(app, "ana", "ben")
    app.deliver()
    tools.fire(app, "ben")
    app.deliver()

    assert tools.ended(app) == {
        "ana": ("delivered", "delivered"),
        "ben": ("failed", "address_taken"),
    }
    assert service.people["info@firm.example"]["name"] == "ana"
    app.upsert_contact(
        {"email": "ben@shop.example", "custom": {"work": "b@firm.example"}}
    )
    tools.fire(app, "ben")
    app.deliver()
    assert tools.ended(app)["ben"] == ("delivered", "delivered")


def test_database_that_goes_away_is_no_fault_of_the_plugin(
    connect: Connect, service: Any, tools: Any
) -> None:
    """Nothing is held against the contacts or the connection; it is read back."""
    app = connect()
    tools.fire(app, "ana")

    def goes_away(_: httpx.Request) -> httpx.Response:
        raise OperationalError("INSERT", None, ConnectionError("gone"))

    service.script = [goes_away]
    with pytest.raises(OperationalError):
        app.deliver()

    [row] = app.queued
    assert (row["state"], row["tries"], row["code"]) == ("sending", 0, "")
    assert tools.state(app).status == "active"
    assert tools.state(app).rest_until is None
    app.clock.tick(61)
    app.deliver()
    assert tools.ended(app) == {"ana": ("delivered", "delivered")}


@pytest.mark.postgres
def test_who_takes_over_locked_rows_keeps_nobody_waiting(
    connect: Connect, postgres_url: str, tools: Any, blocked: Any
) -> None:
    """The others are told at once that somebody works, not when the rows are free."""
    app = connect(database_url=postgres_url)
    tools.fire(app, "ben")
    app.deliver()
    tools.fire(app, "ana")
    with app.runtime.database.write() as transaction:
        (left,) = claim(transaction, 1, "1", 1, app.clock(), 9, 10)
        mark_sent(transaction, [left.id], 1, app.clock(), "")
    app.clock.tick(1)
    hold = select(pushes.c.id).with_for_update()
    done: list[str] = []

    with app.runtime.database.write() as transaction:
        transaction.execute(hold)
        thread = blocked(
            app.runtime.database, lambda: done.append(drain(app.runtime, 1).stopped)
        )
        other = Thread(target=lambda: done.append(drain(app.runtime, 1).stopped))
        other.start()
        other.join(30)
        assert done == ["busy"]
    thread.join()

    assert done == ["busy", "empty"]
    assert tools.ended(app)["ana"] == ("delivered", "delivered")
