"""What a worker needs around its work: somebody to ask, and a good end."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from onward.cli.stopping import StopSignals

if TYPE_CHECKING:
    from onward.app import Onward
    from onward.health import Pulse
    from onward.health.server import Page
    from onward.redact import RedactingFilter
    from onward.runtime import Runtime

log = logging.getLogger("onward.worker")


def keep_secrets_out(private: RedactingFilter, app: Onward) -> None:
    """Tell the log which texts are secrets, and again when a connection is new."""
    from onward import signals
    from onward.connections.secrets import known_secrets
    from onward.logs import Private

    def learn(sender: object, **event: object) -> None:
        private.redactor = Private(known_secrets(app.runtime))

    learn(app)
    # Not weakly: nobody else keeps it.
    signals.connection_verified.connect(learn, sender=app, weak=False)


@contextmanager
def watched(
    app: Onward, listen: str, stop: StopSignals
) -> Generator[Pulse, None, None]:
    """Answer probes and take reports for the block, if an address is given.

    Raises:
        ConfigError: nothing can listen there.
    """
    from onward.health import Health, Probes, Pulse
    from onward.instrument import joined
    from onward.webhooks.receive import Receiver

    pulse, runtime = Pulse(), app.runtime
    runtime.instrument = joined(runtime.instrument, pulse)
    if not listen:
        yield pulse
        return
    health = Health(runtime, pulse, lambda: app.is_alive, stop.came)
    metrics, reports = metrics_page(runtime), Receiver(runtime)
    with Probes(health, listen, metrics, reports) as probes:
        log.info("probes, metrics and webhooks on %s", probes.url)
        yield pulse


def metrics_page(runtime: Runtime) -> Page:
    """Return what answers `/metrics`: the metrics, or why there are none."""
    from onward.errors import ConfigError
    from onward.metrics import exposition, install

    try:
        registry = install(runtime)
    except ConfigError as error:
        why = error.message
        log.info("no metrics: %s", why)
        return lambda: (501, "text/plain", f"{why}\n".encode())

    def page() -> tuple[int, str, bytes]:
        body, kind = exposition(registry)
        return 200, kind, body

    return page


def verify_in_background(runtime: Runtime, stopping: Callable[[], bool]) -> None:
    """Verify what is new or changed, and say what came of it."""
    from onward.cli.setup import verify_all

    def verify() -> None:
        for name, problem in verify_all(runtime, stopping):
            if problem:
                log.warning("%s: %s", name, problem, extra={"connection": name})
            else:
                log.info("%s: verified", name, extra={"connection": name})

    def run() -> None:
        try:
            verify()
        except Exception:
            if not stopping():
                log.exception("the connections could not be verified; it goes on")

    threading.Thread(target=run, name="onward-verify", daemon=True).start()


def close_within(app: Onward, seconds: float) -> bool:
    """Let what is being sent end, then close; tell whether it did in that time.

    Raises:
        Exception: whatever closing raises.
    """
    failed: list[BaseException] = []

    def close() -> None:
        try:
            app.close()
        except BaseException as error:  # raised below, where somebody sees it
            failed.append(error)

    closing = threading.Thread(target=close, name="onward-close", daemon=True)
    closing.start()
    closing.join(seconds)
    if failed:
        raise failed[0]
    return not closing.is_alive()


def give_up(runtime: Runtime, pulse: Pulse, seconds: float) -> None:
    """Say what is left, let others take over soon, and exit at once with 1.

    A call that is on its way may still arrive. So a lease ends when the last call
    would have been given up anyway, and only then is read back what became of it.
    """
    from onward.api import TIMEOUT
    from onward.delivery.lease import shorten_all

    for batch in pulse.batches:
        log.warning(
            "%s has not answered within %.0f s: %d deliveries of attempt %s are read "
            "back by whoever comes next",
            batch.connection,
            seconds,
            len(batch.rows),
            batch.attempt_id or "(not begun)",
            extra={"connection": batch.connection, **batch.facts()},
        )
    try:
        shorten_all(runtime.database, runtime.clock() + TIMEOUT)
    except Exception as error:  # the database may be away; the leases end by themselves
        log.warning("the leases could not be shortened: %s", type(error).__name__)
    log.warning("stopped after %.0f s, before everything had ended", seconds)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that wait for an answer would keep the interpreter from ending.
    os._exit(1)
