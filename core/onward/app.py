"""Onward from Python: fire actions, award points, push, deliver."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from sqlalchemy import Connection as Transaction

from onward.alerts.watch import watch
from onward.clock import utcnow
from onward.config import Config, find_config, load_config
from onward.config.model import PushTo
from onward.connections.declare import declare_connections
from onward.connections.state import State, named
from onward.connections.verify import verify_connection
from onward.contacts.declared import custom_fields
from onward.contacts.input import contact_data, find_contacts, who
from onward.contacts.suppress import add_suppression, record_consent
from onward.contacts.values import clean_email
from onward.database import Database
from onward.delivery import trail
from onward.delivery.cancel import Cancelled, cancel
from onward.delivery.listing import Wanted, delivery_document, list_deliveries
from onward.delivery.queue import LIVE, Wish, enqueue
from onward.delivery.work import Delivery, deliver
from onward.engine import Engine
from onward.engine.make import make_engine
from onward.engine.upkeep import register_tasks
from onward.engine.wakeups import Wakeups
from onward.errands.optouts import push_out
from onward.errands.run import add_errands, run_errands
from onward.errors import InputError
from onward.events.action import read_action, read_points
from onward.events.announce import announce_recorded
from onward.events.joining import HostSession, join
from onward.events.record import Action, ActionResult, Recorded, Recorder
from onward.events.rulebook import RuleBook, Targets, check_targets
from onward.migrate import prepare_database
from onward.plugins import Plugins, load_plugins
from onward.runtime import Runtime
from onward.waking import wake
from onward.worktime import Worktime

if TYPE_CHECKING:
    from onward.audiences.pushed import Pushed
    from onward.contacts.importing import ImportSummary
    from onward.filters import Filter
    from onward.replay import Replayed
    from onward.sync.drift import Difference
    from onward.sync.run import Synced

log = logging.getLogger("onward")

Made = TypeVar("Made")


class Onward:
    """One Onward: a configuration, a database, plugins, and a worker if started.

    Nothing is opened before first use, so an instance may be made at import and
    is safe after a fork. `with app:` runs the worker; without any worker what is
    fired waits, durably, until one runs.
    """

    def __init__(
        self,
        config: Config,
        *,
        plugins: Plugins | None = None,
        env: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], datetime] = utcnow,
        sleep: Callable[[float], None] | None = None,
        simulated: bool = False,
    ) -> None:
        self.config = config
        self._plugins = plugins
        self._env = os.environ if env is None else env
        self._transport = transport
        self._clock = clock
        self._sleep = sleep
        self._simulated = simulated
        self._runtime: Runtime | None = None
        self._recorder: Recorder | None = None
        self._engine: Engine | None = None
        self._wakeups: Wakeups | None = None
        self._worktime: Worktime | None = None
        self._opening = threading.Lock()
        self._process = os.getpid()
        self._said_no_worker = False

    @classmethod
    def from_config(cls, path: str | Path | None = None, **options: Any) -> Self:
        """Return an Onward for an `onward.toml`.

        Args:
            path: the file; None = `ONWARD_CONFIG`, else `./onward.toml`, else the
                defaults.
            options: as of the constructor.

        Raises:
            ConfigError: the file cannot be used; one line per problem.
        """
        env = options.get("env")
        env = os.environ if env is None else env
        found = find_config(path, env, Path.cwd())
        return cls(load_config(found, env, connections_elsewhere=None), **options)

    # -- life

    @property
    def runtime(self) -> Runtime:
        """Everything its parts share; opens the database on first use."""
        self._after_fork()
        if self._runtime is None:
            with self._opening:
                if self._runtime is None:
                    self._runtime = self._open()
        return self._runtime

    def _after_fork(self) -> None:
        """Leave to the parent what is the parent's: connections, threads, locks."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._opening = threading.Lock()
        self._engine = self._wakeups = self._worktime = None
        if self._runtime is not None:
            self._runtime.on_work = None
            self._runtime.clock, self._runtime.unfit = self._clock, ""
            self._runtime.database.after_fork()
            self._runtime.lock = threading.RLock()
            self._runtime.opened.clear()

    def _open(self) -> Runtime:
        config = self.config
        database = Database(
            config.database_url, durability=config.durability, patience=config.lease
        )
        try:
            return self._open_with(database)
        except BaseException:
            database.close()
            raise

    def _open_with(self, database: Database) -> Runtime:
        config = self.config
        prepare_database(database)
        plugins = self._plugins or load_plugins(
            folder=config.plugins_dir,
            disabled=config.plugins_disabled,
            safe_mode=bool(self._env.get("ONWARD_SAFE_MODE")),
        )
        options: dict[str, Any] = {} if self._sleep is None else {"sleep": self._sleep}
        runtime = Runtime(
            config,
            database,
            plugins,
            env=self._env,
            clock=self._clock,
            transport=self._transport,
            sender=self,
            simulated=self._simulated,
            **options,
        )
        declare_connections(runtime)
        with database.read() as transaction:
            check_targets(config, transaction)
        return runtime

    @property
    def is_alive(self) -> bool:
        """Tell whether the worker runs in this process, with all its threads."""
        # An engine may tell; the port does not ask it to.
        return self._engine is not None and bool(
            getattr(self._engine, "is_alive", True)
        )

    def start(self) -> None:
        """Start the worker, on the engine that is configured.

        Raises:
            ConfigError: that engine cannot run here.
        """
        self._after_fork()
        if self._engine is not None:
            return
        runtime = self.runtime
        runtime.ending.clear()
        engine = make_engine(runtime)
        register_tasks(engine, runtime)
        self._worktime = Worktime(runtime)
        self._worktime.start()
        try:
            engine.start()
        except BaseException:
            self._worktime.stop()
            self._worktime = None
            raise
        self._engine = engine
        runtime.on_work = engine.wake
        self._wakeups = Wakeups(runtime, engine.wake, self._worktime)
        self._wakeups.start()

    def stop(self) -> None:
        """Stop the worker; what is being sent ends first."""
        self._after_fork()
        if self._wakeups is not None:
            self._wakeups.stop()
            self._wakeups = None
        if self._engine is not None:
            self.runtime.on_work = None
            self.runtime.ending.set()
            self._engine.stop()
            self._engine = None
        if self._worktime is not None:
            self._worktime.stop()
            self._worktime = None

    def close(self) -> None:
        """Stop the worker and close the database."""
        self.stop()
        if self._runtime is not None:
            for opened in self._runtime.opened.values():
                client = getattr(opened, "client", None)
                if client is not None:
                    client.close()
            self._runtime.database.close()
            self._runtime = None

    def __enter__(self) -> Self:
        """Run the worker for the time of the block."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the worker."""
        self.close()

    # -- firing

    def record_action(
        self,
        action: str,
        *,
        email: str = "",
        identities: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
        contact: Mapping[str, Any] | None = None,
        key: str | None = None,
        source: str = "api",
        occurred_at: datetime | None = None,
        session: HostSession | None = None,
    ) -> ActionResult:
        """Record that a contact did something; durable when it returns.

        Args:
            action: a name of your choice, as `form.submitted`.
            email: who; or
            identities: who, kind → value, as `{"visitor": "…"}`; with an e-mail
                both belong to one person from now on.
            data: what came with it; rules and templates can read it.
            contact: fields to write at the same time, as for `upsert_contact`.
            key: makes a repeat harmless: it returns the first result.
            source: of the key.
            session: join this SQLAlchemy session's transaction, in a savepoint.

        Returns:
            What followed: the event, triggers fired, pushes queued.

        Raises:
            InputError: nobody is named, or what is given cannot be used.
        """
        one = {
            "action": action,
            "email": email,
            "identities": identities,
            "data": data,
            "contact": contact,
            "key": key,
            "source": source,
            "occurred_at": occurred_at,
        }
        return self.record_actions([one], session=session)[0]

    def record_actions(
        self,
        actions: Iterable[Mapping[str, Any]],
        *,
        session: HostSession | None = None,
    ) -> list[ActionResult]:
        """Record many actions in one transaction: all of them or none.

        Args:
            actions: the arguments of `record_action` as mappings.
        """
        fields = custom_fields(self.runtime)
        checked = [read_action(one, fields) for one in actions]
        return self._record(checked, session).results

    def add_points(
        self,
        points: int,
        *,
        email: str = "",
        identities: Mapping[str, str] | None = None,
        reason: str = "",
        key: str | None = None,
        source: str = "api",
        actor: str = "",
        session: HostSession | None = None,
    ) -> ActionResult:
        """Award points, or take them with a negative number.

        Args:
            reason: why, for the ledger.
            key: makes a repeat harmless.
            actor: who did it, when that is not the source.
        """
        action = read_points(
            points,
            who(email, identities),
            reason=reason,
            key=key,
            source=source,
            actor=actor,
        )
        return self._record([action], session).results[0]

    def upsert_contact(
        self,
        contact: Mapping[str, Any],
        *,
        source: str = "api",
        session: HostSession | None = None,
    ) -> ActionResult:
        """Create or change a contact by its e-mail or another identity.

        Args:
            contact: `{"email", "first_name", …, "tags": […], "segments": […],
                "points": N, "custom": {…}, "identities": {…}}`; only what is given
                is written, "" or None empties a field.
        """
        fields = custom_fields(self.runtime)
        action = Action("", contact_data(contact, fields), source=source)
        return self._record([action], session).results[0]

    def _record(
        self, actions: Sequence[Action], session: HostSession | None
    ) -> Recorded:
        runtime = self.runtime
        if self._recorder is None:
            config = self.config
            book = RuleBook.of(config.rules, config.point_triggers, config.audiences)
            self._recorder = Recorder(book)
        recorder = self._recorder

        def work(transaction: Transaction) -> Recorded:
            return recorder.record(transaction, actions, runtime.clock())

        if session is not None:
            return join(session, work, self._announce)
        recorded = runtime.database.run(work)
        self._announce(recorded)
        return recorded

    def _announce(self, recorded: Recorded) -> None:
        """Wake the worker and tell everybody, after the commit."""
        self._wake({wish.connection_id for wish in recorded.queued})
        announce_recorded(self.runtime, recorded)

    def wake(self, connection_id: int | None = None) -> None:
        """Let the worker of this process look at a connection, or at all of them."""
        if self._engine is not None:
            self._engine.wake(connection_id)

    def _wake(self, connections: Collection[int]) -> None:
        """Tell a worker that there is work, and once that none runs here."""
        wake(self.runtime, connections)
        if connections and self._engine is None and not self._said_no_worker:
            self._said_no_worker = True
            log.info(
                "queued; no worker runs in this process: `onward worker`, "
                "`onward deliver` or app.start() sends it"
            )

    # -- pushing and delivering

    def push(
        self,
        *,
        to: str,
        email: str = "",
        emails: Sequence[str] = (),
        segment: str | None = None,
        force: bool = False,
        priority: int = LIVE,
    ) -> list[int]:
        """Queue pushes by hand; return the rows, in the order of the addresses.

        Args:
            to: name of the connection.
            segment: remote segment by name or id; None = the connection's own.
            force: send even what seems unchanged. Opt-outs are obeyed all the same.

        Raises:
            InputError: an address is nobody's, or there is no such connection.
        """
        wanted = [clean_email(address) for address in ([email] if email else emails)]

        def work(transaction: Transaction) -> dict[Wish, int]:
            ids = find_contacts(transaction, wanted, hold=True)
            of, segment_id = Targets(transaction).resolve(PushTo(to, segment))
            wishes = [
                Wish(
                    of,
                    ids[address],
                    segment_id,
                    "manual",
                    priority=priority,
                    force=force,
                )
                for address in wanted
            ]
            return enqueue(transaction, wishes, self.runtime.clock())

        queued = self.runtime.database.run(work)
        trail.queued(queued)
        self._wake({wish.connection_id for wish in queued})
        return list(queued.values())

    def deliver(
        self,
        *,
        until_empty: bool = True,
        only: Sequence[int] | None = None,
        on_progress: Callable[[int], None] = lambda rows: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Delivery:
        """Send what is due, in this thread; see `onward.delivery.work.deliver`."""
        runtime = self.runtime
        worktime = self._worktime or Worktime(runtime)
        worktime.start()
        try:
            done = deliver(
                runtime,
                only=only,
                until_empty=until_empty,
                on_progress=on_progress,
                keep_time=worktime.keep,
                stopping=stopping,
            )
            if only is None:
                # After the pushes: an errand waits for those of its contact.
                add_errands(done, run_errands(runtime, stopping=stopping))
            return done
        finally:
            try:
                if only is None and not runtime.unfit:
                    # Where it runs by cron, nobody else looks.
                    watch(runtime)
            except Exception:
                log.exception("nobody could be told of what is wrong")
            finally:
                if self._worktime is None:
                    worktime.stop()

    def replay(
        self,
        what: Wanted | Sequence[int],
        *,
        force: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[int], None] = lambda rows: None,
    ) -> Replayed:
        """Queue failed, skipped or cancelled pushes again; see `onward.replay`.

        Args:
            what: a filter, as `Wanted(state="failed", code="rejected")`, or numbers.
            force: send even what seems unchanged. Opt-outs are obeyed all the same.
            dry_run: only tell what would be queued, and what would be sent.

        Raises:
            InputError: nothing is named, or what is named cannot be replayed.
        """
        from onward.replay import preview_replay, replay

        if dry_run:
            return preview_replay(self.runtime, what, on_progress=on_progress)

        return replay(
            self.runtime,
            what,
            force=force,
            on_progress=on_progress,
            on_queued=self._wake,
        )

    def cancel(
        self,
        what: Wanted | Sequence[int],
        *,
        reason: str = "",
        actor: str = "",
        dry_run: bool = False,
        on_progress: Callable[[int], None] = lambda rows: None,
    ) -> Cancelled:
        """Take back pushes that wait; see `onward.delivery.cancel`.

        Args:
            what: a filter, as `Wanted(state="waiting", rule="forms")`, or numbers.
            reason, actor: why and who, for the record.
            dry_run: only tell how many.

        Raises:
            InputError: nothing is named, or what is named cannot be cancelled.
        """
        return cancel(
            self.runtime,
            what,
            dry_run=dry_run,
            reason=reason,
            actor=actor,
            on_progress=on_progress,
        )

    def push_audience(
        self,
        what: str | Filter | Sequence[object],
        *,
        to: str,
        segment: str | None = None,
        force: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[int], None] = lambda members: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Pushed:
        """Queue a push of everybody in an audience; see `onward.audiences.push`.

        Args:
            what: key of an audience, or conditions, as
                `[["acme.differs", "is", True]]`.
            to: name of the connection.
            segment: remote segment by name or id; None = the connection's own.
            force: send even what seems unchanged. Opt-outs are obeyed all the same.
            dry_run: only count whom it would push, and show one request.

        Raises:
            InputError: there is no such audience, connection or segment.
        """
        from onward.audiences.push import push_members
        from onward.audiences.rehearse import preview_push

        if dry_run:
            return preview_push(
                self.runtime, what, to=to, segment=segment, on_progress=on_progress
            )
        return push_members(
            self.runtime,
            what,
            to=to,
            segment=segment,
            force=force,
            on_progress=on_progress,
            on_queued=self._wake,
            stopping=stopping,
        )

    # -- consent

    def suppress(self, email: str, *, reason: str = "", actor: str = "") -> None:
        """Never push this address again, to any connection, until it consents."""
        address = clean_email(email)

        def work(transaction: Transaction) -> None:
            found = find_contacts(transaction, [address], missing_ok=True)
            of, now = found.get(address, 0), self.runtime.clock()
            add_suppression(
                transaction,
                contact_id=of,
                email=address,
                scope="address",
                code="do_not_contact",
                reason=reason or "do not contact",
                source=actor or "by hand",
                now=now,
            )
            who = actor or "by hand"
            push_out(transaction, self.runtime.plugins, {of: [address]}, who, now)

        self.runtime.database.run(work)

    def consent(self, email: str, *, how: str, who: str) -> int:
        """Record that somebody allowed it; return how many opt-outs that lifts.

        Args:
            how: they said so, as `form "newsletter"`, `on the phone`.
            who: recorded it.
        """
        if not how.strip() or not who.strip():
            raise InputError("a consent needs both: how it was given and who says so")
        address = clean_email(email)

        def work(transaction: Transaction) -> int:
            found = find_contacts(transaction, [address], missing_ok=True, hold=True)
            return record_consent(
                transaction,
                contact_id=found.get(address, 0),
                email=address,
                how=how,
                who=who,
                now=self.runtime.clock(),
            )

        return self.runtime.database.run(work)

    # -- looking and connecting

    def verify(self, connection: str) -> State:
        """Ask the service who we are, read its segments and fields, save them.

        Raises:
            CredentialsRefused: with message, hint and field.
            ConfigError: the segment or the map does not fit the account.
            ServiceError: the service could not be asked.
        """
        with self.runtime.database.read() as transaction:
            state = named(transaction, connection)
        return verify_connection(self.runtime, state)

    def sync(
        self, connection: str, *, full: bool = False, accept: bool = False
    ) -> Synced:
        """Pull a connection's contacts now, in this thread; see `onward.sync.run`.

        Args:
            full: apply each row, whatever was pulled before.
            accept: go on beyond the share-of-change limit, this once.

        Raises:
            InputError: there is no such connection.
        """
        from onward.sync.run import Manner, sync

        with self.runtime.database.read() as transaction:
            of = named(transaction, connection).id
        manner = Manner(patient=True, by_hand=True)
        return sync(self.runtime, of, full=full, accept=accept, manner=manner)

    def drift(self, connection: str, field: str = "") -> list[Difference]:
        """Return what differs in a service from what we last wrote there.

        As of the last pull; see `onward.sync.drift`.

        Args:
            field: only where this remote field differs.
        """
        from onward.sync.drift import read_drift

        with self.runtime.database.read() as transaction:
            state = named(transaction, connection)
        return list(read_drift(self.runtime, state, field))

    def deliveries(self, wanted: Wanted | None = None) -> list[dict[str, Any]]:
        """Return deliveries as dicts; see `onward.delivery.listing`."""
        with self.runtime.database.read() as transaction:
            rows = list_deliveries(transaction, wanted or Wanted())
            return [delivery_document(row) for row in rows]

    def contacts(self) -> Iterator[dict[str, Any]]:
        """Yield every contact as a dict, custom fields under `custom`."""
        from onward.contacts.exporting import export_rows

        return export_rows(self.runtime)

    def audiences(self) -> list[dict[str, Any]]:
        """Return every audience: `{"key", "name", "source", "if"}`."""
        from onward.audiences.book import read_book

        with self.runtime.database.read() as transaction:
            book = read_book(transaction, self.config.audiences)
        return [one.document for one in book.audiences.values()]

    def import_contacts(
        self,
        path: str | Path,
        *,
        mapping: Mapping[str, str] | None = None,
        fire: bool = False,
    ) -> ImportSummary:
        """Import a CSV or JSON-lines file; a line is taken whole or not at all.

        Args:
            mapping: header → contact field, `name:type` for a new custom field.
            fire: record an action `contact.imported` per line, for rules.
        """
        from onward.contacts.importing import import_contacts

        return import_contacts(self.runtime, Path(path), mapping=mapping, fire=fire)
