"""Every metric there is: its name, kind, labels and meaning.

No label names a person, and none takes more values than there are connections,
triggers, workers or codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        stored: read from the database when asked for, so the same in every worker.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    stored: bool = False


QUEUE = Metric(
    "onward_queue_rows",
    "gauge",
    ("connection", "state"),
    "open deliveries: due, scheduled (a retry), held (paused), no_email, sending",
    stored=True,
)
OLDEST = Metric(
    "onward_queue_oldest_due_seconds",
    "gauge",
    ("connection",),
    "how long the oldest due delivery has been due; 0 = none is",
    stored=True,
)
PAUSED = Metric(
    "onward_connection_paused",
    "gauge",
    ("connection", "code"),
    "1 = its deliveries are held until somebody repairs it",
    stored=True,
)
REST = Metric(
    "onward_connection_rest_seconds",
    "gauge",
    ("connection",),
    "how much longer it is left in peace after a failure; 0 = it is not",
    stored=True,
)
LEASE = Metric(
    "onward_lease_seconds",
    "gauge",
    ("connection", "holder"),
    "how long the worker that has the connection keeps it unless it renews",
    stored=True,
)
BACKFILL = Metric(
    "onward_backfill_contacts",
    "gauge",
    ("kind", "key", "part"),
    "a running back-fill: contacts done, and in all",
    stored=True,
)
ERRANDS = Metric(
    "onward_errands",
    "gauge",
    ("connection", "kind", "state"),
    "people to be unsubscribed or erased in a service: waiting, failed (by hand)",
    stored=True,
)
DATABASE = Metric(
    "onward_database_up",
    "gauge",
    (),
    "1 = what is read from the database could be read",
    stored=True,
)
READING = Metric(
    "onward_queue_read_seconds",
    "gauge",
    (),
    "how long reading it took; it is read again after 20 times as long, 5 s at least",
    stored=True,
)
DELIVERIES = Metric(
    "onward_deliveries_total",
    "counter",
    ("connection", "state", "code"),
    "what became of deliveries; `waiting` = to be tried again",
)
ATTEMPTS = Metric(
    "onward_attempts_total",
    "counter",
    ("connection", "kind"),
    "batches that were sent (push) or read back (read)",
)
BATCH = Metric(
    "onward_batch_seconds",
    "histogram",
    ("connection", "kind"),
    "how long a batch took, its waits for the limit included",
)
CALL = Metric(
    "onward_call_seconds",
    "histogram",
    ("connection", "method", "status"),
    "how long a service took to answer; status `2xx` … `5xx`, `none` = no answer",
)
WAITED = Metric(
    "onward_limiter_wait_seconds_total",
    "counter",
    ("connection",),
    "time spent waiting for the limit of calls, within a batch or between two drains",
)
DRAINS = Metric(
    "onward_drains_total",
    "counter",
    ("connection", "stopped"),
    "times a connection was worked on, by why that ended: empty, busy, paused, rest, "
    "limit, turn, failed",
)
RUNNING = Metric(
    "onward_drains_running",
    "gauge",
    ("connection",),
    "1 = this process works on it now",
)
SWEEP = Metric(
    "onward_sweep_seconds",
    "histogram",
    (),
    "how long a look for due deliveries took",
)
FAILED = Metric(
    "onward_sweeps_failed_total",
    "counter",
    (),
    "looks that failed, as when the database is away",
)
BUILD = Metric(
    "onward_build_info",
    "gauge",
    ("version", "database"),
    "always 1; the version of Onward and the kind of database",
)

METRICS: tuple[Metric, ...] = (
    QUEUE,
    OLDEST,
    PAUSED,
    REST,
    LEASE,
    BACKFILL,
    ERRANDS,
    DATABASE,
    READING,
    DELIVERIES,
    ATTEMPTS,
    BATCH,
    CALL,
    WAITED,
    DRAINS,
    RUNNING,
    SWEEP,
    FAILED,
    BUILD,
)
