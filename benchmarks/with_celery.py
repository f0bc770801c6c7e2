"""One run of Celery and Redis, in processes of their own.

Of the worker's settings that were tried by hand in November 2026 (Celery 5.7, 20,000
contacts, 50 ms, a busy machine with 2 cores; rows a second, three calls · one call):

    threads, 8                                   3,980 · 11,220
    prefork, 8                                   3,790 · 7,140
    prefork, 8, one task fetched ahead           3,590 · 8,380

Threads were the best with one call at 0 ms too (12,050 against 7,060), prefork with
three (7,640 against 6,840).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis

from benchmarks.sender import Sender, mapped

START_S = 10
LOG = "worker.log"
WORKER = (
    *("worker", "--pool", "threads", "--loglevel", "ERROR"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)

app = Celery("bench", set_as_current=False)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue="bench",
    worker_enable_remote_control=False,
)
_lock = threading.Lock()
_made: list[tuple[Sender, Any, int]] = []


def _opened() -> tuple[Sender, Any, int]:
    """Return the worker's client, its Redis and how many tasks there are."""
    with _lock:
        if not _made:
            told = json.loads(os.environ["ONWARD_BENCH"])
            sender = Sender(told["integration"], told["url"], told["parallel"])
            redis = Redis(unix_socket_path=told["socket"])
            _made.append((sender, redis, told["tasks"]))
        return _made[0]


def push(batch: list[dict[str, Any]]) -> None:
    """Send one batch and note it, also when it fails; the last one tells."""
    started = time.monotonic()
    sender, redis, tasks = _opened()
    try:
        sender.send(batch)
    finally:
        done = [started, time.monotonic(), sender.contacts, sender.requests]
        if redis.rpush("done", json.dumps(done)) == tasks:
            redis.rpush("finished", 1)


app.task(name="push")(push)


@contextmanager
def _server(folder: str) -> Iterator[str]:
    """Run a Redis that keeps nothing on the disk; give its socket."""
    socket = f"{folder}/redis"
    command = ("redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder)
    whole = (*command, "--save", "", "--appendonly", "no", "--daemonize", "no")
    quiet = subprocess.DEVNULL
    with subprocess.Popen(whole, stdout=quiet) as process:  # noqa: S603
        try:
            until = time.monotonic() + START_S
            while not Path(socket).exists() and time.monotonic() < until:
                time.sleep(0.01)
            yield socket
        finally:
            process.terminate()


@contextmanager
def _worker(folder: str, told: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker; what it complains about goes into a file."""
    said = Path(folder) / LOG
    environment = {**os.environ, "ONWARD_BENCH": json.dumps(told)}
    broker = f"redis+socket://{told['socket']}"
    celery = (sys.executable, "-m", "celery", "-A", __spec__.name, "--broker", broker)
    command = (*celery, *WORKER, "--concurrency", str(told["parallel"]))
    with (
        said.open("wb") as log,
        subprocess.Popen(  # noqa: S603
            command, stdout=log, stderr=log, env=environment
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def run(
    folder: str, integration: str, url: str, rows: int, batch: int, parallel: int
) -> dict[str, float]:
    """Push the contacts of a folder's `onward.db`, a task for each batch.

    Every task is in Redis before the worker starts. The clock runs from the begin of
    the first task to the end of the last, as the worker sees it.

    Returns:
        `{"contacts": answered, "requests": answered, "took": s}`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="onward-bench-") as place,
        _server(place) as socket,
    ):
        told = {
            "integration": integration,
            "url": url,
            "parallel": parallel,
            "socket": socket,
            "tasks": _queue(Path(folder) / "onward.db", rows, batch, socket),
        }
        redis = Redis(unix_socket_path=socket)
        parent = os.getppid()
        with _worker(place, told) as worker:
            while redis.blpop(["finished"], timeout=1) is None:
                # Whoever wanted to know may be gone.
                if worker.poll() is not None or os.getppid() != parent:
                    raise SystemExit((Path(place) / LOG).read_text())
        done = [json.loads(line) for line in redis.lrange("done", 0, -1)]
    return {
        "contacts": max(line[2] for line in done),
        "requests": max(line[3] for line in done),
        "took": max(line[1] for line in done) - min(line[0] for line in done),
    }


def _queue(database: Path, rows: int, batch: int, socket: str) -> int:
    """Put every batch into Redis; return how many tasks that are."""
    app.conf.broker_url = f"redis+socket://{socket}"
    tasks = 0
    for names, values in mapped(database, rows, batch):
        app.send_task("push", ([dict(zip(names, row, strict=True)) for row in values],))
        tasks += 1
    return tasks


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
