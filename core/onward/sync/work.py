"""What all stages of one pull share: its lease, its row, its place in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import Connection as Transaction

from onward.api import Api, Wire
from onward.connections.state import State, hold_identity
from onward.contract import RemoteContact
from onward.delivery.lease import Held
from onward.delivery.stops import Stop
from onward.errors import Fenced
from onward.events.announce import announce_recorded
from onward.failpoints import failpoint
from onward.integrations import can
from onward.runtime import Runtime
from onward.sync.limit import check_limit
from onward.sync.opening import Ready
from onward.sync.plan import Plan
from onward.sync.runs import Run, save_run
from onward.sync.taking import take
from onward.sync.terms import UNCHANGED, Taken
from onward.waking import wake

Made = TypeVar("Made")

# Shorter waits for a call are waited out, others leave the turn to somebody else.
PATIENCE = timedelta(seconds=2)


@dataclass(slots=True)
class Progress:
    """How far a pull is, for people.

    Args:
        done, total: rows of this stage; total 0 = not known.
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Manner:
    """How somebody wants it pulled.

    Args:
        patient: wait for calls here, however long; else say when to come back.
        by_hand: somebody asked for it just now.
        on_remark: told what a person should know before it goes on.
    """

    patient: bool = False
    by_hand: bool = False
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_remark: Callable[[str], None] = lambda remark: None
    stopping: Callable[[], bool] = lambda: False


def check_account(transaction: Transaction, state: State) -> None:
    """Make sure that a connection leads where it did, until this transaction ends.

    Raises:
        Fenced: it was removed, or leads to another account: what was read of the old
            one must not be stored.
    """
    if state.identity and hold_identity(transaction, state.id) != state.identity:
        raise Fenced


@dataclass(slots=True)
class Work:
    """One pull of a connection, by whoever holds its lease.

    Args:
        run: where it stands; another value after each page.
    """

    runtime: Runtime
    state: State
    held: Held
    plan: Plan
    run: Run
    ready: Ready
    manner: Manner
    wire: Wire
    api: Api
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def of(
        cls,
        runtime: Runtime,
        held: Held,
        plan: Plan,
        run: Run,
        ready: Ready,
        manner: Manner,
    ) -> Work:
        """Return a pull that can begin; its calls are a back-fill's."""
        opened = ready.opened
        wire = opened.wire(
            runtime,
            live=False,
            renew=held.renew,
            left=held.left,
            stopping=manner.stopping,
        )
        wire.keeps = False
        api = Api(wire, opened.memory, opened.index)
        return cls(runtime, opened.state, held, plan, run, ready, manner, wire, api)

    @property
    def can_fetch(self) -> bool:
        """Tell whether contacts can be read one by one."""
        return can(self.ready.opened.integration, "fetch")

    def keep(self, work: Callable[[Transaction], Made]) -> Made:
        """Do something in a transaction, if the pull is still ours.

        Raises:
            Fenced: somebody else goes on with it.
        """

        def ours(transaction: Transaction) -> Made:
            self.held.check(transaction)
            check_account(transaction, self.state)
            return work(transaction)

        return self.runtime.database.run(ours)

    def wait(self) -> Stop | None:
        """Return a stop when this is not the time for another call."""
        if self.manner.stopping():
            return Stop("turn", "stopped", "told to stop")
        self.held.renew()
        if self.manner.patient:
            return None
        with self.runtime.database.read() as transaction:
            pause = self.wire.room_for(transaction, 1)
        if pause is None or pause <= PATIENCE:
            return None
        return Stop("limit", "out_of_calls", "waits for the limit of calls", pause)

    def next_stage(self, stage: str) -> None:
        """Note that a stage is done."""

        def work(transaction: Transaction) -> None:
            self.run.stage, self.run.cursor = stage, None
            save_run(transaction, self.run, self.runtime.clock())

        self.keep(work)

    def store(
        self,
        records: Sequence[RemoteContact],
        also: Callable[[Transaction, Run, Taken], object],
        *,
        whole: bool = False,
    ) -> None:
        """Bring rows into our contacts, and note it, in one transaction.

        Args:
            also: what else belongs into it; gets the run as it is then, and what
                became of the rows.
            whole: each was read by itself.

        Raises:
            Asks: more would change than may; nothing is stored.
        """
        now, before = self.runtime.clock(), self.run

        def work(transaction: Transaction) -> tuple[Taken, Run]:
            taken = take(transaction, self.ready.terms, records, now, whole=whole)
            run = replace(before, counts=before.counts.copy())
            run.notes = list(before.notes)
            for name, count in taken.counts.items():
                if not (whole and name == UNCHANGED):
                    run.counts[name] += count
            check_limit(run, self.state.pull.limit, self.ready.terms.place.title)
            run.note(taken.notes)
            also(transaction, run, taken)
            if run.id:
                save_run(transaction, run, now)
            return taken, run

        taken, self.run = self.keep(work)
        failpoint("after_pull_page")
        wake(self.runtime, {one.connection_id for one in taken.recorded.queued})
        announce_recorded(self.runtime, taken.recorded)

    def tell(self, stage: str, total: int, rows: int) -> None:
        """Tell whoever looks how far it is."""
        if self.progress.stage != stage:
            self.progress = Progress(stage)
        self.progress.done += rows
        self.progress.total = max(total, self.progress.done)
        self.progress.counts = dict(self.run.counts)
        self.manner.on_progress(self.progress)
