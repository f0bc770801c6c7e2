"""`onward worker` and `onward deliver`: send what is queued."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.opening import logging_to_stderr, open_app, options_of, with_options
from onward.cli.printing import cell, note, progress, progressing, say
from onward.cli.quota import waiting_lines
from onward.cli.running import (
    close_within,
    give_up,
    keep_secrets_out,
    verify_in_background,
    watched,
)
from onward.cli.stopping import ending_well, stop_signals

if TYPE_CHECKING:
    from onward.delivery.work import Delivery
    from onward.runtime import Runtime
    from onward.signals import PushFact

log = logging.getLogger("onward.worker")

# How often the worker says what it did.
EVERY_S = 10.0

LogFormat = Annotated[
    str, typer.Option(metavar="text|json", help="How log lines are written.")
]
LogLevel = Annotated[
    str,
    typer.Option(metavar="LEVEL", help="debug, info, warning or error; debug is much."),
]


def worker(
    ctx: typer.Context,
    log_format: LogFormat = "",
    log_level: LogLevel = "",
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Answer /livez, /readyz and /metrics there."
        ),
    ] = "",
    grace: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Stopped, wait that long for what is being sent."
        ),
    ] = "",
) -> None:
    """Send what is queued until stopped; what is being sent then ends first."""
    from onward import signals
    from onward.app import Onward
    from onward.errors import ConfigError

    app = Onward.from_config(options_of(ctx).config or None)
    config = with_options(
        app.config,
        log_format=log_format,
        log_level=log_level,
        listen=listen,
        grace=grace,
    )
    patience = config.grace.total_seconds()
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    with logging_to_stderr(level, config.log_format, whole=True) as private:
        keep_secrets_out(private, app)
        # A second one exits at once. Safe: an interrupted send is read back by
        # whoever comes next.
        stop = stop_signals()
        with watched(app, config.listen, stop) as pulse:
            tally = Tally()
            for fact in (
                signals.push_delivered,
                signals.push_failed,
                signals.push_skipped,
            ):
                fact.connect(tally.count, sender=app)
            try:
                app.start()
                if app.runtime.unfit:
                    raise ConfigError(app.runtime.unfit)
                log.info("the worker runs; Ctrl-C or SIGTERM stops it")
                # In a thread: a service that does not answer keeps nobody here.
                verify_in_background(app.runtime, stop.came)
                while not stop(EVERY_S):
                    tally.tell()
                log.info("stopping; what is being sent ends first")
            finally:
                ended = close_within(app, patience)
            tally.tell()
            if not ended:
                give_up(app.runtime, pulse, patience)
        log.info("stopped")


class Tally:
    """Counts what became of pushes, and says so from time to time."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def count(self, sender: object, event: PushFact, **extra: object) -> None:
        """Take note of one push; a receiver of signals."""
        with self._lock:
            self._counts[event.connection, event.state, event.code] += 1

    def tell(self) -> None:
        """Log what was counted since the last time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for (connection, state, code), number in sorted(counts.items()):
            log.info("%s: %s %s: %d", connection, state, code, number)


def deliver(
    ctx: typer.Context,
    until_empty: Annotated[
        bool,
        typer.Option("--until-empty", help="Go on until nothing more is due now."),
    ] = False,
    log_format: LogFormat = "",
    log_level: LogLevel = "",
) -> None:
    """Send what is due now, and say what became of it.

    Told to stop, it ends what is being sent and returns the rest. Once a day it also
    removes what is older than [retention] says: where cron calls it nobody else does.
    """
    from onward.delivery.work import count_due
    from onward.pruning import prune_daily

    with open_app(ctx, log_format, log_level) as app, ending_well() as stop:
        total = None
        if progressing():
            with app.runtime.database.read() as transaction:
                total = count_due(transaction, app.runtime.clock())
        with progress("delivering", total) as advance:
            done = app.deliver(
                until_empty=until_empty, on_progress=advance, stopping=stop.came
            )
        _tell(done, app.runtime)
        prune_daily(app.runtime, stopping=stop.came)
        if stop.came():
            note("stopped; what was not sent waits")
            raise typer.Exit(128 + stop.number)


def _tell(done: Delivery, runtime: Runtime) -> None:
    from onward.delivery.work import count_visitors

    for (state, code), count in sorted(done.counts.items()):
        say(f"{state} {code}: {count}")
    for (kind, state, code), count in sorted(done.errands.items()):
        say(f"{kind} {' '.join(dict.fromkeys((state, code)))}: {count}")
    if not done.counts and not done.errands:
        say("nothing was sent")
    now = runtime.clock()
    for name, (until, why) in sorted(done.resting.items()):
        say(f"{name} rests until {_when(until, now)}: {why}")
    for name, why in sorted(_held(runtime, done).items()):
        say(f"{name} is held: {why}")
    with runtime.database.read() as transaction:
        visitors = count_visitors(transaction)
    if visitors:
        say(f"{visitors} wait until a visitor has an e-mail address")
    for line in waiting_lines(runtime):
        say(line)
    if done.next_at is None:
        say("next: nothing is due")
    else:
        say(f"next: {_when(done.next_at, now)}")


def _held(runtime: Runtime, done: Delivery) -> dict[str, str]:
    """Return why rows wait for a person: of connections, and of remote segments."""
    from onward.connections.listing import list_connections

    held = dict(done.held)
    with runtime.database.read() as transaction:
        for row in list_connections(transaction):
            for segment, why in row.paused_segments.items():
                held[f"{row.state.name}, {segment}"] = why
            if row.held and row.state.paused_code:
                held.setdefault(row.state.name, row.state.paused_why)
    return held


def _when(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "somebody looks at it"
    seconds = (moment - now).total_seconds()
    if seconds <= 0:
        return f"{cell(moment)} (now)"
    if seconds < 120:
        return f"{cell(moment)} (in {seconds:.0f} s)"
    if seconds < 7200:
        return f"{cell(moment)} (in {seconds / 60:.0f} min)"
    return f"{cell(moment)} (in {seconds / 3600:.1f} h)"
